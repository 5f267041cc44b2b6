//! Fetches as those who lead and follow them see them.
//!
//! ```text
//! lead ──▶ begin ──▶ take … ──▶ finish ──▶ complete: kept
//!   └──▶ pass, fail, break_off: those who waited ask for themselves       cut: a part is kept
//! follow ──▶ ahead, put … ──▶ leave
//! ```

use std::collections::BTreeSet;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use slab::Slab;

use super::fetch::{Ahead, Fetch, FetchId, Growing, Object, Place, Stage};
use super::index::Key;
use super::{
    FAILED_TIME, Hands, PASSED_MAX, SWEEP_PAUSE, Store, Task, UnderWay, Wanted, entry, object, of,
    waiter,
};
use crate::buffer::{Pool, RecvBuf, SendQueue};
use crate::http::caching::vary;
use crate::http::head::RequestHead;
use crate::waiter::Id;

impl Store {
    /// Who else is asking for the same, when a request finds nothing that it may have.
    pub fn under_way(
        &mut self,
        wanted: Wanted<'_>,
        head: &RequestHead<'_>,
        waiter: Id,
        now: Instant,
    ) -> UnderWay {
        self.forget_hopeful(waiter);
        if let Some(until) = self.passed.get(&wanted.key)
            && now < *until
        {
            return UnderWay::Nobody { alone: true };
        }
        let Some(indexes) = self.under_way.get(&wanted.key) else {
            return UnderWay::Nobody { alone: false };
        };
        let mut awaited = false;
        for &index in indexes {
            let fetch = &mut self.fetches[index as usize];
            let id = FetchId {
                index,
                generation: fetch.generation,
            };
            if *fetch.text != *wanted.text {
                continue;
            }
            match (&fetch.stage, fetch.object()) {
                _ if !fetch.is_of_all() => {}
                (Stage::Awaited { since }, _) => {
                    if now.saturating_duration_since(*since) >= self.settings.await_timeout {
                        return UnderWay::Nobody { alone: true };
                    }
                    fetch.waiting.insert(waiter);
                    fetch.hopeful += 1;
                    self.hopeful.insert((waiter, id));
                    awaited = true;
                }
                (_, Some(object)) => {
                    if vary::matches(&object.selecting, &head.headers) {
                        return UnderWay::Follow(id);
                    }
                }
                (_, None) => {}
            }
        }
        match awaited {
            true => UnderWay::Awaited,
            false => UnderWay::Nobody { alone: false },
        }
    }

    /// A session no longer waits for the heads of others' fetches, if it did: it has looked at them,
    /// or has gone.
    pub fn forget_hopeful(&mut self, waiter: Id) {
        while let Some(&of_it) = self.hopeful.range((waiter, FetchId::FIRST)..).next()
            && of_it.0 == waiter
        {
            self.hopeful.remove(&of_it);
            if let Some(fetch) = self.fetch_mut(of_it.1) {
                fetch.hopeful -= 1;
            }
        }
    }

    /// Whether somebody is asking for all that a key names.
    pub fn is_under_way(&self, key: Key) -> bool {
        let mut indexes = self.under_way.get(&key).into_iter().flatten();
        indexes.any(|&index| self.fetches[index as usize].may_bring_all())
    }

    /// A request goes to the origin, and others may wait for what comes of it.
    pub fn lead(&mut self, wanted: Wanted<'_>, now: Instant) -> FetchId {
        let id = self.begin_fetch(wanted, false, now);
        self.awaited
            .push_back((now + self.settings.await_timeout, id));
        id
    }

    pub(super) fn begin_fetch(
        &mut self,
        wanted: Wanted<'_>,
        is_ranged: bool,
        now: Instant,
    ) -> FetchId {
        self.generations = self.generations.wrapping_add(1);
        let generation = self.generations;
        let fetch = Fetch {
            generation,
            key: wanted.key,
            text: wanted.text.into(),
            stage: Stage::Awaited { since: now },
            waiting: BTreeSet::new(),
            followers: 1,
            hopeful: 0,
            is_outdated: false,
            is_ranged,
        };
        // Invariant: far fewer fetches than 2^32 fit into memory.
        let index = self.fetches.insert(fetch) as u32;
        let id = FetchId { index, generation };
        self.under_way.entry(wanted.key).or_default().push(index);
        id
    }

    /// The response to a fetch may be kept. Whether it is: if not, the fetch is over, as by
    /// [`Store::pass`].
    pub fn begin(&mut self, id: FetchId, object: Object, hands: &mut Hands<'_>) -> bool {
        let Some(place) = self.place_for(id, &object) else {
            self.pass(id, hands);
            return false;
        };
        self.grow(id, Growing::new(object, place), hands)
    }

