//! `explain`: makes one exchange with a running server, and prints what the server did for it, step
//! by step, with the place in the source of each.
//!
//! ```text
//! the trace begins ─▶ the exchange ─▶ it is read until our session has ended ─▶ the steps
//! ```
//!
//! Our session is the one that the port of our end belongs to. The trace is that of the admin
//! listener (`/trace?format=records`), which has the words and the places; `steps` chooses from it.

mod steps;

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};

use self::steps::{Found, Steps};
use super::admin::{AdminArgs, Answer};
use super::get::exchange::{read_body, send};
use super::output::{Output, Tone};
use super::stream::Stream;
use super::tls::TlsArgs;
use super::url::Url;
use super::{CommonArgs, Exit, Failure, Outcome, Timeouts, tcp, udp, upload};
use crate::http::Method;
use crate::http::head;

/// The longest trace that a server gives, in seconds.
const TRACE_SECONDS_MAX: u64 = 600;
/// How long the end of a session is waited for, beyond the time-out of a step.
const PATIENCE: Duration = Duration::from_secs(5);

/// The arguments of `explain`.
#[derive(Debug, Args)]
#[command(
    subcommand_negates_reqs = true,
    override_usage = "netlab-reactor explain [OPTIONS] <URL>\n       netlab-reactor explain [OPTIONS] tcp|udp|upload <ARGUMENTS>",
    after_help = "\
Examples:
  netlab-reactor explain http://127.0.0.1:6789/HelloWorld.html
  netlab-reactor explain tcp 127.0.0.1 12000 hello
  netlab-reactor explain udp 127.0.0.1 12002 hello
  NETLAB_SECRET=... netlab-reactor explain upload 127.0.0.1 9001 notes.txt

The arguments behind tcp, udp and upload are those of these commands.
Exit codes: 0 done, 1 the server did it, but its steps were not seen, 2 usage,
69 no server or no admin listener there, 77 refused."
)]
pub struct ExplainArgs {
    /// What to fetch
    #[arg(required = true)]
    url: Option<String>,

    #[command(flatten)]
    admin: AdminArgs,

    #[command(flatten)]
    certificates: TlsArgs,

    #[command(flatten)]
    common: CommonArgs,

    #[command(subcommand)]
    exchange: Option<Exchange>,
}

/// An exchange that is not a GET.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one per process")]
enum Exchange {
    /// Send a line over TCP
    Tcp(tcp::TcpArgs),
    /// Send a datagram
    Udp(udp::UdpArgs),
    /// Upload a file
    Upload(upload::UploadArgs),
}

impl ExplainArgs {
    fn common(&self) -> &CommonArgs {
        match &self.exchange {
            None => &self.common,
            Some(Exchange::Tcp(args)) => &args.common,
            Some(Exchange::Udp(args)) => &args.common,
            Some(Exchange::Upload(args)) => &args.common,
        }
    }
}

/// Runs `explain`.
///
/// # Errors
/// See [`Failure`].
pub fn run(args: &ExplainArgs) -> Outcome {
    let common = args.common();
    let timeouts = common.timeouts();
    let patience = timeouts.timeout + PATIENCE;
    let seconds = patience.as_secs().clamp(1, TRACE_SECONDS_MAX);
    let path = format!("/trace?seconds={seconds}&format=records");
    // Silence is ordinary for as long as nothing happens.
    let reading = Timeouts {
        timeout: timeouts.timeout + patience,
        ..timeouts
    };
    let mut trace = args.admin.ask(&path, &args.certificates, common, reading)?;
    let mut port = None;
    let exchanged = exchange(args, &mut |local| port = local);
    let Some(port) = port else {
        let text = "a connection without a port is found in no trace; expected TCP or UDP";
        return exchanged.and(Err(Failure::usage(text)));
    };
    let is_udp = matches!(args.exchange, Some(Exchange::Udp(_)));
    let mut steps = Steps::of(port, is_udp);
    let read = follow(&mut trace, &mut steps, Instant::now() + patience);
    let found = steps.found();
    if found == Found::Nothing {
        read?;
    }
    print(&steps, common)?;
    let negative = |message: String| Failure {
        exit: Exit::Negative,
        message,
    };
    match (exchanged?, found) {
        (_, Found::Nothing) => Err(negative(
            "the trace has nothing of our port: does the admin listener belong to that server?"
                .to_owned(),
        )),
        (exit, Found::Some(0)) => Ok(exit),
        (_, Found::Some(missing)) => Err(negative(format!(
            "{missing} records are missing: the server is too busy to be watched"
        ))),
    }
}

/// Reads the trace until all steps are there, or until that moment.
fn follow(trace: &mut Answer, steps: &mut Steps, until: Instant) -> Result<(), Failure> {
    let mut rest = Vec::new();
    let mut is_enough = false;
    let read = trace.read(&mut |piece| {
        rest.extend_from_slice(piece);
        while let Some(end) = memchr::memchr(b'\n', &rest) {
            steps.add(&rest[..end]);
            rest.drain(..=end);
        }
        is_enough = steps.are_whole() || Instant::now() >= until;
        match is_enough {
            true => Err(Failure::unavailable("no more is wanted")),
            false => Ok(()),
        }
    });
    if is_enough { Ok(()) } else { read }
}

fn print(steps: &Steps, common: &CommonArgs) -> Result<(), Failure> {
    let mut output = Output::new();
    if common.json {
        let mut all = steps.records().iter();
        return all.try_for_each(|record| output.json(record));
    }
    for line in steps.lines() {
        output.line(Tone::Plain, &line)?;
    }
    Ok(())
}

/// Makes the exchange; the port of our end is given to `connected`.
fn exchange(args: &ExplainArgs, connected: &mut dyn FnMut(Option<u16>)) -> Outcome {
    match (&args.exchange, &args.url) {
        (Some(Exchange::Tcp(args)), _) => tcp::converse(args, connected),
        (Some(Exchange::Udp(args)), _) => udp::converse(args, connected),
        (Some(Exchange::Upload(args)), _) => upload::send_one(args, connected),
        (None, Some(url)) => get(url, args, connected),
        (None, None) => Err(Failure::usage("expected a URL, or tcp, udp or upload")),
    }
}

/// One GET over a connection of its own.
fn get(url: &str, args: &ExplainArgs, connected: &mut dyn FnMut(Option<u16>)) -> Outcome {
    let parsed = Url::parse(url).map_err(|error| Failure::usage(format!("{url}: {error}")))?;
    let (common, timeouts) = (&args.common, args.common.timeouts());
    let mut stream = Stream::connect(&parsed.target(), common.family(), timeouts)?;
    connected(stream.local_port());
    if parsed.is_https {
        stream.begin("doing the TLS handshake");
        stream.start_tls(&parsed.host, &args.certificates.trust()?)?;
    }
    let mut bytes = Vec::new();
    head::put_request_line(&mut bytes, Method::Get, &parsed.path);
    head::put_header(&mut bytes, "Host", parsed.authority());
    head::put_header(&mut bytes, "User-Agent", "netlab-reactor explain");
    head::put_header(&mut bytes, "Connection", "close");
    head::put_head_end(&mut bytes);
    let (head, received) = send(&mut stream, &bytes, Method::Get)?;
    let mut body_bytes = 0;
    read_body(&mut stream, received, head.body, false, &mut |piece| {
        body_bytes += piece.len();
        Ok(())
    })?;
    if !common.json {
        let (status, reason) = (head.status, &head.reason);
        let line = format!("{status} {reason}, {body_bytes} bytes of body");
        Output::new().line(Tone::Plain, &line)?;
    }
    Ok(Exit::Done)
}
