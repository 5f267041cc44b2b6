//! What the loop does, written for others: as trace events, which ui.perfetto.dev and
//! chrome://tracing open, or as lines for a reader.
//!
//! ```text
//! track `loop`      turn ─ its parts ─ pumps, each with its session's number
//! track per session  states as slices; what came and left, answers and the end as instants
//! flow               from a wake to the pump that it led to
//! ```
//!
//! Source: "Trace Event Format" (Google), JSON object format; times are in microseconds. Slices are
//! written when they end, as complete events (`X`), and both ends of a flow with the pump: so
//! whatever is cut off, nothing that begins lacks its end.
//!
//! Pure: records in, text out.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::ring::{LOOP, Part, Record, StateName, What, Why};
use super::words::{self, Kinds, Names};

/// How it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Trace events.
    Json,
    /// Lines.
    Text,
    /// An object of JSON on each line.
    Records,
}

/// The track of the loop.
const LOOP_TRACK: u64 = 1;
/// Tracks of sessions are numbered from here on.
const SESSION_TRACKS: u64 = 1000;

/// A trace that is being written.
#[derive(Debug)]
pub(crate) struct Trace {
    format: Format,
    /// When the first record was.
    began_ns: Option<u64>,
    last_ns: u64,
    /// The turn under way, and the part of it.
    turn: Option<(u64, u32)>,
    part: Option<(u64, Part)>,
    /// The end of the last turn.
    slept: Option<u64>,
    sessions: HashMap<u32, Track>,
    flows: u64,
    is_empty: bool,
    /// Of the sessions whose records are written as such.
    kinds: Kinds,
}

/// What is known of a session.
#[derive(Debug, Default)]
struct Track {
    state: Option<(u64, StateName)>,
    woken: Option<(u64, Why)>,
    pumped: Option<u64>,
    is_named: bool,
}

// Writing to a String cannot fail.
impl Trace {
    /// Begins one.
    pub(crate) fn new(format: Format, out: &mut String) -> Self {
        if format == Format::Json {
            out.push_str("{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n");
        }
        let mut trace = Self {
            format,
            began_ns: None,
            last_ns: 0,
            turn: None,
            part: None,
            slept: None,
            sessions: HashMap::new(),
            flows: 0,
            is_empty: true,
            kinds: Kinds::default(),
        };
        trace.name_track(LOOP_TRACK, "loop", out);
        trace
    }

    /// So many records are missing here: they came faster than they were read.
    pub(crate) fn missed(&mut self, count: u64, out: &mut String) {
        // What was under way is not known any more.
        (self.turn, self.part, self.slept) = (None, None, None);
        self.sessions.clear();
        match self.format {
            Format::Json => {
                let args = format!("{{\"records\":{count}}}");
                self.instant(self.last_ns, LOOP_TRACK, "missed", &args, out);
            }
            Format::Text => _ = writeln!(out, "({count} records are missing here)"),
            Format::Records => _ = writeln!(out, "{{\"missing\":{count}}}"),
        }
    }

    /// Writes one more record.
    pub(crate) fn add(&mut self, record: &Record, names: Names<'_>, out: &mut String) {
        self.last_ns = record.at_ns;
        let began_ns = *self.began_ns.get_or_insert(record.at_ns);
        match self.format {
            Format::Text => {
                let since_ns = record.at_ns.saturating_sub(began_ns);
                words::put_line(record, since_ns, names, out);
            }
            Format::Records => {
                words::put_object(record, names, &mut self.kinds, out);
                out.push('\n');
            }
            Format::Json if record.id == LOOP => self.add_of_loop(record, names, out),
            Format::Json => self.add_of_session(record, names, out),
        }
    }

    /// Ends it.
    pub(crate) fn end(&mut self, names: Names<'_>, out: &mut String) {
        if self.format != Format::Json {
            return;
        }
        let at = self.last_ns;
        let mut open: Vec<_> = self.sessions.drain().collect();
        open.sort_unstable_by_key(|(number, _)| *number);
        for (number, track) in open {
            if let Some((since, state)) = track.state {
                self.slice(
                    (since, at),
                    track_of(number),
                    names.ring.name(state),
                    "{}",
                    out,
                );
            }
        }
        out.push_str("\n]}\n");
    }

