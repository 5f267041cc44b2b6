//! The file of one object: a header that people can read, then the body as it came.
//!
//! ```text
//! netlab-reactor object 1, header 00000768 bytes, crc32 5d1c0a3e
//! key: GET http://host.test/path?query
//! selecting: accept-encoding: gzip\n
//! requested_ms: 1790000000000
//! responded_ms: 1790000000120
//! boot: 2f1d4c0a8b0e4b6f9a7c3d5e6f708192
//! body:                12345 bytes, crc32 89abcdef
//! head_bytes: 118
//!
//! HTTP/1.1 200 OK
//! Content-Type: text/plain
//! …
//!
//! (blanks and a line feed, to the length that the first line says)
//! ```
//!
//! The rules:
//! 1. The header's length is settled when the file is begun. What is known only at its end, the
//!    body's length and checksum, is written over it then, and so is a head that a 304 changed:
//!    [`ROOM_BYTES`] are left for that. A body that is `unknown` marks a file that was not finished.
//! 2. The first line's checksum is over all other bytes of the header, so one that was torn by a
//!    crash is [`Decoded::Bad`] and never another header.
//! 3. A file has its name from a rename, after its last byte was written. That is proof enough
//!    while the kernel lives that wrote it. After another boot the body may not be what was
//!    written, unless it was synced: its checksum is compared before it is used.
//! 4. A [`Name`] says all that the index has to know; nobody opens a file to list it. What has
//!    another name is not ours and is left alone.
//!
//! Not here: reading and writing; who is allowed to see the object.

use std::borrow::Cow;
use std::fmt;
use std::io::Write as _;

use super::index::{Entry, Key};

/// The most that a header may take, its room included.
pub const HEADER_BYTES_MAX: usize = 1 << 20;
/// What is left for a head that grows, at least.
pub const ROOM_BYTES: usize = 128;
/// A header's length is a multiple of this, where its body is read.
const STEP_BYTES: usize = 64;
/// The same where its body is sent from the file: whole pages of the kernel's, of which
/// `sendfile(2)` passes on sixteen at a time. Beside a header of another length, 64 KiB lie in
/// seventeen.
const PAGE_BYTES: usize = 4096;

const MAGIC: &str = "netlab-reactor object 1, header ";
const MAGIC_MIDDLE: &str = " bytes, crc32 ";
const LENGTH_DIGITS: usize = 8;
const CRC_DIGITS: usize = 8;
const CRC_AT: usize = MAGIC.len() + LENGTH_DIGITS + MAGIC_MIDDLE.len();
/// The first line with its end.
const FIRST_LINE_BYTES: usize = CRC_AT + CRC_DIGITS + 1;

/// What stands before a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header<'b> {
    /// The text of the key ([`super::key::put_text`]).
    pub key: Cow<'b, [u8]>,
    /// What the request's fields that `Vary` names were, in a form that can be compared.
    pub selecting: Cow<'b, [u8]>,
    /// When the request was sent, in milliseconds of Unix time (RFC 9111 section 4.2.3).
    pub requested_ms: u64,
    /// When the response came, likewise.
    pub responded_ms: u64,
    /// The boot during which the body was written.
    pub boot: u128,
    /// What is known of the body.
    pub body: Body,
    /// The status line and the fields, each ended by CR LF, and the empty line.
    pub head: &'b [u8],
}

/// What is known of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// It is being written, or whoever wrote it has died.
    Unfinished,
    /// All of it was written.
    Whole {
        /// Its length.
        bytes: u64,
        /// Its CRC-32 as gzip's (`crc32fast`).
        crc32: u32,
    },
}

/// How long a header is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// As long as the one that it is written over.
    Same(usize),
    /// As long as it has to be, and some more for a head that grows.
    New {
        /// The body will be sent from the file.
        is_sent: bool,
    },
}

/// The header does not fit the given length, or [`HEADER_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoesNotFit;

