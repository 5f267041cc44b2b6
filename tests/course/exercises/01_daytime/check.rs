use netlab_reactor::services::bench::Bench;

pub(crate) fn check() {
    let mut bench = Bench::new(Daytime);
    bench.expect(b"2026-10-14T17:46:40Z\r\n").expect_closed();
}
