//! The web server: one HTTP connection, whatever answers on it. HTTP/1.1 and 1.0 (RFC 9110, RFC
//! 9112).
//!
//! ```text
//!          ┌──────────────────── answered, connection kept ◀──────────────────────────────┐
//!          ▼                                                                              │
//! Idle ──bytes──▶ Head ──whole──▶ answered ──body to come──▶ Body ──whole─────────────────┤
//!  │               │  ▲   │           └── not kept ──▶ closed  └──late or malformed──▶ closed, 4xx unless answered
//!  │               │  │   ├──its answer takes more turns──▶ Parked ──woken──▶ Head        │
//!  └──late──┐      │  └───┼────────────────────────────────────┘                          │
//!           ▼      │      ├──sent on──▶ Forward ──answered────────────────────────────────┤
//!        closed    │      └──a folder as one file──▶ Pack ──all of it queued──────────────┘
//!                  ├──malformed──▶ 4xx, closed
//!                  └──late──▶ 408, closed            Refused ──▶ 503 or 429, closed
//! ```
//!
//! The rules:
//! 1. This file knows connections: heads, bodies, what stays open, what is refused, the log. An
//!    answerer knows its resource only: [`files`], [`pages`], [`probe`], [`proxy`], [`admin`].
//!    [`sites`] tells which one a request is for.
//! 2. All requests that have arrived are answered in one pass, in order, into one queue, as far as
//!    the session's share of work goes: pipelined ones cost one send.
//! 3. A head has an absolute time-out: a client that sends it a byte at a time does not get more. A
//!    body must come at a rate.
//! 4. A request body that nobody asked for is read and dropped within `max_body_bytes`; beyond it
//!    the connection is closed.
//! 5. The steady state allocates nothing: answers are made once for each file and copied from
//!    there.
//! 6. A client that is not served is told why, unless that could be taken for the answer to another
//!    request: between requests, and once a request was answered, the connection just closes.
//! 7. Room for an answer of our own is asked for before a head is read, so that such an answer
//!    never waits.
//!
//! This file is long, since everything that moves a connection from state to state stands in it. In
//! reading order: this file, [`mod@respond`] (one request), [`body`], [`sites`], the answerers;
//! [`open`] has the way from the configuration. Every answer is written through a [`reply::Reply`];
//! [`forms`] has compressed forms of contents, [`auth`] judges passwords, [`admission`] counts
//! connections, and [`access_log`] has a line for each answer.

mod access_log;
mod admin;
mod admission;
mod auth;
mod body;
mod files;
mod forms;
mod html;
mod live;
mod open;
mod pack;
mod pages;
mod probe;
mod proxy;
mod reply;
mod respond;
mod sites;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::time::Instant;

use crate::buffer::Held;
use crate::config::HttpConfig;
use crate::ending::{Ending, Error, Phase};
use crate::gate::Ranges;
use crate::http::body::BodyDecoder;
use crate::http::forwarded;
use crate::http::head::{BodyLength, HeadError, HeadScanner, Limits, Parsed, RequestHead};
use crate::http::persistence::Persistence;
use crate::http::{Method, Status};
use crate::inside::ring::{Topic, What};
use crate::metrics::{Became, Of, WebMetrics};
use crate::service::{Cx, Id, Io, Link, LinkState, Peer, Service, Waiter, work};
use access_log::{AccessLog, Answerer, Entry, Line, Request};
use admission::{Admission, Seat};
use body::{Echo, Received, RequestBody};
use files::archive::Archive;
use live::Live;
pub use open::Given;
use pack::Pack;
use proxy::{Check, Forward, Outcome, Sender};
use reply::{Answered, Refusal, Reply, Writer};
use respond::respond;
use sites::{Alone, Content, Learned, Sites};

/// Which of the listener's sites.
type Place = usize;

/// The web server of a listener.
pub struct Web {
    config: HttpConfig,
    limits: Limits,
    /// Room that is asked for before a head is read.
    answer_bytes: usize,
    sites: Sites,
    writer: Writer,
    log: Option<Box<AccessLog>>,
    admission: Admission,
    /// Who is believed in what it says of its clients.
    trusted: Ranges,
    /// Something takes more than one turn: it goes on at the end of each.
    working: bool,
    /// No turn has ended since it was made.
    is_new: bool,
    /// Idle connections stay while the process drains: for health checks, which want to know just
    /// then.
    stays_while_draining: bool,
}

