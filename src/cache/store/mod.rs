//! The store of a proxy's cache: responses kept on disk and in memory, and fetches under way, which
//! many wait for.
//!
//! ```text
//! look ──▶ in memory? ──▶ on disk? read by jobs, and in memory from now on ──▶ nothing: lead a fetch, or follow one
//! lead ──▶ begin ──▶ take … ──▶ finish ──▶ kept: in memory, and written by jobs
//! ```
//!
//! The rules:
//! 1. It knows those who wait as ids only, makes no call that waits, and decides nothing about
//!    HTTP: whether a response may be kept or used is [`crate::http::caching`]'s to say.
//! 2. A response is a file in a hashed folder, whose name says all that the index has to know
//!    ([`object`]): after a start the index comes back from the names alone, while requests are
//!    answered. A request whose folder was not read yet has it read first.
//! 3. A file gets its name in one step when all of it is written, so neither `kill -9` nor a full
//!    disk leaves half an object. Nothing is forced to the disk: after a loss of power an object is
//!    believed only if its checksum is right.
//! 4. An object that is kept never changes ([`Kept`]), so whoever sends it needs nothing of the
//!    store any more.
//!
//! The files in reading order: `key` and `object` (what it is called, what its file looks like),
//! `index` and `memory` (where it is), `kept`, `fetch` and `writing` (how it comes), `joining` (parts,
//! and how they are completed), `folder` (how it comes back), `purging` (how it is forgotten).

mod fetch;
mod folder;
pub mod index;
mod joining;
mod kept;
pub mod key;
mod memory;
pub mod object;
mod purging;
#[cfg(test)]
mod tests;
mod writing;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use slab::Slab;

use crate::buffer::{Pool, RecvBuf, SendQueue};
use crate::disk::{Disk, File};
use crate::http::caching::partial::Part;
use crate::http::caching::{RuleBook, Terms, Times, vary};
use crate::http::head::RequestHead;
use crate::jobs::{Asking, Done, Jobs, Ticket};
use crate::waiter::{Id, Waiter};
pub use fetch::{Ahead, FetchId, Object, put_body};
use fetch::{Fetch, Growing, Place, Stage};
use folder::{Folder, SENT_FROM_MEMORY_MAX};
pub use index::Key;
use index::{Entry, Index, Inserted, Limits, Slot};
pub use kept::{Body, Kept, Shown};
use key::KeyHasher;
use memory::Memory;
use purging::Bans;
pub use purging::{BANS_MAX, NotPurged, Scope, tags_in};

/// Names a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreId(u32);

/// What a store is to be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The folder of its objects.
    pub dir: PathBuf,
    /// Bytes on disk.
    pub bytes_max: u64,
    /// Objects.
    pub objects_max: usize,
    /// Bytes of one object.
    pub object_bytes_max: u64,
    /// Bytes of objects in memory.
    pub memory_bytes_max: usize,
    /// Files of large objects that are open.
    pub open_files_max: usize,
    /// An object of at most so many bytes is in memory as a whole.
    pub small_bytes_max: usize,
    /// How long a request waits for the head that another one asked for.
    pub await_timeout: Duration,
    /// How long it is remembered that a response could not be kept, so that requests for it do not
    /// wait for each other.
    pub pass_time: Duration,
    /// What is decided about heads that are read from disk.
    pub rules: RuleBook,
    /// Which start of the system this is: after another one, files may not be what was written.
    pub boot: u128,
}

impl Settings {
    fn limits(&self) -> Limits {
        Limits {
            bytes_max: self.bytes_max,
            objects_max: u32::try_from(self.objects_max).unwrap_or(u32::MAX),
            variants_max: VARIANTS_MAX,
        }
    }
}

/// Responses that are kept for one URI.
const VARIANTS_MAX: u32 = 64;

/// What a store asks of the loop.
pub struct Hands<'a> {
    /// What is answered at once.
    pub disk: &'a mut dyn Disk,
    /// What is not.
    pub jobs: &'a mut Jobs<Waiter>,
    /// Where pages come from.
    pub pool: &'a mut Pool,
    /// Sessions that are to be called again.
    pub woken: &'a mut Vec<Id>,
    /// The moment of this turn.
    pub now: Instant,
    /// The same as unix time in milliseconds.
    pub wall_ms: u64,
}

