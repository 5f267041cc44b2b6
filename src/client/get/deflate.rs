//! The content coding `deflate` undone, with and without the head and the checksum of zlib.
//!
//! RFC 9110, section 8.4.1.2 means the zlib format (RFC 1950) by it, and knows that some servers
//! send the bare compressed data (RFC 1951). The first two bytes tell which: those of zlib are a
//! multiple of 31 and name the method 8. Bare data begins so only with an empty or uncompressed
//! block that is not the last, its unused bits set in one certain way.

use std::io::{self, ErrorKind, Write};

use flate2::{Decompress, FlushDecompress, Status};

/// How much is unpacked at once.
const PIECE_BYTES: usize = 32 * 1024;

/// Unpacks what is written to it and hands that on.
pub(super) struct Deflate<W> {
    state: State,
    inner: W,
}

enum State {
    /// The first byte, if it came, waits for the second.
    Begins(Option<u8>),
    Runs(Box<Decompress>),
    Over,
}

impl<W: Write> Deflate<W> {
    pub(super) fn new(inner: W) -> Self {
        Self {
            state: State::Begins(None),
            inner,
        }
    }

    pub(super) fn inner(&self) -> &W {
        &self.inner
    }

    /// What it was made with, after the last byte.
    pub(super) fn finish(self) -> Result<W, (Self, io::Error)> {
        match self.state {
            State::Over => Ok(self.inner),
            State::Begins(_) | State::Runs(_) => {
                let error = io::Error::new(ErrorKind::UnexpectedEof, "its end is missing");
                Err((self, error))
            }
        }
    }

    /// Hands on what the bytes unpack to; answers how many of them were used, all but those behind
    /// the end.
    fn inflate(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let State::Runs(decompress) = &mut self.state else {
            return Ok(0);
        };
        let mut unpacked = Vec::with_capacity(PIECE_BYTES);
        let begin = decompress.total_in();
        loop {
            let used = (decompress.total_in() - begin) as usize;
            let status = decompress
                .decompress_vec(&bytes[used..], &mut unpacked, FlushDecompress::None)
                .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
            let had_room = unpacked.len() < unpacked.capacity();
            self.inner.write_all(&unpacked)?;
            unpacked.clear();
            let used = (decompress.total_in() - begin) as usize;
            if status == Status::StreamEnd {
                self.state = State::Over;
                return Ok(used);
            }
            if used == bytes.len() && had_room {
                return Ok(used);
            }
        }
    }
}

impl<W: Write> Write for Deflate<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(&next) = bytes.first() else {
            return Ok(0);
        };
        match self.state {
            State::Begins(None) => {
                self.state = State::Begins(Some(next));
                Ok(1)
            }
            State::Begins(Some(first)) => {
                let is_zlib = first & 0x0f == 8 && u16::from_be_bytes([first, next]) % 31 == 0;
                self.state = State::Runs(Box::new(Decompress::new(is_zlib)));
                self.inflate(&[first])?;
                self.inflate(bytes)
            }
            State::Runs(_) => self.inflate(bytes),
            State::Over => Err(io::Error::new(
                ErrorKind::InvalidData,
                "something stands behind its end",
            )),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, ZlibEncoder};

    use super::*;

    fn packed(text: &[u8], level: u32) -> [Vec<u8>; 2] {
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::new(level));
        let mut bare = DeflateEncoder::new(Vec::new(), Compression::new(level));
        zlib.write_all(text).unwrap();
        bare.write_all(text).unwrap();
        [zlib.finish().unwrap(), bare.finish().unwrap()]
    }

    fn unpacked(packed: &[u8], piece_bytes: usize) -> io::Result<Vec<u8>> {
        let mut deflate = Deflate::new(Vec::new());
        for piece in packed.chunks(piece_bytes) {
            deflate.write_all(piece)?;
        }
        deflate.finish().map_err(|(_, error)| error)
    }

    #[test]
    fn both_forms_come_back_however_they_are_cut() {
        let long: Vec<u8> = (0..200_000_u32)
            .map(|n| (n.wrapping_mul(n) >> 7) as u8)
            .collect();
        for text in [&b""[..], b"a", b"a text a text", &long, &[0; 100_000]] {
            for level in [0, 1, 9] {
                for packed in packed(text, level) {
                    for piece_bytes in [1, 2, 3, 1000, usize::MAX] {
                        assert!(unpacked(&packed, piece_bytes).unwrap() == text);
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_cut_or_goes_on_is_an_error() {
        for packed in packed(b"a text that is a text", 9) {
            for end in 0..packed.len() {
                let error = unpacked(&packed[..end], 7).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{end}");
            }
            let longer = [&packed[..], b"x"].concat();
            for piece_bytes in [1, usize::MAX] {
                assert_eq!(
                    unpacked(&longer, piece_bytes).unwrap_err().kind(),
                    ErrorKind::InvalidData
                );
            }
        }
        assert!(unpacked(b"\x78\x9cnonsense", 1).is_err());
    }
}
