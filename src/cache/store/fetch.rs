//! A fetch: one request to an origin for which many may wait, and the object that grows of its
//! response.
//!
//! ```text
//! Awaited ──a head that may be stored──▶ Growing ──its last byte──▶ Whole ──read by all──▶ gone
//!    └──none: everybody asks for themselves──▶ gone    │  └──cut, and of no use──▶ Broken ──left by all──▶ gone
//!                                                      └──cut──▶ Whole, a part: read by those who follow up to where it ends
//! ```
//!
//! The session that leads it moves bytes in; sessions that follow it read at their own speed, from
//! the memory that a small object is, or from the file that a large one grows in, as far as that is
//! written. Nobody waits for another: what the disk has not taken yet holds up the leader's reading
//! alone.
//!
//! Where the object cannot be kept after all (the disk is full, or it grew too large), the store
//! takes no more of it: the leader, which read all that was taken, goes on by itself, and those who
//! followed are cut.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Instant;

use super::Hands;
use super::index::Key;
use super::kept::{self, Body, Kept, Shown, Source};
use super::object::{self, Header};
use super::writing::{Writing, page_of};
use crate::buffer::{Pool, RecvBuf, SendQueue};
use crate::http::Status;
use crate::http::caching::partial::Part;
use crate::http::caching::{Terms, Times, update};
use crate::waiter::Id;

/// Names a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FetchId {
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl FetchId {
    /// None is before it.
    pub(super) const FIRST: Self = Self {
        index: 0,
        generation: 0,
    };
}

/// What is known of an object when its head has come.
#[derive(Clone, Debug)]
pub struct Object {
    /// As that of [`Kept`].
    pub selecting: Box<[u8]>,
    /// Its status.
    pub status: Status,
    /// As that of [`Kept`].
    pub head: Rc<[u8]>,
    /// As those of [`Kept`].
    pub terms: Terms,
    /// As those of [`Kept`].
    pub times: Times,
    /// The length of its body, if its head told.
    pub expected: Option<u64>,
}

/// What a follower finds ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ahead {
    /// So many bytes; whether they are copied when they are queued, so that few at once are better.
    Bytes {
        /// How many.
        count: u64,
        /// See there.
        copied: bool,
    },
    /// Nothing yet.
    Nothing,
    /// It was the last byte.
    End,
    /// There will be no more.
    Broken,
}

#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) generation: u32,
    pub(super) key: Key,
    pub(super) text: Box<[u8]>,
    pub(super) stage: Stage,
    /// Sessions that are woken when there is more to see.
    pub(super) waiting: BTreeSet<Id>,
    /// Sessions that read it, the leader among them.
    pub(super) followers: u32,
    /// Sessions that waited for its head and have not looked at it since: they are about to read it
    /// ([`Store::hopeful`](super::Store)).
    pub(super) hopeful: u32,
    /// What it brings was true once: it is for those who asked, and not kept.
    pub(super) is_outdated: bool,
    /// A range was asked for: nobody waits for its head, nor reads the part that it may bring.
    pub(super) is_ranged: bool,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// Its head has not come.
    Awaited { since: Instant },
    /// Bytes come.
    Growing(Box<Growing>),
    /// All bytes are there.
    Whole(Box<Whole>),
    /// It was cut.
    Broken,
}

/// An object of which all is there.
#[derive(Debug)]
pub(super) struct Whole {
    object: Object,
    body: Body,
    bytes: u64,
    part: Option<Part>,
    crc32: u32,
    /// It is what there is of a response that broke off: who follows that gets no end.
    is_cut: bool,
    /// Its file has not got its name yet.
    writing: Option<Box<Writing>>,
}

#[derive(Debug)]
pub(super) struct Growing {
    pub(super) object: Object,
    /// Which bytes of the representation it is, if not all of them.
    pub(super) part: Option<Part>,
    pub(super) place: Place,
    /// Bytes of a part that it completes, which come behind those of the leader.
    pub(super) behind: Option<Source>,
    /// The bytes of a kept part that it completes; 0 where there is none.
    pub(super) completes: u64,
    /// The response broke off, and this is what there is of it.
    pub(super) is_cut: bool,
    /// The checksum of all its bytes, once they were taken.
    pub(super) crc32: u32,
    /// The leader has no more bytes for it.
    pub(super) is_ended: bool,
    /// All of it was taken.
    pub(super) is_whole: bool,
    /// No more is taken.
    pub(super) gave_up: bool,
}

/// Where an object grows.
#[derive(Debug)]
pub(super) enum Place {
    Memory(Vec<u8>),
    File(Box<Writing>),
}

