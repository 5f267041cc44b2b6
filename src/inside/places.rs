//! Where in the source it is that the loop does what a record tells: for those who read the source
//! along with it. A test looks each of them up.

use super::ring::{Call, Part, Topic, What, Why};

/// A file of the source, and a function in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its path from the root of the repository.
    pub file: &'static str,
    /// The name of the function.
    pub function: &'static str,
}

const fn at(file: &'static str, function: &'static str) -> Place {
    Place { file, function }
}

const LOOP: &str = "src/reactor/mod.rs";
const SESSION: &str = "src/reactor/session.rs";
const HALF: &str = "src/reactor/half.rs";
const DATAGRAM: &str = "src/reactor/datagram.rs";

/// The file of the service behind each kind of listener.
const SERVICES: [(&str, &str); 10] = [
    ("tcp-echo", "src/services/tcp_echo.rs"),
    ("frame-echo", "src/services/frame_echo.rs"),
    ("hello", "src/services/hello.rs"),
    ("http", "src/services/web/mod.rs"),
    ("proxy", "src/services/web/mod.rs"),
    ("admin", "src/services/web/mod.rs"),
    ("upload", "src/services/upload/mod.rs"),
    ("udp-echo", "src/services/udp_echo.rs"),
    ("udp-ping", "src/services/udp_ping.rs"),
    ("udp-heartbeat", "src/services/udp_heartbeat/mod.rs"),
];

/// Where the service of a kind of listener has this function; a service that is not ours is called
/// from `otherwise`.
fn service(kind: &str, function: &'static str, otherwise: Place) -> Place {
    let known = SERVICES.iter().find(|(name, _)| *name == kind);
    known.map_or(otherwise, |(_, file)| at(file, function))
}

/// Where it was done. `kind`: that of the listener, where it is known.
pub fn place(what: &What, kind: &str) -> Place {
    match *what {
        What::Turn { .. } | What::TurnEnded { .. } => at(LOOP, "turn"),
        What::Part(part) => of_part(part),
        What::Began { .. } => at("src/reactor/listeners.rs", "accept"),
        What::Woken(why) => why_woken(why),
        What::Pumped | What::Again => at(SESSION, "pump"),
        What::Called { call, .. } => of_call(call),
        What::Filled { .. } => at(SESSION, "fill"),
        What::Advanced { .. } => service(kind, "advance", at(SESSION, "advance")),
        What::Flushed { .. } => at(SESSION, "flush"),
        What::Parked { .. } => at(SESSION, "park"),
        What::Ended(_) => at(LOOP, "remove"),
        What::Answered { .. } => at("src/services/web/respond.rs", "respond"),
        What::Told { topic, .. } => of_topic(topic, kind),
        What::JobBegun(_) => at("src/reactor/disk.rs", "start"),
        What::JobDone { .. } => at("src/reactor/disk.rs", "finish"),
        What::Received { .. } => at(DATAGRAM, "receive"),
        What::Datagram { .. } => service(kind, "receive", at(DATAGRAM, "answer")),
        What::Dropped(_) => at(DATAGRAM, "answer"),
        What::Replied { .. } => at(DATAGRAM, "send"),
    }
}

fn of_part(part: Part) -> Place {
    let function = match part {
        Part::Note => "note",
        Part::Jobs => "finish_jobs",
        Part::Accept => "accept",
        Part::Datagrams => "serve_datagrams",
        Part::Timers => "expire",
        Part::Run => "run_queue",
        Part::End => "end_turn",
        Part::Carry => "turn",
    };
    at(LOOP, function)
}

fn why_woken(why: Why) -> Place {
    let function = match why {
        Why::Accepted => "began",
        Why::Event => "note",
        Why::Deadline => "expire",
        Why::Name => "serve_queries",
        Why::Disk => "finish_jobs",
        Why::Work => "wake_woken",
        Why::Budget => "follow_up",
        Why::Drain => "drain",
    };
    at(LOOP, function)
}

fn of_call(call: Call) -> Place {
    match call {
        Call::Register => at(SESSION, "register"),
        Call::Receive => at(HALF, "fill"),
        Call::Send | Call::SendMany | Call::SendFile | Call::SpliceOut | Call::Shutdown => {
            at(HALF, "flush")
        }
        Call::SpliceIn => at("src/reactor/relay.rs", "splice_in"),
    }
}

fn of_topic(topic: Topic, kind: &str) -> Place {
    match (topic, kind) {
        (Topic::Destination, _) => at(SESSION, "connect"),
        (Topic::File, "upload") => at("src/services/upload/receiving.rs", "header"),
        (Topic::Request, _) => at("src/services/web/mod.rs", "answer_next"),
        (Topic::File, _) => at("src/services/web/files/mod.rs", "respond"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::ring::{CameTo, End, Ring, Waits};
    use super::*;
    use std::path::Path;

    /// Something of each sort.
    fn whats() -> Vec<What> {
        let name = Ring::default().number("Idle");
        let mut all = vec![
            What::Turn { events: 1 },
            What::TurnEnded { runnable: 0 },
            What::Began {
                listener: 0,
                port: 1,
                ip: 1,
            },
            What::Pumped,
            What::Again,
            What::Filled {
                from_origin: false,
                bytes: 1,
            },
            What::Advanced {
                from: name,
                to: name,
                consumed: 1,
                queued: 1,
            },
            What::Flushed {
                to_origin: false,
                bytes: 1,
            },
            What::Parked {
                waits: Waits::Protocol,
                for_ms: 1,
            },
            What::Ended(End::Done),
            What::Answered {
                status: 200,
                bytes: 1,
            },
            What::JobBegun(name),
            What::JobDone {
                kind: name,
                is_failed: false,
            },
            What::Received {
                listener: 0,
                datagrams: 1,
                bytes: 1,
            },
            What::Datagram {
                listener: 0,
                port: 1,
                ip: 1,
                bytes: 1,
            },
            What::Dropped(name),
            What::Replied {
                listener: 0,
                unsent: 0,
                datagrams: 1,
                bytes: 1,
            },
        ];
        all.extend(Part::ALL.map(What::Part));
        all.extend(Why::ALL.map(What::Woken));
        all.extend(Topic::ALL.map(|topic| What::Told { topic, text: 0 }));
        all.extend(Call::ALL.map(|call| What::Called {
            call,
            of_origin: false,
            came_to: CameTo::Done,
            bytes: 1,
            took_ns: 1,
        }));
        all
    }

    #[test]
    fn every_place_is_one() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let kinds = SERVICES.map(|(kind, _)| kind);
        for what in whats() {
            for kind in kinds.into_iter().chain(["one of somebody else"]) {
                // Sessions have no datagrams, and datagrams no sessions.
                let is_datagram = matches!(what, What::Datagram { .. });
                let is_of_service = is_datagram || matches!(what, What::Advanced { .. });
                if is_of_service && kinds.contains(&kind) && kind.starts_with("udp") != is_datagram
                {
                    continue;
                }
                let Place { file, function } = place(&what, kind);
                let text = std::fs::read_to_string(root.join(file));
                let text = text.unwrap_or_else(|error| panic!("{file}: {error}"));
                let is_defined = [format!("fn {function}("), format!("fn {function}<")];
                assert!(
                    is_defined.iter().any(|fn_of| text.contains(fn_of)),
                    "{file} has no {function}: {what:?} of {kind}"
                );
            }
        }
    }
}
