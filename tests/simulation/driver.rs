//! One simulation: builds the world of a seed, turns the reactor until everybody is done, and
//! checks what must hold whatever was simulated.
//!
//! What every run checks:
//! 1. Each actor is content (its own oracle).
//! 2. The reactor never waits for ever while somebody waits for it, and never turns in circles.
//! 3. Told to end, it stops listening at once and is over within its time.
//! 4. At its end nothing is open: no session, socket, file or page.
//! 5. The reactor and the kernel agree on the number of jobs that are under way. No ended session
//!    has a claim to one, and nothing is left to be changed on a disk unless the time for it is
//!    over.
//! 6. Nothing is under way in a store of responses when nobody asks and its disk rests.
//! 7. Every event for a session that had ended was recognised.
//! 8. No more commands run at once than may.
//!
//! A scenario is one file with a type that implements [`Scenario`], and a line in [`scenarios`].

use std::any::Any;
use std::fmt;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use netlab_reactor::cache::store::Store;
use netlab_reactor::config::{
    Bind as ConfigBind, Config, Kind, ListenerConfig, Nameservers, Problems, ResolverConfig, RunAs,
    SandboxConfig,
};
use netlab_reactor::limits::{HookLimits, Limits};
use netlab_reactor::logging::Settings;
use netlab_reactor::metrics::{Impairment, ListenerMetrics};
use netlab_reactor::reactor::{Reactor, Turn};
use netlab_reactor::serve;
use netlab_reactor::service::Waiter;
use netlab_reactor::sys::record::Taped;
use netlab_reactor::sys::sim::Sim;
use netlab_reactor::sys::sim::faults::{Fault, Faults};
use netlab_reactor::sys::sim::rng::Rng;
use netlab_reactor::sys::sim::talker::PATIENCE;
use netlab_reactor::sys::sim::volume::Volume;
use netlab_reactor::sys::{Bind, PlantedBug, Signal, Sys};

use crate::replay::{self, Tape};

/// The hosts file: one that the machine of the test does not have, so that only the simulated disk may.
const HOSTS: &str = "/nonexistent";
/// Turns beyond which a run is taken to make no progress.
const TURNS_MAX: u64 = 300_000;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
const LAST_JOBS_TIMEOUT: Duration = Duration::from_secs(5);
/// Simulated time beyond which something waits that should not.
const TIME_MAX: Duration = Duration::from_secs(4 * PATIENCE.as_secs());

/// What every run turns on: it is recorded if it is to be.
pub(crate) type Kernel = Taped<Sim>;

/// A kind of service with the clients that put it to the test.
pub(crate) trait Scenario {
    /// Listeners of the configuration, and the files that they need.
    fn listeners(&mut self, setting: &mut Setting<'_>) -> Vec<ListenerConfig>;

    /// Listeners that no configuration has.
    fn listen(&mut self, _reactor: &mut Reactor<Kernel>) {}

    /// Who takes part. `bound` are the addresses of the listeners, in their order.
    fn cast(&mut self, sim: &mut Sim, setting: &mut Setting<'_>, bound: &[Bind]);

    /// Whether its clients come to another process, too, which finds what this one left.
    fn comes_again(&self) -> bool {
        false
    }

    /// What must hold of the disk when the process has ended, or when it died and another one has
    /// begun.
    fn check(&self, _sim: &mut Sim, _ended: ProcessEnd) -> Result<(), String> {
        Ok(())
    }
}

/// How a process came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProcessEnd {
    InGoodOrder,
    Died,
    /// It died, and what was not synced is on the disk in part.
    PowerLost,
}

/// What a scenario may know and draw while it is built.
pub(crate) struct Setting<'a> {
    pub(crate) rng: &'a mut Rng,
    /// Numbers for what was added later, so that a seed draws what it always drew.
    pub(crate) later: Rng,
    pub(crate) faults: &'a Faults,
    pub(crate) volume: &'a mut Volume,
    /// Every client finds a place at once.
    pub(crate) roomy: bool,
    /// The most that a client should send, in bytes: where everything moves by the byte, little has
    /// to move.
    pub(crate) payload_max: usize,
    listeners: Vec<ListenerConfig>,
}

