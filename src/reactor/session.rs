//! A session: one client's connection, and for a proxy the connection to its origin, with the state
//! of a protocol.
//!
//! [`Session::pump`] is the heart of the program: fill, advance, flush, until a pass brought no new
//! fact.
//!
//! ```text
//!            ┌────────────── a new fact ◀─────────────────┐
//!            ▼                                            │
//! woken ──▶ fill ──▶ advance ──▶ start what was asked ──▶ flush ──▶ no new fact: park until the deadline
//!
//! Introduced ──a proxy told for whom, where one is to──▶ Running
//! Running ──close()──▶ Closing ──all sent, shut down──▶ Lingering ──end of stream, or enough──▶ ended
//!    └──────────────────── an error, or a deadline that the protocol let pass ───────────────────▶ ended
//! ```
//!
//! The rules:
//! 1. `readable` and `writable` are set by an event and cleared here only: on `WouldBlock`, or on a
//!    short transfer. A short read is no proof of a drained socket once the peer has closed: that
//!    edge was told already, so the socket is read until it says so.
//! 2. A session parks only when there is nothing left that it could do; `assert_parked` of
//!    a [`Half`] says what that means.
//! 3. Whoever spends its budget, of bytes or of work
//!    ([`Work`](crate::service::work::Work)), goes to the next turn, behind the others.
//!
//! A long file, since the states of a session are judged in one place. Not here: what an event
//! means (`reactor`), how a connection is attempted (`upstream`).

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use super::context::{Context, SessionLimits};
use super::half::Half;
use super::host::Host;
use super::inlet;
use super::introduction::{Introduced, Introduction};
use super::race::Race;
use super::range::FileRange;
use super::relay::{self, Filled};
use super::taking::Taking;
use super::timer::Reminders;
use super::tls::Tls;
use super::token::Token;
use super::transfer::{Budget, Calls, Progress};
use super::upstream::Upstream;
use crate::ending::{Ending, Error, Phase};
use crate::gate::Admitted;
use crate::inside::ring::{Call, CameTo, Topic, Waits, What};
use crate::inside::roster::Row;
use crate::service::origins::Way;
use crate::service::{
    Asked, Connect, Finish, Id, Io, Link, LinkState, Peer, Relayed, Side, Waiter,
};
use crate::sys::{Event, PlantedBug, Sys, UNTRUSTED_BYTES};

/// How far a session is with its end.
#[derive(Debug)]
enum Stage {
    /// A proxy is to tell whose connection it is.
    Introduced(Box<Introduction>),
    Running,
    /// The protocol is done; what is queued is being sent. `linger_bytes`: what may still be read
    /// and dropped; with none, because the protocol expects none or because they were used up,
    /// nothing is waited for when all is sent.
    Closing {
        linger_bytes: usize,
    },
    /// All is sent; waiting for the peer's end, so that no reset overtakes our last bytes (RFC 9112
    /// section 9.6).
    Lingering {
        until: Instant,
        /// However much comes, it is not waited for any longer.
        last: Instant,
        linger_bytes: usize,
    },
}

/// What a pump came to.
pub(crate) enum Outcome {
    /// Nothing more can be done before an event or this moment.
    Park(Instant),
    /// The budget is spent.
    Again,
    /// The peer is a proxy, and told for whom the connection is; `None` for itself.
    Introduced(Option<SocketAddr>),
    /// It is over: in good order, or why not.
    Ended(Result<(), Error>),
}

/// Where a session came from.
#[derive(Debug)]
pub(crate) struct Provenance {
    /// The place of the listening socket that it came by.
    pub(crate) socket: u32,
    /// Who serves it: the listener's service when it began.
    pub(crate) host: u32,
    /// Its place in the metrics.
    pub(crate) metrics: u32,
    /// The key of its state in the listener's host.
    pub(crate) conn: u32,
    pub(crate) peer: Peer,
    /// Where it is counted by its address.
    pub(crate) admitted: Admitted,
}

/// One session.
pub(crate) struct Session<S: Sys> {
    pub(crate) id: Id,
    pub(crate) provenance: Provenance,
    down: Half<S>,
    /// How the file range that is to be sent to the client next stands.
    range: FileRange,
    /// The connection to an origin, made or being made; most sessions never have one.
    up: Option<Box<Upstream<S>>>,
    /// The poll knows the client's socket.
    registered: bool,
    stage: Stage,
    /// Why it was closed, if it was.
    pub(crate) ending: Ending,
    taking: Taking,
    /// It waits in the run queue.
    pub(crate) queued: bool,
    woken: Woken,
    pub(crate) reminders: Reminders,
}

/// Whether a fact changed that no buffer shows: an answer, a deadline, the drain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Woken {
    #[default]
    No,
    Yes,
    /// The last pump spent its share of work: what waits in the buffers is looked at before more is
    /// read.
    LeftUndone,
}

