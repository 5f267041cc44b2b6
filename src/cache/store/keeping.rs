//! What is kept: found in memory or on disk, entered, refreshed, and let go.
//!
//! ```text
//! look ──▶ in memory ──▶ on disk: read by jobs, in memory from now on ──▶ nothing
//! keep_small, or a file that has its name ──▶ enter ──▶ in the index, and in memory ──▶ evicted, invalidated, replaced
//! ```

use std::rc::Rc;
use std::task::Poll;

use super::index::{Entry, Inserted, Key, Slot};
use super::kept::{Body, Kept, Shown};
use super::object::Room;
use super::{Hands, Look, Store, Task, Wanted, entry, key, object, of, puts, waiter};
use crate::disk::File;
use crate::http::caching::{Terms, Times, vary};
use crate::http::head::RequestHead;
use crate::jobs::Asking;
use crate::waiter::{Id, Waiter};

impl Store {
    /// What there is for a request, whether or not it may be used.
    pub fn look(
        &mut self,
        wanted: Wanted<'_>,
        head: &RequestHead<'_>,
        waiter: Id,
        hands: &mut Hands<'_>,
    ) -> Look {
        if let Some(folder) = &mut self.folder
            && !folder.is_read(wanted.key, waiter)
        {
            self.scan(hands);
            return Look::Later;
        }
        // Each round reads one object at most. Where there is little memory it is out of that again
        // by the next round, so what was read is remembered here.
        let (mut other, mut read) = (None, Vec::new());
        loop {
            let mut found = None;
            for slot in self.index.find(wanted.key) {
                let place = self.index.get(slot).and_then(|entry| entry.warm);
                let Some(kept) = place.map(|place| self.memory.get(place)) else {
                    continue;
                };
                if *kept.text != *wanted.text {
                    continue;
                }
                if vary::matches(&kept.selecting, &head.headers) {
                    found = Some((slot, Rc::clone(kept)));
                    break;
                }
                other = other.or(Some(Rc::clone(kept)));
            }
            if let Some((slot, kept)) = found {
                return self.found_kept(slot, kept, hands);
            }
            let others = other.is_some();
            let Some(slot) = self.cold(wanted.key, other.as_deref(), &read, head) else {
                return Look::Nothing { others };
            };
            let kept = match self.load(slot, waiter, hands) {
                Poll::Pending => return Look::Later,
                Poll::Ready(kept) => kept,
            };
            read.push(slot);
            let Some(kept) = kept.filter(|kept| *kept.text == *wanted.text) else {
                continue;
            };
            if vary::matches(&kept.selecting, &head.headers) {
                return self.found_kept(slot, kept, hands);
            }
            other = other.or(Some(kept));
        }
    }

    /// An object is the one that is asked for, wherever it was found.
    fn found_kept(&mut self, slot: Slot, kept: Rc<Kept>, hands: &mut Hands<'_>) -> Look {
        if self.drop_if_banned(slot, &kept, hands) {
            return Look::Nothing { others: false };
        }
        self.index.touch(slot);
        Look::Kept(kept)
    }

    /// An object that is not in memory and may be the one that is asked for. `other`: one that was
    /// selected by other values of the same fields. `read`: those that were looked at already.
    pub(super) fn cold(
        &self,
        key: Key,
        other: Option<&Kept>,
        read: &[Slot],
        head: &RequestHead<'_>,
    ) -> Option<Slot> {
        let variant = other.map(|other| {
            let mut selecting = Vec::new();
            vary::put_key_as(&mut selecting, &other.selecting, &head.headers);
            self.hasher.variant(&selecting)
        });
        let fits = |entry: Entry| {
            entry.warm.is_none()
                && variant.is_none_or(|variant| variant == key::of_whole(entry.variant))
        };
        let mut slots = self.index.find(key);
        slots.find(|slot| !read.contains(slot) && self.index.get(*slot).is_some_and(fits))
    }

