//! `flood`: loads a UDP or TCP echo server and measures what comes back.
//!
//! Two kinds of load:
//! - *closed loop* (default): a window of messages is always under way; how fast the server answers
//!   sets the pace.
//! - *open loop* (`--rate`): messages are due at fixed moments whatever the server does, and the
//!   time of each counts from the moment it was due. A stalled server thus cannot hide the stall by
//!   slowing the load down with it.
//!
//! Each message begins with its number and goes on with letters that upper-casing leaves alone, so
//! any echo returns it byte for byte. A datagram that is outstanding longer than the time-out is
//! lost and frees its place in the window.
//!
//! Datagrams are sent and received in batches, and those that are due together leave as one message
//! that the kernel takes apart (`UDP_SEGMENT`), or the other end's where it may stay whole: so one
//! core of load is enough for one core of a server. `--separate` sends each by itself, as many
//! clients would.
//!
//! One thread per connection; their books are added at the end. Not here: HTTP load.

mod books;
mod drive;

use std::io::{self, ErrorKind};
use std::net::{TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde_json::json;

use self::books::Tally;
use self::drive::{over_tcp, over_udp};
use super::connect::{self, Connected, DatagramSocket, Datagrams, Target, reason};
use super::interrupt::stop_flag;
use super::output::{Output, Tone};
use super::units::{Size, Span};
use super::{CommonArgs, Exit, Failure, Outcome, units};

/// Digits of the number in front of each message.
const NUMBER_BYTES: usize = 16;

/// How long the answer to a probe of several addresses may take.
const PROBE_WAIT: Duration = Duration::from_millis(100);

/// The longest sleep, so that a signal is noticed.
const NAP: Duration = Duration::from_millis(100);

/// What carries the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Carrier {
    /// One datagram per message
    Udp,
    /// Messages in a stream
    Tcp,
}

/// The arguments of `flood`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  netlab-reactor flood udp localhost 12000                     closed loop
  netlab-reactor flood udp localhost 12002 --rate 50000        open loop
  netlab-reactor flood udp localhost 12000 --separate          as many clients would
  netlab-reactor flood tcp localhost 12000 --connections 64 --window 16

Exit codes: 0 done, 1 nothing came back, 69 unreachable.")]
pub struct FloodArgs {
    /// What carries the messages: udp or tcp
    #[arg(hide_possible_values = true)]
    carrier: Carrier,

    /// Host name or address
    host: String,

    /// Port
    port: u16,

    /// Bytes per message
    #[arg(short, long, value_name = "BYTES", default_value = "64", value_parser = units::parse_size)]
    size: u64,

    /// Messages under way on each (closed loop)
    #[arg(short, long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    window: u32,

    /// Send each datagram by itself; without it, those that are due together leave joined
    /// (UDP_SEGMENT), which costs one core less
    #[arg(long)]
    separate: bool,

    /// Connections, each with a thread
    #[arg(short = 'c', long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,

    /// Messages a second over all (open loop)
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    rate: Option<u64>,

    /// How long to send
    #[arg(short, long, value_name = "DURATION", default_value = "10s", value_parser = units::parse_interval)]
    duration: Duration,

    /// Stop after this many messages on each connection
    #[arg(long, value_name = "N")]
    count: Option<u64>,

    /// Time-out of each message
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = units::parse_interval)]
    lost_after: Duration,

    #[command(flatten)]
    common: CommonArgs,
}

/// What the worker of one connection has to do.
#[derive(Debug, Clone)]
struct Plan {
    message_bytes: usize,
    window: u64,
    /// Time between two messages of this connection (open loop).
    interval: Option<Duration>,
    duration: Duration,
    count: u64,
    lost_after: Duration,
    /// Datagrams leave one by one.
    separate: bool,
    stop: Arc<AtomicBool>,
}

/// Runs `flood`.
///
/// # Errors
/// See [`Failure`].
pub fn run(args: &FloodArgs) -> Outcome {
    let plan = plan(args)?;
    let target = Target::new(&args.host, args.port);
    let mut sockets = Vec::new();
    for _ in 0..args.connections {
        sockets.push(open(&target, args)?);
    }
    let started = Instant::now();
    let workers: Vec<_> = sockets
        .into_iter()
        .map(|socket| {
            let plan = plan.clone();
            thread::spawn(move || match socket {
                Socket::Udp(socket) => over_udp(&socket, &plan),
                Socket::Tcp(stream) => over_tcp(&stream, &plan),
            })
        })
        .collect();
    let mut total = Tally::default();
    let mut errors = Vec::new();
    for worker in workers {
        let Ok((tally, error)) = worker.join() else {
            return Err(Failure::unavailable("a worker thread failed"));
        };
        total.merge(&tally);
        errors.extend(error.map(|error| reason(&error)));
    }
    let elapsed = started.elapsed().min(args.duration);
    tell(args, &target, &total, elapsed)?;
    match errors.first() {
        Some(error) => Err(Failure::unavailable(format!(
            "{target}: {} of {} connections broke: {error}",
            errors.len(),
            args.connections
        ))),
        None if total.received == 0 => Ok(Exit::Negative),
        None => Ok(Exit::Done),
    }
}

