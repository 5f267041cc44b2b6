//! What is to be forgotten because somebody says so: one response with all its variants, or all
//! whose URL begins alike, or all of an origin that carry one of some tags or are in one of some
//! groups.
//!
//! ```text
//! purge   found by its key ──▶ files removed by jobs ──▶ told
//! ban     entered ──▶ written to `bans` ──▶ told         Walk: all headers, a piece in a turn ──▶ files removed ──▶ lifted
//! ```
//!
//! The rules:
//! 1. Who is told that it was done can rely on it, also after `kill -9`: the files of a purge are
//!    gone by then, and a ban is on disk until a walk has removed what it covers. A file of bans
//!    that cannot be read bans everything.
//! 2. While a ban is in force, what was kept before it is compared with it before it is used; what
//!    is being fetched when it comes is not kept if it may be covered.
//! 3. The index knows neither URLs nor tags. A walk reads the headers that are not in memory,
//!    [`LANES`] at once, and does no more in a turn than [`LOOKS_PER_TURN`] and [`READS_PER_TURN`].
//!
//! A long file, since what a ban covers, where it stands and how it is lifted must agree.
//!
//! Not here: who may ask for it.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::task::Poll;
use std::time::Instant;

use slab::Slab;

use super::folder::Folder;
use super::index::{Index, Key, Place, Slot};
use super::{Hands, Kept, Store, Task, waiter};
use crate::http::caching::groups;
use crate::http::list_elements;
use crate::jobs::{Asking, Ticket};
use crate::waiter::Id;

/// Bans in force at once.
pub const BANS_MAX: usize = 64;
/// Requests for a purge that wait at once.
const PURGES_MAX: usize = 256;
/// Bytes of the file of bans, all in.
pub(super) const BANS_BYTES_MAX: usize = 1 << 20;
/// Headers that a walk reads at once.
pub(super) const LANES: usize = 8;
/// Objects that a walk looks at in a turn.
const LOOKS_PER_TURN: u32 = 512;
/// Headers that it asks for in a turn.
const READS_PER_TURN: u32 = 16;
/// Files that are removed for bans at once, before a walk waits for them.
const REMOVALS_MAX: usize = 32;
/// Whom those jobs wake: none of the lanes.
const REMOVER: u32 = LANES as u32;
/// Where the bans are kept, below the folder of the store.
pub(super) const FILE: &str = "bans";
/// The file of bans begins with this line.
const MAGIC: &str = "netlab-reactor bans 1\n";
/// And ends with this one: a part of it is none.
const END: &str = "end\n";

/// Which responses a ban covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those whose key's text begins so: `GET http://host/path/`.
    Prefix(String),
    /// Those of an origin, `GET http://host/`, that carry one of these tags.
    Tags(String, Vec<String>),
    /// Those of an origin that are in one of these groups (RFC 9875).
    Groups(String, Vec<String>),
}

impl Scope {
    /// Whether it covers a response with this head, for a key with this text.
    fn covers(&self, text: &[u8], head: &[u8]) -> bool {
        self.may_cover(text)
            && match self {
                Scope::Prefix(_) => true,
                Scope::Tags(_, tags) => has_tag(head, tags),
                Scope::Groups(_, names) => groups::is_in_one(head, names),
            }
    }

    /// Bytes that it takes.
    fn bytes(&self) -> usize {
        match self {
            Scope::Prefix(start) => start.len(),
            Scope::Tags(start, tags) => {
                start.len() + tags.iter().map(|tag| tag.len() + 1).sum::<usize>()
            }
            Scope::Groups(start, names) => start.len() + groups::list_of(names).len(),
        }
    }

    /// Whether it may cover a response, as far as its key says.
    fn may_cover(&self, text: &[u8]) -> bool {
        let (Scope::Prefix(start) | Scope::Tags(start, _) | Scope::Groups(start, _)) = self;
        text.starts_with(start.as_bytes())
    }
}