/// One connection.
pub struct Conn {
    state: State,
    /// How far a head that comes in pieces was searched; most come whole, and an idle connection
    /// has none.
    scanner: Option<Box<HeadScanner>>,
    /// Answered, or being answered; who asks for more than can be counted stays at the last number.
    requests: u32,
    /// The process drains: of an idle connection, whose time was cut short.
    is_last: bool,
    /// `None` for a client that is refused.
    seat: Option<Seat>,
    /// The last request that was sent on, whose connection to its origin may still be there.
    kept: Option<Box<Forward>>,
    /// What it holds outside of pages, as it was last counted.
    held: Held,
}

enum State {
    /// Nothing of the next request has come.
    Idle { until: Instant },
    /// Some of its head has.
    Head { until: Instant },
    /// It is whole, and the session is woken when it can be answered.
    Parked(Box<Parked>),
    /// The request was answered, or waits for its body to be answered.
    Body(Box<RequestBody>),
    /// The request is sent on to its origin.
    Forward(Box<Forward>),
    /// There is no client: an upstream is asked whether it is well.
    Check(Box<Check>),
    /// The answer is a folder that is packed while it is sent.
    Pack(Box<Pack>),
    /// The answer is what happens, as it happens.
    Live(Box<Live>),
    /// The answer is an error whose page is being read.
    Refusing(Box<Refusing>),
    /// There is no place for this client.
    Refused {
        refusal: &'static Refusal,
        until: Instant,
    },
}

/// A request that cannot be answered yet. In a box, as all that is more than a moment: the idle
/// connections would have room for it.
struct Parked {
    id: Id,
    /// When its first byte came.
    began: Instant,
    until: Instant,
    /// The site that its password is checked for.
    asks: Option<Place>,
}

/// An error that is about to be answered.
struct Refusing {
    refusal: Refusal,
    /// How the session ends, if it does.
    ending: Ending,
    /// The request, if it was sent on.
    forward: Option<Box<Forward>>,
    /// The connection stays.
    stays: bool,
    /// When the first byte of the request came.
    began: Instant,
    /// From then on it is answered without its page.
    until: Instant,
}

/// What follows an answer.
enum Next {
    /// The answer is queued; a body, if there is one, is read and dropped.
    Done,
    /// The answer is queued and the last.
    Close(Ending),
    /// The answer is the body itself, once it is whole.
    Echo,
    /// There is no answer yet: the request stays where it is, and the session is woken. `asks`: the
    /// site that its password is checked for.
    Later { asks: Option<Place> },
    /// The request is sent on.
    Forward(Box<Forward>),
    /// The head is queued; the body is made while it is sent.
    Pack(Box<Archive>, Persistence),
    /// The head is queued; the body is what happens from now on.
    Live(Box<Live>),
}

