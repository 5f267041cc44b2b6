//! A session: one client's connection, and for a proxy the connection to its origin, with the state of a protocol.
//!
//! [`Session::pump`] is the heart of the program: fill, advance, flush, until a pass brought no new fact.
//!
//! ```text
//!            ┌────────────── a new fact ◀─────────────────┐
//!            ▼                                            │
//! woken ──▶ fill ──▶ advance ──▶ start what was asked ──▶ flush ──▶ no new fact: park until the deadline
//!
//! Running ──close()──▶ Closing ──all sent, shut down──▶ Lingering ──end of stream, or enough──▶ ended
//!    └──────────────────── an error, or a deadline that the protocol let pass ───────────────────▶ ended
//! ```
//!
//! The rules:
//! 1. `readable` and `writable` are set by an event and cleared here only: on `WouldBlock`, or on a short transfer. A
//!    short read is no proof of a drained socket once the peer has closed: that edge was told already, so the socket is
//!    read until it says so.
//! 2. A session parks only when there is nothing left that it could do; [`Session::assert_parked`] says what that means.
//! 3. Whoever spends its budget goes to the next turn, behind the others.
//!
//! Not here: what an event means (`reactor`), how a connection is attempted (`upstream`).

use std::io;
use std::time::{Duration, Instant, SystemTime};

use super::host::Host;
use super::timer::Reminders;
use super::tls::{self, Tls};
use super::token::Token;
use super::upstream::Attempts;
use crate::buffer::{Front, Pool, SendQueue};
use crate::dns::Resolver;
use crate::ending::{Ending, Error, Phase};
use crate::metrics::{Counted, Metrics};
use crate::service::{Asked, Cx, Finish, Id, Io, Link, Peer, Side, Status};
use crate::sys::{PlantedBug, Sys};

/// Bytes that a client takes, while we wait for it to, before the kernel may hold more for it. Not a key: it is twice what
/// the kernel holds for a client that it does not know (`UNTRUSTED_BYTES_MAX` in `sys/unix.rs`), so that half of them have
/// left for it, and who takes so much is held to `min_write_rate` anyhow.
const TRUSTED_BYTES: u64 = 256 * 1024;

/// What all sessions of a reactor share.
pub(crate) struct Context<S> {
    pub(crate) sys: S,
    pub(crate) pool: Pool,
    pub(crate) resolver: Resolver<Id>,
    pub(crate) metrics: Metrics,
    pub(crate) limits: SessionLimits,
    /// The moment of this turn.
    pub(crate) now: Instant,
    pub(crate) wall: SystemTime,
    pub(crate) draining: bool,
    /// A service wants to be told of the end of this turn.
    pub(crate) turn_end: bool,
}

impl<S: Sys> Context<S> {
    /// What a service may see of it. `listener`: the place of its listener in the metrics.
    pub(crate) fn of(&mut self, listener: usize) -> Cx<'_> {
        Cx {
            now: self.now,
            wall: self.wall,
            turn: self.metrics.turns,
            draining: self.draining,
            pool: &mut self.pool,
            disk: &mut self.sys,
            resolver: &mut self.resolver,
            counted: Counted::new(&mut self.metrics, listener),
        }
    }
}

/// The limits of every session, whatever its protocol.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionLimits {
    /// Bytes that one pump may move before it goes behind the others.
    pub(crate) pump_bytes_max: usize,
    /// Bytes in memory that one send queue holds.
    pub(crate) send_bytes_max: u32,
    /// How often a peer that is to take what is queued for it is looked at, and the bytes that it must have taken since.
    pub(crate) write_timeout: Duration,
    pub(crate) write_bytes_min: u64,
    /// How long, and how many bytes, a closed session waits for the peer's end.
    pub(crate) linger_timeout: Duration,
    pub(crate) linger_bytes_max: usize,
}

/// One side's socket and what is known of its readiness.
pub(super) struct Socket<S: Sys> {
    pub(super) stream: Option<S::Stream>,
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// A short read proves nothing: the end of the stream or a broken connection was told, and no further edge may come for it.
    pub(super) closing: bool,
    pub(super) tls: Option<Box<Tls>>,
}

