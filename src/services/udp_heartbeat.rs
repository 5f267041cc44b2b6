//! The heartbeat monitor: who is alive, who is late, who is dead. Nobody gets an answer.
//!
//! What one sender is taken to be is [`Tracker`]'s business; here stands the table of them, by
//! address and port. Each change is one line in the log, `heartbeat IP:PORT STATE`, and one count;
//! of many in a second, those beyond a limit are counted in one line, since addresses can be
//! forged: `heartbeats: 4711 more changes: 4700 new, 11 dead`. A command may be run for each
//! ([`crate::hooks`]), with `NETLAB_CHANGE` and `NETLAB_SENDER` in its environment.
//!
//! The rules:
//! 1. Every sender is in exactly one of two ordered sets: `due` by the moment when it may change by
//!    silence, or `dead` by when it was last heard of. A heartbeat does not move it in `due`: the
//!    moment is looked at when it comes, and the sender entered again with its real one. So a
//!    sender costs one step in the set for each `timeout`, however often it beats.
//! 2. The table is bounded. A newcomer takes the place of whoever is dead longest; while nobody is
//!    dead it is dropped, so that forged addresses cannot push out those who are alive.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use crate::config::UdpHeartbeatConfig;
use crate::hooks::{Call, Hook};
use crate::metrics::{Cause, HeartbeatMetrics, ListenerMetrics, Of};
use crate::service::datagram::{DatagramIo, DatagramService, Outbox};
use crate::service::work::{self, Work};
use crate::wire::heartbeat::{self, Change, Patience, State, Tracker};
use crate::wire::stamp::Stamp;

/// The heartbeat service.
pub struct UdpHeartbeat {
    patience: Patience,
    senders_max: usize,
    senders: HashMap<SocketAddr, Sender>,
    due: BTreeSet<(Instant, SocketAddr)>,
    dead: BTreeSet<(Instant, SocketAddr)>,
    told: Told,
}

/// What of the changes of one second the log tells, and the command that is told of each.
struct Told {
    on_change: Option<Hook>,
    /// Commands to be run by the end of this call.
    calls: Vec<Call>,
    lines_max: usize,
    /// When the second began.
    began: Option<Instant>,
    lines: usize,
    /// Changes that have no line of their own, by kind.
    others: [u64; Change::ALL.len()],
}

impl Told {
    /// For how long changes are counted together.
    const SPAN: Duration = Duration::from_secs(1);

    fn new(lines_max: usize) -> Self {
        Self {
            on_change: None,
            calls: Vec::new(),
            lines_max,
            began: None,
            lines: 0,
            others: [0; _],
        }
    }

    /// A change. Whether it has a line of its own.
    fn has_line(&mut self, change: Change, now: Instant) -> bool {
        if self.began.is_none_or(|began| now >= began + Self::SPAN) {
            self.began = Some(now);
            self.lines = 0;
        }
        let has_line = self.lines < self.lines_max;
        match has_line {
            true => self.lines += 1,
            false => self.others[change as usize] += 1,
        }
        has_line
    }

    /// When the others are to be told of.
    fn due(&self) -> Option<Instant> {
        let are_there = self.others.iter().any(|count| *count > 0);
        self.began.filter(|_| are_there).map(|at| at + Self::SPAN)
    }

    /// The line for the others, once their second is over.
    fn take_others(&mut self, now: Instant) -> Option<String> {
        self.due().filter(|due| *due <= now)?;
        let others = std::mem::take(&mut self.others);
        let kinds = Change::ALL.iter().zip(others);
        let kinds: Vec<String> = kinds
            .filter(|(_, count)| *count > 0)
            .map(|(change, count)| format!("{count} {change}"))
            .collect();
        let sum: u64 = others.iter().sum();
        Some(format!("{sum} more changes: {}", kinds.join(", ")))
    }
}

struct Sender {
    tracker: Tracker,
    place: Place,
}

/// Which set a sender is in, and under which moment.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Due(Instant),
    Dead(Instant),
}

impl Place {
    fn of(tracker: &Tracker) -> Self {
        match tracker.deadline() {
            Some(moment) => Place::Due(moment),
            None => Place::Dead(tracker.heard_at()),
        }
    }
}

impl UdpHeartbeat {
    /// A service as configured.
    pub fn new(config: &UdpHeartbeatConfig) -> Self {
        Self {
            patience: Patience {
                late_after: config.timeout,
                dead_after: config.timeout + config.grace,
            },
            senders_max: config.senders_max,
            senders: HashMap::new(),
            due: BTreeSet::new(),
            dead: BTreeSet::new(),
            told: Told {
                on_change: config.on_change.clone(),
                ..Told::new(config.logged_changes_max)
            },
        }
    }

