//! `trace`: what a running server's loop does, for so many seconds, as a file for ui.perfetto.dev or
//! as lines.
//!
//! Not here: how it is written; the server does that (`/trace` of its admin listener).

use std::fs::File;
use std::io::Write as _;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::admin::AdminArgs;
use super::output::{Output, write_failure};
use super::tls::TlsArgs;
use super::{CommonArgs, Exit, Failure, Outcome, Timeouts};

/// The arguments of `trace`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  netlab-reactor trace --text --seconds 1
  netlab-reactor trace --seconds 10 -o loop.json     then open ui.perfetto.dev
  netlab-reactor trace --admin http://127.0.0.1:9090 > loop.json
  netlab-reactor trace --admin https://lab.example/admin/ --ca-file own.pem --text

Exit codes: 0 done, 69 no admin listener there, 77 it refuses.")]
pub struct TraceArgs {
    #[command(flatten)]
    admin: AdminArgs,

    #[command(flatten)]
    certificates: TlsArgs,

    /// For how long
    #[arg(long, value_name = "N", default_value = "5")]
    seconds: NonZeroU32,

    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Lines for a reader instead of trace events
    #[arg(long)]
    text: bool,

    #[command(flatten)]
    common: CommonArgs,
}

/// Runs `trace`.
///
/// # Errors
/// See [`Failure`].
pub fn run(args: &TraceArgs) -> Outcome {
    let format = if args.text { "text" } else { "json" };
    let path = format!("/trace?seconds={}&format={format}", args.seconds);
    let mut sink = Sink::open(args)?;
    let mut trace = args
        .admin
        .ask(&path, &args.certificates, &args.common, timeouts(args))?;
    trace.read(&mut |piece| sink.put(piece))?;
    Ok(Exit::Done)
}

/// Silence is ordinary for as long as nothing happens: a step may take as long as the trace.
fn timeouts(args: &TraceArgs) -> Timeouts {
    let timeouts = args.common.timeouts();
    let seconds = Duration::from_secs(u64::from(args.seconds.get()));
    Timeouts {
        timeout: timeouts.timeout + seconds,
        ..timeouts
    }
}

/// Where it goes.
enum Sink<'a> {
    Standard(Output),
    File(File, &'a PathBuf),
}

impl<'a> Sink<'a> {
    fn open(args: &'a TraceArgs) -> Result<Self, Failure> {
        let Some(path) = &args.output else {
            return Ok(Self::Standard(Output::new()));
        };
        let file = File::create(path)
            .map_err(|error| write_failure(&path.display().to_string(), &error))?;
        Ok(Self::File(file, path))
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match self {
            Self::Standard(output) => output.bytes(bytes),
            Self::File(file, path) => file
                .write_all(bytes)
                .map_err(|error| write_failure(&path.display().to_string(), &error)),
        }
    }
}