impl Setting<'_> {
    /// How late a server may end a client that it should end after `span`: waiting for a place
    /// takes as long as others keep theirs.
    pub(crate) fn late(&self, span: Duration) -> Duration {
        if self.roomy {
            span + Duration::from_secs(5)
        } else {
            PATIENCE / 2
        }
    }

    /// The most that a client sends or reads at a time: not so little that the server takes it for
    /// a dead one.
    pub(crate) fn piece_max(&mut self) -> usize {
        self.rng
            .between(1 + self.payload_max / 500, self.payload_max)
    }

    /// What the listener of that name was configured to be.
    pub(crate) fn config_of(&self, name: &str) -> Kind {
        let found = self.listeners.iter().find(|listener| listener.name == name);
        found.expect("a listener of that name").kind.clone()
    }

    /// A listener of the configuration.
    pub(crate) fn listener(&self, name: &str, port: u16, kind: Kind) -> ListenerConfig {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        ListenerConfig {
            name: name.to_owned(),
            bind: vec![if kind.datagram().is_some() {
                ConfigBind::Udp(address)
            } else {
                ConfigBind::Tcp(address)
            }],
            kind,
        }
    }
}

/// What a run came to.
pub(crate) struct Outcome {
    /// Commands that were begun, and those that were killed.
    pub(crate) commands: [usize; 2],
    pub(crate) faults: Faults,
    pub(crate) turns: u64,
    pub(crate) trace: String,
}

/// Why a run failed.
pub(crate) struct Failure {
    pub(crate) what: String,
    pub(crate) trace: String,
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.trace, self.what)
    }
}

/// How to run a seed.
#[derive(Clone, Copy, Default)]
pub(crate) struct Plan {
    pub(crate) planted: Option<PlantedBug>,
    pub(crate) trace: bool,
    /// What the kernel answers is written down, and the same reactor turns once more on that.
    pub(crate) replays: bool,
    /// Nothing is drawn: for a rule that was broken once.
    pub(crate) only: Option<Only>,
}

/// This scenario alone, and these faults alone, at these rates in 1,000.
#[derive(Clone, Copy)]
pub(crate) struct Only {
    pub(crate) scenario: fn() -> Box<dyn Scenario>,
    pub(crate) faults: &'static [(Fault, u32)],
}

/// The table of scenarios: those that this seed draws.
fn scenarios(payload_max: usize, rng: &mut Rng, later: &mut Rng) -> Vec<Box<dyn Scenario>> {
    let mut chosen: Vec<Box<dyn Scenario>> = Vec::new();
    while chosen.is_empty() {
        if rng.chance(400) {
            chosen.push(Box::new(crate::echo::Echo::default()));
        }
        if rng.chance(300) {
            chosen.push(Box::new(crate::hello::HelloStream::default()));
        }
        if rng.chance(300) {
            chosen.push(Box::new(crate::datagrams::Datagrams));
        }
        if rng.chance(400) {
            chosen.push(Box::new(crate::relay::RelayScenario::default()));
        }
        if rng.chance(100) {
            chosen.push(Box::new(crate::heartbeat::Heartbeats));
        }
        if rng.chance(200) {
            chosen.push(Box::new(crate::gate::Gated::default()));
        }
        // A window of a few bytes is no place for heads with time-outs.
        if payload_max < 5_000 {
            continue;
        }
        if rng.chance(400) {
            chosen.push(Box::new(crate::upload::Uploads::default()));
        }
        if rng.chance(300) {
            chosen.push(Box::new(crate::http::WebServer::default()));
        }
        if rng.chance(300) {
            chosen.push(Box::new(crate::proxy::WebProxy));
        }
        if later.chance(250) {
            chosen.push(Box::new(crate::kept::KeptProxy::default()));
        }
    }
    if later.chance(200) {
        chosen.push(Box::new(crate::frames::Frames::default()));
    }
    chosen
}

fn limits(payload_max: usize, rng: &mut Rng) -> Limits {
    let bytes = |rng: &mut Rng| rng.between(payload_max / 50, 4 * payload_max).max(1);
    Limits {
        sessions_max: if rng.chance(700) { 1000 } else { rng.sized(8) },
        accept_batch: rng.sized(64),
        turn_bytes: bytes(rng),
        send_queue_bytes_max: bytes(rng),
        pool_bytes_max: rng.sized(16 << 20),
        page_bytes_max: if rng.chance(700) {
            1 << 30
        } else {
            rng.sized(1 << 20)
        },
        drain_timeout: DRAIN_TIMEOUT,
        last_jobs_timeout: LAST_JOBS_TIMEOUT,
        ..Limits::default()
    }
}