impl Web {
    /// Answers the request at the front of what arrived. Whether there was a whole one, and room
    /// for its answer. Long because the head lives in what arrived until all is known of its answer.
    fn answer_next(&mut self, conn: &mut Conn, io: &mut Io<'_>) -> bool {
        if !io.down.tx.has_room(self.answer_bytes) || self.awaits_verdict(conn) {
            return false; // what comes meanwhile is not looked at
        }
        let Link { rx, tx, .. } = &mut *io.down;
        if rx.is_empty() {
            return false;
        }
        let mut fresh = HeadScanner::default();
        let scanner = conn.scanner.as_deref_mut().unwrap_or(&mut fresh);
        let parsed = scanner.request(rx.bytes(), &self.limits);
        let (head, head_bytes) = match &parsed {
            Ok(Parsed::Complete(head, head_bytes)) => (head, *head_bytes),
            Ok(Parsed::Partial) => {
                if conn.scanner.is_none() {
                    conn.scanner = Some(Box::new(fresh));
                }
                self.await_head(conn, io);
                return false;
            }
            Err(error) => {
                self.refuse_last((*error).into(), Ending::Refused, conn, io);
                return false;
            }
        };
        let ring = &mut io.cx.inside.ring;
        ring.tell(io.id, Topic::Request, || {
            format!("{} {}", head.method.as_str(), head.target_text)
        });
        let work_before = *io.cx.work;
        io.cx.work.charge(work::REQUEST_NS);
        io.cx.work.charge_each(head_bytes, work::HEAD_BYTE_NS);
        let place = self.sites.find(head);
        let client = self.client(head, io.peer);
        let client = client.as_ref().unwrap_or(io.peer);
        let persistence = self.persistence(conn, head, place, io.cx.draining);
        let (is_head, sink) = (head.method == Method::Head, (tx, &mut io.cx, io.id));
        let mut reply = Reply::new(is_head, persistence, &mut self.writer, sink);
        reply.may_wait_for_page = true;
        reply.peer = Some(client);
        if let State::Parked(parked) = &conn.state {
            reply.may_wait = reply.cx.now < parked.began + forms::WAIT_MAX;
        }
        let mut sender = Sender {
            peer: io.peer,
            client,
            kept: &mut conn.kept,
        };
        let next = respond(
            &self.config,
            &mut self.sites,
            place,
            head,
            &mut sender,
            &mut reply,
        );
        if self.sites.wants_alone(place) {
            io.asked.alone = true;
        }
        // What is to be told of a request that goes on is told when it has ended.
        let goes_on = matches!(next, Next::Forward(_) | Next::Pack(..));
        if let Some(answered) = reply.sent {
            told(answered, reply.id, reply.cx);
            if !goes_on && !matches!(next, Next::Live(_)) {
                let began = conn.began(&self.config, reply.cx.now);
                let became = Became::of(answered.status.code());
                reply.cx.counted.answered(became, began);
            }
        }
        let entry = (goes_on && self.log.is_some()).then(|| Entry::of(head, client.ip()));
        if let (Some(log), Some(answered), false) = (&mut self.log, reply.sent, goes_on) {
            let began = conn.began(&self.config, io.cx.now);
            let request = (Some(Request::of(head)), began);
            let origin = (!self.writer.kept_of.is_empty()).then_some(&*self.writer.kept_of);
            log_line(log, request, (answered, origin), client, &mut io.cx);
        }
        let (body, more) = (head.body, head.keep_alive);
        if let Next::Later { asks } = next {
            // Nothing was done: it waits for what it asked for, and is asked again then.
            *io.cx.work = work_before;
            self.park(conn, (io.id, asks), io.cx.now);
            return false;
        }
        conn.scanner = None;
        rx.consume(head_bytes);
        rx.pass_unread(BodyDecoder::new(body).payload_ahead());
        conn.requests = conn.requests.saturating_add(1);
        io.cx.jobs.settle(Waiter::Session(io.id));
        self.leave(conn, &mut io.cx);
        self.follow(next, (body, more, persistence), entry, conn, io)
    }

    /// What becomes of the connection after a request was answered, or goes on. Whether the next one
    /// may be answered at once.
    fn follow(
        &mut self,
        next: Next,
        (body, more, persistence): (BodyLength, bool, Persistence),
        entry: Option<Entry>,
        conn: &mut Conn,
        io: &mut Io<'_>,
    ) -> bool {
        let now = io.cx.now;
        let echo = match next {
            Next::Later { .. } => return false, // it is parked
            Next::Forward(mut forward) => {
                forward.answers(conn.began(&self.config, now), entry);
                conn.state = State::Forward(forward);
                return true;
            }
            Next::Pack(archive, persistence) => {
                io.down.end_is_framing = archive.ends_with_connection();
                let began = conn.began(&self.config, now);
                let until = now + self.config.answer_timeout;
                let pack = Pack::new(archive, persistence, until, (began, entry));
                conn.state = State::Pack(Box::new(pack));
                return true;
            }
            Next::Live(live) => {
                io.down.end_is_framing = live.ends_with_connection();
                conn.state = State::Live(live);
                return true;
            }
            Next::Close(ending) => {
                io.down.rx.pass_unread(u64::MAX);
                io.close_as(ending);
                return false;
            }
            Next::Done if persistence == Persistence::Ends => {
                io.down.rx.pass_unread(u64::MAX);
                match body {
                    BodyLength::None if !more => io.close_at_once(),
                    _ => io.close(), // what still comes is read and dropped as the session lingers
                }
                return false;
            }
            Next::Done if body == BodyLength::None => {
                conn.state = State::Idle {
                    until: now + self.config.idle_timeout,
                };
                return true;
            }
            Next::Done => None,
            Next::Echo => Some(Echo::new(persistence, conn.began(&self.config, now))),
        };
        let body = RequestBody::new(body, echo, &self.config, now);
        conn.state = State::Body(Box::new(body));
        true
    }

    /// The answer takes more than this turn.
    #[cold]
    fn park(&mut self, conn: &mut Conn, (id, asks): (Id, Option<Place>), now: Instant) {
        self.working = true;
        let until = match &conn.state {
            State::Parked(parked) => parked.until,
            _ => now + self.config.answer_timeout,
        };
        conn.state = State::Parked(Box::new(Parked {
            id,
            began: conn.began(&self.config, now),
            until,
            asks,
        }));
    }

