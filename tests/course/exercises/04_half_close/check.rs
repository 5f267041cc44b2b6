use netlab_reactor::services::bench::Bench;

pub(crate) fn check() {
    let text = b"one two\n three  four";
    for piece in 1..=text.len() {
        let mut bench = Bench::new(Words);
        for part in text.chunks(piece) {
            bench.peer_sends(part);
        }
        bench.expect(b"").expect_open();
        bench.peer_closes().expect(b"4\n").expect_closed();
    }
    let mut bench = Bench::new(Words);
    bench
        .peer_sends_and_closes(b"at once")
        .expect(b"2\n")
        .expect_closed();
}
