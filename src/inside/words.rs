//! A record in words: as a line for a reader, and as an object of JSON for a program, with the
//! place in the source where it was done.
//!
//! Pure: records in, text out.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use slab::Slab;

use super::places;
use super::ring::{CameTo, End, LOOP, Record, Ring, What};
use crate::metrics::ListenerMetrics;

/// What the records refer to.
#[derive(Clone, Copy)]
pub(crate) struct Names<'a> {
    pub(crate) ring: &'a Ring,
    pub(crate) listeners: &'a Slab<ListenerMetrics>,
}

impl<'a> Names<'a> {
    fn listener(self, place: u16) -> Option<&'a ListenerMetrics> {
        self.listeners.get(usize::from(place))
    }

    fn name(self, place: u16) -> &'a str {
        self.listener(place).map_or("?", |listener| &listener.name)
    }
}

/// The kinds of the listeners that sessions came by, where that is known.
#[derive(Debug, Default)]
pub(crate) struct Kinds(HashMap<u32, &'static str>);

impl Kinds {
    /// That of a session is known.
    pub(crate) fn learn(&mut self, session: u32, kind: &'static str) {
        self.0.insert(session, kind);
    }

    /// The kind of a record's listener, if it is known; it is learnt from a beginning, and
    /// forgotten with the end.
    fn of(&mut self, record: &Record, names: Names<'_>) -> &'static str {
        let session = record.id.generation;
        let kind = |place| names.listener(place).map(|listener| listener.kind);
        match record.what {
            What::Began { listener, .. } => {
                if let Some(kind) = kind(listener) {
                    self.learn(session, kind);
                }
            }
            What::Ended(_) => return self.0.remove(&session).unwrap_or_default(),
            What::Received { listener, .. }
            | What::Datagram { listener, .. }
            | What::Replied { listener, .. } => return kind(listener).unwrap_or_default(),
            _ => {}
        }
        self.0.get(&session).copied().unwrap_or_default()
    }
}

// Writing to a String cannot fail.

/// One record as a line.
pub(crate) fn put_line(record: &Record, since_ns: u64, names: Names<'_>, out: &mut String) {
    let (ms, ns) = (since_ns / 1_000_000, since_ns % 1_000_000);
    let _ = write!(out, "{ms:>6}.{ns:06} ms  ");
    match record.id {
        LOOP => out.push_str("loop      "),
        id => _ = write!(out, "#{:<8} ", id.generation),
    }
    let is_within = match record.what {
        What::Turn { .. }
        | What::TurnEnded { .. }
        | What::Began { .. }
        | What::Woken(_)
        | What::Pumped
        | What::Parked { .. }
        | What::Again
        | What::Ended(_) => "",
        What::Part(_) => "  ",
        _ if record.id == LOOP => "    ",
        _ => "  ",
    };
    let _ = writeln!(out, "{is_within}{}", text(record, names));
}

/// One record as an object of JSON: when it was (`at`, in nanoseconds since the ring was made), by
/// which session (`id`, none for the loop), what it is (`what`), in words (`text`), where it was
/// done (`place`), and what a program is to know of it besides.
pub(crate) fn put_object(record: &Record, names: Names<'_>, kinds: &mut Kinds, out: &mut String) {
    let kind = kinds.of(record, names);
    let place = places::place(&record.what, kind);
    let (at, what) = (record.at_ns, word(&record.what));
    let _ = write!(out, "{{\"at\":{at},\"what\":\"{what}\"");
    if record.id != LOOP {
        let _ = write!(out, ",\"id\":{}", record.id.generation);
    }
    let text = serde_json::Value::from(text(record, names));
    let (file, function) = (place.file, place.function);
    let _ = write!(out, ",\"text\":{text},\"place\":\"{file} {function}\"");
    put_details(record, names, out);
    out.push('}');
}

/// What a program is to know of a record.
fn put_details(record: &Record, names: Names<'_>, out: &mut String) {
    let _ = match record.what {
        What::Turn { events } => write!(out, ",\"events\":{events}"),
        What::TurnEnded { runnable } => write!(out, ",\"runnable\":{runnable}"),
        What::Part(part) => write!(out, ",\"part\":\"{}\"", part.name()),
        What::Began { listener, port, ip }
        | What::Datagram {
            listener, port, ip, ..
        } => {
            let listener = serde_json::Value::from(names.name(listener));
            let ip = Ipv4Addr::from_bits(ip);
            write!(
                out,
                ",\"listener\":{listener},\"ip\":\"{ip}\",\"port\":{port}"
            )
        }
        What::Woken(why) => write!(out, ",\"why\":\"{}\"", why.name()),
        What::Called {
            call,
            bytes,
            took_ns,
            ..
        } => {
            let call = call.name();
            write!(
                out,
                ",\"call\":\"{call}\",\"bytes\":{bytes},\"took_ns\":{took_ns}"
            )
        }
        What::Advanced { from, to, .. } => {
            let (from, to) = (names.ring.name(from), names.ring.name(to));
            write!(out, ",\"from\":\"{from}\",\"to\":\"{to}\"")
        }
        What::Parked { waits, for_ms } => {
            write!(
                out,
                ",\"waits_for\":\"{}\",\"for_ms\":{for_ms}",
                waits.name()
            )
        }
        What::Answered { status, .. } => write!(out, ",\"status\":{status}"),
        What::Told { topic, .. } => write!(out, ",\"topic\":\"{}\"", topic.name()),
        _ => Ok(()),
    };
}

/// What sort of record it is.
fn word(what: &What) -> &'static str {
    match what {
        What::Turn { .. } => "turn",
        What::Part(_) => "part",
        What::TurnEnded { .. } => "turn_ended",
        What::Began { .. } => "began",
        What::Woken(_) => "woken",
        What::Pumped => "pumped",
        What::Called { .. } => "called",
        What::Filled { .. } => "filled",
        What::Advanced { .. } => "advanced",
        What::Flushed { .. } => "flushed",
        What::Parked { .. } => "parked",
        What::Again => "again",
        What::Ended(_) => "ended",
        What::Answered { .. } => "answered",
        What::Told { .. } => "told",
        What::JobBegun(_) => "job_begun",
        What::JobDone { .. } => "job_done",
        What::Received { .. } => "received",
        What::Datagram { .. } => "datagram",
        What::Dropped(_) => "dropped",
        What::Replied { .. } => "replied",
    }
}

/// A record in words.
pub(crate) fn text(record: &Record, names: Names<'_>) -> String {
    match record.what {
        What::Turn { events } => format!("turn begins with {events} events"),
        What::Part(part) => part.name().to_owned(),
        What::TurnEnded { runnable } => format!("turn ends; {runnable} sessions are runnable"),
        What::Began { .. } => format!("begins: {}", described(record, names)),
        What::Woken(why) => format!("is woken: {}", why.name()),
        What::Pumped => "is pumped".to_owned(),
        What::Called { .. } => called(&record.what),
        What::Filled { from_origin, bytes } => {
            format!("{bytes} bytes come from {}", whom(from_origin))
        }
        What::Advanced {
            from,
            to,
            consumed,
            queued,
        } => {
            let (from, to) = (names.ring.name(from), names.ring.name(to));
            let way = match from == to {
                true => format!("stays {to}"),
                false => format!("{from} becomes {to}"),
            };
            format!("{way}: {consumed} bytes consumed, {queued} queued")
        }
        What::Answered { status, bytes } => format!("answers {status}, {bytes} bytes of body"),
        What::Flushed { to_origin, bytes } => {
            format!("{bytes} bytes leave for {}", whom(to_origin))
        }
        What::Parked { waits, for_ms } => {
            format!("parks: waits for {}, at most {for_ms} ms", waits.name())
        }
        What::Again => "goes on in the next turn, behind the others".to_owned(),
        What::Ended(end) => format!("ends: {}", end_name(end)),
        What::Told { topic, text } => format!("{}: {}", topic.name(), names.ring.text(text)),
        What::JobBegun(kind) => format!("the disk is asked to {}", names.ring.name(kind)),
        What::JobDone { kind, is_failed } => {
            let failed = if is_failed { ", which failed" } else { "" };
            format!("the disk has done {}{failed}", names.ring.name(kind))
        }
        What::Received { .. } | What::Datagram { .. } | What::Dropped(_) | What::Replied { .. } => {
            of_datagrams(&record.what, names)
        }
    }
}

/// What became of datagrams, in words.
fn of_datagrams(what: &What, names: Names<'_>) -> String {
    match *what {
        What::Received {
            listener,
            datagrams,
            bytes,
        } => {
            let name = names.name(listener);
            format!("recvmmsg: {datagrams} datagrams, {bytes} bytes for {name}")
        }
        What::Datagram {
            port, ip, bytes, ..
        } => match ip {
            0 => format!("{bytes} bytes from port {port}"),
            ip => format!("{bytes} bytes from {}:{port}", Ipv4Addr::from_bits(ip)),
        },
        What::Dropped(cause) => format!("not served: {}", names.ring.name(cause)),
        What::Replied {
            unsent,
            datagrams,
            bytes,
            listener,
        } => {
            let name = names.name(listener);
            let unsent = match unsent {
                0 => String::new(),
                unsent => format!(", {unsent} could not be sent"),
            };
            format!("sendmmsg: {datagrams} datagrams, {bytes} bytes of {name}{unsent}")
        }
        _ => String::new(),
    }
}

/// A system call in words: what it came to, and how long it took.
fn called(what: &What) -> String {
    let &What::Called {
        call,
        of_origin,
        came_to,
        bytes,
        took_ns,
    } = what
    else {
        return String::new();
    };
    let came_to = match came_to {
        CameTo::Done if call.moves_bytes() && bytes == 0 => "end of stream".to_owned(),
        CameTo::Done if call.moves_bytes() => format!("{bytes} bytes"),
        CameTo::Done => "done".to_owned(),
        CameTo::WouldBlock => "would block".to_owned(),
        CameTo::Interrupted => "interrupted".to_owned(),
        CameTo::Failed => "failed".to_owned(),
    };
    let whose = if of_origin { " of the origin" } else { "" };
    if took_ns == 0 {
        return format!("{}{whose}: {came_to}", call.name()); // a replay does not know
    }
    let (us, ns) = (took_ns / 1000, took_ns % 1000 / 100);
    format!("{}{whose}: {came_to} in {us}.{ns} µs", call.name())
}

/// Who is at the other end of a side.
fn whom(is_origin: bool) -> &'static str {
    match is_origin {
        true => "the origin",
        false => "the client",
    }
}

/// A session, by the listener that it came by and the client's address.
pub(crate) fn described(record: &Record, names: Names<'_>) -> String {
    let What::Began { listener, port, ip } = record.what else {
        return String::new();
    };
    let number = record.id.generation;
    let listener = names.listener(listener);
    let name = listener.map_or("session", |listener| &listener.name);
    match (ip, port) {
        (0, 0) => format!("{name} #{number}"),
        (0, port) => format!("{name} #{number} port {port}"),
        (ip, port) => {
            let ip = Ipv4Addr::from_bits(ip);
            format!("{name} #{number} {ip}:{port}")
        }
    }
}

pub(crate) fn end_name(end: End) -> String {
    match end {
        End::Done => "done".to_owned(),
        End::TimedOut(phase) => format!("timed out ({})", phase.name()),
        End::Refused => "refused".to_owned(),
        End::Reset => "connection broke".to_owned(),
        End::Disk => "disk failed".to_owned(),
    }
}
