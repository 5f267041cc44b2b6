//! Sending and receiving until the plan is done: over datagrams, and over a stream.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::books::{Pace, Ring, Tally, blank, read_number, write_number};
use super::{NAP, NUMBER_BYTES, Plan};
use crate::sys::unix::Bursts;
use crate::sys::{Batch, DatagramTuning};

/// How many batches are received at most before something is sent: a fast server must not keep the
/// open loop from sending.
const BATCHES_AT_ONCE_MAX: u32 = 4;

/// Datagrams that are sent in one call at most, and the bytes of them together.
const BURST_MAX: usize = 256;
const BURST_BYTES_MAX: usize = 256 * 1024;

/// Bytes asked for a socket's receive and send buffers.
const BUFFER_BYTES: usize = 4 << 20;

/// Sends and receives until the plan is done and everything is answered or lost.
pub(super) fn over_udp(socket: &UdpSocket, plan: &Plan) -> (Tally, Option<io::Error>) {
    let tuning = DatagramTuning {
        recv_buffer_bytes: BUFFER_BYTES,
        send_buffer_bytes: BUFFER_BYTES,
        receive_runs: true,
    };
    let mut load = DatagramLoad {
        socket,
        bursts: Bursts::new(socket, &tuning, !plan.separate),
        pace: Pace {
            started: Instant::now(),
            plan: plan.clone(),
        },
        ring: Ring::new(plan.window, plan.interval.is_some()),
        message: blank(plan.message_bytes),
        dues: Vec::with_capacity(BURST_MAX),
    };
    let result = load.run(plan.lost_after);
    (load.ring.tally, result.err())
}

struct DatagramLoad<'a> {
    socket: &'a UdpSocket,
    bursts: Bursts,
    pace: Pace,
    ring: Ring,
    message: Vec<u8>,
    /// When each datagram of the burst was due; kept for its memory.
    dues: Vec<Instant>,
}

