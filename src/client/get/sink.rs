//! Where a body goes, and its content coding undone on the way there.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use flate2::write::{MultiGzDecoder, ZlibDecoder};

use super::GetArgs;
use crate::client::Failure;
use crate::client::output::{Output, write_failure};

/// Where a body goes.
pub(super) enum Sink {
    Stdout(Output),
    File(File, PathBuf),
    Memory(Vec<u8>),
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(output) => output.write(bytes).map(|()| bytes.len()),
            Self::File(file, _) => file.write(bytes),
            Self::Memory(memory) => memory.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink {
    pub(super) fn failure(&self, error: &io::Error) -> Failure {
        match self {
            Self::File(_, path) => write_failure(&path.display().to_string(), error),
            Self::Stdout(_) | Self::Memory(_) => write_failure("standard output", error),
        }
    }
}

/// Undoes the content coding on the way to the sink.
pub(super) enum Unpacker {
    Plain(Sink),
    Gzip(Box<MultiGzDecoder<Sink>>),
    Deflate(Box<ZlibDecoder<Sink>>),
}

impl Unpacker {
    pub(super) fn new(coding: &str, sink: Sink) -> Result<Self, Failure> {
        match coding {
            "" | "identity" => Ok(Self::Plain(sink)),
            "gzip" | "x-gzip" => Ok(Self::Gzip(Box::new(MultiGzDecoder::new(sink)))),
            "deflate" => Ok(Self::Deflate(Box::new(ZlibDecoder::new(sink)))),
            other => Err(Failure::unavailable(format!(
                "the body is compressed with {other:?}, which was not asked for"
            ))),
        }
    }

    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = match self {
            Self::Plain(sink) => sink.write_all(bytes),
            Self::Gzip(gzip) => gzip.write_all(bytes),
            Self::Deflate(deflate) => deflate.write_all(bytes),
        };
        written.map_err(|error| self.failure(&error))
    }

    pub(super) fn failure(&self, error: &io::Error) -> Failure {
        let is_packed = matches!(
            error.kind(),
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData
        );
        match self {
            Self::Plain(sink) => sink.failure(error),
            _ if is_packed => {
                Failure::unavailable(format!("the compressed body is broken: {error}"))
            }
            Self::Gzip(gzip) => gzip.get_ref().failure(error),
            Self::Deflate(deflate) => deflate.get_ref().failure(error),
        }
    }

    pub(super) fn finish(self) -> Result<Sink, Failure> {
        let broken = |error: io::Error| {
            Failure::unavailable(format!("the compressed body is broken: {error}"))
        };
        match self {
            Self::Plain(sink) => Ok(sink),
            Self::Gzip(gzip) => gzip.finish().map_err(broken),
            Self::Deflate(deflate) => deflate.finish().map_err(broken),
        }
    }
}

pub(super) fn sink(args: &GetArgs, path: Option<&Path>, append: bool) -> Result<Sink, Failure> {
    let Some(path) = path else {
        return Ok(if args.common.json {
            Sink::Memory(Vec::new())
        } else {
            Sink::Stdout(Output::new())
        });
    };
    let mut options = File::options();
    let options = if append {
        options.append(true)
    } else {
        options.write(true).truncate(true)
    };
    match options.create(true).open(path) {
        Ok(file) => Ok(Sink::File(file, path.to_owned())),
        Err(error) => Err(Failure::usage(format!(
            "writing to {}: {error}",
            path.display()
        ))),
    }
}
