//! The sockets towards origins: whose each is.
//!
//! A session makes a connection, gives it back when an exchange ended clean, and another one may go
//! on with it. It is registered with the poll once, under a token of its own
//! ([`Token::Upstream`]), so that nothing is asked of the kernel when it changes hands:
//!
//! ```text
//! connect ──▶ held by a session ──keep──▶ held by nobody ──claim──▶ held by a session
//!                    │                          │
//!                    └──────────close───────────┴──an event, or surplus──▶ gone
//! ```
//!
//! While it is made, several attempts may be under way; when which begins says [`Race`]. On the one
//! that was made first, what its [`Opening`] asks for comes next: the header of the PROXY protocol,
//! then the handshake of TLS. One that was made may ask for TLS later, when what was said in plain text
//! is over ([`Upstream::secure`]). Which of those that nobody holds is given to whom, and which go, says
//! [`Idle`].

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use slab::Slab;

use super::half::{Half, Lenders};
use super::race::Race;
use super::tls::Tls;
use super::token::Token;
use super::transfer::Ready;
use crate::service::origins::{Idle, IdleLimits, Opening, TlsTo, Trouble, Way};
use crate::service::{Ends, Id, LinkState, Relayed};
use crate::sys::{Event, SecureError, Sys};
use crate::wire::proxy_protocol;

/// The side of a session towards an origin.
pub(super) struct Upstream<S: Sys> {
    pub(super) half: Half<S>,
    /// The place of its socket; `None` for a side whose connection could not be made.
    pub(super) place: Option<u32>,
    /// While the connection is being made.
    making: Option<Box<Making<S>>>,
    /// What is wrong with the origin's TLS, if that is why its connection failed.
    pub(super) trouble: Option<Box<Trouble>>,
    /// Where the connection leads, once it is made.
    pub(super) ends: Option<Ends>,
    /// What went unread between it and the client.
    pub(super) relayed: Relayed,
}

/// A connection that is being made: the attempts that are under way; then what opens it.
struct Making<S: Sys> {
    race: Race,
    attempts: Vec<Attempt<S>>,
    opening: Opening,
    /// What is left to be sent of the header that tells of the client.
    header: Vec<u8>,
    /// The connection was made before, and only TLS is still to come.
    is_later: bool,
    /// The handshake has begun.
    is_begun: bool,
}

struct Attempt<S: Sys> {
    stream: S::Stream,
    place: u32,
    ready: Ready,
    /// An event came and was not looked at yet.
    is_told: bool,
}

impl<S: Sys> Upstream<S> {
    /// One whose connection is about to be made.
    pub(super) fn new(race: Race, opening: Opening, send_bytes_max: u32) -> Box<Self> {
        Box::new(Self {
            half: Half::connecting(send_bytes_max),
            place: None,
            making: Some(Box::new(Making {
                race,
                attempts: Vec::new(),
                opening,
                header: Vec::new(),
                is_later: false,
                is_begun: false,
            })),
            trouble: None,
            ends: None,
            relayed: Relayed::default(),
        })
    }

    /// TLS begins on the connection, on which no byte is under way, within that which may be spoken
    /// there already; it is over in `timeout`.
    pub(super) fn secure(&mut self, to: TlsTo, timeout: Duration, now: Instant) {
        self.half.link.status = LinkState::Connecting;
        self.making = Some(Box::new(Making {
            race: Race::new(Vec::new(), timeout, Duration::ZERO, now),
            attempts: Vec::new(),
            opening: Opening {
                introduce: None,
                tls: Some(to),
            },
            header: Vec::new(),
            is_later: true,
            is_begun: false,
        }));
    }

    /// Whether it was made before, and TLS begins on it.
    pub(super) fn is_secured_later(&self) -> bool {
        let making = self.making.as_ref();
        making.is_some_and(|making| making.is_later)
    }