    /// An object grows from now on, unless it is part of what is kept as a whole.
    pub(super) fn grow(&mut self, id: FetchId, growing: Growing, hands: &mut Hands<'_>) -> bool {
        let variant = self.hasher.variant(&growing.object.selecting);
        let Some(fetch) = self.fetches.get_mut(id.index as usize) else {
            return false;
        };
        if growing.part.is_some() && self.index.find_variant(fetch.key, variant).is_some() {
            self.break_off(id, hands);
            return false;
        }
        fetch.stage = Stage::Growing(Box::new(growing));
        fetch.wake(hands.woken);
        let key = fetch.key;
        self.passed.remove(&key);
        self.forget_awaited();
        self.write(id.index, hands);
        true
    }

    /// Where an object is to grow; `None` if it cannot be kept.
    pub(super) fn place_for(&mut self, id: FetchId, object: &Object) -> Option<Place> {
        let expected = object.expected.unwrap_or(0);
        if expected > self.settings.object_bytes_max {
            return None;
        }
        if expected <= self.settings.small_bytes_max as u64 {
            return Some(Place::Memory(Vec::with_capacity(expected as usize)));
        }
        self.in_file(id, object)
    }

    /// A new file for an object to grow in.
    pub(super) fn in_file(&mut self, id: FetchId, object: &Object) -> Option<Place> {
        let fetch = self.fetches.get(id.index as usize)?;
        debug_assert_eq!(
            fetch.generation, id.generation,
            "a fetch is its leader's to end"
        );
        let writing = self.folder.as_mut()?.writing(&fetch.text, object)?;
        Some(Place::File(Box::new(writing)))
    }

    /// Whether a fetch takes bytes now. If not, the session is woken when it does, or when it takes
    /// no more.
    pub fn has_room(&mut self, id: FetchId, waiter: Id) -> bool {
        let Some(fetch) = self.fetch_mut(id) else {
            return false;
        };
        let has_room = matches!(&fetch.stage, Stage::Growing(growing) if growing.has_room());
        if !has_room {
            fetch.waiting.insert(waiter);
        }
        has_room
    }

    /// The request of a fetch failed, and will again: those who waited for it try for themselves,
    /// and so does whoever comes within a second.
    pub fn fail(&mut self, id: FetchId, hands: &mut Hands<'_>) {
        self.stand_aside(id, FAILED_TIME, hands);
    }

    /// Whether a fetch takes no more bytes although it has not all of them: whoever leads it goes on
    /// by itself.
    pub fn gave_up(&self, id: FetchId) -> bool {
        match self.fetch(id).map(|fetch| &fetch.stage) {
            Some(Stage::Growing(growing)) => growing.gave_up,
            Some(Stage::Awaited { .. } | Stage::Whole(_)) => false,
            Some(Stage::Broken) | None => true,
        }
    }

    /// Takes the first `count` bytes of what arrived.
    pub fn take(&mut self, id: FetchId, rx: &mut RecvBuf, count: usize, hands: &mut Hands<'_>) {
        let limits = (
            self.settings.small_bytes_max as u64,
            self.settings.object_bytes_max,
        );
        let Some(fetch) = current(&mut self.fetches, id) else {
            return;
        };
        fetch.wake(hands.woken);
        let Stage::Growing(growing) = &mut fetch.stage else {
            return;
        };
        growing.take(rx, count, hands.pool);
        let is_too_large = growing.bytes() > limits.1;
        if growing.bytes() > limits.0 && growing.is_in_memory() {
            let folder = self.folder.as_mut().filter(|_| !is_too_large);
            let writing = folder.and_then(|folder| folder.writing(&fetch.text, &growing.object));
            match writing {
                Some(writing) => growing.spill(Box::new(writing), hands.pool),
                None => growing.gave_up = true,
            }
        }
        growing.gave_up |= is_too_large;
        if growing.gave_up {
            // Whoever came now would be cut like those who follow it.
            self.is_no_longer_under_way(id);
        }
        self.write(id.index, hands);
    }

    /// All of the response has come.
    pub fn finish(&mut self, id: FetchId, hands: &mut Hands<'_>) {
        if let Some(fetch) = self.fetch_mut(id)
            && let Stage::Growing(growing) = &mut fetch.stage
        {
            growing.is_ended = true;
            self.complete(id, hands);
        }
    }

