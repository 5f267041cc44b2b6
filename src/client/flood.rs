//! `flood`: loads a UDP or TCP echo server and measures what comes back.
//!
//! Two kinds of load:
//! - *closed loop* (default): a window of messages is always under way; how fast the server answers sets the pace.
//! - *open loop* (`--rate`): messages are due at fixed moments whatever the server does, and the time of each counts
//!   from the moment it was due. A stalled server thus cannot hide the stall by slowing the load down with it.
//!
//! Each message begins with its number and goes on with letters that upper-casing leaves alone, so any echo returns it
//! byte for byte. A datagram that is outstanding longer than the time-out is lost and frees its place in the window.
//!
//! One thread per connection; their books are added at the end. Not here: HTTP load.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;

use super::connect::{self, Connected, DatagramSocket, Datagrams, Target, reason};
use super::interrupt::stop_flag;
use super::output::{Output, Tone};
use super::statistics::RoundTrips;
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
    stop: Arc<AtomicBool>,
}

/// Runs `flood`.
///
/// # Errors
/// See [`Failure`].
pub fn run(args: &FloodArgs) -> Outcome {
    let size_max = if args.carrier == Carrier::Udp {
        65_507
    } else {
        16 << 20
    };
    let message_bytes = match usize::try_from(args.size) {
        Ok(size) if (NUMBER_BYTES..=size_max).contains(&size) => size,
        _ => {
            return Err(Failure::usage(format!(
                "--size is a number from {NUMBER_BYTES} to {size_max}"
            )));
        }
    };
    let plan = Plan {
        message_bytes,
        window: u64::from(args.window),
        interval: args
            .rate
            .map(|rate| Duration::from_secs_f64(f64::from(args.connections) / rate as f64)),
        duration: args.duration,
        count: args.count.unwrap_or(u64::MAX),
        lost_after: args.lost_after,
        stop: stop_flag()?,
    };
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
        match worker.join() {
            Ok((tally, error)) => {
                total.merge(&tally);
                errors.extend(error.map(|error| reason(&error)));
            }
            Err(_) => return Err(Failure::unavailable("a worker thread failed")),
        }
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

enum Socket {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

fn open(target: &Target, args: &FloodArgs) -> Result<Socket, Failure> {
    let limits = args.common.limits();
    let socket = match args.carrier {
        Carrier::Udp => {
            let mut datagrams = Datagrams::open(target, args.common.family(), &limits)?;
            if datagrams.has_others() {
                // Finds out at which address somebody is. The answer, or the lack of one, is of no other interest.
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
        Carrier::Tcp => match connect::connect(target, args.common.family(), &limits)?.0 {
            Connected::Tcp(stream) => stream.set_nonblocking(true).map(|()| Socket::Tcp(stream)),
            Connected::Unix(_) => Err(io::Error::from(ErrorKind::Unsupported)),
        },
    };
    socket.map_err(|error| Failure::unavailable(format!("{target}: {}", reason(&error))))
}

/// The books of one connection, or of all.
#[derive(Debug, Clone, Default)]
struct Tally {
    sent: u64,
    received: u64,
    lost: u64,
    late: u64,
    duplicates: u64,
    reordered: u64,
    corrupt: u64,
    refused: u64,
    trips: RoundTrips,
}

impl Tally {
    fn merge(&mut self, other: &Self) {
        self.sent += other.sent;
        self.received += other.received;
        self.lost += other.lost;
        self.late += other.late;
        self.duplicates += other.duplicates;
        self.reordered += other.reordered;
        self.corrupt += other.corrupt;
        self.refused += other.refused;
        self.trips.merge(&other.trips);
    }
}

/// Decides when the next message is due.
struct Pace {
    started: Instant,
    plan: Plan,
}

impl Pace {
    /// The moment from which message `number` counts, if it is due by `now` with `outstanding` ones under way.
    fn due(&self, number: u64, outstanding: u64, now: Instant) -> Option<Instant> {
        if !self.goes_on(number, now) {
            return None;
        }
        match self.moment(number) {
            Some(due) => (due <= now).then_some(due),
            None => (outstanding < self.plan.window).then_some(now),
        }
    }

    /// Whether message `number` will be sent yet. What was due in time is sent even when it became late on the way: to
    /// leave it out would hide the stall.
    fn goes_on(&self, number: u64, now: Instant) -> bool {
        let end = self.started + self.plan.duration;
        let is_in_time = match self.moment(number) {
            Some(due) => due < end && now < end + self.plan.lost_after,
            None => now < end,
        };
        is_in_time && number < self.plan.count && !self.plan.stop.load(Ordering::Relaxed)
    }

    /// When message `number` is due in the open loop.
    fn moment(&self, number: u64) -> Option<Instant> {
        self.plan
            .interval
            .map(|interval| self.started + interval.mul_f64(number as f64))
    }

    /// How long to sleep at most when nothing can be done now.
    fn nap(&self, number: u64, now: Instant) -> Duration {
        match self.moment(number) {
            Some(due) if self.goes_on(number, now) => due.saturating_duration_since(now).min(NAP),
            _ => NAP,
        }
    }
}

/// The bytes of message `number`: a number, then letters without lower case, then a line ending.
fn write_number(message: &mut [u8], number: u64) {
    let mut rest = number;
    for digit in message[..NUMBER_BYTES].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

fn blank(message_bytes: usize) -> Vec<u8> {
    let mut message = vec![b'X'; message_bytes];
    message[message_bytes - 1] = b'\n';
    message[..NUMBER_BYTES].fill(b'0');
    message
}

fn read_number(message: &[u8]) -> Option<u64> {
    let digits = message.get(..NUMBER_BYTES)?;
    digits.iter().try_fold(0_u64, |number, digit| {
        digit.is_ascii_digit().then(|| {
            number
                .wrapping_mul(10)
                .wrapping_add(u64::from(digit - b'0'))
        })
    })
}

/// What became of a datagram that was sent.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Outstanding(Instant),
    Answered,
    Lost(Instant),
}

/// The latest datagrams by number, and the books they end in. The ring forgets what is older than itself.
struct Ring {
    slots: Vec<(u64, Fate)>,
    next: u64,
    oldest: u64,
    outstanding: u64,
    highest: u64,
    tally: Tally,
}

impl Ring {
    fn new(window: u64, is_open_loop: bool) -> Self {
        let slots = if is_open_loop {
            1 << 20
        } else {
            (window * 4).next_power_of_two().max(1 << 12)
        };
        let slots = vec![(u64::MAX, Fate::Answered); usize::try_from(slots).unwrap_or(1 << 20)];
        Self {
            slots,
            next: 0,
            oldest: 0,
            outstanding: 0,
            highest: 0,
            tally: Tally::default(),
        }
    }

    fn slot(&mut self, number: u64) -> &mut (u64, Fate) {
        let index = number as usize & (self.slots.len() - 1);
        &mut self.slots[index]
    }

    fn sent(&mut self, due: Instant) {
        let number = self.next;
        if let (_, Fate::Outstanding(_)) = *self.slot(number) {
            self.outstanding -= 1;
            self.tally.lost += 1;
        }
        *self.slot(number) = (number, Fate::Outstanding(due));
        self.next += 1;
        self.outstanding += 1;
        self.tally.sent += 1;
    }

    fn answered(&mut self, number: u64, now: Instant) {
        let slot = self.slot(number);
        if slot.0 != number {
            self.tally.corrupt += 1;
            return;
        }
        let fate = std::mem::replace(&mut slot.1, Fate::Answered);
        let due = match fate {
            Fate::Answered => {
                self.tally.duplicates += 1;
                return;
            }
            Fate::Outstanding(due) => {
                self.outstanding -= 1;
                due
            }
            Fate::Lost(due) => {
                self.tally.lost -= 1;
                self.tally.late += 1;
                due
            }
        };
        self.tally.received += 1;
        self.tally.reordered += u64::from(number < self.highest);
        self.highest = self.highest.max(number);
        self.tally.trips.record(now.saturating_duration_since(due));
    }

    /// Gives up what is outstanding since `lost_after` and longer.
    fn expire(&mut self, now: Instant, lost_after: Duration) {
        while self.oldest < self.next {
            let oldest = self.oldest;
            let slot = self.slot(oldest);
            match slot.1 {
                Fate::Outstanding(due) if slot.0 == oldest => {
                    if now.saturating_duration_since(due) < lost_after {
                        return;
                    }
                    slot.1 = Fate::Lost(due);
                    self.outstanding -= 1;
                    self.tally.lost += 1;
                }
                _ => {}
            }
            self.oldest += 1;
        }
    }
}

/// Sends and receives until the plan is done and everything is answered or lost.
fn over_udp(socket: &UdpSocket, plan: &Plan) -> (Tally, Option<io::Error>) {
    let pace = Pace {
        started: Instant::now(),
        plan: plan.clone(),
    };
    let mut ring = Ring::new(plan.window, plan.interval.is_some());
    let mut message = blank(plan.message_bytes);
    let mut buffer = vec![0; 65_536];
    loop {
        let mut now = Instant::now();
        let mut is_writable = true;
        while let Some(due) = pace.due(ring.next, ring.outstanding, now) {
            write_number(&mut message, ring.next);
            match socket.send(&message) {
                Ok(_) => ring.sent(due),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    is_writable = false;
                    break;
                }
                // Nobody listens: every datagram is answered so. It counts as sent, and will be lost.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    ring.sent(due);
                    ring.tally.refused += 1;
                }
                Err(error) => return (ring.tally, Some(error)),
            }
        }
        let mut came = false;
        // Bounded, so that a fast server cannot keep the open loop from sending.
        for _ in 0..256 {
            match socket.recv(&mut buffer) {
                Ok(bytes) => {
                    came = true;
                    now = Instant::now();
                    let answer = &buffer[..bytes];
                    match read_number(answer).filter(|&number| number < ring.next) {
                        Some(number) if answer[NUMBER_BYTES..] == message[NUMBER_BYTES..] => {
                            ring.answered(number, now);
                        }
                        _ => ring.tally.corrupt += 1,
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    ring.tally.refused += 1;
                }
                Err(error) => return (ring.tally, Some(error)),
            }
        }
        ring.expire(now, plan.lost_after);
        if !pace.goes_on(ring.next, now) && ring.outstanding == 0 {
            return (ring.tally, None);
        }
        if !came {
            let flags = if is_writable {
                PollFlags::IN
            } else {
                PollFlags::IN | PollFlags::OUT
            };
            wait(socket, flags, pace.nap(ring.next, now));
        }
    }
}

/// The same over a stream: answers come in order, so the moments of the outstanding ones are a queue.
fn over_tcp(stream: &TcpStream, plan: &Plan) -> (Tally, Option<io::Error>) {
    let pace = Pace {
        started: Instant::now(),
        plan: plan.clone(),
    };
    let mut tally = Tally::default();
    let mut outstanding = std::collections::VecDeque::new();
    let mut outgoing = blank(plan.message_bytes);
    // Bytes of `outgoing` that were written; all of them when the next message may begin.
    let mut written = plan.message_bytes;
    let mut expected = blank(plan.message_bytes);
    let mut matched = 0;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let mut now = Instant::now();
        let mut is_writable = true;
        while is_writable {
            if written == plan.message_bytes {
                let under_way = outstanding.len() as u64;
                let Some(due) = pace.due(tally.sent, under_way, now) else {
                    break;
                };
                write_number(&mut outgoing, tally.sent);
                outstanding.push_back(due);
                tally.sent += 1;
                written = 0;
            }
            match (&*stream).write(&outgoing[written..]) {
                Ok(bytes) => written += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => is_writable = false,
                Err(error) => return finish(tally, outstanding.len(), Some(error)),
            }
        }
        match (&*stream).read(&mut buffer) {
            Ok(0) => {
                return finish(
                    tally,
                    outstanding.len(),
                    Some(io::Error::from(ErrorKind::UnexpectedEof)),
                );
            }
            Ok(bytes) => {
                now = Instant::now();
                let mut rest = &buffer[..bytes];
                while !rest.is_empty() {
                    if matched == 0 {
                        write_number(&mut expected, tally.received);
                    }
                    let (piece, after) =
                        rest.split_at(rest.len().min(plan.message_bytes - matched));
                    if piece != &expected[matched..matched + piece.len()] {
                        tally.corrupt += 1;
                        let error = io::Error::new(
                            ErrorKind::InvalidData,
                            "other bytes came back than were sent",
                        );
                        return finish(tally, outstanding.len(), Some(error));
                    }
                    matched = (matched + piece.len()) % plan.message_bytes;
                    rest = after;
                    if matched == 0
                        && let Some(due) = outstanding.pop_front()
                    {
                        tally.received += 1;
                        tally.trips.record(now.saturating_duration_since(due));
                    }
                }
                continue;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return finish(tally, outstanding.len(), Some(error)),
        }
        if !pace.goes_on(tally.sent, now) {
            let overdue = |due: &Instant| now.saturating_duration_since(*due) >= plan.lost_after;
            if outstanding.back().is_none_or(overdue) {
                return finish(tally, outstanding.len(), None);
            }
        }
        let flags = if is_writable {
            PollFlags::IN
        } else {
            PollFlags::IN | PollFlags::OUT
        };
        wait(stream, flags, pace.nap(tally.sent, now));
    }
}

fn finish(
    mut tally: Tally,
    outstanding: usize,
    error: Option<io::Error>,
) -> (Tally, Option<io::Error>) {
    tally.lost = outstanding as u64;
    (tally, error)
}

/// Sleeps until the socket is ready or the time is over.
fn wait(socket: &impl AsFd, flags: PollFlags, nap: Duration) {
    let nap = Timespec {
        tv_sec: 0,
        tv_nsec: i64::from(nap.min(NAP).subsec_nanos()),
    };
    // A signal ends the wait early, which is no harm: the caller looks at everything again.
    let _ = poll(&mut [PollFd::new(socket, flags)], Some(&nap));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_upper_casing() {
        let mut message = blank(20);
        write_number(&mut message, 9_007_199_254_740_991);
        assert_eq!(message, b"9007199254740991XXX\n");
        assert_eq!(message.to_ascii_uppercase(), message);
        assert_eq!(read_number(&message), Some(9_007_199_254_740_991));
        assert_eq!(read_number(b"12"), None);
        assert_eq!(read_number(b"00000000000000x0"), None);
    }

    #[test]
    fn the_books_balance() {
        let start = Instant::now();
        let lost_after = Duration::from_secs(1);
        let mut ring = Ring::new(4, false);
        for _ in 0..5 {
            ring.sent(start);
        }
        let soon = start + Duration::from_millis(10);
        for number in [0, 2, 1, 2] {
            ring.answered(number, soon);
        }
        ring.expire(start + lost_after, lost_after);
        ring.answered(4, start + lost_after);
        let tally = &ring.tally;
        assert_eq!(
            (tally.sent, tally.received, tally.lost, tally.late),
            (5, 4, 1, 1)
        );
        assert_eq!(
            (tally.duplicates, tally.reordered, ring.outstanding),
            (1, 1, 0)
        );
    }

    #[test]
    fn the_open_loop_is_due_by_the_clock_alone() {
        let plan = Plan {
            message_bytes: 64,
            window: 1,
            interval: Some(Duration::from_millis(10)),
            duration: Duration::from_secs(1),
            count: 99,
            lost_after: Duration::from_secs(1),
            stop: Arc::default(),
        };
        let started = Instant::now();
        let pace = Pace { started, plan };
        let now = started + Duration::from_millis(25);
        assert_eq!(
            pace.due(2, 1000, now),
            Some(started + Duration::from_millis(20))
        );
        assert_eq!(pace.due(3, 0, now), None);
        assert_eq!(pace.due(99, 0, now), None);
    }
}