    /// When it is to be looked at again while the connection is being made.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let making = self.making.as_ref()?;
        Some(match self.place {
            Some(_) => making.race.until(),
            None => making.race.deadline(),
        })
    }

    /// An event of the socket in this place.
    pub(super) fn note(&mut self, place: u32, event: &Event) {
        let (readable, writable, closed) = (event.readable, event.writable, event.read_closed);
        if self.place == Some(place) {
            self.half.ready.note(readable, writable, closed);
        }
        let making = self.making.iter_mut();
        for attempt in making.flat_map(|making| &mut making.attempts) {
            if attempt.place == place {
                attempt.ready.note(readable, writable, closed);
                attempt.is_told = true;
            }
        }
    }

    /// Takes a connection that is being made for a session as far as it goes. Whether it was made
    /// or cannot be.
    pub(super) fn make(
        &mut self,
        session: Id,
        now: Instant,
        sockets: &mut Upstreams<S>,
        sys: &mut S,
    ) -> bool {
        let Some(making) = &mut self.making else {
            return false;
        };
        if self.place.is_none() {
            if let Some((attempt, ends)) = making.winner(now, sockets, sys) {
                making.give_up(sockets, sys);
                making.put_header(&ends);
                self.half.connected(attempt.stream, attempt.ready);
                self.ends = Some(ends);
                self.half.link.status = LinkState::Connecting;
                self.place = Some(attempt.place);
            } else {
                making.begin(session, now, sockets, sys);
                let under_way = making.attempts.len();
                if let Some(kind) = making.race.failure(under_way, now) {
                    making.give_up(sockets, sys);
                    self.half.link.eof = true;
                    self.half.link.status = LinkState::Failed(kind);
                }
            }
        }
        self.open(now, sys);
        self.shake_hands(now);
        if self.half.link.status == LinkState::Connecting {
            return false;
        }
        self.making = None;
        true
    }

    /// The connection is made: the origin is told of the client, if it is to be; then, where TLS is
    /// spoken, its handshake begins.
    fn open(&mut self, now: Instant, sys: &mut S) {
        let Some(making) = &mut self.making else {
            return;
        };
        let is_made = self.place.is_some() && self.half.link.status == LinkState::Connecting;
        if !is_made || making.is_begun {
            return;
        }
        let late = now >= making.race.until();
        self.half.link.status = match self.half.send_ahead(&mut making.header, sys) {
            Ok(false) if late => LinkState::Failed(io::ErrorKind::TimedOut),
            Ok(false) => LinkState::Connecting,
            Err(kind) => LinkState::Failed(kind),
            Ok(true) => match &making.opening.tls {
                None => LinkState::Open,
                Some(to) => match Tls::connect(to, self.half.tls.take(), sys) {
                    Ok(tls) => {
                        making.is_begun = true;
                        self.half.tls = Some(tls);
                        LinkState::Connecting
                    }
                    Err(error) => {
                        self.trouble = Some(trouble_of(error));
                        LinkState::Failed(io::ErrorKind::InvalidInput)
                    }
                },
            },
        };
    }

    /// Looks at a handshake that is under way.
    fn shake_hands(&mut self, now: Instant) {
        let making = self.making.as_ref().filter(|making| making.is_begun);
        let (Some(making), Some(tls)) = (making, &self.half.tls) else {
            return;
        };
        let link = &mut self.half.link;
        let trouble = |text: &str| {
            Some(Box::new(Trouble {
                text: text.to_owned(),
                is_certificate: false,
            }))
        };
        match link.status {
            LinkState::Connecting if !tls.is_handshaking() => link.status = LinkState::Open,
            LinkState::Connecting if link.eof => {
                self.trouble = trouble("it ended the connection within the TLS handshake");
                link.status = LinkState::Failed(io::ErrorKind::UnexpectedEof);
            }
            LinkState::Connecting if now >= making.race.until() => {
                self.trouble = trouble("the TLS handshake took too long");
                link.status = LinkState::Failed(io::ErrorKind::TimedOut);
            }
            LinkState::Failed(_) => {
                self.trouble = tls.trouble.clone().map(trouble_of);
            }
            _ => {}
        }
    }

    /// Closes what there is of it, and gives everything back. `abortive`: as
    /// [`Half::close`] has it.
    pub(super) fn close(
        mut self,
        abortive: bool,
        sockets: &mut Upstreams<S>,
        lenders: &mut Lenders<'_, S>,
    ) {
        self.half.close(abortive, lenders);
        if let Some(place) = self.place {
            sockets.release(place);
        }
        if let Some(making) = &mut self.making {
            making.give_up(sockets, lenders.sys);
        }
    }
}

/// What an error of TLS with an origin means.
fn trouble_of(error: SecureError) -> Box<Trouble> {
    Box::new(Trouble {
        text: error.text,
        is_certificate: error.is_certificate,
    })
}

impl<S: Sys> Making<S> {
    /// Looks at the attempts of which something was told: the first that is made, if any. Those
    /// that failed are gone.
    fn winner(
        &mut self,
        now: Instant,
        sockets: &mut Upstreams<S>,
        sys: &mut S,
    ) -> Option<(Attempt<S>, Ends)> {
        let mut i = 0;
        while i < self.attempts.len() {
            let attempt = &mut self.attempts[i];
            if !std::mem::take(&mut attempt.is_told) {
                i += 1;
                continue;
            }
            match sys.connected(&attempt.stream) {
                Ok(None) => i += 1, // it was told for nothing
                Ok(Some(ends)) => return Some((self.attempts.remove(i), ends)),
                Err(error) => {
                    self.race.failed(error.kind(), now);
                    sockets.abandon(self.attempts.remove(i), sys);
                }
            }
        }
        None
    }

