//! The subcommand `simulate`: services and clients in a world that a seed makes.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::{panic, process};

use clap::Args;
use netlab_reactor::serve::simulate::{Came, Mishaps, Service, Simulation};
use netlab_reactor::sys::PlantedBug;

use super::{Failure, replay};

/// The flags of `simulate`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  netlab-reactor simulate --seed 7 --faults swarm
  netlab-reactor simulate --service tcp-echo --trace echo.json
  netlab-reactor simulate --planted half-close-drops --record bug.rec
  netlab-reactor replay bug.rec --step

Nothing of it is real: no socket, no file but those that are written, no time
that passes. The same seed and flags are the same simulation everywhere.

Exit codes: 0 every client was served as it should be, 1 one was not.")]
pub(crate) struct SimulateArgs {
    /// Everything follows from it
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// A kind of service, which may be given several times; all of them by default
    #[arg(long, value_name = "KIND", value_parser = service)]
    service: Vec<Service>,
    /// The clients of each
    #[arg(long, value_name = "N", default_value_t = 3)]
    clients: u16,
    /// What goes wrong: none, swarm (some, as the seed has it), or a list such as
    /// short-read=300,reset=100, in 1,000 occasions
    #[arg(long, value_name = "FAULTS", default_value = "none")]
    faults: Mishaps,
    /// A bug that the reactor is to have
    #[arg(long, value_name = "NAME", value_parser = planted)]
    planted: Option<PlantedBug>,
    /// Write down what the kernel answers, for `replay`
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Write trace events, as ui.perfetto.dev opens them, to this file
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
}

fn service(text: &str) -> Result<Service, String> {
    let found = Service::ALL.into_iter().find(|one| one.name() == text);
    let names = || Service::ALL.map(Service::name).join(", ");
    found.ok_or_else(|| format!("expected one of {}", names()))
}

fn planted(text: &str) -> Result<PlantedBug, String> {
    let found = PlantedBug::ALL.into_iter().find(|bug| bug.name() == text);
    let names = || PlantedBug::ALL.map(PlantedBug::name).join(", ");
    found.ok_or_else(|| format!("expected one of {}", names()))
}

/// Runs `simulate`. Whether everybody was content.
pub(crate) fn run(args: &SimulateArgs) -> Result<bool, Failure> {
    let simulation = Simulation {
        seed: args.seed,
        services: match args.service.is_empty() {
            true => Service::ALL.to_vec(),
            false => args.service.clone(),
        },
        clients: args.clients.into(),
        mishaps: args.faults.clone(),
        planted: args.planted,
    };
    let failed = |error: &dyn std::fmt::Display| Failure::Unavailable(error.to_string());
    // A trace is made of a record.
    let (kept, folder);
    let record: &Path = match (&args.record, &args.trace) {
        (Some(path), _) => path,
        (None, Some(trace)) => {
            folder = trace.with_extension("rec.part");
            kept = Removed(folder);
            &kept.0
        }
        (None, None) => Path::new("/dev/null"),
    };
    let to = io::BufWriter::new(replay::create(record)?);
    if cfg!(panic = "abort") {
        tell_at_panic(&simulation, args, record);
    }
    let came = simulation.run(to).map_err(|error| failed(&error))?;
    if let Some(path) = &args.trace {
        replay::trace(record, path)?;
    }
    tell(&simulation, &came).map_err(Failure::Output)?;
    Ok(came.complaints.is_empty())
}

/// Where a panic ends the process at once, what there is to tell of the simulation is told just before
/// that: the turns before it are in the record by then.
fn tell_at_panic(simulation: &Simulation, args: &SimulateArgs, record: &Path) {
    let (simulation, args) = (simulation.to_string(), args.clone());
    let record = record.to_owned();
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |about| {
        before(about);
        if let Some(path) = &args.trace {
            // The record is cut, which is an error; up to there it is a trace.
            let _ = replay::trace(&record, path);
            if args.record.is_none() {
                let _ = std::fs::remove_file(&record);
            }
        }
        let why = about.payload_as_str().unwrap_or("of an unknown kind");
        let _ = writeln!(io::stdout(), "{simulation}\nwrong: a panic: {why}");
        process::exit(1);
    }));
}

/// A file that is removed in the end.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn tell(simulation: &Simulation, came: &Came) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let (clients, turns, took) = (came.clients, came.turns, came.took);
    writeln!(out, "{simulation}")?;
    let plural = if clients == 1 { "" } else { "s" };
    writeln!(
        out,
        "{clients} client{plural}, {turns} turns, {took:.3?} in there"
    )?;
    for complaint in &came.complaints {
        writeln!(out, "wrong: {complaint}")?;
    }
    if came.complaints.is_empty() {
        writeln!(out, "all were served as they should be")?;
    }
    out.flush()
}