/// How a session stands before and after a step of its protocol.
struct Seen {
    state: &'static str,
    /// Bytes that arrived and were not consumed, on both sides.
    received: usize,
    /// Bytes that wait to be sent, on both sides.
    queued: u64,
    /// The ring was read then.
    is_read: bool,
}

impl<S: Sys> Session<S> {
    /// A session for a connection just accepted.
    pub(crate) fn new(
        id: Id,
        provenance: Provenance,
        stream: S::Stream,
        tls: Option<Box<Tls>>,
        limits: &SessionLimits,
    ) -> Self {
        let down = Half::new(stream, LinkState::Open, tls, limits.send_bytes_max);
        Self::over(id, provenance, down)
    }

    fn over(id: Id, provenance: Provenance, down: Half<S>) -> Self {
        Self {
            id,
            provenance,
            down,
            range: FileRange::default(),
            up: None,
            registered: false,
            stage: Stage::Running,
            ending: Ending::Done,
            taking: Taking::default(),
            queued: false,
            woken: Woken::Yes,
            reminders: Reminders::NONE,
        }
    }

    /// A session that has no client.
    pub(crate) fn alone(id: Id, provenance: Provenance, limits: &SessionLimits) -> Self {
        let down = Half::without(LinkState::Closed, limits.send_bytes_max);
        Self::over(id, provenance, down)
    }

    /// A fact changed that no buffer shows.
    pub(crate) fn wake(&mut self) {
        if self.woken == Woken::No {
            self.woken = Woken::Yes;
        }
    }

    /// Whether there is one, and the protocol is not done with it.
    pub(crate) fn has_client(&self) -> bool {
        self.down.stream.is_some() && matches!(self.stage, Stage::Running)
    }

    /// Whether there is one, or was until the session ended with it.
    pub(crate) fn had_client(&self) -> bool {
        self.down.stream.is_some()
    }

    /// Goes on without the client, whose connection is closed.
    pub(crate) fn lose_client(&mut self, cx: &mut Context<S>) {
        self.down.close(true, &mut cx.lenders());
        let send_bytes_max = cx.limits.send_bytes_max;
        self.down = Half::without(LinkState::Closed, send_bytes_max);
        self.range = FileRange::default();
        self.taking = Taking::default();
        cx.jobs.forget(Waiter::Sending(self.id));
        self.wake();
    }

    /// Before anything else, a proxy is to tell whose connection it is, until then.
    pub(crate) fn await_introduction(&mut self, until: Instant) {
        self.stage = Stage::Introduced(Box::new(Introduction::new(until)));
    }

    /// That is known: what follows is the client's.
    pub(crate) fn begin(&mut self) {
        self.stage = Stage::Running;
    }

    /// An event's part in the session, on the side towards the client.
    pub(crate) fn note(&mut self, readable: bool, writable: bool, read_closed: bool) {
        self.down.ready.note(readable, writable, read_closed);
    }

    /// The same for the connection to an origin in this place.
    pub(crate) fn note_upstream(&mut self, place: u32, event: &Event) {
        if let Some(up) = &mut self.up {
            up.note(place, event);
        }
    }

    /// Takes the session as far as it can go. See the module's picture.
    ///
    /// | flag | set | cleared |
    /// |---|---|---|
    /// | `woken` | by others: an answer, a deadline, the drain; by a connection that failed; by a pump that spent its budget | where `fact` takes it |
    /// | `fact` | `woken`, or news of `fill`, `flush` or the connection | by `flush`, after `advance` saw it |
    /// | `again` | the protocol asked for another turn | by the next `advance`; the pump ends with it |
    /// | `advanced` | `advance` ran in this pump | never: a deadline that passed must have been seen by it |
    pub(crate) fn pump(&mut self, host: &mut dyn Host, cx: &mut Context<S>) -> Outcome {
        if matches!(self.stage, Stage::Introduced(_))
            && let Some(outcome) = self.introduce(cx)
        {
            return outcome;
        }
        self.down.link.tx.begin_turn();
        self.down.held = self.must_wait(cx);
        let mut budget = self.budget(cx);
        let mut again = false;
        let woken = std::mem::take(&mut self.woken);
        // Before an idle connection is closed, it is looked whether something came for it meanwhile: an
        // event may be on its way.
        if cx.draining && woken != Woken::No {
            self.down.ready.readable = true;
        }
        let mut fact = woken != Woken::No;
        let mut advanced = false;
        if self.up.is_some() {
            fact |= self.advance_connect(cx);
        }
        let mut left_undone = woken == Woken::LeftUndone;
        loop {
            let has_input = std::mem::take(&mut left_undone);
            match self.fill(has_input, cx, &mut budget) {
                Ok(news) => fact |= news,
                Err(kind) => return Outcome::Ended(Err(Error::Reset(kind))),
            }
            advanced |= fact;
            if fact {
                match self.advance(host, cx) {
                    Ok(asked_again) => again = asked_again,
                    Err(error) => return Outcome::Ended(Err(error)),
                }
            }
            match self.flush(cx, &mut budget) {
                Ok(news) => fact = news | (std::mem::take(&mut self.woken) != Woken::No),
                Err(error) => return Outcome::Ended(Err(error)),
            }
            if let Some(outcome) = self.end(cx) {
                return outcome;
            }
            cx.work.charge(budget.take_cost());
            let is_spent = cx.work.is_spent();
            if budget.is_spent() || is_spent || again {
                // What a protocol left undone for want of work, no buffer shows.
                let is_left = is_spent && !cx.sys.planted(PlantedBug::ShareForgets);
                if is_left {
                    self.woken = Woken::LeftUndone;
                } else if fact | again {
                    self.wake();
                }
                return Outcome::Again;
            }
            if !fact && !self.may_fill_down() && !self.may_fill_up() {
                match self.park(advanced, host, cx) {
                    Some(outcome) => return outcome,
                    None => fact = true,
                }
            }
        }
    }

