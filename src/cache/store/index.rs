//! Which objects there are on disk, and which has to go when there are too many.
//!
//! ```text
//!              first seen            used since                  used since: another round
//!  insert ──┬─────────────▶ small ───────────────────▶ main ◀──┐
//!           │                 │                        ▲  │ └──┘
//!           │                 └─not used─▶ evicted     │  └─not used─▶ evicted
//!           │                                 │        │
//!           └──────────evicted from there not long ago─┘
//! ```
//!
//! The rules:
//! 1. An object costs [`BYTES_EACH_MAX`] bytes of memory, all in: a node of one cache line, its
//!    part of the hash table, and a ghost. Nothing here is as long as a URL.
//! 2. No call takes long, however many objects there are. Nodes stand in pieces that never move;
//!    the table is split into [`SHARDS`], each of which grows by itself; an eviction looks at
//!    [`STEPS_MAX`] objects; whoever looks at all does so in pieces.
//! 3. Replacement is S3-FIFO (Yang and others, SOSP 2023), by bytes: what is new has to be used
//!    again while it passes through a small queue of a tenth of all bytes, so what is asked for
//!    once pushes out nothing that is of use. Where that is judged too early, the object's ghost
//!    remembers it. A hit writes one byte.
//! 4. A key has several objects where its responses vary, in a chain from the newest to the oldest.
//!
//! Why S3-FIFO: `benches/replacement.rs` asks LRU, SIEVE and this index a million times for 100,000
//! objects whose sizes differ as those of the web do. Hits in a hundred requests, and in a hundred
//! bytes:
//!
//! ```text
//!             the cache 1 % of all bytes         the cache 10 % of all bytes
//! trace       LRU        SIEVE      the index    LRU        SIEVE      the index
//! zipf 0.7    10.3/ 7.5  17.2/13.7  20.3/14.8    34.0/38.8  43.3/47.1  43.3/47.6
//! zipf 0.9    32.3/23.5  39.1/35.0  40.6/37.4    59.8/62.6  66.7/68.7  67.1/68.8
//! zipf 1.1    63.7/45.6  68.8/60.2  68.6/63.5    84.1/82.7  87.1/85.6  87.2/85.8
//! scans       21.3/14.9  27.0/20.3  26.6/28.5    33.6/34.9  44.3/46.1  44.9/46.7
//! wonders     19.1/11.8  26.5/20.0  26.3/29.4    34.6/37.1  43.2/45.3  44.7/46.6
//! shift       33.8/26.4  35.7/28.1  38.6/31.5    56.9/51.5  59.0/53.4  60.5/55.4
//! loop        13.2/ 7.8  19.6/15.4  19.6/23.4    24.9/27.8  37.4/40.1  41.5/44.5
//! ```
//!
//! Where popularity stands still SIEVE is as good; where it moves it is worse, and with objects of
//! one size (the bench's other tables) worse than LRU. This index has bounded evictions and ghosts
//! that are not exact; an exact S3-FIFO has at most 0.2 more hits in a hundred in any table.
//!
//! Not here: files, and what is in memory of them; the owner is told what was evicted and removes
//! it. Nothing here is durable, either: names of files are enough to make the index again
//! ([`super::object::Name`]).

mod ghosts;

use hashbrown::HashTable;

use ghosts::Ghosts;

/// What an object costs in memory, in bytes, at the worst of how full tables happen to be. Counted
/// by a test with a million objects.
pub const BYTES_EACH_MAX: usize = 80;
/// Tables that objects are spread over by the first bits of their keys. One that grows moves its
/// own part and nobody waits for it: 1 ms with a million objects, where a single table takes 45.
const SHARDS: usize = 64;
/// Nodes that are allocated together.
const PIECE: usize = 1024;
/// Objects that one eviction looks at before it takes the next one, used or not. Only where nearly
/// all were used since the last evictions are there more in a row.
const STEPS_MAX: usize = 256;
/// The part of the small queue in the whole is one in this many.
const SMALL_PART: u64 = 10;
/// The most uses that count.
const USES_MAX: u8 = 3;
/// What stands for no node, and for no handle.
const NONE: u32 = u32::MAX;

/// An object's key: the hash of the text that names it ([`super::key`]). Its bits are as good as
/// random, and who sends requests cannot choose them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub u128);