/// Whether a head has one of these tags: in `Surrogate-Key` between blanks, in `Cache-Tag` between
/// commas.
fn has_tag(head: &[u8], tags: &[String]) -> bool {
    let mut lines = head.split(|&byte| byte == b'\n');
    lines.any(|line| {
        let Some((name, value)) = memchr::memchr(b':', line).map(|at| line.split_at(at)) else {
            return false;
        };
        let is_tag = |tag: &[u8]| tags.iter().any(|one| one.as_bytes() == tag);
        tags_in(name, &value[1..]).is_some_and(|mut found| found.any(is_tag))
    })
}

/// The tags that a header line has; `None` if it is another one.
pub fn tags_in<'b>(
    name: &[u8],
    value: &'b [u8],
) -> Option<Box<dyn Iterator<Item = &'b [u8]> + 'b>> {
    if name.eq_ignore_ascii_case(b"surrogate-key") {
        let words = value.split(u8::is_ascii_whitespace);
        return Some(Box::new(words.filter(|word| !word.is_empty())));
    }
    name.eq_ignore_ascii_case(b"cache-tag")
        .then(|| Box::new(list_elements(value.trim_ascii_end())) as Box<dyn Iterator<Item = _>>)
}

/// Why something is not known to be forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotPurged {
    /// Too much is being purged, or waits for the disk.
    Busy,
    /// The disk failed.
    Failed,
}

/// A ban in force.
#[derive(Debug)]
struct Ban {
    scope: Scope,
    /// What was kept before is covered: by [`super::index::Entry::stored_ms`].
    before_ms: u64,
    /// It was in force when the walk that is under way began.
    is_met: bool,
}

/// All of them, and who waits for a purge.
#[derive(Debug, Default)]
pub(super) struct Bans {
    list: Vec<Ban>,
    /// Counts their changes.
    version: u64,
    /// The last change that is on disk.
    saved: u64,
    /// The file is being written, up to this change.
    saving: Option<(Ticket, u64)>,
    walk: Option<Walk>,
    /// What it may still do in this turn.
    share: Share,
    /// Files of what they cover that are being removed.
    removing: Vec<Ticket>,
    /// One of those could not be removed: no ban is lifted, so that it is not used after the next
    /// start.
    is_left: bool,
    /// The last walk failed: the next one is with the next ban, or after the next start.
    is_stalled: bool,
    purges: Slab<Purge>,
}

/// Somebody who waits for a purge.
#[derive(Debug)]
struct Purge {
    /// `None` if it has gone.
    waiter: Option<Id>,
    awaits: Awaits,
    failed: Option<NotPurged>,
}

#[derive(Debug)]
enum Awaits {
    /// The removal of files; how many objects that were.
    Files(Vec<Ticket>, usize),
    /// That the bans are on disk, up to this change.
    Bans(u64),
}

/// A walk over all objects.
#[derive(Debug)]
struct Walk {
    /// Where it goes on; `None` at the end.
    place: Option<Place>,
    /// The next objects.
    ahead: VecDeque<Slot>,
    /// Those whose headers are being read.
    lanes: [Option<Lane>; LANES],
    failed: bool,
    /// There is more to do at once.
    due: Option<Instant>,
}

/// An object that a walk looks at.
#[derive(Clone, Copy, Debug)]
struct Lane {
    slot: Slot,
    /// It is to be removed, but its file is being written.
    waits_for_put: bool,
}

impl Lane {
    fn new(slot: Slot) -> Self {
        Self {
            slot,
            waits_for_put: false,
        }
    }
}

/// What a walk may still do in this turn.
#[derive(Clone, Copy, Debug)]
struct Share {
    looks: u32,
    reads: u32,
}

impl Default for Share {
    fn default() -> Self {
        Self {
            looks: LOOKS_PER_TURN,
            reads: READS_PER_TURN,
        }
    }
}