    /// Whether the request's password is still being checked: then there is nothing to be done.
    fn awaits_verdict(&mut self, conn: &Conn) -> bool {
        let State::Parked(parked) = &conn.state else {
            return false;
        };
        let asks = |place| self.sites.at(place).checks_password_of(parked.id);
        parked.asks.is_some_and(asks)
    }

    /// A request that was parked waits for nothing any more: it is answered, or gone.
    #[inline]
    fn leave(&mut self, conn: &Conn, cx: &mut Cx<'_>) {
        if let State::Parked(parked) = &conn.state {
            self.unpark(parked.id, parked.asks, cx);
        }
    }

    #[cold]
    fn unpark(&mut self, id: Id, asks: Option<Place>, cx: &mut Cx<'_>) {
        if let Some(place) = asks {
            self.sites.at(place).forget(id);
        }
        self.sites.forget(id, cx);
    }

    /// The head is not whole: it gets its time, and more room if it fills what it has.
    #[cold]
    fn await_head(&mut self, conn: &mut Conn, io: &mut Io<'_>) {
        let rx = &mut io.down.rx;
        // A line end too many behind the last request is no beginning of the next (RFC 9112 section
        // 2.2).
        let begun = rx.bytes().iter().any(|byte| !b"\r\n".contains(byte));
        if begun && matches!(conn.state, State::Idle { .. }) {
            let until = io.cx.now + self.config.head_timeout;
            conn.state = State::Head { until };
        }
        if !rx.has_space() && !rx.enlarge(io.cx.pool) {
            self.refuse_last(HeadError::HeadTooLarge.into(), Ending::Refused, conn, io);
        }
    }

    /// Who asks, if that is another than the peer: a client of a proxy that is trusted.
    fn client(&self, head: &RequestHead<'_>, peer: &Peer) -> Option<Peer> {
        if self.trusted.is_empty() {
            return None;
        }
        let fields = self.config.forwarded.unwrap_or_default();
        let is_trusted = |ip| self.trusted.contains(ip);
        let client = forwarded::client(fields, &head.headers, peer.ip()?, is_trusted)?;
        Some(Peer::Inet((client, 0).into()))
    }

    /// Whether the connection stays after the answer to this request.
    fn persistence(
        &self,
        conn: &Conn,
        head: &RequestHead<'_>,
        place: Place,
        draining: bool,
    ) -> Persistence {
        let requests_max = self.config.requests_per_connection_max;
        let may_tunnel = self.sites.forwards_at(place);
        let is_last = draining
            || !head.keep_alive
            || requests_max.is_some_and(|max| u64::from(conn.requests) + 1 >= max.get())
            || (head.method == Method::Connect && !may_tunnel);
        Persistence::new(!is_last, head.version)
    }

    /// When no more requests can be answered now: is this the end?
    fn end(&mut self, conn: &mut Conn, io: &mut Io<'_>) {
        if io.asked.close || io.down.tx.was_refused() || io.cx.work.is_spent() {
            return; // it is one already, or there are requests to answer once there is room or time
        }
        if io.cx.draining && !self.stays_while_draining {
            self.cut_short(conn);
        }
        let late = io.cx.now >= self.deadline(conn) && io.down.tx.is_empty();
        let is_idle = matches!(conn.state, State::Idle { .. });
        // Whatever waits to be sent: the end goes behind it.
        let needless = conn.is_last && is_idle && io.cx.now >= self.deadline(conn);
        // A client that said its last still gets the answer that is being made for it.
        let ended = io.down.eof && !matches!(conn.state, State::Parked(_));
        if !(ended || late || needless) {
            return;
        }
        let (phase, awaited) = match &conn.state {
            State::Forward(_)
            | State::Check(_)
            | State::Pack(_)
            | State::Live(_)
            | State::Refusing(_) => return, // they know themselves whom they wait for
            State::Idle { .. } | State::Refused { .. } => (Phase::Idle, false),
            State::Head { .. } => (Phase::Head, true),
            State::Parked(_) => {
                return self.refuse_last(OVERLOADED, Ending::Refused, conn, io);
            }
            State::Body(body) => (Phase::Body, body.echo.is_some()),
        };
        let timed_out = Ending::TimedOut(phase);
        match (awaited, io.down.eof) {
            (true, true) => self.refuse_last(CUT_SHORT, Ending::Refused, conn, io),
            (true, false) => self.refuse_last(LATE, timed_out, conn, io),
            (false, false) if late && !needless => io.close_as(timed_out),
            (false, _) => io.close(),
        }
    }

