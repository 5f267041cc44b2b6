//! Where a body goes, and its content codings undone on the way there (RFC 9110, section 8.4).

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use flate2::write::MultiGzDecoder;

use super::GetArgs;
use super::deflate::Deflate;
use crate::client::output::{Output, write_failure};
use crate::client::units::Size;
use crate::client::{Exit, Failure};

/// The longest body that `--json` keeps in memory unless `--max-size` says otherwise, in bytes.
const JSON_BODY_BYTES_MAX: u64 = 64 << 20;

/// The most codings that one body may have: each multiplies the work, and nobody sends more than
/// one.
const CODINGS_MAX: usize = 5;

/// Where a body goes, and how much of it may.
pub(super) struct Sink {
    pub(super) destination: Destination,
    bytes_left: u64,
    bytes_max: u64,
}

/// What takes the bytes.
pub(super) enum Destination {
    Stdout(Output),
    File(File, PathBuf),
    Memory(Vec<u8>),
}

impl Sink {
    /// The file of `path`, at its end where `appends` says so; else memory with `--json`, else
    /// standard output.
    pub(super) fn open(
        args: &GetArgs,
        path: Option<&Path>,
        appends: bool,
    ) -> Result<Self, Failure> {
        let destination = match path {
            Some(path) => {
                let file = File::options()
                    .write(true)
                    .append(appends)
                    .truncate(!appends)
                    .create(true)
                    .open(path);
                let unusable =
                    |error| Failure::usage(format!("writing to {}: {error}", path.display()));
                Destination::File(file.map_err(unusable)?, path.to_owned())
            }
            None if args.common.json => Destination::Memory(Vec::new()),
            None => Destination::Stdout(Output::new()),
        };
        let bytes_max = args.max_size.unwrap_or(match destination {
            Destination::Memory(_) => JSON_BODY_BYTES_MAX,
            Destination::Stdout(_) | Destination::File(..) => u64::MAX,
        });
        Ok(Self {
            destination,
            bytes_left: bytes_max,
            bytes_max,
        })
    }

