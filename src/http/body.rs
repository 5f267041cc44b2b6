//! Bodies: incremental decoders for the three ways in which a body can end, and the encoder for
//! chunks.
//!
//! RFC 9112 sections 6.3 (length), 7.1 (chunked), 7.1.2 (trailers), 11.2 (why strict).
//!
//! ```text
//! Length   payload… -> Done
//! Chunked  Size -> [Extension] -> SizeLf -> Data -> DataCr -> DataLf -> Size …
//!                                  └ size 0 -> TrailerStart -> [TrailerName -> TrailerValue -> TrailerLf]… -> EndLf -> Done
//! UntilEof payload… -> Done at the end of the stream
//! ```
//!
//! Rules:
//! 1. A decoder never holds bytes. It says how many of the bytes shown are framing and how many
//!    behind them are payload; the caller forwards and consumes them.
//! 2. Every line of the chunked coding ends with CR LF; a lone LF or CR is an error. So are blanks
//!    where the grammar has none, a size of no digits, and anything beyond the bounds below.
//! 3. Every byte shown to a decoder is used, until it is done. So there is nothing to be scanned
//!    twice.
//!
//! Not here: what trailers mean. They are validated and passed over: nothing of ours uses one, and
//! RFC 9110 section 6.5.1 forbids merging them into the head unasked. Who passes them on says so,
//! and gets none that is dangerous there.

use super::head::BodyLength;
use super::is_token_byte;
use std::fmt;

/// The longest chunk extension, in bytes, that one chunk may carry.
pub const CHUNK_EXTENSION_BYTES_MAX: u32 = 256;

/// The bytes of chunk extensions that one body may carry in all. Without this bound, a sender of
/// one-byte chunks would get a server to read many times more than it counts.
pub const BODY_EXTENSION_BYTES_MAX: u32 = 16 * 1024;

/// The longest trailer section in bytes.
pub const TRAILER_BYTES_MAX: u32 = 8 * 1024;

/// The most hexadecimal digits of a chunk size, leading zeros included.
const CHUNK_SIZE_DIGITS_MAX: u8 = 16;

/// Names that no trailer may have (RFC 9110 section 6.5.1), by their hash: whoever adds trailers to
/// the head would change what the head was checked for. A name that happens to have such a hash is
/// refused as well; none of these ever passes.
const NEVER_TRAILERS: [u32; 13] = [
    name_hash(b"authorization"),
    name_hash(b"connection"),
    name_hash(b"content-length"),
    name_hash(b"cookie"),
    name_hash(b"expect"),
    name_hash(b"host"),
    name_hash(b"keep-alive"),
    name_hash(b"max-forwards"),
    name_hash(b"proxy-authorization"),
    name_hash(b"set-cookie"),
    name_hash(b"te"),
    name_hash(b"transfer-encoding"),
    name_hash(b"upgrade"),
];

/// The offset basis and the prime of FNV-1a in 32 bits.
const NO_NAME_HASH: u32 = 0x811c_9dc5;
const HASH_PRIME: u32 = 0x0100_0193;

/// The hash of a name with one more byte, whatever its case.
const fn hash_on(hash: u32, byte: u8) -> u32 {
    (hash ^ byte.to_ascii_lowercase() as u32).wrapping_mul(HASH_PRIME)
}

const fn name_hash(name: &[u8]) -> u32 {
    let (mut hash, mut at) = (NO_NAME_HASH, 0);
    while at < name.len() {
        hash = hash_on(hash, name[at]);
        at += 1;
    }
    hash
}

/// The last chunk with an empty trailer section: the end of a chunked body.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// What ends the payload of each chunk.
pub const CHUNK_END: &[u8] = b"\r\n";

/// What the bytes shown to a decoder are: first `framing` bytes, then `payload` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Step {
    /// Bytes of framing at the start of what was shown. Skip them, but for trailers that are passed
    /// on.
    pub framing: usize,
    /// Bytes of payload behind the framing.
    pub payload: usize,
    /// Whether the body ends with this step. What follows belongs to the next message.
    pub done: bool,
}

impl Step {
    /// How many bytes the caller is to consume.
    #[must_use]
    pub fn consumed(self) -> usize {
        self.framing + self.payload
    }
}

/// Decodes one body. States own their data; `Done` is final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyDecoder {
    /// `left` bytes of payload are still to come; more than none.
    Length {
        /// Bytes still to come.
        left: u64,
    },
    /// Chunked transfer coding.
    Chunked(Chunked),
    /// Payload until the peer ends the stream.
    UntilEof,
    /// The body was complete.
    Done,
}

