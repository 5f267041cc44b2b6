//! Who may see a site: passwords checked without stopping the loop.
//!
//! A password is hashed many thousand times on purpose, which takes longer than a turn may. So a
//! check is a job: one is at work at a time, some rounds at the end of each turn, while the others
//! wait in line and the sessions that ask are parked. What comes out is remembered under a keyed
//! hash of the credentials, so that the next request costs a look-up. No password is kept.
//!
//! A token (RFC 6750) is no password that people think of: it is looked at at once, in a time that
//! does not tell how much of it is right, and what came of it is counted and remembered like the
//! rest.
//!
//! A wrong password is logged with the address that it came from. Who sends too many within a minute
//! has no other one checked until it is over; what is known to be right goes on being so.
//!
//! Each client has a line of its own, and they are served in turn: who guesses by hundreds of
//! connections waits behind its own guesses, and others behind one of them. The places are shared
//! ([`crate::shares`]), and a check ends with the last who waits for it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::config::AuthConfig;
use crate::gate::failures::Failures;
use crate::http::basic::{Check, Credentials, Users};
use crate::service::{Cx, Id};
use crate::shares::{Client, InTurn, Shares};
use crate::wire::challenge::Secret;

/// Rounds in one turn: less than a millisecond.
const ROUNDS_PER_TURN: u32 = 1000;
/// Checks that wait; who comes then is told to try later. One client alone may have half of them.
const CHECKS_MAX: usize = 128;
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
    /// The client was wrong too often.
    Slowed,
}

/// Credentials that are being checked, and who is to be woken then.
struct Waiting {
    mark: Mark,
    check: Check,
    /// Who it is said to be.
    user: String,
    waiters: Vec<Id>,
}

/// The checks that wait.
#[derive(Default)]
struct Lines {
    /// The next one is at work.
    checks: InTurn<Waiting>,
    shares: Shares,
    /// What each waiter waits for: whose line, and what in it.
    waiters: HashMap<Id, (Client, Mark), foldhash::fast::RandomState>,
}

impl Lines {
    /// Lets a waiter wait for credentials that somebody waits for already. Whether there are such.
    fn join(&mut self, mark: Mark, waiter: Id) -> bool {
        let mut all = self.checks.iter_mut();
        let Some((client, waiting)) = all.find(|(_, waiting)| waiting.mark == mark) else {
            return false;
        };
        waiting.waiters.push(waiter);
        drop(all);
        self.waiters.insert(waiter, (client, mark));
        true
    }

    fn has_room(&self, client: Client) -> bool {
        self.shares.has_room(client, CHECKS_MAX)
    }

    fn add(&mut self, waiting: Waiting, client: Client) {
        self.shares.enter(client);
        for waiter in &waiting.waiters {
            self.waiters.insert(*waiter, (client, waiting.mark));
        }
        self.checks.push(client, waiting);
    }

    /// The check that is at work.
    fn front(&mut self) -> Option<&mut Check> {
        self.checks.front_mut().map(|waiting| &mut waiting.check)
    }

    /// Takes out the check that is at work, and whose it is; the next client's follows.
    fn pop(&mut self) -> Option<(Client, Waiting)> {
        let (client, done) = self.checks.pop()?;
        self.shares.leave(client);
        for waiter in &done.waiters {
            self.waiters.remove(waiter);
        }
        Some((client, done))
    }

    /// The waiter waits no longer; nor does a check for which nobody else does.
    fn forget(&mut self, waiter: Id) {
        let Some((client, mark)) = self.waiters.remove(&waiter) else {
            return;
        };
        self.checks.retain_of(client, |waiting| {
            if waiting.mark == mark {
                waiting.waiters.retain(|other| *other != waiter);
            }
            let is_left = !waiting.waiters.is_empty();
            if !is_left {
                self.shares.leave(client);
            }
            is_left
        });
    }
}

/// The passwords of a site.
pub(super) struct Auth {
    /// The values of `WWW-Authenticate`, or of `Proxy-Authenticate`.
    pub(super) challenges: Vec<String>,
    /// `None` if there is a token only.
    users: Option<Users>,
    /// The mark of the header with the right token.
    token: Option<Mark>,
    key: [u8; 32],
    verdicts: HashMap<Mark, (bool, Instant), foldhash::fast::RandomState>,
    lines: Lines,
    failures: Failures,
}

impl Auth {
    /// `key` has to be random.
    pub(super) fn new(config: &AuthConfig, key: [u8; 32]) -> Self {
        Self {
            challenges: vec![format!(
                "Basic realm=\"{}\", charset=\"UTF-8\"",
                config.realm
            )],
            users: Some(config.users.clone()),
            failures: Failures::new(config.failures_max),
            ..Self::without_users(key)
        }
    }

    /// Nobody is let in by a password.
    pub(super) fn without_users(key: [u8; 32]) -> Self {
        Self {
            challenges: Vec::new(),
            users: None,
            token: None,
            key,
            verdicts: HashMap::default(),
            lines: Lines::default(),
            failures: Failures::new(AuthConfig::FAILURES_MAX),
        }
    }