/// Runs one seed.
pub(crate) fn run(seed: u64, plan: Plan) -> Result<Outcome, Failure> {
    let mut rng = Rng::new(seed);
    let mut sim = Sim::new(rng.draw());
    if plan.trace {
        sim.world().trace.start();
    }
    if let Some(bug) = plan.planted {
        sim.plant(bug);
    }
    let mut faults = Faults::swarm(&mut rng);
    let payload_max = *rng.pick(&[20, 500, 5_000, 20_000, 50_000, 200_000]);
    let mut limits = limits(payload_max, &mut rng);
    let mut shares = Rng::new(!seed); // numbers of their own, so that a seed draws what it always drew
    limits.turn_work = Duration::from_nanos(shares.sized(1_000_000) as u64);
    limits.turn_work_max = Duration::from_nanos(shares.sized(10_000_000) as u64);
    let mut commands = Rng::new(seed ^ 0x686f_6f6b_7300);
    limits.hooks = HookLimits {
        running_max: commands.sized(8),
        waiting_max: commands.sized(20) - 1,
        timeout: Duration::from_millis(commands.between(100, 60_000) as u64),
    };
    if shares.chance(150) {
        faults.enable(Fault::PowerLoss, shares.sized(100) as u32);
    }
    if shares.chance(300) {
        faults.enable(Fault::DnsTruncates, shares.sized(1000) as u32);
    }
    let mut runs = Rng::new(seed ^ 0x7275_6e73);
    if runs.chance(300) {
        faults.enable(Fault::DatagramsJoined, runs.sized(1000) as u32);
    }
    let latency = Duration::from_micros(rng.sized(100_000) as u64);
    sim.shape_network(latency, rng.between(payload_max / 10, 2 * payload_max));
    let mut later = Rng::new(seed ^ 0x6361_6368_6500);
    let mut scenarios = scenarios(payload_max, &mut rng, &mut later);
    let mut sure = Rng::new(seed ^ 0x7375_7265_0000);
    if payload_max >= 5_000 && sure.chance(250) {
        scenarios.push(Box::new(crate::sure::Sure::new(sure)));
    }
    let mut groups = Rng::new(seed ^ 0x6772_6f75_7073);
    if payload_max >= 5_000 && groups.chance(150) {
        scenarios.push(Box::new(crate::group::Group::default()));
    }
    if let Some(only) = plan.only {
        scenarios = vec![(only.scenario)()];
        faults = Faults::none();
        for (fault, permille) in only.faults {
            faults.enable(*fault, *permille);
        }
    }

    let mut volume = std::mem::take(sim.volume());
    if shares.chance(300) {
        // It says what the name servers say, and is found once a name was asked for.
        volume.put(HOSTS, b"192.0.2.81 one.example\n", UNIX_EPOCH);
    }
    let mut setting = Setting {
        rng: &mut rng,
        later,
        faults: &faults,
        volume: &mut volume,
        roomy: limits.sessions_max >= 1000,
        payload_max,
        listeners: Vec::new(),
    };
    let listeners: Vec<Vec<ListenerConfig>> = scenarios
        .iter_mut()
        .map(|scenario| scenario.listeners(&mut setting))
        .collect();
    let config = Config {
        resolver: ResolverConfig {
            nameservers: Nameservers::Listed(crate::dns::SERVERS.to_vec()),
            hosts: PathBuf::from(HOSTS),
            ..ResolverConfig::default()
        },
        limits,
        listeners: listeners.concat(),
        remarks: Problems::default(),
        log: Settings::default(),
        run_as: RunAs::default(),
        sandbox: SandboxConfig::default(),
        files: Vec::new(),
    };
    setting.listeners.clone_from(&config.listeners);
    *sim.volume() = std::mem::take(setting.volume);
    let (kernel, tape) = match plan.replays {
        true => replay::recorded(sim, plan.planted),
        false => (Taped::unrecorded(sim), Tape::default()),
    };
    let (mut run, bound) = Run::open(kernel, &config).map_err(|what| Failure {
        what: format!("seed {seed}: {what}"),
        trace: String::new(),
    })?;
    // A server that cannot start has nothing to simulate.
    run.sim().world().faults = faults.clone();
    let mut bound = &bound[..];
    for (scenario, listeners) in scenarios.iter_mut().zip(&listeners) {
        let (own, rest) = bound.split_at(listeners.len());
        bound = rest;
        scenario.listen(&mut run.reactor);
        scenario.cast(run.sim(), &mut setting, own);
    }
    run.ends_early = setting.rng.chance(200);
    if run.ends_early {
        let after = Duration::from_micros(setting.rng.sized(5_000_000) as u64);
        run.sim().send_signal(Signal::Terminate, after);
    }
    if setting.rng.chance(200) {
        let after = Duration::from_micros(setting.rng.sized(5_000_000) as u64);
        run.sim().send_signal(Signal::Reload, after);
    }

    // An assertion of the reactor's own is a finding like any other.
    let result = catch_unwind(AssertUnwindSafe(|| {
        run.turn_until_over().and_then(|()| run.check())
    }))
    .unwrap_or_else(|panic| Err(text(panic.as_ref())));
    let Run {
        mut reactor, turns, ..
    } = run;
    let counted = replay::counted(&mut reactor);
    let mut kernel = reactor.into_sys();
    let recorded = kernel.end(&counted);
    let mut sim = kernel.into_kernel().expect("a kernel");
    let trace = sim.world().trace.to_string();
    let fail = |what| Failure {
        what: format!("seed {seed}: {what}"),
        trace: trace.clone(),
    };
    result.map_err(fail)?;
    if plan.replays {
        recorded.expect("it is written");
        replay::replay(&tape, &config, &mut scenarios).map_err(fail)?;
    }
    let (at_once, may) = (sim.programs().at_once_max, config.limits.hooks.running_max);
    if at_once > may {
        return Err(fail(format!("{at_once} commands ran at once, {may} may")));
    }
    let open_files = sim.volume().open_files();
    if !open_files.is_empty() && !sim.volume().is_crashed() {
        return Err(fail(format!("files left open: {open_files:?}")));
    }
    let ended = match (sim.volume().is_crashed(), sim.volume().has_lost_power()) {
        (false, _) => ProcessEnd::InGoodOrder,
        (true, false) => ProcessEnd::Died,
        (true, true) => ProcessEnd::PowerLost,
    };
    if ended != ProcessEnd::InGoodOrder {
        restart(&mut sim, &config).map_err(fail)?;
    }
    // Here every process is of the same boot: what the power failed for would be believed.
    if ended != ProcessEnd::PowerLost && scenarios.iter().any(|scenario| scenario.comes_again()) {
        again(
            &mut sim,
            &config,
            (&mut scenarios, &listeners),
            &mut setting,
        )
        .map_err(fail)?;
    }
    for scenario in &scenarios {
        scenario.check(&mut sim, ended).map_err(fail)?;
    }
    Ok(Outcome {
        commands: [sim.programs().begun.len(), sim.programs().killed],
        faults: sim.world().faults.clone(),
        turns,
        trace,
    })
}