    /// Enters a sender that was not known. Whether there was room.
    fn enter(
        &mut self,
        from: SocketAddr,
        stamp: Stamp,
        now: Instant,
        wall: Duration,
        metrics: &mut HeartbeatMetrics,
    ) -> bool {
        if self.senders.len() >= self.senders_max {
            let Some((_, longest_dead)) = self.dead.pop_first() else {
                return false;
            };
            self.senders.remove(&longest_dead);
            metrics.senders[State::Dead as usize] -= 1;
        }
        let tracker = Tracker::new(self.patience, stamp, now, wall);
        let place = Place::of(&tracker);
        self.put(place, from);
        self.senders.insert(from, Sender { tracker, place });
        metrics.senders[State::Up as usize] += 1;
        tell(from, Change::New, now, &mut self.told, metrics);
        true
    }

    /// What became of a known sender until `now`, and by the heartbeat that it sent, if it did.
    fn observe(
        &mut self,
        from: SocketAddr,
        beat: Option<(Stamp, Duration)>,
        now: Instant,
        metrics: &mut HeartbeatMetrics,
    ) -> bool {
        let Some(sender) = self.senders.get_mut(&from) else {
            return false;
        };
        let tracker = &mut sender.tracker;
        let before = tracker.state();
        while let Some(change) = tracker.advance(now) {
            tell(from, change, now, &mut self.told, metrics);
        }
        if let Some((stamp, wall)) = beat {
            let counts = tracker.counts();
            if let Some(change) = tracker.heard(stamp, now, wall) {
                tell(from, change, now, &mut self.told, metrics);
            }
            metrics.count(counts, tracker.counts());
        }
        if before != tracker.state() {
            metrics.senders[before as usize] -= 1;
            metrics.senders[tracker.state() as usize] += 1;
        }
        let (old, new) = (sender.place, Place::of(tracker));
        let still_to_come = |armed: Instant, moment: Instant| now < armed && armed <= moment;
        if !matches!((old, new), (Place::Due(armed), Place::Due(moment)) if still_to_come(armed, moment))
        {
            sender.place = new;
            match old {
                Place::Due(moment) => self.due.remove(&(moment, from)),
                Place::Dead(moment) => self.dead.remove(&(moment, from)),
            };
            self.put(new, from);
        }
        true
    }

    fn put(&mut self, place: Place, from: SocketAddr) {
        match place {
            Place::Due(moment) => self.due.insert((moment, from)),
            Place::Dead(moment) => self.dead.insert((moment, from)),
        };
    }
}

fn tell(
    from: SocketAddr,
    change: Change,
    now: Instant,
    told: &mut Told,
    metrics: &mut HeartbeatMetrics,
) {
    tell_others(told, now);
    if told.has_line(change, now) {
        log::info!("heartbeat {from} {change}");
    }
    let facts = || {
        let (change, from) = (change.to_string(), from.to_string());
        vec![
            ("NETLAB_CHANGE", change.into()),
            ("NETLAB_SENDER", from.into()),
        ]
    };
    let call = told.on_change.as_ref().map(|hook| hook.call(facts()));
    told.calls.extend(call);
    metrics.changes[change as usize] += 1;
}

fn tell_others(told: &mut Told, now: Instant) {
    if let Some(others) = told.take_others(now) {
        log::info!("heartbeats: {others}");
    }
}

impl DatagramService for UdpHeartbeat {
    fn counts() -> Of {
        Of::Heartbeat(HeartbeatMetrics::default())
    }

    fn receive(&mut self, io: &mut DatagramIo<'_>) {
        let Some(heartbeat) = heartbeat::parse(io.payload) else {
            io.metrics.dropped(Cause::Malformed, 1);
            return;
        };
        // An IPv4 sender is the same sender on a socket of both families.
        let from = SocketAddr::new(io.from.ip().to_canonical(), io.from.port());
        let wall = io
            .wall
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let (stamp, metrics) = (heartbeat.stamp, io.metrics.heartbeat_mut());
        if !self.observe(from, Some((stamp, wall)), io.now, metrics)
            && !self.enter(from, stamp, io.now, wall, metrics)
        {
            io.metrics.dropped(Cause::Full, 1);
        }
        self.told.calls.drain(..).for_each(|call| io.out.run(call));
    }

    fn advance(
        &mut self,
        out: &mut Outbox,
        now: Instant,
        metrics: &mut ListenerMetrics,
        work: &mut Work,
    ) {
        while let Some(&(moment, from)) = self.due.first()
            && moment <= now
            && !work.is_spent()
        {
            work.charge(work::DATAGRAM_NS);
            self.observe(from, None, now, metrics.heartbeat_mut());
        }
        tell_others(&mut self.told, now);
        self.told.calls.drain(..).for_each(|call| out.run(call));
    }

