use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::cache::store::object::Name;

const LIMITS: Limits = Limits {
    bytes_max: 1000,
    objects_max: u32::MAX,
    variants_max: 3,
};

fn entry(key: u128, variant: u64, stored_ms: u64, bytes: u64) -> Entry {
    Entry {
        key: Key(key),
        variant,
        stored_ms,
        bytes,
        warm: None,
    }
}

/// An object of a hundredth of the limit; keys are spread as hashes are.
fn small(number: u128) -> Entry {
    entry(spread(number), 0, 0, 10)
}

fn spread(number: u128) -> u128 {
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)
}

fn evict(index: &mut Index) -> Vec<Entry> {
    let mut gone = Vec::new();
    while index.is_over() {
        gone.extend(index.evict_one());
    }
    gone
}

/// Adds an object that has nothing against it.
fn add(index: &mut Index, entry: Entry) -> Slot {
    match index.insert(entry) {
        Inserted::New { slot, gone: None } => slot,
        other => panic!("{other:?}"),
    }
}

fn replace(index: &mut Index, entry: Entry, expected: Entry) -> Slot {
    match index.insert(entry) {
        Inserted::New {
            slot,
            gone: Some(gone),
        } if gone == expected => slot,
        other => panic!("{other:?}"),
    }
}

fn has(index: &Index, entry: Entry) -> bool {
    index.find_variant(entry.key, entry.variant).is_some()
}

fn use_once(index: &mut Index, entry: Entry) {
    let slot = index.find_variant(entry.key, entry.variant);
    index.touch(slot.expect("the object"));
}

fn all(index: &Index, looks: u32) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut place = Some(Place::default());
    while let Some(from) = place {
        let (slots, next) = index.next_from(from, looks);
        entries.extend(slots.map(|slot| index.get(slot).expect("a live slot")));
        place = next;
    }
    entries
}

#[test]
fn an_object_is_found_until_it_is_removed() {
    let mut index = Index::new(LIMITS);
    let slot = add(&mut index, entry(7, 1, 5, 10));
    assert_eq!(index.find(Key(7)).collect::<Vec<_>>(), [slot]);
    assert_eq!(index.find_variant(Key(7), 1), Some(slot));
    assert_eq!(index.find_variant(Key(7), 2), None);
    assert_eq!(index.find(Key(8)).next(), None);
    index.set_warm(slot, Some(3));
    let warm = Entry {
        warm: Some(3),
        ..entry(7, 1, 5, 10)
    };
    assert_eq!(index.get(slot), Some(warm));
    assert_eq!((index.objects(), index.bytes()), (1, 10));
    assert_eq!(index.remove(slot), Some(warm));
    assert_eq!((index.objects(), index.bytes()), (0, 0));
    assert_eq!(index.find(Key(7)).next(), None);
    assert_eq!(index.evict_one(), None);
}

#[test]
fn a_slot_is_never_that_of_another_object() {
    let mut index = Index::new(LIMITS);
    let first = add(&mut index, small(1));
    index.remove(first);
    let second = add(&mut index, small(2));
    let newer = Entry {
        stored_ms: 1,
        ..small(2)
    };
    let third = replace(&mut index, newer, small(2));
    for stale in [first, second] {
        assert_eq!(index.get(stale), None);
        index.touch(stale);
        index.set_warm(stale, Some(1));
        assert_eq!(index.remove(stale), None);
    }
    assert_eq!(index.get(third), Some(newer));
}

#[test]
fn variants_are_found_from_the_newest_to_the_oldest() {
    let mut index = Index::new(LIMITS);
    for stored_ms in [20, 10, 30] {
        index.insert(entry(1, stored_ms, stored_ms, 10));
    }
    let stored = |index: &Index| -> Vec<u64> {
        let slots = index.find(Key(1));
        slots
            .map(|slot| index.get(slot).expect("it is there").stored_ms)
            .collect()
    };
    assert_eq!(stored(&index), [30, 20, 10]);

    // There are as many as may be: the oldest goes, were it the one that comes.
    assert_eq!(index.insert(entry(1, 5, 5, 10)), Inserted::TooOld);
    replace(&mut index, entry(1, 25, 25, 10), entry(1, 10, 10, 10));
    assert_eq!(stored(&index), [30, 25, 20]);

    // Of two of a variant the older goes.
    assert_eq!(index.insert(entry(1, 20, 19, 7)), Inserted::TooOld);
    replace(&mut index, entry(1, 20, 40, 7), entry(1, 20, 20, 10));
    assert_eq!(stored(&index), [40, 30, 25]);
    assert_eq!(index.bytes(), 27);

    // From the middle, the beginning and the end.
    for variant in [30, 20, 25] {
        let slot = index.find_variant(Key(1), variant);
        assert!(index.remove(slot.expect("it is there")).is_some());
    }
    assert_eq!((index.objects(), index.bytes()), (0, 0));
}

