//! What is kept of one response, ready to be sent.

use std::borrow::Cow;
use std::rc::Rc;

use super::index::Key;
use super::object::{self, Header};
use crate::disk::File;
use crate::http::caching::partial::Part;
use crate::http::caching::{Terms, Times};
use crate::http::head::{HeadScanner, Limits, Parsed, ResponseHead};
use crate::http::{Method, Status};

/// A response that is kept. It never changes: one that was found to be still good
/// ([`super::Store::refreshed`]) takes its place with another head and the same body.
#[derive(Debug)]
pub struct Kept {
    /// The hash of what it answers.
    pub key: Key,
    /// What it answers, in full: two texts may have one hash.
    pub text: Box<[u8]>,
    /// The request fields that it was selected by (RFC 9111 section 4.1), as
    /// [`crate::http::caching`] writes them; empty if there are none.
    pub selecting: Box<[u8]>,
    /// Its status.
    pub status: Status,
    /// Status line and fields, with the empty line behind them.
    pub head: Rc<[u8]>,
    /// The lines of it that are sent as they are.
    pub shown: Shown,
    /// How long it may be used, and for what.
    pub terms: Terms,
    /// When it was asked for and came, or was last found to be good.
    pub times: Times,
    /// Its body.
    pub body: Body,
    /// The length of that.
    pub body_bytes: u64,
    /// Its CRC-32.
    pub(super) crc32: u32,
    /// Which bytes of the representation the body is, if not all of them (RFC 9111 section 3.3).
    pub part: Option<Part>,
}

/// Where a body is.
#[derive(Clone, Debug)]
pub enum Body {
    /// In memory.
    Bytes(Rc<[u8]>),
    /// In a file, from this offset on.
    File(File, u64),
}

/// Bytes of a body.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) body: Body,
    pub(super) at: u64,
    pub(super) count: u64,
}

impl Source {
    /// Those that are in memory; none of a file's.
    pub(super) fn bytes(&self) -> &[u8] {
        match &self.body {
            Body::Bytes(bytes) => &bytes[self.at as usize..(self.at + self.count) as usize],
            Body::File(..) => &[],
        }
    }
}

/// Heads that were stored were within the limits of their day.
const STORED_LIMITS: Limits = Limits {
    head_bytes_max: object::HEADER_BYTES_MAX,
    ..Limits::DEFAULT
};

/// The head of a response that was stored; `None` if it is none, as only a torn file's can be.
#[must_use]
pub fn parse_head(head: &[u8]) -> Option<ResponseHead<'_>> {
    let parsed = HeadScanner::default().response(head, &STORED_LIMITS, Method::Get);
    match parsed {
        Ok(Parsed::Complete(head, _)) => Some(head),
        _ => None,
    }
}

/// The part that a response is, by the head that was stored of it.
pub(super) fn part_of(status: Status, head: &[u8]) -> Option<Part> {
    if status != Status::PARTIAL_CONTENT {
        return None;
    }
    Part::of_stored(&parse_head(head)?)
}

/// Which lines of a head are sent as they are.
#[derive(Debug)]
pub struct Shown {
    /// Those beside `Age`, where there is one; else all of them are.
    without_age: Option<Box<[u8]>>,
    /// `Content-Length` is among them.
    pub has_length: bool,
}

impl Shown {
    /// Of a head that was stored.
    pub fn of(head: &[u8]) -> Self {
        let is = |line: &[u8], name: &[u8]| {
            let named = line.get(..name.len());
            named.is_some_and(|named| named.eq_ignore_ascii_case(name))
        };
        let lines = || {
            head.split_inclusive(|&byte| byte == b'\n')
                .filter(|line| line != b"\r\n")
        };
        let has_age = lines().any(|line| is(line, b"age:"));
        let without_age = has_age.then(|| {
            let shown = lines().filter(|line| !is(line, b"age:"));
            shown.flatten().copied().collect()
        });
        Self {
            without_age,
            has_length: lines().any(|line| is(line, b"content-length:")),
        }
    }
}

/// What an object takes beside its bytes.
const KEPT_BYTES: usize = 256;

impl Kept {
    /// Bytes of memory that it takes.
    pub fn memory_bytes(&self) -> usize {
        let body = match &self.body {
            Body::Bytes(bytes) => bytes.len(),
            Body::File(..) => 0,
        };
        KEPT_BYTES + self.text.len() + self.selecting.len() + self.head.len() + body
    }

    /// Whether its file is open.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.body, Body::File(..))
    }

    /// What stands before its body on disk.
    pub(super) fn header(&self, boot: u128) -> Header<'_> {
        let (bytes, crc32) = (self.body_bytes, self.crc32);
        let body = object::Body::Whole { bytes, crc32 };
        header(
            (&self.text, &self.selecting, &self.head),
            self.times,
            boot,
            body,
        )
    }

    /// The status line and the fields that are sent as they are.
    #[inline]
    pub fn lines(&self) -> &[u8] {
        match &self.shown.without_age {
            None => &self.head[..self.head.len() - b"\r\n".len()],
            Some(lines) => lines,
        }
    }
}

/// What stands before a body on disk, by key, selecting fields and head.
pub(super) fn header<'b>(
    (text, selecting, head): (&'b [u8], &'b [u8], &'b [u8]),
    times: Times,
    boot: u128,
    body: object::Body,
) -> Header<'b> {
    Header {
        key: Cow::Borrowed(text),
        selecting: Cow::Borrowed(selecting),
        requested_ms: milliseconds(times.request_s),
        responded_ms: milliseconds(times.response_s),
        boot,
        body,
        head,
    }
}

fn milliseconds(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or(0).saturating_mul(1000)
}