    /// Who sends this token is let in as well.
    pub(super) fn with_token(mut self, token: &Secret) -> Self {
        self.token = Some(self.mark(token.expose()));
        self.challenges.push("Bearer realm=\"admin\"".to_owned());
        self
    }

    /// What is needed to be let in, for those who do not have it.
    pub(super) fn needed(&self) -> &'static str {
        match (&self.users, &self.token) {
            (Some(_), Some(_)) => "a name and a password, or a token, are needed here",
            (None, Some(_)) => "a token is needed here",
            _ => "a name and a password are needed here",
        }
    }

    fn mark(&self, bytes: &[u8]) -> Mark {
        // Invariant: HMAC takes a key of any length.
        let keyed = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.key).expect("any key length");
        keyed.chain_update(bytes).finalize().into_bytes().into()
    }

    /// Whether credentials are right: the value of `Authorization` or `Proxy-Authorization`.
    pub(super) fn judge(
        &mut self,
        value: Option<&[u8]>,
        waiter: Id,
        client: Client,
        now: Instant,
    ) -> Verdict {
        let Some(value) = value else {
            return Verdict::Wrong;
        };
        let mark = self.mark(value);
        match self.verdicts.get(&mark) {
            Some((true, until)) if now < *until => return Verdict::Right,
            Some((false, until)) if now < *until => return Verdict::Wrong,
            Some(_) => drop(self.verdicts.remove(&mark)),
            None => {}
        }
        self.lines.forget(waiter);
        if self.failures.are_too_many(client, now) {
            return Verdict::Slowed;
        }
        if let (Some(right), Some(token)) = (&self.token, bearer(value)) {
            let is_right = right.ct_eq(&self.mark(token)).into();
            self.found_out(mark, is_right, (client, "token"), now);
            return if is_right {
                Verdict::Right
            } else {
                Verdict::Wrong
            };
        }
        if self.lines.join(mark, waiter) {
            return Verdict::Later;
        }
        let (Some(users), Some(credentials)) = (&self.users, Credentials::parse(value)) else {
            return Verdict::Wrong;
        };
        if !self.lines.has_room(client) {
            return Verdict::Busy;
        }
        let waiting = Waiting {
            mark,
            check: users.check(&credentials),
            user: credentials.user,
            waiters: vec![waiter],
        };
        self.lines.add(waiting, client);
        Verdict::Later
    }

    /// Whether a waiter's verdict is still being found out.
    pub(super) fn is_awaited_by(&self, waiter: Id) -> bool {
        self.lines.waiters.contains_key(&waiter)
    }

    /// A waiter waits no longer.
    pub(super) fn forget(&mut self, waiter: Id) {
        self.lines.forget(waiter);
    }

    /// Takes the check that is at work on, and wakes those who wait for it once it is done. Whether
    /// any is left.
    pub(super) fn work(&mut self, cx: &mut Cx<'_>) -> bool {
        let now = cx.now;
        let Some(check) = self.lines.front() else {
            return false;
        };
        let Some(right) = check.step(ROUNDS_PER_TURN) else {
            return true;
        };
        // Invariant: the check that is at work is there.
        let Some((client, waiting)) = self.lines.pop() else {
            return false;
        };
        cx.woken.extend(waiting.waiters);
        let what = format!("password for {:?}", waiting.user);
        self.found_out(waiting.mark, right, (client, &what), now);
        !self.lines.checks.is_empty()
    }

    /// Remembers a verdict; one that is bad is counted, and logged without what was sent.
    fn found_out(&mut self, mark: Mark, right: bool, (client, what): (Client, &str), now: Instant) {
        if !right {
            self.failures.add(client, now);
            match client {
                Some(client) => log::warn!("wrong {what} from {client}"),
                None => log::warn!("wrong {what}"),
            }
        }
        let until = now + if right { RIGHT_FOR } else { WRONG_FOR };
        if self.verdicts.len() >= VERDICTS_MAX {
            self.verdicts
                .retain(|_, (right, until)| *right && now < *until);
        }
        if self.verdicts.len() >= VERDICTS_MAX {
            self.verdicts.clear();
        }
        self.verdicts.insert(mark, (right, until));
    }
}