/// Whether the number of a variant is that of a part of it ([`super::key::of_part`]): an odd one.
#[must_use]
pub fn is_of_part(variant: u64) -> bool {
    variant & 1 == 1
}

/// What is known of an object without looking at its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its key.
    pub key: Key,
    /// Which of the key's responses this is: the hash of the request's selecting fields.
    pub variant: u64,
    /// When it was stored, in milliseconds of Unix time.
    pub stored_ms: u64,
    /// The bytes that it takes on disk.
    pub bytes: u64,
    /// Where it stands in the memory tier; not `u32::MAX`.
    pub warm: Option<u32>,
}

/// The place of one object. It is never that of another: when the object is gone, or has been
/// replaced, the slot names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot {
    index: u32,
    generation: u32,
}

/// What became of an object that was to be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It was.
    New {
        /// Its place.
        slot: Slot,
        /// The one that went for it, if any: its file has to be removed.
        gone: Option<Entry>,
    },
    /// It had been before.
    Known(Slot),
    /// There is a newer one of its key and variant, or there are enough newer ones of its key: its
    /// own file has to be removed.
    TooOld,
}

/// How much may be kept. Whoever changes it or inserts has to evict while [`Index::is_over`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes on disk.
    pub bytes_max: u64,
    /// Objects.
    pub objects_max: u32,
    /// Objects of one key; at least one.
    pub variants_max: u32,
}

/// How far a walk over all objects has come; it begins with the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place(u32);

/// All objects of one store.
#[derive(Debug)]
pub struct Index {
    limits: Limits,
    nodes: Nodes,
    /// The newest object of each key.
    shards: Vec<HashTable<u32>>,
    small: Queue,
    main: Queue,
    ghosts: Ghosts,
}

/// An object, in one cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Node {
    key: [u64; 2],
    variant: u64,
    stored_ms: u64,
    bytes: u64,
    warm: u32,
    generation: u32,
    /// The next older object of the same key.
    older: u32,
    /// The neighbour in the queue that leaves it sooner; among free nodes, the next one.
    ahead: u32,
    /// The one that leaves it later.
    behind: u32,
    at: At,
    uses: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Free,
    Small,
    Main,
}

/// A queue through nodes: what comes is last.
#[derive(Debug)]
struct Queue {
    first: u32,
    last: u32,
    objects: u32,
    bytes: u64,
    /// Of those objects, the ones that are parts.
    parts: u32,
    part_bytes: u64,
}

/// All nodes, in pieces that never move.
#[derive(Debug)]
struct Nodes {
    pieces: Vec<Box<[Node; PIECE]>>,
    /// The free node that is used next.
    free: u32,
}

