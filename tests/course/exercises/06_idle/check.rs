use netlab_reactor::ending::{Error as Ended, Phase as In};
use netlab_reactor::services::bench::Bench;

pub(crate) fn check() {
    let idle = Duration::from_secs(10);
    let mut bench = Bench::new(Echo { idle });
    bench.later(idle / 2).peer_sends(b"x").expect(b"x");
    bench.later(idle / 2).later(idle / 4).expect_open();
    bench.later(idle / 4);
    assert!(
        matches!(bench.failed, Some(Ended::TimedOut(In::Idle))),
        "it was silent for {idle:?}, and is {:?}",
        bench.failed
    );
    // Who reads slowly is cut by the reactor, not by the protocol.
    let mut bench = Bench::new(Echo { idle });
    bench.peer_takes_only(0).peer_sends(b"slow");
    bench.later(idle).expect_open();
    bench.peer_takes_only(4).expect(b"slow");
    bench.later(idle / 2).expect_open();
}