/// Another process begins on the disk of one that died, and ends at once.
fn restart(sim: &mut Sim, config: &Config) -> Result<(), String> {
    let mut next = Sim::new(0);
    *next.volume() = sim.take_volume();
    let (mut reactor, _) =
        serve::open(next, config).map_err(|error| format!("restart: {error}"))?;
    reactor.drain();
    while reactor
        .turn()
        .map_err(|error| format!("restart: {error}"))?
        == Turn::Continue
    {}
    *sim.volume() = reactor.into_sys().take_volume();
    Ok(())
}

/// Another process serves on the disk of one that ended, and nothing goes wrong any more: for those
/// scenarios whose clients come again.
fn again(
    sim: &mut Sim,
    config: &Config,
    (scenarios, listeners): (&mut [Box<dyn Scenario>], &[Vec<ListenerConfig>]),
    setting: &mut Setting<'_>,
) -> Result<(), String> {
    let mut next = Sim::new(setting.later.draw());
    *next.volume() = sim.take_volume();
    let next = Taped::unrecorded(next);
    let (mut run, bound) = Run::open(next, config).map_err(|what| format!("again: {what}"))?;
    let mut bound = &bound[..];
    for (scenario, listeners) in scenarios.iter_mut().zip(listeners) {
        let (own, rest) = bound.split_at(listeners.len());
        bound = rest;
        if scenario.comes_again() {
            scenario.cast(run.sim(), setting, own);
        }
    }
    let ended = run.turn_until_over().and_then(|()| run.check());
    *sim.volume() = run.sim().take_volume();
    ended.map_err(|what| format!("again: {what}"))
}

