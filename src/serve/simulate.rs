//! Real services on a simulated kernel, with a few clients: everything that happens follows from a
//! seed, takes no time, and can be recorded as what a real kernel did.
//!
//! What `tests/simulation` does by the thousand, on show: one seed, a few kinds of service.

use std::any::Any;
use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use super::ServeError;
use super::server::{Server, Source};
use crate::surroundings::{Answer, Asked, Kept, Surroundings};
use crate::sys::record::{Options, Start, Taped};
use crate::sys::sim::Sim;
use crate::sys::sim::asker::Asker;
use crate::sys::sim::faults::{Fault, Faults};
use crate::sys::sim::rng::Rng;
use crate::sys::sim::talker::{Ending, PATIENCE, Script, Talker};
use crate::sys::{Bind, PlantedBug, Signal, Sys};

/// A kind of service that can be simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Echo over TCP.
    TcpEcho,
    /// A web server with two files.
    Http,
    /// Uploads.
    Upload,
    /// Ping over UDP.
    UdpPing,
}

impl Service {
    /// All of them.
    pub const ALL: [Service; 4] = [
        Service::TcpEcho,
        Service::Http,
        Service::Upload,
        Service::UdpPing,
    ];

    /// Its name, as the configuration has it.
    pub fn name(self) -> &'static str {
        match self {
            Service::TcpEcho => "tcp-echo",
            Service::Http => "http",
            Service::Upload => "upload",
            Service::UdpPing => "udp-ping",
        }
    }

    fn address(self) -> SocketAddr {
        let port = match self {
            Service::TcpEcho | Service::UdpPing => 12000,
            Service::Http => 6789,
            Service::Upload => 9001,
        };
        ([127, 0, 0, 1], port).into()
    }

    fn listener(self) -> String {
        let more = match self {
            Service::TcpEcho => "",
            Service::Http => "root = \"/site\"\n",
            Service::Upload => "dir = \"/uploads\"\nhandshake = \"none\"\n",
            Service::UdpPing => "loss = 0.0\n",
        };
        let (name, bind) = (self.name(), self.address());
        format!("[[listener]]\nkind = \"{name}\"\nbind = \"{bind}\"\n{more}\n")
    }
}

/// Which faults the kernel and the network have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mishaps {
    /// None.
    #[default]
    None,
    /// Some, as the seed has it.
    Swarm,
    /// These, each in so many of 1,000 occasions.
    These(Vec<(Fault, u32)>),
}

impl std::str::FromStr for Mishaps {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let one = |text: &str| {
            let (name, permille) = text.split_once('=').unwrap_or((text, "100"));
            let fault = Fault::ALL.into_iter().find(|fault| fault.name() == name);
            let all = || Fault::ALL.map(Fault::name).join(", ");
            let fault = fault
                .ok_or_else(|| format!("{name:?}; expected none, swarm, or some of {}", all()))?;
            let number = permille.parse().ok().filter(|permille| *permille <= 1000);
            let number =
                number.ok_or_else(|| format!("{permille:?}; expected 0 to 1000 behind {name}="))?;
            Ok((fault, number))
        };
        match text {
            "none" => Ok(Mishaps::None),
            "swarm" => Ok(Mishaps::Swarm),
            list => list
                .split(',')
                .map(one)
                .collect::<Result<_, _>>()
                .map(Mishaps::These),
        }
    }
}

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Simulation {
    /// Everything follows from it.
    pub seed: u64,
    /// Which services there are.
    pub services: Vec<Service>,
    /// How many clients each has.
    pub clients: usize,
    /// What goes wrong.
    pub mishaps: Mishaps,
    /// A bug that the reactor has.
    pub planted: Option<PlantedBug>,
}