impl BodyDecoder {
    /// The decoder for a body that the head has described.
    #[must_use]
    pub fn new(length: BodyLength) -> Self {
        match length {
            BodyLength::None | BodyLength::Length(0) => Self::Done,
            BodyLength::Length(left) => Self::Length { left },
            BodyLength::Chunked => Self::Chunked(Chunked::new()),
            BodyLength::UntilClose => Self::UntilEof,
        }
    }

    /// The same for a body that is passed on with its trailers: it has none that may stand in a
    /// head only. Who passes over trailers need not care.
    #[must_use]
    pub fn forwarding(length: BodyLength) -> Self {
        match length {
            BodyLength::Chunked => Self::Chunked(Chunked {
                forwards: true,
                ..Chunked::new()
            }),
            other => Self::new(other),
        }
    }

    /// Whether the body is complete.
    #[must_use]
    pub fn is_done(&self) -> bool {
        *self == Self::Done
    }

    /// Bytes of payload that are still to come in the present chunk; `None` outside of one.
    #[must_use]
    pub fn chunk_left(&self) -> Option<u64> {
        match self {
            Self::Chunked(Chunked {
                state: State::Data { left },
                ..
            }) => Some(*left),
            _ => None,
        }
    }

    /// How many of the next bytes are payload for certain, whatever they are: all to the end of the
    /// present chunk, or of a body that is not chunked.
    #[must_use]
    pub fn payload_ahead(&self) -> u64 {
        match self {
            Self::Length { left } => *left,
            Self::UntilEof => u64::MAX,
            Self::Chunked(_) => self.chunk_left().unwrap_or(0),
            Self::Done => 0,
        }
    }

    /// Whether the last chunk was seen and its trailers, or the empty line behind them, come next.
    /// A step ends where they begin.
    #[must_use]
    pub fn is_in_trailers(&self) -> bool {
        matches!(self, Self::Chunked(chunked) if chunked.is_in_trailers())
    }

    /// Takes note of `bytes`, the next ones of the stream, as far as [`Step::consumed`] says; the
    /// rest is to be shown again. A caller that has room for less shows less. An empty step that is
    /// not done asks for more bytes, and comes only when `bytes` is empty.
    ///
    /// # Errors
    /// The framing is broken; the connection cannot be used any more.
    pub fn step(&mut self, bytes: &[u8]) -> Result<Step, BodyError> {
        let step = match self {
            Self::Length { left } => {
                let payload = clamp(*left, bytes.len());
                *left -= payload as u64;
                Step {
                    framing: 0,
                    payload,
                    done: *left == 0,
                }
            }
            Self::Chunked(chunked) => chunked.step(bytes)?,
            Self::UntilEof => Step {
                framing: 0,
                payload: bytes.len(),
                done: false,
            },
            Self::Done => Step {
                framing: 0,
                payload: 0,
                done: true,
            },
        };
        if step.done {
            *self = Self::Done;
        }
        Ok(step)
    }

    /// Takes note that the peer has ended the stream, after all its bytes have been through
    /// [`Self::step`].
    ///
    /// # Errors
    /// [`BodyError::Truncated`] when the body had to be longer: what was received is not the whole.
    pub fn end_of_stream(&mut self) -> Result<(), BodyError> {
        match self {
            Self::Done => Ok(()),
            Self::UntilEof => {
                *self = Self::Done;
                Ok(())
            }
            Self::Length { .. } | Self::Chunked(_) => Err(BodyError::Truncated),
        }
    }
}

fn clamp(left: u64, available: usize) -> usize {
    usize::try_from(left).map_or(available, |left| left.min(available))
}

/// The decoder of the chunked transfer coding (RFC 9112 section 7.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunked {
    state: State,
    /// What is left of [`BODY_EXTENSION_BYTES_MAX`].
    extension_bytes_left: u32,
    /// The trailers go on to somebody else.
    forwards: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size {
        size: u64,
        digits: u8,
    },
    Extension {
        size: u64,
        at: Extension,
        bytes_left: u32,
    },
    SizeLf {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    TrailerStart {
        bytes_left: u32,
    },
    TrailerName {
        bytes_left: u32,
        /// Of what there is of the name, as [`name_hash`] makes it.
        hash: u32,
    },
    TrailerValue {
        bytes_left: u32,
    },
    TrailerLf {
        bytes_left: u32,
    },
    EndLf,
    Done,
}