impl<S: Sys> Socket<S> {
    fn new(stream: Option<S::Stream>) -> Self {
        Self {
            stream,
            readable: false,
            writable: false,
            closing: false,
            tls: None,
        }
    }

    /// Whether a fill could bring anything.
    fn may_fill(&self) -> bool {
        self.readable || self.tls.as_ref().is_some_and(|tls| tls.has_plain())
    }

    /// Whether something waits to be sent, in the link's queue or as records.
    fn has_output(&self, link: &Link) -> bool {
        !link.tx.is_empty() || self.tls.as_ref().is_some_and(|tls| tls.has_output())
    }
}

/// How far a session is with its end.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Running,
    /// The protocol is done; what is queued is being sent. `linger_bytes`: what may still be read and dropped; with none,
    /// because the protocol expects none or because they were used up, nothing is waited for when all is sent.
    Closing {
        linger_bytes: usize,
    },
    /// All is sent; waiting for the peer's end, so that no reset overtakes our last bytes (RFC 9112 section 9.6).
    Lingering {
        until: Instant,
        linger_bytes: usize,
    },
}

/// What a pump came to.
pub(crate) enum Outcome {
    /// Nothing more can be done before an event or this moment.
    Park(Instant),
    /// The budget is spent.
    Again,
    /// It is over: in good order, or why not.
    Ended(Result<(), Error>),
}

/// Where a session came from.
#[derive(Debug)]
pub(crate) struct Origin {
    /// The number of its listener.
    pub(crate) listener: usize,
    /// Who serves it: the listener's service when it began.
    pub(crate) host: usize,
    /// Its place in the metrics.
    pub(crate) metrics: usize,
    /// The key of its state in the listener's host.
    pub(crate) conn: usize,
    pub(crate) peer: Peer,
}

/// One session.
pub(crate) struct Session<S: Sys> {
    pub(crate) id: Id,
    pub(crate) origin: Origin,
    down: Link,
    up: Link,
    down_socket: Socket<S>,
    up_socket: Socket<S>,
    attempts: Option<Box<Attempts>>,
    /// The poll knows the client's socket.
    registered: bool,
    stage: Stage,
    /// Why it was closed, if it was.
    pub(crate) ending: Ending,
    /// It parked with output that the client did not take: that the queue drained is news.
    waited_for_room: bool,
    /// It has taken enough while we waited for it that the kernel may hold more for it.
    trusted: bool,
    /// Since when it waits, or was last found to be taking enough.
    taking: Taking,
    /// That news, until the protocol was told.
    drained: bool,
    /// It waits in the run queue.
    pub(crate) queued: bool,
    /// A fact changed that no buffer shows: an answer, a deadline, the drain.
    pub(crate) told: bool,
    pub(crate) reminders: Reminders,
}

impl<S: Sys> Session<S> {
    /// A session for a connection just accepted.
    pub(crate) fn new(
        id: Id,
        origin: Origin,
        stream: S::Stream,
        tls: Option<Box<Tls>>,
        limits: &SessionLimits,
        now: Instant,
    ) -> Self {
        Self {
            id,
            origin,
            down: Link::new(Status::Open, limits.send_bytes_max),
            up: Link::new(Status::Closed, limits.send_bytes_max),
            down_socket: Socket {
                tls,
                ..Socket::new(Some(stream))
            },
            up_socket: Socket::new(None),
            attempts: None,
            registered: false,
            stage: Stage::Running,
            ending: Ending::Done,
            waited_for_room: false,
            trusted: false,
            taking: Taking {
                since: now,
                unsent: 0,
                sent: 0,
            },
            drained: false,
            queued: false,
            told: true,
            reminders: Reminders::NONE,
        }
    }

