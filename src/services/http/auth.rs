//! Who may see a site: passwords checked without stopping the loop.
//!
//! A password is hashed many thousand times on purpose, which takes longer than a turn may. So a check is a job: one is at
//! work at a time, some rounds in each turn, while the others wait in line; what comes out is remembered under a keyed hash
//! of the credentials, so that the next request costs a look-up. No password is kept.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::answer::Out;
use crate::config::AuthConfig;
use crate::http::basic::{Check, Credentials, Users};
use crate::http::head::RequestHead;

/// Rounds in one turn: less than a millisecond.
const ROUNDS_PER_TURN: u32 = 1000;
/// Checks that wait in line; who comes then is told to try later.
const CHECKS_MAX: usize = 64;
/// Verdicts that are remembered, and for how long. A right password is remembered longer: its check delays somebody real.
const VERDICTS_MAX: usize = 4096;
const RIGHT_FOR: Duration = Duration::from_secs(5 * 60);
const WRONG_FOR: Duration = Duration::from_secs(10);

/// What a set of credentials is remembered by: its HMAC under a key that only this process has.
type Mark = [u8; 32];

/// Whether somebody may see the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Right,
    Wrong,
    /// It is being found out: ask again in the next turn.
    Later,
    /// Too many are being found out.
    Busy,
}

/// The passwords of a site.
pub(super) struct Auth {
    /// The value of `WWW-Authenticate`.
    pub(super) challenge: String,
    users: Users,
    key: [u8; 32],
    verdicts: HashMap<Mark, (bool, Instant), foldhash::fast::RandomState>,
    line: VecDeque<(Mark, Check)>,
    worked_at: Option<Instant>,
}

impl Auth {
    /// `key` has to be random.
    pub(super) fn new(config: &AuthConfig, key: [u8; 32]) -> Self {
        Self {
            challenge: format!("Basic realm=\"{}\", charset=\"UTF-8\"", config.realm),
            users: config.users.clone(),
            key,
            verdicts: HashMap::default(),
            line: VecDeque::new(),
            worked_at: None,
        }
    }

    /// Whether the request's credentials are right.
    pub(super) fn judge(&mut self, head: &RequestHead<'_>, out: &Out<'_, '_>) -> Verdict {
        let Some(value) = head.headers.only("authorization") else {
            return Verdict::Wrong;
        };
        // Invariant: HMAC takes a key of any length.
        let keyed = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.key).expect("any key length");
        let mark: Mark = keyed.chain_update(value).finalize().into_bytes().into();
        match self.verdicts.get(&mark) {
            Some((right, until)) if out.cx.now < *until => return verdict(*right),
            Some(_) => drop(self.verdicts.remove(&mark)),
            None => {}
        }
        if !self.line.iter().any(|(waiting, _)| *waiting == mark) {
            let Some(credentials) = Credentials::parse(value) else {
                return Verdict::Wrong;
            };
            if self.line.len() >= CHECKS_MAX {
                return Verdict::Busy;
            }
            self.line.push_back((mark, self.users.check(&credentials)));
        }
        self.work(out.cx.now);
        match self.verdicts.get(&mark) {
            Some((right, _)) => verdict(*right),
            None => Verdict::Later,
        }
    }

    /// Takes the check at the front of the line on, once a turn.
    fn work(&mut self, now: Instant) {
        if self.worked_at == Some(now) {
            return;
        }
        self.worked_at = Some(now);
        let Some((mark, check)) = self.line.front_mut() else {
            return;
        };
        let Some(right) = check.step(ROUNDS_PER_TURN) else {
            return;
        };
        let until = now + if right { RIGHT_FOR } else { WRONG_FOR };
        if self.verdicts.len() >= VERDICTS_MAX {
            self.verdicts
                .retain(|_, (right, until)| *right && now < *until);
        }
        if self.verdicts.len() >= VERDICTS_MAX {
            self.verdicts.clear();
        }
        self.verdicts.insert(*mark, (right, until));
        self.line.pop_front();
    }
}

fn verdict(right: bool) -> Verdict {
    match right {
        true => Verdict::Right,
        false => Verdict::Wrong,
    }
}