/// Where in `*( BWS ";" BWS name [ BWS "=" BWS ( token | quoted-string ) ] )` the decoder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extension {
    /// Blanks before a `;`, which must come.
    Semicolon,
    /// After `;`: blanks or the first byte of a name.
    NameStart,
    Name,
    /// Blanks after a name: `=` or `;` must come.
    NameEnd,
    /// After `=`: blanks or the first byte of a value.
    ValueStart,
    Token,
    Quoted,
    /// After `\` in a quoted string.
    Escaped,
    /// After the closing quote.
    QuotedEnd,
}

impl Default for Chunked {
    fn default() -> Self {
        Self::new()
    }
}

impl Chunked {
    /// A decoder that waits for the first chunk.
    #[must_use]
    pub fn new() -> Self {
        let state = State::Size { size: 0, digits: 0 };
        Self {
            state,
            extension_bytes_left: BODY_EXTENSION_BYTES_MAX,
            forwards: false,
        }
    }

    /// As [`BodyDecoder::step`].
    ///
    /// # Errors
    /// The framing is broken.
    pub fn step(&mut self, bytes: &[u8]) -> Result<Step, BodyError> {
        let mut framing = 0;
        loop {
            if let State::Data { left } = self.state {
                let payload = clamp(left, bytes.len() - framing);
                self.state = match left - payload as u64 {
                    0 => State::DataCr,
                    left => State::Data { left },
                };
                return Ok(Step {
                    framing,
                    payload,
                    done: false,
                });
            }
            if self.state == State::Done {
                return Ok(Step {
                    framing,
                    payload: 0,
                    done: true,
                });
            }
            let in_trailers = self.is_in_trailers();
            let Some(&byte) = bytes.get(framing) else {
                return Ok(Step {
                    framing,
                    payload: 0,
                    done: false,
                });
            };
            self.state = self.after(byte)?;
            framing += 1;
            if self.is_in_trailers() && !in_trailers {
                return Ok(Step {
                    framing,
                    payload: 0,
                    done: false,
                });
            }
        }
    }

    fn is_in_trailers(&self) -> bool {
        matches!(
            self.state,
            State::TrailerStart { .. }
                | State::TrailerName { .. }
                | State::TrailerValue { .. }
                | State::TrailerLf { .. }
                | State::EndLf
        )
    }

    /// The state that follows when `byte`, a byte of framing, is read in the present one: the table
    /// of the whole grammar.
    fn after(&mut self, byte: u8) -> Result<State, BodyError> {
        Ok(match (self.state, byte) {
            (State::Size { digits: 1.., size }, b'\r') => State::SizeLf { size },
            (State::Size { digits: 1.., size }, b';' | b' ' | b'\t') => {
                let at = if byte == b';' {
                    Extension::NameStart
                } else {
                    Extension::Semicolon
                };
                self.extension(size, at, CHUNK_EXTENSION_BYTES_MAX)?
            }
            (State::Size { size, digits }, _) => {
                let digit = (byte as char).to_digit(16).ok_or(BodyError::ChunkSize)?;
                if digits == CHUNK_SIZE_DIGITS_MAX || size >> 59 != 0 {
                    return Err(BodyError::ChunkSizeOverflow);
                }
                State::Size {
                    size: size << 4 | u64::from(digit),
                    digits: digits + 1,
                }
            }
            (State::Extension { size, at, .. }, b'\r') if at.may_end() => State::SizeLf { size },
            (
                State::Extension {
                    size,
                    at,
                    bytes_left,
                },
                _,
            ) => {
                let at = at.after(byte).ok_or(BodyError::ChunkExtension)?;
                self.extension(size, at, bytes_left)?
            }
            (State::SizeLf { size: 0 }, b'\n') => State::TrailerStart {
                bytes_left: TRAILER_BYTES_MAX,
            },
            (State::SizeLf { size }, b'\n') => State::Data { left: size },
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size { size: 0, digits: 0 },
            (State::TrailerStart { .. }, b'\r') => State::EndLf,
            (State::TrailerStart { bytes_left }, _) if is_token_byte(byte) => State::TrailerName {
                bytes_left: charge(bytes_left)?,
                hash: hash_on(NO_NAME_HASH, byte),
            },
            (State::TrailerName { hash, .. }, b':')
                if self.forwards && NEVER_TRAILERS.contains(&hash) =>
            {
                return Err(BodyError::NeverTrailer);
            }
            (State::TrailerName { bytes_left, .. }, b':') => State::TrailerValue {
                bytes_left: charge(bytes_left)?,
            },
            (State::TrailerName { bytes_left, hash }, _) if is_token_byte(byte) => {
                State::TrailerName {
                    bytes_left: charge(bytes_left)?,
                    hash: hash_on(hash, byte),
                }
            }
            (State::TrailerValue { bytes_left }, b'\r') => State::TrailerLf { bytes_left },
            (State::TrailerValue { bytes_left }, b'\t' | b' '..=b'~' | 0x80..) => {
                State::TrailerValue {
                    bytes_left: charge(bytes_left)?,
                }
            }
            (State::TrailerLf { bytes_left }, b'\n') => State::TrailerStart { bytes_left },
            (State::EndLf, b'\n') => State::Done,
            (State::SizeLf { .. } | State::DataCr | State::DataLf | State::EndLf, _) => {
                return Err(BodyError::LineEnd);
            }
            (
                State::TrailerStart { .. }
                | State::TrailerName { .. }
                | State::TrailerValue { .. }
                | State::TrailerLf { .. },
                _,
            ) => return Err(BodyError::Trailer),
            (State::Data { .. } | State::Done, _) => {
                unreachable!("step handles the states without framing")
            }
        })
    }

