//! One side of a session: its link, the socket behind it, and TLS between them where it is spoken.
//! Both sides are alike.
//!
//! ```text
//! kernel ──recv──▶ (TLS: records to plain bytes) ──▶ link.rx      fill
//! kernel ◀──send── (TLS: plain bytes to records) ◀── link.tx      flush
//! ```
//!
//! There is one loop for each direction. Readiness is cleared here and nowhere else: on
//! `WouldBlock`, or on a short transfer. A short read is no proof of a drained socket once the peer
//! has closed: that edge was told already, so the socket is read until it says so.

use std::io;
use std::time::Instant;

use super::pipes::Pipes;
use super::range::{FileRange, RANGE_BYTES_MAX};
use super::tls::Tls;
use super::transfer::{Budget, Moved, Progress, Ready, Sent};
use crate::buffer::{Front, Pool};
use crate::ending::Error;
use crate::inside::ring::{Call, CameTo};
use crate::pipe::Pipe;
use crate::service::{Finish, Link, LinkState};
use crate::sys::{PlantedBug, Sys};

/// The kernel, and to whom a side gives back what it does not need.
pub(super) struct Lenders<'a, S: Sys> {
    pub(super) sys: &'a mut S,
    pub(super) pool: &'a mut Pool,
    pub(super) pipes: &'a mut Pipes,
}

/// One side of a session.
pub(super) struct Half<S: Sys> {
    pub(super) link: Link,
    /// `None` once it was closed.
    pub(super) stream: Option<S::Stream>,
    pub(super) ready: Ready,
    /// What came waits in the socket until the handshake may go on.
    pub(super) held: bool,
    pub(super) tls: Option<Box<Tls>>,
    /// Through which bytes come unread from the other side.
    pub(super) pipe: Option<Pipe>,
}

impl<S: Sys> Half<S> {
    pub(super) fn new(
        stream: S::Stream,
        status: LinkState,
        tls: Option<Box<Tls>>,
        send_bytes_max: u32,
    ) -> Self {
        Self {
            link: Link::new(status, send_bytes_max),
            stream: Some(stream),
            ready: Ready::default(),
            held: false,
            tls,
            pipe: None,
        }
    }

    /// A side without a socket.
    pub(super) fn without(status: LinkState, send_bytes_max: u32) -> Self {
        Self {
            link: Link {
                eof: true,
                ..Link::new(status, send_bytes_max)
            },
            stream: None,
            ready: Ready::default(),
            held: false,
            tls: None,
            pipe: None,
        }
    }

    /// A side whose connection is being made.
    pub(super) fn connecting(send_bytes_max: u32) -> Self {
        Self {
            link: Link::new(LinkState::Connecting, send_bytes_max),
            stream: None,
            ready: Ready::default(),
            held: false,
            tls: None,
            pipe: None,
        }
    }

    /// The connection is made.
    pub(super) fn connected(&mut self, stream: S::Stream, ready: Ready) {
        self.stream = Some(stream);
        self.ready = ready;
        self.ready.writable = true;
        self.link.status = LinkState::Open;
    }

    /// Sends what goes ahead of everything else, TLS included, as far as the socket takes it. More
    /// follows at once. Whether all of it left.
    pub(super) fn send_ahead(
        &mut self,
        bytes: &mut Vec<u8>,
        sys: &mut S,
    ) -> Result<bool, io::ErrorKind> {
        let Some(stream) = &self.stream else {
            return Ok(false);
        };
        while !bytes.is_empty() && self.ready.writable {
            match sys.send(stream, bytes, true) {
                Ok(count) => drop(bytes.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.ready.writable = false;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.kind()),
            }
        }
        Ok(bytes.is_empty())
    }

    /// Whether a fill could bring anything: bytes of the socket, or plain bytes that wait in the
    /// TLS layer.
    pub(super) fn may_fill(&self) -> bool {
        let is_there = self.ready.readable || self.tls.as_ref().is_some_and(|tls| tls.has_plain());
        // A connection that is being made may have been told an event for nothing.
        let is_made = self.link.status == LinkState::Open || self.is_handshaking();
        let reads = is_made && !self.link.eof;
        is_there && reads && !self.held && self.link.has_space()
    }