impl fmt::Display for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "simulate --seed {} --clients {}",
            self.seed, self.clients
        )?;
        for service in &self.services {
            write!(f, " --service {}", service.name())?;
        }
        match &self.mishaps {
            Mishaps::None => {}
            Mishaps::Swarm => f.write_str(" --faults swarm")?,
            Mishaps::These(these) => {
                let each = these
                    .iter()
                    .map(|(fault, rate)| format!("{}={rate}", fault.name()));
                write!(f, " --faults {}", each.collect::<Vec<_>>().join(","))?;
            }
        }
        match self.planted {
            Some(bug) => write!(f, " --planted {}", bug.name()),
            None => Ok(()),
        }
    }
}

/// What a simulation came to.
#[derive(Debug)]
pub struct Came {
    /// Turns of the loop.
    pub turns: u64,
    /// How long it was for those in it.
    pub took: Duration,
    /// Clients that took part.
    pub clients: usize,
    /// What they have to complain about, and what else is not as it should be.
    pub complaints: Vec<String>,
}

/// The file that the configuration is said to stand in.
const FILE: &str = "simulation.toml";
/// Turns beyond which it is taken to make no progress.
const TURNS_MAX: u64 = 300_000;
/// Simulated time beyond which somebody waits for ever.
const TIME_MAX: Duration = Duration::from_secs(4 * PATIENCE.as_secs());

impl Simulation {
    /// Simulates it, and records it to `to`.
    ///
    /// # Errors
    /// The services cannot begin, or the record cannot be written.
    pub fn run(&self, to: impl Write + Send + 'static) -> Result<Came, ServeError> {
        let listeners = self.services.iter().map(|service| service.listener());
        let text = format!(
            "[resolver]\nnameservers = [\"192.0.2.53\"]\nhosts = \"/hosts\"\n\n{}",
            listeners.collect::<String>()
        );
        let asked = Asked::File(FILE.into());
        let kept = Kept::from([(asked, Answer::Bytes(text.into_bytes()))]);
        let source = Source {
            file: Some(PathBuf::from(FILE)),
            ..Source::default()
        };
        let around = Surroundings::kept(kept.clone());
        let config = source.load(&around);
        let config =
            config.map_err(|error| ServeError::System(io::Error::other(error.to_string())))?;
        let sim = self.kernel();
        let planted = self.planted;
        let place = planted.and_then(|bug| PlantedBug::ALL.iter().position(|one| *one == bug));
        let options = Options {
            start: Start {
                config: source.file.clone(),
                kept,
                simulation: Some(self.to_string()),
                planted: place.map(|place| place as u8),
                ..Start::new(sim.wall())
            },
            bytes_max: u64::MAX,
            waits: true,
        };
        let sys = Taped::record(sim, to, &options).map_err(ServeError::Record)?;
        let mut server = Server::open(sys, config, source, None)?;
        server.begin();
        self.cast(sim_of(&mut server));
        let came = self.turn_until_over(&mut server);
        let counted = server.counted();
        // What was stopped already has its end.
        server.sys_mut().end(&counted).map_err(ServeError::Record)?;
        Ok(came)
    }

