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
//! `index` and `memory` (where it is), `kept` and `keeping` (what is
//! kept of it), `puts` (how small objects are written), `fetch`, `fetching` and `writing` (how it
//! comes), `joining` (parts, and how they are completed), `folder` (how it comes back), `purging`
//! and `grouping` (how it is forgotten).

mod fetch;
mod fetching;
mod folder;
mod grouping;
pub mod index;
mod joining;
mod keeping;
mod kept;
pub mod key;
mod memory;
pub mod object;
mod purging;
mod puts;
#[cfg(test)]
mod tests;
mod writing;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use slab::Slab;

use crate::buffer::Pool;
use crate::disk::Disk;
use crate::http::caching::RuleBook;
use crate::http::caching::partial::Part;
use crate::jobs::Jobs;
use crate::waiter::{Id, Waiter};
use fetch::Fetch;
pub use fetch::{Ahead, FetchId, Object, put_body};
use folder::Folder;
pub use index::Key;
use index::{Entry, Index, Limits};
pub use kept::{Body, Kept, Shown, parse_head};
use key::KeyHasher;
use memory::Memory;
use purging::Bans;
pub use purging::{BANS_MAX, NotPurged, Scope, tags_in};
use puts::Puts;

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
    /// Of those, objects that are parts of representations.
    pub parts: u32,
    /// Their bytes.
    pub part_bytes: u64,
    /// Of all objects, those in memory.
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
        let (parts, part_bytes) = store.index.parts();
        self.parts += parts;
        self.part_bytes += part_bytes;
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
    /// Who waits for the head of which fetch, until they have looked at it.
    hopeful: BTreeSet<(Id, FetchId)>,
    /// What could not be kept, until when.
    passed: HashMap<Key, Instant>,
    /// When those whose time is over were last taken out of it.
    passed_swept: Option<Instant>,
    /// `None` if it could not be opened: then there is nothing but memory.
    folder: Option<Folder>,
    /// Small objects that are being written.
    puts: Puts,
    bans: Bans,
    counts: Counts,
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
        let bans = Bans::read(bans.as_deref());
        Self {
            number,
            hasher: KeyHasher::new(&secret),
            index: Index::new(settings.limits()),
            memory: Memory::new(settings.memory_bytes_max, settings.open_files_max),
            fetches: Slab::new(),
            generations: 0,
            // What comes from now on is newer than the bans, whatever the clock says; unless they
            // are not known, and all is banned.
            last_ms: Some(bans.latest_ms())
                .filter(|&ms| ms < u64::MAX)
                .unwrap_or(0),
            under_way: HashMap::new(),
            awaited: VecDeque::new(),
            hopeful: BTreeSet::new(),
            passed: HashMap::new(),
            passed_swept: None,
            folder,
            puts: Puts::default(),
            bans,
            counts: Counts::default(),
            settings,
        }
    }

    /// What it holds, and what was counted of it.
    pub fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        sums.add(self);
        sums
    }

    /// Its settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether its folder could be opened.
    pub fn is_on_disk(&self) -> bool {
        self.folder.is_some()
    }

    /// Whether all that an earlier process kept has been found.
    pub fn is_all_known(&self) -> bool {
        self.folder.as_ref().is_none_or(Folder::is_all_read)
    }

    /// Fetches whose responses it takes in, or others read.
    pub fn fetches_under_way(&self) -> usize {
        self.fetches.len()
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

    /// The process ends: what is not written by now is not kept.
    fn close(&mut self, hands: &mut Hands<'_>) {
        self.under_way.clear();
        self.awaited.clear();
        self.hopeful.clear();
        for fetch in self.fetches.drain() {
            fetch.stage.discard(hands);
        }
        self.puts.close(hands);
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
            ("objects to be written", self.puts.len()),
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
        self.write_waiting(hands);
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
