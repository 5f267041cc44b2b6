//! The header lines of a head, and how one is found among them.
//!
//! Nothing is copied or allocated: the lines stay where they came, and an [`Index`] of fixed size,
//! made when the head is parsed, knows where they are. Most names that are asked for are absent,
//! which a filter tells at once.
//!
//! RFC 9110 sections 5 and 7.6.1.

use std::fmt;

use memchr::memchr;

use super::{list_elements, trim_ows};

/// The most options that `Connection` may list: each of them may cost a comparison for each header
/// that a proxy forwards.
pub(super) const CONNECTION_OPTIONS_MAX: usize = 32;

/// The header lines of a head, walked over in the order in which they came. Names are compared
/// without regard to case.
#[derive(Clone, Copy)]
pub struct Headers<'b> {
    /// Whole lines with their line ends, each validated as `NAME:VALUE`.
    lines: &'b [u8],
    index: Index,
}

/// Lines of a head that an [`Index`] has: two words of tags.
const INDEXED_MAX: usize = 16;

/// Where the first lines of a head are, so that nobody searches them for their ends again. For names
/// that are absent, as most that are asked for, a filter; to find the others, a tag of each.
#[derive(Clone, Copy)]
pub(super) struct Index {
    /// The [`tag`] of each name; 0 where there is no line.
    tags: [[u8; 8]; INDEXED_MAX / 8],
    /// Where each line begins, and behind the last, where the lines beyond do.
    starts: [u32; INDEXED_MAX + 1],
    /// The length of each name.
    names: [u8; INDEXED_MAX],
    count: u8,
    /// There are lines beyond, which are found by walking over them.
    is_full: bool,
    /// The union of [`filter_bit`] of all names.
    filter: u64,
}

impl Index {
    const EMPTY: Index = Index {
        tags: [[0; 8]; INDEXED_MAX / 8],
        starts: [0; INDEXED_MAX + 1],
        names: [0; INDEXED_MAX],
        count: 0,
        is_full: false,
        filter: 0,
    };

    /// The next line, which begins there.
    #[inline]
    pub(super) fn add(&mut self, name: &[u8], start: usize) {
        self.filter |= filter_bit(name);
        if self.is_full {
            return;
        }
        let place = usize::from(self.count);
        self.starts[place] = start as u32;
        match u8::try_from(name.len()) {
            Ok(length) if place < INDEXED_MAX => {
                self.tags.as_flattened_mut()[place] = tag(name);
                self.names[place] = length;
                self.count += 1;
            }
            _ => self.is_full = true,
        }
    }

    /// All lines were added; they end there.
    fn end(&mut self, end: usize) {
        if !self.is_full {
            self.starts[usize::from(self.count)] = end as u32;
        }
    }

    /// Whether there may be such a name.
    #[inline]
    fn may_have(&self, name: &[u8]) -> bool {
        self.filter & filter_bit(name) != 0
    }

    /// Marks the lines whose names may be this one, those with its tag and rarely others, by the
    /// highest bit of their bytes.
    #[inline]
    fn marks(&self, name: &[u8]) -> [u64; INDEXED_MAX / 8] {
        const LOW: u64 = u64::MAX / 255;
        let wanted = LOW * u64::from(tag(name));
        // After the exclusive or, such a byte is zero; less one, it has its highest bit then only.
        self.tags.map(|tags| {
            let other = u64::from_le_bytes(tags) ^ wanted;
            other.wrapping_sub(LOW) & !other & (LOW << 7)
        })
    }

    /// Where a line, counted from 0, begins and ends.
    #[inline]
    fn line(&self, place: usize) -> std::ops::Range<usize> {
        self.starts[place] as usize..self.starts[place + 1] as usize
    }

    /// Where the lines beyond begin.
    #[inline]
    fn beyond(&self) -> usize {
        self.starts[usize::from(self.count)] as usize
    }
}

impl Default for Index {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// A name by its first and last byte and its length. Equal names have equal hashes.
#[inline]
fn hash(name: &[u8]) -> usize {
    match name {
        [first, .., last] => {
            let mixed = (first | 0x20).wrapping_mul(7) ^ (last | 0x20).wrapping_mul(5);
            usize::from(mixed).wrapping_add(name.len() * 11)
        }
        _ => 0,
    }
}

/// A byte for a name, never 0.
#[inline]
fn tag(name: &[u8]) -> u8 {
    hash(name) as u8 | 0x80
}

/// One of 64 bits for a name: one that is not set proves a name absent.
#[inline]
fn filter_bit(name: &[u8]) -> u64 {
    1 << (hash(name) & 63)
}

impl<'b> Headers<'b> {
    /// No headers at all.
    pub const EMPTY: Headers<'static> = Headers {
        lines: b"",
        index: Index::EMPTY,
    };