/// As a walk through folders does after a restart, with what was stored meanwhile. Its file has the
/// same name and must not be removed.
#[test]
fn an_object_may_be_added_twice() {
    let mut index = Index::new(LIMITS);
    let slot = add(&mut index, small(1));
    index.set_warm(slot, Some(1));
    assert_eq!(index.insert(small(1)), Inserted::Known(slot));
    let warm = index.get(slot).and_then(|entry| entry.warm);
    assert_eq!((warm, index.objects()), (Some(1), 1));
}

#[test]
fn a_scan_pushes_out_nothing_that_is_used() {
    let mut index = Index::new(LIMITS);
    for number in 0..50 {
        index.insert(small(number));
        use_once(&mut index, small(number));
    }
    for number in 1000..2000 {
        index.insert(small(number));
        for gone in evict(&mut index) {
            assert!(!(0..50).contains(&gone.key.0), "a used one is gone");
        }
        assert!(index.bytes() <= LIMITS.bytes_max);
    }
    assert!((0..50).all(|number| has(&index, small(number))));
}

#[test]
fn what_comes_back_soon_after_its_eviction_passes_by_the_scan() {
    let mut index = Index::new(LIMITS);
    // The main queue has something, so the small one is held to its tenth.
    for number in 0..90 {
        index.insert(small(number));
        use_once(&mut index, small(number));
    }
    for number in 100..150 {
        index.insert(small(number));
        evict(&mut index);
    }
    assert!(!has(&index, small(110)), "it was pushed out by others");
    index.insert(small(110));
    for number in 200..300 {
        index.insert(small(number));
        evict(&mut index);
    }
    assert!(has(&index, small(110)));
    assert!(!has(&index, small(111)));
}

#[test]
fn large_objects_go_for_small_ones_by_their_bytes() {
    let mut index = Index::new(LIMITS);
    for number in 0..50 {
        index.insert(small(number));
        use_once(&mut index, small(number));
    }
    let large = entry(spread(99), 0, 0, 990);
    index.insert(large);
    assert_eq!(
        evict(&mut index),
        [large],
        "nobody used it, and it is most of all"
    );
}

#[test]
fn objects_are_limited_as_bytes_are() {
    let mut index = Index::new(Limits {
        objects_max: 10,
        ..LIMITS
    });
    for number in 0..30 {
        index.insert(entry(spread(number), 0, 0, 0));
        evict(&mut index);
        assert!(index.objects() <= 10);
    }
    index.set_limits(Limits {
        objects_max: 3,
        ..LIMITS
    });
    assert_eq!(evict(&mut index).len(), 7);
    index.set_limits(LIMITS);
    assert!(!index.is_over());
    assert!(index.evict_one().is_some(), "a full disk may ask for it");
}

#[test]
fn an_eviction_takes_a_bounded_number_of_steps() {
    let mut index = Index::new(LIMITS);
    let objects = 10 * STEPS_MAX as u128;
    for number in 0..objects {
        index.insert(small(number));
        for _ in 0..10 {
            use_once(&mut index, small(number));
        }
    }
    // The first of the small queue; each step took one of those before it to the main queue.
    let gone = index.evict_one().expect("there are some");
    assert_eq!(gone, small(STEPS_MAX as u128));
    assert_eq!(index.main.objects as usize, STEPS_MAX);
}

#[test]
fn a_replaced_object_keeps_its_popularity() {
    let mut index = Index::new(LIMITS);
    index.insert(small(0));
    use_once(&mut index, small(0));
    let newer = Entry {
        stored_ms: 1,
        ..small(0)
    };
    index.insert(newer);
    for number in 1..200 {
        index.insert(small(number));
        evict(&mut index);
    }
    assert!(has(&index, newer));
}

/// With the ghosts of as many; tables are as full as they happen to be at that number.
#[test]
fn a_million_objects_fit_their_memory() {
    const OBJECTS: u32 = 1_000_000;
    assert_eq!(size_of::<Node>(), 64);
    let mut index = Index::new(Limits {
        bytes_max: u64::MAX,
        objects_max: OBJECTS,
        variants_max: 1,
    });
    for number in 0..u128::from(OBJECTS) + 1000 {
        index.insert(small(number));
        if index.is_over() {
            index.evict_one();
        }
    }
    assert_eq!(index.objects(), OBJECTS);
    let memory = index.memory_bytes();
    assert!(memory <= OBJECTS as usize * BYTES_EACH_MAX, "{memory}");
    // No table is so large that its growth would be noticed.
    let largest = index.shards.iter().map(HashTable::len).max();
    assert!(largest < Some(OBJECTS as usize / SHARDS * 11 / 10));
}

#[test]
fn a_walk_meets_what_is_there_all_the_time() {
    let mut index = Index::new(LIMITS);
    for number in 0..3000 {
        index.insert(small(number));
    }
    let mut met = HashSet::new();
    let mut place = Some(Place::default());
    let mut turn = 0;
    while let Some(from) = place {
        let (slots, next) = index.next_from(from, 100);
        for slot in slots {
            assert!(
                met.insert(index.get(slot).expect("a live slot").key),
                "twice"
            );
        }
        place = next;
        // Meanwhile others come and go.
        index.insert(small(5000 + turn));
        let slot = index.find_variant(small(2 * turn).key, 0);
        index.remove(slot.expect("it is there"));
        turn += 1;
    }
    assert!((0..3000).all(|number| {
        let was_removed = number % 2 == 0 && number < 2 * turn;
        was_removed || met.contains(&small(number).key)
    }));
    assert!(turn >= 30, "in pieces");
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Entry),
    Remove(u128, u64),
    Touch(u128, u64),
    Warm(u128, u64, Option<u32>),
    Evict,
}

