//! `ping`: measures loss and round-trip time against a UDP server that answers each datagram with itself in upper case.
//!
//! [`Rounds`] keeps the books of one host without socket or clock; a thread per host feeds it and sends what it reports
//! to the one that prints.
//!
//! Rules:
//! - An answer is *late* when it comes after its time-out was reported; it was not lost then, and the loss does not count it.
//! - An answer whose bytes differ from the question is *corrupt*; where its number cannot be read any more, it is taken
//!   for the only outstanding one if there is just one.
//! - Sending never waits for answers: the interval runs from one sending to the next.
//!
//! Not here: load (see [`super::flood`]).

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::connect::{Datagrams, Family, Target, reason};
use super::interrupt::stop_flag;
use super::output::{Output, Tone};
use super::statistics::{RoundTrips, Summary};
use super::units::since_epoch;
use super::{CommonArgs, Exit, Failure, Limits, Outcome, units};
use crate::wire::ping;
use crate::wire::stamp::Stamp;

/// How many of the latest pings are remembered, to tell a late or doubled answer from a stray one.
const REMEMBERED_MAX: usize = 65_536;

/// How long `--flood` waits for an answer before it sends the next ping all the same, as ping(8) does.
const FLOOD_INTERVAL: Duration = Duration::from_millis(10);

/// How many round trips a graph shows.
const GRAPH_WIDTH: usize = 60;

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

/// What happened to a ping.
#[derive(Debug, Clone, PartialEq)]
enum Event {
    Reply {
        sequence: u64,
        rtt: Duration,
        reordered: bool,
    },
    Late {
        sequence: u64,
        rtt: Duration,
    },
    Duplicate {
        sequence: u64,
        rtt: Duration,
    },
    Corrupt {
        sequence: Option<u64>,
    },
    TimedOut {
        sequence: u64,
    },
    Unreachable {
        sequence: u64,
        reason: String,
    },
    /// An answer to nothing that is remembered.
    Stray,
    /// The host's thread ended.
    End(Box<Result<Report, Failure>>),
}

/// How the pings of one host ended.
#[derive(Debug, Clone, PartialEq)]
struct Report {
    counts: Counts,
    round_trips: Summary,
    elapsed: Duration,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    sent: u64,
    received: u64,
    late: u64,
    duplicates: u64,
    reordered: u64,
    corrupt: u64,
    unreachable: u64,
    strays: u64,
}

impl Counts {
    /// Pings that no answer came to, not even a corrupt one.
    fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.received + self.corrupt)
    }

    fn loss_percent(&self) -> f64 {
        if self.sent == 0 {
            0.0
        } else {
            100.0 * self.lost() as f64 / self.sent as f64
        }
    }
}

/// The books of one host.
#[derive(Debug)]
struct Rounds {
    size: usize,
    timeout: Duration,
    /// The number of the ping in front of `slots`.
    first: u64,
    slots: VecDeque<Slot>,
    /// Every ping before this one is answered or was reported.
    settled: u64,
    highest_answered: u64,
    counts: Counts,
    trips: RoundTrips,
}

/// What became of one ping.
#[derive(Debug, Clone, Copy)]
struct Slot {
    sent_at: Duration,
    sent: Instant,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Outstanding,
    TimedOut,
    Answered,
}

impl Rounds {
    fn new(size: usize, timeout: Duration) -> Self {
        Self {
            size,
            timeout,
            first: 1,
            slots: VecDeque::new(),
            settled: 1,
            highest_answered: 0,
            counts: Counts::default(),
            trips: RoundTrips::new(),
        }
    }

    /// The datagram of the next ping, which is taken to be sent now.
    fn send(&mut self, now: Instant, sent_at: Duration) -> Vec<u8> {
        if self.slots.len() == REMEMBERED_MAX {
            self.slots.pop_front();
            self.first += 1;
            self.settled = self.settled.max(self.first);
        }
        self.counts.sent += 1;
        self.slots.push_back(Slot {
            sent_at,
            sent: now,
            fate: Fate::Outstanding,
        });
        ping::build(
            &Stamp {
                sequence: self.counts.sent,
                sent_at,
            },
            self.size,
        )
    }

