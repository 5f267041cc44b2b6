//! What all sessions of a reactor share during a turn, and the limits of each.

use std::num::NonZeroU32;
use std::time::{Duration, Instant, SystemTime};

use super::half::Lenders;
use super::handshakes::Handshakes;
use super::pipes::Pipes;
use super::transfer::Budget;
use super::upstream::Upstreams;
use crate::buffer::Pool;
use crate::cache::compressed::Compressed;
use crate::cache::store::{Hands, Stores};
use crate::dns::Resolver;
use crate::hooks::Hooks;
use crate::inside::Inside;
use crate::inside::ring::{End, LOOP, Part, What};
use crate::inside::roster::Roster;
use crate::jobs::Jobs;
use crate::limits::Limits;
use crate::metrics::{Counted, Metrics};
use crate::service::datagram::KnownSenders;
use crate::service::origins::Idle;
use crate::service::work::Work;
use crate::service::{Cx, Id, Link, Waiter, unix_ms};
use crate::sys::Sys;

/// What all sessions of a reactor share.
pub(crate) struct Context<S: Sys> {
    pub(crate) sys: S,
    pub(crate) pool: Pool,
    pub(crate) pipes: Pipes,
    pub(crate) jobs: Jobs<Waiter>,
    pub(crate) hooks: Hooks,
    pub(crate) resolver: Resolver<Id>,
    pub(crate) stores: Stores,
    pub(crate) compressed: Compressed<Id>,
    pub(crate) handshakes: Handshakes,
    pub(crate) senders: Roster<KnownSenders>,
    pub(crate) upstreams: Upstreams<S>,
    pub(crate) metrics: Metrics,
    pub(crate) limits: SessionLimits,
    /// The moment of this turn.
    pub(crate) now: Instant,
    pub(crate) wall: SystemTime,
    pub(crate) draining: bool,
    /// A service wants to be told of the end of this turn.
    pub(crate) turn_end: bool,
    /// A job that a service waits for is done, or a moment has come that it waits for: all are told
    /// of the end of this turn.
    pub(crate) job_done: bool,
    /// When they are told of the end of a turn in any case.
    pub(crate) turn_end_at: Option<Instant>,
    /// What can be seen of the loop.
    pub(crate) inside: Inside,
    /// Sessions whose wait is over.
    pub(crate) woken: Vec<Id>,
    /// The session that is pumped wants others to begin that have no client.
    pub(crate) alone: bool,
    /// What may still be done, by whoever has their turn.
    pub(crate) work: Work,
    /// What a session without an origin sees in its place: closed, and always empty.
    pub(crate) nowhere: Link,
}

