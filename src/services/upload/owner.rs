//! Whose a file is: what a session knows of its client, and where its files go.
//!
//! With [`UploadConfig::user_folders`](crate::config::UploadConfig::user_folders) the files of a
//! user stand in a folder of their own below the listener's ([`folder_of`]). No two users have the
//! same one, and it is one safe name, whatever the user is called.
//!
//! Not here: who may be which user.

use std::fmt::Write;
use std::path::PathBuf;
use std::rc::Rc;

use sha2::{Digest, Sha256};

use crate::service::Peer;
use crate::wire::hex;
use crate::wire::upload::SafeName;

/// The longest name of a folder, in bytes; one that would be longer ends with a digest.
const FOLDER_BYTES_MAX: usize = 120;

/// Whose files a session brings.
#[derive(Debug)]
pub(super) struct Owner {
    pub(super) peer: Peer,
    /// Who is logged in.
    user: Option<Box<str>>,
    /// Where the files go, below the folder of the listener; empty for that itself.
    pub(super) folder: PathBuf,
}

impl Owner {
    /// A client that is not logged in.
    pub(super) fn nobody(peer: &Peer) -> Rc<Self> {
        Rc::new(Self {
            peer: peer.clone(),
            user: None,
            folder: PathBuf::new(),
        })
    }

    /// The same client, logged in; its files go to a folder of its own if it `has_folder`.
    pub(super) fn logged_in(&self, user: &str, has_folder: bool) -> Rc<Self> {
        Rc::new(Self {
            peer: self.peer.clone(),
            user: Some(user.into()),
            folder: match has_folder {
                true => folder_of(user),
                false => PathBuf::new(),
            },
        })
    }

    /// Who is logged in.
    pub(super) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }
}

/// The folder of a user: the name itself where it is one of letters, digits and `-_.@`. What else is
/// in it is written as `%XX`, byte by byte, and so is what no name of a folder may begin or end with.
/// One that would be too long is cut, and ends with a digest of all of it.
fn folder_of(user: &str) -> PathBuf {
    let mut name = String::new();
    for (at, c) in user.char_indices() {
        let is_end = at == 0 || at + c.len_utf8() == user.len();
        let is_plain = is_letter(c) || c == '_' || (!is_end && "-.@".contains(c));
        match is_plain {
            true => name.push(c),
            false => escape(c, &mut name),
        }
    }
    if name.len() > FOLDER_BYTES_MAX {
        let digest = hex::encode(&<[u8; 32]>::from(Sha256::digest(user)));
        let cut = name.floor_char_boundary(FOLDER_BYTES_MAX - digest.len() - 2);
        name.truncate(cut);
        // Two in a row, which no other name has.
        name.push_str("%%");
        name.push_str(&digest);
    }
    // A device of Windows, such as `con`, is one with an extension as well.
    if SafeName::reduce_portable(&name).is_err()
        && let Some(first) = name.chars().next()
    {
        let rest = name.split_off(first.len_utf8());
        name.clear();
        escape(first, &mut name);
        name.push_str(&rest);
    }
    PathBuf::from(name)
}

/// Whether it is a letter or a digit that is seen: some, such as U+FFA0, are not.
fn is_letter(c: char) -> bool {
    let alone = || SafeName::reduce_portable(c.encode_utf8(&mut [0; 4])).is_ok();
    c.is_alphanumeric() && (c.is_ascii() || alone())
}

/// Each byte of a character as `%XX`.
fn escape(c: char, into: &mut String) {
    let mut bytes = [0; 4];
    for byte in c.encode_utf8(&mut bytes).bytes() {
        // Invariant: a text takes everything.
        write!(into, "%{byte:02X}").expect("room");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Component;

    fn name(user: &str) -> String {
        folder_of(user)
            .into_os_string()
            .into_string()
            .expect("UTF-8")
    }

    #[test]
    fn a_plain_name_is_its_folder_and_what_could_lead_elsewhere_is_not() {
        for (user, folder) in [
            ("ann", "ann"),
            ("J\u{fc}rgen", "J\u{fc}rgen"),
            ("ann.lee@example.org", "ann.lee@example.org"),
            ("..", "%2E%2E"),
            (".partial", "%2Epartial"),
            ("../ann", "%2E.%2Fann"),
            ("a/b", "a%2Fb"),
            ("a%2Fb", "a%252Fb"),
            ("-rf", "%2Drf"),
            ("a.", "a%2E"),
            ("con", "%63on"),
            ("a b", "a%20b"),
            ("a\u{202e}b", "a%E2%80%AEb"),
            ("a\0b", "a%00b"),
        ] {
            assert_eq!(name(user), folder);
        }
    }

    #[test]
    fn a_long_name_is_cut_and_still_nobody_elses() {
        let (one, two) = ("x".repeat(500), "x".repeat(501));
        assert!(name(&one).len() <= FOLDER_BYTES_MAX && name(&one).starts_with("xxx"));
        assert_ne!(name(&one), name(&two));
        assert_ne!(name(&one), name(&name(&one)));
    }

    proptest! {
        #[test]
        fn every_user_has_one_safe_folder_and_no_other_user_has_it(
            one in any::<String>().prop_filter("no name", |user| !user.is_empty()),
            other in "[a%/.\\\\-]{1,6}",
        ) {
            for user in [&one, &other] {
                let folder = folder_of(user);
                let mut parts = folder.components();
                prop_assert!(matches!(parts.next(), Some(Component::Normal(_))), "{user:?}");
                prop_assert!(parts.next().is_none(), "{user:?}");
                let name = name(user);
                prop_assert!(name.len() <= FOLDER_BYTES_MAX && !name.starts_with(['.', '-']), "{name}");
                prop_assert!(SafeName::reduce_portable(&name).is_ok(), "{name}");
            }
            prop_assert_eq!(one == other, folder_of(&one) == folder_of(&other));
        }
    }
}
