//! One request to a proxy, and its response.

use crate::client::connect::Target;
use crate::client::get::exchange::{Head, read_body, send};
use crate::client::stream::Stream;
use crate::client::{CommonArgs, Failure};
use crate::http::Method;
use crate::http::head;

/// Sends a request for an absolute URL with these headers, and reads all of the response: its head,
/// and the bytes of its body, which are given to `take`.
///
/// # Errors
/// There is no whole response.
pub(super) fn ask(
    (method, url): (Method<'_>, &str),
    headers: &[(&str, &str)],
    (proxy, common): (&str, &CommonArgs),
    take: &mut dyn FnMut(&[u8]),
) -> Result<Head, Failure> {
    let target = Target::parse(proxy)?;
    let mut stream = Stream::connect(&target, common.family(), common.timeouts())?;
    let behind_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = behind_scheme.split(['/', '?']).next().unwrap_or_default();
    let mut bytes = Vec::new();
    head::put_request_line(&mut bytes, method, url);
    head::put_header(&mut bytes, "Host", host);
    head::put_header(&mut bytes, "Connection", "close");
    for (name, value) in headers {
        head::put_header(&mut bytes, name, value);
    }
    head::put_head_end(&mut bytes);
    let (head, received) = send(&mut stream, &bytes, method)?;
    read_body(&mut stream, received, head.body, false, &mut |piece| {
        take(piece);
        Ok(())
    })?;
    Ok(head)
}