    /// Takes in an answer.
    fn receive(&mut self, datagram: &[u8], now: Instant) -> Event {
        let intact = ping::parse(datagram)
            .map(|stamp| stamp.sequence)
            .filter(|sequence| self.is_answer_to(datagram, *sequence));
        let Some(sequence) = intact.or_else(|| self.nearest(datagram)) else {
            return self.unaccountable(datagram);
        };
        let highest = self.highest_answered;
        let Some(slot) = self.slot(sequence) else {
            return self.unaccountable(datagram);
        };
        let rtt = now.saturating_duration_since(slot.sent);
        if intact.is_none() {
            if slot.fate == Fate::Answered {
                return self.unaccountable(datagram);
            }
            slot.fate = Fate::Answered;
            self.counts.corrupt += 1;
            return Event::Corrupt {
                sequence: Some(sequence),
            };
        }
        let fate = std::mem::replace(&mut slot.fate, Fate::Answered);
        if fate == Fate::Answered {
            self.counts.duplicates += 1;
            return Event::Duplicate { sequence, rtt };
        }
        self.counts.received += 1;
        self.trips.record(rtt);
        self.highest_answered = highest.max(sequence);
        if fate == Fate::TimedOut {
            self.counts.late += 1;
            return Event::Late { sequence, rtt };
        }
        let reordered = sequence < highest;
        self.counts.reordered += u64::from(reordered);
        Event::Reply {
            sequence,
            rtt,
            reordered,
        }
    }

    /// An answer that belongs to no ping, or to one that has its answer already and comes back bent.
    fn unaccountable(&mut self, datagram: &[u8]) -> Event {
        self.counts.strays += 1;
        match datagram.len() < 8 {
            true => Event::Stray,
            false => Event::Corrupt { sequence: None },
        }
    }

    /// Whether these are the bytes of that ping, in whatever case.
    fn is_answer_to(&mut self, datagram: &[u8], sequence: u64) -> bool {
        let size = self.size;
        let Some(slot) = self.slot(sequence) else {
            return false;
        };
        let sent_at = slot.sent_at;
        let question = ping::build(&Stamp { sequence, sent_at }, size);
        datagram == question || datagram == question.to_ascii_uppercase()
    }

    /// The ping that a bent answer belongs to: of the latest ones that are as long, the one whose beginning it differs from
    /// in the fewest bytes, and in less than a quarter of them; otherwise the only one that waits for an answer.
    ///
    /// A bent number is no guide: it names another ping, whose own answer would then look like a duplicate.
    fn nearest(&mut self, datagram: &[u8]) -> Option<u64> {
        const LATEST: usize = 128;
        const BEGINNING: usize = 64;
        let skipped = self.slots.len().saturating_sub(LATEST);
        let candidates = self.slots.iter().enumerate().skip(skipped);
        let distances = candidates.filter_map(|(index, slot)| {
            let sequence = self.first + index as u64;
            let stamp = Stamp {
                sequence,
                sent_at: slot.sent_at,
            };
            let mut answer = ping::build(&stamp, self.size.min(BEGINNING));
            ping::answer_in_place(&mut answer);
            if datagram.len() != answer.len().max(self.size) {
                return None;
            }
            let pairs = answer.iter().zip(datagram);
            let distance = pairs.filter(|(a, b)| !a.eq_ignore_ascii_case(b)).count();
            (distance * 4 < answer.len()).then_some((distance, sequence))
        });
        let nearest = distances.min().map(|(_, sequence)| sequence);
        nearest.or_else(|| self.only_outstanding())
    }