    fn add_of_loop(&mut self, record: &Record, names: Names<'_>, out: &mut String) {
        let at = record.at_ns;
        match record.what {
            What::Turn { events } => {
                if let Some(since) = self.slept.take() {
                    self.slice((since, at), LOOP_TRACK, "asleep", "{}", out);
                }
                self.turn = Some((at, events));
            }
            What::Part(part) => {
                self.part_ended(at, out);
                self.part = Some((at, part));
            }
            What::TurnEnded { runnable } => {
                self.part_ended(at, out);
                if let Some((since, events)) = self.turn.take() {
                    let args = format!("{{\"events\":{events}}}");
                    self.slice((since, at), LOOP_TRACK, "turn", &args, out);
                }
                self.slept = Some(at);
                let args = format!("{{\"sessions\":{runnable}}}");
                self.event('C', at, LOOP_TRACK, "runnable", &args, "", out);
            }
            What::Received { .. } | What::Replied { .. } => {
                let name = escaped(&words::text(record, names));
                self.instant(at, LOOP_TRACK, &name, "{}", out);
            }
            _ => {}
        }
    }

    fn part_ended(&mut self, at: u64, out: &mut String) {
        if let Some((since, part)) = self.part.take() {
            self.slice((since, at), LOOP_TRACK, part.name(), "{}", out);
        }
    }

    fn add_of_session(&mut self, record: &Record, names: Names<'_>, out: &mut String) {
        let (at, number) = (record.at_ns, record.id.generation);
        let id = track_of(number);
        let mut track = self.sessions.remove(&number).unwrap_or_default();
        match record.what {
            What::Began { .. } => {
                self.name_track(id, &words::described(record, names), out);
                track.is_named = true;
            }
            _ if !track.is_named => {
                self.name_track(id, &format!("session #{number}"), out);
                track.is_named = true;
            }
            _ => {}
        }
        match record.what {
            What::Woken(why) => track.woken = Some((at, why)),
            What::Pumped => {
                if let Some((woken, why)) = track.woken.take() {
                    self.flow((woken, at), id, why.name(), out);
                }
                track.pumped = Some(at);
            }
            What::Advanced {
                from,
                to,
                consumed,
                queued,
            } => {
                let (since, state) = track.state.unwrap_or((at, from));
                if state != to {
                    self.slice((since, at), id, names.ring.name(state), "{}", out);
                    track.state = Some((at, to));
                } else {
                    track.state = Some((since, state));
                }
                let args = format!("{{\"consumed\":{consumed},\"queued\":{queued}}}");
                self.instant(at, id, "advance", &args, out);
            }
            What::Filled { from_origin, bytes } => {
                let name = if from_origin {
                    "received from origin"
                } else {
                    "received"
                };
                self.instant(at, id, name, &format!("{{\"bytes\":{bytes}}}"), out);
            }
            What::Flushed { to_origin, bytes } => {
                let name = if to_origin { "sent to origin" } else { "sent" };
                self.instant(at, id, name, &format!("{{\"bytes\":{bytes}}}"), out);
            }
            What::Answered { status, bytes } => {
                let args = format!("{{\"status\":{status},\"bytes\":{bytes}}}");
                self.instant(at, id, "answered", &args, out);
            }
            What::Parked { waits, for_ms } => {
                self.pump_ended(&mut track, at, number, out);
                let waits = waits.name();
                let args = format!("{{\"waits_for\":\"{waits}\",\"for_ms\":{for_ms}}}");
                self.instant(at, id, "parked", &args, out);
            }
            What::Again => self.pump_ended(&mut track, at, number, out),
            What::Ended(end) => {
                self.pump_ended(&mut track, at, number, out);
                if let Some((since, state)) = track.state {
                    self.slice((since, at), id, names.ring.name(state), "{}", out);
                }
                self.instant(
                    at,
                    id,
                    &format!("ended: {}", words::end_name(end)),
                    "{}",
                    out,
                );
                return;
            }
            What::Called { .. } | What::Told { .. } | What::JobBegun(_) | What::JobDone { .. } => {
                let name = escaped(&words::text(record, names));
                self.instant(at, id, &name, "{}", out);
            }
            // What the loop does for all is on another track.
            What::Began { .. }
            | What::Turn { .. }
            | What::Part(_)
            | What::TurnEnded { .. }
            | What::Received { .. }
            | What::Datagram { .. }
            | What::Dropped(_)
            | What::Replied { .. } => {}
        }
        self.sessions.insert(number, track);
    }