    fn deadline(&self) -> Option<Instant> {
        let senders = self.due.first().map(|&(moment, _)| moment);
        senders.into_iter().chain(self.told.due()).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The service alone, with a clock that is set by hand.
    struct Bench {
        service: UdpHeartbeat,
        metrics: ListenerMetrics,
        out: Outbox,
        now: Instant,
        wall: SystemTime,
    }

    impl Bench {
        fn new(timeout_s: u64, grace_s: u64, senders_max: usize) -> Self {
            let config = UdpHeartbeatConfig {
                timeout: Duration::from_secs(timeout_s),
                grace: Duration::from_secs(grace_s),
                senders_max,
                ..UdpHeartbeatConfig::default()
            };
            Self {
                service: UdpHeartbeat::new(&config),
                metrics: ListenerMetrics::new(
                    "beats",
                    "udp-heartbeat",
                    String::new(),
                    UdpHeartbeat::counts(),
                ),
                out: Outbox::default(),
                now: Instant::now(),
                wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_792_000_000),
            }
        }

        fn sends(&mut self, port: u16, bytes: &[u8]) -> &mut Self {
            self.service.receive(&mut DatagramIo {
                work: &mut Work::new(Duration::MAX),
                now: self.now,
                wall: self.wall,
                from: ([192, 0, 2, 1], port).into(),
                payload: &mut bytes.to_vec(),
                out: &mut self.out,
                metrics: &mut self.metrics,
                slot: 0,
            });
            self.check()
        }

        fn beats(&mut self, port: u16, sequence: u64) -> &mut Self {
            let elapsed = self.wall.duration_since(SystemTime::UNIX_EPOCH);
            let sent_at = elapsed.expect("after 1970");
            let bytes = heartbeat::build(&Stamp { sequence, sent_at }, None, None);
            self.sends(port, &bytes)
        }

        /// Time passes in steps of the reactor: it calls when the deadline has come.
        fn later(&mut self, seconds: u64) -> &mut Self {
            let end = self.now + Duration::from_secs(seconds);
            while let Some(deadline) = self.service.deadline().filter(|&d| d <= end) {
                self.wall += deadline.saturating_duration_since(self.now);
                self.now = self.now.max(deadline);
                let (out, metrics) = (&mut self.out, &mut self.metrics);
                let mut work = Work::new(Duration::MAX);
                self.service.advance(out, self.now, metrics, &mut work);
                assert!(self.service.deadline().is_none_or(|d| d > self.now));
            }
            self.wall += end - self.now;
            self.now = end;
            self.check()
        }

        fn counted(&mut self) -> &HeartbeatMetrics {
            self.metrics.heartbeat_mut()
        }

        /// The books balance, and nobody was answered.
        fn check(&mut self) -> &mut Self {
            let [up, late, gone] = self.counted().senders;
            let UdpHeartbeat {
                senders, due, dead, ..
            } = &self.service;
            assert_eq!(senders.len(), due.len() + dead.len());
            assert_eq!((up + late, gone), (due.len() as u64, dead.len() as u64));
            assert!(self.out.replies.is_empty());
            self
        }

        /// New, late, dead, back: how often each was told.
        fn expect(&mut self, changes: [u64; 4]) -> &mut Self {
            assert_eq!(self.counted().changes, changes);
            self
        }
    }

    #[test]
    fn silence_is_told_and_so_is_the_return() {
        let mut bench = Bench::new(3, 0, 10);
        bench.beats(1, 1).expect([1, 0, 0, 0]);
        bench.later(2).beats(1, 2).later(2).expect([1, 0, 0, 0]);
        bench.later(1).expect([1, 0, 1, 0]);
        bench.later(100).expect([1, 0, 1, 0]);
        bench.beats(1, 3).expect([1, 0, 1, 1]);
        bench.later(3).expect([1, 0, 2, 1]);
    }

    #[test]
    fn with_grace_a_sender_is_late_before_it_is_dead() {
        let mut bench = Bench::new(3, 10, 10);
        bench.beats(1, 1).later(3).expect([1, 1, 0, 0]);
        // Back from late, it may be late again long before it would have been dead.
        bench
            .beats(1, 2)
            .expect([1, 1, 0, 1])
            .later(3)
            .expect([1, 2, 0, 1]);
        bench.later(9).expect([1, 2, 0, 1]);
        bench.later(1).expect([1, 2, 1, 1]);
    }

    #[test]
    fn senders_are_told_apart_by_port() {
        let mut bench = Bench::new(3, 0, 10);
        bench.beats(1, 1).beats(2, 1).later(2).beats(2, 2).later(1);
        bench.expect([2, 0, 1, 0]);
        assert_eq!(bench.counted().senders, [1, 0, 1]);
    }