    /// Whether a flush could move anything.
    pub(super) fn may_flush(&self) -> bool {
        let wants = self.ready.writable || self.link.finish == Finish::Wanted;
        wants && (self.link.status == LinkState::Open || self.is_handshaking())
    }

    /// Whether a connection was made and TLS is not ready yet.
    pub(super) fn is_handshaking(&self) -> bool {
        let tls = self.tls.as_ref();
        self.stream.is_some() && tls.is_some_and(|tls| tls.is_handshaking())
    }

    /// Tells what of the bytes that came nobody looks at, to who wants to know.
    #[inline]
    pub(super) fn tell_unread(&mut self, sys: &mut S) {
        if let Some(stream) = &self.stream {
            let rx = &mut self.link.rx;
            rx.tell_unread(|unread, waits| sys.unread(stream, unread, waits));
        }
    }

    /// Whether something waits to be sent, in the link's queue or as records.
    pub(super) fn has_output(&self) -> bool {
        !self.link.tx.is_empty() || self.tls.as_ref().is_some_and(|tls| tls.has_output())
    }

    /// The answer to a client that speaks in plain text where TLS was expected. It goes out in
    /// plain text, too.
    pub(super) fn take_plain_answer(&mut self) -> Option<Vec<u8>> {
        let answer = self.tls.as_mut()?.take_plain_answer()?;
        self.tls = None;
        Some(answer)
    }

    /// Reads until the socket would block, the page is full or the budget is spent. Whether
    /// anything new came.
    pub(super) fn fill(
        &mut self,
        sys: &mut S,
        pool: &mut Pool,
        budget: &mut Budget,
    ) -> Result<bool, io::ErrorKind> {
        let result = self.fill_link(sys, pool, budget);
        self.count(pool);
        result
    }

    /// What the TLS layer holds is counted.
    fn count(&mut self, pool: &Pool) {
        if let Some(tls) = &mut self.tls {
            tls.count(pool);
        }
    }

    fn fill_link(
        &mut self,
        sys: &mut S,
        pool: &mut Pool,
        budget: &mut Budget,
    ) -> Result<bool, io::ErrorKind> {
        let Self {
            link, ready, tls, ..
        } = self;
        let Some(stream) = &self.stream else {
            return Ok(false);
        };
        if sys.leaves_out() {
            link.rx.follow();
        }
        let mut news = match tls {
            Some(tls) => tls.take_plain(link, sys, pool)?,
            None => false,
        };
        while ready.readable && !link.eof && link.rx.has_space() && !budget.is_spent() {
            let began = budget.call_begins(sys);
            let received = match tls {
                None => receive(link, stream, sys, pool),
                Some(tls) => tls.receive(stream, sys),
            };
            let came_to = match &received {
                Ok(moved) => (Call::Receive, CameTo::Done, moved.count),
                Err(error) => (Call::Receive, CameTo::of(error), 0),
            };
            budget.call_ended(began, came_to, sys);
            match received {
                Ok(Moved { count: 0, .. }) if sys.planted(PlantedBug::HalfCloseDrops) => {
                    return Err(io::ErrorKind::ConnectionReset);
                }
                Ok(Moved { count: 0, .. }) => {
                    link.eof = true;
                    ready.readable = false;
                    news = true;
                }
                Ok(Moved { count, is_full }) => {
                    budget.spend(count, tls.is_some());
                    let closing = ready.closing && !sys.planted(PlantedBug::EndOfStreamLost);
                    ready.readable =
                        (is_full || closing) && !sys.planted(PlantedBug::ReadableClearedOnFullRead);
                    news |= match tls {
                        None => true,
                        Some(tls) => tls.open_records(link, stream, sys, pool)?,
                    };
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.readable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.kind()),
            }
        }
        Ok(news)
    }

    /// Sends until the socket would block, nothing waits or the budget is spent; then the end, if
    /// it is wanted.
    pub(super) fn flush(
        &mut self,
        sys: &mut S,
        pool: &mut Pool,
        budget: &mut Budget,
        ranges: (&FileRange, Instant),
    ) -> Result<Progress, Error> {
        let result = self.flush_link(sys, pool, budget, ranges);
        self.count(pool);
        result
    }

