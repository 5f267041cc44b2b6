//! The answers that are kept, each until its time is over or its room is needed.
//!
//! The rules:
//! 1. Every answer is kept for at least [`HOLD`], so that those who waited find it; unless more come
//!    in that time than are kept at most.
//! 2. Of the others, the first to expire is the first to make room; what has expired already is
//!    kept only while nobody needs its place.
//! 3. Addresses that have expired are stale: better than none where no server can say anything, up
//!    to a time of their own (RFC 8767).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::{Addresses, Failure};

/// Every answer is kept at least this long, so that those who wait for it can read it; unless more
/// come in that time than are kept or under way at most.
pub const HOLD: Duration = Duration::from_secs(1);

/// An answer that is kept.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) answer: Result<Addresses, Failure>,
    /// It had expired when it was last kept, because nobody had a newer one.
    pub(super) is_stale: bool,
    expires: Instant,
    /// Until when it is used if there is no newer one.
    stale_until: Instant,
}

/// All of them, by the name as it was asked for.
#[derive(Debug, Default)]
pub(super) struct Answers {
    kept: BTreeMap<Rc<str>, Kept>,
    /// Names in the order in which their hold ends; none of them is evicted.
    young: VecDeque<(Instant, Rc<str>)>,
    /// The other names in the order in which they expire.
    old: BTreeSet<(Instant, Rc<str>)>,
}

impl Answers {
    /// What is known of a name now.
    pub(super) fn find(&self, name: &str, now: Instant) -> Option<&Kept> {
        self.kept.get(name).filter(|kept| kept.expires > now)
    }

    /// The addresses that a name had, where they may be used though they have expired.
    pub(super) fn stale(&self, name: &str, now: Instant) -> Option<&Addresses> {
        let kept = self.kept.get(name)?;
        let addresses = kept.answer.as_ref().ok()?;
        (kept.stale_until > now).then_some(addresses)
    }

    /// Keeps what is stale for another `ttl` as if it had not expired, since nobody has a newer one;
    /// whether there is any.
    pub(super) fn keep_stale(&mut self, name: &Rc<str>, ttl: Duration, now: Instant) -> bool {
        if self.stale(name, now).is_none() {
            return false;
        }
        let Some(kept) = self.kept.get_mut(name) else {
            return false;
        };
        // It has expired, so it is not young.
        self.old.remove(&(kept.expires, name.clone()));
        kept.expires = (now + ttl).min(kept.stale_until).max(now + HOLD);
        kept.is_stale = true;
        self.young.push_back((now + HOLD, name.clone()));
        true
    }

    /// Keeps an answer for `ttl`, and as a stale one for at most `stale_max` more, in the place of
    /// one that has expired.
    pub(super) fn keep(
        &mut self,
        name: Rc<str>,
        answer: Result<Addresses, Failure>,
        ttl: Duration,
        stale_max: Duration,
        now: Instant,
    ) {
        let expires = now + ttl.max(HOLD);
        let kept = Kept {
            answer,
            is_stale: false,
            expires,
            stale_until: expires + stale_max,
        };
        if let Some(before) = self.kept.insert(name.clone(), kept) {
            // It has expired, so it is not young.
            self.old.remove(&(before.expires, name.clone()));
        }
        self.young.push_back((now + HOLD, name));
    }

    /// Forgets everything but what is still held, and that as soon as its hold ends.
    pub(super) fn forget(&mut self) {
        for (_, name) in std::mem::take(&mut self.old) {
            self.kept.remove(&name);
        }
        for (held_until, name) in &self.young {
            if let Some(kept) = self.kept.get_mut(name) {
                kept.expires = *held_until;
                kept.stale_until = *held_until;
            }
        }
    }

    /// Lets those go that were held long enough, so that at most `young_max` are held and `old_max`
    /// kept beside them; how many that had not expired made room for others.
    pub(super) fn end_holds(&mut self, now: Instant, young_max: usize, old_max: usize) -> u64 {
        while let Some((held_until, _)) = self.young.front()
            && (*held_until <= now || self.young.len() > young_max)
            && let Some((_, name)) = self.young.pop_front()
        {
            if let Some(kept) = self.kept.get(&name) {
                self.old.insert((kept.expires, name));
            }
        }
        let mut evicted = 0;
        while self.old.len() > old_max
            && let Some((expires, name)) = self.old.pop_first()
        {
            self.kept.remove(&name);
            evicted += u64::from(expires > now);
        }
        evicted
    }

    /// Answers that are kept, expired ones that nobody asked for again included.
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// What holds between any two calls.
    #[cfg(test)]
    pub(super) fn check(&self) {
        assert_eq!(self.kept.len(), self.young.len() + self.old.len());
        let names = self.young.iter().chain(&self.old).map(|(_, name)| name);
        assert!(names.into_iter().all(|name| self.kept.contains_key(name)));
    }
}
