//! Which of the upstreams of a gateway is asked next: pure, and the same for the same history.
//!
//! ```text
//!              failed, `max_fails` times                    `fail_timeout` later
//! in ──────────────────────────────────────────▶ out ────────────────────────────▶ one probe
//!  ▲                                              ▲                                  │   │
//!  │                                              └───────────── failed ─────────────┘   │
//!  └──────────────────────────────────────── answered ───────────────────────────────────┘
//!
//! up ──`fall` checks failed one after another (the very first check is enough)──▶ down
//!  ▲                                                                               │
//!  └──────────────── `rise` checks passed one after another ◀──────────────────────┘
//! ```
//!
//! Rules:
//! 1. Who is in and up is asked in turn by smooth weighted round robin, as nginx does: within as
//!    many choices as the sum of all weights each is chosen as often as its weight says, and no two
//!    bursts of one follow each other where they could be spread.
//! 2. One that failed weighs less, and with each choice one more again: what comes back is not
//!    flooded.
//! 3. Backups are asked while nobody else is in and up.
//! 4. Where all are out, the one whose last failure is oldest is asked rather than nobody. One that
//!    is down by its checks never is.
//! 5. A single upstream is never out: there is nobody to be asked instead.
//! 6. In another configuration each is what it was, as long as it is there.
//!
//! The rules 1 and 2, and what out means, follow `ngx_http_upstream_round_robin.c` of nginx: its
//! `accessed` is `failed_at` here, its `checked` is `judged_at`.

use std::time::{Duration, Instant};

/// How many upstreams one gateway may have.
pub(super) const UPSTREAMS_MAX: usize = crate::config::UPSTREAMS_MAX;

/// What is configured of one upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    /// Its share, above zero.
    pub(super) weight: u32,
    /// Failures after which it is out; 0 for never.
    pub(super) fails_max: u32,
    /// Within which time, and for how long.
    pub(super) fail_timeout: Duration,
    pub(super) is_backup: bool,
}

/// After how many checks one is up, or down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Thresholds {
    pub(super) rise: u32,
    pub(super) fall: u32,
}

/// The upstreams that one request was sent to, by their places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tried(u64);

const _: () = assert!(UPSTREAMS_MAX <= u64::BITS as usize);

impl Tried {
    pub(super) fn insert(&mut self, place: usize) {
        self.0 |= 1 << place;
    }

    pub(super) fn contains(self, place: usize) -> bool {
        self.0 & (1 << place) != 0
    }

    pub(super) fn len(self) -> usize {
        self.0.count_ones() as usize
    }
}

/// What became of an upstream by what was just learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It gets no requests any more.
    Lost,
    /// It gets requests again.
    Back,
}

/// All upstreams of a gateway, by their places.
#[derive(Clone, Debug)]
pub(super) struct Balance(Vec<Member>);

#[derive(Clone, Debug)]
struct Member {
    terms: Terms,
    /// What it weighs now, and how far it is ahead of the others in this round.
    effective: i64,
    current: i64,
    fails: u32,
    /// When it failed last.
    failed_at: Option<Instant>,
    /// When it failed last, or when it was first asked after `fail_timeout`.
    judged_at: Option<Instant>,
    /// Too many requests failed, and none was answered since.
    is_out: bool,
    check: Check,
}

/// What its checks say.
#[derive(Clone, Debug)]
enum Check {
    /// There was none.
    Unknown,
    /// So many of the last ones failed.
    Up { failed: u32 },
    /// So many of the last ones passed.
    Down { passed: u32 },
}

impl Member {
    fn new(terms: Terms) -> Self {
        Self {
            terms,
            effective: i64::from(terms.weight),
            current: 0,
            fails: 0,
            failed_at: None,
            judged_at: None,
            is_out: false,
            check: Check::Unknown,
        }
    }