    /// An event's part in the session: readiness is only ever added here.
    pub(crate) fn note(&mut self, side: Side, readable: bool, writable: bool, read_closed: bool) {
        let socket = match side {
            Side::Down => &mut self.down_socket,
            Side::Up => &mut self.up_socket,
        };
        socket.readable |= readable | read_closed;
        socket.writable |= writable;
        socket.closing |= read_closed;
    }

    /// Takes the session as far as it can go. See the module's picture.
    ///
    /// | flag | set | cleared |
    /// |---|---|---|
    /// | `told` | by others: an answer, a deadline, the drain; by a connection that failed; by a pump that ran out of budget | where `fact` takes it |
    /// | `fact` | `told`, or news of `fill`, `flush` or the connection | by `flush`, after `advance` saw it |
    /// | `again` | the protocol asked for another turn | by the next `advance`; the pump ends with it |
    /// | `advanced` | `advance` ran in this pump | never: a deadline that passed must have been seen by it |
    pub(crate) fn pump(&mut self, host: &mut dyn Host, cx: &mut Context<S>) -> Outcome {
        self.down.tx.keep_waiting();
        let mut budget = Budget::new(cx.limits.pump_bytes_max);
        let mut again = false;
        let mut fact = std::mem::take(&mut self.told);
        let mut advanced = false;
        if self.up.status == Status::Connecting {
            fact |= self.advance_connect(cx);
        }
        loop {
            match self.fill(cx, &mut budget) {
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
                Ok(news) => fact = news | std::mem::take(&mut self.told),
                Err(error) => return Outcome::Ended(Err(error)),
            }
            if let Some(outcome) = self.end(cx) {
                return outcome;
            }
            if budget.is_spent() || again {
                self.told |= fact | again;
                return Outcome::Again;
            }
            let fillable = |link: &Link, socket: &Socket<S>| {
                // A connection that is being made may have been told an event for nothing.
                let reads = socket.may_fill() && !link.eof && link.rx.has_space();
                reads && link.status == Status::Open
            };
            if !fact
                && !fillable(&self.down, &self.down_socket)
                && !fillable(&self.up, &self.up_socket)
            {
                match self.park(advanced, host, cx) {
                    Some(outcome) => return outcome,
                    None => fact = true,
                }
            }
        }
    }

    /// Reads both sides. Whether anything new came.
    fn fill(&mut self, cx: &mut Context<S>, budget: &mut Budget) -> Result<bool, io::ErrorKind> {
        let counted = &mut cx.metrics.listeners[self.origin.metrics].bytes_in;
        let mut news = false;
        if self.down_socket.may_fill() {
            let before = budget.moved;
            let result = fill(
                &mut self.down,
                &mut self.down_socket,
                &mut cx.sys,
                &mut cx.pool,
                budget,
            );
            *counted += budget.moved - before;
            news |= result?;
        }
        if self.up_socket.readable && self.up.status == Status::Open {
            match fill(
                &mut self.up,
                &mut self.up_socket,
                &mut cx.sys,
                &mut cx.pool,
                budget,
            ) {
                Ok(more) => news |= more,
                Err(kind) => {
                    self.up_failed(kind, cx);
                    news = true;
                }
            }
        }
        Ok(news)
    }

