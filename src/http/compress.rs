//! Content codings, written piece by piece; and which media types are worth it.
//!
//! RFC 9110 section 8.4.1; RFC 1952 (gzip), RFC 7932 (br), RFC 8878 and RFC 9659 (zstd).
//!
//! Rules:
//! 1. Each piece is coded to its end before the next is taken: an encoder that is left to gather
//!    input puts off the work of many pieces until one call does it all.
//! 2. The levels are for what is compressed once and sent often. None takes much longer than the
//!    others for a byte, so that bytes are a measure of time for all of them.
//!
//! What a level brings and costs, on web pages, scripts, JSON and logs in pieces of 16 KiB (one
//! core at about 3 GHz):
//!
//! | coding | level | ratio | MB/s |
//! |---|---|---|---|
//! | br | 5 | 10.3 | 73 |
//! | zstd | 6 | 9.9 | 160 |
//! | gzip | 5 | 8.9 | 95 |
//!
//! The next level of each has a ratio that is better by 0 to 4 per cent, and inputs made to be hard
//! take it two to four times as long. At these levels such inputs come to 15 (br), 60 (zstd) and
//! 20 (gzip) MB/s.
//!
//! Not here: which coding a client gets ([`super::negotiate`]), decoding, and how the work is
//! spread over time (`cache::compressed`).

use std::io::{self, Write};

use brotli::CompressorWriter;
use brotli::enc::BrotliEncoderParams;
use flate2::Compression;
use flate2::write::GzEncoder;
use zstd::stream::write::Encoder as ZstdEncoder;

use super::negotiate::Coding;

const BR_LEVEL: i32 = 5;
const ZSTD_LEVEL: i32 = 6; // its window is 2 MiB; a client may refuse more than 8 (RFC 9659)
const GZIP_LEVEL: u32 = 5;

/// The logarithm of brotli's window. One of 16 or less makes this encoder choose another, far
/// slower way to search.
const BR_WINDOW: i32 = 22;

/// Writes one content in one coding.
pub struct Encoder(Inner);

enum Inner {
    Br(Box<CompressorWriter<Vec<u8>>>),
    Zstd(ZstdEncoder<'static, Vec<u8>>),
    Gzip(Box<GzEncoder<Vec<u8>>>),
    Identity(Vec<u8>),
}

impl Encoder {
    /// An encoder for a content of `len` bytes.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn new(coding: Coding, len: u64) -> io::Result<Self> {
        Ok(Self(match coding {
            Coding::Br => {
                let parameters = BrotliEncoderParams {
                    quality: BR_LEVEL,
                    lgwin: BR_WINDOW,
                    size_hint: usize::try_from(len).unwrap_or(usize::MAX),
                    ..BrotliEncoderParams::default()
                };
                let out = CompressorWriter::with_params(Vec::new(), 4096, &parameters);
                Inner::Br(Box::new(out))
            }
            Coding::Zstd => {
                let mut out = ZstdEncoder::new(Vec::new(), ZSTD_LEVEL)?;
                out.set_pledged_src_size(Some(len))?;
                Inner::Zstd(out)
            }
            Coding::Gzip => {
                let out = GzEncoder::new(Vec::new(), Compression::new(GZIP_LEVEL));
                Inner::Gzip(Box::new(out))
            }
            Coding::Identity => Inner::Identity(Vec::new()),
        }))
    }

    /// Codes the next piece.
    ///
    /// # Errors
    /// There is no memory, or more came than was announced.
    pub fn push(&mut self, piece: &[u8]) -> io::Result<()> {
        let out: &mut dyn Write = match &mut self.0 {
            Inner::Br(out) => out,
            Inner::Zstd(out) => out,
            Inner::Gzip(out) => out,
            Inner::Identity(out) => out,
        };
        out.write_all(piece)?;
        out.flush()
    }

    /// The whole content in its coding.
    ///
    /// # Errors
    /// There is no memory, or less came than was announced.
    pub fn finish(self) -> io::Result<Vec<u8>> {
        match self.0 {
            Inner::Br(out) => Ok(out.into_inner()),
            Inner::Zstd(out) => out.finish(),
            Inner::Gzip(out) => out.finish(),
            Inner::Identity(out) => Ok(out),
        }
    }
}

/// Types beside `text/*`, `*+json` and `*+xml` of which compression makes less. Pictures, sound,
/// video, archives and web fonts are compressed by themselves.
const COMPRESSIBLE: [&str; 16] = [
    "application/javascript",
    "application/json",
    "application/ndjson",
    "application/rtf",
    "application/sql",
    "application/toml",
    "application/vnd.ms-fontobject",
    "application/wasm",
    "application/x-javascript",
    "application/x-sh",
    "application/xml",
    "font/otf",
    "font/ttf",
    "image/bmp",
    "image/vnd.microsoft.icon",
    "image/x-icon",
];