/// What a request asks for.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// The hash of `text`.
    pub key: Key,
    /// Method and URI, as [`key`] writes them.
    pub text: &'a [u8],
}

/// What there is for a request.
pub enum Look {
    /// This.
    Kept(Rc<Kept>),
    /// It is being found out: the session is woken.
    Later,
    /// Nothing. `others`: there are responses to requests that differ in what `Vary` names.
    Nothing {
        /// See there.
        others: bool,
    },
}

/// Who else is asking an origin for the same.
pub enum UnderWay {
    /// A response comes that is for this request too.
    Follow(FetchId),
    /// Whether one comes is not known yet: the session is woken.
    Awaited,
    /// Nobody, or nobody who could be waited for. `alone`: nobody is to wait for this request either,
    /// since what comes of it will not be for others.
    Nobody {
        /// See there.
        alone: bool,
    },
}

/// What was counted of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Objects that got into it.
    pub stored: u64,
    /// Objects that had to give way.
    pub evicted: u64,
    /// Objects that were read from disk.
    pub loaded: u64,
    /// Objects that were removed since somebody asked for that.
    pub purged: u64,
    /// Objects that could not be written, or read.
    pub failed: u64,
}

/// What stores hold, and what was counted of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// What was counted.
    pub counts: Counts,
    /// Objects, on disk unless there is none.
    pub objects: u32,
    /// Their bytes.
    pub bytes: u64,
    /// Of those, objects in memory.
    pub warm_objects: usize,
    /// Their bytes.
    pub warm_bytes: usize,
    /// Memory of the index.
    pub index_bytes: usize,
    /// Bans in force.
    pub bans: usize,
}

impl Sums {
    fn add(&mut self, store: &Store) {
        let ((objects, bytes), (warm_objects, warm_bytes)) = store.size();
        self.objects += objects;
        self.bytes += bytes;
        self.warm_objects += warm_objects;
        self.warm_bytes += warm_bytes;
        self.index_bytes += store.index.memory_bytes();
        self.bans += store.bans.len();
        let (sum, counts) = (&mut self.counts, store.counts);
        sum.stored += counts.stored;
        sum.evicted += counts.evicted;
        sum.loaded += counts.loaded;
        sum.purged += counts.purged;
        sum.failed += counts.failed;
    }
}

/// The objects of one folder.
pub struct Store {
    number: u32,
    settings: Settings,
    hasher: KeyHasher,
    index: Index,
    memory: Memory,
    fetches: Slab<Fetch>,
    generations: u32,
    /// The time by which the last object was named.
    last_ms: u64,
    /// Fetches by what they are for.
    under_way: HashMap<Key, Vec<u32>>,
    /// Fetches whose heads others may wait for, until when, the first one first.
    awaited: VecDeque<(Instant, FetchId)>,
    /// What could not be kept, until when.
    passed: HashMap<Key, Instant>,
    /// When those whose time is over were last taken out of it.
    passed_swept: Option<Instant>,
    /// `None` if it could not be opened: then there is nothing but memory.
    folder: Option<Folder>,
    /// Small objects that are being written.
    puts: Slab<Put>,
    bans: Bans,
    counts: Counts,
}

/// A small object that is being written.
struct Put {
    ticket: Ticket,
    slot: Slot,
    name: Entry,
    /// Sessions that are woken when it is written.
    waiting: Vec<Id>,
}

/// How long nobody waits for others after a fetch that failed.
const FAILED_TIME: Duration = Duration::from_secs(1);

/// What is remembered as passed at most.
const PASSED_MAX: usize = 16 * 1024;

/// How often all of that is looked at, where it is so much.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);

/// What the store waits for, as [`Waiter::Store`] has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Fetch(u32),
    Put(u32),
    /// The removal of what was purged.
    Purge(u32),
    /// The walk over all objects, by one of its lanes, or what it removes.
    Walk(u32),
    /// The file of bans.
    Bans,
    Scan,
}

