//! What the fuzz tests share: how long they go on, how bytes are put together, and how they are
//! cut.
#![allow(
    dead_code,
    reason = "each test program uses the part of it that it needs"
)]

use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestCaseError, TestRunner};

/// Cases between two looks at the clock, and in an ordinary test run.
const CASES: u32 = 2000;

/// Runs `check` on inputs: so many by default, for `FUZZ_SECONDS` if that is set. A failure is made
/// as small as possible, printed, and kept in `tests/fuzz/NAME.txt`, from where it is tried first
/// in every later run.
pub(crate) fn fuzz<S: Strategy>(name: &'static str, input: &S, check: impl Fn(S::Value)) {
    let seconds = std::env::var("FUZZ_SECONDS").ok();
    let seconds = seconds.and_then(|text| text.parse().ok()).unwrap_or(0);
    let until = Instant::now() + Duration::from_secs(seconds);
    let corpus = format!("{}/tests/fuzz/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    let mut rounds = 0u64;
    loop {
        let persistence =
            FileFailurePersistence::Direct(Box::leak(corpus.clone().into_boxed_str()));
        let mut runner = TestRunner::new(Config {
            cases: CASES,
            failure_persistence: Some(Box::new(persistence)),
            max_shrink_iters: 20_000,
            source_file: Some(file!()),
            ..Config::default()
        });
        let result = runner.run(input, |value| {
            check(value);
            Ok::<_, TestCaseError>(())
        });
        if let Err(error) = result {
            panic!("{name}: {error}");
        }
        rounds += 1;
        if Instant::now() >= until {
            break;
        }
    }
    eprintln!("{name}: {} cases", rounds * u64::from(CASES));
}

/// Pieces in a row, and now and then one byte changed, doubled or left out.
pub(crate) fn bytes_of(
    piece: impl Strategy<Value = &'static str>,
) -> impl Strategy<Value = Vec<u8>> {
    let change = prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>(), 0..3u8));
    (prop::collection::vec(piece, 0..14), change).prop_map(|(pieces, change)| {
        let mut bytes = pieces.concat().into_bytes();
        if let Some((place, byte, how)) = change
            && !bytes.is_empty()
        {
            let at = place.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, bytes[at]),
                _ => drop(bytes.remove(at)),
            }
        }
        bytes
    })
}

/// Where the pieces of so many bytes end: after each byte for seed 0.
pub(crate) fn cut(len: usize, seed: u64) -> Vec<usize> {
    let mut random = seed | 1;
    let (mut ends, mut at) = (Vec::new(), 0);
    while at < len {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let step = match seed {
            0 => 1,
            _ => 1 + (random >> 9) as usize % 24,
        };
        at = len.min(at + step);
        ends.push(at);
    }
    ends
}