    /// The process drains: an idle connection stays as long after its last answer as a request may
    /// well be on its way (RFC 9112 section 9.3.1), since who sent it would not know whether it was
    /// done. One that came meanwhile is answered, and told that it is the last.
    fn cut_short(&self, conn: &mut Conn) {
        let HttpConfig {
            idle_timeout,
            head_timeout,
            drain_idle_grace,
            ..
        } = &self.config;
        let State::Idle { until } = &mut conn.state else {
            return;
        };
        let whole = match conn.requests {
            0 => head_timeout,
            _ => idle_timeout,
        };
        if !std::mem::replace(&mut conn.is_last, true)
            && let Some(less) = whole.checked_sub(*drain_idle_grace)
        {
            *until = until.checked_sub(less).unwrap_or(*until);
        }
    }

    /// Answers what is not, or no longer, a request that could be answered, and closes.
    #[cold]
    fn refuse_last(&mut self, refusal: Refusal, ending: Ending, conn: &mut Conn, io: &mut Io<'_>) {
        self.leave(conn, &mut io.cx);
        if let State::Body(body) = &mut conn.state {
            body.release(io.cx.pool);
        }
        conn.state = State::Refusing(Box::new(Refusing {
            refusal,
            ending,
            forward: None,
            stays: false,
            began: conn.began(&self.config, io.cx.now),
            until: io.cx.now + self.config.answer_timeout,
        }));
        self.refuse(conn, io);
    }

    /// Answers with an error, once its page is there. Whether the next request may be answered.
    #[inline(never)]
    fn refuse(&mut self, conn: &mut Conn, io: &mut Io<'_>) -> bool {
        let State::Refusing(refusing) = &mut conn.state else {
            return true;
        };
        let (place, is_head, persistence) = match &refusing.forward {
            Some(forward) => (
                forward.place,
                forward.is_head(),
                forward.persistence(refusing.stays),
            ),
            None => (self.sites.rest(), false, Persistence::Ends),
        };
        let site = self.sites.at(place);
        let format = match &refusing.forward {
            Some(forward) => forward.error_format(),
            None => site.error_format(),
        };
        let sink = (&mut io.down.tx, &mut io.cx, io.id);
        let mut reply = Reply::new(is_head, persistence, &mut self.writer, sink);
        reply.may_wait_for_page = reply.cx.now < refusing.until;
        if site
            .refuse(&refusing.refusal, format, &mut reply)
            .is_pending()
        {
            return false;
        }
        let sent = reply.sent;
        io.cx.jobs.settle(Waiter::Session(io.id));
        let (stays, ending, began) = (refusing.stays, refusing.ending, refusing.began);
        match refusing.forward.take() {
            Some(mut forward) => {
                forward.refused(sent);
                self.forwarded(forward, conn, io);
            }
            None => {
                if let Some(answered) = sent {
                    io.cx
                        .counted
                        .answered(Became::of(answered.status.code()), began);
                }
                if let (Some(log), Some(answered)) = (&mut self.log, sent) {
                    let request = (None, io.cx.now);
                    log_line(log, request, (answered, None), io.peer, &mut io.cx);
                }
            }
        }
        if !stays {
            io.close_as(ending);
        }
        stays
    }

    /// Receives a body. Whether it is whole.
    #[inline(never)]
    fn receive_body(&mut self, conn: &mut Conn, io: &mut Io<'_>) -> bool {
        let State::Body(body) = &mut conn.state else {
            return true;
        };
        let result = body.receive(&self.config, io);
        let is_answered = body.echo.is_none();
        match result {
            Received::Part => return false,
            Received::Whole => {}
            // Where the request was answered already, a second answer would be taken for another
            // request's.
            Received::Bad(refusal) if is_answered => {
                if let Some(limit) = refusal.limit {
                    io.cx.counted.refused(limit);
                }
                io.close_as(Ending::Refused);
                return false;
            }
            Received::Bad(refusal) => {
                self.refuse_last(refusal, Ending::Refused, conn, io);
                return false;
            }
        }
        let echo = body.echo.take();
        conn.state = State::Idle {
            until: io.cx.now + self.config.idle_timeout,
        };
        let Some(Echo {
            mut body,
            persistence,
            began,
        }) = echo
        else {
            return true;
        };
        let sink = (&mut io.down.tx, &mut io.cx, io.id);
        let mut reply = Reply::new(false, persistence, &mut self.writer, sink);
        reply.plain_from(Status::OK, &mut body);
        io.cx.counted.answered(Became::of(Status::OK.code()), began);
        if persistence == Persistence::Ends {
            io.close();
        }
        persistence != Persistence::Ends
    }