impl Task {
    fn pack(self) -> u32 {
        match self {
            Task::Fetch(index) => index << 2,
            Task::Put(index) => index << 2 | 1,
            Task::Purge(index) => index << 2 | 2,
            Task::Walk(lane) => lane << 2 | 3,
            Task::Bans => u32::MAX - 4,
            Task::Scan => u32::MAX,
        }
    }

    fn unpack(packed: u32) -> Self {
        const BANS: u32 = u32::MAX - 4;
        match (packed, packed & 3) {
            (u32::MAX, _) => Task::Scan,
            (BANS, _) => Task::Bans,
            (_, 0) => Task::Fetch(packed >> 2),
            (_, 1) => Task::Put(packed >> 2),
            (_, 2) => Task::Purge(packed >> 2),
            (_, _) => Task::Walk(packed >> 2),
        }
    }
}

impl Store {
    /// Opens the store. Waits for the disk, so it is for the start.
    fn open(number: u32, settings: Settings, disk: &mut dyn Disk) -> Self {
        let told = (settings.boot, waiter(number, Task::Scan));
        let opened = Folder::open(&settings.dir, told, disk);
        let (folder, secret) = match opened {
            Ok((folder, secret)) => (Some(folder), secret),
            Err(error) => {
                let dir = settings.dir.display();
                log::error!("{dir}: responses are kept in memory only: {error}");
                let mut secret = [0; 16];
                disk.entropy(&mut secret);
                (None, secret)
            }
        };
        let bans = folder
            .as_ref()
            .and_then(|folder| folder.read_file(purging::FILE, purging::BANS_BYTES_MAX, disk));
        Self {
            number,
            hasher: KeyHasher::new(&secret),
            index: Index::new(settings.limits()),
            memory: Memory::new(settings.memory_bytes_max, settings.open_files_max),
            fetches: Slab::new(),
            generations: 0,
            last_ms: 0,
            under_way: HashMap::new(),
            awaited: VecDeque::new(),
            passed: HashMap::new(),
            passed_swept: None,
            folder,
            puts: Slab::new(),
            bans: Bans::read(bans.as_deref()),
            counts: Counts::default(),
            settings,
        }
    }

    /// Other settings, from now on.
    fn set(&mut self, settings: Settings) {
        self.index.set_limits(settings.limits());
        self.memory
            .set_limits(settings.memory_bytes_max, settings.open_files_max);
        self.settings = settings;
    }

    /// What names are hashed with.
    pub fn hasher(&self) -> &KeyHasher {
        &self.hasher
    }

    /// What was counted.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Objects and their bytes on disk, and those in memory.
    pub fn size(&self) -> ((u32, u64), (usize, usize)) {
        let on_disk = (self.index.objects(), self.index.bytes());
        (on_disk, self.memory.size())
    }

    /// What there is for a request, whether or not it may be used.
    pub fn look(
        &mut self,
        wanted: Wanted<'_>,
        head: &RequestHead<'_>,
        waiter: Id,
        hands: &mut Hands<'_>,
    ) -> Look {
        if let Some(folder) = &mut self.folder
            && !folder.is_read(wanted.key, waiter)
        {
            self.scan(hands);
            return Look::Later;
        }
        // Each round reads one object at most. Where there is little memory it is out of that again
        // by the next round, so what was read is remembered here.
        let (mut other, mut read) = (None, Vec::new());
        loop {
            let mut found = None;
            for slot in self.index.find(wanted.key) {
                let place = self.index.get(slot).and_then(|entry| entry.warm);
                let Some(kept) = place.map(|place| self.memory.get(place)) else {
                    continue;
                };
                if *kept.text != *wanted.text {
                    continue;
                }
                if vary::matches(&kept.selecting, &head.headers) {
                    found = Some((slot, Rc::clone(kept)));
                    break;
                }
                other = other.or(Some(Rc::clone(kept)));
            }
            if let Some((slot, kept)) = found {
                if self.drop_if_banned(slot, &kept, hands) {
                    return Look::Nothing { others: false };
                }
                self.index.touch(slot);
                return Look::Kept(kept);
            }
            let others = other.is_some();
            let Some(slot) = self.cold(wanted.key, other.as_deref(), &read, head) else {
                return Look::Nothing { others };
            };
            let kept = match self.load(slot, waiter, hands) {
                Poll::Pending => return Look::Later,
                Poll::Ready(kept) => kept,
            };
            read.push(slot);
            let Some(kept) = kept.filter(|kept| *kept.text == *wanted.text) else {
                continue;
            };
            if vary::matches(&kept.selecting, &head.headers) {
                self.index.touch(slot);
                return Look::Kept(kept);
            }
            other = other.or(Some(kept));
        }
    }

