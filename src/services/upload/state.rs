//! Where a connection stands, and what a step of it comes to. The module above draws how one state
//! follows another.

use std::time::{Duration, Instant};

use super::accounts::Attempt;
use super::announced::Announced;
use super::beginning::Beginning;
use super::incoming::Incoming;
use super::refusal::Refusal;
use super::storing::Storing;
use crate::wire::challenge::CHALLENGE_BYTES;
use crate::wire::login::ObjectScanner;
use crate::wire::upload::is_blank;

/// Where a connection stands.
pub(super) enum State {
    /// The challenge is to be sent.
    Greeting { until: Instant },
    /// It was; its answer is awaited.
    Answer {
        challenge: [u8; CHALLENGE_BYTES],
        until: Instant,
    },
    /// Name and password are awaited.
    Login {
        scanner: ObjectScanner,
        until: Instant,
    },
    /// They are being checked.
    LoggingIn {
        attempt: Box<Attempt>,
        until: Instant,
    },
    /// The header of the next file is awaited. What came of it is gathered here, because it may be
    /// longer than a page; while that is nothing but blanks, the connection is idle.
    Header { gathered: Vec<u8>, until: Instant },
    /// The bytes of a small file are coming; so many of them are here.
    Small {
        announced: Box<Announced>,
        arrived: usize,
        until: Instant,
    },
    /// The disk is asked whether there is room for a file, and to make it.
    Beginning { beginning: Box<Beginning> },
    /// The bytes of a file are coming.
    Body {
        incoming: Box<Incoming>,
        until: Instant,
    },
    /// The next file cannot come. Once all before it is answered, its client is told, if it asked to
    /// be, and the connection ends.
    Refusing { refusal: Refusal, until: Instant },
    /// Files are being stored; then it goes on with the next state.
    Storing {
        storing: Box<Storing>,
        next: Box<State>,
    },
}

/// What a state came to.
pub(super) enum Step {
    /// It waits: for more input, or for the end that it asked for.
    Wait,
    /// The next state goes on at once.
    Go(State),
    /// This user is logged in.
    LoggedIn(Box<str>),
    /// It has become another state, which goes on at once.
    Again,
    /// The files that came whole are stored first; then this state goes on.
    Store,
}

impl State {
    /// Whether a client that is told nothing more would miss nothing.
    pub(super) fn is_between_files(&self) -> bool {
        matches!(self, State::Header { gathered, .. } if is_blank(gathered))
    }

    /// Whether the file that it is about is to be answered; `None` if it is about none.
    pub(super) fn is_answered(&self) -> Option<bool> {
        let announced = match self {
            State::Small { announced, .. } => announced,
            State::Beginning { beginning } => &beginning.announced,
            State::Body { incoming, .. } => incoming.announced(),
            _ => return None,
        };
        Some(announced.asks.is_some())
    }

    /// The time that the disk took is not the client's.
    pub(super) fn prolong(&mut self, by: Duration) {
        if let State::Header { until, .. } | State::Small { until, .. } = self {
            *until += by;
        }
    }
}