    /// One step of the protocol, and the start of what it asked for. Whether it wants another turn.
    fn advance(&mut self, host: &mut dyn Host, cx: &mut Context<S>) -> Result<bool, Error> {
        match &mut self.stage {
            Stage::Running => {}
            Stage::Closing { linger_bytes } | Stage::Lingering { linger_bytes, .. } => {
                *linger_bytes = linger_bytes.saturating_sub(self.down.rx.len());
                self.down.rx.clear();
                return Ok(false);
            }
        }
        let scarce = cx.pool.is_scarce();
        self.down.tx.set_scarce(scarce);
        self.up.tx.set_scarce(scarce);
        let mut asked = Asked::default();
        host.advance(
            self.origin.conn,
            &mut Io {
                drained: std::mem::take(&mut self.drained),
                down: &mut self.down,
                up: &mut self.up,
                id: self.id,
                cx: cx.of(self.origin.metrics),
                asked: &mut asked,
            },
        )?;
        cx.turn_end |= asked.turn_end;
        if asked.disconnect || asked.close {
            self.attempts = None;
            self.disconnect(Status::Closed, cx);
        }
        if asked.close {
            let nothing_follows = asked.at_once
                && self.down.rx.is_empty()
                && !self.down_socket.readable
                && self.down_socket.tls.is_none();
            let linger_bytes = if nothing_follows {
                0
            } else {
                cx.limits.linger_bytes_max
            };
            self.down.rx.clear();
            self.ending = asked.ending;
            self.stage = Stage::Closing { linger_bytes };
            // The end of a TLS stream is told in any case, or the last answer looks cut (RFC 8446 section 6.1).
            if self.down_socket.tls.is_some() || (linger_bytes > 0 && !self.down.eof) {
                self.down.finish();
            }
        } else if let Some((addresses, timeout)) = asked.connect {
            self.attempts = Some(Box::new(Attempts::new(addresses, timeout, cx.now)));
            self.connect_next(cx);
        }
        Ok(asked.again)
    }

