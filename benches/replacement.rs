//! Which object has to go: hit ratios of policies of replacement over made-up traces.
//!
//! Not a matter of time but of counts, so this is a program that prints a table and no criterion
//! benchmark: `cargo bench --bench replacement`. Each number is how many in a hundred requests were
//! answered by the cache, and after the stroke how many in a hundred bytes; the first quarter of a
//! trace only fills the cache and is not counted. A policy has a limit in bytes, as the store of
//! the proxy has, of which two are tried: a hundredth and a tenth of all objects together.
//!
//! The traces are made from fixed seeds:
//! - `zipf A`: the popularity of the object of rank r is r to the power of -A; 0.7 to 1.1 covers
//!   what was found in traces of web proxies (Breslau and others, INFOCOM 1999, and many since).
//! - `scans`: zipf 0.9, and after each 20,000 requests 10,000 for objects that are asked for once,
//!   as a crawler or a backup does.
//! - `wonders`: zipf 0.9, and each third request is for an object that is asked for once.
//! - `shift`: zipf 0.9 whose ranks move: after each 1,000 requests 50 of the 1,000 most popular
//!   objects change places with objects from anywhere, as news do.
//! - `loop`: zipf 0.9, and each second request goes round and round through a fifth of all objects.

use std::collections::VecDeque;

use netlab_reactor::cache::store::index::{Entry, Index, Key, Limits};

const OBJECTS: u32 = 100_000;
const REQUESTS: usize = 1_000_000;
/// The part of a trace that only fills the cache.
const WARM_UP: usize = REQUESTS / 4;

/// A seeded sequence (splitmix64), so that the table is the same on all machines.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u32) -> u32 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u32
    }

    /// In 0..1.
    fn part(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Ranks by popularity.
struct Zipf {
    /// The probability of each rank and all before it.
    upto: Vec<f64>,
}

impl Zipf {
    fn new(alpha: f64) -> Self {
        let mut sum = 0.0;
        let mut upto: Vec<f64> = (1..=OBJECTS)
            .map(|rank| {
                sum += f64::from(rank).powf(-alpha);
                sum
            })
            .collect();
        upto.iter_mut().for_each(|part| *part /= sum);
        Self { upto }
    }

    fn rank(&self, rng: &mut Rng) -> u32 {
        let part = rng.part();
        let rank = self.upto.partition_point(|&upto| upto < part);
        (rank as u32).min(OBJECTS - 1)
    }
}

/// The objects that are asked for in turn. Those from [`OBJECTS`] on are asked for once.
struct Trace {
    name: &'static str,
    requests: Vec<u32>,
}

fn traces() -> Vec<Trace> {
    vec![
        mixed("zipf 0.7", 0.7, |_| None),
        mixed("zipf 0.9", 0.9, |_| None),
        mixed("zipf 1.1", 1.1, |_| None),
        mixed("scans", 0.9, |at| {
            (at % 30_000 >= 20_000).then_some(OBJECTS)
        }),
        mixed("wonders", 0.9, |at| at.is_multiple_of(3).then_some(OBJECTS)),
        shifting(),
        mixed("loop", 0.9, |at| {
            let round = (at / 2) as u32 % (OBJECTS / 5);
            at.is_multiple_of(2).then_some(OBJECTS - 1 - round)
        }),
    ]
}

/// Zipf, but where `other` names another object: [`OBJECTS`] for one that is new.
fn mixed(name: &'static str, alpha: f64, other: impl Fn(usize) -> Option<u32>) -> Trace {
    let (zipf, mut rng, mut new) = (Zipf::new(alpha), Rng(1), OBJECTS);
    let one = |at| match other(at) {
        Some(OBJECTS) => {
            new += 1;
            new - 1
        }
        Some(object) => object,
        None => zipf.rank(&mut rng),
    };
    let requests = (0..REQUESTS).map(one).collect();
    Trace { name, requests }
}

fn shifting() -> Trace {
    let (zipf, mut rng) = (Zipf::new(0.9), Rng(2));
    let mut objects: Vec<u32> = (0..OBJECTS).collect();
    let one = |at: usize| {
        if at.is_multiple_of(1_000) {
            for _ in 0..50 {
                objects.swap(rng.below(1_000) as usize, rng.below(OBJECTS) as usize);
            }
        }
        objects[zipf.rank(&mut rng) as usize]
    };
    let requests = (0..REQUESTS).map(one).collect();
    let name = "shift";
    Trace { name, requests }
}

/// Sizes in bytes: all the same, or log-normal from 100 bytes to 64 MiB with a median of 8 KiB and
/// a mean of about 41 KiB. What is large is as popular as what is small.
fn sizes(vary: bool) -> Vec<u64> {
    let mut rng = Rng(3);
    let mut one = || {
        // The sum of twelve such parts is nearly normal, with a variance of 1.
        let normal = (0..12).map(|_| rng.part()).sum::<f64>() - 6.0;
        ((8192.0 * (1.8 * normal).exp()) as u64).clamp(100, 64 << 20)
    };
    let count = OBJECTS as usize + REQUESTS;
    (0..count)
        .map(|_| if vary { one() } else { 8192 })
        .collect()
}

/// A cache with a limit in bytes.
trait Policy {
    /// Whether `object` was there. If not, it is now, and others are not.
    fn ask(&mut self, object: u32) -> bool;
}

/// What all policies below know of their objects.
struct Cache<'s> {
    sizes: &'s [u64],
    bytes: u64,
    bytes_max: u64,
    /// Each object's word: 0 for absent, else what the policy makes of it.
    state: Vec<u32>,
}

