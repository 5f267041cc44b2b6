//! Who may see a site: passwords checked without stopping the loop.
//!
//! A password is hashed many thousand times on purpose, which takes longer than a turn may. So a
//! check is a job: one is at work at a time, some rounds at the end of each turn, while the others
//! wait in line and the sessions that ask are parked. What comes out is remembered under a keyed
//! hash of the credentials, so that the next request costs a look-up. No password is kept.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::config::AuthConfig;
use crate::http::basic::{Check, Credentials, Users};
use crate::service::{Cx, Id};

/// Rounds in one turn: less than a millisecond.
const ROUNDS_PER_TURN: u32 = 1000;
/// Checks that wait in line; who comes then is told to try later.
const CHECKS_MAX: usize = 64;
/// Verdicts that are remembered, and for how long. A right password is remembered longer: its check
/// delays somebody real.
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
    /// It is being found out: the session is woken with the verdict.
    Later,
    /// Too many are being found out.
    Busy,
}

/// Credentials that are being checked, and who is to be woken then.
struct Waiting {
    mark: Mark,
    check: Check,
    waiters: Vec<Id>,
}

/// The passwords of a site.
pub(super) struct Auth {
    /// The value of `WWW-Authenticate`, or of `Proxy-Authenticate`.
    pub(super) challenge: String,
    users: Users,
    key: [u8; 32],
    verdicts: HashMap<Mark, (bool, Instant), foldhash::fast::RandomState>,
    line: VecDeque<Waiting>,
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
        }
    }

    /// Whether credentials are right: the value of `Authorization` or `Proxy-Authorization`.
    pub(super) fn judge(&mut self, value: Option<&[u8]>, waiter: Id, now: Instant) -> Verdict {
        let Some(value) = value else {
            return Verdict::Wrong;
        };
        // Invariant: HMAC takes a key of any length.
        let keyed = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.key).expect("any key length");
        let mark: Mark = keyed.chain_update(value).finalize().into_bytes().into();
        match self.verdicts.get(&mark) {
            Some((true, until)) if now < *until => return Verdict::Right,
            Some((false, until)) if now < *until => return Verdict::Wrong,
            Some(_) => drop(self.verdicts.remove(&mark)),
            None => {}
        }
        let known = self.line.iter().position(|waiting| waiting.mark == mark);
        let place = match known {
            Some(place) => place,
            None => {
                let Some(credentials) = Credentials::parse(value) else {
                    return Verdict::Wrong;
                };
                if self.line.len() >= CHECKS_MAX {
                    return Verdict::Busy;
                }
                self.line.push_back(Waiting {
                    mark,
                    check: self.users.check(&credentials),
                    waiters: Vec::new(),
                });
                self.line.len() - 1
            }
        };
        let waiters = &mut self.line[place].waiters;
        if !waiters.contains(&waiter) {
            waiters.push(waiter);
        }
        Verdict::Later
    }

    /// Takes the check at the front of the line on, and wakes those who wait for it once it is
    /// done. Whether any is left.
    pub(super) fn work(&mut self, cx: &mut Cx<'_>) -> bool {
        let now = cx.now;
        let Some(Waiting {
            mark,
            check,
            waiters,
        }) = self.line.front_mut()
        else {
            return false;
        };
        let Some(right) = check.step(ROUNDS_PER_TURN) else {
            return true;
        };
        cx.woken.append(waiters);
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
        !self.line.is_empty()
    }
}