    /// Keeps what a fetch brought, once all of it is there.
    pub(super) fn complete(&mut self, id: FetchId, hands: &mut Hands<'_>) {
        let (boot, stored_ms) = (self.settings.boot, self.next_ms(hands));
        let Some(fetch) = current(&mut self.fetches, id) else {
            return;
        };
        fetch.wake(hands.woken);
        let Stage::Growing(growing) = &mut fetch.stage else {
            return;
        };
        if !growing.has_all(hands.pool) {
            self.write(id.index, hands);
            return;
        }
        if !growing.is_as_expected() {
            growing.gave_up = true;
            self.is_no_longer_under_way(id);
            return;
        }
        growing.is_whole = true;
        growing.crc32 = growing.checksum();
        let (bytes, crc32) = (growing.bytes(), growing.crc32);
        let body = object::Body::Whole { bytes, crc32 };
        let header = growing.object.header(&fetch.text, boot, body);
        if let Place::File(writing) = &mut growing.place {
            let bytes = writing.header_bytes() + bytes;
            let variant = self.hasher.variant(&growing.object.selecting);
            let variant = of(variant, growing.part);
            let name = entry(fetch.key, variant, stored_ms, bytes);
            let mut encoded = Vec::new();
            let room = object::Room::Same(writing.header_bytes() as usize);
            match header.encode(&mut encoded, room) {
                Ok(()) => writing.finish(encoded, name),
                Err(object::DoesNotFit) => {
                    growing.gave_up = true;
                    self.is_no_longer_under_way(id);
                }
            }
            self.write(id.index, hands);
            return;
        }
        fetch.become_whole();
        if let Some(kept) = fetch.kept().filter(|_| !fetch.is_outdated) {
            self.keep_small(Rc::new(kept), hands);
        }
        self.is_no_longer_under_way(id);
    }

    /// The response to a fetch came, and may not or cannot be kept: those who waited for it ask for
    /// themselves, and so does whoever comes within [`super::Settings::pass_time`].
    pub fn pass(&mut self, id: FetchId, hands: &mut Hands<'_>) {
        self.stand_aside(id, self.settings.pass_time, hands);
    }

    /// For a while nobody waits for others who ask for the same.
    pub(super) fn stand_aside(&mut self, id: FetchId, time: Duration, hands: &mut Hands<'_>) {
        // Who asks for a range says nothing about who asks for all.
        let of_all = self.fetch(id).filter(|fetch| !fetch.is_ranged);
        if let Some(key) = of_all.map(|fetch| fetch.key) {
            let until = hands.now + time;
            let is_swept = |at: Instant| hands.now < at + SWEEP_PAUSE;
            if self.passed.len() >= PASSED_MAX && !self.passed_swept.is_some_and(is_swept) {
                self.passed_swept = Some(hands.now);
                self.passed.retain(|_, until| hands.now < *until);
            }
            if self.passed.len() < PASSED_MAX {
                self.passed.insert(key, until);
            }
        }
        self.break_off(id, hands);
    }

    /// A fetch ends without a whole response, or one that changes nothing: those who wait for it ask
    /// again, and those who follow it are cut. Whoever led it has left it.
    pub fn break_off(&mut self, id: FetchId, hands: &mut Hands<'_>) {
        self.is_no_longer_under_way(id);
        if let Some(fetch) = self.fetch_mut(id) {
            fetch.wake(hands.woken);
            if !matches!(fetch.stage, Stage::Whole(_)) {
                let stage = std::mem::replace(&mut fetch.stage, Stage::Broken);
                stage.discard(hands);
            }
        }
        self.forget_awaited();
        self.leave(id, hands);
    }

    /// One more session reads what a fetch brings.
    pub fn follow(&mut self, id: FetchId) {
        if let Some(fetch) = self.fetch_mut(id) {
            fetch.followers += 1;
        }
    }

    /// A session reads it no longer.
    pub fn leave(&mut self, id: FetchId, hands: &mut Hands<'_>) {
        let Some(fetch) = self.fetch_mut(id) else {
            return;
        };
        fetch.followers = fetch.followers.saturating_sub(1);
        self.let_go(id, hands);
    }

    /// A fetch that nobody reads, and nothing comes of any more, is gone.
    pub(super) fn let_go(&mut self, id: FetchId, hands: &mut Hands<'_>) {
        let Some(fetch) = self.fetch(id) else {
            return;
        };
        if fetch.followers == 0 && !fetch.stage.is_being_named() {
            self.is_no_longer_under_way(id);
            let fetch = self.fetches.remove(id.index as usize);
            fetch.stage.discard(hands);
            self.forget_awaited();
        }
    }