    /// The state for one more byte of chunk extension, charged to both bounds.
    fn extension(&mut self, size: u64, at: Extension, bytes_left: u32) -> Result<State, BodyError> {
        let too_long = BodyError::ChunkExtensionTooLong;
        self.extension_bytes_left = self.extension_bytes_left.checked_sub(1).ok_or(too_long)?;
        let bytes_left = bytes_left.checked_sub(1).ok_or(too_long)?;
        Ok(State::Extension {
            size,
            at,
            bytes_left,
        })
    }
}

fn charge(bytes_left: u32) -> Result<u32, BodyError> {
    bytes_left.checked_sub(1).ok_or(BodyError::TrailerTooLong)
}

impl Extension {
    /// Whether the line may end here.
    fn may_end(self) -> bool {
        matches!(self, Self::Name | Self::Token | Self::QuotedEnd)
    }

    /// The place after `byte`, or `None` where the grammar does not allow it.
    fn after(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (
                Self::Semicolon | Self::NameStart | Self::NameEnd | Self::ValueStart,
                b' ' | b'\t',
            ) => self,
            (Self::Name, b' ' | b'\t') => Self::NameEnd,
            (Self::Token | Self::QuotedEnd, b' ' | b'\t') => Self::Semicolon,
            (
                Self::Semicolon | Self::Name | Self::NameEnd | Self::Token | Self::QuotedEnd,
                b';',
            ) => Self::NameStart,
            (Self::Name | Self::NameEnd, b'=') => Self::ValueStart,
            (Self::ValueStart, b'"') => Self::Quoted,
            (Self::NameStart | Self::Name, _) if is_token_byte(byte) => Self::Name,
            (Self::ValueStart | Self::Token, _) if is_token_byte(byte) => Self::Token,
            (Self::Quoted, b'"') => Self::QuotedEnd,
            (Self::Quoted, b'\\') => Self::Escaped,
            (Self::Quoted | Self::Escaped, b'\t' | b' '..=b'~' | 0x80..) => Self::Quoted,
            _ => return None,
        })
    }
}

/// The size line of a chunk, on the stack.
#[derive(Debug, Clone, Copy)]
pub struct ChunkHead {
    text: [u8; 18],
    start: usize,
}

impl ChunkHead {
    /// The line that announces `size` bytes of payload. After the payload comes [`CHUNK_END`]. A
    /// size of zero would end the body, so `size` must be more.
    #[must_use]
    pub fn new(size: u64) -> Self {
        assert!(size > 0, "an empty chunk would end the body");
        let mut text = *b"0000000000000000\r\n";
        let mut start = 16;
        let mut left = size;
        while left > 0 {
            start -= 1;
            text[start] = b"0123456789abcdef"[(left & 15) as usize];
            left >>= 4;
        }
        Self { text, start }
    }

    /// The bytes of the line.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[self.start..]
    }
}

/// Why a body is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyError {
    /// No hexadecimal digit where a chunk size must be.
    ChunkSize,
    /// A chunk size of more than 63 bits or more than 16 digits.
    ChunkSizeOverflow,
    /// A malformed chunk extension.
    ChunkExtension,
    /// More chunk extension than we read.
    ChunkExtensionTooLong,
    /// CR LF was due and something else came.
    LineEnd,
    /// A malformed trailer line.
    Trailer,
    /// Of a body that is passed on, a trailer of a name that decides about framing, routing,
    /// credentials or cookies.
    NeverTrailer,
    /// More trailers than we read.
    TrailerTooLong,
    /// The stream ended before the body did.
    Truncated,
}

