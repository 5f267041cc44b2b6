use netlab_reactor::service::Side;
use netlab_reactor::services::bench::Bench;

/// What a send queue holds on the bench.
const QUEUE_BYTES_MAX: usize = 512 * 1024;

pub(crate) fn check() {
    let lines = |count: usize| (0..count).flat_map(line).collect::<Vec<u8>>();
    let mut bench = Bench::new(Chargen);
    bench.peer_sends(b"3").expect(b"").peer_sends(b"\n");
    bench.expect(&lines(3)).expect_closed();
    let mut bench = Bench::new(Chargen);
    bench.peer_takes_only(0).peer_sends(b"20000\n");
    let (mut got, all) = (Vec::new(), lines(20_000));
    while got.len() < all.len() {
        let waits = bench.queued(Side::Down);
        assert!(
            waits <= QUEUE_BYTES_MAX,
            "{waits} bytes wait for a slow client"
        );
        let before = got.len();
        bench.peer_takes_only(100_000);
        got.extend(bench.received());
        assert!(got.len() > before, "it sends no more after {before} bytes");
    }
    assert!(got == all, "the lines are not the ones that were asked for");
}