    /// A pump is the loop's time, so it stands on its track.
    fn pump_ended(&mut self, track: &mut Track, at: u64, number: u32, out: &mut String) {
        if let Some(since) = track.pumped.take() {
            self.slice(
                (since, at),
                LOOP_TRACK,
                &format!("pump #{number}"),
                "{}",
                out,
            );
        }
    }

    fn name_track(&mut self, track: u64, name: &str, out: &mut String) {
        if self.format == Format::Json {
            let name = serde_json::Value::from(name);
            let args = format!("{{\"name\":{name}}}");
            self.event('M', 0, track, "thread_name", &args, "", out);
        }
    }

    fn slice(
        &mut self,
        (from, to): (u64, u64),
        track: u64,
        name: &str,
        args: &str,
        out: &mut String,
    ) {
        let duration = format!(",\"dur\":{}", Micros(to.saturating_sub(from)));
        self.event('X', from, track, name, args, &duration, out);
    }

    fn instant(&mut self, at: u64, track: u64, name: &str, args: &str, out: &mut String) {
        self.event('i', at, track, name, args, ",\"s\":\"t\"", out);
    }

    /// From the loop, which woke, to the session that was pumped for it.
    fn flow(&mut self, (from, to): (u64, u64), track: u64, name: &str, out: &mut String) {
        self.flows += 1;
        let id = format!(",\"cat\":\"wake\",\"id\":{}", self.flows);
        self.event('s', from, LOOP_TRACK, name, "{}", &id, out);
        self.event(
            'f',
            to,
            track,
            name,
            "{}",
            &format!("{id},\"bp\":\"e\""),
            out,
        );
    }

    #[allow(clippy::too_many_arguments)] // the fields of an event
    fn event(
        &mut self,
        phase: char,
        at: u64,
        track: u64,
        name: &str,
        args: &str,
        more: &str,
        out: &mut String,
    ) {
        if !std::mem::take(&mut self.is_empty) {
            out.push_str(",\n");
        }
        let at = Micros(at);
        let _ = write!(
            out,
            "{{\"ph\":\"{phase}\",\"ts\":{at},\"pid\":1,\"tid\":{track},\"name\":\"{name}\",\"args\":{args}{more}}}"
        );
    }
}

fn track_of(number: u32) -> u64 {
    SESSION_TRACKS + u64::from(number)
}

/// A text as it stands within quotes.
fn escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// Nanoseconds, written as microseconds with a fraction.
struct Micros(u64);

impl std::fmt::Display for Micros {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inside::ring::{End, Ring, Waits};
    use crate::metrics::{ListenerMetrics, Of, StreamMetrics};
    use crate::waiter::Id;
    use slab::Slab;
    use std::time::{Duration, Instant};

