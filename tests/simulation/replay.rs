//! Record and replay in the simulation: whatever the simulated kernel did, the same reactor does the
//! same once more on what was written down of it.

use std::io::{self, Cursor, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use netlab_reactor::config::Config;
use netlab_reactor::reactor::{Reactor, Turn};
use netlab_reactor::serve;
use netlab_reactor::sys::record::{Options, Over, Start, Taped};
use netlab_reactor::sys::sim::Sim;
use netlab_reactor::sys::{PlantedBug, Sys};

use crate::driver::{Kernel, Plan, Scenario, altered, run};

/// Seeds that are recorded and replayed in a plain `cargo test`; `SIM_SEEDS` widens it.
const SEEDS: u64 = if cfg!(debug_assertions) { 100 } else { 1000 };

/// A file in memory.
#[derive(Clone, Default)]
pub(crate) struct Tape(Arc<Mutex<Vec<u8>>>);

impl Write for Tape {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A simulated kernel that is recorded, and where to.
pub(crate) fn recorded(sim: Sim, planted: Option<PlantedBug>) -> (Kernel, Tape) {
    let tape = Tape::default();
    let place = planted.and_then(|bug| PlantedBug::ALL.iter().position(|one| *one == bug));
    let options = Options {
        start: Start {
            planted: place.map(|place| place as u8),
            ..Start::new(SystemTime::UNIX_EPOCH)
        },
        bytes_max: u64::MAX,
        waits: true,
    };
    let kernel = Taped::record(sim, tape.clone(), &options).expect("it begins");
    (kernel, tape)
}

/// Everything that a process counted.
pub(crate) fn counted<S: Sys>(reactor: &mut Reactor<S>) -> String {
    let all = format!("{:#?}", reactor.metrics());
    // What was answered in the very last turn stands there with its moment, which is of another clock
    // in a replay.
    let is_moment = |line: &&str| line.contains("tv_sec: ") || line.contains("tv_nsec: ");
    all.lines()
        .filter(|line| !is_moment(line))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The same reactor and services on what was written down.
pub(crate) fn replay(
    tape: &Tape,
    config: &Config,
    scenarios: &mut [Box<dyn Scenario>],
) -> Result<(), String> {
    let written = std::mem::take(&mut *tape.0.lock().expect("nobody panicked"));
    let (kernel, _) =
        Taped::<Sim>::replay(Cursor::new(written)).map_err(|error| format!("replay: {error}"))?;
    let (mut reactor, bound) =
        serve::open(kernel, config).map_err(|error| format!("replay: {error}"))?;
    for scenario in scenarios {
        scenario.listen(&mut reactor);
    }
    let mut in_force = serve::InForce {
        config: config.clone(),
        bound,
    };
    loop {
        match reactor.turn() {
            Ok(Turn::Continue) => {}
            Ok(Turn::Reload) => {
                let next = altered(&in_force.config);
                in_force = serve::reload(&mut reactor, in_force, next);
            }
            // The process died, or it is another one now: it is told below.
            Ok(Turn::Stop) | Err(_) => break,
        }
    }
    let now = counted(&mut reactor);
    let mut kernel = reactor.into_sys();
    kernel.end("").expect("nothing is written");
    match kernel.over() {
        Some(Over::Ended(then)) if *then == now => Ok(()),
        Some(Over::Ended(then)) => {
            let differs = then
                .lines()
                .zip(now.lines())
                .find(|(then, now)| then != now);
            Err(format!("replay: counted then and now: {differs:?}"))
        }
        Some(over) => Err(format!("replay: {over}")),
        None => Err("replay: it has no end".to_owned()),
    }
}

#[test]
fn what_was_recorded_is_replayed_to_the_byte() {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let seeds = match number("SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIM_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        let plan = Plan {
            replays: true,
            ..Plan::default()
        };
        if let Err(failure) = run(seed, plan) {
            panic!("{failure:?}; SIM_SEED={seed} repeats it");
        }
    }
}