impl Bans {
    /// Those that were in force when the process ended, by their file. If that cannot be read, all
    /// is banned until there is nothing left.
    pub(super) fn read(file: Option<&[u8]>) -> Self {
        let list = file.map_or(Some(Vec::new()), parse);
        let list = list.unwrap_or_else(|| {
            log::warn!("the file `{FILE}` of a cache cannot be read: all that is kept is removed");
            vec![Ban {
                scope: Scope::Prefix(String::new()),
                before_ms: u64::MAX,
                is_met: false,
            }]
        });
        Self {
            list,
            ..Self::default()
        }
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// What each of them covers.
    pub(super) fn scopes(&self) -> impl Iterator<Item = &Scope> {
        self.list.iter().map(|ban| &ban.scope)
    }

    /// The latest time by which a ban covers something; 0 if there is none.
    pub(super) fn latest_ms(&self) -> u64 {
        let moments = self.list.iter().map(|ban| ban.before_ms);
        moments.max().unwrap_or(0)
    }

    /// Whether a response that was kept then is covered.
    #[inline]
    pub(super) fn cover(&self, stored_ms: u64, text: &[u8], head: &[u8]) -> bool {
        let mut bans = self.list.iter();
        bans.any(|ban| stored_ms < ban.before_ms && ban.scope.covers(text, head))
    }

    /// When a walk goes on though nothing happened.
    pub(super) fn due(&self) -> Option<Instant> {
        self.walk.as_ref()?.due
    }

    fn enter(&mut self, scope: Scope, before_ms: u64) {
        self.list.retain(|ban| ban.scope != scope);
        self.list.push(Ban {
            scope,
            before_ms,
            is_met: false,
        });
        self.version += 1;
        self.is_stalled = false;
    }

    /// Whether there is room for one more.
    fn has_room(&self, scope: &Scope) -> bool {
        const LINE_BYTES: usize = 64;
        let bytes = self.list.iter().map(|ban| ban.scope.bytes() + LINE_BYTES);
        let bytes = bytes.sum::<usize>() + scope.bytes() + 2 * LINE_BYTES;
        self.list.len() < BANS_MAX && bytes <= BANS_BYTES_MAX
    }

    fn purge_of(&self, waiter: Id) -> Option<usize> {
        let mut purges = self.purges.iter();
        let found = purges.find(|(_, purge)| purge.waiter == Some(waiter));
        found.map(|(index, _)| index)
    }

    /// What became of a purge that somebody asked for, once it is known.
    fn result(&mut self, index: usize) -> Poll<Result<usize, NotPurged>> {
        let purge = &self.purges[index];
        let count = match (&purge.awaits, purge.failed) {
            (_, Some(_)) => 0,
            (Awaits::Files(tickets, count), None) if tickets.is_empty() => *count,
            (Awaits::Bans(version), None) if *version <= self.saved => 0,
            _ => return Poll::Pending,
        };
        let failed = purge.failed;
        self.purges.remove(index);
        Poll::Ready(failed.map_or(Ok(count), Err))
    }

    /// Those who wait for the file of bans are woken, up to this change.
    fn tell(&mut self, upto: u64, failed: Option<NotPurged>, woken: &mut Vec<Id>) {
        for (_, purge) in &mut self.purges {
            if matches!(purge.awaits, Awaits::Bans(version) if version <= upto) {
                purge.failed = failed;
                woken.extend(purge.waiter);
            }
        }
    }

    /// The file of the bans.
    fn encode(&self) -> Vec<u8> {
        let mut text = String::from(MAGIC);
        for ban in &self.list {
            // Invariant: writing into memory does not fail.
            let _ = match &ban.scope {
                Scope::Prefix(start) => writeln!(text, "{} prefix {start}", ban.before_ms),
                Scope::Tags(start, tags) => {
                    writeln!(text, "{} tags {} {start}", ban.before_ms, tags.join(","))
                }
                Scope::Groups(start, names) => {
                    let names = groups::list_of(names);
                    writeln!(text, "{} groups {start} {names}", ban.before_ms)
                }
            };
        }
        text.push_str(END);
        text.into_bytes()
    }
}

fn parse(file: &[u8]) -> Option<Vec<Ban>> {
    let text = str::from_utf8(file).ok()?;
    let lines = text.strip_prefix(MAGIC)?.strip_suffix(END)?.lines();
    let ban = |line: &str| {
        let (before_ms, rest) = line.split_once(' ')?;
        let (kind, rest) = rest.split_once(' ')?;
        let scope = match kind {
            "prefix" => Scope::Prefix(rest.to_owned()),
            "tags" => {
                let (tags, start) = rest.split_once(' ')?;
                Scope::Tags(
                    start.to_owned(),
                    tags.split(',').map(str::to_owned).collect(),
                )
            }
            // No URL has a quote in it.
            "groups" => {
                let (start, names) = rest.split_at(rest.find(" \"")?);
                Scope::Groups(start.to_owned(), groups::strings_in(names.as_bytes()))
            }
            _ => return None,
        };
        Some(Ban {
            scope,
            before_ms: before_ms.parse().ok()?,
            is_met: false,
        })
    };
    lines.map(ban).collect()
}

impl Store {
    /// Forgets all that is kept under a key: how many responses that were, once they are gone. Until
    /// then the session is woken when there is news, and asks again.
    ///
    /// # Errors
    /// Why they may come back after another start, or be there still.
    pub fn purge(
        &mut self,
        key: Key,
        asking: Id,
        hands: &mut Hands<'_>,
    ) -> Poll<Result<usize, NotPurged>> {
        if let Some(index) = self.bans.purge_of(asking) {
            return self.bans.result(index);
        }
        if let Some(folder) = &mut self.folder
            && !folder.is_read(key, asking)
        {
            self.scan(hands);
            return Poll::Pending;
        }
        if self.puts.wake_after(key, asking) {
            return Poll::Pending;
        }
        if self.bans.purges.len() >= PURGES_MAX {
            return Poll::Ready(Err(NotPurged::Busy));
        }
        let index = self.bans.purges.vacant_key();
        let (mut tickets, mut failed) = (Vec::new(), None);
        let mut count = self.outdate(|fetch_key, _, _| fetch_key == key);
        for slot in self.index.find(key).collect::<Vec<_>>() {
            match self.remove_for(slot, Task::Purge(index as u32), hands) {
                Ok(ticket) => tickets.extend(ticket),
                Err(why) => failed = Some(why),
            }
            count += usize::from(failed.is_none());
        }
        if tickets.is_empty() {
            return Poll::Ready(failed.map_or(Ok(count), Err));
        }
        self.bans.purges.insert(Purge {
            waiter: Some(asking),
            awaits: Awaits::Files(tickets, count),
            failed,
        });
        Poll::Pending
    }