/// The same for its clients, but each connection from now on is served by another service.
pub(crate) fn altered(config: &Config) -> Config {
    let mut next = config.clone();
    for listener in &mut next.listeners {
        let idle_timeout = match &mut listener.kind {
            Kind::TcpEcho(config) => &mut config.idle_timeout,
            Kind::FrameEcho(config) => &mut config.idle_timeout,
            Kind::Hello(config) => &mut config.idle_timeout,
            Kind::Http(config) => &mut config.idle_timeout,
            Kind::Proxy(config) => &mut config.http.idle_timeout,
            Kind::Upload(config) => &mut config.idle_timeout,
            Kind::Admin(config) => &mut config.http.idle_timeout,
            Kind::UdpEcho(_) | Kind::UdpPing(_) | Kind::UdpHeartbeat(_) => continue,
        };
        *idle_timeout += Duration::from_millis(1);
    }
    next
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panic: {}", text.unwrap_or("without a text"))
}

struct Run {
    reactor: Reactor<Kernel>,
    /// What is in force; always there between two turns.
    in_force: Option<serve::InForce>,
    /// It is told to end while clients are there, and once more when they have gone: then what is
    /// under way on a disk may be cut short.
    ends_early: bool,
    /// Stale events that the reactor was told.
    stale_told: u64,
    turns: u64,
}

impl Run {
    /// A server that has begun, and the servers of names that it asks.
    fn open(kernel: Kernel, config: &Config) -> Result<(Self, Vec<Bind>), String> {
        let opened = serve::open(kernel, config);
        let (reactor, bound) = opened.map_err(|error| error.to_string())?;
        let mut run = Self {
            reactor,
            in_force: Some(serve::InForce {
                config: config.clone(),
                bound: bound.clone(),
            }),
            ends_early: false,
            stale_told: 0,
            turns: 0,
        };
        for server in crate::dns::SERVERS {
            let server = crate::dns::NameServer::new(server);
            run.sim().enter(server, Duration::ZERO);
        }
        Ok((run, bound))
    }

    fn sim(&mut self) -> &mut Sim {
        let kernel = self.reactor.sys_mut().kernel();
        kernel.expect("a kernel that is simulated")
    }

    fn elapsed(&mut self) -> Duration {
        self.sim().world().clock.elapsed()
    }

