//! Files that change while names are asked for, on a simulated disk.

use std::net::{IpAddr, SocketAddr};

use super::*;
use crate::dns::{self, Addresses, Failure};
use crate::limits::DiskLimits;
use crate::sys::Sys;
use crate::sys::sim::Sim;

const WAITER: Id = Id {
    index: 0,
    generation: 0,
};
const INTERVAL: Duration = Duration::from_secs(5);
const HOSTS: &str = "/etc/hosts";
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The files of names, who asks for them, and a disk that does its jobs at once.
struct Bench {
    sim: Sim,
    jobs: Jobs<Waiter>,
    resolver: Resolver<Id>,
    files: NameFiles,
    now: Instant,
    looks: usize,
}

fn sources(reread_interval: Duration) -> Sources {
    Sources {
        resolv_conf: Some(RESOLV_CONF.into()),
        hosts: HOSTS.into(),
        settings: dns::Config::default(),
        attempts: None,
        attempt_timeout: None,
        reread_interval,
    }
}

impl Bench {
    fn new() -> Self {
        Self::with(&sources(INTERVAL))
    }

    fn with(sources: &Sources) -> Self {
        let mut sim = Sim::new(1);
        sim.volume().make_folder("/etc");
        let mut jobs = Jobs::new(DiskLimits::default());
        let (resolv_conf, hosts) = ("nameserver 192.0.2.1", "192.0.2.80 one.test");
        let mut files = NameFiles::default();
        let now = sim.now();
        let mut bench = Self {
            resolver: Resolver::new(
                sources.config(resolv_conf, |_| None),
                Hosts::parse(hosts),
                [7; 32],
            ),
            now,
            looks: 0,
            files: NameFiles::default(),
            jobs: Jobs::new(DiskLimits::default()),
            sim,
        };
        bench.put(RESOLV_CONF, resolv_conf);
        bench.put(HOSTS, hosts);
        files.watch(sources.clone(), bench.sim.disk(), &mut jobs);
        (bench.files, bench.jobs) = (files, jobs);
        bench
    }

    fn put(&mut self, path: &str, text: &str) {
        let modified = self.sim.wall();
        self.sim.volume().put(path, text.as_bytes(), modified);
    }

    fn serve(&mut self) {
        self.files
            .serve(&mut self.jobs, &mut self.resolver, self.now, |_| None);
    }

    /// The disk does what it was asked to.
    fn disk(&mut self) {
        while let Some((id, mut job)) = self.jobs.poll_start(self.now) {
            self.looks += 1;
            let result = job.perform(&mut self.sim);
            self.jobs.finished(id, job, result, self.now);
            assert_eq!(self.jobs.poll_woken(), Some(Waiter::NameFiles));
        }
    }

    fn turn(&mut self) {
        self.serve();
        self.disk();
        self.serve();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.turn();
    }

    fn ask(&mut self, name: &str) -> Poll<Result<Addresses, Failure>> {
        let answer = self.resolver.lookup(name, WAITER, None, self.now);
        self.turn();
        answer
    }

    fn knows(&mut self, name: &str) -> Option<IpAddr> {
        match self.ask(name) {
            Poll::Ready(Ok(addresses)) => Some(addresses[0]),
            _ => None,
        }
    }

    /// Lets the files be looked at, and what changed have its time.
    fn look(&mut self) {
        self.now += INTERVAL;
        let _ = self.ask("any.test");
        self.pass(SETTLE);
    }

    /// The server that is asked for a name that nobody knows.
    fn server(&mut self, name: &str) -> SocketAddr {
        assert!(self.ask(name).is_pending());
        let transmits = std::iter::from_fn(|| self.resolver.poll_transmit());
        transmits.last().expect("a query").to
    }
}

fn address(text: &str) -> Option<IpAddr> {
    Some(text.parse().expect("an address"))
}

#[test]
fn a_hosts_file_that_changed_is_read_again_once_a_name_is_asked_for() {
    let mut bench = Bench::new();
    bench.look();
    bench.put(HOSTS, "192.0.2.81 one.test two.test");
    bench.pass(INTERVAL);
    bench.pass(SETTLE);
    assert_eq!(bench.files.deadline(), None, "nobody asked");
    assert_eq!(bench.knows("one.test"), address("192.0.2.80"));
    let until = bench.now + SETTLE;
    assert_eq!(bench.files.deadline(), Some(until), "that was asking");
    bench.pass(SETTLE);
    assert_eq!(bench.knows("one.test"), address("192.0.2.81"));
    assert_eq!(bench.knows("two.test"), address("192.0.2.81"));
}