    /// What an error of a write means.
    pub(super) fn failure(&self, error: &io::Error) -> Failure {
        match &self.destination {
            _ if error.kind() == io::ErrorKind::FileTooLarge && self.bytes_left == 0 => Failure {
                exit: Exit::Unwritable,
                message: format!(
                    "the body is larger than {}: --max-size sets the limit, -o FILE needs none",
                    Size(self.bytes_max)
                ),
            },
            Destination::File(_, path) => write_failure(&path.display().to_string(), error),
            Destination::Stdout(_) | Destination::Memory(_) => {
                write_failure("standard output", error)
            }
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.bytes_left {
            self.bytes_left = 0;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let written = match &mut self.destination {
            Destination::Stdout(output) => output.write(bytes).map(|()| bytes.len()),
            Destination::File(file, _) => file.write(bytes),
            Destination::Memory(memory) => memory.write(bytes),
        }?;
        self.bytes_left -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Undoes the content codings on the way to the sink, the last one that was applied first.
pub(super) enum Unpacker {
    Plain(Sink),
    Gzip(Box<MultiGzDecoder<Unpacker>>),
    Deflate(Box<Deflate<Unpacker>>),
}

impl Unpacker {
    /// `codings` are in the order in which they were applied, in lower case.
    pub(super) fn new(codings: &[String], sink: Sink) -> Result<Self, Failure> {
        if codings.len() > CODINGS_MAX {
            return Err(Failure::unavailable(format!(
                "the body is compressed {} times over, at most {CODINGS_MAX} are undone",
                codings.len()
            )));
        }
        let mut unpacker = Self::Plain(sink);
        for coding in codings {
            unpacker = match coding.as_str() {
                "gzip" | "x-gzip" => Self::Gzip(Box::new(MultiGzDecoder::new(unpacker))),
                "deflate" => Self::Deflate(Box::new(Deflate::new(unpacker))),
                other => {
                    return Err(Failure::unavailable(format!(
                        "the body is compressed with {other:?}, which was not asked for"
                    )));
                }
            };
        }
        Ok(unpacker)
    }

    /// Takes the next bytes as they came.
    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.write_all(bytes).map_err(|error| self.failure(&error))
    }

    fn failure(&self, error: &io::Error) -> Failure {
        use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof, WriteZero};
        let is_packed = !matches!(self, Self::Plain(_));
        match error.kind() {
            InvalidInput | InvalidData | UnexpectedEof | WriteZero if is_packed => broken(error),
            _ => self.sink().failure(error),
        }
    }

    fn sink(&self) -> &Sink {
        match self {
            Self::Plain(sink) => sink,
            Self::Gzip(gzip) => gzip.get_ref().sink(),
            Self::Deflate(deflate) => deflate.inner().sink(),
        }
    }

    /// The sink, after the last byte.
    pub(super) fn finish(self) -> Result<Sink, Failure> {
        match self {
            Self::Plain(sink) => Ok(sink),
            Self::Gzip(mut gzip) => match gzip.try_finish() {
                Ok(()) => gzip.finish().map_err(|error| broken(&error))?.finish(),
                Err(error) => Err(Self::Gzip(gzip).failure(&error)),
            },
            Self::Deflate(deflate) => match deflate.finish() {
                Ok(inner) => inner.finish(),
                Err((deflate, error)) => Err(Self::Deflate(Box::new(deflate)).failure(&error)),
            },
        }
    }
}

fn broken(error: &io::Error) -> Failure {
    Failure::unavailable(format!("the compressed body is broken: {error}"))
}

impl Write for Unpacker {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(sink) => sink.write(bytes),
            Self::Gzip(gzip) => gzip.write(bytes),
            Self::Deflate(deflate) => deflate.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(sink) => sink.flush(),
            Self::Gzip(gzip) => gzip.flush(),
            Self::Deflate(deflate) => deflate.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    fn memory(bytes_max: u64) -> Sink {
        Sink {
            destination: Destination::Memory(Vec::new()),
            bytes_left: bytes_max,
            bytes_max,
        }
    }

    fn unpack(codings: &[&str], packed: &[u8], bytes_max: u64) -> Result<Vec<u8>, Failure> {
        let codings: Vec<String> = codings.iter().map(|&coding| coding.to_owned()).collect();
        let mut unpacker = Unpacker::new(&codings, memory(bytes_max))?;
        for piece in packed.chunks(11) {
            unpacker.put(piece)?;
        }
        match unpacker.finish()?.destination {
            Destination::Memory(bytes) => Ok(bytes),
            Destination::Stdout(_) | Destination::File(..) => unreachable!("memory was given"),
        }
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::best());
        zlib.write_all(bytes).unwrap();
        zlib.finish().unwrap()
    }

    fn bare(bytes: &[u8]) -> Vec<u8> {
        let mut bare = DeflateEncoder::new(Vec::new(), Compression::best());
        bare.write_all(bytes).unwrap();
        bare.finish().unwrap()
    }

    #[test]
    fn codings_are_undone_from_the_last_to_the_first() {
        let text = b"some text, some text, some text".repeat(100);
        for (codings, packed) in [
            (&[][..], text.clone()),
            (&["gzip"], gzip(&text)),
            (
                &["x-gzip"],
                [gzip(&text[..1550]), gzip(&text[1550..])].concat(),
            ),
            (&["deflate"], zlib(&text)),
            (&["deflate"], bare(&text)),
            (&["deflate", "gzip"], gzip(&zlib(&text))),
            (&["gzip", "deflate"], bare(&gzip(&text))),
            (&["gzip", "gzip", "gzip"], gzip(&gzip(&gzip(&text)))),
        ] {
            assert_eq!(
                unpack(codings, &packed, u64::MAX).unwrap(),
                text,
                "{codings:?}"
            );
        }
        let message = |codings: &[&str], packed: &[u8]| {
            let failure = unpack(codings, packed, u64::MAX).unwrap_err();
            assert_eq!(failure.exit, Exit::Unavailable);
            failure.message
        };
        assert!(message(&["br"], b"x").contains("\"br\", which was not asked for"));
        assert!(message(&["gzip"; 6], b"x").contains("compressed 6 times over"));
        let wrong_order = message(&["gzip", "deflate"], &gzip(&bare(&text)));
        assert!(
            wrong_order.starts_with("the compressed body is broken"),
            "{wrong_order}"
        );
        for (coding, packed) in [("gzip", gzip(&text)), ("deflate", zlib(&text))] {
            let cut = message(&[coding], &packed[..packed.len() - 1]);
            assert!(cut.starts_with("the compressed body is broken"), "{cut}");
        }
    }

    #[test]
    fn a_body_that_unpacks_to_too_much_is_given_up() {
        let zeros = vec![0; 5_000_000];
        for (codings, packed) in [
            (&[][..], zeros.clone()),
            (&["gzip"], gzip(&zeros)),
            (&["deflate"], zlib(&zeros)),
            (&["deflate"], bare(&zeros)),
            (&["gzip", "deflate"], zlib(&gzip(&zeros))),
        ] {
            assert_eq!(
                unpack(codings, &packed, 5_000_000).unwrap().len(),
                5_000_000
            );
            let failure = unpack(codings, &packed, 4_999_999).unwrap_err();
            assert_eq!(failure.exit, Exit::Unwritable);
            assert!(failure.message.contains("--max-size"), "{failure}");
        }
    }
}
