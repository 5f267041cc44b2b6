//! Responses that their origin forgets together (RFC 9875): a group is a ban of what carries its
//! name, entered because a response said so, and nobody waits for it.
//!
//! The rules:
//! 1. All groups of an origin are one ban, the latest of them: what is invalidated once too often is
//!    fetched again, and one origin takes one place of those for purges.
//! 2. Nobody else's places are taken: at most [`ORIGINS_MAX`] origins have a ban, each of at most
//!    [`GROUPS_BYTES_MAX`]. What is beyond that is not invalidated, which section 3 leaves to a
//!    cache; a ban is gone as soon as a walk has removed what it covers.
//! 3. What an invalidated response names invalidates nothing more (section 3).

use super::purging::Scope;
use super::{Hands, Store};

/// Origins with groups that are being forgotten.
const ORIGINS_MAX: usize = 16;
/// Bytes of the names of one origin's groups that are being forgotten.
const GROUPS_BYTES_MAX: usize = 16 * 1024;

impl Store {
    /// What an origin, `GET http://host/`, keeps in one of these groups is not used any more, from
    /// now on in this process, and after a start once the ban is on disk.
    pub fn invalidate_groups(
        &mut self,
        origin: String,
        mut names: Vec<String>,
        hands: &mut Hands<'_>,
    ) {
        let (mut origins, mut before) = (0, None);
        for scope in self.bans.scopes() {
            if let Scope::Groups(start, of_origin) = scope {
                origins += 1;
                if *start == origin {
                    before = Some(of_origin.clone());
                }
            }
        }
        let is_new = before.is_none();
        names.extend(before.clone().unwrap_or_default());
        names.sort_unstable();
        names.dedup();
        let bytes: usize = names.iter().map(String::len).sum();
        let has_room = bytes <= GROUPS_BYTES_MAX && (origins < ORIGINS_MAX || !is_new);
        let replaced = before.map(|before| Scope::Groups(origin.clone(), before));
        if !has_room || !self.put_ban(Scope::Groups(origin, names), replaced.as_ref(), hands) {
            log::info!("too many groups of responses are being forgotten: some are not");
            return;
        }
        self.save_bans(hands);
    }
}
