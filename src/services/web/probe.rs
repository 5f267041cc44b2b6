//! The routes that load and conformance tools expect, where `routes = "probe"`: `/`, `/echo` and
//! `/cookie`.

use super::Next;
use super::reply::{self, Refusal, Reply};
use crate::http::head::{BodyLength, RequestHead};
use crate::http::{Method, Status, trim_ows};

/// Answers a request for one of the routes; `None` for any other. `path`: below the prefix of the
/// site.
pub(super) fn respond(
    path: &str,
    head: &RequestHead<'_>,
    reply: &mut Reply<'_, '_>,
) -> Option<Result<Next, Box<Refusal>>> {
    // `*` has none, and a prefix without a slash behind it is the first page.
    let path = match (path, head.target.path()?) {
        ("", _) => "/",
        (path, _) => path,
    };
    let allow = match path {
        "/" | "/echo" => "GET, HEAD, POST, OPTIONS",
        "/cookie" => reply::ALLOW,
        _ => return None,
    };
    match (path, head.method) {
        ("/", Method::Get | Method::Head) => reply.plain(Status::OK, b"OK"),
        ("/", Method::Post) if head.body == BodyLength::None => reply.plain(Status::OK, b""),
        ("/", Method::Post) => {
            if head.expect_continue {
                reply.put(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            let body_bytes = match head.body {
                BodyLength::Length(length) => length,
                _ => 0,
            };
            reply.answered(Status::OK, body_bytes);
            return Some(Ok(Next::Echo));
        }
        ("/echo", Method::Get | Method::Head | Method::Post) => put_request(head, reply),
        ("/cookie", Method::Get | Method::Head) => put_cookies(head, reply),
        (_, Method::Options) => reply.options(allow, b""),
        (_, Method::Other(_)) => return Some(Err(super::sites::UNKNOWN_METHOD.into())),
        _ => return Some(Err(Refusal::method(allow).into())),
    }
    Some(Ok(Next::Done))
}

/// The request's head as it was read, a line each.
fn put_request(head: &RequestHead<'_>, reply: &mut Reply<'_, '_>) {
    let (method, target, version) = (head.method, head.target_text, head.version.as_str());
    let mut text = format!("{method} {target} {version}\r\n").into_bytes();
    for (name, value) in head.headers.iter() {
        text.extend_from_slice(name.as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value);
        text.extend_from_slice(b"\r\n");
    }
    reply.plain(Status::OK, &text);
}

fn put_cookies(head: &RequestHead<'_>, reply: &mut Reply<'_, '_>) {
    let mut text = Vec::new();
    let cookies = head.headers.all("cookie");
    for pair in cookies.flat_map(|value| value.split(|&byte| byte == b';')) {
        put_cookie(&mut text, pair);
    }
    reply.plain(Status::OK, &text);
}

/// A cookie as a line `name=value` (RFC 6265 section 4.2.1); what has no name is left out.
fn put_cookie(text: &mut Vec<u8>, pair: &[u8]) {
    let Some(equals) = pair.iter().position(|&byte| byte == b'=') else {
        return;
    };
    let (name, value) = (trim_ows(&pair[..equals]), trim_ows(&pair[equals + 1..]));
    if !name.is_empty() {
        text.extend_from_slice(name);
        text.push(b'=');
        text.extend_from_slice(value);
        text.push(b'\n');
    }
}