    #[test]
    fn gaps_duplicates_and_reordering_are_counted() {
        let mut bench = Bench::new(3, 0, 10);
        for sequence in [1, 2, 6, 5, 5] {
            bench.beats(1, sequence);
        }
        let counted = bench.counted();
        assert_eq!(
            (counted.lost, counted.duplicates, counted.reordered),
            (2, 1, 1)
        );
        bench.later(1).beats(1, 1);
        assert_eq!(bench.counted().restarts, 1);
    }

    #[test]
    fn no_sender_spoils_the_sums_of_the_others() {
        let mut bench = Bench::new(3, 0, 10);
        bench.beats(1, 1).beats(2, 1);
        for far in [
            9_223_372_036_854_775_808,
            u64::MAX,
            1 << 53,
            1 << 32,
            5_000_000,
        ] {
            bench.sends(1, format!("Heartbeat {far} 1.0").as_bytes());
            bench.sends(3, format!("Heartbeat {far} 1.0").as_bytes());
        }
        assert_eq!(bench.counted().lost, 0);
        bench.beats(2, 4);
        assert_eq!(bench.counted().lost, 2);
        bench.beats(2, 3);
        assert_eq!(bench.counted().lost, 1);
    }

    #[test]
    fn other_datagrams_are_dropped_and_counted() {
        let mut bench = Bench::new(3, 0, 10);
        for bytes in [&b""[..], b"Heartbeat", b"Ping 1 1", b"\xff\xff"] {
            bench.sends(1, bytes);
        }
        assert_eq!(
            bench.counted().datagrams.dropped[Cause::Malformed as usize],
            4
        );
        assert_eq!(bench.service.deadline(), None);
    }

    #[test]
    fn a_full_table_forgets_the_longest_dead_and_nobody_else() {
        let mut bench = Bench::new(3, 0, 2);
        bench.beats(1, 1).beats(2, 1).beats(3, 1);
        assert_eq!(bench.counted().datagrams.dropped[Cause::Full as usize], 1);
        bench.later(1).beats(2, 2).later(3).expect([2, 0, 2, 0]);
        bench.beats(4, 1).expect([3, 0, 2, 0]);
        assert_eq!(bench.counted().senders, [1, 0, 1]);
        // Sender 2 was heard of later than 1, so it is still known.
        bench.beats(2, 3).expect([3, 0, 2, 1]);
    }

    #[test]
    fn of_many_changes_in_a_second_those_beyond_the_limit_are_one_line() {
        let (mut told, start) = (Told::new(2), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        let mut change = |change, ms| told.has_line(change, at(ms));
        assert!(change(Change::New, 0) && change(Change::New, 1));
        assert!(!change(Change::New, 2) && !change(Change::Dead, 3));
        assert!(!change(Change::New, 999));
        assert_eq!(told.take_others(at(999)), None);
        assert_eq!(told.due(), Some(at(1000)));
        let line = "3 more changes: 2 new, 1 dead".to_owned();
        assert_eq!(told.take_others(at(1000)), Some(line));
        assert_eq!((told.due(), told.take_others(at(5000))), (None, None));
        assert!(told.has_line(Change::Late, at(1001)));
    }

    #[test]
    fn changes_that_have_no_line_are_counted_and_wait_for_theirs() {
        let mut bench = Bench::new(3, 0, 10_000);
        for port in 1..=1000 {
            bench.beats(port, 1);
        }
        bench.expect([1000, 0, 0, 0]);
        let second = Some(bench.now + Duration::from_secs(1));
        assert_eq!(bench.service.deadline(), second, "they are told then");
        bench.later(1);
        assert_eq!(bench.service.told.due(), None);
        bench.later(3).expect([1000, 0, 1000, 0]);
    }

    proptest! {
        #[test]
        fn the_table_agrees_with_a_tracker_alone(
            steps in proptest::collection::vec((0u64..8, 0u16..4, any::<bool>()), 1..60),
            grace in 0u64..6,
        ) {
            let mut bench = Bench::new(3, grace, 10);
            let patience = Patience {
                late_after: Duration::from_secs(3),
                dead_after: Duration::from_secs(3 + grace),
            };
            let mut alone: HashMap<u16, Tracker> = HashMap::new();
            for (sequence, (seconds, port, beats)) in steps.into_iter().enumerate() {
                bench.later(seconds);
                if beats {
                    bench.beats(port, sequence as u64);
                    let stamp = Stamp { sequence: sequence as u64, sent_at: Duration::ZERO };
                    alone.entry(port)
                        .and_modify(|t| { t.heard(stamp, bench.now, Duration::ZERO); })
                        .or_insert_with(|| Tracker::new(patience, stamp, bench.now, Duration::ZERO));
                }
                let mut states = [0; 3];
                for tracker in alone.values_mut() {
                    while tracker.advance(bench.now).is_some() {}
                    states[tracker.state() as usize] += 1;
                }
                prop_assert_eq!(bench.counted().senders, states);
            }
        }
    }
}