fn plan(args: &FloodArgs) -> Result<Plan, Failure> {
    let size_max = match args.carrier {
        Carrier::Udp => 65_507,
        Carrier::Tcp => 16 << 20,
    };
    let message_bytes = usize::try_from(args.size)
        .ok()
        .filter(|size| (NUMBER_BYTES..=size_max).contains(size))
        .ok_or_else(|| {
            Failure::usage(format!(
                "--size is a number from {NUMBER_BYTES} to {size_max}"
            ))
        })?;
    Ok(Plan {
        message_bytes,
        window: u64::from(args.window),
        interval: args
            .rate
            .map(|rate| Duration::from_secs_f64(f64::from(args.connections) / rate as f64)),
        duration: args.duration,
        count: args.count.unwrap_or(u64::MAX),
        lost_after: args.lost_after,
        separate: args.separate,
        stop: stop_flag()?,
    })
}

enum Socket {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

fn open(target: &Target, args: &FloodArgs) -> Result<Socket, Failure> {
    let timeouts = args.common.timeouts();
    let socket = match args.carrier {
        Carrier::Udp => {
            let mut datagrams = Datagrams::open(target, args.common.family(), &timeouts)?;
            if datagrams.has_others() {
                // Finds out at which address somebody is. The answer, or the lack of one, is of no
                // other interest.
                let mut answer = [0; 1];
                let probed = datagrams
                    .send(b"probe")
                    .and_then(|_| datagrams.receive(&mut answer, PROBE_WAIT));
                if let Ok(None) = probed {
                    let _ = datagrams.receive(&mut answer, PROBE_WAIT);
                }
            }
            match datagrams.into_socket() {
                DatagramSocket::Udp(socket) => {
                    socket.set_nonblocking(true).map(|()| Socket::Udp(socket))
                }
                DatagramSocket::Unix(_) => Err(io::Error::from(ErrorKind::Unsupported)),
            }
        }
        Carrier::Tcp => match connect::connect(target, args.common.family(), &timeouts)?.0 {
            Connected::Tcp(stream) => stream.set_nonblocking(true).map(|()| Socket::Tcp(stream)),
            Connected::Unix(_) => Err(io::Error::from(ErrorKind::Unsupported)),
        },
    };
    socket.map_err(|error| Failure::unavailable(format!("{target}: {}", reason(&error))))
}

fn tell(
    args: &FloodArgs,
    target: &Target,
    total: &Tally,
    elapsed: Duration,
) -> Result<(), Failure> {
    let seconds = elapsed.as_secs_f64().max(1e-9);
    let (sent_rate, received_rate) = (total.sent as f64 / seconds, total.received as f64 / seconds);
    let loss_percent = 100.0 * total.lost as f64 / total.sent.max(1) as f64;
    let summary = total.trips.summary();
    let mut output = Output::new();
    if args.common.json {
        return output.json(&json!({
            "target": target.to_string(), "carrier": if args.carrier == Carrier::Udp { "udp" } else { "tcp" },
            "size": args.size, "connections": args.connections, "window": args.window, "rate": args.rate,
            "elapsed_s": seconds, "sent": total.sent, "received": total.received, "lost": total.lost,
            "loss_percent": loss_percent, "late": total.late, "duplicates": total.duplicates,
            "reordered": total.reordered, "corrupt": total.corrupt, "refused": total.refused,
            "sent_per_s": sent_rate, "received_per_s": received_rate, "rtt": summary,
        }));
    }
    let load = match args.rate {
        Some(rate) => format!("open loop, {rate} messages/s"),
        None => format!("closed loop, window {}", args.window),
    };
    let carried = Size((received_rate * args.size as f64) as u64);
    let mut lines = vec![
        format!(
            "{target}: {} connection{}, {} bytes, {load}, {}",
            args.connections,
            if args.connections == 1 { "" } else { "s" },
            args.size,
            Span(elapsed)
        ),
        format!(
            "sent {} ({sent_rate:.0}/s), received {} ({received_rate:.0}/s, {carried}/s)",
            total.sent, total.received
        ),
        format!(
            "lost {} ({loss_percent:.3}%), late {}, duplicate {}, out of order {}, corrupt {}, refused {}",
            total.lost, total.late, total.duplicates, total.reordered, total.corrupt, total.refused
        ),
    ];
    if summary.count > 0 {
        lines.extend(summary.lines());
        lines.push(format!("rtt p99.9 = {:.3} ms", summary.p999_ms));
    }
    lines
        .iter()
        .try_for_each(|line| output.line(Tone::Plain, line))
}
