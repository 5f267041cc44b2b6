//! Unicode upper-casing of a byte stream that may be cut anywhere.
//!
//! Rules:
//! - Valid UTF-8 is upper-cased by the Unicode mapping without locale (`ß` becomes `SS`); bytes
//!   that are not UTF-8 pass unchanged.
//! - The output never depends on the cuts: the up to three bytes of a character that has not wholly
//!   arrived wait in [`Upper`]; at the end of the stream they pass unchanged.
//! - Pure ASCII never leaves its buffer: [`ascii_in_place`] is one pass without branches per byte.
//!
//! Why a cut cannot show: the mapping looks at one character at a time (`char::to_uppercase` has no
//! context, unlike lower-casing with its final sigma), and unchanged bytes stay the same bytes
//! however they are grouped.

use multiversion::multiversion;

/// No character grows by more than this factor: U+0390, two bytes, becomes three characters of two
/// bytes.
pub const GROWTH_MAX: usize = 3;

/// Upper-cases the ASCII letters in place and tells whether there was nothing but ASCII, so that
/// the work is done.
///
/// After `false` the slice may still go through [`Upper::push`] or [`datagram`]: upper-casing twice
/// is upper-casing once. The loop has no early exit on purpose: that is what lets the compiler use
/// vector instructions, the widest that the processor at hand has.
#[multiversion(targets("x86_64+avx2"))]
pub fn ascii_in_place(bytes: &mut [u8]) -> bool {
    let mut seen = 0;
    for byte in bytes.iter_mut() {
        seen |= *byte;
        *byte ^= u8::from(byte.is_ascii_lowercase()) << 5;
    }
    seen.is_ascii()
}

/// How many characters of a text are upper-cased one by one: the measure of its work.
pub fn characters_beyond_ascii(bytes: &[u8]) -> usize {
    let begins = |byte: &&u8| **byte >= 0xc0;
    bytes.iter().filter(begins).count()
}

/// The state between two pieces of a stream: the bytes of a character that has not wholly arrived.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Upper {
    pending: [u8; 4],
    pending_bytes: usize,
}

impl Upper {
    /// A stream's beginning.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether no bytes wait, so that a piece of pure ASCII may be answered by [`ascii_in_place`]
    /// alone.
    pub fn is_idle(&self) -> bool {
        self.pending_bytes == 0
    }

    /// Appends the upper-cased form of `bytes` to `out`: at most `GROWTH_MAX * (bytes.len() + 3)`
    /// bytes.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut bytes = bytes;
        while !self.is_idle() {
            let Some((&next, rest)) = bytes.split_first() else {
                return;
            };
            self.pending[self.pending_bytes] = next;
            match std::str::from_utf8(&self.pending[..=self.pending_bytes]) {
                Ok(character) => {
                    upper_text(character, out);
                    self.pending_bytes = 0;
                    bytes = rest;
                }
                Err(error) if error.error_len().is_none() => {
                    self.pending_bytes += 1;
                    bytes = rest;
                }
                // `next` does not continue what waited: that was no character. `next` itself may
                // begin one.
                Err(_) => self.finish(out),
            }
        }
        let end = bytes.as_ptr_range().end;
        for chunk in bytes.utf8_chunks() {
            upper_text(chunk.valid(), out);
            let invalid = chunk.invalid();
            if invalid.as_ptr_range().end == end && is_begun(invalid) {
                self.pending[..invalid.len()].copy_from_slice(invalid);
                self.pending_bytes = invalid.len();
            } else {
                out.extend_from_slice(invalid);
            }
        }
    }

    /// The end of the stream: bytes that still wait pass unchanged.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.pending[..self.pending_bytes]);
        self.pending_bytes = 0;
    }
}

/// Appends the upper-cased form of one whole datagram to `out`.
pub fn datagram(bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.utf8_chunks() {
        upper_text(chunk.valid(), out);
        out.extend_from_slice(chunk.invalid());
    }
}

