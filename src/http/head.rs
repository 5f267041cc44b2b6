//! Message heads: request and response heads out of bytes, and the few lines that write them.
//!
//! RFC 9112 sections 2 to 6 and 9.3, RFC 9110 sections 5, 7.2 and 7.6.
//!
//! ```text
//! bytes ─ HeadScanner ─┬─ Partial                   more bytes are needed; show all of them again, with the new ones
//!                      ├─ Complete(head, consumed)  the head borrows from the bytes; the body begins at `consumed`
//!                      └─ HeadError                 a status to answer with, and a text; then close
//! ```
//!
//! Rules:
//! 1. What could be framed in two ways is refused: Content-Length beside Transfer-Encoding; a
//!    Content-Length that is repeated (even with the same value), a list, signed, or has more than
//!    20 digits (fewer leading zeros are harmless) or 63 bits; any Transfer-Encoding but `chunked`
//!    alone (a response may have one that nobody knows, and then lasts until the connection ends); a folded line; a blank before a colon; a CR or, in a request, an LF by itself.
//!    Response heads may end their lines with LF alone (RFC 9112 section 2.2): there are such
//!    origins, and a proxy writes every head anew. For the same reason [`mend_response`] takes
//!    folds and blanks before a colon out of a response.
//! 2. Nothing is parsed before the empty line has come, and the scanner judges bytes in their
//!    order. So the outcome is the same however the bytes were split, and a head that comes byte by
//!    byte is searched once, not again for every byte.
//! 3. No allocation. The headers are not collected: [`Headers`] has the lines, which were validated
//!    once, and where they are.
//!
//! A long file, since it is one codec: what the scanner lets pass, what is handed out and what is
//! written follow the same rules, and are checked against each other.
//!
//! Not here: bodies ([`super::body`]), and what any header beyond framing means.

use super::headers::{CONNECTION_OPTIONS_MAX, Index, without_line_end};
pub use super::headers::{HeaderIter, Headers, Values};
use super::target::{
    Authority, Host, Target, all_may_be_in_target, is_name_and_port, may_be_in_target,
};
use super::{
    Method, Status, Version, is_token, is_token_byte, list_elements, parse_decimal, put_decimal,
    trim_ows,
};
use memchr::memchr;
use std::fmt;

/// Empty lines that are skipped before a request line (RFC 9112 section 2.2): left behind by
/// clients that end a POST with one line end too many.
pub const LEADING_EMPTY_LINES_MAX: u8 = 4;

/// The most header lines that [`Limits::headers_max`] can allow.
pub const HEADERS_MAX: usize = 256;

/// Heads with at most so many headers are parsed with a table of that size: what scripts and what
/// browsers send. To clear a large table would take longer than to parse a small head.
const HEADERS_FEW: usize = 8;
const HEADERS_USUAL: usize = 32;

/// What a request line may have beside its target: a method of some length, two blanks, the
/// version, the CR.
const REQUEST_LINE_REST_MAX: usize = 64;
/// What of that is for the method. The longest that IANA knows has 17 letters.
const METHOD_BYTES_MAX: usize = REQUEST_LINE_REST_MAX - "  HTTP/1.1\r".len();

/// Bounds on a head. A receive buffer must hold `head_bytes_max` in one piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest head in bytes, its start line, its empty line and empty lines before it
    /// included. Default 16 KiB.
    pub head_bytes_max: usize,
    /// The longest request target in bytes. Default 8,000, which RFC 9112 section 3 wants
    /// supported.
    pub target_bytes_max: usize,
    /// The most header lines; at most [`HEADERS_MAX`]. Default 100.
    pub headers_max: usize,
}

impl Limits {
    /// Those of a server that is told nothing.
    pub const DEFAULT: Self = Self {
        head_bytes_max: 16 * 1024,
        target_bytes_max: 8000,
        headers_max: 100,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// How far the bytes went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed<T> {
    /// The head is not complete yet.
    Partial,
    /// The head, and how many bytes it takes, empty lines before it included.
    Complete(T, usize),
}

/// How a message body ends (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// There is no body: the next message follows the head.
    None,
    /// So many bytes.
    Length(u64),
    /// The chunked transfer coding.
    Chunked,
    /// A response that lasts until its connection closes.
    UntilClose,
}

/// A request head that has passed every framing rule.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'b> {
    /// The method.
    pub method: Method<'b>,
    /// The target as sent.
    pub target_text: &'b str,
    /// The target by its form.
    pub target: Target<'b>,
    /// The version.
    pub version: Version,
    /// The header lines.
    pub headers: Headers<'b>,
    /// The value of `Host`, which is an authority. Always there in HTTP/1.1.
    host: Option<&'b [u8]>,
    /// How the body ends; never [`BodyLength::UntilClose`].
    pub body: BodyLength,
    /// Whether the client lets the connection stay open after the response (RFC 9112 section 9.3).
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body. Never in HTTP/1.0 or
    /// without a body.
    pub expect_continue: bool,
    /// Whether the client expects something else that nobody here can meet: 417 (RFC 9110 section
    /// 10.1.1). Never in HTTP/1.0.
    pub expect_unknown: bool,
}

impl<'b> RequestHead<'b> {
    /// Whom the request is for: the authority of an absolute target, whatever `Host` says (RFC 9112
    /// section 3.2.2), or else that of `Host`.
    #[must_use]
    pub fn authority(&self) -> Option<Authority<'b>> {
        match self.target {
            Target::Absolute { authority, .. } => Some(authority),
            _ => self.host(),
        }
    }

    /// What `Host` says. Always there in HTTP/1.1. See [`Self::authority`] for whom the request is
    /// for.
    #[must_use]
    pub fn host(&self) -> Option<Authority<'b>> {
        Authority::parse_international(str::from_utf8(self.host?).ok()?)
    }
}

/// A response head that has passed every framing rule.
#[derive(Debug, Clone, Copy)]
pub struct ResponseHead<'b> {
    /// The version.
    pub version: Version,
    /// The status.
    pub status: Status,
    /// The reason phrase as sent; perhaps empty, perhaps not UTF-8.
    pub reason: &'b [u8],
    /// The header lines.
    pub headers: Headers<'b>,
    /// How the body ends, with the method of the request taken into account.
    pub body: BodyLength,
    /// Whether the connection can be used for another request after this response.
    pub keep_alive: bool,
}

/// Finds the end of a head in bytes that arrive bit by bit. One per connection; after `Complete` it
/// is ready for the next head, after an error it is not to be used again.
///
/// Until then the bytes shown must begin at the same place: do not consume any before `Complete`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HeadScanner {
    /// Bytes searched for line ends.
    scanned: usize,
    /// Where the line begins that is being searched for its end.
    line_start: usize,
    /// Where the start line begins and where the headers begin. Both 0 while the start line is not
    /// complete.
    start_line: (usize, usize),
    headers: usize,
    empty_lines: u8,
}

/// What differs between scanning a request and a response.
struct Dialect {
    line_feed_alone: bool,
    empty_lines_max: u8,
    start_line_bytes_max: usize,
    /// What is wrong with a start line that is longer than that, or than a head may be, by its
    /// beginning.
    start_line_too_long: fn(&[u8]) -> HeadError,
}

