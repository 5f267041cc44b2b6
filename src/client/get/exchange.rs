//! One exchange over HTTP/1.1 (RFC 9112): the request that is written, the head that is read, the body up to the end of its
//! framing.

use std::time::Instant;

use super::GetArgs;
use crate::client::Failure;
use crate::client::stream::Stream;
use crate::http::Method;
use crate::http::body::BodyDecoder;
use crate::http::head::{self, BodyLength, HeadScanner, Parsed};
use crate::wire::text::printable;

/// Bounds on a response head: generous, since a person chose the server.
const HEAD_LIMITS: head::Limits = head::Limits {
    head_bytes_max: 256 * 1024,
    target_bytes_max: 64 * 1024,
    headers_max: 256,
};

/// Headers that were given for the server that was asked first, and are not for those that it redirects to.
const FOR_THE_FIRST: [&str; 4] = ["Authorization", "Cookie", "Host", "Proxy-Authorization"];

/// A request without its empty line. `elsewhere`: a redirect led to another server than was asked first.
pub(super) fn request(args: &GetArgs, target: &str, host: &str, elsewhere: bool) -> Vec<u8> {
    let given: Vec<(&str, &str)> = args
        .headers
        .iter()
        .map(|line| (line.split_once(':').map_or("", |(name, _)| name), &line[..]))
        .filter(|(name, _)| {
            !elsewhere || !FOR_THE_FIRST.iter().any(|of| of.eq_ignore_ascii_case(name))
        })
        .collect();
    let mut bytes = Vec::with_capacity(256);
    let method = if args.head { Method::Head } else { Method::Get };
    head::put_request_line(&mut bytes, method, target);
    let agent = concat!("netlab-reactor/", env!("CARGO_PKG_VERSION"));
    for (name, value) in [
        ("Host", host),
        ("User-Agent", agent),
        ("Accept", "*/*"),
        ("Connection", "close"),
    ] {
        // Two lines of Host would make the request ambiguous (RFC 9112, section 3.2).
        if !given
            .iter()
            .any(|(given, _)| given.eq_ignore_ascii_case(name))
        {
            head::put_header(&mut bytes, name, value);
        }
    }
    for (_, line) in given {
        bytes.extend_from_slice(line.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// What the client has to know of a head.
#[derive(Debug, Clone)]
pub(super) struct Head {
    /// The head as it came, its empty line included.
    pub(super) text: Vec<u8>,
    pub(super) status: u16,
    pub(super) reason: String,
    pub(super) body: BodyLength,
    pub(super) location: Option<String>,
    pub(super) content_encoding: String,
    content_range: Option<String>,
}

/// Reads heads until one that is not interim; what follows it stays in `received`.
pub(super) fn read_head(
    stream: &mut Stream,
    received: &mut Vec<u8>,
    method: Method<'_>,
) -> Result<(Head, Instant), Failure> {
    let mut first_byte = None;
    let mut scanner = HeadScanner::default();
    loop {
        let parsed = scanner.response(received, &HEAD_LIMITS, method);
        let parsed = parsed.map_err(|error| {
            let beginning = printable(&received[..received.len().min(40)]);
            stream.broken(&format!(
                "the server does not speak HTTP ({}; it sent {beginning:?})",
                error.text()
            ))
        })?;
        if let Parsed::Complete(head, bytes) = parsed {
            let text = |name: &str| {
                head.headers
                    .first(name)
                    .map(|value| String::from_utf8_lossy(value).into_owned())
            };
            let summary = Head {
                text: received[..bytes].to_vec(),
                status: head.status.code(),
                reason: printable(head.reason),
                body: head.body,
                location: text("location"),
                content_encoding: text("content-encoding")
                    .unwrap_or_default()
                    .to_ascii_lowercase(),
                content_range: text("content-range"),
            };
            let is_interim = head.status.is_interim();
            received.drain(..bytes);
            if !is_interim {
                return Ok((summary, first_byte.unwrap_or_else(Instant::now)));
            }
            scanner = HeadScanner::default();
            continue;
        }
        let mut piece = [0; 16 * 1024];
        match stream.read(&mut piece)? {
            0 => return Err(stream.closed()),
            bytes => received.extend_from_slice(&piece[..bytes]),
        }
        first_byte.get_or_insert_with(Instant::now);
    }
}

/// Reads a body to the end of its framing and hands on its pieces: framing as well when `verbatim`.
pub(super) fn read_body(
    stream: &mut Stream,
    received: Vec<u8>,
    length: BodyLength,
    verbatim: bool,
    take: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut decoder = BodyDecoder::new(length);
    let mut buffer = received;
    let mut came = 0_u64;
    stream.begin("receiving the body");
    loop {
        let mut rest = buffer.as_slice();
        while !rest.is_empty() && !decoder.is_done() {
            let step = decoder
                .step(rest)
                .map_err(|error| stream.broken(error.text()))?;
            let from = if verbatim { 0 } else { step.framing };
            take(&rest[from..step.consumed()])?;
            came += step.payload as u64;
            rest = &rest[step.consumed()..];
        }
        if decoder.is_done() {
            return Ok(());
        }
        buffer.resize(64 * 1024, 0);
        stream.touch();
        let bytes = stream.read(&mut buffer)?;
        buffer.truncate(bytes);
        if bytes == 0 {
            // RFC 9112, section 9.8: where the end of the connection is the end of the body, TLS must tell of it.
            if stream.is_cut() && matches!(decoder, BodyDecoder::UntilEof) {
                return Err(stream.broken(&format!(
                    "the end of the body was not announced by TLS after {came} bytes, so some may be missing"
                )));
            }
            let missing = match decoder {
                BodyDecoder::Length { left } => format!(", {left} bytes are missing"),
                _ => format!(" after {came} bytes of a chunked body"),
            };
            return decoder.end_of_stream().map_err(|_| {
                stream.broken(&format!(
                    "the server closed the connection too early{missing}"
                ))
            });
        }
    }
}

/// Whether a partial response begins where the file ends.
pub(super) fn begins_at(head: &Head, offset: u64) -> bool {
    head.content_range
        .as_deref()
        .is_some_and(|range| range.trim().starts_with(&format!("bytes {offset}-")))
}

/// Whether the file has all the bytes there are, by the `bytes */LENGTH` of a 416 (RFC 9110, section 15.5.17).
pub(super) fn is_complete(head: &Head, offset: u64) -> bool {
    head.content_range
        .as_deref()
        .is_some_and(|range| range.trim() == format!("bytes */{offset}"))
}