    /// Validated lines, all of which were added to the index.
    pub(super) fn new(lines: &'b [u8], mut index: Index) -> Self {
        index.end(lines.len());
        Self { lines, index }
    }

    /// All headers: the name as sent, and the value without the blanks around it.
    #[must_use]
    pub fn iter(&self) -> HeaderIter<'_, 'b> {
        HeaderIter {
            headers: self,
            place: 0,
            beyond: self.beyond(),
        }
    }

    /// A line with its line end.
    #[inline]
    fn line(&self, place: usize) -> &'b [u8] {
        &self.lines[self.index.line(place)]
    }

    /// The lines that are not in the index.
    #[inline]
    fn beyond(&self) -> &'b [u8] {
        &self.lines[self.index.beyond()..]
    }

    /// The value of the first header called `name`.
    #[inline]
    #[must_use]
    pub fn first(&self, name: &str) -> Option<&'b [u8]> {
        self.all(name).next()
    }

    /// The values of all headers called `name`.
    #[inline]
    pub fn all<'h, 'n>(&'h self, name: &'n str) -> Values<'h, 'n, 'b> {
        let name = name.as_bytes();
        let (marks, beyond) = match self.index.may_have(name) {
            true => (self.index.marks(name), self.beyond()),
            false => ([0; INDEXED_MAX / 8], &b""[..]),
        };
        Values {
            headers: self,
            name,
            marks,
            beyond,
        }
    }

    /// The value of the header called `name`, if there is exactly one.
    #[must_use]
    pub fn only(&self, name: &str) -> Option<&'b [u8]> {
        let mut all = self.all(name);
        let first = all.next();
        first.filter(|_| all.next().is_none())
    }

    /// Whether there is a header called `name`.
    #[inline]
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.index.may_have(name.as_bytes()) && self.has(name)
    }

    // Apart, so that what is true of most names is seen where they are asked for.
    #[inline(never)]
    fn has(&self, name: &str) -> bool {
        self.first(name).is_some()
    }

    /// The elements of the comma-separated lists in all headers called `name`; not for lists with
    /// quoted strings.
    pub fn list(&self, name: &str) -> impl Iterator<Item = &'b [u8]> {
        self.all(name).flat_map(list_elements)
    }

    /// The headers that a proxy forwards (RFC 9110 section 7.6.1): all but `Connection`, what it
    /// names, and those that speak of one connection by definition: `Keep-Alive`,
    /// `Proxy-Connection`, `TE`, `Transfer-Encoding`, `Upgrade`, `HTTP2-Settings`, and the
    /// `Proxy-Authenticate`, `Proxy-Authorization` and `Proxy-Authentication-Info` that are between
    /// a client and this proxy.
    ///
    /// `Host`, `Content-Length` and `Cache-Control` stay even when `Connection` names them: that is
    /// only ever an attempt to have the next server read another message. `Trailer` stays, because
    /// trailers are passed through with the chunks. The proxy itself writes `Transfer-Encoding` for
    /// a chunked body, replaces `Host`, and adds `Via`.
    pub fn end_to_end(&self) -> impl Iterator<Item = (&'b str, &'b [u8])> {
        let keeps = self.keeper();
        self.iter().filter(move |(name, _)| keeps(name.as_bytes()))
    }

    /// The same headers, each as its name and its whole line as it came, without the line end: for
    /// passing them on unchanged.
    pub fn end_to_end_lines(&self) -> impl Iterator<Item = (&'b [u8], &'b [u8])> {
        let keeps = self.keeper();
        let mut lines = self.iter();
        std::iter::from_fn(move || lines.next_line()).filter(move |(name, _)| keeps(name))
    }

    /// Tells by its name which header is forwarded. `Connection` is read once, whatever the number
    /// of headers, and each of them is compared with its few options.
    fn keeper(&self) -> impl Fn(&[u8]) -> bool + use<'b> {
        // The usual options name no header that would not be dropped anyway.
        let unusual = |option: &&[u8]| !is_one_of(option, &["keep-alive", "close"]);
        let named: Vec<&[u8]> = self.list("connection").filter(unusual).collect();
        let filter = named.iter().fold(0, |all, option| all | filter_bit(option));
        let is_named = move |name: &[u8]| {
            filter & filter_bit(name) != 0
                && named.iter().any(|option| option.eq_ignore_ascii_case(name))
                && !is_one_of(name, &["host", "content-length", "cache-control"])
        };
        move |name| !(is_hop_by_hop(name) || is_named(name))
    }
}