impl HeadScanner {
    /// Reads a request head at the beginning of `bytes`.
    ///
    /// # Errors
    /// The request is to be refused with [`HeadError::status`], and the connection closed.
    pub fn request<'b>(
        &mut self,
        bytes: &'b [u8],
        limits: &Limits,
    ) -> Result<Parsed<RequestHead<'b>>, HeadError> {
        let dialect = Dialect {
            line_feed_alone: false,
            empty_lines_max: LEADING_EMPTY_LINES_MAX,
            start_line_bytes_max: limits
                .target_bytes_max
                .saturating_add(REQUEST_LINE_REST_MAX),
            start_line_too_long: request_line_too_long,
        };
        let Some(end) = self.scan(bytes, limits, &dialect)? else {
            return Ok(Parsed::Partial);
        };
        let (start, headers_start) = self.start_line;
        let line = &bytes[start..headers_start - 2];
        let (method, target_text, version) = request_line(line, limits)?;
        let Some(target) = Target::parse_checked(method, target_text) else {
            return Err(match method {
                Method::Connect => HeadError::ConnectTarget,
                _ => HeadError::Target,
            });
        };
        let (headers, facts) = headers(&bytes[headers_start..end], self.headers)?;

        match facts.host {
            None if version == Version::Http11 => return Err(HeadError::HostMissing),
            // Where the target names the host, what `Host` says is of no consequence.
            _ if facts.host_is_international
                && matches!(target, Target::Origin { .. } | Target::Asterisk) =>
            {
                return Err(HeadError::Host);
            }
            _ => {}
        }
        let body = match (facts.transfer_coding, facts.content_length) {
            (Some(_), Some(_)) => return Err(HeadError::LengthAndEncoding),
            (Some(TransferCoding::Unknown), None) => return Err(HeadError::CodingUnknown),
            (Some(_), None) if version == Version::Http10 => {
                return Err(HeadError::EncodingInHttp10);
            }
            (Some(TransferCoding::Chunked), None) => BodyLength::Chunked,
            (None, None | Some(0)) => BodyLength::None,
            (None, Some(length)) => BodyLength::Length(length),
        };
        *self = Self::default();
        let head = RequestHead {
            method,
            target_text,
            target,
            version,
            headers,
            host: facts.host,
            body,
            keep_alive: facts.keep_alive(version),
            expect_continue: facts.expect_continue
                && version == Version::Http11
                && body != BodyLength::None,
            expect_unknown: facts.expect_unknown && version == Version::Http11,
        };
        Ok(Parsed::Complete(head, end))
    }

    /// Reads a response head at the beginning of `bytes`, the answer to a request with the method
    /// `method`. An interim one (1xx) is followed by another.
    ///
    /// # Errors
    /// The response cannot be trusted; a proxy answers with 502 and drops the connection.
    pub fn response<'b>(
        &mut self,
        bytes: &'b [u8],
        limits: &Limits,
        method: Method<'_>,
    ) -> Result<Parsed<ResponseHead<'b>>, HeadError> {
        let dialect = Dialect {
            line_feed_alone: true,
            empty_lines_max: 0,
            start_line_bytes_max: usize::MAX,
            start_line_too_long: |_| HeadError::HeadTooLarge,
        };
        let Some(end) = self.scan(bytes, limits, &dialect)? else {
            return Ok(Parsed::Partial);
        };
        let (start, headers_start) = self.start_line;
        let (version, status, reason) =
            status_line(without_line_end(&bytes[start..headers_start]))?;
        let (headers, facts) = headers(&bytes[headers_start..end], self.headers)?;

        let opens_tunnel = method == Method::Connect && (200..300).contains(&status.code());
        let body = match (facts.transfer_coding, facts.content_length) {
            // RFC 9110 section 9.3.6: what it says of a body counts for nothing.
            _ if opens_tunnel => BodyLength::None,
            (Some(_), Some(_)) => return Err(HeadError::LengthAndEncoding),
            (Some(_), None) if version == Version::Http10 => {
                return Err(HeadError::EncodingInHttp10);
            }
            _ if status.is_bodyless() || method == Method::Head => BodyLength::None,
            (Some(TransferCoding::Chunked), None) => BodyLength::Chunked,
            // RFC 9112 section 6.3, rule 4: the end of the connection is the end of the body.
            (Some(TransferCoding::Unknown) | None, None) => BodyLength::UntilClose,
            (None, Some(0)) => BodyLength::None,
            (None, Some(length)) => BodyLength::Length(length),
        };
        *self = Self::default();
        let keep_alive = facts.keep_alive(version) && body != BodyLength::UntilClose;
        let head = ResponseHead {
            version,
            status,
            reason,
            headers,
            body,
            keep_alive,
        };
        Ok(Parsed::Complete(head, end))
    }

    /// Goes over the lines that are new, and returns where the head ends once its empty line has
    /// come.
    fn scan(
        &mut self,
        bytes: &[u8],
        limits: &Limits,
        dialect: &Dialect,
    ) -> Result<Option<usize>, HeadError> {
        let window = &bytes[..bytes.len().min(limits.head_bytes_max)];
        let headers_max = limits.headers_max.min(HEADERS_MAX);
        loop {
            let in_start_line = self.start_line.1 == 0;
            if in_start_line && let Some(&first) = window.get(self.line_start) {
                // What cannot begin a message (TLS, say) is refused at once, not when its head
                // times out.
                if !is_token_byte(first) && first != b'\r' && first != b'\n' {
                    return Err(HeadError::StartLine);
                }
            }
            let found = memchr(b'\n', &window[self.scanned..]).map(|at| self.scanned + at);
            let line_end = found.unwrap_or(window.len());
            if in_start_line && line_end - self.line_start > dialect.start_line_bytes_max {
                // No more than its beginning is looked at, or it would matter how much has come.
                let begun = &window[self.line_start..][..dialect.start_line_bytes_max];
                return Err((dialect.start_line_too_long)(begun));
            }
            let Some(line_feed) = found else {
                self.scanned = window.len();
                return match window.len() == limits.head_bytes_max {
                    true if in_start_line => {
                        Err((dialect.start_line_too_long)(&window[self.line_start..]))
                    }
                    true => Err(HeadError::HeadTooLarge),
                    false => Ok(None),
                };
            };
            let has_cr = line_feed > self.line_start && window[line_feed - 1] == b'\r';
            if !has_cr && !dialect.line_feed_alone {
                return Err(HeadError::LineFeedAlone);
            }
            let line_is_empty = line_feed - usize::from(has_cr) == self.line_start;
            let line_start = self.line_start;
            self.scanned = line_feed + 1;
            self.line_start = line_feed + 1;
            match (in_start_line, line_is_empty) {
                (true, true) => {
                    self.empty_lines += 1;
                    if self.empty_lines > dialect.empty_lines_max {
                        return Err(HeadError::EmptyLines);
                    }
                }
                (true, false) => self.start_line = (line_start, line_feed + 1),
                (false, true) => return Ok(Some(line_feed + 1)),
                (false, false) => {
                    self.headers += 1;
                    if self.headers > headers_max {
                        return Err(HeadError::TooManyHeaders);
                    }
                }
            }
        }
    }
}