impl BodyError {
    /// What was wrong and what was expected, in a few words.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::ChunkSize => "bad chunk size: expected hexadecimal digits",
            Self::ChunkSizeOverflow => {
                "chunk size too large: expected at most 16 digits and 63 bits"
            }
            Self::ChunkExtension => "bad chunk extension: expected ;name or ;name=value",
            Self::ChunkExtensionTooLong => "chunk extension too long: expected at most 256 bytes",
            Self::LineEnd => "bad line end in chunked body: expected CR LF",
            Self::Trailer => "bad trailer: expected NAME:VALUE and CR LF",
            Self::NeverTrailer => "bad trailer: expected none that may stand in a head only",
            Self::TrailerTooLong => "trailers too long: expected at most 8192 bytes",
            Self::Truncated => "body ended early: expected all of its announced bytes",
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for BodyError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a decoder makes of a stream: payload, framing in between dropped, and how it ended.
    #[derive(Debug, PartialEq)]
    struct Outcome {
        payload: Vec<u8>,
        raw: Vec<u8>,
        end: Result<bool, BodyError>,
    }

    /// Shows `wire` to a decoder, at most `size` more bytes at a time.
    fn decode(length: BodyLength, wire: &[u8], size: usize) -> Outcome {
        let mut decoder = BodyDecoder::new(length);
        let (mut payload, mut used, mut shown) = (Vec::new(), 0, 0);
        let end = loop {
            match decoder.step(&wire[used..shown]) {
                Err(error) => break Err(error),
                Ok(step) => {
                    payload.extend_from_slice(&wire[used + step.framing..used + step.consumed()]);
                    used += step.consumed();
                    if step.done {
                        break Ok(true);
                    }
                    if step.consumed() == 0 {
                        assert_eq!(used, shown, "an empty step asks for more");
                        if shown == wire.len() {
                            break Ok(false);
                        }
                        shown = (shown + size).min(wire.len());
                    }
                }
            }
        };
        let raw = if end.is_ok() {
            wire[..used].to_vec()
        } else {
            Vec::new()
        };
        Outcome { payload, raw, end }
    }

    fn chunked(wire: &[u8]) -> Outcome {
        let whole = decode(BodyLength::Chunked, wire, usize::MAX / 2);
        assert_eq!(
            decode(BodyLength::Chunked, wire, 1),
            whole,
            "the same byte by byte"
        );
        whole
    }

    #[test]
    fn chunks_come_out_and_the_next_message_is_left_alone() {
        let wire =
            b"4\r\nwiki\r\n00A;x;y=z ; q=\"a\\\"\"\r\n0123456789\r\n0\r\nT: v\r\nU:\r\n\r\nGET /";
        let outcome = chunked(wire);
        assert_eq!(outcome.end, Ok(true));
        assert_eq!(outcome.payload, b"wiki0123456789");
        assert_eq!(outcome.raw, &wire[..wire.len() - 5]);
    }

    #[test]
    fn one_step_reports_framing_then_payload_by_reference() {
        let mut decoder = BodyDecoder::new(BodyLength::Chunked);
        let wire = b"5\r\nhello\r\n0\r\n\r\n";
        assert_eq!(
            decoder.step(wire),
            Ok(Step {
                framing: 3,
                payload: 5,
                done: false
            })
        );
        for (at, framing, done) in [(8, 5, false), (13, 2, true)] {
            assert_eq!(
                decoder.is_in_trailers(),
                done,
                "a step ends where they begin"
            );
            let payload = 0;
            assert_eq!(
                decoder.step(&wire[at..]),
                Ok(Step {
                    framing,
                    payload,
                    done
                })
            );
        }
        assert!(decoder.is_done());
    }