/// What the beginning of a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded<'b> {
    /// A header, and its length: the body begins there.
    Header(Header<'b>, usize),
    /// So far it is one, and so many bytes from the beginning of the file are needed to tell. A
    /// file that is shorter is torn.
    NeedMore(usize),
    /// Something else, or torn.
    Bad(&'static str),
}

impl<'b> Header<'b> {
    /// Appends the header to `out`.
    ///
    /// # Errors
    /// It is longer than `room` says, or than [`HEADER_BYTES_MAX`]; `out` is as it was.
    pub fn encode(&self, out: &mut Vec<u8>, room: Room) -> Result<(), DoesNotFit> {
        let start = out.len();
        out.resize(start + FIRST_LINE_BYTES, 0);
        self.put_fields(out);
        let bytes = out.len() - start;
        let room = match room {
            Room::Same(room) => room,
            Room::New { is_sent } => {
                let step = if is_sent { PAGE_BYTES } else { STEP_BYTES };
                (bytes + ROOM_BYTES).next_multiple_of(step)
            }
        };
        if bytes > room || room > HEADER_BYTES_MAX {
            out.truncate(start);
            return Err(DoesNotFit);
        }
        if bytes < room {
            out.resize(start + room - 1, b' ');
            out.push(b'\n');
        }
        let header = &mut out[start..];
        let mut first = &mut header[..FIRST_LINE_BYTES];
        // Invariant: the line has the length of its parts, so it fits; as do eight digits below.
        writeln!(
            first,
            "{MAGIC}{room:0LENGTH_DIGITS$}{MAGIC_MIDDLE}{:08x}",
            0
        )
        .unwrap();
        let crc32 = checksum(header);
        let mut digits = &mut header[CRC_AT..CRC_AT + CRC_DIGITS];
        write!(digits, "{crc32:08x}").unwrap();
        Ok(())
    }

    fn put_fields(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"key: ");
        escape(out, &self.key);
        out.extend_from_slice(b"\nselecting: ");
        escape(out, &self.selecting);
        let (requested, responded, boot) = (self.requested_ms, self.responded_ms, self.boot);
        // Invariant: writing into memory does not fail; so below.
        write!(
            out,
            "\nrequested_ms: {requested}\nresponded_ms: {responded}\nboot: {boot:032x}\nbody: "
        )
        .unwrap();
        match self.body {
            // As long as what is written over it.
            Body::Unfinished => write!(out, "{:>20}{:>22}", "unknown", ""),
            Body::Whole { bytes, crc32 } => write!(out, "{bytes:>20} bytes, crc32 {crc32:08x}"),
        }
        .unwrap();
        write!(out, "\nhead_bytes: {}\n\n", self.head.len()).unwrap();
        out.extend_from_slice(self.head);
    }

    /// Reads what a file begins with.
    #[must_use]
    pub fn decode(file: &'b [u8]) -> Decoded<'b> {
        let Some(first) = file.first_chunk::<FIRST_LINE_BYTES>() else {
            let known = file.len().min(MAGIC.len());
            return match file[..known] == MAGIC.as_bytes()[..known] {
                true => Decoded::NeedMore(FIRST_LINE_BYTES),
                false => Decoded::Bad("not an object"),
            };
        };
        let Some((bytes, crc32)) = first_line(first) else {
            return Decoded::Bad("not an object");
        };
        if !(FIRST_LINE_BYTES..=HEADER_BYTES_MAX).contains(&bytes) {
            return Decoded::Bad("the header's length is impossible");
        }
        let Some(header) = file.get(..bytes) else {
            return Decoded::NeedMore(bytes);
        };
        if checksum(header) != crc32 {
            return Decoded::Bad("the header's checksum is wrong");
        }
        Self::fields(&header[FIRST_LINE_BYTES..])
            .map_or(Decoded::Bad("a field is malformed"), |header| {
                Decoded::Header(header, bytes)
            })
    }

    fn fields(mut rest: &'b [u8]) -> Option<Self> {
        let mut field = |name: &str| {
            let end = memchr::memchr(b'\n', rest)?;
            let value = rest[..end].strip_prefix(name.as_bytes())?;
            rest = &rest[end + 1..];
            Some(value)
        };
        let key = unescape(field("key: ")?)?;
        let selecting = unescape(field("selecting: ")?)?;
        let requested_ms = number(field("requested_ms: ")?)?;
        let responded_ms = number(field("responded_ms: ")?)?;
        let boot = u128::from_str_radix(hex(field("boot: ")?, 32)?, 16).ok()?;
        let body = body(field("body: ")?.trim_ascii())?;
        let head_bytes = usize::try_from(number(field("head_bytes: ")?)?).ok()?;
        field("")?.is_empty().then_some(())?;
        Some(Self {
            key,
            selecting,
            requested_ms,
            responded_ms,
            boot,
            body,
            head: rest.get(..head_bytes)?,
        })
    }
}

fn first_line(line: &[u8; FIRST_LINE_BYTES]) -> Option<(usize, u32)> {
    let rest = line.strip_prefix(MAGIC.as_bytes())?;
    let (length, rest) = rest.split_at_checked(LENGTH_DIGITS)?;
    let crc32 = rest
        .strip_prefix(MAGIC_MIDDLE.as_bytes())?
        .strip_suffix(b"\n")?;
    Some((usize::try_from(number(length)?).ok()?, crc(crc32)?))
}

/// Of a header without the digits that say it.
fn checksum(header: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header[..CRC_AT]);
    hasher.update(&header[CRC_AT + CRC_DIGITS..]);
    hasher.finalize()
}

fn body(text: &[u8]) -> Option<Body> {
    if text == b"unknown" {
        return Some(Body::Unfinished);
    }
    let (rest, crc32) = text.split_at_checked(text.len().checked_sub(CRC_DIGITS)?)?;
    let bytes = number(rest.strip_suffix(MAGIC_MIDDLE.as_bytes())?)?;
    let crc32 = crc(crc32)?;
    Some(Body::Whole { bytes, crc32 })
}

