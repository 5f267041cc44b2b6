//! `/events`: the status, once a second, as Server-Sent Events; or what one session does, or the
//! last turns. `/turns.json`: those once.
//!
//! Source: HTML Living Standard, section 9.2 (server-sent events).

use std::ops::Range;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use super::{pages, session, status};
use crate::http::Status;
use crate::http::head::RequestHead;
use crate::service::{Cx, work};
use crate::services::web::files::Progress;
use crate::services::web::live::{self, Live, Source, Turns, Which};
use crate::services::web::reply::{Refusal, Reply};

/// How often the status is told.
const PAUSE: Duration = Duration::from_secs(1);
/// For how long: the browser asks again by itself, which shows that it is still there.
const LIFE: Duration = Duration::from_secs(3600);

/// One who listens.
struct Pulse {
    started: SystemTime,
    /// The status that is being written.
    page: Option<status::Page>,
    next: Instant,
    /// Counts those who listen.
    _place: Rc<()>,
}

impl Source for Pulse {
    fn look(&mut self, cx: &mut Cx<'_>, text: &mut String) -> bool {
        if self.page.is_none() && cx.now < self.next {
            return true;
        }
        let mut page = self.page.take().unwrap_or_default();
        let before = page.text.len();
        let bytes = cx.work.steps(work::PAGE_BYTE_NS);
        let is_whole = page.go_on(&pages::view(true, cx, self.started), bytes);
        let written = page.text.len() - before;
        cx.work.charge_each(written, work::PAGE_BYTE_NS);
        if !is_whole {
            self.page = Some(page);
            return false;
        }
        text.push_str("event: status\ndata: ");
        text.push_str(page.text.trim_end());
        text.push_str("\n\n");
        self.next = cx.now + PAUSE;
        true
    }

