//! What a configuration is made of beside its text: files that it names, variables of the
//! environment, chance.
//!
//! Whoever reads a configuration asks here and nowhere else, and what was answered is noted
//! ([`Kept`]), so that the same configuration can be made again elsewhere, from the notes alone.
//! A private key is never noted: only whether it could be used ([`Surroundings::private`]), and it is
//! cut out of a file that holds certificates as well ([`Surroundings::certificates`]).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;

/// Who answers.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// Only what was answered before is answered.
    is_kept: bool,
    notes: RefCell<Kept>,
}

/// What was asked for, and what the answer was.
pub type Kept = BTreeMap<Asked, Answer>;

/// One question.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asked {
    /// All of a file, by its path.
    File(OsString),
    /// Whether a private key could be used, by its path and that of what it is used with.
    Private(OsString),
    /// A variable of the environment.
    Variable(OsString),
    /// The number of a network interface.
    Interface(OsString),
    /// Random bytes, which are asked for once at most.
    Random,
    /// What somebody else has to say of it, who has this name.
    Said(OsString),
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// These bytes.
    Bytes(Vec<u8>),
    /// There is no such thing.
    None,
    /// It failed, with this number of the system, or else for this reason.
    Failed(Option<i32>, String),
}

impl Surroundings {
    /// Those of this process.
    pub fn live() -> Self {
        Self::default()
    }

    /// Those of another one, as they were noted.
    pub fn kept(notes: Kept) -> Self {
        Self {
            is_kept: true,
            notes: RefCell::new(notes),
        }
    }

    /// What was answered so far.
    pub fn notes(&self) -> Kept {
        self.notes.borrow().clone()
    }

    /// All of a file.
    ///
    /// # Errors
    /// Those of `open(2)` and `read(2)`; for one that was not asked for before,
    /// [`io::ErrorKind::NotFound`].
    pub fn file(&self, path: &Path) -> io::Result<Vec<u8>> {
        let answer = self.answer(Asked::File(path.into()), || match std::fs::read(path) {
            Ok(bytes) => Answer::Bytes(bytes),
            Err(error) => failed(&error),
        });
        match answer {
            Answer::Bytes(bytes) => Ok(bytes),
            Answer::None => Err(io::ErrorKind::NotFound.into()),
            Answer::Failed(Some(code), _) => Err(io::Error::from_raw_os_error(code)),
            Answer::Failed(None, why) => Err(io::Error::other(why)),
        }
    }

    /// All of a file of certificates in PEM, in which there may be a private key, too.
    ///
    /// # Errors
    /// As [`Surroundings::file`].
    pub fn certificates(&self, path: &Path) -> io::Result<Vec<u8>> {
        let bytes = self.file(path)?;
        if let Some(Answer::Bytes(noted)) =
            self.notes.borrow_mut().get_mut(&Asked::File(path.into()))
        {
            *noted = without_keys(noted);
        }
        Ok(bytes)
    }

    /// What becomes of a file that holds a private key, to be used with what is in another file: `used` makes it of its bytes, and says why
    /// not if it cannot; `without` stands in for it where only notes answer, which have no keys.
    ///
    /// # Errors
    /// What `used` said.
    pub fn private<T>(
        &self,
        path: &Path,
        with: &Path,
        used: impl FnOnce(io::Result<Vec<u8>>) -> Result<T, String>,
        without: impl FnOnce() -> Result<T, String>,
    ) -> Result<T, String> {
        let both = [path.as_os_str(), with.as_os_str()];
        let asked = Asked::Private(both.join(OsStr::new("\n")));
        if self.is_kept {
            return match self.notes.borrow().get(&asked) {
                Some(Answer::Failed(_, why)) => Err(why.clone()),
                _ => without(),
            };
        }
        let made = used(std::fs::read(path));
        let answer = match &made {
            Ok(_) => Answer::None,
            Err(why) => Answer::Failed(None, why.clone()),
        };
        self.notes.borrow_mut().insert(asked, answer);
        made
    }

    /// A variable of the environment.
    pub fn variable(&self, name: &str) -> Option<OsString> {
        let answer = self.answer(Asked::Variable(name.into()), || {
            match std::env::var_os(name) {
                Some(value) => Answer::Bytes(value.into_encoded_bytes()),
                None => Answer::None,
            }
        });
        match answer {
            Answer::Bytes(bytes) => Some(text(bytes)),
            _ => None,
        }
    }

    /// The number of a network interface, for link-local name servers (`fe80::1%eth0`).
    pub fn interface(&self, name: &str) -> Option<u32> {
        let answer = self.answer(Asked::Interface(name.into()), || {
            let path = Path::new("/sys/class/net").join(name).join("ifindex");
            std::fs::read(path).map_or(Answer::None, Answer::Bytes)
        });
        match answer {
            Answer::Bytes(bytes) => str::from_utf8(&bytes).ok()?.trim().parse().ok(),
            _ => None,
        }
    }

