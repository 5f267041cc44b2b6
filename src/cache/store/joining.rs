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

use std::time::Instant;

use super::fetch::{FetchId, Growing, Object, Place, Stage};
use super::index::Entry;
use super::kept::{Body, Kept, Source};
use super::{Hands, Store, Wanted, key};
use crate::http::caching::partial::Part;
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
        growing.is_joined = true;
        if part.range.start < newer.start {
            growing.draw(&source(part.range.start, newer.start), hands.pool);
        }
        if newer.end < part.range.end {
            growing.behind = Some(source(newer.end, part.range.end));
        }
        self.grow(id, growing, hands)
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
        if growing.is_joined
            && let Some(slot) = self.index.find_variant(fetch.key, variant)
        {
            self.drop_slot(slot, hands);
        }
    }
}
