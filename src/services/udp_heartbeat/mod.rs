//! The heartbeat monitor: who is alive, who is late, who is dead. Nobody gets an answer.
//!
//! What one sender is taken to be is [`Tracker`](crate::wire::heartbeat::Tracker)'s business, and
//! the [`Table`] has all of them. Here each datagram is checked and each change told: it is one line
//! in the log, `heartbeat IP:PORT STATE`, and one count; of many in a second, those beyond a limit
//! are counted in one line, since addresses can be forged: `heartbeats: 4711 more changes: 4700 new,
//! 11 dead`. A command may be run for each ([`crate::hooks`]), with `NETLAB_CHANGE` and
//! `NETLAB_SENDER` in its environment.
//!
//! With a secret, what is not signed with it is dropped and counted before anything is made of it.

mod table;

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use self::table::Table;
use crate::config::UdpHeartbeatConfig;
use crate::hooks::{Call, Hook};
use crate::metrics::{Cause, HeartbeatMetrics, ListenerMetrics, Of};
use crate::service::datagram::{DatagramIo, DatagramService, Outbox, Senders};
use crate::service::work::{self, Work};
use crate::wire::challenge::Secret;
use crate::wire::heartbeat::{self, Change, Rules};

/// The heartbeat service.
pub struct UdpHeartbeat {
    table: Table,
    secret: Option<Secret>,
    told: Told,
    /// What one heartbeat or one silence changed; kept for its memory.
    changes: Vec<Change>,
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

impl UdpHeartbeat {
    /// A service as configured.
    pub fn new(config: &UdpHeartbeatConfig) -> Self {
        let rules = Rules {
            timeout: config.timeout,
            grace: config.grace,
            missed_max: config.missed_max,
            timeout_min: config.timeout_min,
            timeout_max: config.timeout_max,
            clock_step: config.clock_step,
            is_signed: config.secret.is_some(),
        };
        Self {
            table: Table::new(rules, config.senders_max),
            secret: config.secret.clone(),
            told: Told {
                on_change: config.on_change.clone(),
                ..Told::new(config.logged_changes_max)
            },
            changes: Vec::new(),
        }
    }

    /// Tells what changed of a sender.
    fn tell(&mut self, from: SocketAddr, now: Instant, metrics: &mut HeartbeatMetrics) {
        for change in self.changes.drain(..) {
            changed(from, change, now, &mut self.told, metrics);
        }
    }
}

/// Every change of every sender passes here, once: it is logged and counted.
fn changed(
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
        if let Some(secret) = &self.secret {
            io.work.charge(work::SIGNATURE_NS);
            if !heartbeat::is_authentic(io.payload, secret) {
                return io.metrics.dropped(Cause::Unsigned, 1);
            }
        }
        let Some(beat) = heartbeat::parse(io.payload) else {
            io.metrics.dropped(Cause::Malformed, 1);
            return;
        };
        // An IPv4 sender is the same sender on a socket of both families.
        let from = SocketAddr::new(io.from.ip().to_canonical(), io.from.port());
        let wall = io
            .wall
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let metrics = io.metrics.heartbeat_mut();
        let (table, changes) = (&mut self.table, &mut self.changes);
        if !table.hear(from, &beat, (io.now, wall), metrics, changes) {
            io.metrics.dropped(Cause::Full, 1);
            return;
        }
        metrics.accepted += 1;
        self.tell(from, io.now, metrics);
        self.told.calls.drain(..).for_each(|call| io.out.run(call));
    }

    fn advance(
        &mut self,
        out: &mut Outbox,
        now: Instant,
        metrics: &mut ListenerMetrics,
        work: &mut Work,
    ) {
        let metrics = metrics.heartbeat_mut();
        while !work.is_spent()
            && let Some(from) = self.table.pass(now, metrics, &mut self.changes)
        {
            work.charge(work::DATAGRAM_NS);
            self.tell(from, now, metrics);
        }
        tell_others(&mut self.told, now);
        self.told.calls.drain(..).for_each(|call| out.run(call));
    }

    fn deadline(&self) -> Option<Instant> {
        let senders = self.table.due.first().map(|&(moment, _)| moment);
        senders.into_iter().chain(self.told.due()).min()
    }

    fn senders(&self, now: Instant, most: usize) -> Option<Senders> {
        Some(self.table.senders(now, most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::heartbeat::{Beat, State, Tracker};
    use crate::wire::stamp::Stamp;
    use proptest::prelude::*;
    use std::collections::HashMap;

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
                offset: 0,
            });
            self.check()
        }

