//! The sweep itself, and that it can be repeated.

use crate::driver::{Coverage, Plan, run};

/// Seeds of a plain `cargo test`: a few seconds' worth, slower without optimisation.
const SEEDS: u64 = if cfg!(debug_assertions) { 600 } else { 1000 };

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn sweep() {
    if let Some(seed) = number("SIM_SEED") {
        let plan = Plan {
            trace: true,
            ..Plan::default()
        };
        let outcome = run(seed, plan).unwrap_or_else(|failure| panic!("{failure:?}"));
        eprintln!("{}", outcome.trace);
        return;
    }
    let mut coverage = Coverage::default();
    let mut commands = [0; 2];
    for seed in 0..number("SIM_SEEDS").unwrap_or(SEEDS) {
        let outcome = run(seed, Plan::default())
            .unwrap_or_else(|failure| panic!("{failure:?}; SIM_SEED={seed} shows what happened"));
        coverage.add(&outcome.faults);
        (0..2).for_each(|which| commands[which] += outcome.commands[which]);
    }
    let missed = coverage.missed();
    assert!(missed.is_empty(), "faults that never happened: {missed:?}");
    let [begun, killed] = commands;
    assert!(
        begun > 0 && killed > 0,
        "{begun} commands begun, {killed} killed"
    );
}

/// What cryptography draws from the system shows nowhere.
#[test]
fn so_does_one_in_which_tls_is_spoken() {
    let traced = |seed| {
        let plan = Plan {
            trace: true,
            ..Plan::default()
        };
        run(seed, plan).unwrap_or_else(|failure| panic!("{failure:?}"))
    };
    for (layers, noted) in [(1, "TLS begins"), (2, "TLS is to begin within TLS")] {
        let first = (0..600).map(|seed| (seed, traced(seed).trace));
        let spoken = first.filter(|(_, trace)| trace.contains(noted));
        let mut count = 0;
        for (seed, trace) in spoken.take(3) {
            assert!(trace == traced(seed).trace, "seed {seed} went two ways");
            count += 1;
        }
        assert_eq!(count, 3, "{layers} layers of TLS are hardly ever spoken");
    }
}

#[test]
fn a_seed_always_means_the_same() {
    for seed in 0..10 {
        let plan = Plan {
            trace: true,
            ..Plan::default()
        };
        let [a, b] =
            [(); 2].map(|()| run(seed, plan).unwrap_or_else(|failure| panic!("{failure:?}")));
        assert_eq!(a.turns, b.turns);
        assert!(a.trace == b.trace, "seed {seed} went two ways");
    }
}