    /// Forgets all that a scope covers: nothing of it is used any more, once this is on disk. Until
    /// then as [`Store::purge`].
    ///
    /// # Errors
    /// Why it may be used again after another start, or still is.
    pub fn ban(
        &mut self,
        scope: Scope,
        asking: Id,
        hands: &mut Hands<'_>,
    ) -> Poll<Result<(), NotPurged>> {
        if let Some(index) = self.bans.purge_of(asking) {
            return self.bans.result(index).map_ok(|_| ());
        }
        if self.bans.purges.len() >= PURGES_MAX || !self.put_ban(scope, None, hands) {
            return Poll::Ready(Err(NotPurged::Busy));
        }
        if self.folder.is_none() {
            return Poll::Ready(Ok(()));
        }
        let version = self.bans.version;
        self.bans.purges.insert(Purge {
            waiter: Some(asking),
            awaits: Awaits::Bans(version),
            failed: None,
        });
        self.save_bans(hands);
        Poll::Pending
    }

    /// Puts a ban in force, in the place of one that it includes, and looks for what it covers;
    /// whether there was room.
    pub(super) fn put_ban(
        &mut self,
        scope: Scope,
        replaced: Option<&Scope>,
        hands: &mut Hands<'_>,
    ) -> bool {
        if !self.bans.has_room(&scope) {
            return false;
        }
        self.outdate(|_, text, head| match head {
            Some(head) => scope.covers(text, head),
            None => scope.may_cover(text),
        });
        let before_ms = self.next_ms(hands);
        self.bans.list.retain(|ban| Some(&ban.scope) != replaced);
        self.bans.enter(scope, before_ms);
        self.walk(hands);
        true
    }

