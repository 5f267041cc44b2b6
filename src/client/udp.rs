//! `udp`: sends lines as datagrams and prints the replies.
//!
//! A datagram that nobody answers in time is told on standard error, and the next line goes out;
//! the exit code is then 1.
//!
//! Not here: loss and round-trip figures over time (see [`super::ping`]), load (see
//! [`super::flood`]).

use std::io::{self, BufRead};
use std::time::{Duration, Instant};

use clap::Args;

use super::connect::{Datagrams, Target, reason};
use super::output::Output;
use super::statistics::RoundTrips;
use super::units::Span;
use super::{CommonArgs, Exit, Failure, Outcome, Timeouts};
use crate::wire::frame;

/// Room for the longest datagram.
const DATAGRAM_BYTES_MAX: usize = 65_536;

/// The arguments of `udp`.
#[derive(Debug, Args)]
#[command(
    override_usage = "netlab-reactor udp [OPTIONS] <HOST> <PORT> [TEXT...]\n       netlab-reactor udp [OPTIONS] unix:PATH [TEXT...]",
    after_help = "Examples:
  netlab-reactor udp localhost 12002 straße
  printf 'one\\ntwo\\n' | netlab-reactor udp localhost 12002
  netlab-reactor udp localhost 12002 - < datagram.bin
  netlab-reactor udp localhost 12002 --repeat 1000 x > /dev/null

Exit codes: 0 done, 1 some datagram had no reply, 69 unreachable."
)]
pub struct UdpArgs {
    /// Host name or address, or unix:PATH
    host: String,

    /// Port, then the text to send; without a text each line of standard input, with - all of it as
    /// one datagram
    #[arg(value_name = "PORT TEXT")]
    rest: Vec<String>,

    /// Send each line this many times and print round-trip statistics
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    repeat: u64,

    /// Put the length of each message (32 bits, little-endian) in front of it, and expect it in
    /// replies
    #[arg(long)]
    frame: bool,

    #[command(flatten)]
    pub(super) common: CommonArgs,
}

/// Runs `udp`.
///
/// # Errors
/// See [`Failure`].
pub fn run(args: &UdpArgs) -> Outcome {
    converse(args, &mut |_| {})
}

/// The same; the port of this end is given to `connected`.
pub(super) fn converse(args: &UdpArgs, connected: &mut dyn FnMut(Option<u16>)) -> Outcome {
    let (target, text) = Target::from_arguments(&args.host, &args.rest)?;
    let timeouts = args.common.timeouts_or(Duration::from_secs(3));
    let mut exchanges = Exchanges {
        socket: Datagrams::open(&target, args.common.family(), &timeouts)?,
        target,
        args,
        timeouts,
        output: Output::new(),
        trips: RoundTrips::new(),
        sequence: 0,
        lost: 0,
    };
    connected(exchanges.socket.local_port());
    let unreadable = |error: io::Error| Failure::usage(format!("reading standard input: {error}"));
    if text == ["-"] {
        let mut datagram = Vec::new();
        io::Read::read_to_end(&mut io::stdin().lock(), &mut datagram).map_err(unreadable)?;
        exchanges.send_repeatedly(&datagram)?;
    } else if text.is_empty() {
        for line in io::stdin().lock().split(b'\n') {
            let line = line.map_err(unreadable)?;
            exchanges.send_repeatedly(line.strip_suffix(b"\r").unwrap_or(&line))?;
        }
    } else {
        exchanges.send_repeatedly(text.join(" ").as_bytes())?;
    }
    exchanges.finish()
}

struct Exchanges<'a> {
    socket: Datagrams,
    target: Target,
    args: &'a UdpArgs,
    timeouts: Timeouts,
    output: Output,
    trips: RoundTrips,
    sequence: u64,
    lost: u64,
}

impl Exchanges<'_> {
    fn send_repeatedly(&mut self, text: &[u8]) -> Result<(), Failure> {
        for _ in 0..self.args.repeat {
            self.exchange(text)?;
        }
        Ok(())
    }

    fn exchange(&mut self, text: &[u8]) -> Result<(), Failure> {
        self.sequence += 1;
        let mut datagram = Vec::new();
        if self.args.frame {
            frame::encode(text, &mut datagram)
                .map_err(|error| Failure::usage(error.to_string()))?;
        } else {
            datagram.extend_from_slice(text);
        }
        let started = Instant::now();
        self.socket
            .send(&datagram)
            .map_err(|error| self.failed("sending", &error))?;
        let until = self.timeouts.step_until();
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.lost += 1;
                eprintln!(
                    "netlab-reactor udp: {}: no reply to datagram {} within {}",
                    self.target,
                    self.sequence,
                    Span(self.timeouts.timeout)
                );
                return if self.timeouts.is_over() {
                    Err(self.timeouts.timed_out("waiting for a reply", &self.target))
                } else {
                    Ok(())
                };
            }
            let received = self.socket.receive(&mut buffer, left);
            if let Some(bytes) =
                received.map_err(|error| self.failed("waiting for a reply", &error))?
            {
                let rtt = started.elapsed();
                self.trips.record(rtt);
                return self.print(text, &buffer[..bytes], rtt);
            }
        }
    }

    fn failed(&self, step: &str, error: &io::Error) -> Failure {
        let number = self.sequence;
        Failure::unavailable(format!(
            "{}: {} while {step}, datagram {number}",
            self.target,
            reason(error)
        ))
    }

    fn print(&mut self, sent: &[u8], datagram: &[u8], rtt: Duration) -> Result<(), Failure> {
        let reply = match self.args.frame {
            false => datagram,
            true => match frame::decode(datagram, DATAGRAM_BYTES_MAX) {
                Ok(frame::Frame::Complete { payload, .. }) => payload,
                _ => {
                    return Err(Failure::unavailable(format!(
                        "{}: a reply is no frame",
                        self.target
                    )));
                }
            },
        };
        let json = self.args.common.json;
        self.output
            .exchange(json, self.sequence, (sent, reply), rtt)
    }

    fn finish(mut self) -> Outcome {
        let summary = self.trips.summary();
        if self.args.repeat > 1 && self.args.common.json {
            self.output
                .json(&serde_json::json!({ "statistics": summary, "lost": self.lost }))?;
        } else if self.args.repeat > 1 {
            eprintln!("{} round trips, {} lost", summary.count, self.lost);
            for line in summary.lines() {
                eprintln!("{line}");
            }
        }
        Ok(if self.lost > 0 {
            Exit::Negative
        } else {
            Exit::Done
        })
    }
}
