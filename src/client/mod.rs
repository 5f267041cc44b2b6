//! The clients: what a person runs, one file per subcommand.
//!
//! Rules:
//! - They block on ordinary sockets, and every step has a time-out: resolving, connecting, each
//!   message each way, and (where asked for) the whole. A failure names the step, the peer and the
//!   reason.
//! - What was asked for goes to standard output, everything else to standard error; `--json` makes
//!   it one object per line. Progress and colour appear on terminals only, and colour not where
//!   `NO_COLOR` is set.
//! - The exit code is one of [`Exit`], whatever the subcommand.
//!
//! Shared by the subcommands: [`connect`] (names, addresses and racing them), [`stream`] (a
//! connection whose steps have names and deadlines), [`tls`], [`url`], [`admin`] (a request to an
//! admin listener), [`output`], [`units`],
//! [`interrupt`], [`secrets`] (where secrets come from), [`statistics`].
//!
//! Not here: wire formats (see [`crate::wire`] and [`crate::http`]); the command line as a whole, and
//! what the configuration says of a cache, which [`mod@cache`] is told.

use std::fmt;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};

pub mod admin;
pub mod cache;
pub mod connect;
pub mod explain;
pub mod flood;
pub mod get;
pub mod heartbeat;
pub mod hello;
pub mod interrupt;
pub mod mail;
pub mod output;
pub mod passwd;
pub mod ping;
pub mod secrets;
pub mod statistics;
pub mod stream;
pub mod tcp;
pub mod tls;
pub mod trace;
pub mod udp;
pub mod units;
pub mod upload;
pub mod url;

/// The subcommands that talk to a server.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one per process")]
pub enum ClientCommand {
    /// Send lines over TCP, print the replies
    Tcp(tcp::TcpArgs),
    /// Send lines as UDP datagrams, print the replies
    Udp(udp::UdpArgs),
    /// Fetch over HTTP or HTTPS
    Get(get::GetArgs),
    /// Ping a UDP server and measure loss and round-trip time
    Ping(ping::PingArgs),
    /// Send UDP heartbeats until stopped
    Heartbeat(heartbeat::HeartbeatArgs),
    /// Follow a stream of hello messages, answering each
    Hello(hello::HelloArgs),
    /// Upload files and folders
    Upload(upload::UploadArgs),
    /// Send a mail over SMTP
    Mail(mail::MailArgs),
    /// Load a UDP or TCP echo server and measure it
    Flood(flood::FloodArgs),
    /// Write down what a running server's loop does
    Trace(trace::TraceArgs),
    /// Make one exchange with a running server and show each step of it
    Explain(explain::ExplainArgs),
}

impl ClientCommand {
    /// Runs the subcommand to its end; failures are told on standard error.
    pub fn run(self) -> ExitCode {
        let (name, result) = match self {
            Self::Tcp(args) => ("tcp", tcp::run(&args)),
            Self::Udp(args) => ("udp", udp::run(&args)),
            Self::Get(args) => ("get", get::run(&args)),
            Self::Ping(args) => ("ping", ping::run(&args)),
            Self::Heartbeat(args) => ("heartbeat", heartbeat::run(&args)),
            Self::Hello(args) => ("hello", hello::run(&args)),
            Self::Upload(args) => ("upload", upload::run(&args)),
            Self::Mail(args) => ("mail", mail::run(&args)),
            Self::Flood(args) => ("flood", flood::run(&args)),
            Self::Trace(args) => ("trace", trace::run(&args)),
            Self::Explain(args) => ("explain", explain::run(&args)),
        };
        told(name, result)
    }
}

/// The exit code of a subcommand; a failure is told on standard error.
pub fn told(name: &str, result: Outcome) -> ExitCode {
    match result {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if !failure.message.is_empty() {
                eprintln!("netlab-reactor {name}: {failure}");
            }
            failure.exit.into()
        }
    }
}