    /// A session no longer waits for a purge, if it did.
    pub fn forget_purge(&mut self, asking: Id) {
        if let Some(index) = self.bans.purge_of(asking) {
            let purge = &mut self.bans.purges[index];
            match &purge.awaits {
                // Its jobs end, although there is nobody to be told.
                Awaits::Files(tickets, _) if !tickets.is_empty() => purge.waiter = None,
                _ => _ = self.bans.purges.remove(index),
            }
        }
    }

    /// What is being fetched is not kept, and not for those who come from now on, if it is meant by
    /// its key, the text of that, and its head as far as it is there. How many that are.
    fn outdate(&mut self, is_meant: impl Fn(Key, &[u8], Option<&[u8]>) -> bool) -> usize {
        let mut count = 0;
        let under_way = &mut self.under_way;
        for (index, fetch) in &mut self.fetches {
            let head = fetch.object().map(|object| &*object.head);
            if fetch.is_outdated || !is_meant(fetch.key, &fetch.text, head) {
                continue;
            }
            fetch.is_outdated = true;
            let Some(indexes) = under_way.get_mut(&fetch.key) else {
                continue;
            };
            let before = indexes.len();
            indexes.retain(|of_key| *of_key as usize != index);
            count += before - indexes.len();
            if indexes.is_empty() {
                under_way.remove(&fetch.key);
            }
        }
        count
    }

    /// An object is kept no longer. The job that removes its file, if it has one.
    fn remove_for(
        &mut self,
        slot: Slot,
        task: Task,
        hands: &mut Hands<'_>,
    ) -> Result<Option<Ticket>, NotPurged> {
        let Some(entry) = self.index.get(slot) else {
            return Ok(None);
        };
        let ticket = match &self.folder {
            Some(folder) if !self.puts.await_turn(&entry) => {
                let remove = folder.removal(&entry);
                let started = hands
                    .jobs
                    .start(waiter(self.number, task), remove, hands.now);
                Some(started.map_err(|_| NotPurged::Busy)?)
            }
            _ => None,
        };
        self.puts.forget(&entry);
        self.index.remove(slot);
        if let Some(place) = entry.warm {
            self.memory.remove(place);
        }
        self.counts.purged += 1;
        Ok(ticket)
    }

    /// Whether an object that was found is banned: then it is removed, as far as that can be done
    /// now.
    pub(super) fn drop_if_banned(
        &mut self,
        slot: Slot,
        kept: &Kept,
        hands: &mut Hands<'_>,
    ) -> bool {
        if self.bans.len() == 0 {
            return false;
        }
        let stored_ms = self.index.get(slot).map_or(0, |entry| entry.stored_ms);
        if !self.bans.cover(stored_ms, &kept.text, &kept.head) {
            return false;
        }
        if !self.puts.are_writing(slot)
            && let Ok(ticket) = self.remove_for(slot, Task::Walk(REMOVER), hands)
        {
            self.bans.removing.extend(ticket);
        }
        true
    }

    /// A file of a purge may be gone.
    pub(super) fn purge_done(&mut self, index: u32, hands: &mut Hands<'_>) {
        let Some(purge) = self.bans.purges.get_mut(index as usize) else {
            return;
        };
        let Awaits::Files(tickets, _) = &mut purge.awaits else {
            return;
        };
        if take_removed(tickets, hands) {
            purge.failed = Some(NotPurged::Failed);
        }
        match (tickets.is_empty(), purge.waiter) {
            (true, None) => _ = self.bans.purges.remove(index as usize),
            (true, Some(waiter)) => hands.woken.push(waiter),
            (false, _) => {}
        }
    }

