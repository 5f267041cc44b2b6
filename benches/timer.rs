//! The timer wheel: leaving reminders, asking how long to sleep, and what comes due.
//!
//! The file is compiled into this program, so that the crate need not publish the wheel.

#[path = "../src/reactor/timer.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "compiled as a part of a program that does not use all of it"
)]
mod timer;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use timer::Timers;

/// A wheel with so many reminders, spread over a minute as idle connections' are.
fn spread(start: Instant, count: u64) -> Timers<u64> {
    let mut timers = Timers::new(start);
    for i in 0..count {
        let moment = start + Duration::from_micros(i * 60_000_000 / count);
        timers.remind(timers.tick(moment), i);
    }
    timers
}

fn wheel(c: &mut Criterion) {
    let mut group = c.benchmark_group("timer");
    let start = Instant::now();
    group.bench_function("remind", |b| {
        let mut timers = Timers::new(start);
        let mut i = 0;
        b.iter(|| {
            i += 1;
            let tick = timers.tick(start + Duration::from_millis(60_000 + i % 1000));
            timers.remind(tick, i);
            if i.is_multiple_of(100_000) {
                timers = Timers::new(start); // the memory of a benchmark is bounded, too
            }
        });
    });
    for count in [1, 10_000] {
        let timers = spread(start, count);
        group.bench_function(format!("next, {count} waiting"), |b| {
            b.iter(|| black_box(&timers).next());
        });
    }
    group.bench_function("expire, nothing due of 10000", |b| {
        let mut timers = Timers::new(start);
        for i in 0..10_000 {
            timers.remind(timers.tick(start + Duration::from_secs(3600)), i);
        }
        let (mut now, mut due) = (start, Vec::new());
        b.iter(|| {
            now += Duration::from_micros(50);
            timers.expire(now, &mut due);
            assert!(due.is_empty());
        });
    });
    group.throughput(Throughput::Elements(10_000));
    group.bench_function("expire, 10000 over a minute", |b| {
        b.iter_batched(
            || (spread(start, 10_000), Vec::with_capacity(10_000)),
            |(mut timers, mut due)| {
                let mut now = start;
                while let Some(next) = timers.next() {
                    now = now.max(next);
                    timers.expire(now, &mut due);
                }
                assert_eq!(due.len(), 10_000);
                (timers, due)
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, wheel);
criterion_main!(benches);