    fn kernel(&self) -> Sim {
        let mut rng = Rng::new(self.seed);
        let mut sim = Sim::new(rng.draw());
        if let Some(bug) = self.planted {
            sim.plant(bug);
        }
        let large: Vec<u8> = (0..50_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        sim.volume()
            .put("/site/index.html", b"<p>simulated\n", UNIX_EPOCH);
        sim.volume().put("/site/large", &large, UNIX_EPOCH);
        sim.world().faults = match &self.mishaps {
            Mishaps::None => Faults::none(),
            Mishaps::Swarm => {
                let mut faults = Faults::swarm(&mut rng);
                faults.enable(Fault::Crash, 0); // nobody begins another process here
                faults
            }
            Mishaps::These(these) => {
                let mut faults = Faults::none();
                for (fault, permille) in these {
                    faults.enable(*fault, *permille);
                }
                faults
            }
        };
        sim
    }

    /// The clients enter.
    fn cast(&self, sim: &mut Sim) {
        let mut rng = Rng::new(!self.seed);
        for service in &self.services {
            for _ in 0..self.clients {
                let after = rng.span(Duration::from_secs(1));
                match service {
                    Service::UdpPing => {
                        let asker = Asker::new(service.address(), rng.sized(20));
                        sim.enter(asker, after);
                    }
                    _ => {
                        let script = script(*service, &mut rng);
                        sim.enter(Talker::new(script), after);
                    }
                }
            }
        }
    }

    fn turn_until_over(&self, server: &mut Server<Taped<Sim>>) -> Came {
        let mut turns = 0;
        // What the simulated kernel asserts of the reactor is a complaint like any other.
        let turned = catch_unwind(AssertUnwindSafe(|| turn(server, &mut turns)));
        let mut complaints = Vec::new();
        match turned {
            Ok(Ok(())) => {}
            Ok(Err(error)) => complaints.push(error),
            Err(panic) => complaints.push(format!("a panic: {}", text_of(panic.as_ref()))),
        }
        if let Some(first) = complaints.first() {
            // The record says so; that it cannot be written is told by its end.
            let _ = server.sys_mut().stop(first);
        }
        let sim = sim_of(server);
        complaints.extend(sim.actors().filter_map(|actor| actor.verdict().err()));
        if complaints.is_empty() {
            let left = sim.left_open().into_iter();
            complaints.extend(left.map(|what| format!("left open: {what}")));
        }
        Came {
            turns,
            took: sim.world().clock.elapsed(),
            clients: sim.actors().count(),
            complaints,
        }
    }
}

/// Turns until all clients are done, and the process, which is told to end then.
fn turn(server: &mut Server<Taped<Sim>>, turns: &mut u64) -> Result<(), String> {
    let mut told = false;
    loop {
        *turns += 1;
        if !server.turn().map_err(|error| error.to_string())? {
            break;
        }
        let sim = sim_of(server);
        let elapsed = sim.world().clock.elapsed();
        if *turns > TURNS_MAX || elapsed > TIME_MAX {
            return Err(format!("no end after {turns} turns and {elapsed:?}"));
        }
        if sim.actors_are_done() && !told {
            told = true;
            sim.send_signal(Signal::Terminate, Duration::ZERO);
        }
    }
    // Who is still there learns that the process has gone.
    let (sim, mut events) = (sim_of(server), Vec::new());
    while !sim.actors_are_done() && sim.world().clock.elapsed() < TIME_MAX {
        events.clear();
        sim.poll(&mut events, None)
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn sim_of(server: &mut Server<Taped<Sim>>) -> &mut Sim {
    // Invariant: it was begun on a kernel, and is no replay.
    server.sys_mut().kernel().expect("a simulated kernel")
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("without a text")
}

/// What a client of a service over streams does.
fn script(service: Service, rng: &mut Rng) -> Script {
    let script = Script {
        send_bytes_max: rng.sized(10_000),
        receive_bytes_max: rng.sized(10_000),
        pause_max: Duration::from_millis(rng.sized(100) as u64),
        ..Script::new(&Bind::Inet(service.address()))
    };
    match service {
        Service::TcpEcho => {
            let count = rng.sized(20_000);
            let letter = |_| b"abcdefghij klmnop\n"[rng.below(18)];
            let question: Vec<u8> = (0..count).map(letter).collect();
            Script {
                answer: question.to_ascii_uppercase(),
                question,
                ..script
            }
        }
        Service::Http => {
            let path = *rng.pick(&["/", "/large", "/none"]);
            let get = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n");
            let count = rng.sized(4);
            let mut question = format!("{get}\r\n").repeat(count - 1);
            question += &format!("{get}Connection: close\r\n\r\n");
            Script {
                question: question.into_bytes(),
                any_answer: true,
                ending: Ending::WaitsForEnd(Duration::from_secs(60)),
                ..script
            }
        }
        Service::Upload | Service::UdpPing => {
            let bytes = vec![b'u'; rng.sized(30_000)];
            let header = format!("{{\"filename\": \"a.txt\", \"filesize\": {}}}", bytes.len());
            // Invariant: the header is short.
            let length = (header.len() as i32).to_le_bytes();
            Script {
                question: [&length[..], header.as_bytes(), &bytes].concat(),
                ..script
            }
        }
    }
}