    /// What a pump may move, and what is noted of it.
    #[inline]
    fn budget(&self, cx: &Context<S>) -> Budget {
        let mut budget = Budget::new(cx.limits.pump_bytes_max);
        if cx.inside.ring.wants(self.id) {
            budget.calls = Some(Box::new(Calls {
                untimed: (!cx.inside.ring.is_read(self.id)).then_some(cx.now),
                made: Vec::new(),
            }));
        }
        budget
    }

    /// Looks for what a proxy is to tell of its client, if that is awaited.
    #[inline(never)]
    fn introduce(&mut self, cx: &mut Context<S>) -> Option<Outcome> {
        let Stage::Introduced(introduction) = &mut self.stage else {
            return None;
        };
        let until = introduction.until;
        let introduced = introduction.advance(&mut self.down, &mut cx.sys, cx.now);
        let parks = |()| Outcome::Park(until);
        Some(match introduced {
            Ok(Introduced::By(client)) => Outcome::Introduced(client),
            Ok(Introduced::NotYet) if cx.draining => Outcome::Ended(Ok(())),
            Ok(Introduced::NotYet) => self
                .register(cx)
                .map_or_else(|error| Outcome::Ended(Err(error)), parks),
            Err(error) => Outcome::Ended(Err(error)),
        })
    }

    /// Reads both sides. Whether anything new came. `has_input`: a side where something waits has
    /// enough to go on with, and to read a little more behind it costs a call, and a copy of what
    /// waits.
    fn fill(
        &mut self,
        has_input: bool,
        cx: &mut Context<S>,
        budget: &mut Budget,
    ) -> Result<bool, io::ErrorKind> {
        let mut news = false;
        if self.may_fill_down() && (!has_input || self.down.link.rx.is_empty()) {
            news |= self.fill_down(cx, budget)?;
        }
        if self.up.is_some() {
            news |= self.fill_up(has_input, cx, budget);
        }
        Ok(news)
    }

    fn fill_down(
        &mut self,
        cx: &mut Context<S>,
        budget: &mut Budget,
    ) -> Result<bool, io::ErrorKind> {
        let before = budget.moved;
        let began = self.is_handshaking().then(|| cx.sys.now());
        let up = self.up.as_deref_mut();
        let to = up.map(|up| (&mut up.half, &mut up.relayed.up));
        let result = fill(&mut self.down, to, cx, budget);
        if let Some(began) = began {
            let now = cx.sys.now();
            cx.handshakes.took(now.saturating_duration_since(began));
        }
        let moved = budget.moved - before;
        cx.metrics.listeners[self.provenance.metrics as usize].bytes_in += moved;
        cx.note_calls(self.id, false, budget);
        cx.note_moved(self.id, moved, |bytes| What::Filled {
            from_origin: false,
            bytes,
        });
        result
    }

    /// A connection that broke is news, too. Apart, since most sessions have no origin.
    #[inline(never)]
    fn fill_up(&mut self, has_input: bool, cx: &mut Context<S>, budget: &mut Budget) -> bool {
        if !self.may_fill_up() {
            return false;
        }
        let Some(up) = &mut self.up else {
            return false;
        };
        if has_input && !up.half.link.rx.is_empty() {
            return false;
        }
        let began = up.half.is_handshaking().then(|| cx.sys.now());
        let to = (&mut self.down, &mut up.relayed.down);
        let before = budget.moved;
        let mut news = match fill(&mut up.half, Some(to), cx, budget) {
            Ok(news) => news,
            Err(kind) => {
                up.half.fail(kind, &mut cx.lenders());
                true
            }
        };
        cx.note_calls(self.id, true, budget);
        cx.note_moved(self.id, budget.moved - before, |bytes| What::Filled {
            from_origin: true,
            bytes,
        });
        if let Some(began) = began {
            // A certificate takes as long to check as many requests.
            let took = cx.sys.now().saturating_duration_since(began);
            cx.work
                .charge(u32::try_from(took.as_nanos()).unwrap_or(u32::MAX));
            news |= self.advance_connect(cx);
        }
        news
    }