/// Whose fault it is that a request line is too long: the method's where that alone takes more than
/// its share.
#[cold]
fn request_line_too_long(line: &[u8]) -> HeadError {
    let method = line.split(|&byte| byte == b' ').next().unwrap_or(line);
    match Method::from_bytes(method) {
        _ if method.len() <= METHOD_BYTES_MAX => HeadError::TargetTooLong,
        Some(_) => HeadError::MethodTooLong,
        None => HeadError::Method,
    }
}

/// Takes `METHOD SP TARGET SP HTTP/1.x` apart.
fn request_line<'b>(
    line: &'b [u8],
    limits: &Limits,
) -> Result<(Method<'b>, &'b str, Version), HeadError> {
    let space = memchr(b' ', line).ok_or(HeadError::StartLine)?;
    let method = Method::from_bytes(&line[..space]).ok_or(HeadError::Method)?;
    let rest = &line[space + 1..];
    // Looked for as the blank behind it, not as its own end: then its bytes are judged all at once.
    let target_len = memchr(b' ', rest)
        .filter(|&len| all_may_be_in_target(&rest[..len]))
        .unwrap_or_else(|| target_len(rest));
    let (target, rest) = rest.split_at(target_len);
    if target.len() > limits.target_bytes_max {
        return Err(HeadError::TargetTooLong);
    }
    let version = match rest {
        [b' ', version @ ..] if !target.is_empty() => self::version(version)?,
        [b' ', ..] | [] => return Err(HeadError::StartLine),
        _ => return Err(HeadError::Target),
    };
    let target = str::from_utf8(target).map_err(|_| HeadError::Target)?;
    Ok((method, target, version))
}

/// How many bytes at the beginning of `rest` may be in a target.
#[cold]
fn target_len(rest: &[u8]) -> usize {
    rest.iter()
        .position(|&byte| !may_be_in_target(byte))
        .unwrap_or(rest.len())
}

/// Takes `HTTP/1.x SP CODE [SP REASON]` apart. Some origins leave out the second blank with the
/// reason.
fn status_line(line: &[u8]) -> Result<(Version, Status, &[u8]), HeadError> {
    let (version, rest) = line.split_at_checked(8).ok_or(HeadError::StatusLine)?;
    let version = self::version(version)?;
    let (code, reason) = match rest {
        [b' ', a, b, c] => ([*a, *b, *c], &rest[4..]),
        [b' ', a, b, c, b' ', reason @ ..] => ([*a, *b, *c], reason),
        _ => return Err(HeadError::StatusLine),
    };
    let status = parse_decimal(&code)
        .and_then(|code| Status::from_code(u16::try_from(code).ok()?))
        .ok_or(HeadError::StatusLine)?;
    if !reason
        .iter()
        .all(|&byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..))
    {
        return Err(HeadError::StatusLine);
    }
    Ok((version, status, reason))
}

fn version(text: &[u8]) -> Result<Version, HeadError> {
    if text == b"HTTP/1.1" {
        return Ok(Version::Http11); // nearly always, and compared at one stroke
    }
    match text {
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'2'..=b'9'] => Ok(Version::Http11),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Err(HeadError::VersionUnsupported)
        }
        _ => Err(HeadError::Version),
    }
}

/// What the headers say about framing and the connection.
#[derive(Default)]
struct Facts<'b> {
    host: Option<&'b [u8]>,
    host_is_international: bool,
    content_length: Option<u64>,
    transfer_coding: Option<TransferCoding>,
    close: bool,
    keep_alive: bool,
    connection_options: usize,
    expect_continue: bool,
    expect_unknown: bool,
}

/// How a body is coded for its way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TransferCoding {
    Chunked,
    /// A name that no registry has, and the only one: nobody could undo it.
    Unknown,
}

/// Codings that somebody else could undo (RFC 9112 section 7.2): we never say that we can.
const CODINGS_KNOWN: [&str; 5] = ["compress", "x-compress", "deflate", "gzip", "x-gzip"];

impl Facts<'_> {
    fn keep_alive(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }
}

/// Validates `block`, the `count` header lines with the empty line behind them.
fn headers(block: &[u8], count: usize) -> Result<(Headers<'_>, Facts<'_>), HeadError> {
    if count <= HEADERS_FEW {
        headers_within::<HEADERS_FEW>(block)
    } else if count <= HEADERS_USUAL {
        headers_within::<HEADERS_USUAL>(block)
    } else {
        headers_within::<HEADERS_MAX>(block)
    }
}

/// With a table of so many places, which is in no frame but this function's: a large one is not to
/// be made room for where a small one does.
#[inline(never)]
fn headers_within<const N: usize>(block: &[u8]) -> Result<(Headers<'_>, Facts<'_>), HeadError> {
    let mut table = [httparse::EMPTY_HEADER; N];
    let parsed = match httparse::parse_headers(block, &mut table) {
        Ok(httparse::Status::Complete((consumed, parsed))) if consumed == block.len() => parsed,
        Ok(_) => return Err(HeadError::HeaderName),
        Err(error) => return Err(header_error(block, error)),
    };
    let mut facts = Facts::default();
    let mut index = Index::default();
    for header in parsed {
        let name = header.name.as_bytes();
        index.add(name, name.as_ptr().addr() - block.as_ptr().addr());
        // Lengths first: most headers are none of these, and are not compared at all.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => facts.host(header.value)?,
            6 if name.eq_ignore_ascii_case(b"expect") => facts.expect(header.value),
            10 if name.eq_ignore_ascii_case(b"connection") => facts.connection(header.value)?,
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                facts.content_length(header.value)?;
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                facts.transfer_encoding(header.value)?;
            }
            _ => {}
        }
    }
    let lines = &block[..block.len() - if block.ends_with(b"\r\n") { 2 } else { 1 }];
    Ok((Headers::new(lines, index), facts))
}

impl<'b> Facts<'b> {
    fn host(&mut self, value: &'b [u8]) -> Result<(), HeadError> {
        let value = trim_ows(value);
        if !is_name_and_port(value) {
            self.unusual_host(value)?;
        }
        match self.host.replace(value) {
            Some(_) => Err(HeadError::HostRepeated),
            None => Ok(()),
        }
    }

    #[cold]
    fn unusual_host(&mut self, value: &[u8]) -> Result<(), HeadError> {
        let text = str::from_utf8(value).map_err(|_| HeadError::Host)?;
        let authority = Authority::parse_international(text).ok_or(HeadError::Host)?;
        self.host_is_international = matches!(authority.host, Host::International(_));
        Ok(())
    }

    fn expect(&mut self, value: &[u8]) {
        for expectation in list_elements(value) {
            let known = expectation.eq_ignore_ascii_case(b"100-continue");
            self.expect_continue |= known;
            self.expect_unknown |= !known;
        }
    }

    fn content_length(&mut self, value: &[u8]) -> Result<(), HeadError> {
        let value = trim_ows(value);
        let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        if !is_number {
            return Err(HeadError::ContentLength);
        }
        let length = parse_decimal(value).filter(|&length| length <= i64::MAX as u64);
        match self
            .content_length
            .replace(length.ok_or(HeadError::ContentLengthOverflow)?)
        {
            Some(_) => Err(HeadError::ContentLengthRepeated),
            None => Ok(()),
        }
    }