    /// Takes a request that is sent on a step further. Whether the next request may be answered.
    #[inline(never)]
    fn forward(&mut self, conn: &mut Conn, io: &mut Io<'_>) -> Result<bool, Error> {
        let State::Forward(forward) = &mut conn.state else {
            return Ok(true);
        };
        let site = self.sites.at(forward.place);
        let Content::Proxy(proxy) = &mut site.content else {
            unreachable!("a request is sent on by the site of a proxy");
        };
        let outcome = match forward.advance(proxy, io)? {
            Outcome::Wait => return Ok(false),
            // There is nobody to be told.
            Outcome::Refused { .. } if io.down.status == LinkState::Closed => {
                Outcome::Done { stays: false }
            }
            outcome => outcome,
        };
        let idle = State::Idle {
            until: io.cx.now + self.config.idle_timeout,
        };
        let State::Forward(forward) = std::mem::replace(&mut conn.state, idle) else {
            unreachable!("it was forwarded a moment ago");
        };
        match outcome {
            Outcome::Wait => unreachable!("that was returned above"),
            Outcome::Done { stays } => {
                self.forwarded(forward, conn, io);
                if !stays {
                    io.close();
                }
                Ok(stays)
            }
            Outcome::Refused {
                refusal,
                stays,
                ending,
            } => {
                io.disconnect();
                conn.state = State::Refusing(Box::new(Refusing {
                    refusal,
                    ending,
                    began: forward.began(io.cx.now),
                    forward: Some(forward),
                    stays,
                    until: io.cx.now + self.config.answer_timeout,
                }));
                Ok(true)
            }
        }
    }

    /// A request that was sent on was answered.
    fn forwarded(&mut self, mut forward: Box<Forward>, conn: &mut Conn, io: &mut Io<'_>) {
        conn.state = State::Idle {
            until: io.cx.now + self.config.idle_timeout,
        };
        if let Some((answered, answerer)) = forward.answered() {
            told(answered, io.id, &mut io.cx);
            let is_asked = io.down.status != LinkState::Closed;
            // A tunnel was the answer when it began.
            if is_asked && !matches!(answerer, Answerer::Tunnel { .. }) {
                let began = forward.began(io.cx.now);
                io.cx
                    .counted
                    .answered(Became::of(answered.status.code()), began);
            }
        }
        self.log_forward(&forward, &mut io.cx);
        if let Content::Proxy(proxy) = &mut self.sites.at(forward.place).content {
            forward.release(proxy, &mut io.cx);
        }
        conn.kept = Some(forward);
    }

    /// Takes a check of an upstream a step further; the session ends with it.
    #[inline(never)]
    fn check(&mut self, conn: &mut Conn, io: &mut Io<'_>) -> bool {
        let State::Check(check) = &mut conn.state else {
            return true;
        };
        if let Content::Proxy(proxy) = &mut self.sites.at(check.place).content
            && check.advance(proxy, io)
        {
            io.close();
        }
        false
    }

    /// Sends more of an archive. Whether the next request may be answered.
    #[inline(never)]
    fn pack(&mut self, conn: &mut Conn, io: &mut Io<'_>) -> Result<bool, Error> {
        let State::Pack(pack) = &mut conn.state else {
            return Ok(true);
        };
        if !pack.advance(self.config.answer_timeout, io)? {
            return Ok(false);
        }
        let stays = pack.stays();
        let idle = State::Idle {
            until: io.cx.now + self.config.idle_timeout,
        };
        if let State::Pack(pack) = std::mem::replace(&mut conn.state, idle) {
            pack.log(self.log.as_deref_mut(), &mut io.cx);
            let became = Became::of(Status::OK.code());
            io.cx.counted.answered(became, pack.began());
        }
        if !stays {
            io.close();
        }
        Ok(stays)
    }

    /// Sends what happened since the last look. Whether the next request may be answered.
    #[inline(never)]
    fn live(&mut self, conn: &mut Conn, io: &mut Io<'_>) -> bool {
        let State::Live(live) = &mut conn.state else {
            return true;
        };
        if !live.advance(io) {
            return false;
        }
        live.ended(&mut io.cx);
        let stays = live.stays();
        conn.state = State::Idle {
            until: io.cx.now + self.config.idle_timeout,
        };
        if !stays {
            io.close();
        }
        stays
    }

