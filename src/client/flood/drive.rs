//! Sending and receiving until the plan is done: over datagrams, and over a stream.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::books::{Pace, Ring, Tally, blank, read_number, write_number};
use super::{NAP, NUMBER_BYTES, Plan};

/// How many datagrams are received at most before some are sent: a fast server must not keep the
/// open loop from sending.
const RECEIVED_AT_ONCE_MAX: u32 = 256;

/// Sends and receives until the plan is done and everything is answered or lost.
pub(super) fn over_udp(socket: &UdpSocket, plan: &Plan) -> (Tally, Option<io::Error>) {
    let mut load = DatagramLoad {
        socket,
        pace: Pace {
            started: Instant::now(),
            plan: plan.clone(),
        },
        ring: Ring::new(plan.window, plan.interval.is_some()),
        message: blank(plan.message_bytes),
        buffer: vec![0; 65_536],
    };
    let result = load.run(plan.lost_after);
    (load.ring.tally, result.err())
}

struct DatagramLoad<'a> {
    socket: &'a UdpSocket,
    pace: Pace,
    ring: Ring,
    message: Vec<u8>,
    buffer: Vec<u8>,
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
        let ring = &mut self.ring;
        while let Some(due) = self.pace.due(ring.next, ring.outstanding, now) {
            write_number(&mut self.message, ring.next);
            match self.socket.send(&self.message) {
                Ok(_) => ring.sent(due),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                // Nobody listens: every datagram is answered so. It counts as sent, and will be
                // lost.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    ring.sent(due);
                    ring.tally.refused += 1;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Receives what is there; answers whether anything was.
    fn receive(&mut self) -> io::Result<bool> {
        let ring = &mut self.ring;
        let mut came = false;
        for _ in 0..RECEIVED_AT_ONCE_MAX {
            match self.socket.recv(&mut self.buffer) {
                Ok(bytes) => {
                    came = true;
                    let answer = &self.buffer[..bytes];
                    match read_number(answer).filter(|&number| number < ring.next) {
                        Some(number) if answer[NUMBER_BYTES..] == self.message[NUMBER_BYTES..] => {
                            ring.answered(number, Instant::now());
                        }
                        _ => ring.tally.corrupt += 1,
                    }
                }
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