    #[test]
    fn broken_framing_is_refused_and_named() {
        use BodyError as E;
        let long_extension = format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(300));
        let long_trailer = format!("0\r\na: {}\r\n\r\n", "t".repeat(9000));
        let many_extensions = format!(
            "{}0\r\n\r\n",
            format!("1;{}\r\nx\r\n", "e".repeat(200)).repeat(100)
        );
        for (wire, error) in [
            ("\r\n", E::ChunkSize),
            (";a\r\n", E::ChunkSize),
            ("+5\r\nhello\r\n", E::ChunkSize),
            ("-1\r\n", E::ChunkSize),
            ("0x5\r\nhello\r\n", E::ChunkSize),
            (" 5\r\nhello\r\n", E::ChunkSize),
            ("5\nhello\n", E::ChunkSize),
            ("5\rhello", E::LineEnd),
            ("5\r\nhello\n0\r\n\r\n", E::LineEnd),
            ("5\r\nhelloo\r\n", E::LineEnd),
            ("5\r\nhello\rX", E::LineEnd),
            ("5 \r\nhello\r\n", E::ChunkExtension),
            ("5;\r\nhello\r\n", E::ChunkExtension),
            ("5;a\nhello\r\n", E::ChunkExtension),
            ("5;a=\r\nhello\r\n", E::ChunkExtension),
            ("5;a=\"\n\"\r\nhello\r\n", E::ChunkExtension),
            ("5;a=\"\r\n\"\r\nhello\r\n", E::ChunkExtension),
            ("5;a\rb\r\nhello\r\n", E::LineEnd),
            ("8000000000000000\r\n", E::ChunkSizeOverflow),
            ("FFFFFFFFFFFFFFFF\r\n", E::ChunkSizeOverflow),
            ("00000000000000005\r\n", E::ChunkSizeOverflow),
            ("10000000000000005\r\n", E::ChunkSizeOverflow),
            ("0\r\n\n", E::Trailer),
            ("0\r\nbad trailer\r\n\r\n", E::Trailer),
            ("0\r\n: x\r\n\r\n", E::Trailer),
            ("0\r\na : x\r\n\r\n", E::Trailer),
            ("0\r\n folded\r\n\r\n", E::Trailer),
            ("0\r\na: x\n\r\n", E::Trailer),
            ("0\r\na: \0\r\n\r\n", E::Trailer),
            ("0\r\n\rX", E::LineEnd),
            (&long_extension, E::ChunkExtensionTooLong),
            (&many_extensions, E::ChunkExtensionTooLong),
            (&long_trailer, E::TrailerTooLong),
        ] {
            assert_eq!(chunked(wire.as_bytes()).end, Err(error), "{wire:.60?}");
        }
        let largest = b"7fffffffffffffff\r\nx";
        assert_eq!(chunked(largest).payload, b"x");
    }

    #[test]
    fn a_length_takes_so_many_bytes_and_no_more() {
        let outcome = decode(BodyLength::Length(3), b"abcdef", 2);
        assert_eq!(
            (outcome.payload.as_slice(), outcome.end),
            (&b"abc"[..], Ok(true))
        );
        assert!(BodyDecoder::new(BodyLength::Length(0)).is_done());
        assert!(BodyDecoder::new(BodyLength::None).is_done());
    }

    #[test]
    fn the_end_of_the_stream_ends_one_kind_and_truncates_the_others() {
        assert_eq!(
            BodyDecoder::new(BodyLength::Length(1)).end_of_stream(),
            Err(BodyError::Truncated)
        );
        assert_eq!(
            BodyDecoder::new(BodyLength::Chunked).end_of_stream(),
            Err(BodyError::Truncated)
        );
        let mut decoder = BodyDecoder::new(BodyLength::UntilClose);
        assert_eq!(
            decoder.step(b"abc"),
            Ok(Step {
                framing: 0,
                payload: 3,
                done: false
            })
        );
        assert_eq!(decoder.end_of_stream(), Ok(()));
        assert!(decoder.is_done());
    }

    #[test]
    fn chunk_heads_are_minimal_hexadecimal() {
        for size in [1, 15, 16, 255, 4096, u64::MAX] {
            assert_eq!(
                ChunkHead::new(size).as_bytes(),
                format!("{size:x}\r\n").as_bytes()
            );
        }
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8)) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend_from_slice(ChunkHead::new(chunk.len() as u64).as_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(CHUNK_END);
            }
            wire.extend_from_slice(LAST_CHUNK);
            let outcome = chunked(&wire);
            prop_assert_eq!(outcome.end, Ok(true));
            prop_assert_eq!(outcome.payload, chunks.concat());
            prop_assert_eq!(outcome.raw, wire);
        }

        #[test]
        fn any_split_gives_the_same_outcome(
            wire in prop::collection::vec(prop::sample::select(&b"0123af;=\"\\ \t\r\n\r\n:xX\0\xff"[..]), 0..60),
            size in 1usize..7,
        ) {
            prop_assert_eq!(decode(BodyLength::Chunked, &wire, size), chunked(&wire));
        }
    }
}