/// The token in the value of `Authorization`, if that has one (RFC 6750 section 2.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::failures::FAILURES_FOR;
    use crate::http::basic::user_line;
    use std::num::NonZeroU32;

    fn client(n: u8) -> Client {
        Some([192, 0, 2, n].into())
    }

    fn session(index: u32) -> Id {
        Id {
            index,
            generation: 1,
        }
    }

    fn auth() -> Auth {
        let config = AuthConfig {
            realm: "the lab".to_owned(),
            users: Users::parse(&user_line("ann", b"tulip", &[7; 16], 1)).expect("a file"),
            failures_max: NonZeroU32::new(3),
        };
        Auth::new(&config, [7; 32])
    }

    /// What is said of a guess of this client, made by a session of the same number.
    fn guess(auth: &mut Auth, n: u32, client: Client) -> Verdict {
        let value = format!("Basic {}", ["YTpi", "YTpj", "YTpk", "YTpl"][n as usize % 4]);
        let value = format!("{value}{}", " ".repeat(n as usize / 4));
        auth.judge(Some(value.as_bytes()), session(n), client, Instant::now())
    }

    /// The sessions in the order in which they get their verdicts.
    fn served(auth: &mut Auth) -> Vec<u32> {
        let done = std::iter::from_fn(|| auth.lines.pop());
        let waiters = done.flat_map(|(_, waiting)| waiting.waiters);
        waiters.map(|id| id.index).collect()
    }

    #[test]
    fn who_was_wrong_too_often_has_nothing_checked_for_a_minute() {
        let (mut auth, at) = (auth(), Instant::now());
        for _ in 0..3 {
            auth.failures.add(client(1), at);
        }
        let value = Some(&b"Basic YTpj"[..]);
        assert_eq!(
            auth.judge(value, session(1), client(1), at),
            Verdict::Slowed
        );
        assert_eq!(auth.judge(value, session(2), client(2), at), Verdict::Later);
        let later = at + FAILURES_FOR;
        assert_eq!(
            auth.judge(value, session(3), client(1), later),
            Verdict::Later
        );
    }

    #[test]
    fn a_token_lets_in_and_one_who_guesses_it_is_slowed() {
        let (key, now) = ([7; 32], Instant::now());
        let token = Secret::from("tulip");
        let judged = |auth: &mut Auth, value: &str, client| {
            auth.judge(Some(value.as_bytes()), session(1), client, now)
        };
        let mut only = Auth::without_users(key).with_token(&token);
        assert_eq!(only.challenges, ["Bearer realm=\"admin\""]);
        assert_eq!(
            judged(&mut only, "bearer tulip ", client(1)),
            Verdict::Right
        );
        for wrong in ["Basic YTpi", "Bearer tulips", "Bearer ", "Bearer", "tulip"] {
            assert_eq!(
                judged(&mut only, wrong, client(2)),
                Verdict::Wrong,
                "{wrong}"
            );
        }
        let mut both = auth().with_token(&token);
        assert_eq!(both.challenges.len(), 2);
        assert_eq!(judged(&mut both, "Basic YTpi", client(1)), Verdict::Later);
        for guess in ["a", "b", "c"] {
            let value = format!("Bearer {guess}");
            assert_eq!(judged(&mut both, &value, client(2)), Verdict::Wrong);
        }
        assert_eq!(judged(&mut both, "Bearer d", client(2)), Verdict::Slowed);
        assert_eq!(
            judged(&mut both, "Bearer tulip", client(2)),
            Verdict::Slowed
        );
        assert_eq!(judged(&mut both, "Bearer tulip", client(1)), Verdict::Right);
        assert_eq!(
            judged(&mut both, "Bearer tulip", client(2)),
            Verdict::Right,
            "what is known to be right goes on being so"
        );
    }

    #[test]
    fn clients_are_served_in_turn() {
        let mut auth = auth();
        for n in 0..3 {
            assert_eq!(guess(&mut auth, n, client(1)), Verdict::Later);
        }
        assert_eq!(guess(&mut auth, 3, client(2)), Verdict::Later);
        assert_eq!(guess(&mut auth, 4, None), Verdict::Later);
        assert_eq!(served(&mut auth), [0, 3, 4, 1, 2]);
    }

    #[test]
    fn guesses_of_one_client_leave_places_for_others() {
        let mut auth = auth();
        let mut verdicts = (0..100).map(|n| guess(&mut auth, n, client(1)));
        let in_line = verdicts.by_ref().take_while(|v| *v == Verdict::Later);
        assert_eq!(in_line.count(), CHECKS_MAX / 2);
        assert!(verdicts.all(|verdict| verdict == Verdict::Busy));
        assert_eq!(guess(&mut auth, 100, client(2)), Verdict::Later);
        assert_eq!(served(&mut auth)[..2], [0, 100]);
    }

    #[test]
    fn a_check_ends_with_the_last_who_waits_for_it() {
        let mut auth = auth();
        for n in 0..3 {
            assert_eq!(guess(&mut auth, n, client(1)), Verdict::Later);
        }
        let value = Some(&b"Basic YTpj"[..]); // as the session 1
        let (also, now) = (session(9), Instant::now());
        assert_eq!(auth.judge(value, also, client(2), now), Verdict::Later);
        for n in [0, 1, 2] {
            assert!(auth.is_awaited_by(session(n)));
            auth.forget(session(n));
            assert!(!auth.is_awaited_by(session(n)));
        }
        assert!(auth.is_awaited_by(also));
        assert_eq!(served(&mut auth), [9]);
        assert!(!auth.is_awaited_by(also));
        assert_eq!(auth.lines.shares.in_all(), 0);
        assert!(auth.lines.checks.is_empty() && auth.lines.waiters.is_empty());
    }
}
