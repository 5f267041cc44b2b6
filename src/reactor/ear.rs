//! A socket that clients reach, and what becomes of it when it fails for good.
//!
//! `accept` and `recvmmsg` may fail without end: an administrator closed the socket (`ss -K`, after
//! which `accept` is EINVAL), or a rule of the system forbids the call (EPERM). Such a socket is
//! never drained, so the loop would turn without a pause and serve nobody. Instead it is closed,
//! and opened at the same address after a pause:
//!
//! ```text
//! Open ──FAILURES_MAX in a row──▶ Down ──bound again──▶ Open
//!                                 ▲  └──cannot be bound──┐
//!                                 └────a longer pause────┘
//! ```
//!
//! Pauses begin at [`PAUSE_MIN`] and double up to `reopen_pause_max`. They begin there again once
//! the socket was open for `reopen_pause_max`: one that opens and fails at once is paused ever
//! longer.
//!
//! Not here: closing and opening, which need the kernel, and errors of which the cause is known,
//! such as want of memory.

use std::time::{Duration, Instant};

/// Failures in a row that make a socket a broken one. An error may concern one client and be gone
/// with it (`man 2 accept`, "already-pending network errors"), so the first ones prove nothing.
const FAILURES_MAX: u32 = 16;

/// The first pause.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// The socket of a listener, or the time at which it gets another one.
pub(crate) struct Ear<T> {
    state: State<T>,
    /// The last pause; zero before the first.
    pause: Duration,
}

enum State<T> {
    Open {
        socket: T,
        since: Instant,
        /// Since something was received.
        failures: u32,
    },
    Down {
        until: Instant,
    },
    Closed,
}

impl<T> Ear<T> {
    /// One with its first socket.
    pub(crate) fn new(socket: T, now: Instant) -> Self {
        let mut ear = Self {
            state: State::Closed,
            pause: Duration::ZERO,
        };
        ear.open(socket, now);
        ear
    }

    /// It has a socket, from now on.
    pub(crate) fn open(&mut self, socket: T, now: Instant) {
        self.state = State::Open {
            socket,
            since: now,
            failures: 0,
        };
    }

    /// The socket, while it has one.
    pub(crate) fn socket(&self) -> Option<&T> {
        match &self.state {
            State::Open { socket, .. } => Some(socket),
            State::Down { .. } | State::Closed => None,
        }
    }

    /// When it is to be opened again; `None` if it is open, or closed on purpose.
    pub(crate) fn down_until(&self) -> Option<Instant> {
        match self.state {
            State::Down { until } => Some(until),
            State::Open { .. } | State::Closed => None,
        }
    }

    /// Whether it is time to open it again.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.down_until().is_some_and(|until| until <= now)
    }

    /// Whether it was closed on purpose.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Something was received, or there was nothing to receive.
    #[inline]
    pub(crate) fn worked(&mut self) {
        if let State::Open { failures, .. } = &mut self.state {
            *failures = 0;
        }
    }

    /// A call failed. Whether the socket is broken: then it is to be taken down.
    pub(crate) fn failed(&mut self) -> bool {
        let State::Open { failures, .. } = &mut self.state else {
            return false;
        };
        *failures += 1;
        *failures >= FAILURES_MAX
    }

    /// Begins a pause, after which it is to be opened again: the socket, if it had one, and the
    /// pause.
    pub(crate) fn take_down(&mut self, now: Instant, pause_max: Duration) -> (Option<T>, Duration) {
        if let State::Open { since, .. } = self.state
            && now >= since + pause_max
        {
            self.pause = Duration::ZERO;
        }
        self.pause = (2 * self.pause).max(PAUSE_MIN).min(pause_max);
        let until = now + self.pause;
        (self.replace(State::Down { until }), self.pause)
    }

    /// Closes it on purpose: the socket, if it had one.
    pub(crate) fn close(&mut self) -> Option<T> {
        self.replace(State::Closed)
    }

    fn replace(&mut self, state: State<T>) -> Option<T> {
        match std::mem::replace(&mut self.state, state) {
            State::Open { socket, .. } => Some(socket),
            State::Down { .. } | State::Closed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE_MAX: Duration = Duration::from_secs(1);

    #[test]
    fn a_socket_is_broken_after_some_failures_in_a_row() {
        let mut ear = Ear::new((), Instant::now());
        for _ in 0..10 {
            assert!((1..FAILURES_MAX).all(|_| !ear.failed()));
            ear.worked();
        }
        assert!((1..FAILURES_MAX).all(|_| !ear.failed()));
        assert!(ear.failed());
    }

    #[test]
    fn pauses_grow_while_it_cannot_be_opened_or_fails_at_once() {
        let mut now = Instant::now();
        let mut ear = Ear::new((), now);
        let mut pauses = Vec::new();
        for opens in [false, true, true, false, true, true] {
            let (_, pause) = ear.take_down(now, PAUSE_MAX);
            assert_eq!(ear.down_until(), Some(now + pause));
            pauses.push(pause.as_millis());
            now += pause;
            if opens {
                ear.open((), now);
                assert_eq!(ear.down_until(), None);
            }
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1000, 1000]);
        now += PAUSE_MAX;
        assert_eq!(ear.take_down(now, PAUSE_MAX).1, PAUSE_MIN);
    }

    #[test]
    fn what_is_closed_on_purpose_stays_closed() {
        let mut ear = Ear::new(7, Instant::now());
        assert_eq!(ear.close(), Some(7));
        assert!(ear.is_closed() && ear.socket().is_none() && ear.down_until().is_none());
        assert!(!ear.failed());
    }
}