    fn flush_link(
        &mut self,
        sys: &mut S,
        pool: &mut Pool,
        budget: &mut Budget,
        (range, now): (&FileRange, Instant),
    ) -> Result<Progress, Error> {
        let Self {
            link, ready, tls, ..
        } = self;
        let pipe = self.pipe.as_ref();
        let Some(stream) = &self.stream else {
            return Ok(Progress::None);
        };
        let mut progress = Progress::None;
        while ready.writable && !budget.is_spent() && (tls.is_some() || !link.tx.is_empty()) {
            if !range.may_be_sent(&link.tx, sys, now)? {
                break;
            }
            let began = budget.call_begins(sys);
            let call = match (began, &tls) {
                (Some(_), None) => call_for(&link.tx.front()),
                _ => Call::Send,
            };
            let sent = match tls {
                None => send(link, (stream, pipe), sys, pool, budget.left),
                Some(tls) => tls.send(link, stream, sys, pool),
            };
            if let Some(came_to) = came_to(&sent) {
                budget.call_ended(began, (call, came_to.0, came_to.1), sys);
            }
            let sent = sent?;
            match sent {
                Sent::Nothing => break,
                Sent::Blocked => ready.writable = sys.planted(PlantedBug::WritableNotCleared),
                Sent::Some(Moved { count, is_full }) => {
                    budget.spend(count, tls.is_some());
                    link.sent += count as u64;
                    progress = Progress::Sent;
                    ready.writable = is_full && !sys.planted(PlantedBug::WritableClearedOnFullSend);
                }
            }
        }
        let is_told = tls.as_ref().is_none_or(|tls| tls.is_ended());
        if link.finish == Finish::Wanted && link.tx.is_empty() && is_told {
            // A TLS peer that ended first is closed at once, which says the same.
            if tls.is_none() || !link.eof {
                let began = budget.call_begins(sys);
                sys.shutdown(stream)
                    .map_err(|error| Error::Reset(error.kind()))?;
                let came_to = (Call::Shutdown, CameTo::Done, 0);
                budget.call_ended(began, came_to, sys);
            }
            link.finish = Finish::Sent;
        }
        if progress == Progress::Sent && link.tx.take_refused() {
            progress = Progress::FreedForRefused;
        }
        Ok(progress)
    }

    /// Whether a flush stopped although more could have been moved: before a file range that is not
    /// in memory.
    pub(super) fn is_stopped_by_disk(&self, budget: &Budget) -> bool {
        let is_file = self.link.tx.front_file().is_some();
        is_file && self.ready.writable && !budget.is_spent()
    }

    /// The connection broke: the socket is closed, and what came before it broke may still be read.
    pub(super) fn fail(&mut self, kind: io::ErrorKind, lenders: &mut Lenders<'_, S>) {
        if let Some(stream) = self.stream.take() {
            lenders.sys.close(stream);
        }
        self.give_pipe_back(lenders);
        self.ready = Ready::default();
        self.link.tx.clear(lenders.pool);
        self.link.eof = true;
        if !lenders.sys.planted(PlantedBug::BrokenTakenForWhole) {
            self.link.status = LinkState::Failed(kind);
        }
    }

    /// Whether nothing is under way on an open connection, and nothing was heard of its peer: looks
    /// for it where the last reading left that open.
    pub(super) fn is_quiet(&mut self, sys: &mut S, pool: &mut Pool) -> bool {
        let mut budget = Budget::new(1);
        let is_silent = match self.ready.readable {
            true => self.fill(sys, pool, &mut budget) == Ok(false),
            false => true,
        };
        is_silent && !self.ready.closing && self.link.is_reusable() && !self.has_output()
    }

    /// Closes the socket and gives all pages back. `abortive`: where the end of the stream would
    /// make a message look whole, the peer sees a reset instead.
    pub(super) fn close(&mut self, abortive: bool, lenders: &mut Lenders<'_, S>) {
        if let Some(stream) = self.stream.take() {
            match abortive && self.link.end_is_framing {
                true => lenders.sys.abort(stream),
                false => lenders.sys.close(stream),
            }
        }
        self.give_pipe_back(lenders);
        self.close_inlet(lenders);
        if !lenders.sys.planted(PlantedBug::PagesKept) {
            self.link.rx.clear();
            self.link.rx.release(lenders.pool);
            self.link.tx.clear(lenders.pool);
        }
    }