    /// Writes the file of bans, if it is not as they are and nobody writes it.
    pub(super) fn save_bans(&mut self, hands: &mut Hands<'_>) {
        let (bans, Some(folder)) = (&mut self.bans, &mut self.folder) else {
            return;
        };
        let version = bans.version;
        if bans.saving.is_some() || bans.saved == version {
            return;
        }
        let put = folder.put_file(FILE, bans.encode());
        let waiter = waiter(self.number, Task::Bans);
        match hands.jobs.start(waiter, put, hands.now) {
            Ok(ticket) => bans.saving = Some((ticket, version)),
            Err(_) => bans.tell(version, Some(NotPurged::Busy), hands.woken),
        }
    }

    /// The file of bans may be written.
    pub(super) fn bans_saved(&mut self, hands: &mut Hands<'_>) {
        let bans = &mut self.bans;
        let Some((ticket, version)) = &bans.saving else {
            return;
        };
        let version = *version;
        let Poll::Ready(finished) = hands.jobs.take(ticket) else {
            return;
        };
        bans.saving = None;
        let failed = match finished.result {
            Ok(_) => {
                bans.saved = version;
                None
            }
            Err(error) => {
                log::warn!("{}: bans: {error}", self.settings.dir.display());
                Some(NotPurged::Failed)
            }
        };
        bans.tell(version, failed, hands.woken);
        if bans.version > version {
            self.save_bans(hands);
        }
    }

    /// A new turn: a walk that has more to do goes on.
    pub(super) fn walk_in_turn(&mut self, hands: &mut Hands<'_>) {
        self.bans.share = Share::default();
        if self.bans.due().is_some_and(|at| at <= hands.now) {
            self.walk(hands);
        }
    }

    /// A job that a lane waits for is done, or one of the remover's.
    pub(super) fn walk_done(&mut self, lane: u32, hands: &mut Hands<'_>) {
        let Some(mut walk) = self.bans.walk.take_if(|_| lane != REMOVER) else {
            return self.walk(hands);
        };
        self.walk_lane(lane as usize, &mut walk, hands);
        self.walked(walk, hands);
    }

    /// Goes on with the walk over all objects that a ban may cover, or begins it, once all are
    /// known.
    pub(super) fn walk(&mut self, hands: &mut Hands<'_>) {
        let is_known = self.folder.as_ref().is_none_or(Folder::is_all_read);
        let bans = &mut self.bans;
        bans.is_left |= take_removed(&mut bans.removing, hands);
        if !is_known || bans.is_stalled || (bans.list.is_empty() && bans.walk.is_none()) {
            return;
        }
        let mut walk = bans.walk.take().unwrap_or_else(|| {
            bans.list.iter_mut().for_each(|ban| ban.is_met = true);
            Walk::new()
        });
        walk.due = None;
        for lane in 0..LANES {
            if walk.lanes[lane].is_none_or(|lane| lane.waits_for_put) {
                self.walk_lane(lane, &mut walk, hands);
            }
        }
        self.walked(walk, hands);
    }

    /// The walk has gone as far as it can for now.
    fn walked(&mut self, walk: Walk, hands: &mut Hands<'_>) {
        match walk.is_over() && self.bans.removing.is_empty() {
            true => self.lift(&walk, hands),
            false => self.bans.walk = Some(walk),
        }
    }

    /// One object after the other, until one has to be waited for.
    fn walk_lane(&mut self, lane: usize, walk: &mut Walk, hands: &mut Hands<'_>) {
        loop {
            if walk.lanes[lane].is_none() {
                // The removals that are done call again.
                if walk.is_at_end() || self.bans.removing.len() >= REMOVALS_MAX {
                    return;
                }
                let share = &mut self.bans.share;
                if share.looks == 0 || share.reads == 0 {
                    walk.due = Some(hands.now);
                    return;
                }
                share.looks -= 1;
                walk.lanes[lane] = walk.next(&self.index).map(Lane::new);
            }
            let Some(Lane { slot, .. }) = walk.lanes[lane] else {
                return;
            };
            match self.is_banned(slot, lane, hands) {
                Poll::Pending => return,
                // It is removed once it is there.
                Poll::Ready(true) if self.puts.are_writing(slot) => {
                    walk.lanes[lane] = Some(Lane {
                        slot,
                        waits_for_put: true,
                    });
                    return;
                }
                Poll::Ready(true) => match self.remove_for(slot, Task::Walk(REMOVER), hands) {
                    Ok(ticket) => self.bans.removing.extend(ticket),
                    Err(_) => walk.failed = true,
                },
                Poll::Ready(false) => {}
            }
            walk.lanes[lane] = None;
        }
    }

