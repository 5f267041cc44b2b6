//! `Content-Disposition`: the name under which a client is to store what it gets.
//!
//! RFC 6266 sections 4 and appendix D, RFC 8187 section 3.2.1.
//!
//! Rules:
//! 1. `filename` is there for all: ASCII, and nothing in it that clients have read in two ways (quotes, backslashes, `%`).
//! 2. `filename*` is there besides where the name has more than that.
//! 3. Whatever the bytes of the name, the value is one header line and names no folder.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::head::put_header;

/// All but `attr-char` (RFC 8187 section 3.2.1).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// Appends the header for something to be stored as `name`.
pub fn put_attachment(out: &mut Vec<u8>, name: &[u8]) {
    let name = String::from_utf8_lossy(name);
    let kept = |c: char| match c {
        '/' => '_',
        c if c.is_control() => '_',
        c => c,
    };
    let name: String = name.chars().map(kept).collect();
    let plain = |c: char| match c {
        '"' | '\\' | '%' => '_',
        ' '..='~' => c,
        _ => '_',
    };
    let ascii: String = name.chars().map(plain).collect();
    let mut value = format!("attachment; filename=\"{ascii}\"");
    if ascii != name {
        value += &format!("; filename*=UTF-8''{}", utf8_percent_encode(&name, ENCODED));
    }
    put_header(out, "Content-Disposition", value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(name: &[u8]) -> String {
        let mut out = Vec::new();
        put_attachment(&mut out, name);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn names_are_told_to_old_and_new_clients() {
        for (name, value) in [
            (&b"photos.tar"[..], "\"photos.tar\""),
            (b"a b;c=d.zip", "\"a b;c=d.zip\""),
            (
                "f\u{fc}r \u{20ac}.tar".as_bytes(),
                "\"f_r _.tar\"; filename*=UTF-8''f%C3%BCr%20%E2%82%AC.tar",
            ),
            (
                b"say \"hi\" 100%\\.zip",
                "\"say _hi_ 100__.zip\"; filename*=UTF-8''say%20%22hi%22%20100%25%5C.zip",
            ),
            (b"a/../b", "\"a_.._b\""),
            (b"a\r\nSet-Cookie: x", "\"a__Set-Cookie: x\""),
            (b"\xff.zip", "\"_.zip\"; filename*=UTF-8''%EF%BF%BD.zip"),
        ] {
            let expected = format!("Content-Disposition: attachment; filename={value}\r\n");
            assert_eq!(header(name), expected);
        }
    }

    proptest! {
        #[test]
        fn any_name_is_one_line(name in prop::collection::vec(any::<u8>(), 0..40)) {
            let line = header(&name);
            let line = line.strip_suffix("\r\n").expect("a line end");
            prop_assert!(line.bytes().all(|byte| matches!(byte, b' '..=b'~')));
            prop_assert!(!line.contains('/'));
            prop_assert_eq!(line.matches('"').count(), 2);
        }
    }
}