fn number(digits: &[u8]) -> Option<u64> {
    crate::http::parse_decimal(digits)
}

fn crc(digits: &[u8]) -> Option<u32> {
    u32::from_str_radix(hex(digits, CRC_DIGITS)?, 16).ok()
}

/// So many hexadecimal digits, in lower case.
fn hex(digits: &[u8], count: usize) -> Option<&str> {
    let good = digits.len() == count
        && digits
            .iter()
            .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    std::str::from_utf8(digits).ok().filter(|_| good)
}

/// Writes bytes on one line of visible ASCII and blanks: `\n` for a line feed, `\\` for a
/// backslash, `\x1f` for what else cannot be seen.
fn escape(out: &mut Vec<u8>, bytes: &[u8]) {
    for &byte in bytes {
        match byte {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b' '..=b'~' => out.push(byte),
            // Invariant: writing into memory does not fail.
            _ => write!(out, "\\x{byte:02x}").unwrap(),
        }
    }
}

fn unescape(text: &[u8]) -> Option<Cow<'_, [u8]>> {
    if memchr::memchr(b'\\', text).is_none() {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, behind)) = rest.split_first() {
        let (byte, behind) = match (first, behind) {
            (b'\\', [b'n', behind @ ..]) => (b'\n', behind),
            (b'\\', [b'\\', behind @ ..]) => (b'\\', behind),
            (b'\\', [b'x', behind @ ..]) => {
                let (digits, behind) = behind.split_at_checked(2)?;
                (u8::from_str_radix(hex(digits, 2)?, 16).ok()?, behind)
            }
            (b'\\', _) => return None,
            _ => (first, behind),
        };
        bytes.push(byte);
        rest = behind;
    }
    Some(Cow::Owned(bytes))
}

/// What the name of an object's file says, and how it is written: the folder of the key's first
/// byte, a stroke, and key, variant, time and bytes in hexadecimal digits.
///
/// `9f/9f86d081884c7d659a2feaa0c55ad015-1b4f0e9851971998-1a0c3f5d400-30d4`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// See [`Entry::key`].
    pub key: Key,
    /// See [`Entry::variant`].
    pub variant: u64,
    /// See [`Entry::stored_ms`].
    pub stored_ms: u64,
    /// The length of the file, in bytes.
    pub bytes: u64,
}

impl Name {
    /// Reads the name of a file and of the folder that it stands in; `None` for what is not an
    /// object's. There is one spelling for each name, so one that was read is written alike.
    #[must_use]
    pub fn parse(folder: &[u8], file: &[u8]) -> Option<Self> {
        let mut parts = file.split(|&byte| byte == b'-');
        let key = hex(parts.next()?, 32)?;
        let name = Self {
            key: Key(u128::from_str_radix(key, 16).ok()?),
            variant: u64::from_str_radix(hex(parts.next()?, 16)?, 16).ok()?,
            stored_ms: shortest_hex(parts.next()?)?,
            bytes: shortest_hex(parts.next()?)?,
        };
        (parts.next().is_none() && folder == &key.as_bytes()[..2]).then_some(name)
    }

    /// Which of the 256 folders, as in [`folders`].
    #[must_use]
    pub fn folder(&self) -> u8 {
        (self.key.0 >> 120) as u8
    }
}

impl From<Entry> for Name {
    fn from(entry: Entry) -> Self {
        Self {
            key: entry.key,
            variant: entry.variant,
            stored_ms: entry.stored_ms,
            bytes: entry.bytes,
        }
    }
}

impl From<Name> for Entry {
    /// An object that is on disk only.
    fn from(name: Name) -> Self {
        Self {
            key: name.key,
            variant: name.variant,
            stored_ms: name.stored_ms,
            bytes: name.bytes,
            warm: None,
        }
    }
}

impl fmt::Display for Name {
    /// Writes the path below the folder of the store.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:02x}/{:032x}-{:016x}-{:x}-{:x}",
            self.folder(),
            self.key.0,
            self.variant,
            self.stored_ms,
            self.bytes
        )
    }
}

/// A number in as few digits as it needs.
fn shortest_hex(digits: &[u8]) -> Option<u64> {
    let text = hex(digits, digits.len())?;
    let is_shortest = text == "0" || !text.starts_with('0');
    u64::from_str_radix(text, 16).ok().filter(|_| is_shortest)
}

/// The names of all folders that objects stand in.
pub fn folders() -> impl Iterator<Item = String> {
    (0..=u8::MAX).map(|folder| format!("{folder:02x}"))
}

const TEMPORARY: &str = ".tmp-";

/// The name of a file that is being written. Those that are found at a start were left by a
/// process that died, and are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Temporary(pub u64);

impl Temporary {
    /// Whether a file of this name is one.
    #[must_use]
    pub fn is_name(file: &[u8]) -> bool {
        file.strip_prefix(TEMPORARY.as_bytes())
            .is_some_and(|digits| hex(digits, 16).is_some())
    }
}

impl fmt::Display for Temporary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{TEMPORARY}{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests;