    /// Random bytes fit for secrets; to be asked for once.
    ///
    /// # Errors
    /// The system has none, in its words.
    pub fn random<const N: usize>(&self) -> Result<[u8; N], String> {
        let answer = self.answer(Asked::Random, || {
            let mut bytes = [0; N];
            match getrandom::fill(&mut bytes) {
                Ok(()) => Answer::Bytes(bytes.to_vec()),
                Err(error) => Answer::Failed(None, error.to_string()),
            }
        });
        match answer {
            Answer::Bytes(bytes) => bytes
                .try_into()
                .map_err(|_| "the notes have another number of random bytes".to_owned()),
            Answer::None => Err("the notes have no random bytes".to_owned()),
            Answer::Failed(_, why) => Err(why),
        }
    }

    /// What `who` says of it: `says`, where the process itself answers.
    pub fn said(&self, who: &str, says: impl FnOnce() -> String) -> String {
        let answer = self.answer(Asked::Said(who.into()), || {
            Answer::Bytes(says().into_bytes())
        });
        match answer {
            Answer::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Answer::None | Answer::Failed(..) => String::new(),
        }
    }

    fn answer(&self, asked: Asked, live: impl FnOnce() -> Answer) -> Answer {
        if self.is_kept {
            let notes = self.notes.borrow();
            return notes.get(&asked).cloned().unwrap_or(Answer::None);
        }
        let answer = live();
        self.notes.borrow_mut().insert(asked, answer.clone());
        answer
    }
}

/// The lines of a text in PEM (RFC 7468) that are not those of a private key.
fn without_keys(pem: &[u8]) -> Vec<u8> {
    let has = |line: &[u8], text: &str| memchr::memmem::find(line, text.as_bytes()).is_some();
    let (mut kept, mut is_key) = (Vec::new(), false);
    for line in pem.split_inclusive(|byte| *byte == b'\n') {
        is_key |= has(line, "-----BEGIN") && has(line, "PRIVATE KEY");
        if !is_key {
            kept.extend_from_slice(line);
        }
        is_key &= !has(line, "-----END");
    }
    kept
}

fn failed(error: &io::Error) -> Answer {
    Answer::Failed(error.raw_os_error(), error.to_string())
}

/// Bytes that were text of this system.
fn text(bytes: Vec<u8>) -> OsString {
    use std::os::unix::ffi::OsStringExt as _;
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_answer_as_the_process_did_but_know_no_private_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, key) = (folder.path().join("a"), folder.path().join("key"));
        std::fs::write(&file, "text").expect("a file");
        std::fs::write(&key, "private").expect("a file");
        let live = Surroundings::live();
        let use_of = |bytes: io::Result<Vec<u8>>| bytes.map_err(|error| error.to_string());
        let gone = folder.path().join("gone");
        let asked = |s: &Surroundings| {
            let missing = s.file(&gone).expect_err("no such file");
            (
                s.file(&file).expect("a file"),
                (missing.kind(), missing.to_string()),
                s.variable("PATH"),
                s.variable("NETLAB_NO_SUCH_VARIABLE"),
                s.interface("lo"),
                s.random::<8>(),
                s.said("somebody", || "no".to_owned()),
                s.private(&gone, &file, use_of, || Ok(Vec::new())),
            )
        };
        let first = asked(&live);
        let held = live.private(&key, &file, use_of, || Ok(b"stand-in".to_vec()));
        assert_eq!(held.as_deref(), Ok(&b"private"[..]));
        let notes = live.notes();
        assert!(!format!("{notes:?}").contains("112, 114, 105, 118")); // "priv"
        drop(folder);
        let kept = Surroundings::kept(notes);
        assert_eq!(asked(&kept), first);
        let held = kept.private(&key, &file, use_of, || Ok(b"stand-in".to_vec()));
        assert_eq!(held.as_deref(), Ok(&b"stand-in"[..]));
        let other = kept
            .file(Path::new("another"))
            .expect_err("it was not asked for");
        assert_eq!(other.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn of_a_file_with_a_certificate_and_a_key_the_certificate_is_noted() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("all.pem");
        let cert = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        for name in ["PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"] {
            let key = format!("-----BEGIN {name}-----\nc2VjcmV0\n-----END {name}-----\n");
            let all = format!("text\n{key}{cert}{key}{cert}");
            std::fs::write(&file, &all).expect("a file");
            let live = Surroundings::live();
            let read = live.certificates(&file).expect("a file");
            assert_eq!(read, all.as_bytes());
            let kept = Surroundings::kept(live.notes());
            let noted = kept.certificates(&file).expect("it was asked for");
            assert_eq!(noted, format!("text\n{cert}{cert}").as_bytes());
        }
        // One that is cut is a key to its end.
        let cut = b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0";
        assert_eq!(without_keys(cut), b"");
        assert_eq!(
            without_keys(b"-----BEGIN PRIVATE KEY-----\rc2\r-----END"),
            b""
        );
    }
}
