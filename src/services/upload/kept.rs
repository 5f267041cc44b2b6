//! Half-received files that are kept so that their clients can go on with them: how they are named,
//! how long they stay, and how many.
//!
//! The rules:
//! 1. One is named by a digest of who sent it and what it is to become ([`Key`]), so it is found
//!    again after a restart, and only by the same user, for the same name, size and digest.
//! 2. It stays for [`KeptLimits::ttl`] after it was last written to. The time is that of its file, so
//!    it counts while no server runs.
//! 3. There are [`KeptLimits::files_max`] at most: beyond that the oldest goes.
//! 4. Nobody's file is taken away under their hands: who removes one needs its lock
//!    ([`Command::Expire`]), and who receives it has that.
//!
//! What another process left, or leaves, is found by a look through the folder at the start and
//! each [`LOOK_AFTER`].

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use sha2::{Digest as _, Sha256};

use super::walk::{Found, Walk};
use crate::disk::{File, FileKind};
use crate::jobs::{Command, Done, Ticket};
use crate::service::{Cx, Waiter};
use crate::wire::hex;
use crate::wire::safe_path::SafePath;

/// What the names of kept files begin with. Those of other half-received files do not, so that a
/// start can tell what to clear away.
const PREFIX: &str = "kept-";
/// How long after a look the folder is looked through again.
const LOOK_AFTER: Duration = Duration::from_secs(3600);
/// How long after a failed attempt one is tried again to be removed.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// What a half-received file is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key([u8; 16]);

impl Key {
    /// The key of a file of this size and digest that this user sends under this name, folders
    /// included.
    pub(super) fn new(
        user: Option<&str>,
        name: &SafePath,
        size_bytes: u64,
        sha256: &[u8; 32],
    ) -> Self {
        let mut hash = Sha256::new();
        for text in [user.unwrap_or_default(), &name.to_string()] {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
        hash.update([u8::from(user.is_some())]);
        hash.update(size_bytes.to_le_bytes());
        hash.update(sha256);
        let digest: [u8; 32] = hash.finalize().into();
        let mut key = [0; 16];
        key.copy_from_slice(&digest[..16]);
        Self(key)
    }

    /// The name of its file.
    pub(super) fn file_name(self) -> PathBuf {
        PathBuf::from(format!("{PREFIX}{}", hex::encode(&self.0)))
    }

    /// The key of a file of this name, if it is one that is kept.
    pub(super) fn of(name: &Path) -> Option<Self> {
        let digits = name.to_str()?.strip_prefix(PREFIX)?;
        Some(Self(hex::decode(digits.as_bytes())?))
    }
}

/// How long half-received files stay, and how many.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeptLimits {
    /// After the last write; zero: none is kept.
    pub(super) ttl: Duration,
    pub(super) files_max: usize,
}

#[derive(Clone, Copy)]
struct Entry {
    written: SystemTime,
    bytes: u64,
}

/// The files that are kept and that nobody is sending.
pub(super) struct Kept {
    limits: KeptLimits,
    files: HashMap<Key, Entry>,
    /// The same, the oldest first.
    by_age: BTreeSet<(SystemTime, Key)>,
    bytes: u64,
    walk: Option<Walk>,
    look_at: Option<Instant>,
    expiring: Option<(Key, Ticket)>,
    /// When the oldest has to go.
    expire_at: Option<Instant>,
    /// Files that are being left.
    leaving: Vec<Ticket>,
}

impl Kept {
    pub(super) fn new(limits: KeptLimits) -> Self {
        Self {
            limits,
            files: HashMap::new(),
            by_age: BTreeSet::new(),
            bytes: 0,
            walk: None,
            look_at: None,
            expiring: None,
            expire_at: None,
            leaving: Vec::new(),
        }
    }

    /// Whether any is.
    pub(super) fn keeps_any(&self) -> bool {
        !self.limits.ttl.is_zero()
    }

    /// How many there are, and their bytes.
    pub(super) fn counts(&self) -> (usize, u64) {
        (self.files.len(), self.bytes)
    }

    /// Bytes of all of them but this one, and of this one.
    pub(super) fn bytes_beside(&self, key: Option<Key>) -> (u64, u64) {
        let own = key.and_then(|key| self.files.get(&key));
        let own = own.map_or(0, |entry| entry.bytes);
        (self.bytes - own, own)
    }

    /// Somebody sends this one again, or it is gone.
    pub(super) fn forget(&mut self, key: Key) {
        if let Some(entry) = self.files.remove(&key) {
            self.bytes -= entry.bytes;
            self.by_age.remove(&(entry.written, key));
        }
    }

    fn insert(&mut self, key: Key, entry: Entry) {
        self.forget(key);
        self.files.insert(key, entry);
        self.bytes = self.bytes.saturating_add(entry.bytes);
        self.by_age.insert((entry.written, key));
    }

    /// Nobody sends this one any more: `bytes` of it are there.
    pub(super) fn keep(&mut self, key: Key, bytes: u64, file: File, cx: &mut Cx<'_>) {
        self.insert(
            key,
            Entry {
                written: cx.wall,
                bytes,
            },
        );
        let leave = Command::Leave { file: Some(file) };
        // Where too many jobs wait, it is closed all the same.
        if let Ok(ticket) = cx.jobs.start(Waiter::Service, leave, cx.now) {
            self.leaving.push(ticket);
        }
    }