    #[inline]
    fn may_fill_down(&self) -> bool {
        self.down.may_fill() && !self.is_held_up(Side::Down)
    }

    fn may_fill_up(&self) -> bool {
        let up = self.up.as_deref();
        up.is_some_and(|up| up.half.may_fill()) && !self.is_held_up(Side::Up)
    }

    /// Whether what arrives at a side goes to the other one unread, and waits until that has taken
    /// what is there for it.
    fn is_held_up(&self, side: Side) -> bool {
        self.up.as_deref().is_some_and(|up| match side {
            Side::Down => relay::is_held_up(&self.down, &up.half),
            Side::Up => relay::is_held_up(&up.half, &self.down),
        })
    }

    /// One step of the protocol, and the start of what it asked for. Whether it wants another turn.
    fn advance(&mut self, host: &mut dyn Host, cx: &mut Context<S>) -> Result<bool, Error> {
        if !matches!(self.stage, Stage::Running) {
            self.drop_late_input(cx);
            return Ok(false);
        }
        if self.down.tls.is_some() && self.is_for_tls(host, cx) {
            return Ok(false);
        }
        let before = self.seen(host, cx);
        let mut asked = Asked::default();
        let (scarce, conn) = (cx.pool.is_scarce(), self.provenance.conn as usize);
        let (shared, idle, nowhere) = cx.split(self.provenance.metrics as usize);
        let (up, ends, trouble, relayed) = match self.up.as_deref_mut() {
            Some(up) => {
                let trouble = up.trouble.as_deref();
                (&mut up.half.link, up.ends, trouble, up.relayed)
            }
            None => (nowhere, None, None, Relayed::default()),
        };
        self.down.link.tx.set_scarce(scarce);
        up.tx.set_scarce(scarce);
        let result = host.advance(
            conn,
            &mut Io {
                drained: self.taking.take_drained(),
                down: &mut self.down.link,
                up,
                ends,
                trouble,
                relayed,
                id: self.id,
                peer: &self.provenance.peer,
                service: self.provenance.host,
                idle,
                cx: shared,
                asked: &mut asked,
            },
        );
        self.tell_unread(cx);
        if let Some(before) = before {
            self.note_advanced(&before, host, cx);
        }
        if asked.changes_origin() {
            self.hand_over(&mut asked, cx);
        }
        result.map_err(|error| match error {
            Error::TimedOut(phase) => Error::TimedOut(self.waited_for(phase)),
            error => error,
        })?;
        debug_assert!(
            cx.nowhere.tx.is_empty(),
            "bytes for an origin without a connection"
        );
        cx.turn_end |= asked.turn_end;
        cx.alone |= asked.alone;
        let again = asked.again;
        if asked.close || asked.connect.is_some() || asked.secure.is_some() {
            self.begin_asked(asked, cx);
        }
        Ok(again)
    }

    /// Whether TLS has nothing for the protocol yet, or never will.
    #[inline(never)]
    fn is_for_tls(&mut self, host: &dyn Host, cx: &mut Context<S>) -> bool {
        if let Some(answer) = self.down.take_plain_answer() {
            self.refuse_plain(&answer, cx);
            return true;
        }
        // What is answered before the end of a handshake cannot be sent, and the end of the stream
        // would overtake it.
        let is_early = self.is_handshaking() && !self.down.link.eof && !cx.draining;
        is_early && cx.now < host.deadline(self.provenance.conn as usize)
    }

    /// Begins the end, a connection, or TLS on one.
    #[inline(never)]
    fn begin_asked(&mut self, asked: Asked, cx: &mut Context<S>) {
        if asked.close {
            self.disconnect(cx);
            cx.resolver.forget(self.id);
            self.begin_closing(&asked, cx);
        } else if let Some(connect) = asked.connect {
            self.connect(connect, cx);
        } else if let Some((to, timeout)) = asked.secure
            && let Some(up) = &mut self.up
        {
            up.secure(to, timeout, cx.now);
            if self.advance_connect(cx) {
                self.wake();
            }
        }
    }

    /// Tells what of the bytes that came nobody looks at, to who wants to know.
    #[inline]
    fn tell_unread(&mut self, cx: &mut Context<S>) {
        self.down.tell_unread(&mut cx.sys);
        if let Some(up) = &mut self.up {
            up.half.tell_unread(&mut cx.sys);
        }
    }