impl Growing {
    pub(super) fn new(object: Object, place: Place) -> Self {
        Self {
            part: kept::part_of(object.status, &object.head),
            object,
            place,
            behind: None,
            completes: 0,
            is_cut: false,
            crc32: 0,
            is_ended: false,
            is_whole: false,
            gave_up: false,
        }
    }

    /// Bytes that were taken.
    pub(super) fn bytes(&self) -> u64 {
        match &self.place {
            Place::Memory(bytes) => bytes.len() as u64,
            Place::File(writing) => writing.taken(),
        }
    }

    /// Bytes that can be read of it.
    pub(super) fn readable(&self) -> u64 {
        match &self.place {
            Place::File(writing) if !self.gave_up => writing.written(),
            Place::File(_) | Place::Memory(_) => self.bytes(),
        }
    }

    /// Takes what is kept already.
    pub(super) fn draw(&mut self, source: &Source, pool: &mut Pool) {
        match &mut self.place {
            Place::Memory(bytes) => bytes.extend_from_slice(source.bytes()),
            Place::File(writing) => writing.draw(source, pool),
        }
    }

    /// Whether all that it is made of is there, after the leader has no more bytes for it. What was
    /// kept already goes behind those.
    pub(super) fn has_all(&mut self, pool: &mut Pool) -> bool {
        if !self.is_ended || self.gave_up {
            return false;
        }
        let has_drawn = |place: &Place| match place {
            Place::Memory(_) => true,
            Place::File(writing) => writing.has_drawn(),
        };
        if has_drawn(&self.place)
            && let Some(behind) = self.behind.take()
        {
            self.draw(&behind, pool);
        }
        self.behind.is_none() && has_drawn(&self.place)
    }

    /// Whether [`Growing::has_all`] is worth asking again: something was drawn.
    pub(super) fn may_have_all(&self) -> bool {
        let is_drawn = matches!(&self.place, Place::File(writing) if writing.has_drawn());
        self.is_ended && !self.is_whole && !self.gave_up && is_drawn
    }

    /// The checksum of its bytes so far.
    pub(super) fn checksum(&self) -> u32 {
        match &self.place {
            Place::Memory(bytes) => crc32fast::hash(bytes),
            Place::File(writing) => writing.crc32(),
        }
    }

    /// Whether it has the length that its head says.
    pub(super) fn is_as_expected(&self) -> bool {
        let expected = self
            .part
            .map(|part| part.range.len())
            .or(self.object.expected);
        expected.is_none_or(|expected| expected == self.bytes())
    }

    pub(super) fn is_in_memory(&self) -> bool {
        matches!(self.place, Place::Memory(_))
    }

    /// What it is a part of by now, if no more of it comes, and the head of that part; `None` where
    /// that is of no use: it cannot be completed, or no more of it came than is kept.
    pub(super) fn as_part(&self) -> Option<(Part, Rc<[u8]>)> {
        let has_drawn = match &self.place {
            Place::Memory(_) => true,
            Place::File(writing) => writing.has_drawn(),
        };
        let is_one_piece = has_drawn && self.behind.is_none();
        let may_be_kept = is_one_piece && !self.is_ended && !self.gave_up;
        if !may_be_kept || self.bytes() <= self.completes {
            return None;
        }
        let head = kept::parse_head(&self.object.head)?;
        let part = Part::of_broken(&head, self.bytes())?;
        let mut lines = Vec::with_capacity(self.object.head.len() + object::ROOM_BYTES);
        update::put_part(&mut lines, &head, &part, self.object.times.response_s);
        Some((part, lines.into()))
    }

    /// Is that part from now on, to which nothing comes any more.
    pub(super) fn become_part(&mut self, part: Part, head: Rc<[u8]>) {
        self.object = Object {
            status: Status::PARTIAL_CONTENT,
            head,
            expected: Some(part.range.len()),
            ..self.object.clone()
        };
        self.part = Some(part);
        (self.is_cut, self.is_ended) = (true, true);
    }

    /// Whether more can be taken now.
    pub(super) fn has_room(&self) -> bool {
        !self.gave_up
            && match &self.place {
                Place::Memory(_) => true,
                Place::File(writing) => writing.has_room(),
            }
    }

    /// Takes the first `count` bytes of what arrived.
    pub(super) fn take(&mut self, rx: &mut RecvBuf, count: usize, pool: &mut Pool) {
        match &mut self.place {
            Place::Memory(bytes) => {
                bytes.extend_from_slice(&rx.bytes()[..count]);
                rx.consume(count);
            }
            Place::File(writing) => {
                let mut left = count;
                while let Some(page) = rx.take_front(left, pool) {
                    left -= page.len();
                    writing.push(page);
                }
            }
        }
    }

