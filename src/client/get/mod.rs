//! `get`: fetches over HTTP/1.1 (RFC 9112), one request per connection.
//!
//! Two forms. `get HOST PORT PATH` prints what the server sent, status line and framing included,
//! byte for byte. `get URL` is for the content: it follows redirects, undoes chunks and
//! compression, resumes, goes through proxies and TLS.
//!
//! Rules:
//! - A body that ends before its framing says so is a failure, and what came of it stays in the
//!   file for `-C`.
//! - Every read restarts the time-out while a body makes progress; a head has one time-out as a
//!   whole.
//!
//! - What `--json` keeps in memory has a bound, `--max-size`, however small it was packed.
//!
//! Not here: cookies, other authentication than Basic, request bodies; HTTP/2.

mod deflate;
pub(super) mod exchange;
mod fetch;
mod proxy;
mod sink;
mod timing;

use std::borrow::Cow;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use self::exchange::{Head, read_body, read_head, request};
use self::fetch::Fetch;
use self::sink::{Destination, Sink};
use self::timing::{Timing, tell_timing};
use super::connect::Target;
use super::output::Output;
use super::stream::Stream;
use super::tls::TlsArgs;
use super::url::Url;
use super::{CommonArgs, Exit, Failure, Outcome, units};
use crate::http::Method;

/// The arguments of `get`.
#[derive(Debug, Args)]
#[command(
    override_usage = "netlab-reactor get [OPTIONS] <URL>\n       netlab-reactor get [OPTIONS] <HOST> <PORT> <PATH>",
    after_help = "Examples:
  netlab-reactor get localhost 6789 /HelloWorld.html
  netlab-reactor get http://localhost:6789/ --timing
  netlab-reactor get -C -O https://example.org/big.iso
  http_proxy=http://localhost:8888 netlab-reactor get http://example.org/

HOST PORT PATH prints status line, headers and body as sent; a URL the body.

A proxy is taken from --proxy, or from http_proxy, https_proxy and no_proxy
(hosts, domains, ranges of addresses). User and password are taken from URLs,
where other users of this machine may see them; -H sends any other kind.
Exit codes: 0 done, 1 an error status with --fail, 69 unavailable, 74 an
output cannot be written, 75 the status 429 or 503 with --fail."
)]
pub struct GetArgs {
    /// A URL; or host name, address or unix:PATH
    #[arg(value_name = "URL|HOST")]
    first: String,

    /// Port and path, behind a host
    #[arg(value_name = "PORT PATH")]
    rest: Vec<String>,

    /// Write the body to this file
    #[arg(short, long, value_name = "FILE", conflicts_with = "remote_name")]
    output: Option<PathBuf>,

    /// Write the body to a file named as the last part of the URL
    #[arg(short = 'O', long)]
    remote_name: bool,

    /// Go on where the file ends
    #[arg(short = 'C', long = "continue")]
    resume: bool,

    /// Ask for the head only, and print it
    #[arg(short = 'I', long)]
    head: bool,

    /// Print the head in front of the body
    #[arg(short, long)]
    include: bool,

    /// Print no body and fail when the status is 400 or more
    #[arg(short, long)]
    fail: bool,

    /// Ask for a compressed body, and print it uncompressed
    #[arg(long, conflicts_with = "resume")]
    compressed: bool,

    /// Give up on a body larger than this, unpacked [default: 64MiB with --json, else no limit]
    #[arg(long, value_name = "SIZE", value_parser = units::parse_size)]
    max_size: Option<u64>,

    /// Follow this many redirects at most
    #[arg(long, value_name = "N", default_value_t = 10)]
    max_redirects: u32,

    /// Send this header, too; credentials and Host not to where a redirect leads away from the
    /// server
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,

    /// Go through this proxy; an empty text for none
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,

    /// Tell how long each part took
    #[arg(long)]
    timing: bool,

    /// Show no progress
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    tls: TlsArgs,

    #[command(flatten)]
    common: CommonArgs,
}

impl GetArgs {
    fn method(&self) -> Method<'static> {
        if self.head { Method::Head } else { Method::Get }
    }
}

/// Runs `get`.
///
/// # Errors
/// See [`Failure`].
pub fn run(args: &GetArgs) -> Outcome {
    for header in &args.headers {
        let name = header.split_once(':').map(|(name, _)| name.as_bytes());
        if !name.is_some_and(crate::http::is_token) || header.contains(['\r', '\n']) {
            return Err(Failure::usage(format!(
                "{header:?} is not a header: expected NAME: VALUE"
            )));
        }
    }
    if args.rest.is_empty() && !args.first.starts_with("unix:") {
        let url = Url::parse(&args.first).map_err(Failure::usage)?;
        return Fetch::new(args, &url)?.follow(&url);
    }
    let (target, rest) = Target::from_arguments(&args.first, &args.rest)?;
    match rest {
        [] => raw(args, &target, "/"),
        [path] if path.starts_with('/') => raw(args, &target, path),
        [path] => raw(args, &target, &format!("/{path}")),
        [_, word, ..] => Err(Failure::usage(format!(
            "unexpected argument {word:?} behind the path"
        ))),
    }
}

/// `get HOST PORT PATH`: everything as it came.
fn raw(args: &GetArgs, target: &Target, path: &str) -> Outcome {
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::usage(format!(
            "{path:?}: a path has no spaces and only ASCII; encode others as %20"
        )));
    }
    let started = Instant::now();
    let mut stream = Stream::connect(target, args.common.family(), args.common.timeouts())?;
    stream.begin("sending the request");
    let host = ("Host", target.authority());
    stream.write_all(&request(args, path, &[host], false))?;
    stream.begin("waiting for the response");
    let mut received = Vec::new();
    let (head, first_byte) = read_head(&mut stream, &mut received, args.method())?;
    let mut sink = Sink::open(args, args.output.as_deref(), false)?;
    let mut put = |bytes: &[u8]| {
        let written = sink.write_all(bytes);
        written.map_err(|error| sink.failure(&error))
    };
    put(&head.text)?;
    read_body(&mut stream, received, head.body, true, &mut put)?;
    let timing = Timing {
        connect: stream.times(),
        tls: Duration::ZERO,
        first_byte: first_byte - started,
        total: started.elapsed(),
    };
    if let Destination::Memory(response) = sink.destination {
        Output::new().json(&Response {
            status: head.status,
            reason: &head.reason,
            response: String::from_utf8_lossy(&response),
            timing_ms: timing.json(),
        })?;
    } else if args.timing {
        tell_timing(&timing);
    }
    Ok(judge(args, &head))
}

/// A response as it came, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Response<'a> {
    status: u16,
    reason: &'a str,
    response: Cow<'a, str>,
    timing_ms: serde_json::Value,
}

/// The exit for a status, under `--fail`.
fn judge(args: &GetArgs, head: &Head) -> Exit {
    match head.status {
        429 | 503 if args.fail => Exit::TryLater,
        400.. if args.fail => Exit::Negative,
        _ => Exit::Done,
    }
}
