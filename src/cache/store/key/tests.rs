use proptest::prelude::*;

use super::*;
use crate::http::target::{Authority, Target};

fn text(method: Method<'_>, uri: &str) -> String {
    let Some(Target::Absolute {
        scheme,
        authority,
        path,
        query,
    }) = Target::absolute(uri)
    else {
        panic!("{uri} is no absolute URI");
    };
    let uri = Uri {
        scheme,
        authority,
        path,
        query,
    };
    let mut out = Vec::new();
    put_text(&mut out, method, &uri);
    String::from_utf8(out).expect("text")
}

fn get(uri: &str) -> String {
    text(Method::Get, uri)
}

#[test]
fn equivalent_spellings_have_one_text() {
    for (uri, expected) in [
        ("http://host.test/a?b", "GET http://host.test/a?b"),
        ("HTTP://Host.TEST:80/a?b", "GET http://host.test/a?b"),
        ("http://host.test", "GET http://host.test/"),
        ("http://host.test:?", "GET http://host.test/?"),
        ("https://host.test:443/", "GET https://host.test/"),
        ("http://host.test:443/", "GET http://host.test:443/"),
        ("https://host.test:80/", "GET https://host.test:80/"),
        ("http://[2001:DB8:0::1]:080/", "GET http://[2001:db8::1]/"),
        ("http://h/%7Euser/%41%2d%5f%2E", "GET http://h/~user/A-_."),
        ("http://h/a%2fb%3a?c%2fd", "GET http://h/a%2Fb%3A?c%2Fd"),
        ("http://h/%2541", "GET http://h/%2541"),
        ("http://h/%c3%a4", "GET http://h/%C3%A4"),
    ] {
        assert_eq!(get(uri), expected, "{uri}");
    }
}

#[test]
fn what_an_origin_may_tell_apart_is_told_apart() {
    let texts = [
        "http://h/",
        "https://h/",
        "http://h./",
        "http://h:81/",
        "http://h/?",
        "http://h//",
        "http://h/a/../",
        "http://h/a/",
        "http://h/A/",
        "http://h/?a&b",
        "http://h/?b&a",
        "http://h/%2F",
        "http://h/+",
        "http://h/%20",
        "http://h/%2B",
        "http://h/%25",
    ]
    .map(get);
    for (at, one) in texts.iter().enumerate() {
        assert!(!texts[at + 1..].contains(one), "{one}");
    }
}

/// Decoded in part, the first two of these would become the third, which is A.
#[test]
fn a_stray_percent_leaves_all_as_it_is() {
    assert_eq!(get("http://h/%%341"), "GET http://h/%%341");
    assert_eq!(get("http://h/%%34%31"), "GET http://h/%%34%31");
    assert_eq!(get("http://h/%41"), "GET http://h/A");
    assert_eq!(get("http://h/%41?%"), "GET http://h/A?%");
    assert_eq!(get("http://h/%4"), "GET http://h/%4");
}

#[test]
fn head_is_answered_by_get_and_nothing_else_is() {
    assert_eq!(text(Method::Head, "http://h/"), get("http://h/"));
    assert_eq!(text(Method::Post, "http://h/"), "POST http://h/");
}

#[test]
fn what_no_uri_has_is_escaped() {
    let uri = Uri {
        scheme: "http",
        authority: Authority::parse_international("bücher.test").expect("an authority"),
        path: "/a b\n",
        query: Some("ä"),
    };
    let mut out = Vec::new();
    put_text(&mut out, Method::Get, &uri);
    let text = String::from_utf8(out).expect("text");
    assert_eq!(text, "GET http://b%C3%BCcher.test/a%20b%0A?%C3%A4");
}

/// HashOf (see below).
/// The number was computed by another implementation, checked with the vectors of SipHash's
/// authors. Were it another in a later version, all folders would be lost.
#[test]
fn keys_stay_what_they_are() {
    let secret: [u8; SECRET_BYTES] = std::array::from_fn(|at| at as u8);
    let hasher = KeyHasher::new(&secret);
    let text = b"GET http://host.test/path?query";
    const KEY: u128 = 0xdda8_3e52_deb6_6036_957f_a2c9_7741_5706;
    assert_eq!(hasher.key(text), Key(KEY));
    assert_eq!(hasher.variant(text), KEY as u64 & !1);
    let variant = hasher.variant(text);
    assert_eq!(
        (of_whole(variant), of_part(variant)),
        (variant, variant + 1)
    );
    assert_eq!(of_whole(of_part(variant)), variant);
    assert_ne!(KeyHasher::new(&[0; SECRET_BYTES]).key(text), Key(KEY));
}

#[test]
fn a_buffer_is_used_again() {
    let authority = Authority::parse("[2001:db8::1]:8080").expect("an authority");
    let uri = Uri {
        scheme: "HTTP",
        authority,
        path: "/%7Euser%2f",
        query: Some("q"),
    };
    let mut out = Vec::with_capacity(64);
    let (memory, room) = (out.as_ptr(), out.capacity());
    for _ in 0..3 {
        out.clear();
        put_text(&mut out, Method::Get, &uri);
        assert_eq!(out, b"GET http://[2001:db8::1]:8080/~user%2F?q");
        assert_eq!((out.as_ptr(), out.capacity()), (memory, room));
    }
}

proptest! {
    #[test]
    fn a_text_is_its_own_text(path in "(/|%[0-9a-fA-F]{2}|%|[a-c?.~ä ]){0,12}") {
        let uri = |path: &str| {
            let authority = Authority::parse("h").expect("an authority");
            let mut out = Vec::new();
            put_text(&mut out, Method::Get, &Uri { scheme: "http", authority, path, query: None });
            String::from_utf8(out).expect("text")
        };
        let once = uri(&path);
        prop_assert!(once.bytes().all(|byte| matches!(byte, b' '..=b'~')));
        let again = once.strip_prefix("GET http://h").expect("the beginning");
        prop_assert_eq!(&uri(again), &once);
    }

    #[test]
    fn escapes_of_unreserved_characters_change_nothing(
        path in prop::collection::vec((0_u8.., any::<bool>(), any::<bool>()), 0..20),
    ) {
        let (mut plain, mut escaped) = (String::from("/"), String::from("/"));
        for (byte, escape, upper) in path {
            let lower = format!("%{byte:02x}");
            let escape_text = if upper { lower.to_uppercase() } else { lower };
            let is_plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            plain.push_str(&if is_plain { char::from(byte).to_string() } else { escape_text.clone() });
            escaped.push_str(&if is_plain && !escape { char::from(byte).to_string() } else { escape_text });
        }
        prop_assert_eq!(get(&format!("http://h{plain}")), get(&format!("http://h{escaped}")));
    }
}
