//! Pages, receive buffers and send queues: what an echo, a small answer and bulk data cost in
//! memory operations.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use netlab_reactor::buffer::{Front, LARGE_PAGE_BYTES, PAGE_BYTES, Pool, RecvBuf, SendQueue, pour};

/// Takes everything out of a queue, as a socket with room does.
fn send_all(tx: &mut SendQueue, pool: &mut Pool) -> usize {
    let mut total = 0;
    loop {
        let count = match tx.front() {
            Front::Empty => break,
            Front::One(bytes, _) => black_box(bytes).len(),
            Front::Many(runs, count, _) => black_box(&runs[..count]).iter().map(|r| r.len()).sum(),
            Front::Piped(count) => count,
            Front::File(..) => unreachable!("no files here"),
        };
        tx.sent(count, pool);
        total += count;
    }
    tx.release(pool);
    total
}

fn pool() -> Pool {
    Pool::new(64 << 20, 16 << 20)
}

/// Bytes arrive, are poured from one side to the other, and leave.
fn pours(c: &mut Criterion) {
    let mut group = c.benchmark_group("pour");
    for (name, bytes) in [
        ("64 B", 64),
        ("16 KiB", PAGE_BYTES),
        ("512 KiB", LARGE_PAGE_BYTES),
    ] {
        let (mut pool, mut rx, mut tx) = (pool(), RecvBuf::default(), SendQueue::new(1 << 20));
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                // The kernel's part, copying into the page, is left out.
                let mut left = bytes;
                while left > 0 {
                    let room = rx.space(&mut pool).len();
                    let count = left.min(room);
                    rx.filled(count, room);
                    left -= pour(&mut rx, &mut tx, usize::MAX, &mut pool);
                }
                rx.release(&mut pool);
                send_all(&mut tx, &mut pool)
            });
        });
    }
    group.finish();
}

/// An answer is put together and sent.
fn puts(c: &mut Criterion) {
    let mut group = c.benchmark_group("put");
    let head = [b'h'; 180];
    let body: std::rc::Rc<[u8]> = vec![b'b'; 1024].into();
    let large: std::rc::Rc<[u8]> = vec![b'l'; 64 * 1024].into();
    let (mut pool, mut tx) = (pool(), SendQueue::new(1 << 20));
    group.bench_function("head", |b| {
        b.iter(|| {
            tx.put(black_box(&head), &mut pool);
            send_all(&mut tx, &mut pool)
        });
    });
    group.bench_function("head and 1 KiB", |b| {
        b.iter(|| {
            tx.put(black_box(&head), &mut pool);
            tx.put_shared(&body, 0..body.len(), &mut pool);
            send_all(&mut tx, &mut pool)
        });
    });
    group.bench_function("head and 64 KiB shared", |b| {
        b.iter(|| {
            tx.put(black_box(&head), &mut pool);
            tx.put_shared(&large, 0..large.len(), &mut pool);
            send_all(&mut tx, &mut pool)
        });
    });
    group.bench_function("16 answers of 300 B", |b| {
        b.iter(|| {
            for _ in 0..16 {
                tx.put(black_box(&[b'a'; 300]), &mut pool);
            }
            send_all(&mut tx, &mut pool)
        });
    });
    group.finish();
}

criterion_group!(benches, pours, puts);
criterion_main!(benches);
