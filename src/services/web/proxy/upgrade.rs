//! Switching protocols on a connection, such as to a WebSocket.
//!
//! RFC 9110 sections 7.8 (Upgrade) and 15.2.2 (101), RFC 6455 section 4.
//!
//! `Upgrade` is a matter of one connection, so it ends here and is made anew for the next: in a
//! request that asks for it, in the response that grants it, and in one that says that nothing else
//! will do (426). What follows a 101 is a tunnel, of which nothing is read.
//!
//! Not passed on are protocols in which further requests would follow: they would be seen by
//! nobody, and reach what a request of their own may not.

use super::route::Form;
use crate::http::Version;
use crate::http::head::{BodyLength, Headers, RequestHead};

/// Whether the request asks for another protocol, of which its origin is to be told.
pub(super) fn is_asked(head: &RequestHead<'_>, form: Form) -> bool {
    // A body would have to pass before the protocol changes. HTTP/1.0 knows no `Upgrade`.
    let may_ask = head.version == Version::Http11 && head.body == BodyLength::None;
    may_ask && form != Form::Tunnel && is_named(&head.headers)
}

/// Whether a head speaks of another protocol that is passed on.
pub(super) fn is_named(headers: &Headers<'_>) -> bool {
    let mut options = headers.list("connection");
    options.any(|option| option.eq_ignore_ascii_case(b"upgrade"))
        && headers.list("upgrade").any(is_passed_on)
}

/// Writes the lines that speak of it, for the next connection.
pub(super) fn put(out: &mut Vec<u8>, headers: &Headers<'_>) {
    out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: ");
    let protocols = headers.list("upgrade").filter(|name| is_passed_on(name));
    for (place, protocol) in protocols.enumerate() {
        if place > 0 {
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(protocol);
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether a protocol (`NAME` or `NAME/VERSION`) may follow.
fn is_passed_on(protocol: &[u8]) -> bool {
    let name = protocol.split(|&byte| byte == b'/').next();
    let name = name.unwrap_or_default();
    let carries_requests = ["http", "h2", "h2c", "h3", "tls"];
    let mut those = carries_requests.iter();
    !name.is_empty() && !those.any(|other| name.eq_ignore_ascii_case(other.as_bytes()))
}
