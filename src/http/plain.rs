//! What a client is told that sends a request in plain text to a listener that speaks TLS.
//!
//! A TLS connection begins with a byte that no request begins with (22, RFC 8446 section 5.1), so a
//! few bytes tell a request from that and, as far as can be, from other protocols: a method in
//! upper case, a blank, the beginning of a target. RFC 9112 section 3.
//!
//! Not here: a redirect. The request has crossed the network in clear; a client that is led on
//! without a word does it again.

use std::task::Poll;
use std::time::SystemTime;

use super::date::{Date, unix_s};
use super::head::{
    HeadScanner, Limits, Parsed, RequestHead, put_head_end, put_header, put_header_number,
    put_status_line,
};
use super::target::{Authority, Target};
use super::{Method, Status};

/// A head that is not whole after so many bytes is not waited for: it only adds a link to the
/// answer.
const HEAD_BYTES_MAX: usize = 4096;

/// The longest method that is taken for one. The longest that IANA knows has 17 letters.
const METHOD_BYTES_MAX: usize = 24;

/// The answer to what was `received` so far, where TLS was expected; `None` if it is no request.
/// `Pending` while more bytes may tell more, unless what was received `is_all`.
pub fn answer(received: &[u8], is_all: bool, now: SystemTime) -> Poll<Option<Vec<u8>>> {
    match is_request(received) {
        Some(true) => {}
        None if !is_all => return Poll::Pending,
        _ => return Poll::Ready(None),
    }
    let (link, is_head) = match HeadScanner::default().request(received, &Limits::default()) {
        Ok(Parsed::Partial) if !is_all && received.len() < HEAD_BYTES_MAX => return Poll::Pending,
        Ok(Parsed::Complete(head, _)) => (link(&head), head.method == Method::Head),
        _ => (None, received.starts_with(b"HEAD ")),
    };
    let mut body = String::from("The plain HTTP request was sent to HTTPS port\n");
    if let Some(link) = link {
        body.push_str(&link);
    }
    let mut out = Vec::new();
    put_status_line(&mut out, Status::BAD_REQUEST);
    put_header(&mut out, "Date", Date::new(unix_s(now)).as_bytes());
    put_header(&mut out, "Content-Type", "text/plain; charset=utf-8");
    put_header(&mut out, "X-Content-Type-Options", "nosniff");
    put_header_number(&mut out, "Content-Length", body.len() as u64);
    put_header(&mut out, "Connection", "close");
    put_head_end(&mut out);
    if !is_head {
        out.extend_from_slice(body.as_bytes());
    }
    Poll::Ready(Some(out))
}

/// Whether the bytes begin a request; `None` while that cannot be told.
fn is_request(bytes: &[u8]) -> Option<bool> {
    let blank = bytes.iter().position(|byte| *byte == b' ');
    let method = &bytes[..blank.unwrap_or(bytes.len())];
    let is_method = method.len() <= METHOD_BYTES_MAX
        && method
            .iter()
            .all(|byte| byte.is_ascii_uppercase() || *byte == b'-');
    if !is_method || blank == Some(0) {
        return Some(false);
    }
    let target = &bytes[blank? + 1..];
    if method == b"CONNECT" {
        return Some(*target.first()? == b'[' || target[0].is_ascii_alphanumeric());
    }
    if matches!(target.first()?, b'/' | b'*') {
        return Some(true);
    }
    let scheme = &b"http:"[..target.len().min(5)];
    match target[..scheme.len()].eq_ignore_ascii_case(scheme) {
        true if scheme.len() < 5 => None,
        is_http => Some(is_http),
    }
}

