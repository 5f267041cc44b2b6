//! Which TLS handshakes go on in a turn: a signature takes as long as a thousand echoes, and
//! clients that all say hello at once must not keep the others waiting.
//!
//! ```text
//! pump ──nobody waits, and the turn's share is not used──▶ goes on at once
//!   └──▶ waits: what came stays in the socket ──its turn, at the end of this one or a later──▶ goes on
//! ```
//!
//! The share is a span of time ([`Limits::turn_handshake_time`](crate::limits::Limits)), which may
//! be exceeded by one step: one signature. Each client has a line of its own, first come first
//! served, and the clients are served in turn, so that one with many connections does not keep out
//! one with a single one.

use std::time::Duration;

use crate::service::Id;
use crate::shares::{Client, InTurn};

/// The lines, and how much of a turn is used.
#[derive(Debug)]
pub(crate) struct Handshakes {
    /// Sessions that wait. One may have ended meanwhile.
    sessions: InTurn<Id>,
    waiting: usize,
    /// Sessions that ended while they waited and were not taken out yet.
    ended: usize,
    turn_time_max: Duration,
    used: Duration,
    /// The session whose turn it is.
    called: Option<Id>,
}

impl Handshakes {
    pub(crate) fn new(turn_time_max: Duration) -> Self {
        Self {
            sessions: InTurn::default(),
            waiting: 0,
            ended: 0,
            turn_time_max,
            used: Duration::ZERO,
            called: None,
        }
    }

    /// Another share, from now on.
    pub(crate) fn set_turn_time_max(&mut self, turn_time_max: Duration) {
        self.turn_time_max = turn_time_max;
    }

    /// A turn begins: nothing of its share is used.
    pub(crate) fn begin_turn(&mut self) {
        self.used = Duration::ZERO;
        self.called = None;
    }

    /// Whether a session must wait before its handshake goes on; `waits` if it does already.
    pub(crate) fn must_wait(&mut self, id: Id, client: Client, waits: bool) -> bool {
        if self.called == Some(id) {
            return false;
        }
        if waits {
            return true;
        }
        if self.sessions.is_empty() && self.used < self.turn_time_max {
            return false;
        }
        self.sessions.push(client, id);
        self.waiting += 1;
        true
    }

    /// A step of a handshake took so long.
    pub(crate) fn took(&mut self, time: Duration) {
        self.used += time;
    }

    /// The next session whose handshake may go on, as long as some of the share is left. It may
    /// have ended.
    pub(crate) fn call(&mut self) -> Option<Id> {
        self.called = None;
        if self.used >= self.turn_time_max {
            return None;
        }
        let (_, id) = self.sessions.pop()?;
        self.waiting -= 1;
        self.called = Some(id);
        self.called
    }

    /// Whether somebody waits.
    pub(crate) fn are_waiting(&self) -> bool {
        self.waiting > 0
    }

    /// A session ended while it waited. Those that did are taken out once they are half of all, so
    /// that the lines are no longer than twice the sessions.
    pub(crate) fn ended(&mut self, is_live: impl Fn(Id) -> bool) {
        self.ended += 1;
        if self.ended * 2 < self.waiting {
            return;
        }
        self.sessions.retain(|id| is_live(*id));
        self.waiting = self.sessions.len();
        self.ended = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARE: Duration = Duration::from_millis(1);

    fn client(n: u8) -> Client {
        Some([192, 0, 2, n].into())
    }

    fn session(index: u32) -> Id {
        Id {
            index,
            generation: 1,
        }
    }

    /// The turn's share is used, and these wait: each of the client of the given number.
    fn waiting(clients: &[u8]) -> Handshakes {
        let mut handshakes = Handshakes::new(SHARE);
        handshakes.took(SHARE);
        for (index, n) in (0..).zip(clients) {
            assert!(handshakes.must_wait(session(index), client(*n), false));
        }
        handshakes
    }

    /// Who is served in one turn, when a step takes so long.
    fn turn(handshakes: &mut Handshakes, step: Duration) -> Vec<u32> {
        handshakes.begin_turn();
        let served = std::iter::from_fn(|| {
            let id = handshakes.call()?;
            assert!(!handshakes.must_wait(id, client(1), true));
            handshakes.took(step);
            Some(id.index)
        });
        served.collect()
    }

    #[test]
    fn a_handshake_goes_on_at_once_while_nobody_waits_and_the_share_lasts() {
        let mut handshakes = Handshakes::new(SHARE);
        assert!(!handshakes.must_wait(session(1), client(1), false));
        handshakes.took(SHARE / 2);
        assert!(!handshakes.must_wait(session(2), client(1), false));
        handshakes.took(SHARE / 2);
        assert!(handshakes.must_wait(session(3), client(1), false));
        handshakes.begin_turn();
        let overtakes = !handshakes.must_wait(session(4), client(2), false);
        assert!(!overtakes, "who waits comes first");
        assert!(handshakes.are_waiting());
    }

    #[test]
    fn a_turn_has_its_share_and_one_step_at_least() {
        let mut handshakes = waiting(&[1; 9]);
        assert_eq!(turn(&mut handshakes, SHARE / 2), [0, 1]);
        assert_eq!(turn(&mut handshakes, SHARE * 7), [2]);
        assert_eq!(turn(&mut handshakes, SHARE * 2 / 3), [3, 4]);
        assert_eq!(turn(&mut handshakes, Duration::ZERO), [5, 6, 7, 8]);
        assert!(!handshakes.are_waiting());
    }

    #[test]
    fn clients_are_served_in_turn_and_each_ones_first_come_first() {
        let mut handshakes = waiting(&[1, 1, 1, 2, 3, 2]);
        assert_eq!(turn(&mut handshakes, SHARE / 9), [0, 3, 4, 1, 5, 2]);
    }

    #[test]
    fn who_ended_is_taken_out_in_time() {
        let mut handshakes = waiting(&[1, 1, 1, 2]);
        handshakes.ended(|id| id != session(3));
        assert_eq!(handshakes.waiting, 4);
        handshakes.ended(|id| id.index < 2);
        assert_eq!(handshakes.waiting, 2);
        assert_eq!(turn(&mut handshakes, SHARE / 9), [0, 1]);
    }
}