    /// Sends on both sides. Whether the protocol has reason to look again.
    fn flush(&mut self, cx: &mut Context<S>, budget: &mut Budget) -> Result<bool, Error> {
        let mut news = false;
        if self.down_socket.writable || self.down.finish == Finish::Wanted {
            let before = budget.moved;
            let progress = flush(
                &mut self.down,
                &mut self.down_socket,
                &mut cx.sys,
                &mut cx.pool,
                budget,
            );
            let sent = budget.moved - before;
            cx.metrics.listeners[self.origin.metrics].bytes_out += sent;
            let progress = progress?;
            if progress != Progress::None {
                if self.waited_for_room {
                    self.taking.sent += sent;
                    if !self.trusted && self.taking.sent >= TRUSTED_BYTES {
                        self.trusted = true;
                        if let Some(stream) = &self.down_socket.stream {
                            cx.sys.trust(stream);
                        }
                    }
                    self.waited_for_room = self.down_socket.has_output(&self.down);
                    self.drained |= !self.waited_for_room;
                }
                let room = self.drained || progress == Progress::FreedForRefused;
                news |= room && !cx.sys.planted(PlantedBug::RefusedRoomForgotten);
            }
        }
        let up_wants = self.up_socket.writable || self.up.finish == Finish::Wanted;
        if up_wants && self.up.status == Status::Open {
            match flush(
                &mut self.up,
                &mut self.up_socket,
                &mut cx.sys,
                &mut cx.pool,
                budget,
            ) {
                Ok(progress) => {
                    let room = progress == Progress::FreedForRefused;
                    news |= room && !cx.sys.planted(PlantedBug::RefusedRoomForgotten);
                }
                Err(Error::Reset(kind)) => {
                    // An origin that closed early may have said why; that still stands in the socket's buffer.
                    self.up_socket.readable = true;
                    let _ = fill(
                        &mut self.up,
                        &mut self.up_socket,
                        &mut cx.sys,
                        &mut cx.pool,
                        budget,
                    );
                    self.up_failed(kind, cx);
                    news = true;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(news)
    }

    /// The steps of an orderly end.
    fn end(&mut self, cx: &mut Context<S>) -> Option<Outcome> {
        if let Stage::Closing { linger_bytes } = self.stage
            && !self.down_socket.has_output(&self.down)
        {
            if self.down.finish == Finish::Wanted {
                return None; // the last records of a TLS stream wait for room
            }
            let skipped = cx.sys.planted(PlantedBug::LingerSkipped);
            if self.down.eof || linger_bytes == 0 || skipped {
                return Some(Outcome::Ended(Ok(())));
            }
            self.stage = Stage::Lingering {
                until: cx.now + cx.limits.linger_timeout,
                linger_bytes,
            };
        }
        match self.stage {
            Stage::Lingering {
                until,
                linger_bytes,
            } if self.down.eof || linger_bytes == 0 || cx.now >= until => {
                Some(Outcome::Ended(Ok(())))
            }
            _ => None,
        }
    }

    /// Gives back what an idle session does not need, sees to it that the poll wakes it, and says until when it sleeps.
    /// `None`: an event came just when the deadline had passed, ahead of its reminder, and the protocol was not asked yet.
    fn park(&mut self, advanced: bool, host: &dyn Host, cx: &mut Context<S>) -> Option<Outcome> {
        for link in [&mut self.down, &mut self.up] {
            link.rx.release(&mut cx.pool);
            link.tx.release(&mut cx.pool);
        }
        if self.down_socket.has_output(&self.down) && !self.waited_for_room {
            self.waited_for_room = true;
            self.look(cx);
        }
        self.assert_parked();
        let (mut deadline, phase) = self.deadline(host, &cx.limits);
        if deadline <= cx.now && phase == Phase::Write && self.look(cx) >= cx.limits.write_bytes_min
        {
            deadline = self.taking.since + cx.limits.write_timeout;
        }
        if deadline <= cx.now {
            if phase == Phase::Idle && !advanced {
                return None;
            }
            // `advance` ran with this very `now`: either the peer takes nothing, or the protocol broke its rule.
            debug_assert!(phase != Phase::Idle, "a service let its deadline pass");
            return Some(Outcome::Ended(Err(Error::TimedOut(phase))));
        }
        // Only who waits needs events: a session that ends in its first pump is never registered.
        if !self.registered
            && let Some(stream) = &self.down_socket.stream
        {
            let token = Token::Session(self.id, Side::Down).pack();
            if let Err(error) = cx.sys.register(stream, token) {
                log::warn!("{}: register: {error}", self.origin.peer);
                return Some(Outcome::Ended(Err(Error::Reset(error.kind()))));
            }
            self.registered = true;
        }
        Some(Outcome::Park(deadline))
    }

    /// Begins to count anew what the client takes. How many bytes that were since the last time: those that left our queue,
    /// and what the kernel's holds less. Its queue counts, because it tells of room only when a third of it is free, which
    /// at a slow client's pace may take minutes.
    fn look(&mut self, cx: &mut Context<S>) -> u64 {
        let stream = self.down_socket.stream.as_ref();
        let unsent = stream.map_or(0, |stream| cx.sys.unsent(stream));
        let last = self.taking;
        self.taking = Taking {
            since: cx.now,
            unsent,
            sent: 0,
        };
        (last.sent + last.unsent).saturating_sub(unsent)
    }

    /// When the session must be looked at again, and what it then waited for.
    pub(crate) fn deadline(&self, host: &dyn Host, limits: &SessionLimits) -> (Instant, Phase) {
        let own = match self.stage {
            Stage::Lingering { until, .. } => (until, Phase::Linger),
            Stage::Running if !self.waited_for_room => {
                (host.deadline(self.origin.conn), Phase::Idle)
            }
            Stage::Running | Stage::Closing { .. } => {
                (self.taking.since + limits.write_timeout, Phase::Write)
            }
        };
        match &self.attempts {
            Some(attempts) if attempts.attempt_until < own.0 => {
                (attempts.attempt_until, Phase::Connect)
            }
            _ => own,
        }
    }

    /// The park invariant. For each side: nothing readable that there is room for, nothing queued that could be sent.
    fn assert_parked(&self) {
        for (link, socket) in [(&self.down, &self.down_socket), (&self.up, &self.up_socket)] {
            if link.status == Status::Open {
                debug_assert!(
                    !socket.readable || link.eof || !link.rx.has_space(),
                    "parked with input to read"
                );
                debug_assert!(
                    !socket.writable || link.tx.is_empty(),
                    "parked with output to send"
                );
            }
        }
    }

    /// Looks after a connection that is being made. Whether its status changed.
    fn advance_connect(&mut self, cx: &mut Context<S>) -> bool {
        let Some(attempts) = &mut self.attempts else {
            return false;
        };
        let result = match &self.up_socket.stream {
            Some(stream) if self.up_socket.readable || self.up_socket.writable => {
                cx.sys.connected(stream)
            }
            _ => Ok(false),
        };
        match result {
            Ok(true) => {
                self.up.status = Status::Open;
                self.up_socket.writable = true;
                self.attempts = None;
                return true;
            }
            Ok(false) if cx.now < attempts.attempt_until => return false,
            Ok(false) => attempts.failure = io::ErrorKind::TimedOut,
            Err(error) => attempts.failure = error.kind(),
        }
        self.connect_next(cx);
        self.up.status != Status::Connecting
    }

    /// Tries the next address; without one, the connection failed.
    fn connect_next(&mut self, cx: &mut Context<S>) {
        let Some(mut attempts) = self.attempts.take() else {
            return;
        };
        while let Some(address) = attempts.next(cx.now) {
            self.disconnect(Status::Connecting, cx);
            match cx
                .sys
                .connect(address, Token::Session(self.id, Side::Up).pack())
            {
                Ok(stream) => {
                    self.up_socket = Socket::new(Some(stream));
                    self.attempts = Some(attempts);
                    return;
                }
                Err(error) => attempts.failure = error.kind(),
            }
        }
        self.disconnect(Status::Failed(attempts.failure), cx);
        self.told = true;
    }

    fn up_failed(&mut self, kind: io::ErrorKind, cx: &mut Context<S>) {
        if let Some(stream) = self.up_socket.stream.take() {
            cx.sys.close(stream);
        }
        self.up_socket = Socket::new(None);
        self.up.tx.clear(&mut cx.pool);
        self.up.eof = true;
        self.up.status = Status::Failed(kind);
    }

    /// Drops the upstream side with everything queued on it.
    fn disconnect(&mut self, status: Status, cx: &mut Context<S>) {
        if let Some(stream) = self.up_socket.stream.take() {
            cx.sys.close(stream);
        }
        self.up_socket = Socket::new(None);
        self.up.rx.clear();
        self.up.rx.release(&mut cx.pool);
        self.up.tx.clear(&mut cx.pool);
        self.up.eof = false;
        self.up.finish = Finish::Open;
        self.up.status = status;
    }

    /// Closes both sockets and gives everything back. `dropped`: it did not end in good order.
    pub(crate) fn dismantle(mut self, dropped: bool, cx: &mut Context<S>) {
        for (link, socket) in [
            (&self.down, &mut self.down_socket),
            (&self.up, &mut self.up_socket),
        ] {
            if let Some(stream) = socket.stream.take_if(|_| dropped && link.end_is_framing) {
                cx.sys.abort(stream);
            }
        }
        if !cx.sys.planted(PlantedBug::UpstreamKept) {
            self.disconnect(Status::Closed, cx);
        }
        if !cx.sys.planted(PlantedBug::PagesKept) {
            self.down.rx.clear();
            self.down.rx.release(&mut cx.pool);
            self.down.tx.clear(&mut cx.pool);
        }
        if let Some(stream) = self.down_socket.stream.take() {
            cx.sys.close(stream);
        }
    }
}

/// How much a client took of what was queued for it.
#[derive(Clone, Copy)]
struct Taking {
    /// Since when it is counted.
    since: Instant,
    /// Bytes that the kernel held for it then.
    unsent: u64,
    /// Bytes that left our queue since.
    sent: u64,
}

/// What a pump may still move, and what it moved: more than it might, by up to one system call.
pub(super) struct Budget {
    left: usize,
    moved: u64,
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            left: bytes,
            moved: 0,
        }
    }

    pub(super) fn is_spent(&self) -> bool {
        self.left == 0
    }

    pub(super) fn spend(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
        self.moved += bytes as u64;
    }
}

/// What a flush came to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// No byte left.
    None,
    /// Some did.
    Sent,
    /// Some did, and somebody was refused room before.
    FreedForRefused,
}

