//! The way in: a challenge and its answer, then a login, where the listener asks for them.
//!
//! A challenge is used once, and there is no second try on a connection. Until a client is in, it has
//! one time for all of it, whatever it sends.
//!
//! Not here: who may log in ([`super::accounts`]).

use std::task::Poll;
use std::time::Instant;

use super::accounts::{Attempt, Verdict};
use super::state::{State, Step};
use super::{Upload, wait};
use crate::ending::{Error, Phase};
use crate::service::Io;
use crate::wire::challenge::CHALLENGE_BYTES;
use crate::wire::login::{self, LOGIN_BYTES_MAX, Login, ObjectScanner};

impl Upload {
    pub(super) fn after_handshake(&self, until: Instant, now: Instant) -> State {
        match self.accounts {
            Some(_) => State::Login {
                scanner: ObjectScanner::new(LOGIN_BYTES_MAX),
                until,
            },
            None => self.idle(now),
        }
    }

    pub(super) fn greeting(&self, until: Instant, io: &mut Io<'_>) -> Step {
        let mut challenge = [0; CHALLENGE_BYTES];
        io.cx.disk.entropy(&mut challenge);
        io.down.tx.put(&challenge, io.cx.pool);
        Step::Go(State::Answer { challenge, until })
    }

    pub(super) fn answer(
        &self,
        challenge: &[u8; CHALLENGE_BYTES],
        until: Instant,
        io: &mut Io<'_>,
    ) -> Result<Step, Error> {
        let answer_bytes = self.handshake.answer_bytes();
        let Some(answer) = io.down.rx.bytes().get(..answer_bytes) else {
            let begun = !io.down.rx.is_empty();
            return wait(io, until, Phase::Handshake, begun, || "the answer".into());
        };
        if !self.handshake.verify(&self.secret, challenge, answer) {
            return Err(Error::Refused("a wrong answer to the challenge".to_owned()));
        }
        io.down.rx.consume(answer_bytes);
        Ok(Step::Go(self.after_handshake(until, io.cx.now)))
    }

    pub(super) fn login(
        scanner: &mut ObjectScanner,
        until: Instant,
        io: &mut Io<'_>,
    ) -> Result<Step, Error> {
        let bytes = io.down.rx.bytes();
        let scanned = scanner.scan(bytes);
        let Some(end) = scanned.map_err(|error| Error::Protocol(error.to_string()))? else {
            let begun = !bytes.is_empty();
            return wait(io, until, Phase::Handshake, begun, || "the login".into());
        };
        let login =
            Login::parse(&bytes[..end]).map_err(|error| Error::Protocol(error.to_string()))?;
        io.down.rx.consume(end);
        Ok(Step::Go(State::LoggingIn {
            attempt: Box::new(Attempt::new(login)),
            until,
        }))
    }

    pub(super) fn logging_in(
        &mut self,
        attempt: &mut Attempt,
        until: Instant,
        io: &mut Io<'_>,
    ) -> Result<Step, Error> {
        // Invariant: nobody logs in where there are no accounts.
        let accounts = self.accounts.as_mut().expect("accounts");
        match accounts.judge(attempt, &self.store.folder, io)? {
            Poll::Pending if io.cx.now >= until => Err(Error::TimedOut(Phase::Handshake)),
            Poll::Pending => Ok(Step::Wait),
            Poll::Ready(Verdict::Right) => {
                io.down.tx.put(login::ACCEPTED, io.cx.pool);
                Ok(Step::LoggedIn(attempt.user().into()))
            }
            Poll::Ready(Verdict::Wrong) => {
                io.down.tx.put(login::REFUSED, io.cx.pool);
                io.close();
                Ok(Step::Wait)
            }
        }
    }
}