    /// How a session stands, if anybody looks.
    #[inline]
    fn seen(&self, host: &dyn Host, cx: &Context<S>) -> Option<Seen> {
        let is_wanted = cx.inside.ring.wants(self.id);
        is_wanted.then(|| self.look(host, cx))
    }

    #[cold]
    fn look(&self, host: &dyn Host, cx: &Context<S>) -> Seen {
        let links = [
            Some(&self.down.link),
            self.up.as_ref().map(|up| &up.half.link),
        ];
        let links = links.into_iter().flatten();
        Seen {
            state: host.state(self.provenance.conn as usize),
            received: links.clone().map(Link::arrived).sum(),
            queued: links.map(|link| link.tx.bytes()).sum(),
            is_read: cx.inside.ring.is_read(self.id),
        }
    }

    /// Its protocol went on from where it stood.
    fn note_advanced(&self, before: &Seen, host: &dyn Host, cx: &mut Context<S>) {
        let Some(after) = self.seen(host, cx) else {
            return;
        };
        let bytes = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
        let ring = &mut cx.inside.ring;
        let what = What::Advanced {
            from: ring.number(before.state),
            to: ring.number(after.state),
            consumed: bytes(before.received.saturating_sub(after.received) as u64),
            queued: bytes(after.queued.saturating_sub(before.queued)),
        };
        match before.is_read {
            true => cx.note(self.id, || what),
            // Whoever reads it now began within this call.
            false => ring.push_watched(cx.now, self.id, what),
        }
    }

    /// What a session that parks waits for, in the words of the ring.
    pub(crate) fn parked(&self, host: &dyn Host, limits: &SessionLimits, now: Instant) -> What {
        let (deadline, waits) = self.deadline(host, limits);
        let wait = deadline.saturating_duration_since(now);
        What::Parked {
            waits,
            for_ms: u32::try_from(wait.as_millis()).unwrap_or(u32::MAX),
        }
    }

    /// What is told of it in the list of sessions.
    pub(crate) fn row(&self, host: &dyn Host, limits: &SessionLimits, now: Instant) -> Row {
        let (deadline, waits) = self.deadline(host, limits);
        let wait = deadline.saturating_duration_since(now);
        Row {
            id: self.id,
            listener: self.provenance.metrics as usize,
            peer: match self.had_client() {
                true => self.provenance.peer.to_string().into(),
                false => "none".into(),
            },
            state: match &self.stage {
                Stage::Introduced(_) => "Introduced",
                Stage::Running if self.is_handshaking() => "Handshake",
                Stage::Running => host.state(self.provenance.conn as usize),
                Stage::Closing { .. } => "Closing",
                Stage::Lingering { .. } => "Lingering",
            },
            waits,
            deadline_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            received: self.down.link.arrived(),
            queued: self.down.link.tx.bytes(),
            has_origin: self.up.is_some(),
        }
    }

    /// The connection to the origin changes hands, whatever else came of a call.
    #[inline(never)]
    fn hand_over(&mut self, asked: &mut Asked, cx: &mut Context<S>) {
        if asked.disconnect {
            self.disconnect(cx);
        }
        if let Some(way) = asked.keep.take() {
            self.keep(way, cx);
        }
        if let Some(place) = asked.reuse {
            self.disconnect(cx);
            self.up = Some(cx.upstreams.claim(place, self.id));
            let text = || "a connection that was kept".to_owned();
            cx.inside.ring.tell(self.id, Topic::Destination, text);
            cx.metrics.origins.reused += 1;
            self.wake();
        }
    }

    /// Gives the connection to the origin back, for whoever asks for this way next.
    fn keep(&mut self, way: Way, cx: &mut Context<S>) {
        let Some(up) = &mut self.up else {
            return;
        };
        up.half.link.status = LinkState::Open;
        if cx.draining || !up.half.is_quiet(&mut cx.sys, &mut cx.pool) {
            return self.disconnect(cx);
        }
        up.half.release(&mut cx.lenders());
        if let Some(up) = self.up.take() {
            let to = (self.provenance.host, way);
            cx.upstreams.keep(up, to, cx.now);
        }
    }

    /// A client that speaks in plain text where TLS was expected is told so.
    fn refuse_plain(&mut self, answer: &[u8], cx: &mut Context<S>) {
        self.down.link.tx.put(answer, &mut cx.pool);
        let asked = Asked {
            close: true,
            ending: Ending::Refused,
            ..Asked::default()
        };
        self.begin_closing(&asked, cx);
    }