    fn end(&mut self, _cx: &mut Cx<'_>, _text: &mut String) {}

    fn ended(&mut self, _cx: &mut Cx<'_>) {}

    fn pause(&self) -> Duration {
        PAUSE
    }
}

/// What is listened to.
#[derive(Debug, PartialEq, Eq)]
enum Subject {
    /// The status.
    Status,
    /// What a session does.
    Session(u32),
    /// The last turns, so many.
    Turns(usize),
}

/// Begins to answer a request for `/events`. `places`: counts those who listen.
///
/// # Errors
/// There are too many, or nothing is there that could be listened to.
pub(super) fn begin(
    head: &RequestHead<'_>,
    (started, places): (SystemTime, &Rc<()>),
    reply: &mut Reply<'_, '_>,
) -> Result<Progress, Box<Refusal>> {
    let subject =
        asked(live::query(head)).map_err(|text| Refusal::told(Status::BAD_REQUEST, text))?;
    let most = reply.cx.inside.limits.listeners_max;
    if Rc::strong_count(places) > most {
        let text = format!(
            "{most} listen to the events already (`max_listeners`); expected to wait for one"
        );
        return Err(Refusal::told(Status::SERVICE_UNAVAILABLE, text).into());
    }
    let row = match subject {
        Subject::Status => None,
        Subject::Turns(_) => {
            live::may_read(reply.cx.inside)?;
            None
        }
        Subject::Session(number) => {
            live::may_read(reply.cx.inside)?;
            match session::row(number, reply)? {
                Poll::Ready(row) => Some(row),
                Poll::Pending => return Ok(Progress::Later),
            }
        }
    };
    if !live::begin_head(head, "text/event-stream", reply) {
        return Ok(Progress::Answered);
    }
    let (mut text, place) = (String::new(), Rc::clone(places));
    let source: Box<dyn Source> = match (subject, row) {
        (Subject::Session(number), Some((row, kind))) => {
            text = format!("event: session\ndata: {row}\n\n");
            Box::new(session::Watched::new((number, kind), place, reply.cx))
        }
        (Subject::Turns(wanted), _) => Box::new(Turns::new(wanted, Some(place), reply.cx)),
        _ => Box::new(Pulse {
            started,
            page: None,
            next: reply.cx.now,
            _place: place,
        }),
    };
    let until = reply.cx.now + LIFE;
    Ok(Progress::Lives(Live::new(source, text, head, until, reply)))
}

/// Begins to answer a request for `/turns.json`; `None` if its head was all.
///
/// # Errors
/// It asks for something else, or too many look at the loop.
pub(super) fn turns(
    head: &RequestHead<'_>,
    reply: &mut Reply<'_, '_>,
) -> Result<Option<Box<Live>>, Box<Refusal>> {
    let numbers = reply.cx.inside.replayed.as_ref();
    let numbers = numbers.map(|replayed| replayed.numbers());
    let asked = turns_asked(live::query(head), numbers.as_ref());
    let (wanted, which) = asked.map_err(|text| Refusal::told(Status::BAD_REQUEST, text))?;
    live::may_read(reply.cx.inside)?;
    if !live::begin_head(head, "application/json", reply) {
        return Ok(None);
    }
    let source = Box::new(match (which, reply.cx.inside.roster.fixed()) {
        (Some(which), Some(rows)) => Turns::of_record(which, wanted, &rows, reply.cx),
        _ => Turns::new(wanted, None, reply.cx),
    });
    let until = reply.cx.now + LIFE;
    Ok(Some(Live::new(source, String::new(), head, until, reply)))
}

/// How many turns a query asks for, and of a record with such `numbers` which: nothing, `last=N`,
/// `from=TURN` or `before=TURN`.
fn turns_asked(
    query: &str,
    numbers: Option<&Range<u64>>,
) -> Result<(usize, Option<Which>), String> {
    let newest = numbers.map(|numbers| Which::Before(numbers.end));
    let of_record = |value: &str, which: fn(u64) -> Which| match (value.parse(), numbers) {
        (Ok(turn), Some(_)) => Ok((live::TURNS, Some(which(turn)))),
        (_, Some(numbers)) => Err(format!(
            "{value:?} is no turn: expected a number, from {} to {}",
            numbers.start, numbers.end
        )),
        (_, None) => Err("only the turns of a record have numbers: expected last".to_owned()),
    };
    match query.split_once('=').unwrap_or((query, "")) {
        ("", "") => Ok((live::TURNS, newest)),
        ("last", value) => Ok((number("last", value, live::TURNS_MAX)?, newest)),
        ("from", value) => of_record(value, Which::From),
        ("before", value) => of_record(value, Which::Before),
        (key, _) => Err(format!("there is no {key:?}: expected last")),
    }
}

/// What a query asks for: nothing, `session=ID` or `turns=N`.
fn asked(query: &str) -> Result<Subject, String> {
    match query.split_once('=').unwrap_or((query, "")) {
        ("", "") => Ok(Subject::Status),
        ("session", value) => match value.parse() {
            Ok(number) => Ok(Subject::Session(number)),
            Err(_) => Err(format!("session is {value:?}: expected its number")),
        },
        ("turns", value) => number("turns", value, live::TURNS_MAX).map(Subject::Turns),
        (key, _) => Err(format!("there is no {key:?}: expected session or turns")),
    }
}

fn number(key: &str, value: &str, most: usize) -> Result<usize, String> {
    let parsed = value
        .parse()
        .ok()
        .filter(|number| (1..=most).contains(number));
    parsed.ok_or_else(|| format!("{key} is {value:?}: expected a number from 1 to {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_asked_for_by_their_number_where_they_are_of_a_record() {
        let numbers = || Some(7..19);
        let newest = Some(Which::Before(19));
        for (query, numbers, expected) in [
            ("", None, (live::TURNS, None)),
            ("last=3", None, (3, None)),
            ("", numbers(), (live::TURNS, newest)),
            ("last=3", numbers(), (3, newest)),
            ("from=9", numbers(), (live::TURNS, Some(Which::From(9)))),
            ("before=9", numbers(), (live::TURNS, Some(Which::Before(9)))),
        ] {
            assert_eq!(
                turns_asked(query, numbers.as_ref()),
                Ok(expected),
                "{query}"
            );
        }
        for (query, numbers) in [
            ("from=9", None),
            ("last=0", numbers()),
            ("from=x", numbers()),
            ("from", numbers()),
            ("to=9", numbers()),
        ] {
            let text = turns_asked(query, numbers.as_ref()).expect_err(query);
            assert!(text.contains("expected"), "{text}");
        }
    }

    #[test]
    fn a_query_says_what_is_listened_to() {
        assert_eq!(asked(""), Ok(Subject::Status));
        assert_eq!(asked("session=7"), Ok(Subject::Session(7)));
        assert_eq!(asked("turns=256"), Ok(Subject::Turns(256)));
        for wrong in [
            "session",
            "session=x",
            "turns=0",
            "turns=257",
            "turn=1",
            "=1",
        ] {
            let text = asked(wrong).expect_err(wrong);
            assert!(text.contains("expected"), "{text}");
        }
    }
}