        fn beats(&mut self, port: u16, sequence: u64) -> &mut Self {
            let elapsed = self.wall.duration_since(SystemTime::UNIX_EPOCH);
            let sent_at = elapsed.expect("after 1970");
            let bytes = heartbeat::build(&Beat::new(Stamp { sequence, sent_at }), None);
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
            let Table { due, dead, .. } = &self.service.table;
            assert_eq!(self.service.table.len(), due.len() + dead.len());
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
    fn in_a_full_table_newcomers_push_out_one_another_and_nobody_who_is_known() {
        let mut bench = Bench::new(3, 0, 3);
        for sequence in 1..=4 {
            bench.beats(1, sequence).beats(2, sequence).later(1);
        }
        let forged = |bench: &mut Bench| {
            for port in 1000..2000 {
                bench.beats(port, 1);
            }
            assert_eq!(bench.service.table.len(), 3);
        };
        forged(&mut bench);
        assert_eq!(bench.counted().evicted, 999);
        // Both are still known, and dead ones that were known stay as well.
        bench.later(3).expect([1002, 0, 3, 0]);
        forged(&mut bench);
        bench.beats(1, 5).beats(2, 5).expect([2002, 0, 3, 2]);
        assert_eq!(bench.counted().datagrams.dropped[Cause::Full as usize], 0);
    }

    #[test]
    fn where_all_are_known_the_longest_dead_makes_room_and_the_living_do_not() {
        let mut bench = Bench::new(3, 0, 2);
        for sequence in 1..=4 {
            bench.beats(1, sequence).beats(2, sequence).later(1);
        }
        bench.beats(3, 1).expect([2, 0, 0, 0]);
        assert_eq!(bench.counted().datagrams.dropped[Cause::Full as usize], 1);
        bench.beats(2, 5).later(2).expect([2, 0, 1, 0]);
        bench.beats(3, 1).expect([3, 0, 1, 0]);
        assert_eq!(bench.counted().senders, [2, 0, 0]);
        bench.beats(2, 6).beats(1, 5).expect([4, 0, 1, 0]); // 1 was forgotten, and is new in the place of 3
        assert_eq!(bench.counted().evicted, 2);
    }

    #[test]
    fn what_is_not_signed_is_dropped_and_makes_nobody_known() {
        let mut bench = Bench::new(3, 0, 10);
        let (secret, other) = (Secret::from("key"), Secret::from("other"));
        bench.service.secret = Some(secret.clone());
        let beat = Beat::new(Stamp {
            sequence: 1,
            sent_at: Duration::from_secs(1_792_000_000),
        });
        bench.sends(1, &heartbeat::build(&beat, None));
        bench.sends(1, &heartbeat::build(&beat, Some(&other)));
        bench.sends(1, b"nonsense").expect([0; 4]);
        let dropped = bench.counted().datagrams.dropped;
        assert_eq!(dropped[Cause::Unsigned as usize], 3);
        assert_eq!(dropped[Cause::Malformed as usize], 0);
        bench.sends(1, &heartbeat::build(&beat, Some(&secret)));
        bench.expect([1, 0, 0, 0]);
        assert_eq!(bench.counted().accepted, 1);
    }

    #[test]
    fn who_says_that_it_ends_is_dead_at_once_and_a_stranger_who_does_is_nobody() {
        let mut bench = Bench::new(3, 0, 10);
        bench.beats(1, 1).sends(1, b"Heartbeat 2 1792000000 down");
        bench.sends(2, b"Heartbeat 2 1792000000 down");
        bench.expect([1, 0, 1, 0]).later(10).expect([1, 0, 1, 0]);
        assert_eq!(bench.counted().downs, 2);
        let senders = bench.service.senders(bench.now, 10).expect("a table");
        assert_eq!((senders.rows.len(), senders.omitted), (1, 0));
        let row = &senders.rows[0];
        assert_eq!(
            (row.state, row.is_down, row.sequence),
            (State::Dead, true, 2)
        );
        assert_eq!(row.silent_for, Duration::from_secs(10));
        bench.beats(1, 3).expect([1, 0, 1, 1]);
    }

    #[test]
    fn the_table_shows_the_dead_first_and_no_more_than_was_asked_for() {
        let mut bench = Bench::new(3, 0, 100);
        for port in 1..=5 {
            bench.sends(port, b"Heartbeat 1 1792000000 id=roof");
        }
        bench.later(2).beats(4, 2).later(1);
        let senders = bench.service.senders(bench.now, 3).expect("a table");
        assert_eq!((senders.rows.len(), senders.omitted), (3, 2));
        assert!(senders.rows.iter().all(|row| row.state == State::Dead));
        let senders = bench.service.senders(bench.now, 9).expect("a table");
        let last = senders.rows.last().expect("five");
        assert_eq!((last.state, last.address.port()), (State::Up, 4));
        assert_eq!(last.identity.as_deref(), Some("roof"));
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
            let rules = Rules::new(Duration::from_secs(3), Duration::from_secs(grace));
            let mut alone: HashMap<u16, Tracker> = HashMap::new();
            for (sequence, (seconds, port, beats)) in steps.into_iter().enumerate() {
                bench.later(seconds);
                if beats {
                    bench.beats(port, sequence as u64);
                    let sent_at = bench.wall.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
                    let beat = Beat::new(Stamp { sequence: sequence as u64, sent_at });
                    alone.entry(port)
                        .and_modify(|t| { t.heard(&rules, &beat, bench.now, Duration::ZERO); })
                        .or_insert_with(|| Tracker::new(&beat, bench.now, Duration::ZERO));
                }
                let mut states = [0; 3];
                for tracker in alone.values_mut() {
                    while tracker.advance(&rules, bench.now).is_some() {}
                    states[tracker.state() as usize] += 1;
                }
                prop_assert_eq!(bench.counted().senders, states);
            }
        }
    }
}