    /// Reads an object from disk; what cannot be read is not there any more.
    pub(super) fn load(
        &mut self,
        slot: Slot,
        waiter: Id,
        hands: &mut Hands<'_>,
    ) -> Poll<Option<Rc<Kept>>> {
        let (Some(folder), Some(entry)) = (&mut self.folder, self.index.get(slot)) else {
            self.index.remove(slot);
            return Poll::Ready(None);
        };
        let waiter = Waiter::Session(waiter);
        let mut files = Asking::new(hands.disk, hands.jobs, waiter, hands.now);
        let rules = (self.settings.small_bytes_max, &self.settings.rules);
        match folder.load(&entry, rules, &mut files) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok((kept, is_checked))) => {
                self.counts.loaded += 1;
                if is_checked {
                    folder.rewrite(&entry, &kept.header(self.settings.boot), hands);
                }
                let kept = Rc::new(kept);
                self.warm(slot, Rc::clone(&kept));
                Poll::Ready(Some(kept))
            }
            Poll::Ready(Err(error)) => {
                self.counts.failed += 1;
                let path = self
                    .settings
                    .dir
                    .join(object::Name::from(entry).to_string());
                log::info!("{}: {error}", path.display());
                self.drop_slot(slot, hands);
                Poll::Ready(None)
            }
        }
    }

    /// An object is in memory from now on.
    pub(super) fn warm(&mut self, slot: Slot, kept: Rc<Kept>) {
        let place = self.memory.insert(kept, slot);
        self.index.set_warm(slot, Some(place));
        self.shrink_memory();
    }

    /// What takes too much memory is there no more.
    pub(super) fn shrink_memory(&mut self) {
        while let Some(evicted) = self.memory.evict() {
            self.index.set_warm(evicted, None);
            let entry = self.index.get(evicted);
            let was_waiting = entry.is_some_and(|entry| self.puts.forget(&entry));
            if was_waiting || self.folder.is_none() {
                self.index.remove(evicted);
                self.counts.evicted += 1;
            }
        }
    }

    /// An object is kept no longer.
    pub(super) fn drop_slot(&mut self, slot: Slot, hands: &mut Hands<'_>) {
        if let Some(entry) = self.index.remove(slot) {
            self.dropped(&entry, hands);
        }
    }

    /// What is left of an object that is not in the index any more is removed.
    pub(super) fn dropped(&mut self, entry: &Entry, hands: &mut Hands<'_>) {
        if let Some(place) = entry.warm {
            self.memory.remove(place);
        }
        let has_file = !self.puts.forget(entry);
        if let Some(folder) = self.folder.as_mut().filter(|_| has_file) {
            folder.remove(entry, hands);
        }
    }

    /// Keeps an object whose body is in memory, and has it written.
    pub(super) fn keep_small(&mut self, kept: Rc<Kept>, hands: &mut Hands<'_>) {
        let variant = of(self.hasher.variant(&kept.selecting), kept.part);
        let is_sent = puts::is_sent(&kept);
        let file = match self.folder {
            Some(_) => puts::encode(&kept, self.settings.boot, Room::New { is_sent }),
            None => Ok(Vec::new()),
        };
        let Ok(file) = file else {
            return;
        };
        let bytes = match self.folder {
            Some(_) => file.len() as u64,
            None => kept.body_bytes.max(1),
        };
        let name = entry(kept.key, variant, self.next_ms(hands), bytes);
        let Some(slot) = self.enter(name, Some(kept), hands) else {
            return;
        };
        // Without a folder there is nothing to write, and what is more than there is room for has
        // gone already.
        if self.folder.is_some() && self.index.get(slot).is_some() {
            self.write_small((slot, name), (file, is_sent), hands);
        }
    }

    /// An object gets into the index, and what has to go for it goes. `None` if it is itself that.
    pub(super) fn enter(
        &mut self,
        name: Entry,
        kept: Option<Rc<Kept>>,
        hands: &mut Hands<'_>,
    ) -> Option<Slot> {
        if self.gives_way(&name, hands) {
            self.dropped(&name, hands);
            return None;
        }
        let slot = match self.index.insert(name) {
            Inserted::New { slot, gone } => {
                if let Some(gone) = gone {
                    self.dropped(&gone, hands);
                }
                slot
            }
            Inserted::Known(slot) => slot,
            Inserted::TooOld => {
                self.dropped(&name, hands);
                return None;
            }
        };
        if let Some(kept) = kept {
            self.counts.stored += 1;
            self.warm(slot, kept);
        }
        self.shrink(hands);
        Some(slot)
    }

    /// What is too much is kept no longer.
    pub(super) fn shrink(&mut self, hands: &mut Hands<'_>) {
        while self.index.is_over()
            && let Some(evicted) = self.index.evict_one()
        {
            self.counts.evicted += 1;
            self.dropped(&evicted, hands);
        }
        self.shrink_memory();
    }

    /// The time by which an object is named: two never have the same.
    pub(super) fn next_ms(&mut self, hands: &Hands<'_>) -> u64 {
        self.last_ms = hands.wall_ms.max(self.last_ms.saturating_add(1));
        self.last_ms
    }

    /// An object was found to be good still: from now on it has this head and these terms.
    pub fn refreshed(
        &mut self,
        kept: &Kept,
        (head, terms, times): (Rc<[u8]>, Terms, Times),
        hands: &mut Hands<'_>,
    ) -> Rc<Kept> {
        let fresh = Rc::new(Kept {
            shown: Shown::of(&head),
            head,
            terms,
            times,
            key: kept.key,
            text: kept.text.clone(),
            selecting: kept.selecting.clone(),
            status: kept.status,
            body: kept.body.clone(),
            body_bytes: kept.body_bytes,
            part: kept.part,
            crc32: kept.crc32,
        });
        let variant = of(self.hasher.variant(&kept.selecting), kept.part);
        let slot = self.index.find_variant(kept.key, variant);
        let place = slot.and_then(|slot| self.index.get(slot)?.warm);
        // What stands there may be newer by now: a request that changed it, and one that fetched
        // it, may have come between.
        let is_it = |place: &u32| std::ptr::eq(&**self.memory.get(*place), kept);
        let Some(place) = place.filter(is_it) else {
            return fresh;
        };
        if slot.is_some_and(|slot| self.drop_if_banned(slot, kept, hands)) {
            return fresh;
        }
        match (
            &fresh.body,
            slot.and_then(|slot| self.index.get(slot)),
            &mut self.folder,
        ) {
            (Body::Bytes(_), ..) => self.keep_small(Rc::clone(&fresh), hands),
            (Body::File(..), Some(entry), Some(folder)) => {
                folder.rewrite(&entry, &fresh.header(self.settings.boot), hands);
                self.memory.replace(place, Rc::clone(&fresh));
            }
            (Body::File(..), ..) => {}
        }
        fresh
    }

    /// Nothing that is kept under a key is good any more. How many objects that were.
    pub fn invalidate(&mut self, key: Key, hands: &mut Hands<'_>) -> usize {
        if let Some(folder) = &mut self.folder {
            folder.invalidate(key);
        }
        let slots: Vec<Slot> = self.index.find(key).collect();
        for &slot in &slots {
            self.drop_slot(slot, hands);
        }
        for index in self.under_way.remove(&key).unwrap_or_default() {
            self.fetches[index as usize].is_outdated = true;
        }
        slots.len()
    }

    /// An object that is in memory was written to this file, from which it is sent from now on.
    pub(super) fn send_from(&mut self, slot: Slot, file: File) {
        let Some(Entry {
            bytes,
            warm: Some(place),
            ..
        }) = self.index.get(slot)
        else {
            return;
        };
        let kept = self.memory.get(place);
        let from = bytes.saturating_sub(kept.body_bytes);
        let sent = Kept {
            text: kept.text.clone(),
            selecting: kept.selecting.clone(),
            head: Rc::clone(&kept.head),
            shown: Shown::of(&kept.head),
            body: Body::File(file, from),
            ..**kept
        };
        self.memory.replace(place, Rc::new(sent));
        self.shrink_memory();
    }

    /// Goes on with reading the folder after a start.
    pub(super) fn scan(&mut self, hands: &mut Hands<'_>) {
        if let Some(folder) = &mut self.folder {
            let waiter = waiter(self.number, Task::Scan);
            let found = folder.scan(waiter, hands);
            for entry in found {
                self.found(entry, hands);
            }
        }
        self.walk(hands);
        if let Some(folder) = &mut self.folder {
            folder.forget_invalidated();
        }
        self.shrink(hands);
    }

    /// An object was found on disk.
    pub(super) fn found(&mut self, entry: Entry, hands: &mut Hands<'_>) {
        // Where the clock was set back, what comes from now on is newer all the same.
        self.last_ms = self.last_ms.max(entry.stored_ms);
        let known = self.index.find_variant(entry.key, entry.variant);
        let known = known.and_then(|slot| self.index.get(slot));
        let is_known = known.is_some_and(|known| known.stored_ms == entry.stored_ms);
        match &mut self.folder {
            Some(folder) if !is_known && folder.is_invalidated(entry.key) => {
                folder.remove(&entry, hands);
            }
            _ => {
                self.enter(entry, None, hands);
            }
        }
    }
}
