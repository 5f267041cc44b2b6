//! What was evicted not long ago, by a mark of four bytes each.
//!
//! As many evictions are remembered as there are objects. A mark stands in one of the four places
//! that its key names and takes that of the oldest there, so a few are lost before their time; two
//! objects with equal marks are taken for one, once in some ten thousand evictions. Either costs a
//! worse choice and nothing else.

/// Places for one hash.
const WAYS: usize = 4;
/// Epochs in the time that all places are filled once. Marks that are four times as old would be
/// taken for new ones, but are overwritten by then.
const EPOCHS: usize = 1 << 14;
const BUCKETS_MIN: usize = 64;

/// Marks of evicted objects.
#[derive(Debug, Default)]
pub(super) struct Ghosts {
    buckets: Vec<[Mark; WAYS]>,
    evictions: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    /// Bits of the object's hash; 0 in a place that is free.
    print: u16,
    /// When it was evicted, in parts of evictions; it wraps.
    epoch: u16,
}

impl Ghosts {
    /// An object was evicted, one of so many. Where those have outgrown the places for marks, all
    /// marks are forgotten, which happens at most twenty-odd times in the life of an index.
    pub(super) fn remember(&mut self, key: [u64; 2], variant: u64, objects: u32) {
        let wanted = (objects as usize / WAYS).max(BUCKETS_MIN);
        if self.buckets.len() < wanted {
            self.buckets = vec![[Mark::default(); WAYS]; wanted.next_power_of_two()];
        }
        self.evictions += 1;
        let now = self.epoch();
        let (bucket, print) = self.place(key, variant);
        let oldest = self.buckets[bucket]
            .iter_mut()
            .max_by_key(|mark| match mark.print {
                0 => u16::MAX,
                _ => now.wrapping_sub(mark.epoch),
            });
        // Invariant: a bucket has places.
        *oldest.unwrap() = Mark { print, epoch: now };
    }

    /// Whether the object was among the last so many evictions. It is forgotten.
    pub(super) fn recall(&mut self, key: [u64; 2], variant: u64, objects: u32) -> bool {
        if self.buckets.is_empty() {
            return false;
        }
        let now = self.epoch();
        let age_max = u64::from(objects) / self.evictions_in_epoch();
        let (bucket, print) = self.place(key, variant);
        let found = self.buckets[bucket]
            .iter_mut()
            .find(|mark| mark.print == print && u64::from(now.wrapping_sub(mark.epoch)) <= age_max);
        found.map(|mark| *mark = Mark::default()).is_some()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.buckets.capacity() * size_of::<[Mark; WAYS]>()
    }

    fn evictions_in_epoch(&self) -> u64 {
        (self.buckets.len() * WAYS / EPOCHS).max(1) as u64
    }

    fn epoch(&self) -> u16 {
        (self.evictions / self.evictions_in_epoch()) as u16
    }

    fn place(&self, [high, low]: [u64; 2], variant: u64) -> (usize, u16) {
        // A key's bits are random already; those of its variants must differ.
        let mixed = low ^ variant;
        let bucket = mixed as usize & (self.buckets.len() - 1);
        let print = ((high ^ variant.rotate_left(32)) as u16).max(1);
        (bucket, print)
    }
}
