//! `ping`: measures loss and round-trip time against a UDP server that answers each datagram with
//! itself in upper case.
//!
//! [`Rounds`] keeps the books of one host without socket or clock; a thread per host feeds it and
//! sends what it reports to the one that prints, the [`Screen`]. Sending never waits for answers:
//! the interval runs from one sending to the next.
//!
//! Not here: load (see [`super::flood`]).

mod graph;
mod rounds;
mod screen;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use self::rounds::{Event, Report, Rounds};
use self::screen::Screen;
use super::connect::{Datagrams, Family, Target, reason};
use super::interrupt::stop_flag;
use super::units::since_epoch;
use super::{CommonArgs, Failure, Outcome, Timeouts, units};

/// How long `--flood` waits for an answer before it sends the next ping all the same, as ping(8)
/// does.
const FLOOD_INTERVAL: Duration = Duration::from_millis(10);

/// The arguments of `ping`.
#[derive(Debug, Args)]
#[command(
    override_usage = "netlab-reactor ping [OPTIONS] <HOST> <PORT> [HOST:PORT...]",
    after_help = "Examples:
  netlab-reactor ping localhost 12000
  netlab-reactor ping -c 0 -i 200ms --graph localhost 12000    until Ctrl-C
  netlab-reactor ping -q --flood -c 10000 -s 1024 localhost 12000
  netlab-reactor ping ::1 12000 192.0.2.7:12000 --json         several at once

Exit codes: 0 answers came from every host, 1 some host was silent, 69
unreachable."
)]
pub struct PingArgs {
    /// Host name or address, or unix:PATH
    host: String,

    /// Port, then more hosts as HOST:PORT
    #[arg(value_name = "PORT HOST:PORT")]
    rest: Vec<String>,

    /// How many pings; 0 for until Ctrl-C
    #[arg(short, long, value_name = "N", default_value_t = 10)]
    count: u64,

    /// Time between two pings
    #[arg(short, long, value_name = "DURATION", default_value = "1s", value_parser = units::parse_interval)]
    interval: Duration,

    /// Time-out of each ping; the same as --timeout [default: 1s]
    #[arg(short = 'W', long, value_name = "DURATION", value_parser = units::parse_interval)]
    wait: Option<Duration>,

    /// Fill each datagram up to this size
    #[arg(short, long, value_name = "BYTES", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=65_507))]
    size: u64,

    /// Print the summary only
    #[arg(short, long)]
    quiet: bool,

    /// Print the time in front of each line
    #[arg(short = 'D', long)]
    timestamps: bool,

    /// Send as fast as answers come, at least a hundred times a second
    #[arg(long, conflicts_with_all = ["rate", "interval"])]
    flood: bool,

    /// Send this many pings a second
    #[arg(long, value_name = "N", conflicts_with = "interval", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: Option<u64>,

    /// Draw the round-trip times as they come
    #[arg(long)]
    graph: bool,

    #[command(flatten)]
    common: CommonArgs,
}

/// How to ping one host.
#[derive(Debug, Clone)]
struct Plan {
    target: Target,
    family: Family,
    timeouts: Timeouts,
    count: u64,
    interval: Duration,
    flood: bool,
    size: usize,
    stop: Arc<AtomicBool>,
}

/// Runs `ping`.
///
/// # Errors
/// See [`Failure`].
pub fn run(args: &PingArgs) -> Outcome {
    let (target, more) = Target::from_arguments(&args.host, &args.rest)?;
    let mut targets = vec![target];
    for word in more {
        targets.push(Target::parse(word)?);
    }
    let mut timeouts = args.common.timeouts_or(Duration::from_secs(1));
    timeouts.timeout = args.wait.unwrap_or(timeouts.timeout);
    let stop = stop_flag()?;
    let (events, incoming) = mpsc::channel();
    for (host, target) in targets.iter().enumerate() {
        let plan = Plan {
            target: target.clone(),
            family: args.common.family(),
            timeouts,
            count: args.count,
            interval: match args.rate {
                Some(rate) => Duration::from_secs(1) / u32::try_from(rate).unwrap_or(u32::MAX),
                None if args.flood => FLOOD_INTERVAL,
                None => args.interval,
            },
            flood: args.flood,
            // Invariant: the command line allows at most 65,507.
            size: usize::try_from(args.size).expect("a datagram's size"),
            stop: Arc::clone(&stop),
        };
        let events = events.clone();
        thread::spawn(move || {
            let report = ping_host(&plan, &|event| {
                // Nobody listens any more when standard output was closed; the process ends then.
                let _ = events.send((host, event));
            });
            let _ = events.send((host, Event::End(Box::new(report))));
        });
    }
    drop(events);
    Screen::new(args, &targets).show(&incoming)
}

/// Pings one host to the end and tells each event.
fn ping_host(plan: &Plan, tell: &dyn Fn(Event)) -> Result<Report, Failure> {
    let resolving = Timeouts {
        timeout: plan.timeouts.timeout.max(Duration::from_secs(5)),
        ..plan.timeouts
    };
    let mut socket = Datagrams::open(&plan.target, plan.family, &resolving)?;
    let mut rounds = Rounds::new(plan.size, plan.timeouts.timeout);
    let mut buffer = vec![0; 65_536];
    let started = Instant::now();
    let mut due = started;
    while !plan.stop.load(Ordering::Relaxed) && !plan.timeouts.is_over() {
        let now = Instant::now();
        let sends_more = plan.count == 0 || rounds.sent() < plan.count;
        if sends_more && now >= due {
            // A machine that slept does not catch up on what it missed.
            due = (due + plan.interval).max(now.checked_sub(Duration::from_secs(1)).unwrap_or(now));
            let datagram = rounds.send(now, since_epoch());
            // An error may stem from an earlier datagram; the kernel reports it once, and the
            // second attempt counts.
            let result = socket.send(&datagram).or_else(|_| socket.send(&datagram));
            if let Err(error) = result {
                rounds.refuse(reason(&error)).into_iter().for_each(tell);
            }
        }
        while let Some(event) = rounds.expire(now) {
            tell(event);
        }
        let deadline = rounds.deadline();
        if !sends_more && deadline.is_none() {
            break;
        }
        let next = deadline
            .into_iter()
            .chain(sends_more.then_some(due))
            .min()
            .unwrap_or(now);
        // In slices, because a signal may come just before the wait.
        let wait = next
            .saturating_duration_since(Instant::now())
            .min(Duration::from_millis(200));
        match socket.receive(&mut buffer, wait) {
            Ok(Some(bytes)) => {
                tell(rounds.receive(&buffer[..bytes], Instant::now()));
                due = if plan.flood { Instant::now() } else { due };
            }
            Ok(None) => {}
            Err(error) => rounds.refuse(reason(&error)).into_iter().for_each(tell),
        }
    }
    Ok(rounds.finish(started.elapsed()))
}