    /// An object that is not in memory and may be the one that is asked for. `other`: one that was
    /// selected by other values of the same fields. `read`: those that were looked at already.
    fn cold(
        &self,
        key: Key,
        other: Option<&Kept>,
        read: &[Slot],
        head: &RequestHead<'_>,
    ) -> Option<Slot> {
        let variant = other.map(|other| {
            let mut selecting = Vec::new();
            vary::put_key_as(&mut selecting, &other.selecting, &head.headers);
            self.hasher.variant(&selecting)
        });
        let fits = |entry: Entry| {
            entry.warm.is_none()
                && variant.is_none_or(|variant| variant == key::of_whole(entry.variant))
        };
        let mut slots = self.index.find(key);
        slots.find(|slot| !read.contains(slot) && self.index.get(*slot).is_some_and(fits))
    }

    /// Reads an object from disk; what cannot be read is not there any more.
    fn load(&mut self, slot: Slot, waiter: Id, hands: &mut Hands<'_>) -> Poll<Option<Rc<Kept>>> {
        let (Some(folder), Some(entry)) = (&mut self.folder, self.index.get(slot)) else {
            self.index.remove(slot);
            return Poll::Ready(None);
        };
        let waiter = Waiter::Session(waiter);
        let mut files = Asking::new(hands.disk, hands.jobs, waiter, hands.now);
        let rules = (self.settings.small_bytes_max, &self.settings.rules);
        match folder.load(&entry, rules, &mut files) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok((kept, is_checked))) => {
                self.counts.loaded += 1;
                if is_checked {
                    folder.rewrite(&entry, &kept.header(self.settings.boot), hands);
                }
                let kept = Rc::new(kept);
                self.warm(slot, Rc::clone(&kept));
                Poll::Ready(Some(kept))
            }
            Poll::Ready(Err(error)) => {
                self.counts.failed += 1;
                let path = self
                    .settings
                    .dir
                    .join(object::Name::from(entry).to_string());
                log::info!("{}: {error}", path.display());
                self.drop_slot(slot, hands);
                Poll::Ready(None)
            }
        }
    }

    /// An object is in memory from now on.
    fn warm(&mut self, slot: Slot, kept: Rc<Kept>) {
        let place = self.memory.insert(kept, slot);
        self.index.set_warm(slot, Some(place));
        self.shrink_memory();
    }

    /// What takes too much memory is there no more.
    fn shrink_memory(&mut self) {
        while let Some(evicted) = self.memory.evict() {
            self.index.set_warm(evicted, None);
            if self.folder.is_none() {
                self.index.remove(evicted);
                self.counts.evicted += 1;
            }
        }
    }

    /// An object is kept no longer.
    fn drop_slot(&mut self, slot: Slot, hands: &mut Hands<'_>) {
        if let Some(entry) = self.index.remove(slot) {
            self.dropped(&entry, hands);
        }
    }

    /// What is left of an object that is not in the index any more is removed.
    fn dropped(&mut self, entry: &Entry, hands: &mut Hands<'_>) {
        if let Some(place) = entry.warm {
            self.memory.remove(place);
        }
        if let Some(folder) = &mut self.folder {
            folder.remove(entry, hands);
        }
    }

    /// Who else is asking for the same, when a request finds nothing that it may have.
    pub fn under_way(
        &mut self,
        wanted: Wanted<'_>,
        head: &RequestHead<'_>,
        waiter: Id,
        now: Instant,
    ) -> UnderWay {
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
                    awaited = true;
                }
                (_, Some(object)) => {
                    if vary::matches(&object.selecting, &head.headers) {
                        return UnderWay::Follow(FetchId {
                            index,
                            generation: fetch.generation,
                        });
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

    /// Whether somebody is asking for all that a key names.
    pub fn is_under_way(&self, key: Key) -> bool {
        let mut indexes = self.under_way.get(&key).into_iter().flatten();
        indexes.any(|&index| !self.fetches[index as usize].is_ranged)
    }

    /// A request goes to the origin, and others may wait for what comes of it.
    pub fn lead(&mut self, wanted: Wanted<'_>, now: Instant) -> FetchId {
        let id = self.begin_fetch(wanted, false, now);
        self.awaited
            .push_back((now + self.settings.await_timeout, id));
        id
    }

    fn begin_fetch(&mut self, wanted: Wanted<'_>, is_ranged: bool, now: Instant) -> FetchId {
        self.generations = self.generations.wrapping_add(1);
        let generation = self.generations;
        let fetch = Fetch {
            generation,
            key: wanted.key,
            text: wanted.text.into(),
            stage: Stage::Awaited { since: now },
            waiting: BTreeSet::new(),
            followers: 1,
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
    fn grow(&mut self, id: FetchId, growing: Growing, hands: &mut Hands<'_>) -> bool {
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
    fn place_for(&mut self, id: FetchId, object: &Object) -> Option<Place> {
        let expected = object.expected.unwrap_or(0);
        if expected > self.settings.object_bytes_max {
            return None;
        }
        if expected <= self.settings.small_bytes_max as u64 {
            return Some(Place::Memory(Vec::with_capacity(expected as usize)));
        }
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
        let fetch = self.fetches.get_mut(id.index as usize);
        let Some(fetch) = fetch.filter(|fetch| fetch.generation == id.generation) else {
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
    fn complete(&mut self, id: FetchId, hands: &mut Hands<'_>) {
        let (boot, stored_ms) = (self.settings.boot, self.next_ms(hands));
        let fetch = self.fetches.get_mut(id.index as usize);
        let Some(fetch) = fetch.filter(|fetch| fetch.generation == id.generation) else {
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
            match header.encode(&mut encoded, Some(writing.header_bytes() as usize)) {
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

    /// Keeps an object whose body is in memory, and has it written.
    fn keep_small(&mut self, kept: Rc<Kept>, hands: &mut Hands<'_>) {
        let variant = of(self.hasher.variant(&kept.selecting), kept.part);
        let kept_bytes = kept.body_bytes as usize;
        let mut bytes = Vec::new();
        if self.folder.is_some() {
            let header = kept.header(self.settings.boot);
            if header.encode(&mut bytes, None).is_err() {
                return;
            }
        }
        if let Body::Bytes(body) = &kept.body {
            bytes.extend_from_slice(body);
        }
        let stored_ms = self.next_ms(hands);
        let name = entry(kept.key, variant, stored_ms, bytes.len().max(1) as u64);
        let Some(slot) = self.enter(name, Some(kept), hands) else {
            return;
        };
        let Some(folder) = &mut self.folder else {
            return;
        };
        if self.index.get(slot).is_none() {
            return; // it is more than there is room for
        }
        let stays_open = kept_bytes > SENT_FROM_MEMORY_MAX;
        let put = folder.put(&name, bytes, stays_open);
        let vacant = self.puts.vacant_entry();
        let waiter = waiter(self.number, Task::Put(vacant.key() as u32));
        match hands.jobs.start(waiter, put, hands.now) {
            Ok(ticket) => {
                vacant.insert(Put {
                    ticket,
                    slot,
                    name,
                    waiting: Vec::new(),
                });
            }
            Err(_) => {
                // The disk has more to do than it can: what is in memory is enough.
                self.counts.failed += 1;
                self.drop_slot(slot, hands);
            }
        }
    }

    /// An object gets into the index, and what has to go for it goes. `None` if it is itself that.
    fn enter(
        &mut self,
        name: Entry,
        kept: Option<Rc<Kept>>,
        hands: &mut Hands<'_>,
    ) -> Option<Slot> {
        if self.gives_way(&name, hands) {
            self.dropped(&name, hands);
            return None;
        }
        let slot = match self.index.insert(name) {
            Inserted::New { slot, gone } => {
                if let Some(gone) = gone {
                    self.dropped(&gone, hands);
                }
                slot
            }
            Inserted::Known(slot) => slot,
            Inserted::TooOld => {
                self.dropped(&name, hands);
                return None;
            }
        };
        if let Some(kept) = kept {
            self.counts.stored += 1;
            self.warm(slot, kept);
        }
        self.shrink(hands);
        Some(slot)
    }

    /// What is too much is kept no longer.
    fn shrink(&mut self, hands: &mut Hands<'_>) {
        while self.index.is_over()
            && let Some(evicted) = self.index.evict_one()
        {
            self.counts.evicted += 1;
            self.dropped(&evicted, hands);
        }
        self.shrink_memory();
    }

    /// The time by which an object is named: two never have the same.
    fn next_ms(&mut self, hands: &Hands<'_>) -> u64 {
        self.last_ms = hands.wall_ms.max(self.last_ms.saturating_add(1));
        self.last_ms
    }

    /// The response to a fetch came, and may not or cannot be kept: those who waited for it ask for
    /// themselves, and so does whoever comes within [`Settings::pass_time`].
    pub fn pass(&mut self, id: FetchId, hands: &mut Hands<'_>) {
        self.stand_aside(id, self.settings.pass_time, hands);
    }

    /// For a while nobody waits for others who ask for the same.
    fn stand_aside(&mut self, id: FetchId, time: Duration, hands: &mut Hands<'_>) {
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
    fn let_go(&mut self, id: FetchId, hands: &mut Hands<'_>) {
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
    fn forget_awaited(&mut self) {
        while let Some((_, id)) = self.awaited.front()
            && !self.fetch(*id).is_some_and(Fetch::is_awaited)
        {
            self.awaited.pop_front();
        }
    }

    /// Whether anybody but its leader reads it, or waits for its head.
    pub fn is_wanted(&self, id: FetchId) -> bool {
        self.fetch(id).is_some_and(|fetch| {
            fetch.followers > 1 || (fetch.is_awaited() && !fetch.waiting.is_empty())
        })
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

    /// An object was found to be good still: from now on it has this head and these terms.
    pub fn refreshed(
        &mut self,
        kept: &Kept,
        (head, terms, times): (Rc<[u8]>, Terms, Times),
        hands: &mut Hands<'_>,
    ) -> Rc<Kept> {
        let fresh = Rc::new(Kept {
            shown: Shown::of(&head),
            head,
            terms,
            times,
            key: kept.key,
            text: kept.text.clone(),
            selecting: kept.selecting.clone(),
            status: kept.status,
            body: kept.body.clone(),
            body_bytes: kept.body_bytes,
            part: kept.part,
            crc32: kept.crc32,
        });
        let variant = of(self.hasher.variant(&kept.selecting), kept.part);
        let slot = self.index.find_variant(kept.key, variant);
        let place = slot.and_then(|slot| self.index.get(slot)?.warm);
        // What stands there may be newer by now: a request that changed it, and one that fetched
        // it, may have come between.
        let is_it = |place: &u32| std::ptr::eq(&**self.memory.get(*place), kept);
        let Some(place) = place.filter(is_it) else {
            return fresh;
        };
        if slot.is_some_and(|slot| self.drop_if_banned(slot, kept, hands)) {
            return fresh;
        }
        match (
            &fresh.body,
            slot.and_then(|slot| self.index.get(slot)),
            &mut self.folder,
        ) {
            (Body::Bytes(_), ..) => self.keep_small(Rc::clone(&fresh), hands),
            (Body::File(..), Some(entry), Some(folder)) => {
                folder.rewrite(&entry, &fresh.header(self.settings.boot), hands);
                self.memory.replace(place, Rc::clone(&fresh));
            }
            (Body::File(..), ..) => {}
        }
        fresh
    }

    /// Nothing that is kept under a key is good any more. How many objects that were.
    pub fn invalidate(&mut self, key: Key, hands: &mut Hands<'_>) -> usize {
        if let Some(folder) = &mut self.folder {
            folder.invalidate(key);
        }
        let slots: Vec<Slot> = self.index.find(key).collect();
        for &slot in &slots {
            self.drop_slot(slot, hands);
        }
        for index in self.under_way.remove(&key).unwrap_or_default() {
            self.fetches[index as usize].is_outdated = true;
        }
        slots.len()
    }

    /// Goes on with the file of a fetch.
    fn write(&mut self, index: u32, hands: &mut Hands<'_>) {
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

    fn is_no_longer_under_way(&mut self, id: FetchId) {
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

    fn fetch(&self, id: FetchId) -> Option<&Fetch> {
        let fetch = self.fetches.get(id.index as usize)?;
        (fetch.generation == id.generation).then_some(fetch)
    }

    fn fetch_mut(&mut self, id: FetchId) -> Option<&mut Fetch> {
        let fetch = self.fetches.get_mut(id.index as usize)?;
        (fetch.generation == id.generation).then_some(fetch)
    }

    /// A job that the store waited for is done.
    fn job_done(&mut self, task: Task, hands: &mut Hands<'_>) {
        match task {
            Task::Fetch(index) => self.write(index, hands),
            Task::Put(index) => self.put_done(index, hands),
            Task::Purge(index) => self.purge_done(index, hands),
            Task::Walk(lane) => self.walk_done(lane, hands),
            Task::Bans => self.bans_saved(hands),
            Task::Scan => {}
        }
        // The disk may have had too much to do for what was to be done before.
        if let Some(folder) = &mut self.folder {
            folder.remove_doomed(hands);
            if !folder.is_all_read() {
                self.scan(hands);
            }
        }
    }

    /// An object that is in memory was written to this file, from which it is sent from now on.
    fn send_from(&mut self, slot: Slot, file: File) {
        let Some(Entry {
            bytes,
            warm: Some(place),
            ..
        }) = self.index.get(slot)
        else {
            return;
        };
        let kept = self.memory.get(place);
        let from = bytes.saturating_sub(kept.body_bytes);
        let sent = Kept {
            text: kept.text.clone(),
            selecting: kept.selecting.clone(),
            head: Rc::clone(&kept.head),
            shown: Shown::of(&kept.head),
            body: Body::File(file, from),
            ..**kept
        };
        self.memory.replace(place, Rc::new(sent));
        self.shrink_memory();
    }

    /// A small object was written, or not.
    fn put_done(&mut self, index: u32, hands: &mut Hands<'_>) {
        let Some(put) = self.puts.get(index as usize) else {
            return;
        };
        let Poll::Ready(finished) = hands.jobs.take(&put.ticket) else {
            return;
        };
        let mut put = self.puts.remove(index as usize);
        hands.woken.append(&mut put.waiting);
        match (finished.result, &mut self.folder) {
            (Err(error), _) => {
                self.counts.failed += 1;
                log::warn!("{}: {error}", self.settings.dir.display());
                self.drop_slot(put.slot, hands);
            }
            // It had to go while it was written: the file came after its removal.
            (Ok(_), Some(folder)) if self.index.get(put.slot).is_none() => {
                folder.remove(&put.name, hands);
            }
            (Ok(Done::File(file, _)), _) => self.send_from(put.slot, file),
            (Ok(_), _) => {}
        }
        self.walk(hands);
    }

    /// Goes on with reading the folder after a start.
    fn scan(&mut self, hands: &mut Hands<'_>) {
        if let Some(folder) = &mut self.folder {
            let waiter = waiter(self.number, Task::Scan);
            let found = folder.scan(waiter, hands);
            for entry in found {
                self.found(entry, hands);
            }
        }
        self.walk(hands);
        if let Some(folder) = &mut self.folder {
            folder.forget_invalidated();
        }
        self.shrink(hands);
    }

    /// An object was found on disk.
    fn found(&mut self, entry: Entry, hands: &mut Hands<'_>) {
        // Where the clock was set back, what comes from now on is newer all the same.
        self.last_ms = self.last_ms.max(entry.stored_ms);
        let known = self.index.find_variant(entry.key, entry.variant);
        let known = known.and_then(|slot| self.index.get(slot));
        let is_known = known.is_some_and(|known| known.stored_ms == entry.stored_ms);
        match &mut self.folder {
            Some(folder) if !is_known && folder.is_invalidated(entry.key) => {
                folder.remove(&entry, hands);
            }
            _ => {
                self.enter(entry, None, hands);
            }
        }
    }

    /// The process ends: what is not written by now is not kept.
    fn close(&mut self, hands: &mut Hands<'_>) {
        self.under_way.clear();
        self.awaited.clear();
        for fetch in self.fetches.drain() {
            fetch.stage.discard(hands);
        }
        for put in self.puts.drain() {
            hands.jobs.cancel(put.ticket);
        }
        if let Some(folder) = &mut self.folder {
            folder.close(hands);
        }
    }

    /// What is under way though nobody asks for it any more; for tests.
    #[doc(hidden)]
    pub fn left_over(&self) -> Option<String> {
        let counts = [
            ("fetches", self.fetches.len()),
            ("keys under way", self.under_way.len()),
            ("fetches awaited", self.awaited.len()),
            ("objects being written", self.puts.len()),
        ];
        let left = counts.iter().filter(|(_, count)| *count > 0);
        let left: Vec<String> = left
            .map(|(what, count)| format!("{count} {what}"))
            .collect();
        (!left.is_empty()).then(|| left.join(", "))
    }

    /// When a request that waits for another one's head has waited long enough, or a walk goes on.
    fn deadline(&self) -> Option<Instant> {
        let awaited = self.awaited.front().map(|(at, _)| *at);
        [awaited, self.bans.due()].into_iter().flatten().min()
    }

    /// Wakes those who have waited long enough, and goes on with a walk.
    fn expire(&mut self, hands: &mut Hands<'_>) {
        let now = hands.now;
        while let Some((_, id)) = self.awaited.pop_front_if(|(at, _)| *at <= now) {
            if let Some(fetch) = self.fetch_mut(id) {
                fetch.wake(hands.woken);
            }
        }
        self.walk_in_turn(hands);
    }
}

/// The number of what has that of a whole, or of a part of it.
fn of(variant: u64, part: Option<Part>) -> u64 {
    match part {
        Some(_) => key::of_part(variant),
        None => variant,
    }
}

/// What an object is called on disk.
fn entry(key: Key, variant: u64, stored_ms: u64, bytes: u64) -> Entry {
    Entry {
        key,
        variant,
        stored_ms,
        bytes,
        warm: None,
    }
}

fn waiter(store: u32, task: Task) -> Waiter {
    let task = task.pack();
    Waiter::Store { store, task }
}

/// The stores of a process: one for each folder, whoever uses it.
#[derive(Default)]
pub struct Stores(Vec<Store>);

impl Stores {
    /// The store with this folder, opened if it is not open yet; else its other settings are those
    /// given from now on. Waits for the disk, so it is for the start.
    pub fn open(&mut self, settings: Settings, disk: &mut dyn Disk) -> StoreId {
        let number = self.0.iter().position(|it| it.settings.dir == settings.dir);
        let number = match number {
            Some(number) => {
                self.0[number].set(settings);
                number
            }
            None => {
                let number = self.0.len();
                self.0.push(Store::open(number as u32, settings, disk));
                number
            }
        };
        StoreId(number as u32)
    }

    /// A store that was opened.
    pub fn at(&mut self, id: StoreId) -> &mut Store {
        &mut self.0[id.0 as usize]
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Store> {
        self.0.iter()
    }

    /// What all of them hold together.
    pub fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        self.iter().for_each(|store| sums.add(store));
        sums
    }

    /// A job of [`Waiter::Store`] is done.
    pub fn job_done(&mut self, store: u32, task: u32, hands: &mut Hands<'_>) {
        if let Some(store) = self.0.get_mut(store as usize) {
            store.job_done(Task::unpack(task), hands);
        }
    }

    /// Reads what there is on disk, as long as not all is known.
    pub fn scan(&mut self, hands: &mut Hands<'_>) {
        for store in &mut self.0 {
            store.scan(hands);
        }
    }

    /// The process ends: nothing is waited for any more.
    pub fn close(&mut self, hands: &mut Hands<'_>) {
        for store in &mut self.0 {
            store.close(hands);
        }
    }

    /// When [`Stores::expire`] is to be called.
    pub fn deadline(&self) -> Option<Instant> {
        self.0.iter().filter_map(Store::deadline).min()
    }

    /// Wakes those who have waited for others long enough, and goes on with what takes turns.
    pub fn expire(&mut self, hands: &mut Hands<'_>) {
        for store in &mut self.0 {
            store.expire(hands);
        }
    }
}