    /// The line of a request that was sent on.
    fn log_forward(&mut self, forward: &Forward, cx: &mut Cx<'_>) {
        let (Some(log), Some(entry)) = (&mut self.log, forward.logged()) else {
            return;
        };
        let Some((answered, answerer)) = forward.answered() else {
            return;
        };
        let parent = match &self.sites.at(forward.place).content {
            Content::Proxy(proxy) if answerer != Answerer::Cache => proxy.parent_of(forward),
            _ => None,
        };
        let line = Line {
            peer: entry.peer,
            request: Some(entry.request()),
            origin: Some((forward.authority(), answerer)),
            parent,
            answered,
            took: cx.now.saturating_duration_since(forward.began(cx.now)),
            wall: cx.wall,
        };
        log.add(&line, &mut cx.counted);
    }
}

/// Tells the ring, if anybody looks, what a request was answered with.
fn told(answered: Answered, id: Id, cx: &mut Cx<'_>) {
    let (status, bytes) = (answered.status.code(), answered.body_bytes);
    let answered = What::Answered { status, bytes };
    cx.inside.ring.push_after(id, answered);
}

/// The line of what was answered here. `request`: with the moment in which its first byte came.
/// `origin`: whose response it was, if it was kept.
fn log_line(
    log: &mut AccessLog,
    (request, began): (Option<Request<'_>>, Instant),
    (answered, origin): (Answered, Option<&str>),
    peer: &Peer,
    cx: &mut Cx<'_>,
) {
    let took = cx.now.saturating_duration_since(began);
    let line = Line {
        origin: origin.map(|origin| (origin, Answerer::Cache)),
        ..Line::of(peer.ip(), request, answered, took, cx.wall)
    };
    log.add(&line, &mut cx.counted);
}

const CUT_SHORT: Refusal =
    Refusal::new(Status::BAD_REQUEST, "the request ended before it was whole");
const LATE: Refusal = Refusal::new(
    Status::REQUEST_TIMEOUT,
    "the request took longer to arrive than this server waits",
);
const OVERLOADED: Refusal = Refusal::new(
    Status::SERVICE_UNAVAILABLE,
    "the answer took longer to make than this server waits; try again in a moment",
);
impl Conn {
    fn new(state: State, seat: Option<Seat>) -> Self {
        Self {
            state,
            scanner: None,
            requests: 0,
            is_last: false,
            seat,
            kept: None,
            held: Held::default(),
        }
    }

    /// Bytes of what grows with what the client sends or asks for, and is not in pages.
    fn bytes_held(&self) -> usize {
        let state = match &self.state {
            State::Forward(forward) => forward.bytes_held(),
            State::Pack(pack) => pack.bytes_held(),
            State::Live(live) => live.bytes_held(),
            _ => 0,
        };
        let kept = self.kept.as_ref();
        state + kept.map_or(0, |forward| forward.bytes_held())
    }

    /// When the first byte of the request under way came.
    fn began(&self, config: &HttpConfig, now: Instant) -> Instant {
        match self.state {
            State::Head { until } => until.checked_sub(config.head_timeout).unwrap_or(now),
            State::Parked(ref parked) => parked.began,
            _ => now,
        }
    }
}

impl Service for Web {
    type Conn = Conn;
    const CLIENT_FIRST: bool = true;
    const BEGINS_ALONE: bool = true;

    fn counts() -> Of {
        Of::Web(WebMetrics::default())
    }

    fn accept(&mut self, peer: &Peer, now: Instant) -> Conn {
        let until = now + self.config.head_timeout;
        let (state, seat) = match self.admission.admit(peer) {
            Ok(seat) => (State::Idle { until }, Some(seat)),
            Err(refusal) => (State::Refused { refusal, until }, None),
        };
        Conn::new(state, seat)
    }

    fn advance(&mut self, conn: &mut Conn, io: &mut Io<'_>) -> Result<(), Error> {
        if io.drained
            && let State::Idle { until } = &mut conn.state
        {
            let idle = match conn.is_last {
                true => self.config.drain_idle_grace,
                false => self.config.idle_timeout,
            };
            *until = io.cx.now + idle;
        }
        while !io.cx.work.is_spent() {
            let more = match conn.state {
                State::Idle { .. } | State::Head { .. } | State::Parked(_) => {
                    self.answer_next(conn, io)
                }
                State::Body(_) => self.receive_body(conn, io),
                State::Forward(_) => self.forward(conn, io)?,
                State::Check(_) => self.check(conn, io),
                State::Pack(_) => self.pack(conn, io)?,
                State::Live(_) => self.live(conn, io),
                State::Refused { refusal, .. } => {
                    self.refuse_last(refusal.clone(), Ending::Refused, conn, io);
                    false
                }
                State::Refusing(_) => self.refuse(conn, io),
            };
            if !more {
                break;
            }
        }
        self.end(conn, io);
        let bytes_held = conn.bytes_held();
        io.cx.pool.hold(&mut conn.held, bytes_held);
        if self.working || self.log.as_mut().is_some_and(|log| log.is_waiting()) {
            io.at_turn_end();
        }
        Ok(())
    }

    fn state(&self, conn: &Conn) -> &'static str {
        match &conn.state {
            State::Idle { .. } => "Idle",
            State::Head { .. } => "Head",
            State::Parked(_) => "Parked",
            State::Body(_) => "Body",
            State::Forward(forward) => forward.state(),
            State::Check(_) => "Check",
            State::Pack(_) => "Pack",
            State::Live(_) => "Live",
            State::Refusing(_) => "Refusing",
            State::Refused { .. } => "Refused",
        }
    }

    fn deadline(&self, conn: &Conn) -> Instant {
        match &conn.state {
            State::Idle { until } | State::Head { until } | State::Refused { until, .. } => *until,
            State::Parked(parked) => parked.until,
            State::Body(body) => body.until,
            State::Forward(forward) => forward.deadline(),
            State::Check(check) => check.until,
            State::Pack(pack) => pack.deadline(),
            State::Live(live) => live.deadline(),
            State::Refusing(refusing) => refusing.until,
        }
    }

    fn ended(&mut self, conn: Conn, cx: &mut Cx<'_>) {
        self.leave(&conn, cx);
        let forward = match conn.state {
            State::Body(mut body) => {
                body.release(cx.pool);
                None
            }
            State::Forward(forward) => Some(forward),
            State::Refusing(refusing) => refusing.forward,
            State::Check(check) => {
                if let Content::Proxy(proxy) = &mut self.sites.at(check.place).content {
                    proxy.check_ended(&check);
                }
                None
            }
            State::Pack(pack) => {
                pack.log(self.log.as_deref_mut(), cx);
                None
            }
            State::Live(mut live) => {
                live.ended(cx);
                None
            }
            _ => None,
        };
        if let Some(mut forward) = forward {
            self.log_forward(&forward, cx);
            if let Content::Proxy(proxy) = &mut self.sites.at(forward.place).content {
                forward.release(proxy, cx);
            }
        }
        if let Some(seat) = conn.seat {
            self.admission.leave(seat);
        }
    }

    fn alone(&mut self, now: Instant) -> Option<Conn> {
        let state = match self.sites.take_alone(now)? {
            Alone::Forward(forward) => State::Forward(forward),
            Alone::Check(check) => State::Check(Box::new(check)),
        };
        Some(Conn::new(state, None))
    }

    fn outlives_client(&mut self, conn: &mut Conn, cx: &mut Cx<'_>) -> bool {
        match &conn.state {
            State::Forward(forward) => forward.outlives_client(cx),
            _ => false,
        }
    }

    fn turn_ended(&mut self, cx: &mut Cx<'_>) -> bool {
        if std::mem::take(&mut self.is_new) {
            cx.counted.have_upstreams(self.sites.upstreams());
        }
        self.working = self.sites.turn_ended(cx);
        if let Some(log) = &mut self.log {
            log.flush(cx);
        }
        self.working
    }

    fn turn_deadline(&self) -> Option<Instant> {
        let log = self.log.as_ref().and_then(|log| log.wakes_at());
        let moments = [log, self.sites.turn_deadline()];
        moments.into_iter().flatten().min()
    }

    fn is_busy(&self) -> bool {
        self.log.as_ref().is_some_and(|log| log.is_busy())
    }

    fn reopen(&mut self, cx: &mut Cx<'_>) {
        if let Some(log) = &mut self.log {
            log.reopen(cx);
        }
    }

    fn bequeath(&self) -> Option<Box<dyn Any>> {
        let learned = self.sites.learned();
        (!learned.is_empty()).then(|| Box::new(learned) as Box<dyn Any>)
    }

    fn inherit(&mut self, learned: Box<dyn Any>) {
        if let Ok(learned) = learned.downcast::<Learned>() {
            self.sites.inherit(&learned);
        }
    }
}