    /// The protocol is done: what is queued is sent, then the end.
    fn begin_closing(&mut self, asked: &Asked, cx: &mut Context<S>) {
        self.ending = match asked.ending {
            Ending::TimedOut(phase) => Ending::TimedOut(self.waited_for(phase)),
            ending => ending,
        };
        let down = &mut self.down;
        let nothing_follows =
            asked.at_once && down.link.rx.is_empty() && !down.ready.readable && down.tls.is_none();
        let linger_bytes = match nothing_follows {
            true => 0,
            false => cx.limits.linger_bytes_max,
        };
        down.link.rx.clear();
        down.close_inlet(&mut cx.lenders());
        self.stage = Stage::Closing { linger_bytes };
        // The end of a TLS stream is told in any case, or the last answer looks cut (RFC 8446
        // section 6.1).
        if down.tls.is_some() || (linger_bytes > 0 && !down.link.eof) {
            down.link.finish();
        }
    }

    /// Drops what came after the end of the protocol: while it goes on coming, the wait for its end
    /// does.
    fn drop_late_input(&mut self, cx: &mut Context<S>) {
        let dropped = self.down.link.rx.len();
        self.down.link.rx.pass_unread(u64::MAX);
        self.tell_unread(cx);
        self.down.link.rx.clear();
        if let Stage::Closing { linger_bytes } | Stage::Lingering { linger_bytes, .. } =
            &mut self.stage
        {
            *linger_bytes = linger_bytes.saturating_sub(dropped);
        }
        if let Stage::Lingering { until, last, .. } = &mut self.stage
            && dropped > 0
        {
            *until = (cx.now + cx.limits.linger_timeout).min(*last);
        }
    }

    /// Sends on both sides. Whether the protocol has reason to look again.
    fn flush(&mut self, cx: &mut Context<S>, budget: &mut Budget) -> Result<bool, Error> {
        if self.range.waits() {
            self.range
                .take(&mut self.down.link.tx, &mut cx.jobs, &mut cx.pool)?;
        }
        let mut news = false;
        if self.down.may_flush() {
            news |= self.flush_down(cx, budget)?;
        }
        if self.up.is_some() {
            news |= self.flush_up(cx, budget)?;
        }
        Ok(news)
    }

    fn flush_down(&mut self, cx: &mut Context<S>, budget: &mut Budget) -> Result<bool, Error> {
        let held_bytes_max = self.taking.begins_anew(cx.now);
        self.hold(held_bytes_max, cx);
        let before = budget.moved;
        let ranges = (&self.range, cx.now);
        let progress = self.down.flush(&mut cx.sys, &mut cx.pool, budget, ranges);
        let moved = budget.moved - before;
        cx.metrics.listeners[self.provenance.metrics as usize].bytes_out += moved;
        cx.note_calls(self.id, false, budget);
        cx.note_moved(self.id, moved, |bytes| What::Flushed {
            to_origin: false,
            bytes,
        });
        let progress = progress?;
        let mut room = false;
        if progress != Progress::None {
            self.range.was_sent();
            let (sent, has_output) = (self.down.link.sent, self.down.has_output());
            let held_bytes_max = self.taking.flushed(cx.now, sent, has_output);
            self.hold(held_bytes_max, cx);
            room = self.taking.is_drained() || progress == Progress::FreedForRefused;
        }
        if self.down.is_stopped_by_disk(budget) {
            let asker = (self.id, cx.now);
            let (jobs, pool) = (&mut cx.jobs, &mut cx.pool);
            let is_checked = !cx.sys.planted(PlantedBug::PromiseForgotten);
            self.range
                .ask(&self.down.link.tx, asker, is_checked, jobs, pool)?;
        }
        Ok(room && !cx.sys.planted(PlantedBug::RefusedRoomForgotten))
    }