fn step() -> impl Strategy<Value = Step> {
    let key = || 0..4_u128;
    let variant = || 0..5_u64;
    prop_oneof![
        4 => (key(), variant(), 0..6_u64, 0..9_u64)
            .prop_map(|(key, variant, at, bytes)| Step::Insert(entry(key, variant, at, bytes))),
        1 => (key(), variant()).prop_map(|(key, variant)| Step::Remove(key, variant)),
        2 => (key(), variant()).prop_map(|(key, variant)| Step::Touch(key, variant)),
        1 => (key(), variant(), prop::option::of(0..9_u32))
            .prop_map(|(key, variant, warm)| Step::Warm(key, variant, warm)),
        1 => Just(Step::Evict),
    ]
}

/// What an insertion has to do, over a plain list, where `gone` says which of several oldest went.
fn insert_into(model: &mut Vec<Entry>, entry: Entry, gone: Option<Entry>) -> &'static str {
    let of_key = |other: &&Entry| other.key == entry.key;
    let same = model
        .iter()
        .find(|other| of_key(other) && other.variant == entry.variant);
    let is_full = model.iter().filter(of_key).count() >= LIMITS.variants_max as usize;
    let oldest = model
        .iter()
        .filter(of_key)
        .min_by_key(|other| other.stored_ms);
    let rival = same.or(oldest.filter(|_| is_full)).copied();
    match rival {
        Some(rival)
            if same.is_some()
                && (rival.stored_ms, rival.bytes) == (entry.stored_ms, entry.bytes) =>
        {
            "known"
        }
        Some(rival) if rival.stored_ms > entry.stored_ms => "too old",
        _ => {
            let age = |entry: Entry| (entry.key, entry.stored_ms);
            assert_eq!(gone.map(age), rival.map(age));
            model.retain(|other| Some(*other) != gone);
            model.push(entry);
            "new"
        }
    }
}

proptest! {
    #[test]
    fn it_does_what_a_plain_list_does(steps in prop::collection::vec(step(), 0..200)) {
        let mut index = Index::new(LIMITS);
        let mut model: Vec<Entry> = Vec::new();
        let at = |model: &[Entry], key, variant| {
            model.iter().position(|other| (other.key, other.variant) == (Key(key), variant))
        };
        for step in steps {
            match step {
                Step::Insert(new) => {
                    let (outcome, gone) = match index.insert(new) {
                        Inserted::New { slot, gone } => {
                            prop_assert_eq!(index.get(slot), Some(new));
                            ("new", gone)
                        }
                        Inserted::Known(slot) => {
                            prop_assert_eq!(index.get(slot).map(Name::from), Some(Name::from(new)));
                            ("known", None)
                        }
                        Inserted::TooOld => ("too old", None),
                    };
                    prop_assert_eq!(insert_into(&mut model, new, gone), outcome);
                }
                Step::Remove(key, variant) => {
                    let slot = index.find_variant(Key(key), variant);
                    let removed = slot.and_then(|slot| index.remove(slot));
                    let at = at(&model, key, variant);
                    prop_assert_eq!(removed, at.map(|at| model.swap_remove(at)));
                }
                Step::Touch(key, variant) => {
                    if let Some(slot) = index.find_variant(Key(key), variant) {
                        index.touch(slot);
                    }
                }
                Step::Warm(key, variant, warm) => {
                    if let Some(slot) = index.find_variant(Key(key), variant) {
                        index.set_warm(slot, warm);
                        let at = at(&model, key, variant).expect("both have it");
                        model[at].warm = warm;
                    }
                }
                Step::Evict => {
                    let gone = index.evict_one();
                    prop_assert_eq!(gone.is_none(), model.is_empty());
                    model.retain(|other| Some(*other) != gone);
                }
            }
            prop_assert_eq!(index.objects() as usize, model.len());
            prop_assert_eq!(index.bytes(), model.iter().map(|entry| entry.bytes).sum::<u64>());
            for key in 0..4 {
                let found: Vec<Entry> =
                    index.find(Key(key)).map(|slot| index.get(slot).expect("live")).collect();
                prop_assert!(found.is_sorted_by(|a, b| a.stored_ms >= b.stored_ms));
                prop_assert!(found.len() <= LIMITS.variants_max as usize);
            }
            let order = |entries: &[Entry]| {
                let mut sorted = entries.to_vec();
                sorted.sort_by_key(|entry| (entry.key, entry.variant));
                sorted
            };
            prop_assert_eq!(order(&all(&index, 7)), order(&model));
        }
    }
}