    /// Nobody waits any more for the heads of those fetches of which more is known.
    pub(super) fn forget_awaited(&mut self) {
        while let Some((_, id)) = self.awaited.front()
            && !self.fetch(*id).is_some_and(Fetch::is_awaited)
        {
            self.awaited.pop_front();
        }
    }

    /// Whether anybody but its leader reads it, or waits for its head; or was told that it has come,
    /// and has not looked yet.
    pub fn is_wanted(&self, id: FetchId) -> bool {
        self.fetch(id)
            .is_some_and(|fetch| fetch.followers > 1 || fetch.hopeful > 0)
    }

    /// What is known of the object that a fetch brings.
    pub fn object(&self, id: FetchId) -> Option<&Object> {
        self.fetch(id)?.object()
    }

    /// What a follower that has read `at` bytes finds. If that is nothing, it is woken.
    pub fn ahead(&mut self, id: FetchId, at: u64, waiter: Id) -> Ahead {
        let Some(fetch) = self.fetch_mut(id) else {
            return Ahead::Broken;
        };
        let ahead = fetch.ahead(at);
        if ahead == Ahead::Nothing {
            fetch.waiting.insert(waiter);
        }
        ahead
    }

    /// Queues `count` bytes from `at` on, no more than [`Store::ahead`] told of.
    pub fn put(&self, id: FetchId, (at, count): (u64, u64), tx: &mut SendQueue, pool: &mut Pool) {
        if let Some(fetch) = self.fetch(id) {
            fetch.put(at, count, tx, pool);
        }
    }

    /// Goes on with the file of a fetch.
    pub(super) fn write(&mut self, index: u32, hands: &mut Hands<'_>) {
        let waiter = waiter(self.number, Task::Fetch(index));
        let Some(fetch) = self.fetches.get_mut(index as usize) else {
            return;
        };
        let id = FetchId {
            index,
            generation: fetch.generation,
        };
        if let Some(writing) = fetch.stage.given_up() {
            // What the last job has of it is written, or comes back.
            if writing.settle(hands).is_ready() {
                fetch.wake(hands.woken);
            }
            return;
        }
        let Some(writing) = fetch.stage.writing() else {
            return;
        };
        let before = (writing.written(), writing.has_room());
        let advanced = writing.advance(waiter, hands);
        let is_news = before != (writing.written(), writing.has_room());
        if is_news || advanced.is_ready() {
            fetch.wake(hands.woken);
        }
        match advanced {
            Poll::Pending => {
                fetch.become_whole();
                if matches!(&fetch.stage, Stage::Growing(growing) if growing.may_have_all()) {
                    self.complete(id, hands);
                    self.let_go(id, hands); // it may have come to nothing, and nobody reads it
                }
            }
            Poll::Ready(Ok(name)) => {
                fetch.become_whole();
                fetch.stage.named();
                let kept = fetch.kept().filter(|_| !fetch.is_outdated).map(Rc::new);
                match (kept, &mut self.folder) {
                    (Some(kept), _) => {
                        self.enter(name, Some(kept), hands);
                    }
                    (None, Some(folder)) => folder.remove(&name, hands),
                    (None, None) => {}
                }
                self.is_no_longer_under_way(id);
                self.let_go(id, hands);
            }
            Poll::Ready(Err(error)) => {
                self.counts.failed += 1;
                log::warn!("{}: {error}", self.settings.dir.display());
                fetch.stage.gives_up(hands);
                self.forget_joined(id, hands);
                self.is_no_longer_under_way(id);
                self.let_go(id, hands);
            }
        }
    }

    pub(super) fn is_no_longer_under_way(&mut self, id: FetchId) {
        let Some(fetch) = self.fetch(id) else {
            return;
        };
        let key = fetch.key;
        if let Some(indexes) = self.under_way.get_mut(&key) {
            indexes.retain(|index| *index != id.index);
            if indexes.is_empty() {
                self.under_way.remove(&key);
            }
        }
    }

    pub(super) fn fetch(&self, id: FetchId) -> Option<&Fetch> {
        let fetch = self.fetches.get(id.index as usize)?;
        (fetch.generation == id.generation).then_some(fetch)
    }

    pub(super) fn fetch_mut(&mut self, id: FetchId) -> Option<&mut Fetch> {
        current(&mut self.fetches, id)
    }
}

/// A fetch, unless it is over and its place another's; the rest of its store stays free to borrow.
fn current(fetches: &mut Slab<Fetch>, id: FetchId) -> Option<&mut Fetch> {
    let fetch = fetches.get_mut(id.index as usize)?;
    (fetch.generation == id.generation).then_some(fetch)
}