/// Where the same is to be had. `Host` and the target have passed the rules of [`super::target`],
/// so that they hold nothing that a page or a terminal would take for more than text. A request to
/// a proxy is for somebody else.
fn link(head: &RequestHead<'_>) -> Option<String> {
    let Target::Origin { .. } = head.target else {
        return None;
    };
    let Authority { host, port } = head.host()?;
    let port = port.unwrap_or(80); // this very port, as the client reached it
    Some(format!("Use https://{host}:{port}{}\n", head.target_text))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn told(received: &[u8], is_all: bool) -> Poll<Option<String>> {
        answer(received, is_all, UNIX_EPOCH)
            .map(|answer| answer.map(|bytes| String::from_utf8(bytes).expect("text")))
    }

    #[test]
    fn the_answer_says_what_happened_and_where_to_go() {
        let request = b"GET /a?b=c HTTP/1.1\r\nHost: Example.org:8443\r\n\r\n";
        let Poll::Ready(Some(answer)) = told(request, false) else {
            panic!("an answer");
        };
        assert_eq!(
            answer,
            "HTTP/1.1 400 Bad Request\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
             Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n\
             Content-Length: 81\r\nConnection: close\r\n\r\n\
             The plain HTTP request was sent to HTTPS port\nUse https://Example.org:8443/a?b=c\n"
        );
        let head = [b"HEAD", &request[3..]].concat();
        let Poll::Ready(Some(answer)) = told(&head, false) else {
            panic!("an answer");
        };
        assert!(answer.ends_with("\r\nContent-Length: 81\r\nConnection: close\r\n\r\n"));
    }

    #[test]
    fn a_link_is_given_where_host_and_target_are_safe_to_show() {
        let link = |request: &str| match told(request.as_bytes(), true) {
            Poll::Ready(Some(answer)) => answer.split_once("port\n").expect("a text").1.to_owned(),
            other => panic!("{request:?}: {other:?}"),
        };
        let get = |host: &str| link(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(get("a.example"), "Use https://a.example:80/\n");
        assert_eq!(get("[::1]:7"), "Use https://[::1]:7/\n");
        for host in ["a<b>", "a b", "u@h", "a\x1b[2J", "h:0", "h:1:2", "h/x", ""] {
            assert_eq!(get(host), "", "{host:?}");
        }
        for request in [
            "GET /<script> HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET http://other.example/ HTTP/1.1\r\nHost: other.example\r\n\r\n",
            "CONNECT other.example:443 HTTP/1.1\r\nHost: other.example:443\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h",
            "GET /\r\n",
            "GET /",
        ] {
            assert_eq!(link(request), "", "{request:?}");
        }
    }

    #[test]
    fn the_answer_does_not_hang_on_how_the_bytes_come() {
        let long = format!(
            "GET /{} HTTP/1.1\r\nHost: h\r\n\r\n",
            "x".repeat(3 * HEAD_BYTES_MAX)
        );
        for whole in [
            "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
            "PROPFIND /a HTTP/1.1\r\nHost: h\r\nX: y\r\n\r\n",
            "CONNECT [::1]:443 HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET http://h/ HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET / HTTP/1.1\nHost: h\n\n",
            &long,
        ] {
            let first = (0..=whole.len())
                .map(|len| told(&whole.as_bytes()[..len], false))
                .find(Poll::is_ready);
            assert!(matches!(first, Some(Poll::Ready(Some(_)))), "{whole:?}");
        }
        // A head is waited for as long as it may still tell for whom it is.
        assert!(told(b"GET / HTTP/1.1\r\nHost: h\r\n", false).is_pending());
        assert!(told(b"", false).is_pending() && told(b"GET ", false).is_pending());
    }

    #[test]
    fn other_protocols_are_not_answered() {
        for other in [
            &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
            b"SSH-2.0-OpenSSH_9.6p1 Ubuntu-3\r\n",
            b"EHLO example.org\r\n",
            b"USER ann\r\n",
            b"get / http/1.0\r\n\r\n",
            b" GET / HTTP/1.1\r\n",
            b"\r\nGET / HTTP/1.1\r\n",
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZ",
            b"GET httpx",
            b"{\"operate\": \"login\"}",
            &[0x80, 0x2e, 1, 0, 2],
            &[0xff; 100],
        ] {
            let mut ends = (0..=other.len()).map(|len| told(&other[..len], false));
            let first = ends.find(Poll::is_ready);
            assert_eq!(first, Some(Poll::Ready(None)), "{other:?}");
        }
        for part in [&b""[..], b"GE", b"GET", b"GET ", b"GET htt"] {
            assert_eq!(told(part, true), Poll::Ready(None), "{part:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, is_all: bool) {
            let _ = told(&bytes, is_all);
            let _ = told(&[b"GET /", &bytes[..]].concat(), is_all);
        }
    }
}