    /// What it becomes in the place of one that stands for the same upstream: as well as that is
    /// thought to be, and as far back from its full share.
    fn inherit(&mut self, before: &Self, checks_too: bool) {
        let weight = i64::from(self.terms.weight);
        self.effective = match before.effective < i64::from(before.terms.weight) {
            true => before.effective.min(weight),
            false => weight,
        };
        let counts = self.terms.fails_max > 0 && before.terms.fails_max > 0;
        self.fails = if counts { before.fails } else { 0 };
        self.is_out = counts && self.fails >= self.terms.fails_max;
        (self.failed_at, self.judged_at) = (before.failed_at, before.judged_at);
        if checks_too {
            self.check = before.check.clone();
        }
    }

    fn is_down(&self) -> bool {
        matches!(self.check, Check::Down { .. })
    }

    /// Whether it has been left alone for long enough: what it does next is judged anew.
    fn is_due(&self, now: Instant) -> bool {
        let since = self.judged_at.map(|at| now.saturating_duration_since(at));
        since.is_none_or(|since| since > self.terms.fail_timeout)
    }

    fn is_available(&self, now: Instant) -> bool {
        let failed = self.terms.fails_max > 0 && self.fails >= self.terms.fails_max;
        !self.is_down() && (!failed || self.is_due(now))
    }

    fn is_served(&self) -> bool {
        !self.is_out && !self.is_down()
    }
}

impl Balance {
    pub(super) fn new(all: impl IntoIterator<Item = Terms>) -> Self {
        let mut members: Vec<Member> = all.into_iter().map(Member::new).collect();
        if let [only] = &mut members[..] {
            only.terms.fails_max = 0;
        }
        Self(members)
    }

    /// It is new, and takes the place of another one: for each upstream, in which place it was
    /// there, if it was. `checks_too`: what checks said holds still. The round goes on where it was
    /// if nothing of it has changed.
    pub(super) fn inherit(&mut self, before: &Self, places: &[Option<usize>], checks_too: bool) {
        let is_alike = |(member, place): (&Member, &Option<usize>)| {
            let before = place.map(|place| before.0[place].terms);
            before.is_some_and(|before| {
                let share = |terms: Terms| (terms.weight, terms.is_backup);
                share(before) == share(member.terms)
            })
        };
        let goes_on = self.0.len() == before.0.len() && self.0.iter().zip(places).all(is_alike);
        for (member, place) in self.0.iter_mut().zip(places) {
            if let Some(place) = place {
                let before = &before.0[*place];
                member.inherit(before, checks_too);
                if goes_on {
                    member.current = before.current;
                }
            }
        }
    }

    /// Whether it gets requests in its turn.
    pub(super) fn is_served(&self, place: usize) -> bool {
        self.0[place].is_served()
    }

    /// The one that is to be asked, of those that were not tried; `None` where there is none that
    /// may be.
    pub(super) fn choose(&mut self, tried: Tried, now: Instant) -> Option<usize> {
        let chosen = self
            .in_turn(false, tried, now)
            .or_else(|| self.in_turn(true, tried, now));
        if let Some(place) = chosen {
            let member = &mut self.0[place];
            if member.is_due(now) {
                member.judged_at = Some(now);
            }
            return Some(place);
        }
        let place = self.last_resort(tried)?;
        self.0[place].judged_at = Some(now);
        Some(place)
    }

    /// Whether there is one that was not tried and may be.
    pub(super) fn has_untried(&self, tried: Tried) -> bool {
        self.last_resort(tried).is_some()
    }

    /// The next in turn among the backups, or among the others.
    fn in_turn(&mut self, backups: bool, tried: Tried, now: Instant) -> Option<usize> {
        let mut total = 0;
        let mut best: Option<usize> = None;
        for place in 0..self.0.len() {
            let member = &mut self.0[place];
            let is_of_these = member.terms.is_backup == backups && !tried.contains(place);
            if !is_of_these || !member.is_available(now) {
                continue;
            }
            member.current += member.effective;
            total += member.effective;
            if member.effective < i64::from(member.terms.weight) {
                member.effective += 1;
            }
            let current = member.current;
            if best.is_none_or(|best| current > self.0[best].current) {
                best = Some(place);
            }
        }
        let best = best?;
        self.0[best].current -= total;
        Some(best)
    }