    /// Looks for what is kept, and removes what has to go: the oldest one, by a job, and then the
    /// next. `inner` is their folder, in the folder `root` under the name of `partial`. Whether there
    /// is more to do at once.
    pub(super) fn work(
        &mut self,
        (root, inner, partial): (&File, &File, &Path),
        cx: &mut Cx<'_>,
    ) -> bool {
        self.leaving
            .retain(|ticket| cx.jobs.take(ticket).is_pending());
        if self.look_at.is_none_or(|at| at <= cx.now) && self.walk.is_none() && !cx.draining {
            self.walk = Some(Walk::new(inner.clone()));
            self.look_at = Some(cx.now + LOOK_AFTER);
        }
        let is_more = self.look(cx);
        self.expired(cx);
        self.expire(root, partial, cx);
        is_more
    }

    fn look(&mut self, cx: &mut Cx<'_>) -> bool {
        let Some(walk) = &mut self.walk else {
            return false;
        };
        loop {
            match walk.next(cx) {
                Found::Entry(name, metadata) => {
                    let key = Key::of(&name).filter(|_| metadata.kind == FileKind::Regular);
                    let Some(key) = key.filter(|key| !self.files.contains_key(key)) else {
                        continue;
                    };
                    let (written, bytes) = (metadata.modified, metadata.len);
                    let entry = Entry { written, bytes };
                    self.files.insert(key, entry);
                    self.bytes = self.bytes.saturating_add(bytes);
                    self.by_age.insert((written, key));
                }
                Found::Later => return false,
                Found::More => return true,
                Found::Failed(error) => {
                    log::error!("looking for half-received files: {error}");
                    break;
                }
                Found::End => break,
            }
        }
        self.walk = None;
        false
    }

    /// Hears of the one that was to be removed.
    fn expired(&mut self, cx: &mut Cx<'_>) {
        let Some((key, ticket)) = self.expiring.take() else {
            return;
        };
        let std::task::Poll::Ready(finished) = cx.jobs.take(&ticket) else {
            self.expiring = Some((key, ticket));
            return;
        };
        match finished.result.and_then(Done::into_kept) {
            Ok(false) => self.forget(key),
            // Somebody is sending it: it is kept again when they stop.
            Ok(true) => self.forget(key),
            Err(error) => {
                let name = key.file_name();
                log::error!("{} stays behind: {error}", name.display());
                self.forget(key);
                self.look_at = Some(cx.now + RETRY_AFTER);
            }
        }
    }

    /// Has the oldest one removed, if it has to go.
    fn expire(&mut self, root: &File, partial: &Path, cx: &mut Cx<'_>) {
        self.expire_at = None;
        if self.expiring.is_some() || cx.draining {
            return;
        }
        let Some(&(written, key)) = self.by_age.first() else {
            return;
        };
        let is_too_many = self.files.len() > self.limits.files_max;
        let age = cx.wall.duration_since(written).unwrap_or_default();
        if !is_too_many && age <= self.limits.ttl {
            // The moment after it: what is as old as that may still be asked for.
            let left = self.limits.ttl - age + Duration::from_millis(1);
            self.expire_at = Some(cx.now + left);
            return;
        }
        let moment = Duration::from_nanos(1);
        let before = match is_too_many {
            true => cx.wall + self.limits.ttl,
            false => cx.wall.checked_sub(self.limits.ttl).unwrap_or(cx.wall) + moment,
        };
        let expire = Command::Expire {
            root: root.clone(),
            path: partial.join(key.file_name()),
            before,
        };
        match cx.jobs.start(Waiter::Service, expire, cx.now) {
            Ok(ticket) => self.expiring = Some((key, ticket)),
            Err(_) => self.expire_at = Some(cx.now + RETRY_AFTER),
        }
    }

    /// When there is something to do although nothing happened.
    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.look_at, self.expire_at].into_iter().flatten().min()
    }

    /// The folder is another one: what is known of this one is worth nothing.
    pub(super) fn clear(&mut self, cx: &mut Cx<'_>) {
        if let Some(mut walk) = self.walk.take() {
            walk.cancel(cx);
        }
        self.files.clear();
        self.by_age.clear();
        self.bytes = 0;
        self.look_at = Some(cx.now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::upload::SafeName;

    #[test]
    fn a_key_is_for_one_user_name_size_and_digest() {
        let name = |name| SafePath::from(SafeName::reduce(name).expect("a name"));
        let inner = |folder| SafePath::new(folder, name("a").name().clone()).expect("a folder");
        let keys = [
            Key::new(None, &name("a"), 1, &[0; 32]),
            Key::new(Some(""), &name("a"), 1, &[0; 32]),
            Key::new(Some("ann"), &name("a"), 1, &[0; 32]),
            Key::new(Some("an"), &name("na"), 1, &[0; 32]),
            Key::new(Some("ann"), &name("a"), 2, &[0; 32]),
            Key::new(Some("ann"), &name("a"), 1, &[1; 32]),
            Key::new(Some("ann"), &inner("b"), 1, &[0; 32]),
            Key::new(Some("ann"), &inner("b/c"), 1, &[0; 32]),
        ];
        for (index, key) in keys.iter().enumerate() {
            assert!(!keys[..index].contains(key));
            assert_eq!(Key::of(&key.file_name()), Some(*key));
        }
        for other in ["0123456789abcdef-0", "kept-", "kept-xyz", "kept-0011"] {
            assert_eq!(Key::of(Path::new(other)), None);
        }
    }
}