/// Whether these bytes begin a character that more bytes could complete.
fn is_begun(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

/// Upper-cases text: runs of ASCII at once, other characters one by one.
fn upper_text(text: &str, out: &mut Vec<u8>) {
    let mut text = text;
    loop {
        let ascii_bytes = text
            .bytes()
            .position(|byte| !byte.is_ascii())
            .unwrap_or(text.len());
        let (ascii, rest) = text.split_at(ascii_bytes);
        let start = out.len();
        out.extend_from_slice(ascii.as_bytes());
        ascii_in_place(&mut out[start..]);
        let mut characters = rest.chars();
        let Some(character) = characters.next() else {
            return;
        };
        for upper in character.to_uppercase() {
            out.extend_from_slice(upper.encode_utf8(&mut [0; 4]).as_bytes());
        }
        text = characters.as_str();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        datagram(bytes, &mut out);
        out
    }

    fn in_pieces(bytes: &[u8], piece_bytes: usize) -> Vec<u8> {
        let (mut upper, mut out) = (Upper::new(), Vec::new());
        for piece in bytes.chunks(piece_bytes) {
            let before = out.len();
            upper.push(piece, &mut out);
            assert!(out.len() - before <= GROWTH_MAX * (piece.len() + 3));
        }
        upper.finish(&mut out);
        out
    }

    #[test]
    fn letters_that_grow() {
        assert_eq!(
            whole("straße ŉ ΐ ﬃ".as_bytes()),
            "STRASSE ʼN Ι\u{308}\u{301} FFI".as_bytes()
        );
    }

    #[test]
    fn no_character_grows_beyond_the_bound() {
        for character in '\0'..=char::MAX {
            let upper_bytes: usize = character.to_uppercase().map(char::len_utf8).sum();
            assert!(
                upper_bytes <= GROWTH_MAX * character.len_utf8(),
                "{character:?}"
            );
        }
    }

    #[test]
    fn broken_bytes_pass_and_do_not_swallow_what_follows() {
        assert_eq!(
            whole(b"a\xe2\x82b\xff\xc3\xa9\xc3"),
            b"A\xe2\x82B\xff\xc3\x89\xc3"
        );
        for piece_bytes in 1..8 {
            assert_eq!(
                in_pieces(b"a\xe2\x82b\xff\xc3\xa9\xc3", piece_bytes),
                b"A\xe2\x82B\xff\xc3\x89\xc3"
            );
            assert_eq!(
                in_pieces(b"\xf0\x9f\xf0\x90\x90\xa8z", piece_bytes),
                b"\xf0\x9f\xf0\x90\x90\x80Z"
            );
        }
    }

    #[test]
    fn ascii_in_place_tells_and_changes() {
        let mut bytes = *b"abz`{AZ09";
        assert!(ascii_in_place(&mut bytes));
        assert_eq!(bytes, *b"ABZ`{AZ09");
        let mut bytes = *b"a\xc3\xa9";
        assert!(!ascii_in_place(&mut bytes));
        assert!(ascii_in_place(&mut []));
    }

    proptest! {
        #[test]
        fn cuts_never_show(text in "\\PC{0,30}", noise in proptest::collection::vec((any::<u8>(), 0_usize..90), 0..6), piece_bytes in 1_usize..9) {
            let mut bytes = text.into_bytes();
            for (byte, place) in noise {
                bytes.insert(place.min(bytes.len()), byte);
            }
            let expected = whole(&bytes);
            prop_assert_eq!(&in_pieces(&bytes, piece_bytes), &expected);
            prop_assert_eq!(&in_pieces(&bytes, 1), &expected);
            ascii_in_place(&mut bytes);
            prop_assert_eq!(&in_pieces(&bytes, piece_bytes), &expected);
        }

        #[test]
        fn any_bytes_in_any_cut(bytes in proptest::collection::vec(any::<u8>(), 0..60), piece_bytes in 1_usize..9) {
            prop_assert_eq!(in_pieces(&bytes, piece_bytes), whole(&bytes));
        }
    }
}