    /// The one whose last failure is oldest.
    fn last_resort(&self, tried: Tried) -> Option<usize> {
        let all = self.0.iter().enumerate();
        let may = all.filter(|(place, member)| !tried.contains(*place) && !member.is_down());
        let oldest = may.min_by_key(|(_, member)| member.failed_at);
        oldest.map(|(place, _)| place)
    }

    /// A request to it failed.
    pub(super) fn failed(&mut self, place: usize, now: Instant) -> Option<Change> {
        let member = &mut self.0[place];
        let was_served = member.is_served();
        (member.failed_at, member.judged_at) = (Some(now), Some(now));
        member.fails = member.fails.saturating_add(1);
        let fails_max = member.terms.fails_max;
        if let Some(less) = member.terms.weight.checked_div(fails_max) {
            member.effective = (member.effective - i64::from(less)).max(0);
            member.is_out |= member.fails >= fails_max;
        }
        (was_served && !member.is_served()).then_some(Change::Lost)
    }

    /// It answered a request. That counts for more than its failures if it was asked after them.
    pub(super) fn answered(&mut self, place: usize) -> Option<Change> {
        let member = &mut self.0[place];
        let was_served = member.is_served();
        if member.failed_at < member.judged_at {
            member.fails = 0;
            member.is_out = false;
        }
        (!was_served && member.is_served()).then_some(Change::Back)
    }