    /// `chunked`, once, is the one coding that we undo. Others before it would be unknown (501);
    /// others behind it leave the end of the body undefined. Another one by itself is told to the
    /// caller: a response of that kind lasts until the connection ends.
    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), HeadError> {
        for coding in value.split(|&byte| byte == b',').map(trim_ows) {
            let chunked = coding.eq_ignore_ascii_case(b"chunked");
            let is = |known: &&str| coding.eq_ignore_ascii_case(known.as_bytes());
            let known = CODINGS_KNOWN.iter().any(is);
            self.transfer_coding = Some(match (chunked, self.transfer_coding) {
                (_, Some(TransferCoding::Chunked)) => return Err(HeadError::ChunkedNotLast),
                (_, Some(TransferCoding::Unknown)) => return Err(HeadError::CodingUnknown),
                (true, None) => TransferCoding::Chunked,
                (false, None) if is_token(coding) && !known => TransferCoding::Unknown,
                (false, None) if coding.first().is_some_and(|&byte| is_token_byte(byte)) => {
                    return Err(HeadError::CodingUnknown);
                }
                (false, None) => return Err(HeadError::TransferEncoding),
            });
        }
        Ok(())
    }

    fn connection(&mut self, value: &[u8]) -> Result<(), HeadError> {
        for option in list_elements(value) {
            self.connection_options += 1;
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
        if self.connection_options > CONNECTION_OPTIONS_MAX {
            return Err(HeadError::ConnectionOptions);
        }
        Ok(())
    }
}

/// Takes out of the response head at the beginning of `bytes` what a request is refused for: a fold
/// becomes blanks (RFC 9112 section 5.2), and blanks before a colon go behind it (section 5.1). No
/// byte moves that is not one of these, so the head stays as long as it was. A line that begins
/// with a blank right behind the status line continues nothing and stays.
///
/// To be called when a whole head was refused as [`HeadError::FoldedLine`] or
/// [`HeadError::BlankBeforeColon`]; it is then shown to a new [`HeadScanner`].
pub fn mend_response(bytes: &mut [u8]) {
    let (mut start, mut lines) = (0, 0);
    while let Some(length) = memchr(b'\n', &bytes[start..]) {
        let end = start + length + 1;
        let line = &mut bytes[start..end];
        match line[0] {
            b'\r' | b'\n' => return, // the empty line
            b' ' | b'\t' if lines > 1 => {
                let line_end = if bytes[..start].ends_with(b"\r\n") {
                    2
                } else {
                    1
                };
                bytes[start - line_end..start].fill(b' ');
            }
            _ if lines > 0 => {
                let name_len = line.iter().take_while(|&&byte| is_token_byte(byte)).count();
                let blanks = line[name_len..]
                    .iter()
                    .take_while(|&&byte| byte == b' ' || byte == b'\t')
                    .count();
                if line[name_len + blanks] == b':' {
                    line[name_len..=name_len + blanks].rotate_right(1);
                }
            }
            _ => {}
        }
        lines += 1;
        start = end;
    }
}

/// Says what `httparse` did not like about `block`, in terms of the line at fault.
#[cold]
fn header_error(block: &[u8], error: httparse::Error) -> HeadError {
    match error {
        httparse::Error::TooManyHeaders => HeadError::TooManyHeaders,
        httparse::Error::HeaderName => block
            .split_inclusive(|&byte| byte == b'\n')
            .map(without_line_end)
            .find_map(|line| {
                let name_len = line
                    .iter()
                    .position(|&byte| !is_token_byte(byte))
                    .unwrap_or(line.len());
                match line.get(name_len) {
                    Some(b':') if name_len > 0 => None,
                    Some(b' ' | b'\t') if name_len == 0 => Some(HeadError::FoldedLine),
                    Some(b' ' | b'\t') if trim_ows(&line[name_len..]).starts_with(b":") => {
                        Some(HeadError::BlankBeforeColon)
                    }
                    _ => Some(HeadError::HeaderName),
                }
            })
            .unwrap_or(HeadError::HeaderName),
        _ => HeadError::HeaderValue,
    }
}

/// Why a head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HeadError {
    /// The first line is not a request line, or begins with what cannot begin one.
    StartLine,
    /// The method is not a token.
    Method,
    /// The method is longer than any that there is.
    MethodTooLong,
    /// The target is malformed, or of a form that the method does not take.
    Target,
    /// The target of a `CONNECT` is not `host:port`.
    ConnectTarget,
    /// The target is longer than the limit.
    TargetTooLong,
    /// The version is not `HTTP/` and two digits.
    Version,
    /// The version is well-formed, but its major number is not 1.
    VersionUnsupported,
    /// The first line is not a status line.
    StatusLine,
    /// Too many empty lines before the start line.
    EmptyLines,
    /// A line ends with LF without CR.
    LineFeedAlone,
    /// The head is longer than the limit.
    HeadTooLarge,
    /// There are more headers than the limit.
    TooManyHeaders,
    /// A header name is empty or not a token, or there is no colon.
    HeaderName,
    /// A header value has a control byte in it: NUL, a CR by itself, DEL…
    HeaderValue,
    /// A line begins with a blank: it continues another, as HTTP/1.0 allowed.
    FoldedLine,
    /// A blank between the name and the colon.
    BlankBeforeColon,
    /// `Host` is missing from an HTTP/1.1 request.
    HostMissing,
    /// `Host` is repeated.
    HostRepeated,
    /// `Host` is neither `host` nor `host:port`.
    Host,
    /// `Content-Length` is not a number.
    ContentLength,
    /// `Content-Length` is repeated.
    ContentLengthRepeated,
    /// `Content-Length` has more than 63 bits.
    ContentLengthOverflow,
    /// `Content-Length` beside `Transfer-Encoding`.
    LengthAndEncoding,
    /// `Transfer-Encoding` is not a list of codings.
    TransferEncoding,
    /// `Transfer-Encoding` in an HTTP/1.0 message.
    EncodingInHttp10,
    /// A transfer coding that we do not know.
    CodingUnknown,
    /// Something comes after `chunked`.
    ChunkedNotLast,
    /// `Connection` lists too many options.
    ConnectionOptions,
}

impl HeadError {
    /// The status that a server answers with. A proxy answers with 502 when the head was a
    /// response's.
    #[must_use]
    pub fn status(self) -> Status {
        match self {
            Self::TargetTooLong => Status::URI_TOO_LONG,
            Self::HeadTooLarge | Self::TooManyHeaders => Status::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::CodingUnknown | Self::MethodTooLong => Status::NOT_IMPLEMENTED,
            Self::VersionUnsupported => Status::HTTP_VERSION_NOT_SUPPORTED,
            _ => Status::BAD_REQUEST,
        }
    }