fn is_one_of(name: &[u8], names: &[&str]) -> bool {
    names
        .iter()
        .any(|other| other.as_bytes().eq_ignore_ascii_case(name))
}

impl<'h, 'b> IntoIterator for &'h Headers<'b> {
    type Item = (&'b str, &'b [u8]);
    type IntoIter = HeaderIter<'h, 'b>;

    fn into_iter(self) -> HeaderIter<'h, 'b> {
        self.iter()
    }
}

impl fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lossy = self
            .iter()
            .map(|(name, value)| (name, String::from_utf8_lossy(value)));
        f.debug_map().entries(lossy).finish()
    }
}

fn is_hop_by_hop(name: &[u8]) -> bool {
    // By length first, as every header that is forwarded comes through here.
    let names: &[&str] = match name.len() {
        2 => &["te"],
        7 => &["upgrade"],
        10 => &["connection", "keep-alive"],
        14 => &["http2-settings"],
        16 => &["proxy-connection"],
        17 => &["transfer-encoding"],
        18 => &["proxy-authenticate"],
        19 => &["proxy-authorization"],
        25 => &["proxy-authentication-info"],
        _ => &[],
    };
    is_one_of(name, names)
}

/// Splits the first line off, its line end included.
fn take_line<'b>(lines: &mut &'b [u8]) -> Option<&'b [u8]> {
    let line_end = memchr(b'\n', lines)?;
    let (line, rest) = lines.split_at(line_end + 1);
    *lines = rest;
    Some(line)
}

/// Walks over the values of the headers of one name; see [`Headers::all`].
#[derive(Debug, Clone)]
pub struct Values<'h, 'n, 'b> {
    headers: &'h Headers<'b>,
    name: &'n [u8],
    /// Of the lines that are in the index, those that are still to be looked at.
    marks: [u64; INDEXED_MAX / 8],
    /// Of the others, too.
    beyond: &'b [u8],
}

impl<'b> Values<'_, '_, 'b> {
    /// The next line that may have the name.
    fn next_line(&mut self) -> Option<&'b [u8]> {
        let Some(word) = self.marks.iter().position(|&marks| marks != 0) else {
            return take_line(&mut self.beyond);
        };
        let marks = &mut self.marks[word];
        let place = word * 8 + marks.trailing_zeros() as usize / 8;
        *marks &= *marks - 1;
        Some(self.headers.line(place))
    }

    fn search(&mut self) -> Option<&'b [u8]> {
        let name = self.name;
        while let Some(line) = self.next_line() {
            // A name holds no colon, so a colon behind as many bytes as the wanted name has ends a
            // name of that length.
            if line.get(name.len()) == Some(&b':') && line[..name.len()].eq_ignore_ascii_case(name)
            {
                return Some(trim_ows(without_line_end(&line[name.len() + 1..])));
            }
        }
        None
    }
}

impl<'b> Iterator for Values<'_, '_, 'b> {
    type Item = &'b [u8];

    // For most names there is no such line, which is seen without a call.
    #[inline]
    fn next(&mut self) -> Option<&'b [u8]> {
        match self.marks == [0; INDEXED_MAX / 8] && self.beyond.is_empty() {
            true => None,
            false => self.search(),
        }
    }
}

/// Walks over header lines; see [`Headers::iter`].
#[derive(Debug, Clone)]
pub struct HeaderIter<'h, 'b> {
    headers: &'h Headers<'b>,
    /// The next line that is in the index.
    place: usize,
    /// Lines that are not.
    beyond: &'b [u8],
}

impl<'b> HeaderIter<'_, 'b> {
    /// The next header's name, and its line without the line end.
    fn next_line(&mut self) -> Option<(&'b [u8], &'b [u8])> {
        let index = &self.headers.index;
        let (line, name_bytes) = match self.place < usize::from(index.count) {
            true => {
                let place = self.place;
                self.place += 1;
                (self.headers.line(place), usize::from(index.names[place]))
            }
            false => {
                let line = take_line(&mut self.beyond)?;
                (line, memchr(b':', line)?)
            }
        };
        Some((&line[..name_bytes], without_line_end(line)))
    }
}

impl<'b> Iterator for HeaderIter<'_, 'b> {
    type Item = (&'b str, &'b [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, line) = self.next_line()?;
        let value = trim_ows(&line[name.len() + 1..]);
        // Invariant: a `Headers` is made of lines that were validated, so a name is there and is
        // ASCII.
        Some((str::from_utf8(name).ok()?, value))
    }
}

pub(super) fn without_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}