impl<S: Sys> Context<S> {
    /// What a service may see of it. `listener`: the place of its listener in the metrics.
    pub(crate) fn of(&mut self, listener: usize) -> Cx<'_> {
        self.split(listener).0
    }

    /// The moment of what was done just now. Who watches only must not change what the kernel is
    /// asked.
    #[inline]
    pub(super) fn moment(&self, id: Id) -> Instant {
        match self.inside.ring.is_read(id) {
            true => self.sys.now(),
            false => self.now,
        }
    }

    /// Writes what was done just now, if anybody looks.
    #[inline]
    pub(crate) fn note(&mut self, id: Id, what: impl FnOnce() -> What) {
        if self.inside.ring.wants(id) {
            let now = self.moment(id);
            self.inside.ring.push(now, id, what());
        }
    }

    /// The same for how a session ended, which everybody is told who looks at it.
    pub(crate) fn note_end(&mut self, id: Id, end: impl FnOnce() -> End) {
        if self.inside.ring.wants_end_of(id) {
            let now = self.moment(id);
            self.inside.ring.push(now, id, What::Ended(end()));
        }
    }

    /// The same for what followed at once on what was written last: the clock is not asked.
    #[inline]
    pub(crate) fn note_after(&mut self, id: Id, what: impl FnOnce() -> What) {
        if self.inside.ring.wants(id) {
            self.inside.ring.push_after(id, what());
        }
    }

    /// The same for the system calls that a session made since.
    #[inline]
    pub(super) fn note_calls(&mut self, id: Id, of_origin: bool, budget: &mut Budget) {
        let Some(calls) = &mut budget.calls else {
            return;
        };
        for (at, call) in calls.made.drain(..) {
            let what = What::Called {
                call: call.call,
                of_origin,
                came_to: call.came_to,
                bytes: call.bytes,
                took_ns: call.took_ns,
            };
            match calls.untimed {
                None => self.inside.ring.push(at, id, what),
                // Whoever reads it now began since.
                Some(_) => self.inside.ring.push_watched(at, id, what),
            }
        }
    }

    /// The same for bytes that came in or went out, if any did.
    #[inline]
    pub(crate) fn note_moved(&mut self, id: Id, bytes: u64, what: impl Fn(u32) -> What) {
        if bytes > 0 {
            self.note(id, || what(u32::try_from(bytes).unwrap_or(u32::MAX)));
        }
    }

    /// The same for what the loop does for all.
    #[inline]
    pub(crate) fn note_loop(&mut self, what: impl FnOnce() -> What) {
        self.note(LOOP, what);
    }

    /// A part of a turn begins.
    #[inline]
    pub(crate) fn note_part(&mut self, part: Part) {
        self.note_loop(|| What::Part(part));
    }

    /// The stores of responses, and what they ask of the loop.
    pub(crate) fn stores(&mut self) -> (&mut Stores, Hands<'_>) {
        let hands = Hands {
            disk: self.sys.disk(),
            jobs: &mut self.jobs,
            pool: &mut self.pool,
            woken: &mut self.woken,
            now: self.now,
            wall_ms: unix_ms(self.wall),
        };
        (&mut self.stores, hands)
    }

    /// The kernel, and to whom sides give back what they do not need.
    pub(super) fn lenders(&mut self) -> Lenders<'_, S> {
        self.split_upstreams().1
    }

    /// The same beside the sockets towards origins.
    pub(super) fn split_upstreams(&mut self) -> (&mut Upstreams<S>, Lenders<'_, S>) {
        let lenders = Lenders {
            sys: &mut self.sys,
            pool: &mut self.pool,
            pipes: &mut self.pipes,
        };
        (&mut self.upstreams, lenders)
    }

    /// What a service may see, the connections that nobody uses, and the link that stands for no
    /// origin.
    pub(super) fn split(&mut self, listener: usize) -> (Cx<'_>, &mut Idle, &mut Link) {
        let cx = Cx {
            now: self.now,
            wall: self.wall,
            turn: self.metrics.turns,
            draining: self.draining,
            pool: &mut self.pool,
            disk: self.sys.disk(),
            jobs: &mut self.jobs,
            hooks: &mut self.hooks,
            resolver: &mut self.resolver,
            stores: &mut self.stores,
            compressed: &mut self.compressed,
            senders: &mut self.senders,
            woken: &mut self.woken,
            inside: &mut self.inside,
            work: &mut self.work,
            counted: Counted::new(&mut self.metrics, listener),
        };
        (cx, &mut self.upstreams.idle, &mut self.nowhere)
    }
}

/// The limits of every session, whatever its protocol.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionLimits {
    /// Bytes that one pump may move before it goes behind the others.
    pub(crate) pump_bytes_max: usize,
    /// Bytes in memory that one send queue holds.
    pub(crate) send_bytes_max: u32,
    /// How often a peer that is to take what is queued for it is looked at, and the bytes that it
    /// must have taken since.
    pub(crate) write_timeout: Duration,
    pub(crate) write_bytes_min: u64,
    /// How long a closed session waits for the peer's end: while nothing comes, and in all; and for
    /// how many bytes.
    pub(crate) linger_timeout: Duration,
    pub(crate) linger_time_max: Duration,
    pub(crate) linger_bytes_max: usize,
    /// The start that an attempt to connect to an origin has on the next one.
    pub(crate) connect_attempt_delay: Duration,
}

impl SessionLimits {
    pub(crate) fn of(limits: &Limits) -> Self {
        Self {
            pump_bytes_max: limits.turn_bytes,
            send_bytes_max: u32::try_from(limits.send_queue_bytes_max).unwrap_or(u32::MAX),
            write_timeout: limits.write_timeout,
            write_bytes_min: bytes_at(limits.write_rate_min, limits.write_timeout).max(1),
            linger_timeout: limits.linger_timeout,
            linger_time_max: limits.linger_time_max,
            linger_bytes_max: limits.linger_bytes_max,
            connect_attempt_delay: limits.connect_attempt_delay,
        }
    }
}

/// Bytes in a span of time at so many a second.
fn bytes_at(rate: Option<NonZeroU32>, span: Duration) -> u64 {
    let rate = rate.map_or(0, NonZeroU32::get);
    let bytes = u128::from(rate) * span.as_millis() / 1000;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