impl Index {
    /// With no objects.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            nodes: Nodes {
                pieces: Vec::new(),
                free: NONE,
            },
            shards: (0..SHARDS).map(|_| HashTable::new()).collect(),
            small: Queue::EMPTY,
            main: Queue::EMPTY,
            ghosts: Ghosts::default(),
        }
    }

    /// How many objects there are.
    #[must_use]
    pub fn objects(&self) -> u32 {
        self.small.objects + self.main.objects
    }

    /// The bytes on disk of all objects.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.small.bytes + self.main.bytes
    }

    /// Of all objects those that are parts of representations, and their bytes on disk.
    #[must_use]
    pub fn parts(&self) -> (u32, u64) {
        let (small, main) = (&self.small, &self.main);
        (small.parts + main.parts, small.part_bytes + main.part_bytes)
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// From now on these limits hold.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Whether something has to be evicted.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.bytes() > self.limits.bytes_max || self.objects() > self.limits.objects_max
    }

    /// Adds an object, and says whose file has to be removed for it. Of two with the same key and
    /// variant the older goes, and of a key that has too many its oldest. Objects come in any order
    /// (that of folders, after a restart); one that replaces another counts as used as much.
    ///
    /// What has key, variant, time and bytes of one that is there is taken for that one, for their
    /// files have the same name: whoever stores two responses gives them different times.
    pub fn insert(&mut self, entry: Entry) -> Inserted {
        let (mut variants, mut oldest, mut same) = (0, NONE, NONE);
        let mut at = self.newest(entry.key);
        while at != NONE {
            let node = self.nodes.at(at);
            if node.variant == entry.variant {
                same = at;
            }
            (variants, oldest, at) = (variants + 1, at, node.older);
        }
        if same != NONE {
            return self.replace(same, entry);
        }
        let mut gone = None;
        if variants >= self.limits.variants_max.max(1) {
            if self.nodes.at(oldest).stored_ms > entry.stored_ms {
                return Inserted::TooOld;
            }
            gone = Some(self.take(oldest));
        }
        let slot = self.add(entry);
        Inserted::New { slot, gone }
    }

    /// The objects of a key, the newest first.
    pub fn find(&self, key: Key) -> impl Iterator<Item = Slot> + '_ {
        let mut at = self.newest(key);
        std::iter::from_fn(move || {
            let slot = (at != NONE).then(|| self.slot(at))?;
            at = self.nodes.at(at).older;
            Some(slot)
        })
    }

    /// The object of a key and a variant.
    #[must_use]
    pub fn find_variant(&self, key: Key, variant: u64) -> Option<Slot> {
        self.find(key)
            .find(|slot| self.nodes.at(slot.index).variant == variant)
    }

    /// What is known of an object, if it is still there.
    #[must_use]
    pub fn get(&self, slot: Slot) -> Option<Entry> {
        self.nodes.named(slot).map(Node::entry)
    }

    /// Says that an object was used.
    pub fn touch(&mut self, slot: Slot) {
        if let Some(node) = self.nodes.named_mut(slot) {
            node.uses = (node.uses + 1).min(USES_MAX);
        }
    }

    /// Says where an object stands in the memory tier, if it is still there.
    pub fn set_warm(&mut self, slot: Slot, warm: Option<u32>) {
        if let Some(node) = self.nodes.named_mut(slot) {
            node.warm = warm.unwrap_or(NONE);
        }
    }

    /// Removes an object, if it is still there.
    pub fn remove(&mut self, slot: Slot) -> Option<Entry> {
        self.nodes.named(slot)?;
        Some(self.take(slot.index))
    }

    /// Removes the object that is needed least; `None` where there are none. To be called while
    /// [`Index::is_over`], and whenever the disk is full before that.
    pub fn evict_one(&mut self) -> Option<Entry> {
        for step in 0.. {
            let is_last_step = step >= STEPS_MAX;
            let from_small = self.is_small_to_shrink();
            let at = if from_small { &self.small } else { &self.main }.first;
            if at == NONE {
                return None;
            }
            let node = self.nodes.at_mut(at);
            if node.uses == 0 || is_last_step {
                if from_small {
                    let live = self.small.objects + self.main.objects;
                    self.ghosts.remember(node.key, node.variant, live);
                }
                return Some(self.take(at));
            }
            node.uses = if from_small { 0 } else { node.uses - 1 };
            self.leave_queue(at);
            self.enter_queue(at, At::Main);
        }
        None
    }

    /// Some of the slots in use, and the place to go on from; `None` at the end. At most `looks`
    /// places are looked at, and fewer slots may come of them. What is there from the beginning of
    /// a walk to its end is met once; what comes or is replaced meanwhile, perhaps.
    pub fn next_from(
        &self,
        place: Place,
        looks: u32,
    ) -> (impl Iterator<Item = Slot> + '_, Option<Place>) {
        let end = self.nodes.len();
        let upto = place.0.saturating_add(looks.max(1)).min(end);
        let slots = (place.0..upto)
            .filter(|&at| self.nodes.at(at).at != At::Free)
            .map(|at| self.slot(at));
        (slots, (upto < end).then_some(Place(upto)))
    }

    /// The bytes of memory that all of this takes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let tables: usize = self.shards.iter().map(HashTable::allocation_size).sum();
        size_of::<Self>()
            + self.nodes.pieces.len() * size_of::<[Node; PIECE]>()
            + self.nodes.pieces.capacity() * size_of::<Box<[Node; PIECE]>>()
            + SHARDS * size_of::<HashTable<u32>>()
            + tables
            + self.ghosts.memory_bytes()
    }

    /// Whether the next to go is one of the small queue: it has more than its part of what there is
    /// too much of.
    fn is_small_to_shrink(&self) -> bool {
        let is_over_in_objects = self.objects() > self.limits.objects_max;
        let (small, all) = if is_over_in_objects && self.bytes() <= self.limits.bytes_max {
            (self.small.objects.into(), self.objects().into())
        } else {
            (self.small.bytes, self.bytes())
        };
        self.main.objects == 0 || small > all / SMALL_PART
    }

    fn slot(&self, index: u32) -> Slot {
        let generation = self.nodes.at(index).generation;
        Slot { index, generation }
    }

    fn newest(&self, key: Key) -> u32 {
        let key = words(key);
        self.shards[shard(key)]
            .find(hash(key), |&at| self.nodes.at(at).key == key)
            .map_or(NONE, |&at| at)
    }

    /// Puts an object in the place of another with the same key and variant, if it is newer.
    fn replace(&mut self, at: u32, entry: Entry) -> Inserted {
        let old = *self.nodes.at(at);
        if (old.stored_ms, old.bytes) == (entry.stored_ms, entry.bytes) {
            return Inserted::Known(self.slot(at));
        }
        if old.stored_ms > entry.stored_ms {
            return Inserted::TooOld;
        }
        self.leave_chain(at);
        self.leave_queue(at);
        *self.nodes.at_mut(at) = Node {
            generation: old.generation.wrapping_add(1),
            uses: old.uses,
            ..Node::of(entry)
        };
        self.enter_queue(at, old.at);
        self.enter_chain(at);
        Inserted::New {
            slot: self.slot(at),
            gone: Some(old.entry()),
        }
    }

    fn add(&mut self, entry: Entry) -> Slot {
        let at = self.nodes.free();
        let node = Node::of(entry);
        let queue = if self.ghosts.recall(node.key, node.variant, self.objects()) {
            At::Main
        } else {
            At::Small
        };
        let place = self.nodes.at_mut(at);
        *place = Node {
            generation: place.generation,
            ..node
        };
        self.enter_queue(at, queue);
        self.enter_chain(at);
        self.slot(at)
    }

    fn take(&mut self, at: u32) -> Entry {
        self.leave_chain(at);
        self.leave_queue(at);
        let entry = self.nodes.at(at).entry();
        self.nodes.release(at);
        entry
    }

    /// Puts a node among those of its key, by its age; of two as old, the one that comes later
    /// stands before.
    fn enter_chain(&mut self, at: u32) {
        let Node { key, stored_ms, .. } = *self.nodes.at(at);
        let nodes = &mut self.nodes;
        let shard = &mut self.shards[shard(key)];
        let entry = shard.entry(
            hash(key),
            |&other| nodes.at(other).key == key,
            |&other| hash(nodes.at(other).key),
        );
        let mut newest = match entry {
            hashbrown::hash_table::Entry::Occupied(newest) => newest,
            hashbrown::hash_table::Entry::Vacant(vacant) => {
                vacant.insert(at);
                return;
            }
        };
        let mut before = NONE;
        let mut next = *newest.get();
        while next != NONE && nodes.at(next).stored_ms > stored_ms {
            before = next;
            next = nodes.at(next).older;
        }
        nodes.at_mut(at).older = next;
        match before {
            NONE => *newest.get_mut() = at,
            before => nodes.at_mut(before).older = at,
        }
    }

    fn leave_chain(&mut self, at: u32) {
        let Node { key, older, .. } = *self.nodes.at(at);
        let nodes = &mut self.nodes;
        let found =
            self.shards[shard(key)].find_entry(hash(key), |&other| nodes.at(other).key == key);
        // Invariant: each node in use is in the chain of its key.
        let mut newest = found.unwrap();
        let mut before = *newest.get();
        if before != at {
            while nodes.at(before).older != at {
                before = nodes.at(before).older;
            }
            nodes.at_mut(before).older = older;
        } else if older == NONE {
            newest.remove();
        } else {
            *newest.get_mut() = older;
        }
    }

    fn queue(&mut self, at: At) -> &mut Queue {
        match at {
            At::Small => &mut self.small,
            At::Main => &mut self.main,
            At::Free => unreachable!("a free node is in no queue"),
        }
    }

    fn enter_queue(&mut self, at: u32, to: At) {
        let queue = self.queue(to);
        let ahead = std::mem::replace(&mut queue.last, at);
        if ahead == NONE {
            queue.first = at;
        }
        queue.objects += 1;
        let node = self.nodes.at_mut(at);
        (node.at, node.ahead, node.behind) = (to, ahead, NONE);
        let (bytes, is_part) = (node.bytes, is_of_part(node.variant));
        if ahead != NONE {
            self.nodes.at_mut(ahead).behind = at;
        }
        let queue = self.queue(to);
        queue.bytes += bytes;
        if is_part {
            (queue.parts, queue.part_bytes) = (queue.parts + 1, queue.part_bytes + bytes);
        }
    }

    fn leave_queue(&mut self, at: u32) {
        let node = *self.nodes.at(at);
        match node.ahead {
            NONE => self.queue(node.at).first = node.behind,
            ahead => self.nodes.at_mut(ahead).behind = node.behind,
        }
        match node.behind {
            NONE => self.queue(node.at).last = node.ahead,
            behind => self.nodes.at_mut(behind).ahead = node.ahead,
        }
        let queue = self.queue(node.at);
        queue.objects -= 1;
        queue.bytes -= node.bytes;
        if is_of_part(node.variant) {
            queue.parts -= 1;
            queue.part_bytes -= node.bytes;
        }
    }
}

