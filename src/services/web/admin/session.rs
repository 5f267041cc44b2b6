//! One session: `/sessions/ID.json`, how it stands and what the ring has of it; and what it does,
//! as it does it, for those who listen to `/events?session=ID`.

use std::fmt::Write as _;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use serde_json::Value;

use super::{respond_json, sessions};
use crate::http::Status;
use crate::inside::ring::What;
use crate::service::{Cx, work};
use crate::services::web::files::Progress;
use crate::services::web::live::{Kinds, Source, counted, names, put_object};
use crate::services::web::reply::{Refusal, Reply};

/// How often it is looked at.
const PAUSE: Duration = Duration::from_millis(200);
/// Records of the ring that one look goes through.
const LOOKED_AT_MAX: usize = 16_384;
/// Records that are written for one look: a session that does more is too fast for eyes, and the
/// first are told. Where the ring has more, for others who read it, the newest.
const TOLD_MAX: usize = 100;
/// Records that a page tells of: the newest.
const RECORDS_MAX: usize = 1000;

/// The number of the session that a path is about: `/sessions/ID.json`.
pub(super) fn at(path: &str) -> Option<u32> {
    let number = path.strip_prefix("/sessions/")?.strip_suffix(".json")?;
    number.parse().ok()
}

/// How a session stands, and the kind of its listener. `Pending`: the asking session is woken when
/// that is known.
///
/// # Errors
/// There is no such session.
pub(super) fn row(
    number: u32,
    reply: &mut Reply<'_, '_>,
) -> Result<Poll<(Value, &'static str)>, Box<Refusal>> {
    let Poll::Ready(rows) = reply.cx.inside.roster.ask(reply.id) else {
        return Ok(Poll::Pending);
    };
    let found = rows.iter().find(|row| row.id.generation == number);
    let told = found.and_then(|row| {
        let listener = counted(reply.cx).listeners.get(row.listener)?;
        Some((sessions::object(row, listener), listener.kind))
    });
    told.map(Poll::Ready).ok_or_else(|| {
        let text = format!("there is no session {number} now: see /sessions.json");
        Refusal::told(Status::NOT_FOUND, text).into()
    })
}

/// Answers with one session.
pub(super) fn respond(number: u32, reply: &mut Reply<'_, '_>) -> Result<Progress, Box<Refusal>> {
    let Poll::Ready((row, kind)) = row(number, reply)? else {
        return Ok(Progress::Later);
    };
    let names = names(reply.cx);
    let all = names.ring.since(0).1.rev();
    let of_it = all.filter(|record| record.id.generation == number);
    let mut newest: Vec<_> = of_it.take(RECORDS_MAX).collect();
    newest.reverse();
    let count = newest.len();
    let mut kinds = Kinds::default();
    kinds.learn(number, kind);
    let mut text = row.to_string();
    text.truncate(text.len() - "}".len());
    text.push_str(",\"records\":[");
    for (place, record) in newest.into_iter().enumerate() {
        text.push_str(if place > 0 { ",\n" } else { "" });
        put_object(record, names, &mut kinds, &mut text);
    }
    text.push_str("]}\n");
    reply.cx.work.charge_each(count, work::RECORD_NS);
    respond_json(&text, reply);
    Ok(Progress::Answered)
}

/// One who looks at a session.
pub(super) struct Watched {
    number: u32,
    /// The place of the next record in the sequence of all.
    from: u64,
    kinds: Kinds,
    has_ended: bool,
    /// Counts those who listen.
    _place: Rc<()>,
}

impl Watched {
    /// From what the ring has of it on.
    pub(super) fn new((number, kind): (u32, &'static str), place: Rc<()>, cx: &mut Cx<'_>) -> Self {
        let mut kinds = Kinds::default();
        kinds.learn(number, kind);
        Self {
            number,
            from: cx.inside.ring.begin_reading_of(number, TOLD_MAX),
            kinds,
            has_ended: false,
            _place: place,
        }
    }
}

impl Source for Watched {
    fn look(&mut self, cx: &mut Cx<'_>, text: &mut String) -> bool {
        let names = names(cx);
        let (mut missing, records) = names.ring.since(self.from);
        // A record does not go on, so there is one look for all of it.
        let (looked_at, most) = match names.ring.is_replayed() {
            true => (usize::MAX, RECORDS_MAX),
            false => (LOOKED_AT_MAX, TOLD_MAX),
        };
        let newest = records.rev().take(looked_at);
        let mut of_it = newest.filter(|record| record.id.generation == self.number);
        let told: Vec<_> = of_it.by_ref().take(most).collect();
        missing += of_it.count() as u64;
        self.from = names.ring.written();
        if missing > 0 {
            let _ = write!(text, "event: missing\ndata: {missing}\n\n");
        }
        for (place, record) in told.iter().rev().enumerate() {
            text.push_str(match place {
                0 => "event: records\ndata: [",
                _ => ",",
            });
            put_object(record, names, &mut self.kinds, text);
            self.has_ended |= matches!(record.what, What::Ended(_));
        }
        if !told.is_empty() {
            text.push_str("]\n\n");
        }
        let count = told.len();
        if cx.inside.ring.go_on_reading_of(self.number, TOLD_MAX) && !self.has_ended {
            text.push_str("event: missing\ndata: some\n\n"); // since those that are told
        }
        cx.work.charge_each(count, work::RECORD_NS);
        true
    }

    fn end(&mut self, _cx: &mut Cx<'_>, text: &mut String) {
        if self.has_ended {
            text.push_str("event: end\ndata: {}\n\n");
        }
    }

    fn ended(&mut self, cx: &mut Cx<'_>) {
        cx.inside.ring.end_reading_of(self.number);
    }

    fn pause(&self) -> Duration {
        PAUSE
    }

    fn is_over(&self) -> bool {
        self.has_ended
    }
}