    /// The network says that the oldest outstanding ping met nobody.
    fn refuse(&mut self, reason: String) -> Option<Event> {
        let sequence = self.oldest_outstanding()?;
        self.slot(sequence)?.fate = Fate::TimedOut;
        self.counts.unreachable += 1;
        Some(Event::Unreachable { sequence, reason })
    }

    /// The oldest ping whose time is over by `now`, if any; ask until there is none.
    fn expire(&mut self, now: Instant) -> Option<Event> {
        let deadline = self.deadline()?;
        let sequence = self.oldest_outstanding()?;
        if now < deadline {
            return None;
        }
        self.slot(sequence)?.fate = Fate::TimedOut;
        Some(Event::TimedOut { sequence })
    }

    /// When the oldest outstanding ping times out.
    fn deadline(&mut self) -> Option<Instant> {
        let sequence = self.oldest_outstanding()?;
        let timeout = self.timeout;
        self.slot(sequence).map(|slot| slot.sent + timeout)
    }

    fn oldest_outstanding(&mut self) -> Option<u64> {
        while self.settled <= self.counts.sent {
            let settled = self.settled;
            if self
                .slot(settled)
                .is_some_and(|slot| slot.fate == Fate::Outstanding)
            {
                return Some(settled);
            }
            self.settled += 1;
        }
        None
    }

    fn only_outstanding(&mut self) -> Option<u64> {
        let oldest = self.oldest_outstanding()?;
        let from = usize::try_from(oldest - self.first).ok()?;
        let outstanding = self
            .slots
            .iter()
            .skip(from)
            .filter(|slot| slot.fate == Fate::Outstanding)
            .count();
        (outstanding == 1).then_some(oldest)
    }

    fn slot(&mut self, sequence: u64) -> Option<&mut Slot> {
        let index = sequence.checked_sub(self.first)?;
        self.slots.get_mut(usize::try_from(index).ok()?)
    }
}