impl DatagramLoad<'_> {
    fn run(&mut self, lost_after: Duration) -> io::Result<()> {
        loop {
            let is_writable = self.send()?;
            let came = self.receive()?;
            let now = Instant::now();
            self.ring.expire(now, lost_after);
            if !self.pace.goes_on(self.ring.next, now) && self.ring.outstanding == 0 {
                return Ok(());
            }
            if !came {
                wait(self.socket, is_writable, self.pace.nap(self.ring.next, now));
            }
        }
    }

    /// Sends what is due; answers whether the socket would take more.
    fn send(&mut self) -> io::Result<bool> {
        let now = Instant::now();
        loop {
            self.gather(now);
            if self.dues.is_empty() {
                return Ok(true);
            }
            let (sent, error) = self.bursts.send(self.socket);
            self.dues[..sent]
                .iter()
                .for_each(|due| self.ring.sent(*due));
            match error {
                None => {}
                Some(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                // Nobody listens: every datagram is answered so. It counts as sent, and will be
                // lost.
                Some(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    self.ring.sent(self.dues[sent]);
                    self.ring.tally.refused += 1;
                }
                Some(error) => return Err(error),
            }
        }
    }

    /// Takes what is due, as much as one call sends.
    fn gather(&mut self, now: Instant) {
        self.dues.clear();
        let burst_max = (BURST_BYTES_MAX / self.message.len()).clamp(1, BURST_MAX);
        while self.dues.len() < burst_max {
            let taken = self.dues.len() as u64;
            let number = self.ring.next + taken;
            let Some(due) = self.pace.due(number, self.ring.outstanding + taken, now) else {
                break;
            };
            write_number(&mut self.message, number);
            self.bursts.push(&self.message);
            self.dues.push(due);
        }
    }

    /// Receives what is there; answers whether anything was.
    fn receive(&mut self) -> io::Result<bool> {
        let (ring, message) = (&mut self.ring, &self.message);
        let mut came = false;
        for _ in 0..BATCHES_AT_ONCE_MAX {
            let mut heard_at = None;
            let hear = |answer: &[u8]| {
                came = true;
                let now = *heard_at.get_or_insert_with(Instant::now);
                match read_number(answer).filter(|&number| number < ring.next) {
                    Some(number) if answer[NUMBER_BYTES..] == message[NUMBER_BYTES..] => {
                        ring.answered(number, now);
                    }
                    _ => ring.tally.corrupt += 1,
                }
            };
            match self.bursts.receive(self.socket, hear) {
                Ok(Batch::SLOTS) => {}
                Ok(_) => break,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    ring.tally.refused += 1;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(came)
    }
}

/// The same over a stream: answers come in order, so the moments of the outstanding ones are a
/// queue.
pub(super) fn over_tcp(stream: &TcpStream, plan: &Plan) -> (Tally, Option<io::Error>) {
    let mut load = StreamLoad {
        stream,
        pace: Pace {
            started: Instant::now(),
            plan: plan.clone(),
        },
        tally: Tally::default(),
        outstanding: VecDeque::new(),
        outgoing: blank(plan.message_bytes),
        written: plan.message_bytes,
        expected: blank(plan.message_bytes),
        matched: 0,
        buffer: vec![0; 256 * 1024],
    };
    let result = load.run(plan.lost_after);
    load.tally.lost = load.outstanding.len() as u64;
    (load.tally, result.err())
}

struct StreamLoad<'a> {
    stream: &'a TcpStream,
    pace: Pace,
    tally: Tally,
    /// When each message that is under way was due.
    outstanding: VecDeque<Instant>,
    outgoing: Vec<u8>,
    /// Bytes of `outgoing` that were written; all of them when the next message may begin.
    written: usize,
    /// The message that is answered next, and how many bytes of it came back.
    expected: Vec<u8>,
    matched: usize,
    buffer: Vec<u8>,
}

impl StreamLoad<'_> {
    fn run(&mut self, lost_after: Duration) -> io::Result<()> {
        loop {
            let is_writable = self.send()?;
            if self.receive()? {
                continue;
            }
            let now = Instant::now();
            if !self.pace.goes_on(self.tally.sent, now) {
                let overdue = |due: &Instant| now.saturating_duration_since(*due) >= lost_after;
                if self.outstanding.back().is_none_or(overdue) {
                    return Ok(());
                }
            }
            wait(
                self.stream,
                is_writable,
                self.pace.nap(self.tally.sent, now),
            );
        }
    }

    /// Writes what is due; answers whether the socket would take more.
    fn send(&mut self) -> io::Result<bool> {
        let now = Instant::now();
        loop {
            if self.written == self.outgoing.len() {
                let under_way = self.outstanding.len() as u64;
                let Some(due) = self.pace.due(self.tally.sent, under_way, now) else {
                    return Ok(true);
                };
                write_number(&mut self.outgoing, self.tally.sent);
                self.outstanding.push_back(due);
                self.tally.sent += 1;
                self.written = 0;
            }
            match self.stream.write(&self.outgoing[self.written..]) {
                Ok(bytes) => self.written += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads once; answers whether anything came.
    fn receive(&mut self) -> io::Result<bool> {
        let bytes = match self.stream.read(&mut self.buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        let now = Instant::now();
        let mut rest = &self.buffer[..bytes];
        while !rest.is_empty() {
            if self.matched == 0 {
                write_number(&mut self.expected, self.tally.received);
            }
            let expected = &self.expected[self.matched..];
            let (piece, after) = rest.split_at(rest.len().min(expected.len()));
            if !expected.starts_with(piece) {
                self.tally.corrupt += 1;
                let words = "other bytes came back than were sent";
                return Err(io::Error::new(ErrorKind::InvalidData, words));
            }
            self.matched = (self.matched + piece.len()) % self.expected.len();
            rest = after;
            if self.matched == 0
                && let Some(due) = self.outstanding.pop_front()
            {
                self.tally.received += 1;
                self.tally.trips.record(now.saturating_duration_since(due));
            }
        }
        Ok(true)
    }
}

/// Sleeps until something can be read, or written where the socket was full, or the time is over.
fn wait(socket: &impl AsFd, is_writable: bool, nap: Duration) {
    let flags = match is_writable {
        true => PollFlags::IN,
        false => PollFlags::IN | PollFlags::OUT,
    };
    let nap = Timespec {
        tv_sec: 0,
        tv_nsec: i64::from(nap.min(NAP).subsec_nanos()),
    };
    // A signal ends the wait early, which is no harm: the caller looks at everything again.
    let _ = poll(&mut [PollFd::new(socket, flags)], Some(&nap));
}