    /// What was wrong and what was expected, in a few words.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::StartLine => "bad request line: expected METHOD TARGET HTTP/1.1",
            Self::Method => "bad method: expected a token such as GET",
            Self::MethodTooLong => "unknown method: expected a shorter one such as GET",
            Self::Target => {
                "bad target: expected /PATH, http://HOST/PATH, or * with OPTIONS, percent-encoded"
            }
            Self::ConnectTarget => "bad target: expected HOST:PORT with CONNECT",
            Self::TargetTooLong => "target too long: expected a shorter one",
            Self::Version => "bad version: expected HTTP/1.1 or HTTP/1.0",
            Self::VersionUnsupported => "version not supported: expected HTTP/1.1 or HTTP/1.0",
            Self::StatusLine => "bad status line: expected HTTP/1.1 CODE REASON",
            Self::EmptyLines => "too many empty lines: expected a start line",
            Self::LineFeedAlone => "bad line end: expected CR LF, found LF alone",
            Self::HeadTooLarge => "head too large: expected fewer or shorter headers",
            Self::TooManyHeaders => "too many headers: expected fewer",
            Self::HeaderName => "bad header line: expected NAME: VALUE with a token for a name",
            Self::HeaderValue => "bad header value: expected no control bytes and CR LF at its end",
            Self::FoldedLine => "folded header line: expected each header on one line",
            Self::BlankBeforeColon => "blank before the colon: expected NAME: VALUE",
            Self::HostMissing => "Host missing: expected it in an HTTP/1.1 request",
            Self::HostRepeated => "Host repeated: expected it once",
            Self::Host => "bad Host: expected HOST or HOST:PORT",
            Self::ContentLength => "bad Content-Length: expected decimal digits only",
            Self::ContentLengthRepeated => "Content-Length repeated: expected it once",
            Self::ContentLengthOverflow => "Content-Length too large: expected less than 2^63",
            Self::LengthAndEncoding => {
                "Content-Length with Transfer-Encoding: expected one of them"
            }
            Self::TransferEncoding => "bad Transfer-Encoding: expected chunked",
            Self::EncodingInHttp10 => "Transfer-Encoding in HTTP/1.0: expected Content-Length",
            Self::CodingUnknown => "transfer coding unknown: expected chunked",
            Self::ChunkedNotLast => "bad Transfer-Encoding: expected chunked once, and last",
            Self::ConnectionOptions => "too many Connection options: expected at most 32",
        }
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for HeadError {}

/// Appends `HTTP/1.1 CODE REASON` and its line end. A server writes its own version, whatever the
/// request's was (RFC 9110 section 2.5).
pub fn put_status_line(out: &mut Vec<u8>, status: Status) {
    put_status_and_reason(out, status, status.reason().as_bytes());
}

/// The same with the reason that a response came with.
pub fn put_status_and_reason(out: &mut Vec<u8>, status: Status, reason: &[u8]) {
    out.extend_from_slice(b"HTTP/1.1 ");
    put_decimal(out, u64::from(status.code()));
    out.push(b' ');
    out.extend_from_slice(reason);
    out.extend_from_slice(b"\r\n");
}