    /// Apart, since most sessions have no origin.
    #[inline(never)]
    fn flush_up(&mut self, cx: &mut Context<S>, budget: &mut Budget) -> Result<bool, Error> {
        let Some(up) = self.up.as_deref_mut().filter(|up| up.half.may_flush()) else {
            return Ok(false);
        };
        let before = budget.moved;
        let ranges = (&self.range, cx.now);
        let result = up.half.flush(&mut cx.sys, &mut cx.pool, budget, ranges);
        cx.note_calls(self.id, true, budget);
        cx.note_moved(self.id, budget.moved - before, |bytes| What::Flushed {
            to_origin: true,
            bytes,
        });
        match result {
            Ok(progress) => Ok(progress == Progress::FreedForRefused
                && !cx.sys.planted(PlantedBug::RefusedRoomForgotten)),
            Err(Error::Reset(kind)) => {
                // An origin that closed early may have said why; that still stands in the
                // socket's buffer.
                up.half.ready.readable = true;
                let _ = up.half.fill(&mut cx.sys, &mut cx.pool, budget);
                up.half.fail(kind, &mut cx.lenders());
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    /// The steps of an orderly end.
    fn end(&mut self, cx: &mut Context<S>) -> Option<Outcome> {
        let link = &self.down.link;
        if let Stage::Closing { linger_bytes } = self.stage
            && !self.down.has_output()
        {
            if link.finish == Finish::Wanted {
                return None; // the last records of a TLS stream wait for room
            }
            let skipped = cx.sys.planted(PlantedBug::LingerSkipped);
            if link.eof || linger_bytes == 0 || skipped {
                return Some(Outcome::Ended(Ok(())));
            }
            let last = cx.now + cx.limits.linger_time_max;
            self.stage = Stage::Lingering {
                until: (cx.now + cx.limits.linger_timeout).min(last),
                last,
                linger_bytes,
            };
        }
        match self.stage {
            Stage::Lingering {
                until,
                linger_bytes,
                ..
            } if link.eof || linger_bytes == 0 || cx.now >= until => Some(Outcome::Ended(Ok(()))),
            _ => None,
        }
    }

    /// Gives back what an idle session does not need, sees to it that the poll wakes it, and says
    /// until when it sleeps. `None`: an event came just when the deadline had passed, ahead of its
    /// reminder, and the protocol was not asked yet.
    fn park(&mut self, advanced: bool, host: &dyn Host, cx: &mut Context<S>) -> Option<Outcome> {
        self.down.release(&mut cx.lenders());
        self.down.assert_parked(self.is_held_up(Side::Down));
        let held_up = self.is_held_up(Side::Up);
        if let Some(up) = &mut self.up {
            up.half.release(&mut cx.lenders());
            up.half.assert_parked(held_up);
        }
        if self.down.has_output() && !self.taking.is_waited_for() {
            self.recount(cx);
        }
        let (mut deadline, waits) = self.deadline(host, &cx.limits);
        if deadline <= cx.now && waits == Waits::Write {
            let taken = self.recount(cx);
            if taken >= cx.limits.write_bytes_min {
                deadline = cx.now + cx.limits.write_timeout;
                let held_bytes_max = self.taking.took(taken);
                self.hold(held_bytes_max, cx);
            }
        }
        if deadline <= cx.now {
            let phase = match waits {
                Waits::Protocol if !advanced => return None,
                Waits::Protocol => Phase::Idle,
                Waits::Write => Phase::Write,
                Waits::Linger => Phase::Linger,
                Waits::Connect => Phase::Connect,
            };
            // `advance` ran with this very `now`: either the client takes nothing, or the protocol
            // broke its rule.
            debug_assert!(waits != Waits::Protocol, "a service let its deadline pass");
            let phase = self.waited_for(phase);
            return Some(Outcome::Ended(Err(Error::TimedOut(phase))));
        }
        if self.registered {
            return Some(Outcome::Park(deadline));
        }
        // Only a session that waits needs events: one that ends in its first pump is never
        // registered.
        Some(match self.register(cx) {
            Ok(()) => Outcome::Park(deadline),
            Err(error) => Outcome::Ended(Err(error)),
        })
    }

    /// Sees to it that the poll knows the client's socket.
    fn register(&mut self, cx: &mut Context<S>) -> Result<(), Error> {
        if !self.registered
            && let Some(stream) = &self.down.stream
        {
            let token = Token::Session(self.id).pack();
            let began = cx.inside.ring.wants(self.id).then(|| cx.moment(self.id));
            if let Err(error) = cx.sys.register(stream, token) {
                log::warn!("{}: register: {error}", self.provenance.peer);
                return Err(Error::Reset(error.kind()));
            }
            if let Some(began) = began {
                let now = cx.moment(self.id);
                let took = now.saturating_duration_since(began).as_nanos();
                cx.note(self.id, || What::Called {
                    call: Call::Register,
                    of_origin: false,
                    came_to: CameTo::Done,
                    bytes: 0,
                    took_ns: u32::try_from(took).unwrap_or(u32::MAX),
                });
            }
            self.registered = true;
        }
        Ok(())
    }

    /// Counts what the client takes from here on; how many bytes it took since the last time.
    fn recount(&mut self, cx: &mut Context<S>) -> u64 {
        let stream = self.down.stream.as_ref();
        let unsent = stream.map_or(0, |stream| cx.sys.unsent(stream));
        self.taking.recount(cx.now, self.down.link.sent, unsent)
    }

    /// The kernel may hold so many bytes for the client from now on.
    fn hold(&mut self, bytes_max: Option<u32>, cx: &mut Context<S>) {
        if let (Some(bytes_max), Some(stream)) = (bytes_max, &self.down.stream) {
            cx.sys.hold_at_most(stream, bytes_max);
            if let Some(tls) = &mut self.down.tls {
                tls.set_fast(bytes_max > UNTRUSTED_BYTES);
            }
        }
    }

    /// Whether its handshake must wait for others, although something came for it.
    fn must_wait(&self, cx: &mut Context<S>) -> bool {
        let client = || self.provenance.peer.network();
        self.is_handshaking()
            && self.down.ready.readable
            && cx.handshakes.must_wait(self.id, client(), self.down.held)
    }

    /// Whether its handshake waits for others.
    pub(crate) fn awaits_handshake(&self) -> bool {
        self.down.held
    }

    fn is_handshaking(&self) -> bool {
        let tls = self.down.tls.as_ref();
        tls.is_some_and(|tls| tls.is_handshaking())
    }

    /// What a time-out is of: a protocol that waits in vain for its client does not know that TLS
    /// does.
    fn waited_for(&self, phase: Phase) -> Phase {
        match self.is_handshaking() {
            true => Phase::Handshake,
            false => phase,
        }
    }

    /// When the session must be looked at again, whatever it waits for.
    pub(crate) fn until(&self, host: &dyn Host, limits: &SessionLimits) -> Instant {
        self.deadline(host, limits).0
    }

    /// When the session must be looked at again, and what it then waited for.
    fn deadline(&self, host: &dyn Host, limits: &SessionLimits) -> (Instant, Waits) {
        let protocol = || {
            (
                host.deadline(self.provenance.conn as usize),
                Waits::Protocol,
            )
        };
        let writing = self.taking.until(limits.write_timeout);
        let own = match (&self.stage, writing) {
            (Stage::Introduced(introduction), _) => (introduction.until, Waits::Protocol),
            (Stage::Lingering { until, .. }, _) => (*until, Waits::Linger),
            (_, Some(until)) => (until, Waits::Write),
            (_, None) => protocol(),
        };
        match self.up.as_ref().and_then(|up| up.deadline()) {
            Some(until) if until < own.0 => (until, Waits::Connect),
            _ => own,
        }
    }

    /// Looks after a connection that is being made. Whether its status changed.
    fn advance_connect(&mut self, cx: &mut Context<S>) -> bool {
        let Some(up) = &mut self.up else {
            return false;
        };
        let is_counted = up.is_secured_later();
        let is_news = up.make(self.id, cx.now, &mut cx.upstreams, &mut cx.sys);
        let is_new = is_news && !is_counted && up.half.link.status == LinkState::Open;
        cx.metrics.origins.opened += u64::from(is_new);
        is_news
    }

    /// Begins to connect to one of the addresses.
    fn connect(&mut self, to: Connect, cx: &mut Context<S>) {
        self.disconnect(cx);
        cx.inside.ring.tell(self.id, Topic::Destination, || {
            let addresses = to.addresses.iter().map(ToString::to_string);
            addresses.collect::<Vec<_>>().join(", ")
        });
        let delay = cx.limits.connect_attempt_delay;
        let race = Race::new(to.addresses, to.timeout, delay, cx.now);
        self.up = Some(Upstream::new(race, to.opening, cx.limits.send_bytes_max));
        if self.advance_connect(cx) {
            self.wake();
        }
    }

    /// Drops the side towards the origin with everything queued on it.
    fn disconnect(&mut self, cx: &mut Context<S>) {
        if let Some(up) = self.up.take() {
            let (upstreams, mut lenders) = cx.split_upstreams();
            up.close(false, upstreams, &mut lenders);
        }
    }

    /// Closes both sockets and gives everything back. `dropped`: it did not end in good order.
    pub(crate) fn dismantle(mut self, dropped: bool, cx: &mut Context<S>) {
        if let Some(up) = self
            .up
            .take_if(|_| !cx.sys.planted(PlantedBug::UpstreamKept))
        {
            let (upstreams, mut lenders) = cx.split_upstreams();
            up.close(dropped, upstreams, &mut lenders);
        }
        self.down.close(dropped, &mut cx.lenders());
    }
}

/// Fills a side, or moves what arrived to the other one where it goes there unread, and counts it
/// there. Whether anything new came.
fn fill<S: Sys>(
    from: &mut Half<S>,
    to: Option<(&mut Half<S>, &mut u64)>,
    cx: &mut Context<S>,
    budget: &mut Budget,
) -> Result<bool, io::ErrorKind> {
    if let Some((to, relayed)) = to
        && relay::is_on(from, to)
    {
        match relay::fill(from, to, cx, budget)? {
            Filled::Some(count) => {
                *relayed += count as u64;
                return Ok(true);
            }
            Filled::End => return Ok(true),
            Filled::Nothing => return Ok(false),
            Filled::NoPipe => {}
        }
    }
    if inlet::is_on(from) {
        match inlet::fill(from, cx, budget)? {
            Filled::Some(_) | Filled::End => return Ok(true),
            Filled::Nothing => return Ok(false),
            Filled::NoPipe => {}
        }
    }
    from.fill(&mut cx.sys, &mut cx.pool, budget)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::unix::Unix;

    #[test]
    fn an_idle_session_is_small() {
        let bytes = size_of::<Session<Unix>>();
        assert!(
            bytes <= 328,
            "{bytes} bytes; ten thousand idle connections pay for each"
        );
    }
}
