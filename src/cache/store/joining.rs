//! Parts of representations in the store, and how they are completed (RFC 9111 sections 3.3 and 3.4).
//!
//! ```text
//! kept part   ····████████████········      `before`: from its beginning to that of the newer one
//! newer one   ········████████████····      `behind`: from the end of the newer one to its own
//! joined      ····▒▒▒▒████████████····
//! ```
//!
//! The rules:
//! 1. A part has a name beside that of the whole ([`key::of_part`]), so the index tells them apart. A
//!    whole takes the place of a part, and a part never that of a whole.
//! 2. Joined, they are a new object: what is kept never changes. The bytes of the kept part are
//!    copied, those of a file by jobs; the newer ones count where both have some.
//! 3. Who asks for a range is not waited for by others, and the part that comes is read by nobody
//!    else before it is kept.
//! 4. What there is of a response that broke off is a part, if it can be completed. Those who follow
//!    it get all of that, and no end.

use std::time::Instant;

use super::fetch::{FetchId, Growing, Object, Place, Stage};
use super::index::Entry;
use super::kept::{Body, Kept, Source, parse_head};
use super::{Hands, Store, Wanted, key};
use crate::http::caching::partial::{self, Part};
use crate::http::range::ByteRange;

impl Store {
    /// A request for a range goes to the origin; nobody waits for what comes of it.
    pub fn lead_range(&mut self, wanted: Wanted<'_>, now: Instant) -> FetchId {
        self.begin_fetch(wanted, true, now)
    }

    /// Whether an object of so many bytes could be kept.
    pub fn can_keep(&self, bytes: u64) -> bool {
        let is_small = bytes <= self.settings.small_bytes_max as u64;
        bytes <= self.settings.object_bytes_max && (is_small || self.folder.is_some())
    }

    /// Bytes that can be read of what a fetch brings.
    pub fn readable(&self, id: FetchId) -> u64 {
        self.fetch(id).map_or(0, super::fetch::Fetch::readable)
    }

    /// Which bytes of a representation a fetch brings, if not all of them.
    pub fn part(&self, id: FetchId) -> Option<Part> {
        match &self.fetch(id)?.stage {
            Stage::Growing(growing) => growing.part,
            Stage::Awaited { .. } | Stage::Whole(_) | Stage::Broken => None,
        }
    }

    /// The response to a fetch brings the bytes `newer` of a representation of which a part is kept:
    /// `object` is both as one, and of a known length. Whether it is kept: if not, the fetch is what
    /// it was.
    pub fn begin_joined(
        &mut self,
        id: FetchId,
        object: Object,
        (kept, newer): (&Kept, ByteRange),
        hands: &mut Hands<'_>,
    ) -> bool {
        let Some(part) = kept.part else {
            return false;
        };
        let Some(place) = self.place_joined(id, &object, &kept.body) else {
            return false;
        };
        let source = |from: u64, to: u64| Source {
            body: kept.body.clone(),
            at: from - part.range.start,
            count: to - from,
        };
        let mut growing = Growing::new(object, place);
        growing.completes = part.range.len();
        if part.range.start < newer.start {
            growing.draw(&source(part.range.start, newer.start), hands.pool);
        }
        if newer.end < part.range.end {
            growing.behind = Some(source(newer.end, part.range.end));
        }
        self.grow(id, growing, hands)
    }

    /// A fetch ends before all of its response has come: what there is of it is kept as a part, if
    /// that is of use. Else it is [`Store::break_off`]. Whoever led it has left it.
    pub fn cut(&mut self, id: FetchId, hands: &mut Hands<'_>) {
        if !self.becomes_part(id) {
            return self.break_off(id, hands);
        }
        // It stays under way until its file has its name, for what changes at its origin meanwhile;
        // being a part, it is nobody's to follow.
        self.complete(id, hands);
        self.leave(id, hands);
    }

    /// Whether a fetch is a part from now on, of which nothing is missing.
    fn becomes_part(&mut self, id: FetchId) -> bool {
        let Some(fetch) = self.fetch(id).filter(|fetch| !fetch.is_outdated) else {
            return false;
        };
        let Stage::Growing(growing) = &fetch.stage else {
            return false;
        };
        let Some((part, head)) = growing.as_part() else {
            return false;
        };
        let variant = key::of_part(self.hasher.variant(&growing.object.selecting));
        let slot = self.index.find_variant(fetch.key, variant);
        // One that is on disk only has not been asked for in a while.
        let place = slot.and_then(|slot| self.index.get(slot)?.warm);
        if place.is_some_and(|place| !is_worth_more(part, &head, self.memory.peek(place))) {
            return false;
        }
        if let Some(fetch) = self.fetch_mut(id)
            && let Stage::Growing(growing) = &mut fetch.stage
        {
            growing.become_part(part, head);
        }
        true
    }

    /// Where it grows: what is in a file is copied into one.
    fn place_joined(&mut self, id: FetchId, object: &Object, body: &Body) -> Option<Place> {
        let place = self.place_for(id, object)?;
        if matches!(body, Body::Bytes(_)) || matches!(place, Place::File(_)) {
            return Some(place);
        }
        self.in_file(id, object)
    }

    /// Whether an object that is to get into the index goes instead, being a part of one that is
    /// there. If it is whole, the part of it that is there goes.
    pub(super) fn gives_way(&mut self, name: &Entry, hands: &mut Hands<'_>) -> bool {
        let whole = key::of_whole(name.variant);
        if whole != name.variant {
            return self.index.find_variant(name.key, whole).is_some();
        }
        if let Some(part) = self.index.find_variant(name.key, key::of_part(whole)) {
            self.drop_slot(part, hands);
        }
        false
    }

    /// A part could not be completed for want of room: it is not kept any longer, so that requests
    /// for it go to the origin as they are.
    pub(super) fn forget_joined(&mut self, id: FetchId, hands: &mut Hands<'_>) {
        let Some(fetch) = self.fetch(id) else {
            return;
        };
        let Stage::Growing(growing) = &fetch.stage else {
            return;
        };
        let variant = key::of_part(self.hasher.variant(&growing.object.selecting));
        if growing.completes > 0
            && let Some(slot) = self.index.find_variant(fetch.key, variant)
        {
            self.drop_slot(slot, hands);
        }
    }
}

/// Whether what there is of a response that broke off takes the place of a part that is kept.
fn is_worth_more(part: Part, head: &[u8], kept: &Kept) -> bool {
    let heads = (parse_head(head), parse_head(&kept.head));
    match (heads, kept.part) {
        ((Some(head), Some(known)), Some(known_part)) => {
            partial::is_worth_more((&head.headers, part), (&known.headers, known_part))
        }
        _ => true,
    }
}