    /// Lets what is in memory grow in a file from now on.
    pub(super) fn spill(&mut self, mut writing: Box<Writing>, pool: &mut Pool) {
        if let Place::Memory(bytes) = &self.place {
            for part in bytes.chunks(crate::buffer::PAGE_BYTES) {
                writing.push(page_of(part, pool));
            }
            self.place = Place::File(writing);
        }
    }

    /// Whether nothing becomes of it any more: it was given up, and no job has a part of it.
    fn is_at_rest(&self) -> bool {
        self.gave_up
            && match &self.place {
                Place::Memory(_) => true,
                Place::File(writing) => writing.is_settled(),
            }
    }

    fn ahead(&self, at: u64) -> Ahead {
        let (there, copied) = match &self.place {
            Place::Memory(_) => (self.bytes(), true),
            // What the last job has of them comes back first, or is written.
            Place::File(writing) if self.is_at_rest() && at >= writing.written() => {
                (self.bytes(), true)
            }
            Place::File(writing) => (writing.written(), false),
        };
        match there.saturating_sub(at) {
            0 if self.is_whole && !self.is_cut && at == self.bytes() => Ahead::End,
            0 if self.is_at_rest() => Ahead::Broken,
            0 => Ahead::Nothing,
            count => Ahead::Bytes { count, copied },
        }
    }
}

impl Object {
    /// What stands before its body on disk.
    pub(super) fn header<'b>(
        &'b self,
        text: &'b [u8],
        boot: u128,
        body: object::Body,
    ) -> Header<'b> {
        let parts = (text, &*self.selecting, &*self.head);
        kept::header(parts, self.times, boot, body)
    }
}

impl Stage {
    /// The file that is written.
    pub(super) fn writing(&mut self) -> Option<&mut Writing> {
        match self {
            Stage::Growing(growing) => match &mut growing.place {
                Place::File(writing) if !growing.gave_up => Some(writing),
                Place::File(_) | Place::Memory(_) => None,
            },
            Stage::Whole(whole) => whole.writing.as_deref_mut(),
            Stage::Awaited { .. } | Stage::Broken => None,
        }
    }

    /// The file that is written no further.
    pub(super) fn given_up(&mut self) -> Option<&mut Writing> {
        match self {
            Stage::Growing(growing) if growing.gave_up => match &mut growing.place {
                Place::File(writing) => Some(writing),
                Place::Memory(_) => None,
            },
            _ => None,
        }
    }

    /// Whether its file is to get its name yet.
    pub(super) fn is_being_named(&self) -> bool {
        match self {
            Stage::Growing(growing) => growing.is_ended && !growing.gave_up,
            Stage::Whole(whole) => whole.writing.is_some(),
            Stage::Awaited { .. } | Stage::Broken => false,
        }
    }

    /// The file has its name.
    pub(super) fn named(&mut self) {
        if let Stage::Whole(whole) = self {
            whole.writing = None;
        }
    }

    /// The file cannot be written: what was taken can still be read.
    pub(super) fn gives_up(&mut self, hands: &mut Hands<'_>) {
        match self {
            Stage::Growing(growing) => growing.gave_up = true,
            Stage::Whole(whole) => {
                if let Some(writing) = whole.writing.take() {
                    writing.discard(hands);
                }
            }
            Stage::Awaited { .. } | Stage::Broken => {}
        }
    }

    /// Nothing is left of what was being written.
    pub(super) fn discard(self, hands: &mut Hands<'_>) {
        match self {
            Stage::Growing(growing) => {
                if let Place::File(writing) = growing.place {
                    writing.discard(hands);
                }
            }
            Stage::Whole(whole) => {
                if let Some(writing) = whole.writing {
                    writing.discard(hands);
                }
            }
            Stage::Awaited { .. } | Stage::Broken => {}
        }
    }
}

impl Fetch {
    /// Wakes those who wait for it.
    pub(super) fn wake(&mut self, woken: &mut Vec<Id>) {
        woken.extend(std::mem::take(&mut self.waiting));
    }

    /// Whether its head is waited for.
    pub(super) fn is_awaited(&self) -> bool {
        matches!(self.stage, Stage::Awaited { .. })
    }

