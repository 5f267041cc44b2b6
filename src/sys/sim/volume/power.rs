//! What is left on a disk when the power fails.
//!
//! The kernel writes to the disk when it likes, in any order, unless it is told to
//! ([`Volume`](super::Volume) says when that was). So what was synced is sure, and of what
//! came after it each sector of a file, and each name of a folder, is there or is not, whatever
//! became of its neighbours. A sector that was never written reads as zeros.
//!
//! Deliberately not here: the order that the journal of a file system keeps. A program that relies
//! on none is right on all of them.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::Content;
use crate::sys::sim::rng::Rng;

/// What a disk writes as a whole or not at all.
pub const SECTOR_BYTES: usize = 512;

/// What is sure of each inode. One that was never synced is empty.
#[derive(Debug, Default)]
pub(super) struct Synced {
    contents: BTreeMap<u64, Content>,
}

impl Synced {
    /// All of an inode is sure from now on.
    pub(super) fn sync(&mut self, inode: u64, content: &Content) {
        self.contents.insert(inode, content.clone());
    }

    /// What is left of each inode of which `now` was to be seen. It is all that is sure from now
    /// on.
    pub(super) fn fail(
        &mut self,
        now: &BTreeMap<u64, Content>,
        rng: &mut Rng,
    ) -> BTreeMap<u64, Content> {
        let mut left = std::mem::take(&mut self.contents);
        for (inode, content) in now {
            let survivor = survivor(left.get(inode), content, rng);
            left.insert(*inode, survivor);
        }
        // A name may stand for a file of which nothing was ever written.
        let folders = left.values().filter_map(|content| match content {
            Content::Folder(names) => Some(names.values().copied()),
            _ => None,
        });
        for inode in folders.flatten().collect::<Vec<u64>>() {
            left.entry(inode)
                .or_insert_with(|| Content::Regular(Vec::new()));
        }
        self.contents.clone_from(&left);
        left
    }
}

fn survivor(sure: Option<&Content>, now: &Content, rng: &mut Rng) -> Content {
    match (sure, now) {
        (Some(Content::Folder(sure)), Content::Folder(now)) => {
            Content::Folder(names_left(sure, now, rng))
        }
        (_, Content::Folder(now)) => Content::Folder(names_left(&BTreeMap::new(), now, rng)),
        (Some(Content::Regular(sure)), Content::Regular(now)) => {
            Content::Regular(bytes_left(sure, now, rng))
        }
        (_, Content::Regular(now)) => Content::Regular(bytes_left(&[], now, rng)),
        (_, Content::Link(target)) => Content::Link(target.clone()),
    }
}

/// Each name as it was or as it is.
fn names_left(
    sure: &BTreeMap<OsString, u64>,
    now: &BTreeMap<OsString, u64>,
    rng: &mut Rng,
) -> BTreeMap<OsString, u64> {
    let mut names: Vec<&OsString> = sure.keys().chain(now.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let mut left = BTreeMap::new();
    for name in names {
        let (was, is) = (sure.get(name), now.get(name));
        let of = if was == is || rng.coin() { is } else { was };
        if let Some(inode) = of {
            left.insert(name.clone(), *inode);
        }
    }
    left
}

/// The bytes as they were, or as they are, or some sectors of these and some of those.
fn bytes_left(sure: &[u8], now: &[u8], rng: &mut Rng) -> Vec<u8> {
    if sure == now {
        return now.to_vec();
    }
    match rng.below(4) {
        0 => return sure.to_vec(),
        1 => return now.to_vec(),
        _ => {}
    }
    let (low, high) = (sure.len().min(now.len()), sure.len().max(now.len()));
    let mut left = vec![0; rng.between(low, high)];
    for (number, sector) in left.chunks_mut(SECTOR_BYTES).enumerate() {
        let from = if rng.coin() { now } else { sure };
        let there = from.get(number * SECTOR_BYTES..).unwrap_or_default();
        let count = there.len().min(sector.len());
        sector[..count].copy_from_slice(&there[..count]);
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const ROOT: u64 = 1;
    const FILE: u64 = 2;

    fn folder(names: &[(&str, u64)]) -> Content {
        Content::Folder(
            names
                .iter()
                .map(|(name, of)| ((*name).into(), *of))
                .collect(),
        )
    }

    fn file(bytes: &[u8]) -> Content {
        Content::Regular(bytes.to_vec())
    }

    /// What is left in each of many worlds.
    fn worlds(synced: &[(u64, Content)], now: &[(u64, Content)]) -> Vec<BTreeMap<u64, Content>> {
        let left = |seed| {
            let mut sure = Synced::default();
            for (inode, content) in synced {
                sure.sync(*inode, content);
            }
            sure.fail(&now.iter().cloned().collect(), &mut Rng::new(seed))
        };
        (0..500).map(left).collect()
    }

    #[test]
    fn what_was_synced_is_left_as_it_was() {
        let all = [(ROOT, folder(&[("a", FILE)])), (FILE, file(b"sure"))];
        for left in worlds(&all, &all) {
            assert!(all.iter().all(|(inode, content)| left[inode] == *content));
        }
    }

    #[test]
    fn of_what_was_not_each_sector_is_there_or_is_not() {
        let (a, b) = ([b'a'; SECTOR_BYTES], [b'b'; SECTOR_BYTES]);
        let now = [(FILE, file(&[a, b].concat()))];
        let mut seen = BTreeSet::new();
        for left in worlds(&[], &now) {
            let Content::Regular(bytes) = &left[&FILE] else {
                panic!("a file");
            };
            for (sector, was) in bytes.chunks(SECTOR_BYTES).zip([a, b]) {
                let (is_there, is_zero) = (was.starts_with(sector), sector.iter().all(|b| *b == 0));
                assert!(is_there || is_zero);
            }
            let firsts = bytes.chunks(SECTOR_BYTES).map(|sector| sector[0]);
            seen.insert(firsts.collect::<Vec<u8>>());
        }
        let ways: [&[u8]; 7] = [b"", b"\0", b"a", b"\0\0", b"\0b", b"a\0", b"ab"];
        assert!(seen.iter().eq(BTreeSet::from(ways)), "{seen:?}");
    }

    #[test]
    fn a_name_is_what_it_was_or_what_it_is() {
        let synced = [(ROOT, folder(&[("new", 2), ("gone", 2)])), (2, file(b"2"))];
        let now = [(ROOT, folder(&[("new", 3)])), (3, file(b""))];
        let mut seen = Vec::new();
        for left in worlds(&synced, &now) {
            seen.push(left[&ROOT].clone());
        }
        let mut ways = vec![
            folder(&[("new", 2), ("gone", 2)]),
            folder(&[("new", 3), ("gone", 2)]),
        ];
        ways.extend([folder(&[("new", 2)]), folder(&[("new", 3)])]);
        assert!(seen.iter().all(|names| ways.contains(names)));
        assert!(ways.iter().all(|names| seen.contains(names)));
    }

    #[test]
    fn a_name_of_a_file_that_was_never_written_stands_for_an_empty_one() {
        let synced = [(ROOT, folder(&[("a", FILE)]))];
        let now = [(ROOT, folder(&[]))];
        let left = worlds(&synced, &now);
        let mut named = left.iter().filter(|left| left[&ROOT] == synced[0].1);
        assert!(named.clone().count() > 0);
        assert!(named.all(|left| left[&FILE] == file(b"")));
    }
}