#[test]
fn files_are_looked_at_only_so_often_and_only_if_names_are_asked_for() {
    let mut bench = Bench::new();
    bench.look();
    let looks = bench.looks;
    for _ in 0..20 {
        bench.pass(INTERVAL);
    }
    assert_eq!(bench.looks, looks, "nobody asks");
    let _ = bench.ask("one.test");
    assert_eq!(bench.looks, looks + 2, "one for each file");
    for _ in 0..100 {
        bench.now += INTERVAL / 200;
        let _ = bench.ask("one.test");
    }
    assert_eq!(bench.looks, looks + 2);
    bench.now += INTERVAL / 2;
    let _ = bench.ask("one.test");
    assert_eq!(bench.looks, looks + 4);
}

#[test]
fn a_file_that_is_being_written_counts_when_it_is_done() {
    let mut bench = Bench::new();
    bench.look();
    for half in ["", "192.0.2.81 one", "192.0.2.81 one.te"] {
        bench.put(HOSTS, half);
        bench.now += INTERVAL;
        assert_eq!(bench.knows("one.test"), address("192.0.2.80"));
        bench.put(HOSTS, "192.0.2.8");
        bench.pass(SETTLE);
        assert_eq!(bench.knows("one.test"), address("192.0.2.80"));
        assert!(bench.files.deadline().is_some(), "it has changed again");
        bench.put(HOSTS, "192.0.2.80 one.test");
        bench.pass(SETTLE);
        bench.pass(SETTLE);
        assert_eq!(bench.knows("one.test"), address("192.0.2.80"));
    }
    bench.put(HOSTS, "192.0.2.82 one.test");
    bench.look();
    assert_eq!(bench.knows("one.test"), address("192.0.2.82"));
}

#[test]
fn a_file_that_is_not_there_or_too_large_changes_nothing() {
    let mut bench = Bench::new();
    bench.look();
    let root = bench.sim.disk().open_folder(Path::new("/etc")).expect("it");
    let too_large = "#".repeat(FILE_BYTES_MAX + 1);
    for name in ["hosts", "resolv.conf"] {
        let removed = bench.sim.disk().remove(&root, Path::new(name));
        removed.expect("it was there");
    }
    bench.look();
    assert_eq!(bench.knows("one.test"), address("192.0.2.80"));
    assert_eq!(bench.server("a.test"), ([192, 0, 2, 1], 53).into());
    bench.put(HOSTS, &too_large);
    bench.put(RESOLV_CONF, &too_large);
    bench.look();
    assert_eq!(bench.knows("one.test"), address("192.0.2.80"));
    assert_eq!(bench.server("b.test"), ([192, 0, 2, 1], 53).into());
    bench.put(HOSTS, "192.0.2.83 one.test");
    bench.look();
    assert_eq!(bench.knows("one.test"), address("192.0.2.83"), "it is back");
}

#[test]
fn other_servers_are_asked_once_resolv_conf_names_them() {
    let mut bench = Bench::new();
    assert_eq!(bench.server("a.test"), ([192, 0, 2, 1], 53).into());
    for nothing in ["", "# to be written", "search example"] {
        bench.put(RESOLV_CONF, nothing);
        bench.look();
        assert_eq!(bench.server("b.test"), ([192, 0, 2, 1], 53).into());
    }
    bench.put(RESOLV_CONF, "nameserver 192.0.2.2");
    bench.look();
    assert_eq!(bench.server("c.test"), ([192, 0, 2, 2], 53).into());
}

#[test]
fn a_link_to_another_folder_is_followed() {
    let mut bench = Bench::new();
    bench.look();
    bench.sim.volume().make_folder("/run");
    bench.put("/run/resolv.conf", "nameserver 192.0.2.3");
    let root = bench.sim.disk().open_folder(Path::new("/etc")).expect("it");
    let removed = bench.sim.disk().remove(&root, Path::new("resolv.conf"));
    removed.expect("it was there");
    bench.sim.volume().link(RESOLV_CONF, "/run/resolv.conf");
    bench.look();
    assert_eq!(bench.server("a.test"), ([192, 0, 2, 3], 53).into());
}

#[test]
fn a_disk_that_does_not_answer_is_asked_once() {
    let mut bench = Bench::new();
    for _ in 0..10 {
        bench.now += INTERVAL;
        let _ = bench.resolver.lookup("one.test", WAITER, None, bench.now);
        bench.serve();
    }
    let (waiting, started) = bench.jobs.under_way();
    assert_eq!((waiting, started), (2, 0), "a job for each file");
    bench.files.end(&mut bench.jobs);
    assert!(bench.jobs.is_idle(), "nobody wants to know any more");
}

#[test]
fn files_are_left_alone_where_the_configuration_says_so_or_no_folder_is_there() {
    let mut bench = Bench::with(&sources(Duration::ZERO));
    bench.look();
    assert_eq!(bench.looks, 0);
    let elsewhere = Sources {
        hosts: "/nowhere/hosts".into(),
        resolv_conf: None,
        ..sources(INTERVAL)
    };
    let mut bench = Bench::with(&elsewhere);
    bench.look();
    assert_eq!(bench.looks, 0);
}