    /// Whether a ban covers an object, by its header.
    fn is_banned(&mut self, slot: Slot, lane: usize, hands: &mut Hands<'_>) -> Poll<bool> {
        let Some(entry) = self.index.get(slot) else {
            return Poll::Ready(false);
        };
        if entry.stored_ms >= self.bans.latest_ms() {
            return Poll::Ready(false);
        }
        if let Some(place) = entry.warm {
            let kept = self.memory.peek(place);
            return Poll::Ready(self.bans.cover(entry.stored_ms, &kept.text, &kept.head));
        }
        let Some(folder) = &self.folder else {
            return Poll::Ready(false);
        };
        let share = &mut self.bans.share;
        share.reads = share.reads.saturating_sub(1);
        let waiter = waiter(self.number, Task::Walk(lane as u32));
        let mut files = Asking::new(hands.disk, hands.jobs, waiter, hands.now);
        let loaded = folder.load(&entry, (0, &self.settings.rules), &mut files);
        let Poll::Ready(loaded) = loaded else {
            return Poll::Pending;
        };
        hands.jobs.settle(waiter);
        // What cannot be read is of no use either.
        Poll::Ready(loaded.map_or(true, |(kept, _)| {
            self.bans.cover(entry.stored_ms, &kept.text, &kept.head)
        }))
    }

    /// A walk is over: the bans that it was for are lifted.
    fn lift(&mut self, walk: &Walk, hands: &mut Hands<'_>) {
        let bans = &mut self.bans;
        if walk.failed || bans.is_left {
            let dir = self.settings.dir.display();
            log::warn!("{dir}: not all that was purged could be removed; it is not used");
            bans.is_stalled = true;
            return;
        }
        bans.list.retain(|ban| !ban.is_met);
        bans.version += 1;
        if !bans.list.is_empty() {
            bans.list.iter_mut().for_each(|ban| ban.is_met = true);
            bans.walk = Some(Walk {
                due: Some(hands.now),
                ..Walk::new()
            });
        }
        self.save_bans(hands);
    }
}

impl Walk {
    fn new() -> Self {
        Self {
            place: Some(Place::default()),
            ahead: VecDeque::new(),
            lanes: [None; LANES],
            failed: false,
            due: None,
        }
    }

    fn is_at_end(&self) -> bool {
        self.place.is_none() && self.ahead.is_empty()
    }

    fn is_over(&self) -> bool {
        self.is_at_end() && self.lanes.iter().all(Option::is_none)
    }