    /// What is written of one request on a connection that was there before, and of its end.
    fn written(format: Format) -> String {
        let listener = ListenerMetrics::new(
            "web",
            "http",
            String::new(),
            Of::Streams(StreamMetrics::default()),
        );
        let listeners: Slab<_> = [(0, listener)].into_iter().collect();
        let mut ring = Ring::default();
        ring.set(4096, true);
        let [idle, head] = ["Idle", "Head"].map(|name| ring.number(name));
        let (began, session) = (Instant::now(), |generation| Id {
            index: 0,
            generation,
        });
        let mut at = 0;
        for (id, what) in [
            (LOOP, What::Turn { events: 2 }),
            (LOOP, What::Part(Part::Note)),
            (session(7), What::Woken(Why::Event)),
            (
                session(8),
                What::Began {
                    listener: 0,
                    port: 80,
                    ip: 0x7f00_0001,
                },
            ),
            (LOOP, What::Part(Part::Run)),
            (session(7), What::Pumped),
            (
                session(7),
                What::Filled {
                    from_origin: false,
                    bytes: 9,
                },
            ),
            (
                session(7),
                What::Advanced {
                    from: idle,
                    to: head,
                    consumed: 0,
                    queued: 5,
                },
            ),
            (
                session(7),
                What::Parked {
                    waits: Waits::Write,
                    for_ms: 3,
                },
            ),
            (LOOP, What::TurnEnded { runnable: 0 }),
            (
                session(8),
                What::Ended(End::TimedOut(crate::ending::Phase::Head)),
            ),
        ] {
            ring.push(began + Duration::from_nanos(at), id, what);
            at += 1500;
        }
        let names = Names {
            ring: &ring,
            listeners: &listeners,
        };
        let mut out = String::new();
        let mut trace = Trace::new(format, &mut out);
        for record in ring.since(0).1 {
            trace.add(record, names, &mut out);
        }
        trace.end(names, &mut out);
        out
    }

    #[test]
    fn lines_read_like_a_story() {
        assert_eq!(
            written(Format::Text),
            "     0.000000 ms  loop      turn begins with 2 events\n     \
             0.001500 ms  loop        note\n     \
             0.003000 ms  #7        is woken: event\n     \
             0.004500 ms  #8        begins: web #8 127.0.0.1:80\n     \
             0.006000 ms  loop        run\n     \
             0.007500 ms  #7        is pumped\n     \
             0.009000 ms  #7          9 bytes come from the client\n     \
             0.010500 ms  #7          Idle becomes Head: 0 bytes consumed, 5 queued\n     \
             0.012000 ms  #7        parks: waits for client to take, at most 3 ms\n     \
             0.013500 ms  loop      turn ends; 0 sessions are runnable\n     \
             0.015000 ms  #8        ends: timed out (head)\n"
        );
    }

    #[test]
    fn events_are_whole_and_what_is_open_at_the_end_is_closed() {
        let text = written(Format::Json);
        let trace: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let events = trace["traceEvents"].as_array().expect("events");
        let told: Vec<String> = events
            .iter()
            .map(|event| {
                let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
                let (at, track) = (&event["ts"], &event["tid"]);
                let length = event
                    .get("dur")
                    .map_or(String::new(), |dur| format!("+{dur}"));
                format!("{} {at}{length} {track} {}", text("ph"), text("name"))
            })
            .collect();
        assert_eq!(
            told,
            [
                "M 0.0 1 thread_name",
                "M 0.0 1007 thread_name",
                "M 0.0 1008 thread_name",
                "X 1.5+4.5 1 note",
                "s 3.0 1 event",
                "f 7.5 1007 event",
                "i 9.0 1007 received",
                "X 10.5+0.0 1007 Idle",
                "i 10.5 1007 advance",
                "X 7.5+4.5 1 pump #7",
                "i 12.0 1007 parked",
                "X 6.0+7.5 1 run",
                "X 0.0+13.5 1 turn",
                "C 13.5 1 runnable",
                "i 15.0 1008 ended: timed out (head)",
                "X 10.5+4.5 1007 Head",
            ]
        );
    }

    #[test]
    fn what_is_missing_is_told_and_what_was_under_way_forgotten() {
        for (format, expected) in [
            (Format::Text, "(12 records are missing here)\n"),
            (
                Format::Json,
                "\"name\":\"missed\",\"args\":{\"records\":12}",
            ),
        ] {
            let mut out = String::new();
            let mut trace = Trace::new(format, &mut out);
            trace.sessions.insert(1, Track::default());
            trace.missed(12, &mut out);
            assert!(out.contains(expected) && trace.sessions.is_empty(), "{out}");
        }
    }
}