impl Node {
    const FREE: Self = Self {
        key: [0; 2],
        variant: 0,
        stored_ms: 0,
        bytes: 0,
        warm: NONE,
        generation: 0,
        older: NONE,
        ahead: NONE,
        behind: NONE,
        at: At::Free,
        uses: 0,
    };

    fn of(entry: Entry) -> Self {
        Self {
            key: words(entry.key),
            variant: entry.variant,
            stored_ms: entry.stored_ms,
            bytes: entry.bytes,
            warm: entry.warm.unwrap_or(NONE),
            ..Self::FREE
        }
    }

    fn entry(&self) -> Entry {
        let [high, low] = self.key.map(u128::from);
        Entry {
            key: Key(high << 64 | low),
            variant: self.variant,
            stored_ms: self.stored_ms,
            bytes: self.bytes,
            warm: (self.warm != NONE).then_some(self.warm),
        }
    }
}

impl Queue {
    const EMPTY: Self = Self {
        first: NONE,
        last: NONE,
        objects: 0,
        bytes: 0,
        parts: 0,
        part_bytes: 0,
    };
}

impl Nodes {
    /// One past the last that was ever in use, rounded up to a whole piece.
    fn len(&self) -> u32 {
        // Invariant: a piece is added below only where its nodes have numbers.
        u32::try_from(self.pieces.len() * PIECE).unwrap()
    }