    /// The next object.
    fn next(&mut self, index: &Index) -> Option<Slot> {
        while self.ahead.is_empty() {
            let (slots, place) = index.next_from(self.place?, LOOKS_PER_TURN);
            self.ahead.extend(slots);
            self.place = place;
        }
        self.ahead.pop_front()
    }
}

/// Takes the results of removals that are done: whether one failed.
fn take_removed(tickets: &mut Vec<Ticket>, hands: &mut Hands<'_>) -> bool {
    let mut failed = false;
    tickets.retain(|ticket| match hands.jobs.take(ticket) {
        Poll::Pending => true,
        Poll::Ready(finished) => {
            let gone = |error: std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
            failed |= !finished.result.map_or_else(gone, |_| true);
            false
        }
    });
    failed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(tags: &[&str]) -> Scope {
        let tags = tags.iter().map(|tag| (*tag).to_owned());
        Scope::Tags("GET http://a.test/".to_owned(), tags.collect())
    }

    #[test]
    fn a_prefix_covers_what_begins_so_and_tags_what_carries_one() {
        let prefix = Scope::Prefix("GET http://a.test/x/".to_owned());
        let head = b"HTTP/1.1 200 OK\r\nSurrogate-Key: one  two\r\ncache-tag: three, four\r\n\r\n";
        for (scope, text, covers) in [
            (&prefix, "GET http://a.test/x/1?q", true),
            (&prefix, "GET http://a.test/x", false),
            (&prefix, "GET http://b.test/x/1", false),
            (&tags(&["two"]), "GET http://a.test/y", true),
            (&tags(&["zero", "one"]), "GET http://a.test/y", true),
            (&tags(&["four"]), "GET http://a.test/y", true),
            (&tags(&["three"]), "GET http://a.test/y", true),
            (&tags(&["three, four"]), "GET http://a.test/y", false),
            (&tags(&["on"]), "GET http://a.test/y", false),
            (&tags(&["two"]), "GET http://b.test/y", false),
        ] {
            assert_eq!(
                scope.covers(text.as_bytes(), head),
                covers,
                "{scope:?} {text}"
            );
        }
    }

    #[test]
    fn what_is_older_than_a_ban_is_covered_and_what_is_newer_not() {
        let mut bans = Bans::default();
        bans.enter(Scope::Prefix("GET http://a".to_owned()), 10);
        assert!(bans.cover(9, b"GET http://a/", b"") && !bans.cover(10, b"GET http://a/", b""));
        // The same again takes the place of the first.
        bans.enter(Scope::Prefix("GET http://a".to_owned()), 20);
        assert_eq!((bans.len(), bans.latest_ms()), (1, 20));
        assert!(bans.cover(19, b"GET http://a/", b""));
    }

    #[test]
    fn bans_come_back_from_their_file_and_a_bad_file_bans_all() {
        let mut bans = Bans::default();
        bans.enter(Scope::Prefix("GET http://a.test/x".to_owned()), 10);
        bans.enter(tags(&["one", "two"]), 20);
        let names = ["a", "b, \"c\" \\ d", ""].map(str::to_owned).to_vec();
        let of_groups = Scope::Groups("GET http://a.test/".to_owned(), names);
        bans.enter(of_groups.clone(), 15);
        let file = bans.encode();
        let again = Bans::read(Some(&file));
        assert_eq!((again.len(), again.latest_ms()), (3, 20));
        assert_eq!(again.scopes().last(), Some(&of_groups));
        assert_eq!(again.encode(), file);
        assert_eq!(Bans::read(None).len(), 0);
        for end in 0..file.len() {
            let torn = Bans::read(Some(&file[..end]));
            assert!(torn.cover(98, b"GET http://z.test/", b""), "{end}");
        }
    }

    #[test]
    fn there_is_room_for_so_many_bans_and_for_what_their_file_takes() {
        let mut bans = Bans::default();
        let mut count = 0;
        let scope = |count: usize, bytes: usize| Scope::Prefix(format!("{count:0bytes$}"));
        while bans.has_room(&scope(count, 10)) {
            bans.enter(scope(count, 10), 1);
            count += 1;
        }
        assert_eq!(count, BANS_MAX);
        let mut bans = Bans::default();
        while bans.has_room(&scope(bans.len(), 60_000)) {
            bans.enter(scope(bans.len(), 60_000), u64::MAX);
        }
        assert!(bans.len() > 10 && bans.encode().len() <= BANS_BYTES_MAX);
    }

    #[test]
    fn tasks_come_back_from_their_numbers() {
        for task in [
            Task::Fetch(0),
            Task::Fetch(7),
            Task::Put(0),
            Task::Put(1_000_000),
            Task::Purge(3),
            Task::Walk(LANES as u32 - 1),
            Task::Bans,
            Task::Scan,
        ] {
            assert_eq!(Task::unpack(task.pack()), task);
        }
    }
}
