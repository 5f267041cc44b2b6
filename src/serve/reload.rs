//! From one configuration to the next: what goes is closed, what comes is opened, and what changed
//! serves its next connections as it is configured now. A session keeps the configuration that it
//! began with.
//!
//! A listener of the next configuration is one of the old by name, kind and address; of a list of
//! addresses one is enough. Where it stands in the file means nothing. One that cannot be as it
//! should stays as it was, and the log says why.

use std::cmp::Reverse;
use std::io;
use std::sync::Arc;

use super::{
    How, InForce, address, name_sources, open_address, read_names, refused, serve_listener, tell,
};
use crate::config::{self, Config, Kind, ListenerConfig, TlsConfig};
use crate::limits::DiskLimits;
use crate::reactor::Reactor;
use crate::sys::{Bind, Sys};

/// An address of a listener as it is configured, and what it came to.
type Bound = (config::Bind, Bind);

/// A listener that is served. Its list of addresses is `at`.
struct Served {
    listener: ListenerConfig,
    at: Vec<Bound>,
}

/// Goes over from one configuration to another; what is now in force.
pub fn reload<S: Sys>(reactor: &mut Reactor<S>, was: InForce, mut next: Config) -> InForce {
    tell(&next.remarks);
    next.limits.disk = until_a_restart(&was.config.limits.disk, next.limits.disk);
    reactor.set_limits(next.limits);
    let sources = name_sources(&next.resolver);
    match read_names(&sources, reactor.sys_mut()) {
        Ok((settings, hosts)) => {
            reactor.set_resolver(settings, hosts);
            reactor.watch_name_files(sources);
        }
        Err(error) => log::error!("resolver: it stays as it was: {error}"),
    }
    let all = next.listeners.clone();
    let others_changed = !look_alike(&was.config.listeners, &all);
    let kept = kept(&was.config.listeners, &next.listeners);
    let mut old: Vec<Option<Served>> = was.served().into_iter().map(Some).collect();
    // First what goes, so that its addresses are free.
    let mut kept: Vec<Option<(Served, Vec<Bound>)>> = (kept.iter().zip(&next.listeners))
        .map(|(kept, listener)| {
            let before = old[(*kept)?].take()?;
            Some(before.without_others(&listener.bind, reactor))
        })
        .collect();
    let gone: Vec<Served> = old.into_iter().flatten().collect();
    for served in &gone {
        close(reactor, &served.listener, &served.at);
    }
    let (mut in_force, mut new, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    for (listener, kept) in next.listeners.drain(..).zip(kept.drain(..)) {
        // The page of a web server without files shows them all.
        let shows_them = matches!(&listener.kind, Kind::Http(http) if http.root.is_none());
        let shown_changed = shows_them && others_changed;
        match kept {
            Some((before, gone)) => {
                in_force.push(before.become_like(listener, &gone, shown_changed, reactor, &all));
            }
            None => {
                new.push((listener.name.clone(), listener.kind.name()));
                let mut served = Served::nowhere(listener);
                served.open(reactor, &all);
                match served.at.is_empty() {
                    false => in_force.push(served),
                    true => refused.push(served.listener),
                }
            }
        }
    }
    for listener in &refused {
        in_force.extend(where_it_was(listener, &new, &gone, reactor, &all));
    }
    InForce::of(in_force, next)
}

/// The next limits of the disk, but for what the engine was begun with.
fn until_a_restart(was: &DiskLimits, next: DiskLimits) -> DiskLimits {
    let (engine, jobs_max) = (was.engine, was.jobs_max);
    if next.engine != engine {
        let (was, next) = (engine.word(), next.engine.word());
        log::warn!("[disk]: `engine` stays {was:?}; {next:?} needs a restart");
    }
    if next.jobs_max != jobs_max {
        let next = next.jobs_max;
        log::warn!("[disk]: `max_jobs` stays {jobs_max}; {next} needs a restart");
    }
    DiskLimits {
        engine,
        jobs_max,
        jobs_per_disk_max: next.jobs_per_disk_max.min(jobs_max),
        ..next
    }
}

/// A new listener cannot be opened. Where one of its name went and it alone came, it was to move:
/// that one stays where it was.
fn where_it_was<S: Sys>(
    listener: &ListenerConfig,
    new: &[(String, &str)],
    gone: &[Served],
    reactor: &mut Reactor<S>,
    all: &[ListenerConfig],
) -> Option<Served> {
    let like = |name: &str, kind: &str| (name, kind) == (&*listener.name, listener.kind.name());
    let mut moved = gone
        .iter()
        .filter(|s| like(&s.listener.name, s.listener.kind.name()));
    let news = new.iter().filter(|(name, kind)| like(name, kind)).count();
    let (Some(before), None, 1) = (moved.next(), moved.next(), news) else {
        return None;
    };
    let mut served = Served::nowhere(before.listener.clone());
    served.open_at(&before.at, reactor, all);
    (!served.at.is_empty()).then_some(served)
}

impl InForce {
    fn served(self) -> Vec<Served> {
        let mut bound = self.bound.into_iter();
        let served = |listener: ListenerConfig| Served {
            at: listener.bind.iter().cloned().zip(bound.by_ref()).collect(),
            listener,
        };
        self.config.listeners.into_iter().map(served).collect()
    }

    /// What is served, with the rest of the configuration.
    fn of(all: Vec<Served>, config: Config) -> Self {
        let mut in_force = Self {
            config,
            bound: Vec::new(),
        };
        for Served { mut listener, at } in all {
            let bound;
            (listener.bind, bound) = at.into_iter().unzip();
            in_force.config.listeners.push(listener);
            in_force.bound.extend::<Vec<Bind>>(bound);
        }
        in_force
    }
}

impl Served {
    fn nowhere(listener: ListenerConfig) -> Self {
        Self {
            listener,
            at: Vec::new(),
        }
    }

    /// Closes the addresses that are not among `wanted`; what is left, and those.
    fn without_others<S: Sys>(
        self,
        wanted: &[config::Bind],
        reactor: &mut Reactor<S>,
    ) -> (Self, Vec<Bound>) {
        let mut wanted = wanted.to_vec();
        let (at, gone): (Vec<_>, _) = self.at.into_iter().partition(|(bind, _)| {
            let place = wanted.iter().position(|wanted| wanted == bind);
            place.map(|place| wanted.swap_remove(place)).is_some()
        });
        let listener = self.listener;
        close(reactor, &listener, &gone);
        (Self { listener, at }, gone)
    }

    /// Serves as `listener` says from now on. Where that fails it serves as before, and has the
    /// addresses again that it was to lose.
    fn become_like<S: Sys>(
        mut self,
        mut listener: ListenerConfig,
        gone: &[Bound],
        shown_changed: bool,
        reactor: &mut Reactor<S>,
        all: &[ListenerConfig],
    ) -> Self {
        if listener.keep(&self.listener) {
            log::warn!("{}: an old certificate stays in use", listener.name);
        }
        // Invariant: it is kept for an address that stays.
        let (bind, bound) = &self.at[0];
        if self.listener.serves_as(&listener) && !shown_changed {
            renew_certificates(reactor, &listener, bound);
        } else if let Err(error) = self.replace(&listener, reactor, all) {
            log::error!("{}", refused(&listener, bind, error));
            self.open_at(gone, reactor, all);
            return self;
        }
        self.listener = listener;
        if !self.open(reactor, all) {
            self.open_at(gone, reactor, all);
        }
        self
    }

    /// Lets another service serve the next connections or datagrams, of every address.
    fn replace<S: Sys>(
        &self,
        listener: &ListenerConfig,
        reactor: &mut Reactor<S>,
        all: &[ListenerConfig],
    ) -> io::Result<()> {
        let sockets = match listener.kind.stream() {
            Some(_) => &self.at[..1], // which stands for all
            None => &self.at[..],
        };
        for (_, bound) in sockets {
            serve_listener(reactor, listener, How::Replace(bound), all)?;
        }
        for (_, bound) in &self.at {
            log::info!("{} at {bound}: configured anew", listener.name);
        }
        Ok(())
    }

    /// Opens the addresses that it is to have and does not. Whether it has them all.
    fn open<S: Sys>(&mut self, reactor: &mut Reactor<S>, all: &[ListenerConfig]) -> bool {
        let mut missing = self.listener.bind.clone();
        for (bind, _) in &self.at {
            if let Some(place) = missing.iter().position(|wanted| wanted == bind) {
                missing.remove(place);
            }
        }
        let places = missing.into_iter().map(|bind| {
            let at = address(&bind);
            (bind, at)
        });
        self.open_at(&places.collect::<Vec<_>>(), reactor, all)
    }

    /// Opens more addresses, each at the place that stands beside it; the log says where, or why
    /// not. Whether all were opened.
    fn open_at<S: Sys>(
        &mut self,
        places: &[Bound],
        reactor: &mut Reactor<S>,
        all: &[ListenerConfig],
    ) -> bool {
        let before = self.at.len();
        for (bind, at) in places {
            let beside = self.at.first().map(|(_, bound)| bound);
            match open_address(reactor, &self.listener, beside, at, all) {
                Ok(bound) => {
                    log::info!("{}: listening on {bound}", self.listener.name);
                    self.at.push((bind.clone(), bound));
                }
                Err(error) => log::error!("{}", refused(&self.listener, bind, error)),
            }
        }
        self.at.len() == before + places.len()
    }
}

fn close<S: Sys>(reactor: &mut Reactor<S>, listener: &ListenerConfig, addresses: &[Bound]) {
    for (bind, bound) in addresses {
        match (bind, bound) {
            (config::Bind::Udp(_), Bind::Inet(address)) => reactor.unbind_datagram(*address),
            _ => reactor.unlisten(bound),
        }
        log::info!("{} at {bound}: closed", listener.name);
    }
}

/// Lets a listener that is configured as before use what its certificate files hold now.
/// Connections that are open keep what they began with.
fn renew_certificates<S: Sys>(reactor: &mut Reactor<S>, listener: &ListenerConfig, bound: &Bind) {
    match listener.kind.tls().map(TlsConfig::by_name) {
        None => {}
        Some(Ok(certificates)) => {
            reactor.set_certificates(bound, Arc::new(certificates));
            log::info!("{} at {bound}: certificates read again", listener.name);
        }
        Some(Err(error)) => log::error!("{} at {bound}: {error}", listener.name),
    }
}

/// Which of the old listeners each of the next ones is: those with the most addresses in common
/// first, and among them those that serve the same, as all may be at port 0.
fn kept(old: &[ListenerConfig], next: &[ListenerConfig]) -> Vec<Option<usize>> {
    let mut pairs = Vec::new();
    for (place, listener) in next.iter().enumerate() {
        for (index, before) in old.iter().enumerate() {
            let common = listener.common(before);
            if common > 0 {
                pairs.push((common, listener.serves_as(before), place, index));
            }
        }
    }
    pairs.sort_by_key(|(common, alike, ..)| Reverse((*common, *alike)));
    let mut kept = vec![None; next.len()];
    for (.., place, index) in pairs {
        if kept[place].is_none() && !kept.contains(&Some(index)) {
            kept[place] = Some(index);
        }
    }
    kept
}

/// Whether a page that shows them all shows the same, in whatever order.
fn look_alike(one: &[ListenerConfig], other: &[ListenerConfig]) -> bool {
    let shown = |listeners: &[ListenerConfig]| {
        let all = config::addresses(listeners);
        let mut rows: Vec<_> = all.map(|(l, at)| (l.kind.name(), at.to_string())).collect();
        rows.sort();
        rows
    };
    shown(one) == shown(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;
    use crate::metrics::ListenerMetrics;
    use crate::reactor::Turn;
    use crate::serve::open;
    use crate::sys::sim::actor::{Actor, Hands};
    use crate::sys::sim::talker::{Ending, Script, Talker};
    use crate::sys::sim::{ActorId, Sim};
    use crate::sys::{Batch, Signal};
    use std::path::Path;
    use std::time::Duration;

    fn parse(text: &str) -> Config {
        Config::parse(text, Path::new("x.toml"), &Overrides::default()).expect("a configuration")
    }

    /// A listener that is served, and the configuration in force.
    struct Bench {
        reactor: Reactor<Sim>,
        in_force: Option<InForce>,
    }

    impl Bench {
        fn new(text: &str) -> Self {
            let config = parse(text);
            let (reactor, bound) = open(Sim::new(1), &config).expect("the listeners open");
            Self {
                reactor,
                in_force: Some(InForce { config, bound }),
            }
        }

        /// Where each idle time-out is served, in its order: by it a test tells listeners apart.
        fn served(&self) -> Vec<(u64, String)> {
            let InForce { config, bound } = self.in_force.as_ref().expect("it is there");
            let seconds = |listener: &ListenerConfig| match &listener.kind {
                Kind::TcpEcho(config) => config.idle_timeout.as_secs(),
                _ => 0,
            };
            let mut served: Vec<_> = config::addresses(&config.listeners)
                .zip(bound)
                .map(|((listener, _), bound)| (seconds(listener), bound.to_string()))
                .collect();
            served.sort();
            served
        }

        /// A client of the echo at a port, which says `abc`.
        fn client(&mut self, port: u16, ending: Ending, after: Duration) -> ActorId {
            let to = Bind::Inet(([127, 0, 0, 1], port).into());
            let script = Script {
                question: b"abc".to_vec(),
                ending,
                any_answer: true,
                ..Script::new(&to)
            };
            let sim = self.reactor.sys_mut();
            sim.enter(Talker::new(script), after)
        }

        /// What is counted at a port.
        fn counted(&mut self, port: u16, what: fn(&ListenerMetrics) -> u64) -> u64 {
            let address = format!("127.0.0.1:{port}");
            let mut all = self.reactor.metrics().listeners.iter();
            all.find(|(_, l)| l.address == address)
                .map_or(0, |(_, l)| what(l))
        }

        fn elapsed(&mut self) -> Duration {
            self.reactor.sys_mut().world().clock.elapsed()
        }

        fn turn_until(&mut self, so: impl Fn(&mut Self) -> bool) {
            for _ in 0..100_000 {
                if so(self) {
                    return;
                }
                assert_eq!(self.reactor.turn().expect("a turn"), Turn::Continue);
            }
            panic!("it does not come to pass");
        }

        fn reload(&mut self, text: &str) -> Vec<(u64, String)> {
            let was = self.in_force.take().expect("it is there");
            self.in_force = Some(reload(&mut self.reactor, was, parse(text)));
            self.served()
        }
    }

    fn echo(bind: &str, seconds: u64) -> String {
        format!("[[listener]]\nkind = 'tcp-echo'\nbind = '{bind}'\nidle_timeout = '{seconds}s'\n")
    }

    #[test]
    fn listeners_at_port_0_that_nothing_tells_apart_keep_their_ports() {
        let any = |seconds: &[u64]| -> String {
            seconds.iter().map(|s| echo("127.0.0.1:0", *s)).collect()
        };
        let mut bench = Bench::new(&any(&[1, 2, 3]));
        let first = bench.served();
        let at = |seconds: u64| first[seconds as usize - 1].1.clone();
        assert_eq!(bench.reload(&any(&[3, 1, 2])), first);
        assert_eq!(bench.reload(&any(&[3, 2])), [(2, at(2)), (3, at(3))]);
        // The one that is configured otherwise takes the place that is left.
        assert_eq!(bench.reload(&any(&[4, 3])), [(3, at(3)), (4, at(2))]);
        let added = bench.reload(&any(&[5, 4, 3]));
        assert_eq!(added[..2], [(3, at(3)), (4, at(2))]);
        assert!(!first.contains(&added[2]));
    }

    #[test]
    fn what_the_engine_of_the_disk_was_begun_with_stays_until_a_restart() {
        let disk = |lines: &str| format!("{}[disk]\n{lines}", echo("127.0.0.1:7", 1));
        let mut bench = Bench::new(&disk("max_jobs = 8"));
        let in_force = |bench: &Bench| bench.in_force.as_ref().expect("one").config.limits.disk;
        let before = in_force(&bench);
        bench.reload(&disk("engine = 'inline'\nmax_jobs = 32"));
        assert_eq!(in_force(&bench), before);
        bench.reload(&disk(
            "max_jobs_per_disk = 2\nmax_waiting_jobs_per_disk = 3",
        ));
        let after = DiskLimits {
            jobs_per_disk_max: 2,
            waiting_per_disk_max: 3,
            ..before
        };
        assert_eq!(in_force(&bench), after);
    }

    /// An echo at ports of the loopback address.
    fn echo_at(ports: &[u16], seconds: u64) -> String {
        let bind: Vec<String> = ports.iter().map(|p| format!("'127.0.0.1:{p}'")).collect();
        let bind = bind.join(", ");
        format!("[[listener]]\nkind = 'tcp-echo'\nbind = [{bind}]\nidle_timeout = '{seconds}s'\n")
    }

    fn accepted(listener: &ListenerMetrics) -> u64 {
        listener.of.streams().map_or(0, |streams| streams.accepted)
    }

    fn active(listener: &ListenerMetrics) -> u64 {
        listener.of.streams().map_or(0, |streams| streams.active)
    }

    fn ended_ok(listener: &ListenerMetrics) -> u64 {
        listener.of.streams().map_or(0, |streams| streams.ended_ok)
    }

    fn at(rows: &[(u64, u16)]) -> Vec<(u64, String)> {
        let rows = rows.iter();
        rows.map(|(seconds, port)| (*seconds, format!("127.0.0.1:{port}")))
            .collect()
    }

    #[test]
    fn an_address_of_a_list_comes_and_goes_alone() {
        let mut bench = Bench::new(&echo_at(&[1, 2], 9));
        assert_eq!(bench.served(), at(&[(9, 1), (9, 2)]));
        let client = bench.client(
            2,
            Ending::WaitsForEnd(Duration::from_secs(60)),
            Duration::ZERO,
        );
        bench.turn_until(|bench| bench.counted(2, |l| l.bytes_in) == 3);
        assert_eq!(bench.reload(&echo_at(&[3, 2], 9)), at(&[(9, 2), (9, 3)]));
        assert_eq!(bench.reactor.sys_mut().open_listeners(), 2);
        assert_eq!(bench.counted(2, accepted), 1, "it was not opened anew");
        // In another order, and with another service for what comes.
        assert_eq!(bench.reload(&echo_at(&[2, 3], 8)), at(&[(8, 2), (8, 3)]));
        assert_eq!(bench.reload(&echo_at(&[3], 8)), at(&[(8, 3)]));
        // The session goes on, though its address is gone, with the service that it began with.
        assert_eq!(bench.counted(2, active), 1);
        let start = bench.elapsed();
        bench.turn_until(|bench| bench.reactor.metrics().gauges.sessions == 0);
        assert!(bench.elapsed() - start > Duration::from_secs(8));
        let client = bench.reactor.sys_mut().actor::<Talker>(client);
        assert_eq!(client.expect("it is there").received, b"ABC");
        let counted = &bench.reactor.metrics().listeners;
        assert_eq!(counted.iter().count(), 1, "the counters went with it");
    }

    #[test]
    fn the_addresses_of_a_list_share_the_places_of_their_listener() {
        let mut bench = Bench::new(&(echo_at(&[1, 2], 9) + "max_connections = 1\n"));
        for port in [1, 2] {
            bench.client(port, Ending::HalfCloses, Duration::ZERO);
        }
        let of_both = |bench: &mut Bench, what: fn(&ListenerMetrics) -> u64| {
            bench.counted(1, what) + bench.counted(2, what)
        };
        bench.turn_until(|bench| {
            assert!(of_both(bench, active) <= 1);
            of_both(bench, ended_ok) == 2
        });
    }

    #[test]
    fn a_service_that_was_replaced_outlives_the_addresses_that_it_had() {
        let mut bench = Bench::new(&echo_at(&[1, 2], 9));
        let waits = Ending::WaitsForEnd(Duration::from_secs(60));
        bench.client(1, waits, Duration::ZERO);
        bench.client(2, waits, Duration::from_secs(5));
        bench.turn_until(|bench| bench.counted(2, |l| l.bytes_in) == 3);
        bench.reload(&echo_at(&[1, 2], 8));
        bench.reload(&echo_at(&[3], 8));
        for left in [1, 0] {
            bench.turn_until(|bench| bench.reactor.metrics().gauges.sessions == left);
            // Every service that is there does something, at the place where it counts.
            let sim = bench.reactor.sys_mut();
            sim.send_signal(Signal::Reopen, Duration::ZERO);
            bench.reactor.turn().expect("a turn");
        }
        let counted = &bench.reactor.metrics().listeners;
        let left: Vec<&str> = counted.iter().map(|(_, l)| &*l.address).collect();
        assert_eq!(left, ["127.0.0.1:3"]);
    }

    /// Listens where others want to.
    struct Squatter(u16);

    impl Actor for Squatter {
        fn act(&mut self, hands: &mut Hands<'_>) {
            hands.listen(([127, 0, 0, 1], std::mem::take(&mut self.0)).into());
        }

        fn is_done(&self) -> bool {
            self.0 == 0
        }

        fn verdict(&self) -> Result<(), String> {
            Ok(())
        }
    }

    #[test]
    fn a_list_that_cannot_be_had_stays_as_it_was_and_gains_what_it_can() {
        let mut bench = Bench::new(&echo_at(&[1, 2], 9));
        let sim = bench.reactor.sys_mut();
        sim.enter(Squatter(4), Duration::ZERO);
        bench.turn_until(|bench| bench.reactor.sys_mut().actors_are_done());
        let kept = at(&[(8, 1), (8, 2), (8, 3)]);
        assert_eq!(bench.reload(&echo_at(&[2, 3, 4], 8)), kept);
        assert_eq!(bench.reload(&echo_at(&[2, 3], 8)), at(&[(8, 2), (8, 3)]));
        // A new one has what there is, and one that has nothing of its own is as it was.
        let with_new = echo_at(&[2, 3], 8) + &echo_at(&[4, 5], 7) + "name = 'new'\n";
        assert_eq!(bench.reload(&with_new), at(&[(7, 5), (8, 2), (8, 3)]));
        assert_eq!(bench.reload(&echo_at(&[4], 6)), at(&[(8, 2), (8, 3)]));
    }

    #[test]
    fn lists_of_datagrams_and_ports_that_the_kernel_picks() {
        let list = |seconds: u64| {
            "[[listener]]\nkind = 'udp-heartbeat'\nbind = ['127.0.0.1:0', '127.0.0.1:0', '*:0']\n"
                .to_owned()
                + &format!("timeout = '{seconds}s'\n")
        };
        let mut bench = Bench::new(&list(1));
        let first = bench.served();
        assert_eq!(first.len(), 3);
        assert_eq!(bench.reload(&list(1)), first);
        assert_eq!(bench.reload(&list(2)), first);
        let fewer = list(2).replace("'127.0.0.1:0', ", "");
        let left = bench.reload(&fewer);
        assert!(left.len() == 1 && first.contains(&left[0]), "{left:?}");
        assert_eq!(bench.reactor.metrics().listeners.len(), 1);
    }

    #[test]
    fn two_listeners_may_change_places() {
        let named =
            |name: &str, at: &str, seconds| echo(at, seconds) + &format!("name = '{name}'\n");
        let (here, there) = ("127.0.0.1:7", "127.0.0.1:8");
        let served = |a: u64, b: u64| vec![(a, here.to_owned()), (b, there.to_owned())];
        let mut bench = Bench::new(&(named("a", here, 1) + &named("b", there, 2)));
        assert_eq!(bench.served(), served(1, 2));
        let mut swapped = bench.reload(&(named("a", there, 1) + &named("b", here, 2)));
        swapped.sort_by_key(|(_, at)| at.clone());
        assert_eq!(swapped, served(2, 1));
    }

    #[test]
    fn addresses_that_come_and_go_leave_no_counters_behind() {
        let datagrams =
            |port: u16| format!("[[listener]]\nkind = 'udp-echo'\nbind = '127.0.0.1:{port}'\n");
        let both = |port: u16| echo(&format!("127.0.0.1:{port}"), 1) + &datagrams(port);
        let mut bench = Bench::new(&both(1000));
        for port in 1001..1100 {
            bench.reload(&both(port));
            let listeners = &bench.reactor.metrics().listeners;
            let address = format!("127.0.0.1:{port}");
            assert_eq!(listeners.len(), 2);
            assert!(listeners.iter().all(|(_, l)| l.address == address));
            assert!(listeners.capacity() <= 8);
        }
    }

    /// Sends a flood at once.
    struct Flood(usize);

    impl Actor for Flood {
        fn act(&mut self, hands: &mut Hands<'_>) {
            let own = hands.bind(([127, 0, 0, 1], 0).into());
            let own = own.expect("a free port");
            for _ in 0..std::mem::take(&mut self.0) {
                hands.send_to(own, ([127, 0, 0, 1], 7).into(), b"x");
            }
        }

        fn is_done(&self) -> bool {
            self.0 == 0
        }

        fn verdict(&self) -> Result<(), String> {
            Ok(())
        }
    }

    #[test]
    fn a_flooded_socket_gives_way_after_some_batches() {
        let flood = "[[listener]]\nkind = 'udp-echo'\nbind = '127.0.0.1:7'\n\
                     [limits]\ndatagram_batches = 2\n";
        let mut bench = Bench::new(flood);
        let sim = bench.reactor.sys_mut();
        sim.shape_network(Duration::ZERO, 1 << 20);
        sim.enter(Flood(200), Duration::ZERO);
        let mut received = vec![0];
        while received.last() != Some(&200) {
            bench.reactor.turn().expect("a turn");
            let counted = &bench.reactor.metrics().listeners[0];
            received.push(counted.of.datagrams().map_or(0, |counted| counted.received));
        }
        received.dedup();
        assert_eq!(received, [0, 2 * Batch::SLOTS as u64, 200]);
    }

    #[test]
    fn told_to_read_again_and_to_end_at_once_it_ends() {
        let mut bench = Bench::new(&echo("127.0.0.1:7", 1));
        let to = Bind::Inet(([127, 0, 0, 1], 7).into());
        // A client that does not read, so that there is something left to wait for.
        bench.reactor.sys_mut().enter(
            Talker::new(Script {
                question: vec![b'x'; 10 << 20],
                ending: Ending::Stuffed(Duration::from_secs(60)),
                ..Script::new(&to)
            }),
            Duration::ZERO,
        );
        while bench.reactor.metrics().listeners[0].bytes_in < 1 << 16 {
            assert_eq!(bench.reactor.turn().expect("a turn"), Turn::Continue);
        }
        for signal in [Signal::Reload, Signal::Terminate] {
            bench.reactor.sys_mut().send_signal(signal, Duration::ZERO);
        }
        let mut turns = (0..100_000).map(|_| bench.reactor.turn().expect("a turn"));
        assert_eq!(turns.find(|turn| *turn != Turn::Continue), Some(Turn::Stop));
    }
}
