//! One exchange over HTTP/1.1 (RFC 9112): the request that is written, the head that is read, the
//! body up to the end of its framing.

use std::time::Instant;

use super::GetArgs;
use crate::client::Failure;
use crate::client::stream::Stream;
use crate::http::Method;
use crate::http::body::BodyDecoder;
use crate::http::head::{self, BodyLength, HeadError, HeadScanner, Parsed, ResponseHead};
use crate::wire::text::printable;

/// Bounds on a response head: generous, since a person chose the server.
const HEAD_LIMITS: head::Limits = head::Limits {
    head_bytes_max: 256 * 1024,
    target_bytes_max: 64 * 1024,
    headers_max: 256,
};

/// Headers that were given for the server that was asked first, and are not for those that it
/// redirects to.
const FOR_THE_FIRST: [&str; 4] = ["Authorization", "Cookie", "Host", "Proxy-Authorization"];

/// A request with these headers beside the usual ones; what was given with `-H` stands in place of
/// any of them. `elsewhere`: a redirect led to another server than was asked first.
pub(super) fn request(
    args: &GetArgs,
    target: &str,
    headers: &[(&str, String)],
    elsewhere: bool,
) -> Vec<u8> {
    let given: Vec<(&str, &str)> = args
        .headers
        .iter()
        .map(|line| (line.split_once(':').map_or("", |(name, _)| name), &line[..]))
        .filter(|(name, _)| {
            !elsewhere || !FOR_THE_FIRST.iter().any(|of| of.eq_ignore_ascii_case(name))
        })
        .collect();
    let mut bytes = Vec::with_capacity(256);
    head::put_request_line(&mut bytes, args.method(), target);
    let agent = concat!("netlab-reactor/", env!("CARGO_PKG_VERSION"));
    let usual = [
        ("User-Agent", agent),
        ("Accept", "*/*"),
        ("Connection", "close"),
    ];
    let headers = headers.iter().map(|(name, value)| (*name, &value[..]));
    for (name, value) in headers.chain(usual) {
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
    head::put_head_end(&mut bytes);
    bytes
}

/// What the client has to know of a head.
#[derive(Debug, Clone)]
pub(in crate::client) struct Head {
    /// The head as it came, its empty line included.
    pub(in crate::client) text: Vec<u8>,
    pub(in crate::client) status: u16,
    is_interim: bool,
    pub(in crate::client) reason: String,
    pub(in crate::client) body: BodyLength,
    /// As it came: some servers write it in Latin-1.
    pub(super) location: Option<Vec<u8>>,
    /// The content codings in the order in which they were applied, in lower case, without those
    /// that change nothing.
    pub(super) codings: Vec<String>,
    content_range: Option<String>,
}

impl Head {
    /// What there is to know of `head`, whose bytes came as `text`.
    fn new(head: &ResponseHead<'_>, text: &[u8]) -> Self {
        let content_range = head.headers.first("content-range");
        let codings = head.headers.list("content-encoding");
        Self {
            text: text.to_vec(),
            status: head.status.code(),
            is_interim: head.status.is_interim(),
            reason: printable(head.reason),
            body: head.body,
            location: head.headers.first("location").map(<[u8]>::to_vec),
            codings: codings
                .map(|coding| printable(coding).to_ascii_lowercase())
                .filter(|coding| coding != "identity")
                .collect(),
            content_range: content_range.map(|value| String::from_utf8_lossy(value).into_owned()),
        }
    }

    /// Reads a head, with folded lines and blanks before colons mended (RFC 9112, sections 5.1 and
    /// 5.2): no other reader comes after this one, to whom the head could seem to say something
    /// else.
    fn parse(
        scanner: &mut HeadScanner,
        bytes: &mut [u8],
        method: Method<'_>,
    ) -> Result<Parsed<Self>, HeadError> {
        let summary = |parsed: Parsed<ResponseHead<'_>>, text: &[u8]| match parsed {
            Parsed::Complete(head, end) => Parsed::Complete(Self::new(&head, &text[..end]), end),
            Parsed::Partial => Parsed::Partial,
        };
        match scanner.response(bytes, &HEAD_LIMITS, method) {
            Err(HeadError::FoldedLine | HeadError::BlankBeforeColon) => {}
            parsed => return Ok(summary(parsed?, bytes)),
        }
        let as_it_came = bytes.to_vec();
        head::mend_response(bytes);
        *scanner = HeadScanner::default();
        let parsed = scanner.response(bytes, &HEAD_LIMITS, method)?;
        Ok(summary(parsed, &as_it_came))
    }

    /// What a 206 or a 416 says to somebody who has `offset` bytes.
    pub(super) fn extent(&self, offset: u64) -> Extent {
        let range = self.content_range.as_deref().unwrap_or_default();
        let range = range.trim().to_ascii_lowercase();
        let range = range.strip_prefix("bytes").unwrap_or(&range).trim_start();
        let is = |extent: Extent, matches: bool| if matches { extent } else { Extent::Other };
        match self.status {
            206 => is(Extent::Rest, range.starts_with(&format!("{offset}-"))),
            416 => is(
                Extent::Nothing,
                range.is_empty() || range == format!("*/{offset}"),
            ),
            _ => Extent::Other,
        }
    }
}

/// What an answer to a request for the rest of a file holds (RFC 9110, section 14.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// The bytes from the offset on.
    Rest,
    /// There are none behind the offset, or so the server says without naming its length.
    Nothing,
    /// Something else: the versions differ.
    Other,
}

/// Sends a request; the head of its answer, and what followed that.
pub(in crate::client) fn send(
    stream: &mut Stream,
    bytes: &[u8],
    method: Method<'_>,
) -> Result<(Head, Vec<u8>), Failure> {
    stream.begin("sending the request");
    stream.write_all(bytes)?;
    stream.begin("waiting for the response");
    let mut received = Vec::new();
    let (head, _) = read_head(stream, &mut received, method)?;
    Ok((head, received))
}

/// Reads heads until one that is not interim; what follows it stays in `received`.
pub(in crate::client) fn read_head(
    stream: &mut Stream,
    received: &mut Vec<u8>,
    method: Method<'_>,
) -> Result<(Head, Instant), Failure> {
    let mut first_byte = None;
    let mut scanner = HeadScanner::default();
    loop {
        let parsed = Head::parse(&mut scanner, received, method).map_err(|error| {
            let beginning = printable(&received[..received.len().min(40)]);
            stream.broken(&format!(
                "the server does not speak HTTP ({}; it sent {beginning:?})",
                error.text()
            ))
        })?;
        if let Parsed::Complete(head, bytes) = parsed {
            received.drain(..bytes);
            if !head.is_interim {
                return Ok((head, first_byte.unwrap_or_else(Instant::now)));
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
pub(in crate::client) fn read_body(
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
            // RFC 9112, section 9.8: where the end of the connection is the end of the body, TLS
            // must tell of it.
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