    fn turn_until_over(&mut self) -> Result<(), String> {
        let mut draining_since = None;
        let mut told = false;
        loop {
            self.turns += 1;
            match self.reactor.turn() {
                Ok(Turn::Stop) => break,
                Ok(Turn::Continue) => {}
                Ok(Turn::Reload) => {
                    let was = self.in_force.take().expect("it is there between two turns");
                    let next = altered(&was.config);
                    self.in_force = Some(serve::reload(&mut self.reactor, was, next));
                }
                Err(_) if self.sim().volume().is_crashed() => return Ok(()),
                Err(error) => return Err(error.to_string()),
            }
            let (under_way, known) = (
                self.sim().jobs_under_way(),
                self.reactor.jobs().under_way().1,
            );
            if known != under_way {
                return Err(format!("{under_way} jobs are under way, not {known}"));
            }
            self.check_stores()?;
            let elapsed = self.elapsed();
            if self.turns > TURNS_MAX || elapsed > TIME_MAX {
                return Err(format!("no end after {} turns and {elapsed:?}", self.turns));
            }
            // Who is told twice cuts what it still does on its disks.
            if self.sim().actors_are_done() && !self.sim().is_draining() && !told {
                told = true;
                self.sim().send_signal(Signal::Terminate, Duration::ZERO);
            }
            if self.sim().is_draining() {
                let since = *draining_since.get_or_insert(elapsed);
                if self.sim().open_listeners() > 0 {
                    return Err("it listens while it drains".to_owned());
                }
                self.check_drain(elapsed.saturating_sub(since))?;
            }
        }
        self.stale_told = self.sim().stale_told();
        let ended = self.elapsed();
        let had_time = |since| ended < since + LAST_JOBS_TIMEOUT;
        let is_cut = self.ends_early || !draining_since.is_some_and(had_time);
        self.check_jobs_left(is_cut)?;
        // Who is still there learns that the process has gone.
        let mut events = Vec::new();
        while !self.sim().actors_are_done() && self.elapsed() < TIME_MAX {
            events.clear();
            if self.sim().poll(&mut events, None).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Where nobody asks and the disk has nothing to do, nothing is under way in a store.
    fn check_stores(&mut self) -> Result<(), String> {
        let is_quiet = self.reactor.metrics().gauges.sessions == 0 && self.reactor.jobs().is_idle();
        let left = self.reactor.stores().iter().find_map(Store::left_over);
        match left {
            Some(left) if is_quiet => Err(format!("left in a store: {left}")),
            _ => Ok(()),
        }
    }

    /// Its sessions end within their time, and what is to be done on a disk in another one.
    fn check_drain(&mut self, took: Duration) -> Result<(), String> {
        let late = Duration::from_millis(100);
        let sessions = self.reactor.metrics().gauges.sessions;
        if took > DRAIN_TIMEOUT + late && sessions > 0
            || took > DRAIN_TIMEOUT + LAST_JOBS_TIMEOUT + late
        {
            return Err("it drains for longer than it may".to_owned());
        }
        Ok(())
    }

    /// What is left of jobs at the end. A question that was asked of a disk may have no answer yet;
    /// what was to be changed is done, unless it `is_cut` short.
    fn check_jobs_left(&mut self, is_cut: bool) -> Result<(), String> {
        let jobs = self.reactor.jobs();
        if let Some(waiter) = jobs.waiters().find(|waiter| *waiter != Waiter::Service) {
            return Err(format!("{waiter:?} has ended and a claim to a job"));
        }
        if jobs.has_commands() && !is_cut {
            return Err("something is left to be changed on a disk".to_owned());
        }
        self.sim().drop_jobs();
        Ok(())
    }

    fn check(&mut self) -> Result<(), String> {
        if self.sim().volume().is_crashed() {
            return Ok(());
        }
        for actor in self.sim().actors() {
            actor.verdict()?;
        }
        let stale_told = self.stale_told;
        let metrics = self.reactor.metrics();
        for (_, listener) in &metrics.listeners {
            check_books(listener)?;
        }
        let (gauges, stale) = (metrics.gauges, metrics.events_stale);
        let active: u64 = metrics
            .listeners
            .iter()
            .filter_map(|(_, listener)| Some(listener.of.streams()?.active))
            .sum();
        if gauges.sessions != 0 || gauges.sockets != 0 || gauges.pages_held != 0 || active != 0 {
            return Err(format!("left at the end: {gauges:?}, {active} active"));
        }
        let counted = gauges.page_bytes_held + gauges.bytes_held_beside;
        if counted != 0 {
            return Err(format!("{counted} bytes are counted and not there"));
        }
        if stale < stale_told {
            return Err(format!(
                "{stale_told} stale events were told and {stale} recognised"
            ));
        }
        let left = self.sim().left_open();
        if !left.is_empty() {
            return Err(format!("left open: {left:?}"));
        }
        Ok(())
    }
}

/// Every datagram that a listener received, and every answer that it made more, was sent, dropped
/// for a cause that is counted, or still waits; or it was a heartbeat that was taken in.
fn check_books(listener: &ListenerMetrics) -> Result<(), String> {
    let Some(datagrams) = listener.of.datagrams() else {
        return Ok(());
    };
    let accepted = listener
        .of
        .heartbeat()
        .map_or(0, |heartbeat| heartbeat.accepted);
    let more = listener
        .of
        .ping()
        .map_or(0, |ping| ping.impaired[Impairment::Duplicated as usize]);
    let dropped: u64 = datagrams.dropped.iter().sum();
    let (taken, gone) = (
        datagrams.received + more,
        datagrams.sent + accepted + dropped,
    );
    match taken == gone + datagrams.waiting {
        true => Ok(()),
        false => Err(format!(
            "{listener}: {taken} is not what became of them: {datagrams:?}"
        )),
    }
}

/// Which faults were enabled in any run, and how often each happened.
#[derive(Default)]
pub(crate) struct Coverage {
    counts: Vec<(bool, u64)>,
}

impl Coverage {
    pub(crate) fn add(&mut self, faults: &Faults) {
        self.counts.resize(Fault::ALL.len(), (false, 0));
        for (count, fault) in self.counts.iter_mut().zip(Fault::ALL) {
            count.0 |= faults.is_enabled(fault);
            count.1 += faults.hits(fault);
        }
    }

    /// Faults that could have happened and never did.
    pub(crate) fn missed(&self) -> Vec<Fault> {
        let missed =
            |(fault, count): (Fault, &(bool, u64))| (count.0 && count.1 == 0).then_some(fault);
        Fault::ALL
            .into_iter()
            .zip(&self.counts)
            .filter_map(missed)
            .collect()
    }
}