/// Reads one side until it would block, its page is full or the budget is spent.
fn fill<S: Sys>(
    link: &mut Link,
    socket: &mut Socket<S>,
    sys: &mut S,
    pool: &mut Pool,
    budget: &mut Budget,
) -> Result<bool, io::ErrorKind> {
    if socket.tls.is_some() {
        return tls::fill(link, socket, sys, pool, budget);
    }
    let mut news = false;
    let Some(stream) = &socket.stream else {
        return Ok(false);
    };
    while socket.readable && !link.eof && link.rx.has_space() && !budget.is_spent() {
        let space = link.rx.space(pool);
        let room = space.len();
        match sys.recv(stream, space) {
            Ok(0) if sys.planted(PlantedBug::HalfCloseDrops) => {
                return Err(io::ErrorKind::ConnectionReset);
            }
            Ok(0) => {
                link.eof = true;
                socket.readable = false;
                news = true;
            }
            Ok(count) => {
                link.rx.filled(count, room);
                budget.spend(count);
                news = true;
                let closing = socket.closing && !sys.planted(PlantedBug::EndOfStreamLost);
                if (count < room && !closing) || sys.planted(PlantedBug::ReadableClearedOnFullRead)
                {
                    socket.readable = false;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.readable = false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.kind()),
        }
    }
    Ok(news)
}

/// Whether a file range at the front that had to wait is still of the version that its answer's head promised. What goes
/// out in the turn that queued it is not looked at: who queued it has.
pub(super) fn is_as_promised<S: Sys>(queue: &SendQueue, sys: &mut S) -> bool {
    match (queue.promised(), queue.front()) {
        (Some(promised), Front::File(file, ..)) => {
            let now = sys.metadata(file);
            now.is_ok_and(|now| now.modified == promised)
                || sys.planted(PlantedBug::PromiseForgotten)
        }
        _ => true,
    }
}

/// Sends one side's queue until it would block, is empty or the budget is spent; then the end, if it is wanted.
fn flush<S: Sys>(
    link: &mut Link,
    socket: &mut Socket<S>,
    sys: &mut S,
    pool: &mut Pool,
    budget: &mut Budget,
) -> Result<Progress, Error> {
    if socket.tls.is_some() {
        return tls::flush(link, socket, sys, pool, budget);
    }
    let mut progress = Progress::None;
    let Some(stream) = &socket.stream else {
        return Ok(progress);
    };
    while socket.writable && !budget.is_spent() {
        let (result, offered) = match link.tx.front() {
            Front::Empty => break,
            Front::One(bytes, more) => (sys.send(stream, bytes, more), Some(bytes.len())),
            Front::Many(runs, count, more) => {
                let offered = runs[..count].iter().map(|run| run.len()).sum();
                (sys.send_many(stream, &runs[..count], more), Some(offered))
            }
            Front::File(file, offset, len) => {
                if !is_as_promised(&link.tx, sys) {
                    return Err(Error::Changed);
                }
                // A file never fills the socket buffer in one call for certain, so only `WouldBlock` says that it is full.
                (
                    sys.send_file(stream, file, offset, len.min(budget.left as u64)),
                    None,
                )
            }
        };
        match result {
            // The file became shorter than the length that was promised: the answer must not look complete.
            Ok(0) => return Err(Error::Changed),
            Ok(count) => {
                link.tx.sent(count, pool);
                budget.spend(count);
                progress = Progress::Sent;
                socket.writable = offered.is_none_or(|offered| count == offered)
                    && !sys.planted(PlantedBug::WritableClearedOnFullSend);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                socket.writable = sys.planted(PlantedBug::WritableNotCleared);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::Reset(error.kind())),
        }
    }
    if link.finish == Finish::Wanted && link.tx.is_empty() {
        sys.shutdown(stream)
            .map_err(|error| Error::Reset(error.kind()))?;
        link.finish = Finish::Sent;
    }
    if progress == Progress::Sent && link.tx.take_refused() {
        progress = Progress::FreedForRefused;
    }
    Ok(progress)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::unix::Unix;

    #[test]
    fn an_idle_session_is_small() {
        let bytes = size_of::<Session<Unix>>();
        assert!(
            bytes <= 400,
            "{bytes} bytes; ten thousand idle connections pay for each"
        );
    }
}