    /// Goes on to its last stage, if all bytes are where they stay.
    pub(super) fn become_whole(&mut self) {
        let Stage::Growing(growing) = &mut self.stage else {
            return;
        };
        let (bytes, part, is_cut) = (growing.bytes(), growing.part, growing.is_cut);
        let body = match &mut growing.place {
            _ if !growing.is_whole || growing.gave_up => return,
            Place::Memory(bytes) => Body::Bytes(std::mem::take(bytes).into()),
            Place::File(writing) => match writing.whole_body() {
                Some(file) => Body::File(file.clone(), writing.header_bytes()),
                None => return,
            },
        };
        let Stage::Growing(growing) = std::mem::replace(&mut self.stage, Stage::Broken) else {
            return;
        };
        self.stage = Stage::Whole(Box::new(Whole {
            object: growing.object,
            body,
            bytes,
            part,
            crc32: growing.crc32,
            is_cut,
            writing: match growing.place {
                Place::File(writing) => Some(writing),
                Place::Memory(_) => None,
            },
        }));
    }

    /// What a follower that has read `at` bytes finds.
    pub(super) fn ahead(&self, at: u64) -> Ahead {
        match &self.stage {
            Stage::Awaited { .. } => Ahead::Nothing,
            Stage::Broken => Ahead::Broken,
            Stage::Growing(growing) => growing.ahead(at),
            Stage::Whole(whole) if at >= whole.bytes && whole.is_cut => Ahead::Broken,
            Stage::Whole(whole) if at >= whole.bytes => Ahead::End,
            Stage::Whole(whole) => Ahead::Bytes {
                count: whole.bytes - at,
                copied: false,
            },
        }
    }

    /// Queues `count` bytes from `at` on, no more than [`Fetch::ahead`] told of.
    pub(super) fn put(&self, at: u64, count: u64, tx: &mut SendQueue, pool: &mut Pool) {
        match &self.stage {
            Stage::Growing(growing) => match &growing.place {
                Place::Memory(bytes) => {
                    let at = at as usize;
                    tx.put(&bytes[at..at + count as usize], pool);
                }
                Place::File(writing) => writing.put(at, count, tx, pool),
            },
            Stage::Whole(whole) => put_body(&whole.body, at, count, tx, pool),
            Stage::Awaited { .. } | Stage::Broken => debug_assert!(false, "there are no bytes"),
        }
    }

    /// Bytes of its object that can be read.
    pub(super) fn readable(&self) -> u64 {
        match &self.stage {
            Stage::Growing(growing) => growing.readable(),
            Stage::Whole(whole) => whole.bytes,
            Stage::Awaited { .. } | Stage::Broken => 0,
        }
    }

    /// Whether what comes is for whoever asks for all of it.
    pub(super) fn is_of_all(&self) -> bool {
        match &self.stage {
            Stage::Awaited { .. } => !self.is_ranged,
            Stage::Growing(growing) => growing.part.is_none(),
            Stage::Whole(whole) => whole.part.is_none(),
            Stage::Broken => false,
        }
    }

    /// Whether it was begun for all, and may bring that still: it was not cut.
    pub(super) fn may_bring_all(&self) -> bool {
        let is_cut = match &self.stage {
            Stage::Growing(growing) => growing.is_cut,
            Stage::Whole(whole) => whole.is_cut,
            Stage::Awaited { .. } | Stage::Broken => false,
        };
        !self.is_ranged && !is_cut
    }

    /// What is known of its object.
    pub(super) fn object(&self) -> Option<&Object> {
        match &self.stage {
            Stage::Growing(growing) => Some(&growing.object),
            Stage::Whole(whole) => Some(&whole.object),
            Stage::Awaited { .. } | Stage::Broken => None,
        }
    }

    /// The object, once all of it is there.
    pub(super) fn kept(&self) -> Option<Kept> {
        let Stage::Whole(whole) = &self.stage else {
            return None;
        };
        let object = &whole.object;
        Some(Kept {
            key: self.key,
            text: self.text.clone(),
            selecting: object.selecting.clone(),
            status: object.status,
            head: Rc::clone(&object.head),
            shown: Shown::of(&object.head),
            terms: object.terms,
            times: object.times,
            body: whole.body.clone(),
            body_bytes: whole.bytes,
            part: whole.part,
            crc32: whole.crc32,
        })
    }
}

/// Queues a part of a body.
pub fn put_body(body: &Body, at: u64, count: u64, tx: &mut SendQueue, pool: &mut Pool) {
    match body {
        Body::Bytes(bytes) => {
            let at = at as usize;
            tx.put_shared(bytes, at..at + count as usize, pool);
        }
        Body::File(file, from) => tx.put_file(file, from + at, count, pool),
    }
}