/// How to ping one host.
#[derive(Debug, Clone)]
struct Plan {
    target: Target,
    family: Family,
    limits: Limits,
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
    let mut limits = args.common.limits_or(Duration::from_secs(1));
    limits.timeout = args.wait.unwrap_or(limits.timeout);
    let stop = stop_flag()?;
    let (events, incoming) = mpsc::channel();
    for (host, target) in targets.iter().enumerate() {
        let plan = Plan {
            target: target.clone(),
            family: args.common.family(),
            limits,
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
    let resolving = Limits {
        timeout: plan.limits.timeout.max(Duration::from_secs(5)),
        ..plan.limits
    };
    let mut socket = Datagrams::open(&plan.target, plan.family, &resolving)?;
    let mut rounds = Rounds::new(plan.size, plan.limits.timeout);
    let mut buffer = vec![0; 65_536];
    let started = Instant::now();
    let mut due = started;
    while !plan.stop.load(Ordering::Relaxed) && !plan.limits.is_over() {
        let now = Instant::now();
        let sends_more = plan.count == 0 || rounds.counts.sent < plan.count;
        if sends_more && now >= due {
            // A machine that slept does not catch up on what it missed.
            due = (due + plan.interval).max(now.checked_sub(Duration::from_secs(1)).unwrap_or(now));
            let datagram = rounds.send(now, since_epoch());
            // An error may stem from an earlier datagram; the kernel reports it once, and the second attempt counts.
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
    // Pings that were interrupted are neither lost nor answered: they do not count.
    while let Some(sequence) = rounds.oldest_outstanding() {
        rounds.counts.sent -= 1;
        if let Some(slot) = rounds.slot(sequence) {
            slot.fate = Fate::TimedOut;
        }
    }
    Ok(Report {
        counts: rounds.counts,
        round_trips: rounds.trips.summary(),
        elapsed: started.elapsed(),
    })
}

/// Prints what the hosts' threads tell.
struct Screen<'a> {
    args: &'a PingArgs,
    targets: &'a [Target],
    output: Output,
    graphs: Vec<Graph>,
    reports: Vec<Option<Result<Report, Failure>>>,
}

impl<'a> Screen<'a> {
    fn new(args: &'a PingArgs, targets: &'a [Target]) -> Self {
        Self {
            args,
            targets,
            output: Output::new(),
            graphs: targets.iter().map(|_| Graph::default()).collect(),
            reports: targets.iter().map(|_| None).collect(),
        }
    }

    fn show(mut self, incoming: &mpsc::Receiver<(usize, Event)>) -> Outcome {
        for (host, event) in incoming {
            match event {
                Event::End(report) => self.reports[host] = Some(*report),
                event => self.show_event(host, &event)?,
            }
        }
        self.finish()
    }

    fn show_event(&mut self, host: usize, event: &Event) -> Result<(), Failure> {
        self.graphs[host].add(event);
        let name = self.targets[host].host();
        if self.args.quiet {
            return Ok(());
        }
        if self.args.common.json {
            return self.output.json(&json_event(&name, event));
        }
        if self.args.graph {
            return self.draw(host);
        }
        let (tone, text) = match event {
            Event::Reply {
                sequence,
                rtt,
                reordered,
            } => {
                let note = if *reordered { " (out of order)" } else { "" };
                let tone = if *reordered { Tone::Odd } else { Tone::Plain };
                (
                    tone,
                    format!(
                        "Sequence {sequence}: Reply from {name} RTT = {:.3}s{note}",
                        rtt.as_secs_f64()
                    ),
                )
            }
            Event::Late { sequence, rtt } => (
                Tone::Odd,
                format!(
                    "Sequence {sequence}: Late reply from {name} RTT = {:.3}s",
                    rtt.as_secs_f64()
                ),
            ),
            Event::Duplicate { sequence, rtt } => (
                Tone::Odd,
                format!(
                    "Sequence {sequence}: Duplicate reply from {name} RTT = {:.3}s",
                    rtt.as_secs_f64()
                ),
            ),
            Event::Corrupt {
                sequence: Some(sequence),
            } => (
                Tone::Bad,
                format!("Sequence {sequence}: Corrupt reply from {name}"),
            ),
            Event::Corrupt { sequence: None } => (Tone::Bad, format!("Corrupt reply from {name}")),
            Event::TimedOut { sequence } => {
                (Tone::Bad, format!("Sequence {sequence}: Request timed out"))
            }
            Event::Unreachable { sequence, reason } => (
                Tone::Bad,
                format!("Sequence {sequence}: {name} is unreachable ({reason})"),
            ),
            Event::Stray | Event::End(_) => return Ok(()),
        };
        let time = match self.args.timestamps {
            true => format!("[{:.6}] ", since_epoch().as_secs_f64()),
            false => String::new(),
        };
        self.output.line(tone, &format!("{time}{text}"))
    }

    /// Redraws the line of one host; with several hosts each change is a line of its own.
    fn draw(&mut self, host: usize) -> Result<(), Failure> {
        let line = self.graphs[host].line(&self.targets[host].host());
        if !self.output.is_terminal() {
            return Ok(());
        }
        let end = if self.targets.len() == 1 { "" } else { "\n" };
        self.output.bytes(format!("\r{line}\x1b[K{end}").as_bytes())
    }

    fn finish(mut self) -> Outcome {
        if self.args.graph && !self.args.common.json {
            let graphs = std::mem::take(&mut self.graphs);
            if self.output.is_terminal() && self.targets.len() == 1 {
                self.output.bytes(b"\n")?;
            } else {
                for (graph, target) in graphs.iter().zip(self.targets) {
                    self.output.line(Tone::Plain, &graph.line(&target.host()))?;
                }
            }
        }
        let mut exit = Exit::Done;
        let mut failure = None;
        for (report, target) in std::mem::take(&mut self.reports)
            .into_iter()
            .zip(self.targets)
        {
            let report = match report {
                Some(Ok(report)) => report,
                Some(Err(error)) => {
                    failure = Some(error);
                    continue;
                }
                None => continue,
            };
            self.summarise(target, &report)?;
            let counts = report.counts;
            if counts.received == 0 && counts.unreachable > 0 {
                let name = target.host();
                failure = Some(Failure::unavailable(format!(
                    "{name}: unreachable, nobody listens at {target}"
                )));
            } else if counts.received == 0 {
                exit = Exit::Negative;
            }
        }
        failure.map_or(Ok(exit), Err)
    }

    fn summarise(&mut self, target: &Target, report: &Report) -> Result<(), Failure> {
        let Report {
            counts,
            round_trips,
            elapsed,
        } = report;
        if self.args.common.json {
            return self.output.json(&json!({
                "event": "summary", "host": target.host(), "sent": counts.sent, "received": counts.received,
                "lost": counts.lost(), "loss_percent": counts.loss_percent(), "late": counts.late,
                "duplicates": counts.duplicates, "reordered": counts.reordered, "corrupt": counts.corrupt,
                "unreachable": counts.unreachable, "strays": counts.strays,
                "elapsed_ms": elapsed.as_secs_f64() * 1e3, "rtt": round_trips,
            }));
        }
        let mut lines = vec![
            String::new(),
            format!("--- {} ping statistics ---", target.host()),
            format!(
                "{} packets transmitted, {} received, {}% packet loss, time {}ms",
                counts.sent,
                counts.received,
                percent(counts.loss_percent()),
                elapsed.as_millis()
            ),
        ];
        let oddities = [
            (counts.late, "late"),
            (counts.duplicates, "duplicate"),
            (counts.reordered, "out of order"),
            (counts.corrupt, "corrupt"),
            (counts.unreachable, "unreachable"),
            (counts.strays, "stray"),
        ];
        let oddities: Vec<_> = oddities.iter().filter(|(count, _)| *count > 0).collect();
        if !oddities.is_empty() {
            lines.push(
                oddities
                    .iter()
                    .map(|(count, what)| format!("{count} {what}"))
                    .collect::<Vec<_>>()
                    .join(", "),
            );
        }
        if round_trips.count > 0 {
            lines.extend(round_trips.lines());
        }
        lines
            .iter()
            .try_for_each(|line| self.output.line(Tone::Plain, line))
    }
}

/// A percentage with up to four digits behind the point, as ping(8) writes it.
fn percent(share: f64) -> String {
    let text = format!("{share:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn json_event(host: &str, event: &Event) -> serde_json::Value {
    let millis = |rtt: &Duration| rtt.as_secs_f64() * 1e3;
    match event {
        Event::Reply {
            sequence,
            rtt,
            reordered,
        } => {
            json!({"event": "reply", "host": host, "sequence": sequence, "rtt_ms": millis(rtt), "reordered": reordered})
        }
        Event::Late { sequence, rtt } => {
            json!({"event": "late", "host": host, "sequence": sequence, "rtt_ms": millis(rtt)})
        }
        Event::Duplicate { sequence, rtt } => {
            json!({"event": "duplicate", "host": host, "sequence": sequence, "rtt_ms": millis(rtt)})
        }
        Event::Corrupt { sequence } => {
            json!({"event": "corrupt", "host": host, "sequence": sequence})
        }
        Event::TimedOut { sequence } => {
            json!({"event": "timeout", "host": host, "sequence": sequence})
        }
        Event::Unreachable { sequence, reason } => {
            json!({"event": "unreachable", "host": host, "sequence": sequence, "reason": reason})
        }
        Event::Stray | Event::End(_) => json!({"event": "stray", "host": host}),
    }
}

/// The latest round trips as a row of bars, a cross where no answer came.
#[derive(Debug, Default)]
struct Graph {
    millis: VecDeque<Option<f64>>,
    sent: u64,
    missed: u64,
}

impl Graph {
    fn add(&mut self, event: &Event) {
        let point = match event {
            Event::Reply { rtt, .. } => Some(rtt.as_secs_f64() * 1e3),
            Event::TimedOut { .. }
            | Event::Unreachable { .. }
            | Event::Corrupt { sequence: Some(_) } => None,
            Event::Late { .. } => {
                self.missed = self.missed.saturating_sub(1);
                return;
            }
            _ => return,
        };
        self.sent += 1;
        self.missed += u64::from(point.is_none());
        self.millis.push_back(point);
        if self.millis.len() > GRAPH_WIDTH {
            self.millis.pop_front();
        }
    }

    /// The bars, scaled to the longest of them, then the latest, the longest and the loss: 80 columns for short names.
    fn line(&self, host: &str) -> String {
        const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        let tail = self.tail();
        let width = GRAPH_WIDTH
            .min(79_usize.saturating_sub(host.chars().count() + tail.chars().count() + 2))
            .max(8);
        let longest = self.longest();
        let mut line = format!("{host} ");
        for point in self
            .millis
            .iter()
            .skip(self.millis.len().saturating_sub(width))
        {
            line.push(match point {
                None => '×',
                Some(millis) => BARS[((millis / longest * 8.0) as usize).min(7)],
            });
        }
        // Writing to a String cannot fail.
        let _ = write!(line, " {tail}");
        line
    }

    fn longest(&self) -> f64 {
        self.millis
            .iter()
            .flatten()
            .fold(f64::MIN_POSITIVE, |longest, millis| longest.max(*millis))
    }

    fn tail(&self) -> String {
        let loss = percent((1000.0 * self.missed as f64 / self.sent.max(1) as f64).round() / 10.0);
        match self.millis.back() {
            Some(Some(last)) => format!("{last:.2} ms, max {:.2} ms, {loss}% lost", self.longest()),
            _ => format!("lost, max {:.2} ms, {loss}% lost", self.longest()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(1);

    fn after(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    /// Sends `count` pings at `start` and answers the books with the right answers to each.
    fn sent(count: usize, start: Instant) -> (Rounds, Vec<Vec<u8>>) {
        let mut rounds = Rounds::new(40, TIMEOUT);
        let answers = (0..count)
            .map(|_| {
                rounds
                    .send(start, Duration::from_secs(1_700_000_000))
                    .to_ascii_uppercase()
            })
            .collect();
        (rounds, answers)
    }

    #[test]
    fn replies_in_and_out_of_order_and_twice() {
        let start = Instant::now();
        let (mut rounds, answers) = sent(3, start);
        let rtt = Duration::from_millis(5);
        let now = after(start, 5);
        assert_eq!(
            rounds.receive(&answers[1], now),
            Event::Reply {
                sequence: 2,
                rtt,
                reordered: false
            }
        );
        assert_eq!(
            rounds.receive(&answers[0], now),
            Event::Reply {
                sequence: 1,
                rtt,
                reordered: true
            }
        );
        assert_eq!(
            rounds.receive(&answers[1], now),
            Event::Duplicate { sequence: 2, rtt }
        );
        assert_eq!(
            rounds.counts,
            Counts {
                sent: 3,
                received: 2,
                reordered: 1,
                duplicates: 1,
                ..Counts::default()
            }
        );
        assert_eq!(rounds.counts.lost(), 1);
    }

    #[test]
    fn late_is_not_lost() {
        let start = Instant::now();
        let (mut rounds, answers) = sent(2, start);
        assert_eq!(rounds.expire(after(start, 999)), None);
        assert_eq!(
            rounds.expire(after(start, 1000)),
            Some(Event::TimedOut { sequence: 1 })
        );
        assert_eq!(
            rounds.expire(after(start, 1000)),
            Some(Event::TimedOut { sequence: 2 })
        );
        assert_eq!(rounds.expire(after(start, 1000)), None);
        let late = rounds.receive(&answers[1], after(start, 1500));
        assert_eq!(
            late,
            Event::Late {
                sequence: 2,
                rtt: Duration::from_millis(1500)
            }
        );
        assert_eq!((rounds.counts.late, rounds.counts.lost()), (1, 1));
        assert_eq!(rounds.counts.loss_percent(), 50.0);
    }

    #[test]
    fn corrupt_answers_are_told_from_lost_ones() {
        let start = Instant::now();
        let (mut rounds, answers) = sent(2, start);
        let mut bent = answers[0].clone();
        *bent.last_mut().unwrap() ^= 1;
        assert_eq!(
            rounds.receive(&bent, start),
            Event::Corrupt { sequence: Some(1) }
        );
        // One is left, so an answer that cannot be read must be its.
        let mut unreadable = answers[1].clone();
        unreadable[0] ^= 1;
        assert_eq!(
            rounds.receive(&unreadable, start),
            Event::Corrupt { sequence: Some(2) }
        );
        assert_eq!(
            rounds.receive(&unreadable, start),
            Event::Corrupt { sequence: None }
        );
        assert_eq!(rounds.receive(b"x", start), Event::Stray);
        assert_eq!((rounds.counts.corrupt, rounds.counts.lost()), (2, 0));
        assert_eq!(rounds.deadline(), None);
    }

    #[test]
    fn a_bent_number_is_not_taken_for_another_ping() {
        let start = Instant::now();
        let mut rounds = Rounds::new(0, TIMEOUT);
        let answers: Vec<Vec<u8>> = (0..3)
            .map(|number| {
                let time = Duration::from_micros(1_700_000_000_000_000 + 2111 * number);
                rounds.send(start, time).to_ascii_uppercase()
            })
            .collect();
        assert!(matches!(
            rounds.receive(&answers[0], start),
            Event::Reply { sequence: 1, .. }
        ));
        // The answers to the second and the third, with the numbers of the first and the second.
        for (index, number) in [(1, b'1'), (2, b'2')] {
            let mut bent = answers[index].clone();
            bent[5] = number;
            let sequence = Some(index as u64 + 1);
            assert_eq!(rounds.receive(&bent, start), Event::Corrupt { sequence });
        }
        let Counts {
            corrupt,
            duplicates,
            strays,
            ..
        } = rounds.counts;
        assert_eq!((corrupt, duplicates, strays), (2, 0, 0));
        assert_eq!(rounds.counts.lost(), 0);
    }

    #[test]
    fn a_refusal_meets_the_oldest() {
        let start = Instant::now();
        let (mut rounds, _) = sent(1, start);
        let event = rounds.refuse("nobody".into());
        assert_eq!(
            event,
            Some(Event::Unreachable {
                sequence: 1,
                reason: "nobody".into()
            })
        );
        assert_eq!(rounds.refuse("nobody".into()), None);
    }

    #[test]
    fn memory_is_bounded() {
        let start = Instant::now();
        let (mut rounds, answers) = sent(REMEMBERED_MAX + 10, start);
        assert_eq!(rounds.slots.len(), REMEMBERED_MAX);
        assert!(matches!(
            rounds.receive(&answers[10], start),
            Event::Reply { sequence: 11, .. }
        ));
        assert_eq!(
            rounds.expire(after(start, 2000)),
            Some(Event::TimedOut { sequence: 12 })
        );
    }

    #[test]
    fn percentages_and_graphs() {
        assert_eq!(percent(100.0 * 4.0 / 11.0), "36.3636");
        assert_eq!(percent(40.0), "40");
        let mut graph = Graph::default();
        for millis in [1, 4, 8] {
            let rtt = Duration::from_millis(millis);
            graph.add(&Event::Reply {
                sequence: millis,
                rtt,
                reordered: false,
            });
        }
        graph.add(&Event::TimedOut { sequence: 9 });
        assert_eq!(graph.line("h"), "h ▂▅█× lost, max 8.00 ms, 25% lost");
        for _ in 0..200 {
            graph.add(&Event::TimedOut { sequence: 10 });
        }
        assert!(graph.line("localhost").chars().count() < 80);
    }
}