    /// It was checked. Coming up, it is as new, and takes its share step by step.
    pub(super) fn checked(
        &mut self,
        place: usize,
        passes: bool,
        thresholds: Thresholds,
    ) -> Option<Change> {
        let member = &mut self.0[place];
        let was_served = member.is_served();
        member.check = match (&member.check, passes) {
            (Check::Unknown | Check::Up { .. }, true) => Check::Up { failed: 0 },
            (Check::Unknown, false) => Check::Down { passed: 0 },
            (Check::Up { failed }, false) if failed + 1 < thresholds.fall => {
                Check::Up { failed: failed + 1 }
            }
            (Check::Up { .. } | Check::Down { .. }, false) => Check::Down { passed: 0 },
            (Check::Down { passed }, true) if passed + 1 < thresholds.rise => {
                Check::Down { passed: passed + 1 }
            }
            (Check::Down { .. }, true) => {
                (member.effective, member.current) = (0, 0);
                (member.fails, member.is_out) = (0, false);
                Check::Up { failed: 0 }
            }
        };
        match (was_served, member.is_served()) {
            (true, false) => Some(Change::Lost),
            (false, true) => Some(Change::Back),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TERMS: Terms = Terms {
        weight: 1,
        fails_max: 1,
        fail_timeout: Duration::from_secs(10),
        is_backup: false,
    };
    const THRESHOLDS: Thresholds = Thresholds { rise: 2, fall: 3 };
    const SECOND: Duration = Duration::from_secs(1);

    fn weighing<const N: usize>(weights: [u32; N]) -> Balance {
        Balance::new(weights.map(|weight| Terms { weight, ..TERMS }))
    }

    /// The next choices, each answered.
    fn choices(balance: &mut Balance, count: usize, now: Instant) -> Vec<usize> {
        let next = |_| {
            let place = balance.choose(Tried::default(), now).expect("one");
            balance.answered(place);
            place
        };
        (0..count).map(next).collect()
    }

    fn tried(places: &[usize]) -> Tried {
        let mut tried = Tried::default();
        places.iter().for_each(|&place| tried.insert(place));
        tried
    }

    #[test]
    fn choices_are_spread_as_nginx_spreads_them() {
        // The example of the commit that brought this to nginx: 5, 1, 1 give a a b a c a a.
        let mut balance = weighing([5, 1, 1]);
        let now = Instant::now();
        assert_eq!(choices(&mut balance, 7, now), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(choices(&mut balance, 7, now), [0, 0, 1, 0, 2, 0, 0]);
    }

    /// What a group knew of its members is known to the one that takes its place.
    fn after(before: &Balance, weights: &[u32], places: &[Option<usize>], checks: bool) -> Balance {
        let terms = weights.iter().map(|&weight| Terms { weight, ..TERMS });
        let mut balance = Balance::new(terms);
        balance.inherit(before, places, checks);
        balance
    }

    #[test]
    fn who_takes_the_place_of_another_goes_on_with_its_round() {
        let now = Instant::now();
        for count in 0..8 {
            let mut balance = weighing([5, 1, 1]);
            let mut choices_before = choices(&mut balance, count, now);
            let mut next = after(&balance, &[5, 1, 1], &[Some(0), Some(1), Some(2)], false);
            choices_before.extend(choices(&mut next, 7 - count.min(7), now));
            assert_eq!(choices_before[..7], [0, 0, 1, 0, 2, 0, 0]);
        }
    }

    #[test]
    fn who_was_out_is_out_in_another_place_too_and_who_is_new_is_not() {
        let (mut balance, now) = (weighing([1, 1, 1]), Instant::now());
        assert_eq!(balance.failed(1, now), Some(Change::Lost));
        // The one in the middle stands first now, with more weight; the others went.
        let mut next = after(&balance, &[4, 1, 1], &[Some(1), None, Some(2)], false);
        assert!(!next.is_served(0) && next.is_served(1) && next.is_served(2));
        assert!(!choices(&mut next, 20, now).contains(&0));
        let later = now + TERMS.fail_timeout + SECOND;
        assert!(
            choices(&mut next, 20, later).contains(&0),
            "it is probed in its time"
        );
        assert!(next.is_served(0));
        // Removed and there again, it is new.
        let without = after(&balance, &[1, 1], &[Some(0), Some(2)], false);
        let again = after(&without, &[1, 1, 1], &[Some(0), None, Some(1)], false);
        assert!(again.is_served(1));
        // A single one is never out, whatever it was before, and has no failures afterwards.
        let mut single = after(&balance, &[1], &[Some(1)], false);
        assert!(single.is_served(0));
        single.failed(0, now);
        let next = after(&single, &[1, 1], &[Some(0), None], false);
        assert!(next.is_served(0) && next.0[0].is_available(now));
    }

    #[test]
    fn what_checks_said_is_kept_only_while_they_ask_the_same() {
        let mut balance = weighing([1, 1]);
        assert_eq!(balance.checked(0, false, THRESHOLDS), Some(Change::Lost));
        assert_eq!(balance.checked(0, true, THRESHOLDS), None);
        let places = [Some(0), Some(1)];
        assert!(after(&balance, &[1, 1], &places, false).is_served(0));
        let mut next = after(&balance, &[1, 1], &places, true);
        assert!(!next.is_served(0));
        assert_eq!(
            next.checked(0, true, THRESHOLDS),
            Some(Change::Back),
            "it passed once before"
        );
    }

    #[test]
    fn one_that_failed_is_out_and_then_probed_by_one_request_only() {
        let (mut balance, now) = (weighing([1, 1]), Instant::now());
        assert_eq!(balance.choose(Tried::default(), now), Some(0));
        assert_eq!(balance.failed(0, now), Some(Change::Lost));
        assert!(!balance.is_served(0));
        let at_the_end = now + TERMS.fail_timeout;
        assert_eq!(choices(&mut balance, 3, at_the_end), [1, 1, 1]);
        let after = at_the_end + SECOND;
        let mut next = || balance.choose(Tried::default(), after).expect("one");
        let of_four = [next(), next(), next(), next()];
        let probes = of_four.iter().filter(|&&place| place == 0).count();
        assert_eq!(probes, 1, "{of_four:?}");
        assert_eq!(balance.failed(0, after), None, "it is told once");
        assert_eq!(choices(&mut balance, 2, after), [1, 1]);
        let later = after + TERMS.fail_timeout + SECOND;
        while balance.choose(Tried::default(), later) != Some(0) {}
        assert_eq!(balance.answered(0), Some(Change::Back));
        assert_eq!(balance.answered(0), None);
        assert!(choices(&mut balance, 2, later).contains(&0));
    }

    #[test]
    fn an_answer_from_before_a_failure_does_not_undo_it() {
        let (mut balance, now) = (weighing([1, 1]), Instant::now());
        assert_eq!(balance.choose(Tried::default(), now), Some(0));
        balance.choose(Tried::default(), now);
        assert_eq!(balance.choose(Tried::default(), now), Some(0));
        assert_eq!(balance.failed(0, now + SECOND), Some(Change::Lost));
        assert_eq!(balance.answered(0), None);
        assert_eq!(choices(&mut balance, 2, now + SECOND), [1, 1]);
    }

    #[test]
    fn failures_count_within_their_time_only() {
        let terms = Terms {
            fails_max: 2,
            ..TERMS
        };
        let (mut balance, now) = (Balance::new([terms, TERMS]), Instant::now());
        assert_eq!(balance.choose(Tried::default(), now), Some(0));
        assert_eq!(balance.failed(0, now), None, "the first of two");
        let later = now + TERMS.fail_timeout + SECOND;
        choices(&mut balance, 4, later);
        assert_eq!(balance.failed(0, later), None, "the first of two again");
        assert_eq!(balance.failed(0, later), Some(Change::Lost));
    }

    #[test]
    fn one_that_comes_back_takes_its_share_step_by_step() {
        let (mut balance, now) = (weighing([4, 4]), Instant::now());
        balance.failed(0, now);
        let later = now + TERMS.fail_timeout + SECOND;
        let first = choices(&mut balance, 8, later);
        let of = |choices: &[usize]| choices.iter().filter(|&&place| place == 0).count();
        assert!((1..4).contains(&of(&first)), "{first:?}");
        choices(&mut balance, 16, later);
        assert_eq!(of(&choices(&mut balance, 8, later)), 4);
    }

    #[test]
    fn backups_are_asked_while_nobody_else_can_be() {
        let backup = Terms {
            is_backup: true,
            ..TERMS
        };
        let (mut balance, now) = (Balance::new([TERMS, backup]), Instant::now());
        assert_eq!(choices(&mut balance, 3, now), [0, 0, 0]);
        assert_eq!(balance.choose(tried(&[0]), now), Some(1));
        balance.failed(0, now);
        assert_eq!(choices(&mut balance, 3, now), [1, 1, 1]);
        let later = now + TERMS.fail_timeout + SECOND;
        assert_eq!(choices(&mut balance, 3, later), [0, 0, 0]);
    }

    #[test]
    fn where_all_are_out_the_one_that_failed_first_is_asked_and_each_once() {
        let (mut balance, now) = (weighing([1, 1, 1]), Instant::now());
        for (place, seconds) in [(1, 0), (2, 1), (0, 2)] {
            balance.failed(place, now + seconds * SECOND);
        }
        let now = now + 3 * SECOND;
        let mut tried = Tried::default();
        assert!(!balance.0.iter().any(|member| member.is_available(now)));
        for expected in [1, 2, 0] {
            assert!(balance.has_untried(tried));
            assert_eq!(balance.choose(tried, now), Some(expected));
            tried.insert(expected);
        }
        assert_eq!((balance.choose(tried, now), tried.len()), (None, 3));
        assert_eq!(balance.answered(2), Some(Change::Back), "it answered");
        assert_eq!(choices(&mut balance, 2, now), [2, 2]);
    }

    #[test]
    fn a_single_one_is_never_out_but_may_be_down() {
        let (mut balance, now) = (weighing([1]), Instant::now());
        assert_eq!(balance.failed(0, now), None);
        assert!(balance.0[0].is_available(now));
        assert_eq!(
            balance.checked(0, false, THRESHOLDS),
            Some(Change::Lost),
            "the very first check is enough"
        );
        assert_eq!(balance.choose(Tried::default(), now), None);
    }

    #[test]
    fn checks_take_one_out_and_bring_it_back_by_their_numbers() {
        let (mut balance, now) = (weighing([1, 1]), Instant::now());
        let mut check = |passes| balance.checked(0, passes, THRESHOLDS);
        let all = [true, false, false, true, false, false];
        assert!(all.into_iter().all(|passes| check(passes).is_none()));
        assert_eq!(check(false), Some(Change::Lost));
        assert_eq!([check(true), check(false), check(true)], [None; 3]);
        assert_eq!(check(true), Some(Change::Back));
        balance.failed(0, now);
        for passes in [false; 3] {
            assert_eq!(balance.checked(0, passes, THRESHOLDS), None, "it is out");
        }
        assert_eq!(choices(&mut balance, 2, now + 60 * SECOND), [1, 1]);
        balance.checked(0, true, THRESHOLDS);
        assert_eq!(balance.checked(0, true, THRESHOLDS), Some(Change::Back));
        assert!(choices(&mut balance, 3, now).contains(&0));
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Choose,
        Fail(usize),
        Answer(usize),
        Check(usize, bool),
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => Just(Step::Choose),
            2 => (0..5_usize).prop_map(Step::Fail),
            2 => (0..5_usize).prop_map(Step::Answer),
            2 => (0..5_usize, any::<bool>()).prop_map(|(place, passes)| Step::Check(place, passes)),
            2 => (0..15_u64).prop_map(Step::Pass),
        ]
    }

    proptest! {
        #[test]
        fn shares_follow_the_weights_exactly_over_each_period(
            weights in proptest::collection::vec(1..20_u32, 1..8),
        ) {
            let now = Instant::now();
            let all = weights.iter().map(|&weight| Terms { weight, ..TERMS });
            let mut balance = Balance::new(all);
            let period = weights.iter().sum::<u32>() as usize;
            for _ in 0..3 {
                let chosen = choices(&mut balance, period, now);
                for (place, &weight) in weights.iter().enumerate() {
                    let count = chosen.iter().filter(|&&one| one == place).count();
                    prop_assert_eq!(count, weight as usize);
                }
            }
        }

        #[test]
        fn whatever_happens_only_those_that_may_be_are_asked_and_changes_alternate(
            weights in proptest::collection::vec((1..5_u32, 0..3_u32, any::<bool>()), 1..5),
            steps in proptest::collection::vec(step(), 1..100),
        ) {
            let mut now = Instant::now();
            let all = weights.iter().map(|&(weight, fails_max, is_backup)| Terms {
                weight,
                fails_max,
                is_backup,
                ..TERMS
            });
            let mut balance = Balance::new(all);
            let mut told = vec![true; weights.len()];
            for step in steps {
                let (place, change) = match step {
                    Step::Choose => {
                        let chosen = balance.choose(Tried::default(), now);
                        let any_up = balance.0.iter().any(|member| !member.is_down());
                        prop_assert_eq!(chosen.is_some(), any_up);
                        if let Some(place) = chosen {
                            prop_assert!(!balance.0[place].is_down());
                        }
                        continue;
                    }
                    Step::Pass(seconds) => {
                        now += Duration::from_secs(seconds);
                        continue;
                    }
                    Step::Fail(place) | Step::Answer(place) | Step::Check(place, _)
                        if place >= weights.len() => continue,
                    Step::Fail(place) => (place, balance.failed(place, now)),
                    Step::Answer(place) => (place, balance.answered(place)),
                    Step::Check(place, passes) => {
                        (place, balance.checked(place, passes, THRESHOLDS))
                    }
                };
                let served = balance.is_served(place);
                let expected = match (told[place], served) {
                    (true, false) => Some(Change::Lost),
                    (false, true) => Some(Change::Back),
                    _ => None,
                };
                prop_assert_eq!(change, expected);
                told[place] = served;
            }
        }
    }
}