/// How a client ends, as its exit code; the numbers from 69 on are those of BSD's `sysexits.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: what was asked for is done.
    Done,
    /// 1: it was done, and the result is negative: no ping answered, some recipients refused, a 404
    /// under `--fail`.
    Negative,
    /// 2: the command line or a file named on it is wrong.
    Usage,
    /// 69: the server cannot be reached, broke off, timed out, or does not speak the protocol.
    Unavailable,
    /// 74: standard output or a file could not be written.
    Unwritable,
    /// 75: the server says that the same may succeed later.
    TryLater,
    /// 77: the server refused: wrong secret or password, a file or message that it does not take.
    Refused,
}

impl Exit {
    /// The number that the shell sees.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Negative => 1,
            Self::Usage => 2,
            Self::Unavailable => 69,
            Self::Unwritable => 74,
            Self::TryLater => 75,
            Self::Refused => 77,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a client ends early: the exit code, and words that name the step and the peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// How the process ends.
    pub exit: Exit,
    /// For a person; empty where there is nobody left to read it, as when standard output was
    /// closed.
    pub message: String,
}

impl Failure {
    /// The command line or a file named on it is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Usage,
            message: message.into(),
        }
    }

    /// The server cannot be reached, broke off, or does not speak the protocol.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Unavailable,
            message: message.into(),
        }
    }

    /// The server refused.
    pub fn refused(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Refused,
            message: message.into(),
        }
    }

    /// Whether trying the same again may help.
    pub fn is_worth_retrying(&self) -> bool {
        matches!(self.exit, Exit::Unavailable | Exit::TryLater)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// How a client's work ends.
pub type Outcome = Result<Exit, Failure>;

/// The flags that every client has.
#[derive(Debug, Clone, Default, Args)]
pub struct CommonArgs {
    /// Time-out of each step: resolving, connecting, a message each way [default: 10s; udp: 3s]
    #[arg(long, value_name = "DURATION", value_parser = units::parse_interval)]
    pub timeout: Option<Duration>,

    /// Time-out of the whole run
    #[arg(long, value_name = "DURATION", value_parser = units::parse_interval)]
    pub max_time: Option<Duration>,

    /// Print one JSON object per line
    #[arg(long)]
    pub json: bool,

    /// Use IPv4 only
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    pub ipv4: bool,

    /// Use IPv6 only
    #[arg(short = '6', long)]
    pub ipv6: bool,
}

impl CommonArgs {
    /// The time-outs that begin to run now.
    pub fn timeouts(&self) -> Timeouts {
        self.timeouts_or(Duration::from_secs(10))
    }

    /// The same with another time-out per step where none was asked for.
    pub fn timeouts_or(&self, timeout: Duration) -> Timeouts {
        Timeouts {
            timeout: self.timeout.unwrap_or(timeout),
            until: self.max_time.map(|whole| Instant::now() + whole),
        }
    }

    /// Which addresses may be used.
    pub fn family(&self) -> connect::Family {
        match (self.ipv4, self.ipv6) {
            (true, _) => connect::Family::V4,
            (_, true) => connect::Family::V6,
            _ => connect::Family::Any,
        }
    }
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// Each step.
    pub timeout: Duration,
    /// The whole: nothing goes on after this moment.
    pub until: Option<Instant>,
}

impl Timeouts {
    /// When a step that begins now must be over.
    pub fn step_until(&self) -> Instant {
        let step = Instant::now() + self.timeout;
        self.until.map_or(step, |whole| whole.min(step))
    }

    /// Whether the whole has run out of time.
    pub fn is_over(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }

    /// The failure of a step that took too long, in words.
    pub fn timed_out(&self, step: &str, peer: &dyn fmt::Display) -> Failure {
        let span = match self.is_over() {
            true => "the time for the whole ran out".to_owned(),
            false => format!("timed out after {}", units::Span(self.timeout)),
        };
        Failure::unavailable(format!("{peer}: {span} while {step}"))
    }
}
