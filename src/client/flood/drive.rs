//! Sending and receiving until the plan is done: over datagrams, and over a stream.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::books::{Pace, Ring, Tally, blank, read_number, write_number};
use super::{NAP, NUMBER_BYTES, Plan};

/// Sends and receives until the plan is done and everything is answered or lost.
pub(super) fn over_udp(socket: &UdpSocket, plan: &Plan) -> (Tally, Option<io::Error>) {
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
pub(super) fn over_tcp(stream: &TcpStream, plan: &Plan) -> (Tally, Option<io::Error>) {
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
