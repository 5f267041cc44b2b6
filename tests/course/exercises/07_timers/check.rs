use std::time::Duration;

pub(crate) fn check() {
    let start = Instant::now();
    let at = |ms: u64| start + Duration::from_millis(ms);
    let (mut timers, mut random) = (Timers::default(), 7_u64);
    let mut model: HashMap<Id, Instant> = HashMap::new();
    let mut slots = [0; 8];
    for ms in 0..5000 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let (slot, what) = ((random >> 40) as usize % slots.len(), (random >> 50) % 4);
        let id = Id {
            slot,
            generation: slots[slot],
        };
        if what == 0 {
            timers.end(id);
            model.remove(&id);
            slots[slot] += 1;
        } else {
            let deadline = at(ms + 1 + (random >> 33) % 200);
            timers.set(id, deadline);
            model.insert(id, deadline);
        }
        let first = model.values().min();
        let next = timers.next();
        assert!(
            first.is_none_or(|first| next.is_some_and(|next| next <= *first)),
            "at {ms}"
        );
        let mut due = timers.expired(at(ms));
        let mut expected: Vec<Id> = model
            .iter()
            .filter(|e| *e.1 <= at(ms))
            .map(|e| *e.0)
            .collect();
        due.sort_unstable();
        expected.sort_unstable();
        assert_eq!(due, expected, "at {ms} ms");
        model.retain(|_, deadline| *deadline > at(ms));
    }
    assert!(timers.expired(at(100_000)).len() == model.len());
    assert_eq!(timers.next(), None, "nothing is left");
}