    /// Gives back what an idle side does not need.
    pub(super) fn release(&mut self, lenders: &mut Lenders<'_, S>) {
        self.link.rx.release(lenders.pool);
        self.link.tx.release(lenders.pool);
        if self.link.tx.is_empty() {
            self.give_pipe_back(lenders);
        }
    }

    /// Before the queue is cleared: it tells whether something is in the pipe.
    fn give_pipe_back(&mut self, lenders: &mut Lenders<'_, S>) {
        if let Some(pipe) = self.pipe.take() {
            lenders
                .pipes
                .take_back(pipe, self.link.tx.is_empty(), lenders.sys);
        }
    }

    /// What came by the inlet and was not taken goes.
    pub(super) fn close_inlet(&mut self, lenders: &mut Lenders<'_, S>) {
        if let Some(came) = self.link.inlet.take().and_then(|inlet| inlet.came) {
            lenders.pipes.take_back_piped(came, lenders.sys);
        }
    }

    /// This side's part of the park invariant: nothing readable that there is room for, nothing
    /// queued that could be sent. `held_up`: what arrives goes to the other side, which is full.
    pub(super) fn assert_parked(&self, held_up: bool) {
        let link = &self.link;
        if link.status == LinkState::Open {
            debug_assert!(
                !self.ready.readable || self.held || held_up || link.eof || !link.has_space(),
                "parked with input to read"
            );
            debug_assert!(
                !self.ready.writable || link.tx.is_empty() || self.link.tx.front_file().is_some(),
                "parked with output to send"
            );
        }
    }
}

/// Reads into the link.
fn receive<S: Sys>(
    link: &mut Link,
    stream: &S::Stream,
    sys: &mut S,
    pool: &mut Pool,
) -> io::Result<Moved> {
    let space = link.rx.space(pool);
    let room = space.len();
    let count = sys.recv(stream, space)?;
    link.rx.filled(count, room);
    Ok(Moved {
        count,
        is_full: count == room,
    })
}

/// The call that sends what is at the front of a queue.
fn call_for(front: &Front<'_>) -> Call {
    match front {
        Front::Empty | Front::One(..) => Call::Send,
        Front::Many(..) => Call::SendMany,
        Front::File(..) => Call::SendFile,
        Front::Piped(_) => Call::SpliceOut,
    }
}

/// What a call that sends came to, and its bytes; `None` if there was nothing to send.
fn came_to(sent: &Result<Sent, Error>) -> Option<(CameTo, usize)> {
    Some(match sent {
        Ok(Sent::Nothing) => return None,
        Ok(Sent::Blocked) => (CameTo::WouldBlock, 0),
        Ok(Sent::Some(moved)) => (CameTo::Done, moved.count),
        Err(_) => (CameTo::Failed, 0),
    })
}

/// Sends what is at the front of the link's queue, of a file at most `file_bytes_max` bytes.
fn send<S: Sys>(
    link: &mut Link,
    (stream, pipe): (&S::Stream, Option<&Pipe>),
    sys: &mut S,
    pool: &mut Pool,
    file_bytes_max: usize,
) -> Result<Sent, Error> {
    let (result, offered) = match link.tx.front() {
        Front::Empty => return Ok(Sent::Nothing),
        Front::One(bytes, more) => (sys.send(stream, bytes, more), Some(bytes.len())),
        Front::Many(runs, count, more) => {
            let offered = runs[..count].iter().map(|run| run.len()).sum();
            (sys.send_many(stream, &runs[..count], more), Some(offered))
        }
        Front::File(file, offset, len) => {
            let len = len.min(file_bytes_max as u64).min(RANGE_BYTES_MAX);
            let result = sys.send_file(stream, file, offset, len);
            if matches!(result, Ok(0)) {
                return Err(Error::Changed); // shorter than was promised: the answer must not look complete
            }
            // A file never fills the socket buffer in one call for certain: only `WouldBlock` says
            // that it is full.
            (result, None)
        }
        Front::Piped(count) => match pipe.map(|pipe| sys.splice_out(pipe, stream, count)) {
            Some(Ok(0)) | None => return Err(Error::Reset(io::ErrorKind::WriteZero)),
            Some(result) => (result, None),
        },
    };
    let sent = Sent::of(result, |count| {
        offered.is_none_or(|offered| count == offered)
    })?;
    if let Sent::Some(moved) = &sent {
        link.tx.sent(moved.count, pool);
    }
    Ok(sent)
}