    /// Begins the attempts whose time has come.
    fn begin(&mut self, session: Id, now: Instant, sockets: &mut Upstreams<S>, sys: &mut S) {
        while let Some(address) = self.race.next(now) {
            match sockets.connect(address, session, sys) {
                Ok((place, stream)) => self.attempts.push(Attempt {
                    stream,
                    place,
                    ready: Ready::default(),
                    is_told: false,
                }),
                Err(error) => self.race.failed(error.kind(), now),
            }
        }
    }

    /// Writes the header that tells the origin of the client. Where that connected to is not known
    /// here: the origin's own address stands for it.
    fn put_header(&mut self, ends: &Ends) {
        if let Some(introduce) = &self.opening.introduce {
            let (version, client) = (introduce.version, introduce.client);
            proxy_protocol::put(&mut self.header, version, client, ends.peer);
        }
    }

    /// Nobody needs the attempts under way any more.
    fn give_up(&mut self, sockets: &mut Upstreams<S>, sys: &mut S) {
        for attempt in self.attempts.drain(..) {
            sockets.abandon(attempt, sys);
        }
    }
}

/// Who has a socket.
pub(super) enum Holder<S: Sys> {
    /// This session.
    Session(Id),
    /// Nobody: it waits for the next who asks.
    Nobody(Box<Upstream<S>>),
}

struct Slot<S: Sys> {
    generation: u32,
    holder: Holder<S>,
}

/// All of them.
pub(crate) struct Upstreams<S: Sys> {
    slots: Slab<Slot<S>>,
    generation: u32,
    /// Those that nobody holds.
    pub(super) idle: Idle,
}

impl<S: Sys> Upstreams<S> {
    pub(super) fn new(limits: IdleLimits) -> Self {
        Self {
            slots: Slab::new(),
            generation: 0,
            idle: Idle::new(limits),
        }
    }

    /// Sockets that are open.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Begins a connection for a session; its place.
    ///
    /// # Errors
    /// Those of `connect(2)`.
    fn connect(
        &mut self,
        to: SocketAddr,
        session: Id,
        sys: &mut S,
    ) -> io::Result<(u32, S::Stream)> {
        self.generation = self.generation.wrapping_add(1);
        let (generation, entry) = (self.generation, self.slots.vacant_entry());
        let index = entry.key() as u32;
        let token = Token::Upstream(Id { index, generation });
        let stream = sys.connect(to, token.pack())?;
        entry.insert(Slot {
            generation,
            holder: Holder::Session(session),
        });
        Ok((index, stream))
    }

    /// Who has the socket of this token; `None` if it is gone.
    pub(super) fn holder(&mut self, id: Id) -> Option<&mut Holder<S>> {
        let slot = self.slots.get_mut(id.index as usize)?;
        (slot.generation == id.generation).then_some(&mut slot.holder)
    }

    /// A session gives a connection back, on which nothing is under way.
    pub(super) fn keep(&mut self, upstream: Box<Upstream<S>>, to: (u32, Way), now: Instant) {
        // Invariant: what carries bytes has a place.
        let place = upstream.place.expect("the place of a connection");
        self.slots[place as usize].holder = Holder::Nobody(upstream);
        let (service, way) = to;
        self.idle.put(service, way, place, now);
    }

    /// A session gets the connection in `place`, which was taken out of those that are idle.
    ///
    /// # Panics
    /// If it is somebody's.
    pub(super) fn claim(&mut self, place: u32, session: Id) -> Box<Upstream<S>> {
        let holder = &mut self.slots[place as usize].holder;
        match std::mem::replace(holder, Holder::Session(session)) {
            Holder::Nobody(upstream) => upstream,
            Holder::Session(other) => panic!("a connection of session {other:?} was idle"),
        }
    }

    /// An attempt failed, or another one won.
    fn abandon(&mut self, attempt: Attempt<S>, sys: &mut S) {
        sys.close(attempt.stream);
        self.release(attempt.place);
    }

    /// The socket in `place` was closed, or is about to be.
    fn release(&mut self, place: u32) {
        self.slots.remove(place as usize);
    }

    /// Closes what has been idle for too long, or was too much.
    pub(super) fn close_surplus(&mut self, now: Instant, lenders: &mut Lenders<'_, S>) {
        self.idle.expire(now);
        while let Some(place) = self.idle.poll_surplus() {
            self.close_idle(place, lenders);
        }
    }

    /// The origin said something on a connection that nobody uses, or ended it: it cannot be used
    /// any more.
    pub(super) fn died(&mut self, place: u32, lenders: &mut Lenders<'_, S>) {
        if self.idle.remove(place) {
            self.close_idle(place, lenders);
        }
    }

    fn close_idle(&mut self, place: u32, lenders: &mut Lenders<'_, S>) {
        if let Holder::Nobody(mut upstream) = self.slots.remove(place as usize).holder {
            upstream.half.close(false, lenders);
        }
    }
}