    fn at(&self, at: u32) -> &Node {
        &self.pieces[at as usize / PIECE][at as usize % PIECE]
    }

    fn at_mut(&mut self, at: u32) -> &mut Node {
        &mut self.pieces[at as usize / PIECE][at as usize % PIECE]
    }

    fn named(&self, slot: Slot) -> Option<&Node> {
        let node = self.at(slot.index);
        (node.generation == slot.generation && node.at != At::Free).then_some(node)
    }

    fn named_mut(&mut self, slot: Slot) -> Option<&mut Node> {
        let node = self.at_mut(slot.index);
        (node.generation == slot.generation && node.at != At::Free).then_some(node)
    }

    /// A node for an object.
    fn free(&mut self) -> u32 {
        if self.free == NONE {
            self.grow();
        }
        let at = self.free;
        self.free = self.at(at).ahead;
        at
    }

    /// A function of its own, since the piece is on the stack before it is in its box.
    #[cold]
    #[inline(never)]
    fn grow(&mut self) {
        let first = self.len();
        let piece = u32::try_from(PIECE)
            .ok()
            .and_then(|piece| first.checked_add(piece));
        let end = piece.expect("four thousand million objects do not fit any memory");
        let mut nodes = Box::new([Node::FREE; PIECE]);
        for (node, next) in nodes.iter_mut().zip(first + 1..) {
            node.ahead = if next < end { next } else { NONE };
        }
        self.pieces.push(nodes);
        self.free = first;
    }

    fn release(&mut self, at: u32) {
        let free = std::mem::replace(&mut self.free, at);
        let node = self.at_mut(at);
        *node = Node {
            generation: node.generation.wrapping_add(1),
            ahead: free,
            ..Node::FREE
        };
    }
}

fn words(Key(key): Key) -> [u64; 2] {
    [(key >> 64) as u64, key as u64]
}

/// The shard of a key: its first bits, which the hash within the shard does not use.
fn shard([high, _]: [u64; 2]) -> usize {
    (high >> (u64::BITS - SHARDS.trailing_zeros())) as usize
}

fn hash([_, low]: [u64; 2]) -> u64 {
    low
}

#[cfg(test)]
mod tests;