impl<'s> Cache<'s> {
    fn new(sizes: &'s [u64], bytes_max: u64) -> Self {
        let state = vec![0; sizes.len()];
        Self {
            sizes,
            bytes: 0,
            bytes_max,
            state,
        }
    }

    fn enter(&mut self, object: u32, state: u32) {
        self.bytes += self.sizes[object as usize];
        self.state[object as usize] = state;
    }

    fn leave(&mut self, object: u32) {
        self.bytes -= self.sizes[object as usize];
        self.state[object as usize] = 0;
    }

    /// Whether something has to go before `object` may come.
    fn is_full_for(&self, object: u32) -> bool {
        self.bytes > 0 && self.bytes + self.sizes[object as usize] > self.bytes_max
    }
}

/// Least recently used. A use is a new place in the queue, and an object's old ones are passed over.
struct Lru<'s> {
    cache: Cache<'s>,
    queue: VecDeque<(u32, u32)>,
    uses: u32,
}

impl Policy for Lru<'_> {
    fn ask(&mut self, object: u32) -> bool {
        self.uses += 1;
        let hit = self.cache.state[object as usize] != 0;
        if !hit {
            while self.cache.is_full_for(object) {
                let (old, use_of_old) = self.queue.pop_front().expect("bytes are of objects");
                if self.cache.state[old as usize] == use_of_old {
                    self.cache.leave(old);
                }
            }
            self.cache.enter(object, self.uses);
        }
        self.cache.state[object as usize] = self.uses;
        self.queue.push_back((object, self.uses));
        hit
    }
}

/// SIEVE (Zhang and others, NSDI 2024): a queue, and a hand that goes from its old end to its new
/// one, spares what was used since it passed, and throws out what was not.
struct Sieve<'s> {
    cache: Cache<'s>,
    /// From old to new, with holes where objects were thrown out.
    queue: Vec<Option<u32>>,
    hand: usize,
}

const UNUSED: u32 = 1;
const USED: u32 = 2;

impl Policy for Sieve<'_> {
    fn ask(&mut self, object: u32) -> bool {
        if self.cache.state[object as usize] != 0 {
            self.cache.state[object as usize] = USED;
            return true;
        }
        while self.cache.is_full_for(object) {
            if self.hand == self.queue.len() {
                self.queue.retain(Option::is_some);
                self.hand = 0;
            }
            let Some(old) = self.queue[self.hand] else {
                self.hand += 1;
                continue;
            };
            if self.cache.state[old as usize] == USED {
                self.cache.state[old as usize] = UNUSED;
            } else {
                self.cache.leave(old);
                self.queue[self.hand] = None;
            }
            self.hand += 1;
        }
        self.cache.enter(object, UNUSED);
        self.queue.push(Some(object));
        false
    }
}

/// S3-FIFO (Yang and others, SOSP 2023): what is new stands in a small queue, what was used there
/// goes on to the main one, where each use is worth another round; what was not used is remembered
/// for a while, and goes to the main queue when it comes again.
struct S3Fifo<'s> {
    cache: Cache<'s>,
    small: VecDeque<u32>,
    small_bytes: u64,
    main: VecDeque<u32>,
    ghosts: VecDeque<u32>,
    is_ghost: Vec<bool>,
}

/// The most uses that count.
const USES_MAX: u32 = 3;

