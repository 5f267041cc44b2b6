//! `heartbeat`: tells a UDP server at regular intervals that this host lives.
//!
//! A heartbeat has no answer; what can be noticed is that sending failed, or that the host has
//! nobody at the port. Both are told on standard error, and the next heartbeat goes out all the
//! same. Who stops it ends it in good order: the last heartbeat says that no more follow.
//!
//! Not here: what a receiver makes of it (see [`crate::wire::heartbeat`]).

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::connect::{Datagrams, Target, reason};
use super::interrupt::stop_flag;
use super::output::{Output, Tone};
use super::units::since_epoch;
use super::{CommonArgs, Exit, Failure, Outcome, Timeouts, secrets, units};
use crate::wire::challenge::Secret;
use crate::wire::heartbeat::{self, Beat};
use crate::wire::stamp::Stamp;

/// How long `--once` waits for the news that nobody is at the port.
const REFUSAL_WAIT: Duration = Duration::from_millis(100);

/// The arguments of `heartbeat`.
#[derive(Debug, Args)]
#[command(
    override_usage = "netlab-reactor heartbeat [OPTIONS] <HOST> <PORT>",
    after_help = "Examples:
  netlab-reactor heartbeat localhost 12001
  netlab-reactor heartbeat localhost 12001 -i 500ms --id roof -q
  * * * * *  netlab-reactor heartbeat monitor 12001 --once      (in a crontab)

Exit codes: 0 sent, 1 some could not be sent, 69 none could."
)]
pub struct HeartbeatArgs {
    /// Host name or address, or unix:PATH
    host: String,

    /// Port
    #[arg(value_name = "PORT")]
    rest: Vec<String>,

    /// Time between two heartbeats
    #[arg(short, long, value_name = "DURATION", default_value = "1s", value_parser = units::parse_interval)]
    interval: Duration,

    /// Stop after this many heartbeats
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// Send one heartbeat, numbered by the clock's seconds so that each is above the last
    #[arg(long, conflicts_with = "count")]
    once: bool,

    /// A name for this sender, put into each heartbeat
    #[arg(long, value_name = "NAME")]
    id: Option<String>,

    /// Sign each heartbeat with the secret in this file (HMAC-SHA-256); NETLAB_SECRET does the same
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,

    /// Say how long the pause is, so that the receiver need not learn it
    #[arg(long)]
    tell_interval: bool,

    /// At the end, whatever ends it, say that no more follow; SIGINT and SIGTERM do so anyway
    #[arg(long)]
    down: bool,

    /// Do not say so, as if this host had died
    #[arg(long, conflicts_with = "down")]
    no_down: bool,

    /// Print nothing but failures
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    common: CommonArgs,
}

/// One heartbeat, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Sent<'a> {
    sequence: u64,
    time: f64,
    sent: bool,
    error: Option<&'a str>,
}

/// Runs `heartbeat`.
///
/// # Errors
/// See [`Failure`].
pub fn run(args: &HeartbeatArgs) -> Outcome {
    let (target, rest) = Target::from_arguments(&args.host, &args.rest)?;
    if let Some(word) = rest.first() {
        return Err(Failure::usage(format!(
            "unexpected argument {word:?} behind host and port"
        )));
    }
    let is_word = |id: &String| !id.is_empty() && !id.contains(char::is_whitespace);
    if !args.id.as_ref().is_none_or(is_word) {
        return Err(Failure::usage("--id takes one word"));
    }
    let signs = args.secret_file.is_some() || std::env::var_os("NETLAB_SECRET").is_some();
    let file = args.secret_file.as_deref();
    let secret = match signs {
        true => Some(secrets::obtain(file, "NETLAB_SECRET", "secret")?),
        false => None,
    };
    let timeouts = args.common.timeouts();
    let sender = Sender {
        args,
        socket: Datagrams::open(&target, args.common.family(), &timeouts)?,
        target,
        secret,
        timeouts,
        stop: stop_flag()?,
        output: Output::new(),
    };
    sender.run()
}

/// One sender of heartbeats.
struct Sender<'a> {
    args: &'a HeartbeatArgs,
    target: Target,
    socket: Datagrams,
    secret: Option<Secret>,
    timeouts: Timeouts,
    stop: Arc<AtomicBool>,
    output: Output,
}

impl Sender<'_> {
    /// Sends one heartbeat after the other, until there were enough or somebody stops it.
    fn run(mut self) -> Outcome {
        let (mut sequence, count) = match self.args.once {
            true => (since_epoch().as_secs(), 1),
            false => (1, self.args.count.unwrap_or(u64::MAX)),
        };
        let (mut failed, mut sent) = (0_u64, 0_u64);
        let mut due = Instant::now();
        while sent < count && !self.stop.load(Ordering::Relaxed) && !self.timeouts.is_over() {
            sent += 1;
            due += self.args.interval;
            let pause_until = match sent == count {
                true => Instant::now() + REFUSAL_WAIT,
                false => due,
            };
            if !self.send(sequence, false, pause_until)? {
                failed += 1;
                // After a failure the socket reports nothing more: the rest of the interval passes
                // here.
                if sent < count {
                    refusal(&mut self.socket, pause_until, &self.stop);
                }
            }
            sequence = sequence.wrapping_add(1);
        }
        let is_stopped = self.stop.load(Ordering::Relaxed);
        if self.args.down || (is_stopped && !self.args.no_down && sent > 0) {
            sent += 1;
            let at_once = Instant::now();
            failed += u64::from(!self.send(sequence, true, at_once)?);
        }
        match failed {
            0 => Ok(Exit::Done),
            _ if failed == sent => Err(Failure::unavailable(format!(
                "{}: no heartbeat could be sent",
                self.target
            ))),
            _ => Ok(Exit::Negative),
        }
    }

    /// Sends one heartbeat, waits for the news that nobody is there, and tells of both; answers
    /// whether it was sent.
    fn send(
        &mut self,
        sequence: u64,
        is_down: bool,
        pause_until: Instant,
    ) -> Result<bool, Failure> {
        let stamp = Stamp {
            sequence,
            sent_at: since_epoch(),
        };
        let beat = Beat {
            stamp,
            identity: self.args.id.as_deref(),
            interval: self.args.tell_interval.then_some(self.args.interval),
            is_down,
        };
        let datagram = heartbeat::build(&beat, self.secret.as_ref());
        let result = self.socket.send(&datagram);
        let error = result
            .err()
            .or_else(|| refusal(&mut self.socket, pause_until, &self.stop));
        let error = error.map(|error| reason(&error));
        if let Some(error) = &error {
            let target = &self.target;
            eprintln!(
                "netlab-reactor heartbeat: {target}: heartbeat {sequence} cannot be sent: {error}"
            );
        }
        if self.args.common.json {
            let time = stamp.sent_at.as_secs_f64();
            self.output.json(&Sent {
                sequence,
                time,
                sent: error.is_none(),
                error: error.as_deref(),
            })?;
        } else if !self.args.quiet && error.is_none() {
            self.output
                .line(Tone::Plain, &String::from_utf8_lossy(&datagram))?;
        }
        Ok(error.is_none())
    }
}

/// Waits until `until` or a signal, and answers what the network says about what was sent.
fn refusal(socket: &mut Datagrams, until: Instant, stop: &AtomicBool) -> Option<std::io::Error> {
    let mut ignored = [0; 1];
    while !stop.load(Ordering::Relaxed) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        // In slices, because a signal may come just before the wait.
        if let Err(error) = socket.receive(&mut ignored, left.min(Duration::from_millis(200))) {
            return Some(error);
        }
    }
    None
}