/// Whether contents of this type, a value of `Content-Type`, are worth a coding. `more`: types for
/// which somebody knows that they are.
#[must_use]
pub fn is_compressible(content_type: &str, more: &[String]) -> bool {
    let end = content_type.find(';').unwrap_or(content_type.len());
    let essence = content_type[..end].trim_ascii().as_bytes();
    let is = |known: &str| essence.eq_ignore_ascii_case(known.as_bytes());
    let begins = |with: &[u8]| {
        let start = essence.get(..with.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(with))
    };
    let ends = |with: &[u8]| {
        let start = essence.len().saturating_sub(with.len());
        essence[start..].eq_ignore_ascii_case(with)
    };
    begins(b"text/")
        || ends(b"+json")
        || ends(b"+xml")
        || COMPRESSIBLE.iter().any(|known| is(known))
        || more.iter().any(|known| is(known))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    const CODINGS: [Coding; 4] = Coding::ALL;

    /// A text of `len` bytes of words that rarely repeat.
    fn text(len: usize) -> Vec<u8> {
        let words = (0_u32..).flat_map(|i| {
            let word = i.wrapping_mul(2_654_435_761) >> 12;
            format!("{word:x} ").into_bytes()
        });
        words.take(len).collect()
    }

    fn coded(coding: Coding, content: &[u8], piece: usize) -> Vec<u8> {
        let mut encoder = Encoder::new(coding, content.len() as u64).expect("memory");
        for piece in content.chunks(piece) {
            encoder.push(piece).expect("memory");
        }
        encoder.finish().expect("all of it came")
    }

    fn decoded(coding: Coding, mut coded: &[u8]) -> Vec<u8> {
        let mut content = Vec::new();
        match coding {
            Coding::Br => brotli::Decompressor::new(coded, 4096).read_to_end(&mut content),
            Coding::Zstd => zstd::stream::copy_decode(coded, &mut content).map(|()| 0),
            Coding::Gzip => flate2::read::GzDecoder::new(coded).read_to_end(&mut content),
            Coding::Identity => coded.read_to_end(&mut content),
        }
        .expect("a whole coding");
        content
    }

    #[test]
    fn what_was_coded_is_what_is_decoded_however_it_was_cut() {
        for len in [0, 1, 2, 1000, 5000, 70_000] {
            let content = text(len);
            for coding in CODINGS {
                for piece in [1, 7, 999, 16 * 1024, 1 << 20] {
                    if len / piece > 1000 {
                        continue;
                    }
                    let coded = coded(coding, &content, piece);
                    let same = decoded(coding, &coded) == content;
                    assert!(same, "{coding:?}, {len} bytes in pieces of {piece}");
                }
            }
        }
    }

    #[test]
    fn a_piece_is_coded_before_the_next_comes() {
        let content = text(64 * 1024);
        for coding in CODINGS {
            let mut encoder = Encoder::new(coding, content.len() as u64).expect("memory");
            let mut before = 0;
            for piece in content.chunks(16 * 1024) {
                encoder.push(piece).expect("memory");
                let now = match &encoder.0 {
                    Inner::Br(out) => out.get_ref().len(),
                    Inner::Zstd(out) => out.get_ref().len(),
                    Inner::Gzip(out) => out.get_ref().len(),
                    Inner::Identity(out) => out.len(),
                };
                assert!(now > before + 1000, "{coding:?}: {before} to {now} bytes");
                before = now;
            }
            let rest = encoder.finish().expect("all of it came").len() - before;
            assert!(rest < 32, "{coding:?}: {rest} bytes at the end");
        }
    }

    #[test]
    fn a_zstd_content_that_is_not_as_long_as_announced_is_an_error() {
        let mut encoder = Encoder::new(Coding::Zstd, 10).expect("memory");
        let more = encoder.push(b"more than ten bytes").is_err() || encoder.finish().is_err();
        assert!(more);
        let mut encoder = Encoder::new(Coding::Zstd, 10).expect("memory");
        encoder.push(b"less").expect("memory");
        assert!(encoder.finish().is_err());
    }

    #[test]
    fn text_is_compressible_and_pictures_are_not() {
        for kind in [
            "text/html; charset=utf-8",
            "TEXT/plain",
            "text/javascript",
            "application/json;charset=utf-8",
            "application/manifest+json",
            "image/svg+xml",
            "application/wasm",
            "image/x-icon",
        ] {
            assert!(is_compressible(kind, &[]), "{kind}");
        }
        for kind in [
            "image/png",
            "video/mp4",
            "application/gzip",
            "font/woff2",
            "application/octet-stream",
            "application/pdf",
            "text",
            "json",
            "",
        ] {
            assert!(!is_compressible(kind, &[]), "{kind}");
        }
        let more = ["Application/X-Model".to_owned()];
        assert!(is_compressible("application/x-model; v=1", &more));
        assert!(!is_compressible("application/x-models", &more));
    }
}