impl S3Fifo<'_> {
    fn evict(&mut self) {
        if self.small_bytes > self.cache.bytes_max / 10 || self.main.is_empty() {
            let Some(old) = self.small.pop_front() else {
                return;
            };
            self.small_bytes -= self.cache.sizes[old as usize];
            if self.cache.state[old as usize] > 1 {
                self.cache.state[old as usize] = 1;
                self.main.push_back(old);
                return;
            }
            self.cache.leave(old);
            self.ghosts.push_back(old);
            self.is_ghost[old as usize] = true;
            while self.ghosts.len() > self.main.len() + self.small.len() {
                let ghost = self.ghosts.pop_front().expect("more than none");
                self.is_ghost[ghost as usize] = false;
            }
        } else if let Some(old) = self.main.pop_front() {
            if self.cache.state[old as usize] > 1 {
                self.cache.state[old as usize] -= 1;
                self.main.push_back(old);
            } else {
                self.cache.leave(old);
            }
        }
    }
}

impl Policy for S3Fifo<'_> {
    fn ask(&mut self, object: u32) -> bool {
        let state = &mut self.cache.state[object as usize];
        if *state != 0 {
            *state = (*state + 1).min(1 + USES_MAX);
            return true;
        }
        while self.cache.is_full_for(object) {
            self.evict();
        }
        self.cache.enter(object, 1);
        if self.is_ghost[object as usize] {
            self.main.push_back(object);
        } else {
            self.small.push_back(object);
            self.small_bytes += self.cache.sizes[object as usize];
        }
        false
    }
}

/// The store's own index, which knows no trace.
struct Store<'s> {
    index: Index,
    sizes: &'s [u64],
}

impl Policy for Store<'_> {
    fn ask(&mut self, object: u32) -> bool {
        let mut bits = Rng(object.into());
        let key = Key(u128::from(bits.next()) << 64 | u128::from(bits.next()));
        if let Some(slot) = self.index.find_variant(key, 0) {
            self.index.touch(slot);
            return true;
        }
        let _new = self.index.insert(Entry {
            key,
            variant: 0,
            stored_ms: 0,
            bytes: self.sizes[object as usize],
            warm: None,
        });
        while self.index.is_over() {
            self.index.evict_one();
        }
        false
    }
}

/// What a policy answers from the cache, in hundredths of requests and of bytes.
fn ratios(mut policy: impl Policy, trace: &Trace, sizes: &[u64]) -> String {
    let (mut hits, mut bytes_hit, mut bytes) = (0, 0, 0);
    for (at, &object) in trace.requests.iter().enumerate() {
        let (hit, size) = (policy.ask(object), sizes[object as usize]);
        if at >= WARM_UP {
            bytes += size;
            hits += u64::from(hit);
            bytes_hit += if hit { size } else { 0 };
        }
    }
    let requests = (trace.requests.len() - WARM_UP) as u64;
    let part = |part: u64, of: u64| part as f64 * 100.0 / of as f64;
    let (of_requests, of_bytes) = (part(hits, requests), part(bytes_hit, bytes));
    format!("{of_requests:5.1}/{of_bytes:4.1}")
}

/// One line of the table.
fn line(trace: &Trace, sizes: &[u64], bytes_max: u64) -> String {
    let cache = || Cache::new(sizes, bytes_max);
    let lru = Lru {
        cache: cache(),
        queue: VecDeque::new(),
        uses: 0,
    };
    let sieve = Sieve {
        cache: cache(),
        queue: Vec::new(),
        hand: 0,
    };
    let s3_fifo = S3Fifo {
        cache: cache(),
        small: VecDeque::new(),
        small_bytes: 0,
        main: VecDeque::new(),
        ghosts: VecDeque::new(),
        is_ghost: vec![false; sizes.len()],
    };
    let limits = Limits {
        bytes_max,
        objects_max: u32::MAX,
        variants_max: 1,
    };
    let store = Store {
        index: Index::new(limits),
        sizes,
    };
    format!(
        "{:9} {} {} {} {}",
        trace.name,
        ratios(lru, trace, sizes),
        ratios(sieve, trace, sizes),
        ratios(s3_fifo, trace, sizes),
        ratios(store, trace, sizes),
    )
}

#[allow(clippy::print_stdout, reason = "the table is what this program is for")]
fn main() {
    let traces = traces();
    for (name, vary) in [("the same", false), ("log-normal", true)] {
        let sizes = sizes(vary);
        let footprint: u64 = sizes[..OBJECTS as usize].iter().sum();
        for part in [100, 10] {
            println!("\nsizes {name}, the cache {} % of all bytes", 100 / part);
            println!("trace     LRU        SIEVE      S3-FIFO    the index");
            for trace in &traces {
                println!("{}", line(trace, &sizes, footprint / part));
            }
        }
    }
}