/// Appends `METHOD TARGET HTTP/1.1` and its line end.
pub fn put_request_line(out: &mut Vec<u8>, method: Method<'_>, target: &str) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// Appends `NAME: VALUE` and its line end. `value` must not come from a peer unchecked; bytes that
/// would end the line are written as blanks, so that no value can add a header.
pub fn put_header(out: &mut Vec<u8>, name: &str, value: impl AsRef<[u8]>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    let start = out.len();
    out.extend_from_slice(value.as_ref());
    for byte in &mut out[start..] {
        if matches!(*byte, b'\r' | b'\n' | 0) {
            *byte = b' ';
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends `NAME: NUMBER` and its line end.
pub fn put_header_number(out: &mut Vec<u8>, name: &str, number: u64) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    put_decimal(out, number);
    out.extend_from_slice(b"\r\n");
}

/// Appends the empty line that ends a head.
pub fn put_head_end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The head and its length, or the error; `None` when more bytes are needed. Printed, so that
    /// outcomes compare.
    fn request(bytes: &[u8]) -> Result<Option<(RequestHead<'_>, usize)>, HeadError> {
        request_split(bytes, bytes.len().max(1))
    }

    /// As [`request`], with the bytes arriving `size` at a time.
    fn request_split(
        bytes: &[u8],
        size: usize,
    ) -> Result<Option<(RequestHead<'_>, usize)>, HeadError> {
        let limits = Limits {
            head_bytes_max: 2048,
            target_bytes_max: 256,
            headers_max: 40,
        };
        let mut scanner = HeadScanner::default();
        let mut shown = 0;
        while shown < bytes.len() {
            shown = (shown + size).min(bytes.len());
            if let Parsed::Complete(head, consumed) = scanner.request(&bytes[..shown], &limits)? {
                return Ok(Some((head, consumed)));
            }
        }
        Ok(None)
    }

    fn good(text: &str) -> RequestHead<'_> {
        match request(text.as_bytes()) {
            Ok(Some((head, consumed))) => {
                assert_eq!(consumed, text.len(), "{text:?}");
                head
            }
            other => panic!("{text:?}: {other:?}"),
        }
    }

    fn response<'b>(text: &'b str, method: Method<'_>) -> Result<ResponseHead<'b>, HeadError> {
        match HeadScanner::default().response(text.as_bytes(), &Limits::default(), method)? {
            Parsed::Complete(head, _) => Ok(head),
            Parsed::Partial => panic!("partial: {text:?}"),
        }
    }

    #[test]
    fn an_ordinary_request_is_taken_apart() {
        let head = good(
            "GET /a/b?c=d HTTP/1.1\r\nHost: localhost:6789\r\nUser-Agent: \t x \t\r\nACCEPT:*/*\r\nEmpty:\r\n\r\n",
        );
        assert_eq!(head.method, Method::Get);
        assert_eq!(
            head.target,
            Target::Origin {
                path: "/a/b",
                query: Some("c=d")
            }
        );
        assert_eq!(head.target_text, "/a/b?c=d");
        assert_eq!(
            head.host().map(|host| host.to_string()).as_deref(),
            Some("localhost:6789")
        );
        assert_eq!(head.body, BodyLength::None);
        assert!(head.keep_alive && !head.expect_continue);
        assert_eq!(head.headers.first("user-agent"), Some(&b"x"[..]));
        assert_eq!(head.headers.first("accept"), Some(&b"*/*"[..]));
        assert_eq!(head.headers.first("empty"), Some(&b""[..]));
        assert_eq!(head.headers.first("cookie"), None);
        assert_eq!(head.headers.iter().count(), 4);
    }

    #[test]
    fn what_follows_the_head_is_left_alone() {
        let bytes = b"\r\nPOST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabcGET";
        let Ok(Some((head, consumed))) = request(bytes) else {
            panic!()
        };
        assert_eq!(&bytes[consumed..], b"abcGET");
        assert_eq!(head.body, BodyLength::Length(3));
    }

    #[test]
    fn persistence_follows_version_and_connection() {
        let keep_alive = |version: &str, connection: &str| {
            good(&format!(
                "GET / HTTP/{version}\r\nHost: h\r\n{connection}\r\n"
            ))
            .keep_alive
        };
        assert!(keep_alive("1.1", ""));
        assert!(keep_alive(
            "1.2",
            "Connection: upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        ));
        assert!(!keep_alive("1.1", "Connection: keep-alive , , CLOSE\r\n"));
        assert!(!keep_alive("1.0", ""));
        assert!(keep_alive("1.0", "Connection: Keep-Alive\r\n"));
        assert!(!keep_alive(
            "1.0",
            "Connection: keep-alive\r\nConnection: close\r\n"
        ));
    }

    #[test]
    fn expectation_counts_with_a_body_in_1_1() {
        let post = |version, length| {
            good(&format!("POST / HTTP/{version}\r\nHost: h\r\nExpect: 100-Continue\r\nContent-Length: {length}\r\n\r\n"))
                .expect_continue
        };
        assert!(post("1.1", "1"));
        assert!(!post("1.1", "0"));
        assert!(!post("1.0", "1"));
        let unknown = |version, value| {
            good(&format!(
                "GET / HTTP/{version}\r\nHost: h\r\nExpect: {value}\r\n\r\n"
            ))
            .expect_unknown
        };
        assert!(unknown("1.1", "200-ok"));
        assert!(unknown("1.1", "100-continue, more"));
        assert!(!unknown("1.1", "100-Continue"));
        assert!(!unknown("1.1", ""));
        assert!(!unknown("1.0", "200-ok"));
    }

    #[test]
    fn targets_come_in_four_forms() {
        let target = |method: &str, target: &str| {
            request(format!("{method} {target} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).map(
                |head| {
                    let (head, _) = head.expect("complete");
                    format!("{:?}", head.target)
                },
            )
        };
        assert!(target("GET", "http://a.test:8080/x?y").is_ok_and(|t| t.starts_with("Absolute")));
        assert!(target("CONNECT", "a.test:443").is_ok_and(|t| t.starts_with("Authority")));
        assert!(target("OPTIONS", "*").is_ok_and(|t| t.starts_with("Asterisk")));
        assert!(target("GET", "/%c3%bc?[%7c]").is_ok_and(|t| t.starts_with("Origin")));
        assert_eq!(target("GET", "/\u{fc}"), Err(HeadError::Target));
        assert_eq!(target("GET", "/?{|}"), Err(HeadError::Target));
        assert_eq!(target("GET", "*"), Err(HeadError::Target));
        assert_eq!(target("GET", "a.test:443"), Err(HeadError::Target));
        assert_eq!(target("GET", "/a#b"), Err(HeadError::Target));
        assert_eq!(target("GET", "http://user@a.test/"), Err(HeadError::Target));
        assert_eq!(target("CONNECT", "a.test"), Err(HeadError::ConnectTarget));
        assert_eq!(target("CONNECT", "/"), Err(HeadError::ConnectTarget));
        assert_eq!(
            target("GET", &"/".repeat(257)),
            Err(HeadError::TargetTooLong)
        );
        assert_eq!(
            target("GET", &"/".repeat(1500)),
            Err(HeadError::TargetTooLong)
        );
    }

    #[test]
    fn a_request_line_is_too_long_by_its_method_or_its_target() {
        let limits = Limits {
            head_bytes_max: 2048,
            target_bytes_max: 256,
            ..Limits::default()
        };
        let method = |len| "M".repeat(len);
        let target = |len| "/".repeat(len);
        for (line, error) in [
            (method(9000), HeadError::MethodTooLong),
            (method(321), HeadError::MethodTooLong),
            (method(2047), HeadError::MethodTooLong),
            (method(300) + " /" + &target(19), HeadError::MethodTooLong),
            (method(54) + " " + &target(300), HeadError::MethodTooLong),
            (method(53) + " " + &target(300), HeadError::TargetTooLong),
            ("GET ".to_owned() + &target(9000), HeadError::TargetTooLong),
            ("GET ".to_owned() + &target(257), HeadError::TargetTooLong),
            (method(9000) + "\0", HeadError::MethodTooLong),
            ("M\0".to_owned() + &method(9000), HeadError::Method),
        ] {
            let bytes = (line.clone() + " HTTP/1.1\r\nHost: h\r\n\r\n").into_bytes();
            let whole = HeadScanner::default().request(&bytes, &limits).err();
            assert_eq!(whole, Some(error), "{} {line:.60}", line.len());
            let mut scanner = HeadScanner::default();
            let mut pieces = (0..=bytes.len()).map(|end| scanner.request(&bytes[..end], &limits));
            let found = pieces.find_map(|parsed| parsed.map(drop).err());
            assert_eq!(found, Some(error), "{} {line:.60}", line.len());
        }
        for method in [method(53), method(300)] {
            let bytes = format!("{method} / HTTP/1.1\r\nHost: h\r\n\r\n");
            let parsed = HeadScanner::default().request(bytes.as_bytes(), &limits);
            let Ok(Parsed::Complete(head, _)) = parsed else {
                panic!("{parsed:?}");
            };
            assert_eq!(head.method, Method::Other(&method));
        }
    }

    #[test]
    fn ambiguous_requests_are_refused_and_named() {
        use HeadError as E;
        let too_long = format!("GET / HTTP/1.1\r\nHost: h\r\nA: {}", "a".repeat(2100));
        let too_many = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "a: b\r\n".repeat(40));
        let options = format!(
            "GET / HTTP/1.1\r\nHost: h\r\nConnection: {}\r\n\r\n",
            "a,".repeat(33)
        );
        let starts = [
            ("\x16\x03\x01", E::StartLine),
            (" GET / HTTP/1.1\r\n\r\n", E::StartLine),
            ("GET\r\n\r\n", E::StartLine),
            ("GET /\r\n\r\n", E::StartLine),
            ("GET  / HTTP/1.1\r\n\r\n", E::StartLine),
            ("GET /  HTTP/1.1\r\n\r\n", E::Version),
            ("GET / HTTP/1.1 \r\n\r\n", E::Version),
            ("GET / http/1.1\r\n\r\n", E::Version),
            ("GET / HTTP/1.10\r\n\r\n", E::Version),
            ("GET / HTTP/11\r\n\r\n", E::Version),
            ("GET / HTTP/2.0\r\n\r\n", E::VersionUnsupported),
            ("PRI * HTTP/2.0\r\n\r\n", E::VersionUnsupported),
            ("GET / HTTP/0.9\r\n\r\n", E::VersionUnsupported),
            ("G@T / HTTP/1.1\r\n\r\n", E::Method),
            ("GET\t/ HTTP/1.1\r\n\r\n", E::Method),
            ("GET /\t HTTP/1.1\r\n\r\n", E::Target),
            ("GET /\0 HTTP/1.1\r\n\r\n", E::Target),
            ("GET /\r HTTP/1.1\r\n\r\n", E::Target),
            ("GET / HTTP/1.1\n", E::LineFeedAlone),
            ("GET / HTTP/1.1\r\nHost: h\n", E::LineFeedAlone),
            ("GET / HTTP/1.1\r\nHost: h\r\n\n", E::LineFeedAlone),
            ("\n", E::LineFeedAlone),
            ("\r\n\r\n\r\n\r\n\r\n", E::EmptyLines),
            ("GET / HTTP/1.1\r\n\r\n", E::HostMissing),
            (&too_long, E::HeadTooLarge),
            (&too_many, E::TooManyHeaders),
            (&options, E::ConnectionOptions),
        ];
        let lines = [
            ("Host: h", E::HostRepeated),
            (" folded", E::FoldedLine),
            ("A: b\r\n\tfolded", E::FoldedLine),
            ("A : b", E::BlankBeforeColon),
            ("A\t: b", E::BlankBeforeColon),
            ("A b: c", E::HeaderName),
            (": b", E::HeaderName),
            ("A", E::HeaderName),
            ("A\0: b", E::HeaderName),
            ("A\u{e9}: b", E::HeaderName),
            ("A: \0", E::HeaderValue),
            ("A: b\rc", E::HeaderValue),
            ("A: b\r", E::HeaderValue),
            ("A: \x7f", E::HeaderValue),
            (
                "Content-Length: 5\r\nTransfer-Encoding: chunked",
                E::LengthAndEncoding,
            ),
            (
                "Transfer-Encoding: chunked\r\nContent-Length: 0",
                E::LengthAndEncoding,
            ),
            (
                "Content-Length: 5\r\nContent-Length: 5",
                E::ContentLengthRepeated,
            ),
            (
                "Content-Length: 5\r\nContent-Length: 6",
                E::ContentLengthRepeated,
            ),
            ("Content-Length: 5, 5", E::ContentLength),
            ("Content-Length: +5", E::ContentLength),
            ("Content-Length: -5", E::ContentLength),
            ("Content-Length: 5 5", E::ContentLength),
            ("Content-Length: 0x5", E::ContentLength),
            ("Content-Length:", E::ContentLength),
            (
                "Content-Length: 9223372036854775808",
                E::ContentLengthOverflow,
            ),
            (
                "Content-Length: 99999999999999999999999",
                E::ContentLengthOverflow,
            ),
            (
                "Content-Length: 000000000000000000005",
                E::ContentLengthOverflow,
            ),
            ("Transfer-Encoding: gzip", E::CodingUnknown),
            ("Transfer-Encoding: gzip, chunked", E::CodingUnknown),
            ("Transfer-Encoding: identity", E::CodingUnknown),
            ("Transfer-Encoding: chunked;a=b", E::CodingUnknown),
            ("Transfer-Encoding: xchunked", E::CodingUnknown),
            ("Transfer-Encoding: chunked, gzip", E::ChunkedNotLast),
            ("Transfer-Encoding: chunked, chunked", E::ChunkedNotLast),
            (
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
                E::ChunkedNotLast,
            ),
            ("Transfer-Encoding: chunked,", E::ChunkedNotLast),
            ("Transfer-Encoding:", E::TransferEncoding),
            ("Transfer-Encoding: \"chunked\"", E::TransferEncoding),
            ("Transfer-Encoding: chunked\x0b", E::HeaderValue),
        ]
        .map(|(line, error)| {
            (
                format!("POST / HTTP/1.1\r\nHost: h\r\n{line}\r\n\r\n"),
                error,
            )
        });
        let hosts = [
            "", "a b", "a,b", "u@h", "h:x", "h:99999", "h/", "[::1", "h%61", "\u{fc}",
        ]
        .map(|host| (format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), E::Host));
        let named = b"GET http://h/ HTTP/1.1\r\nHost: \xc3\xbc\r\n\r\n";
        assert!(matches!(request(named), Ok(Some(_))), "the target counts");
        let all = starts
            .iter()
            .map(|(text, error)| ((*text).to_owned(), *error));
        for (text, error) in all.chain(lines).chain(hosts) {
            assert_eq!(request(text.as_bytes()).map(|_| ()), Err(error), "{text:?}");
            assert_eq!(
                request_split(text.as_bytes(), 1).map(|_| ()),
                Err(error),
                "bytewise {text:?}"
            );
        }
        let old = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(request(old).map(|_| ()), Err(E::EncodingInHttp10));
    }

    #[test]
    fn errors_have_the_status_that_fits() {
        assert_eq!(HeadError::Host.status(), Status::BAD_REQUEST);
        assert_eq!(HeadError::TargetTooLong.status(), Status::URI_TOO_LONG);
        assert_eq!(HeadError::MethodTooLong.status(), Status::NOT_IMPLEMENTED);
        assert_eq!(HeadError::TooManyHeaders.status().code(), 431);
        assert_eq!(HeadError::CodingUnknown.status().code(), 501);
        assert_eq!(HeadError::VersionUnsupported.status().code(), 505);
    }

    #[test]
    fn many_headers_within_the_limit_are_read() {
        let text = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "a: b\r\n".repeat(39));
        assert_eq!(good(&text).headers.all("A").count(), 39);
    }

    #[test]
    fn a_head_that_comes_byte_by_byte_is_searched_once() {
        let text = b"GET / HTTP/1.1\r\nHost: h\r\n";
        let mut scanner = HeadScanner::default();
        for shown in 0..=text.len() {
            assert!(matches!(
                scanner.request(&text[..shown], &Limits::default()),
                Ok(Parsed::Partial)
            ));
            assert_eq!(scanner.scanned, shown);
        }
    }

    #[test]
    fn a_response_body_ends_as_status_method_and_headers_say() {
        let body =
            |text: &str, method| response(text, method).map(|head| (head.body, head.keep_alive));
        use BodyLength as B;
        let get = Method::Get;
        assert_eq!(
            body("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", get),
            Ok((B::Length(5), true))
        );
        assert_eq!(
            body("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Method::Head),
            Ok((B::None, true))
        );
        assert_eq!(
            body("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", get),
            Ok((B::Chunked, true))
        );
        assert_eq!(
            body("HTTP/1.1 200 OK\r\n\r\n", get),
            Ok((B::UntilClose, false))
        );
        assert_eq!(
            body("HTTP/1.0 200 OK\nContent-Length: 5\n\n", get),
            Ok((B::Length(5), false))
        );
        assert_eq!(
            body(
                "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
                get
            ),
            Ok((B::None, true))
        );
        assert_eq!(body("HTTP/1.1 100\r\n\r\n", get), Ok((B::None, true)));
        assert_eq!(
            body("HTTP/1.1 200 \r\n\r\n", Method::Connect),
            Ok((B::None, true))
        );
        assert_eq!(
            body("HTTP/1.1 403 No\r\n\r\n", Method::Connect),
            Ok((B::UntilClose, false))
        );

        use HeadError as E;
        let both = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(
            body(&format!("HTTP/1.1 200 OK\r\n{both}"), get),
            Err(E::LengthAndEncoding)
        );
        assert_eq!(
            body(&format!("HTTP/1.1 304 No\r\n{both}"), get),
            Err(E::LengthAndEncoding)
        );
        for (text, error) in [
            ("HTTP/1.1 20 OK\r\n\r\n", E::StatusLine),
            ("HTTP/1.1 099 OK\r\n\r\n", E::StatusLine),
            ("HTTP/1.1 1000 OK\r\n\r\n", E::StatusLine),
            ("HTTP/1.1  200 OK\r\n\r\n", E::StatusLine),
            ("HTTP/1.1 200OK\r\n\r\n", E::StatusLine),
            ("HTTP/1.1 200 O\0K\r\n\r\n", E::StatusLine),
            ("HTTP/2.0 200 OK\r\n\r\n", E::VersionUnsupported),
            ("ICY 200 OK now\r\n\r\n", E::Version),
            ("\r\nHTTP/1.1 200 OK\r\n\r\n", E::EmptyLines),
            ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", E::FoldedLine),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                E::CodingUnknown,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
                E::ContentLengthRepeated,
            ),
        ] {
            assert_eq!(body(text, get), Err(error), "{text:?}");
        }
    }

    #[test]
    fn folds_and_blanks_before_colons_are_taken_out_of_a_response() {
        for (sent, mended) in [
            ("A: b\r\n c\r\n", "A: b   c\r\n"),
            (
                "A: b\r\n\t c\r\n \r\n\td\r\nE: f\r\n",
                "A: b  \t c      d\r\nE: f\r\n",
            ),
            ("A: b\n c\nD: e\n", "A: b  c\nD: e\n"),
            ("A : b\r\nC \t: d : e\r\n", "A:  b\r\nC:   d : e\r\n"),
            ("A :\r\n b\r\n", "A:    b\r\n"),
            ("A: b\r\n", "A: b\r\n"),
            // These stay wrong.
            (" a: b\r\n", " a: b\r\n"),
            ("A b: c\r\n", "A b: c\r\n"),
            ("A \r\n", "A \r\n"),
        ] {
            let rest = "\r\nX : y\r\n z";
            let mut bytes = format!("HTTP/1.1 200 OK\r\n{sent}{rest}").into_bytes();
            mend_response(&mut bytes);
            let text = String::from_utf8(bytes).expect("ASCII");
            let lines = text.strip_prefix("HTTP/1.1 200 OK\r\n").expect("as it was");
            let lines = lines.strip_suffix(rest).expect("what follows the head");
            assert_eq!(lines.len(), sent.len());
            let blank = |text: &str| text.replace('\t', " ");
            assert_eq!(blank(lines), blank(mended), "{sent:?}");
        }
        // What frames the body counts as it stands then.
        let head = |lines: &str| {
            let mut bytes = format!("HTTP/1.1 200 OK\r\n{lines}\r\n").into_bytes();
            mend_response(&mut bytes);
            let text = String::from_utf8(bytes).expect("ASCII");
            response(&text, Method::Get).map(|head| head.body)
        };
        assert_eq!(head("Content-Length :5\r\n"), Ok(BodyLength::Length(5)));
        assert_eq!(head("Content-Length:\r\n 5\r\n"), Ok(BodyLength::Length(5)));
        assert_eq!(
            head("Content-Length: 5\r\n 6\r\n"),
            Err(HeadError::ContentLength)
        );
        assert_eq!(
            head("Content-Length: 5\r\nTransfer-Encoding : chunked\r\n"),
            Err(HeadError::LengthAndEncoding)
        );
        assert_eq!(head(" folded: x\r\n"), Err(HeadError::FoldedLine));
    }

    #[test]
    fn a_proxy_forwards_end_to_end_headers_only() {
        let head = good(
            "GET / HTTP/1.1\r\nHost: h\r\nConnection: close, X-Hop, Host\r\nX-Hop: 1\r\nX-End: 2\r\nKeep-Alive: 5\r\n\
             Proxy-Connection: a\r\nProxy-Authorization: b\r\nTE: trailers\r\nTrailer: c\r\nUpgrade: h2c\r\n\
             HTTP2-Settings: d\r\nconnection: x-other\r\nX-Other: 3\r\n\r\n",
        );
        let names: Vec<_> = head.headers.end_to_end().map(|(name, _)| name).collect();
        assert_eq!(names, ["Host", "X-End", "Trailer"]);
        let lines = head.headers.end_to_end_lines().map(|(_, line)| line);
        let lines: Vec<&[u8]> = lines.collect();
        assert_eq!(lines, [&b"Host: h"[..], b"X-End: 2", b"Trailer: c"]);
    }

    #[test]
    fn as_many_options_as_connection_may_list_name_their_headers() {
        let option = |i: usize| format!("x-{}{}", "a".repeat(i % 7), i);
        let options: Vec<String> = (0..CONNECTION_OPTIONS_MAX).map(option).collect();
        let (first, rest) = options.split_at(5);
        let mut text = format!(
            "HTTP/1.1 200 OK\r\nConnection: ,,{}\r\n",
            first.join(", ,").to_uppercase()
        );
        let others = (CONNECTION_OPTIONS_MAX..2 * CONNECTION_OPTIONS_MAX).map(option);
        for name in options.iter().cloned().chain(others.clone()) {
            text += &format!("{name}: {name}\r\n");
        }
        text += &format!("connection: {}\r\n\r\n", rest.join(","));
        let head = response(&text, Method::Get).expect("a good head");
        let kept: Vec<_> = head.headers.end_to_end().map(|(name, _)| name).collect();
        assert_eq!(kept, others.collect::<Vec<_>>());
    }

    #[test]
    fn what_is_written_can_be_read_and_no_value_adds_a_line() {
        let mut out = Vec::new();
        put_status_line(&mut out, Status::NOT_FOUND);
        put_header_number(&mut out, "Content-Length", 7);
        put_header(&mut out, "X", "a\r\nY: b");
        put_head_end(&mut out);
        let text = String::from_utf8(out).expect("ASCII");
        let head = response(&text, Method::Get).expect("a good head");
        assert_eq!(
            (head.status, head.reason),
            (Status::NOT_FOUND, &b"Not Found"[..])
        );
        assert_eq!(head.body, BodyLength::Length(7));
        assert_eq!(head.headers.iter().count(), 2);
    }

    /// Heads put together from good and bad pieces, and now and then a byte changed.
    fn heads() -> impl Strategy<Value = Vec<u8>> {
        let pieces = prop::sample::select(vec![
            "GET / HTTP/1.1\r\n",
            "POST http://h/ HTTP/1.0\r\n",
            "Host: h\r\n",
            "Content-Length: 3\r\n",
            "A: b\n",
            "Transfer-Encoding: chunked\r\n",
            "Connection: close\r\n",
            "\r\n",
            " fold\r\n",
            "X",
            ":",
            " ",
            "\r",
            "\n",
            "\0",
        ]);
        (
            prop::collection::vec(pieces, 0..9),
            prop::option::of((any::<usize>(), any::<u8>())),
        )
            .prop_map(|(pieces, change)| {
                let mut bytes = pieces.concat().into_bytes();
                if let Some((at, byte)) = change
                    && !bytes.is_empty()
                {
                    let at = at % bytes.len();
                    bytes[at] = byte;
                }
                bytes
            })
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_outcome(bytes in heads(), size in 1usize..9) {
            let whole = request(&bytes).map(|head| format!("{head:?}"));
            prop_assert_eq!(request_split(&bytes, size).map(|head| format!("{head:?}")), whole);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = request(&bytes);
            let _ = HeadScanner::default().response(&bytes, &Limits::default(), Method::Get);
        }

        #[test]
        fn every_header_is_found_by_its_name(names in prop::collection::vec("[A-Za-z][A-Za-z0-9-]{0,12}", 1..20)) {
            let mut text = String::from("HTTP/1.1 204 No\r\n");
            for name in &names {
                text += &format!("X-{name}: {name}\r\n");
            }
            text += "\r\n";
            let head = response(&text, Method::Get).expect("a good head");
            for name in &names {
                let wanted = format!("x-{}", name.to_lowercase());
                prop_assert!(head.headers.all(&wanted).any(|value| value == name.as_bytes()));
            }
        }
    }
}
