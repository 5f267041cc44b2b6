//! The file of users behind the upload login.
//!
//! ```text
//! # who may upload
//! ann|$argon2id$v=19$m=19456,t=2,p=1$SALT$HASH    a PHC string: what `netlab-reactor passwd` writes
//! bob|3b0ea1ff2a3b9fa1e1a1c4d2f1f5cbd0            lower-case hex of MD5(user ‖ password)
//! ```
//!
//! Rules:
//! 1. A file is refused as a whole with the line that is wrong: a typing error must not lock one user
//!    out silently. So is one with a hash that would cost too much ([`argon2id`]).
//! 2. MD5 is compared at once. What costs more is a [hash](argon2id) that comes out of [`UserInfo::prove`],
//!    for somebody who has the time: no event loop does.
//! 3. Where a file has any such hash, each wrong attempt costs the dearest one of it: that of a user
//!    who does not exist, that of one with MD5, and that of one with a cheaper hash, too ([`Check`]). So
//!    how long a refusal takes does not tell who exists.
//! 4. Comparisons take constant time, and nothing of a hash is ever shown.
//!
//! Not here: reading and writing the file.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use md5::{Digest, Md5};
use subtle::ConstantTimeEq;

use super::argon2id::{self, Cost, Hash};
use super::challenge::Secret;
use super::hex;
use super::login::Login;

/// The longest file of users, in bytes: some ten thousand of them. It is read again by a server at
/// work, which takes it apart between other things.
pub const USER_FILE_BYTES_MAX: usize = 1 << 20;

/// The users that may log in: the contents of a user file.
///
/// A line `user|hash` each, the hash being the 32 hexadecimal digits of MD5(user ‖ password), in
/// either case, or an argon2id hash of the password. Empty lines and lines that begin with `#` are
/// skipped. A name may hold `|`: the last one on the line counts.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct UserInfo {
    users: BTreeMap<String, Kept>,
    /// What the dearest costs, if there is any.
    dearest: Option<Cost>,
}

/// How a password is kept.
#[derive(Clone, PartialEq, Eq)]
enum Kept {
    Md5([u8; 16]),
    Argon2id(Arc<Hash>),
}

/// Whether a password is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// It is.
    Right,
    /// It is not, or nobody has that name.
    Wrong,
    /// It is if this says so, which takes long to find out.
    Costly(Check),
}

/// What has to be found out of a password that is checked, and what a wrong one costs besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// That of the user; nobody's for one who has none, or whose MD5 was wrong.
    hash: Arc<Hash>,
    /// What makes a wrong password as dear as the dearest of the file.
    rest: Option<Cost>,
}

impl Check {
    /// One of this hash, and no more.
    pub fn of(hash: Arc<Hash>) -> Self {
        Self { hash, rest: None }
    }

    /// KiB that are gone over for a wrong password.
    pub fn work_if_wrong(&self) -> u64 {
        self.hash.cost().work() + self.rest.map_or(0, Cost::work)
    }

    /// Whether the password is right.
    pub fn proves(&self, password: &Secret) -> bool {
        self.proves_by(|hash| hash.is_of(password.expose()))
    }

    /// The same, by who checks a hash.
    fn proves_by(&self, mut is_right: impl FnMut(&Hash) -> bool) -> bool {
        let right = is_right(&self.hash);
        if let (false, Some(rest)) = (right, self.rest) {
            is_right(&Hash::nobodys(rest));
        }
        right
    }
}

/// What is wrong in a user file, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserInfoError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it; never the hash itself.
    pub message: String,
}

impl fmt::Display for UserInfoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

impl std::error::Error for UserInfoError {}

/// The lines that stand for users, with their numbers from 1 on.
fn user_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().map(str::trim_end).enumerate();
    let meant = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    meant.map(|(index, line)| (index + 1, line))
}

impl UserInfo {
    /// Reads the text of a user file.
    ///
    /// # Errors
    /// The first line that is not `user|hash`, or that names a user a second time.
    pub fn parse(text: &str) -> Result<Self, UserInfoError> {
        let mut users = BTreeMap::new();
        for (number, line) in user_lines(text) {
            let wrong = |message: String| UserInfoError {
                line: number,
                message,
            };
            let Some((user, hash)) = line.rsplit_once('|') else {
                return Err(wrong("expected user|hash".to_owned()));
            };
            if user.is_empty() {
                return Err(wrong("the user's name is empty".to_owned()));
            }
            let kept = Kept::parse(hash.trim())
                .map_err(|why| wrong(format!("the hash of {user:?} is {why}")))?;
            if users.insert(user.to_owned(), kept).is_some() {
                return Err(wrong(format!(
                    "the user {user:?} stands on an earlier line already"
                )));
            }
        }
        let costly = users.values().filter_map(|kept| match kept {
            Kept::Argon2id(hash) => Some(hash),
            Kept::Md5(_) => None,
        });
        let dearest = costly
            .map(|hash| hash.cost())
            .max_by_key(|cost| cost.work());
        Ok(Self { users, dearest })
    }

    /// Reads a user file as it was read, within [`USER_FILE_BYTES_MAX`].
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > USER_FILE_BYTES_MAX {
            return Err(format!(
                "{} bytes; expected at most {USER_FILE_BYTES_MAX}",
                bytes.len()
            ));
        }
        let text = std::str::from_utf8(bytes).map_err(|error| format!("not UTF-8: {error}"))?;
        Self::parse(text).map_err(|error| error.to_string())
    }

    /// How many users there are.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether nobody can log in.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Whether the user exists and the password is right, or what has to be found out for that. A
    /// digest is computed and compared for an unknown user too.
    pub fn prove(&self, login: &Login) -> Proof {
        let expected = match self.users.get(&login.user) {
            Some(Kept::Argon2id(hash)) => {
                return Proof::Costly(Check {
                    hash: Arc::clone(hash),
                    rest: self.dearest.and_then(|dearest| hash.cost().up_to(dearest)),
                });
            }
            Some(Kept::Md5(digest)) => Some(*digest),
            None => None,
        };
        let digest = digest(&login.user, &login.password);
        let same = digest.ct_eq(&expected.unwrap_or_default());
        match (bool::from(same) & expected.is_some(), &self.dearest) {
            (true, _) => Proof::Right,
            (false, Some(dearest)) => Proof::Costly(Check::of(Arc::new(Hash::nobodys(*dearest)))),
            (false, None) => Proof::Wrong,
        }
    }

    /// The line of a user file for this user and password, with MD5.
    pub fn line(user: &str, password: &Secret) -> String {
        format!("{user}|{}", hex::encode(&digest(user, password)))
    }

    /// The same with an argon2id hash.
    pub fn line_with(user: &str, hash: &Hash) -> String {
        format!("{user}|{}", hash.to_phc())
    }
}

/// The text of a user file in which `line` is the one of `user`, in the place of the one before or
/// behind all others; and whether there was one. What else it holds stays as it is.
pub fn with_line(text: &str, user: &str, line: &str) -> (String, bool) {
    let is_theirs = |old: &str| {
        let (_, meant) = user_lines(old).next().unwrap_or_default();
        meant.rsplit_once('|').is_some_and(|(name, _)| name == user)
    };
    let mut out = String::with_capacity(text.len() + line.len() + 2);
    let mut was_there = false;
    for old in text.split_inclusive('\n') {
        if !is_theirs(old) {
            out.push_str(old);
            continue;
        }
        if !was_there {
            out.push_str(line);
            out.push('\n');
        }
        was_there = true;
    }
    if !was_there {
        if !out.is_empty() && !out.ends_with('\n') {
            out.push('\n');
        }
        out.push_str(line);
        out.push('\n');
    }
    (out, was_there)
}

/// Why nobody can be called that in a user file, if so.
///
/// # Errors
/// In words.
pub fn check_name(user: &str) -> Result<(), String> {
    let why = if user.is_empty() {
        "it is empty"
    } else if user.contains('|') {
        "it has a `|`, which ends a name in the file"
    } else if user.chars().any(char::is_control) {
        "it has a line ending or another control character"
    } else if user.starts_with('#') {
        "it begins with `#`, as a comment in the file does"
    } else {
        return Ok(());
    };
    Err(format!("{user:?} cannot be the name of a user: {why}"))
}

impl Kept {
    /// Reads a hash, or says what it is instead.
    fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with('$') {
            let hash = Hash::parse(text).map_err(|why| format!("refused: {why}"))?;
            return Ok(Self::Argon2id(Arc::new(hash)));
        }
        hex::decode(text.as_bytes()).map(Self::Md5).ok_or_else(|| {
            format!(
                "not 32 hexadecimal digits, the MD5 of user and password, nor {}…",
                argon2id::PREFIX
            )
        })
    }
}

/// Shows how many users there are; their hashes are as good as passwords.
impl fmt::Debug for UserInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserInfo({} users)", self.users.len())
    }
}

/// MD5(user ‖ password).
fn digest(user: &str, password: &Secret) -> [u8; 16] {
    Md5::new()
        .chain_update(user)
        .chain_update(password.expose())
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(user: &str, password: &str) -> Login {
        Login {
            user: user.to_owned(),
            password: password.into(),
        }
    }

    fn hash(password: &str, passes: u32) -> Hash {
        let cost = Cost {
            memory_kib: 8,
            passes,
            lanes: 1,
        };
        Hash::of(password.as_bytes(), [7; 16], cost)
    }

    #[test]
    fn a_user_file_decides() {
        // The hashes are Python's hashlib.md5(b"anntulip") and md5(b"bo|brose").
        let text = "# who may upload\nann|32b449036da766d44b77aac4e4b082f7\r\n\nbo|b|306b0fd57a1cc4b55f179af3aece6a9d\n";
        let users = UserInfo::parse(text).unwrap();
        let prove = |user, password| users.prove(&login(user, password));
        assert_eq!(users.len(), 2);
        assert_eq!(prove("ann", "tulip"), Proof::Right);
        assert_eq!(prove("bo|b", "rose"), Proof::Right);
        assert_eq!(prove("ann", "Tulip"), Proof::Wrong);
        assert_eq!(prove("eve", "tulip"), Proof::Wrong);
        assert_eq!(UserInfo::default().prove(&login("", "")), Proof::Wrong);
        assert_eq!(
            UserInfo::line("ann", &"tulip".into()),
            text.lines().nth(1).unwrap()
        );
        assert_eq!(format!("{users:?}"), "UserInfo(2 users)");
    }

    #[test]
    fn beside_argon2id_a_wrong_attempt_costs_the_dearest_of_the_file_whoever_makes_it() {
        let lines = [
            UserInfo::line("ann", &"tulip".into()),
            UserInfo::line_with("bob", &hash("rose", 1)),
            UserInfo::line_with("cyd", &hash("lily", 3)),
        ];
        let users = UserInfo::parse(&lines.join("\n")).unwrap();
        // What was gone over, in KiB, and what came of it.
        let proof = |user, password: &str| match users.prove(&login(user, password)) {
            Proof::Costly(check) => {
                let mut work = 0;
                let right = check.proves_by(|hash| {
                    work += hash.cost().work();
                    hash.is_of(password.as_bytes())
                });
                assert_eq!(check.proves(&password.into()), right);
                assert!(right || check.work_if_wrong() == work);
                (work, right)
            }
            quick => panic!("{user}: {quick:?}"),
        };
        assert_eq!(users.prove(&login("ann", "tulip")), Proof::Right);
        assert_eq!(proof("bob", "rose"), (8, true));
        assert_eq!(proof("cyd", "lily"), (24, true));
        for user in ["ann", "bob", "cyd", "eve"] {
            assert_eq!(proof(user, "Tulip"), (24, false), "{user}");
        }
    }

    #[test]
    fn a_wrong_line_is_named() {
        let message = |text: &str| UserInfo::parse(text).unwrap_err().to_string();
        assert_eq!(message("\nann"), "line 2: expected user|hash");
        assert_eq!(message("|00"), "line 1: the user's name is empty");
        assert!(
            message("ann|tulip")
                .starts_with("line 1: the hash of \"ann\" is not 32 hexadecimal digits")
        );
        assert_eq!(
            message("ann|$argon2id$v=19$m=4194304,t=1,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEg"),
            "line 1: the hash of \"ann\" is refused: m=4194304; expected 8 to 65536 KiB of memory"
        );
        let twice = format!("{}\n{0}\n", UserInfo::line("ann", &"tulip".into()));
        assert_eq!(
            message(&twice),
            "line 2: the user \"ann\" stands on an earlier line already"
        );
        let long = vec![b'#'; USER_FILE_BYTES_MAX + 1];
        assert_eq!(
            UserInfo::from_bytes(&long),
            Err("1048577 bytes; expected at most 1048576".to_owned())
        );
        assert!(
            UserInfo::from_bytes(b"\xff")
                .unwrap_err()
                .starts_with("not UTF-8")
        );
    }

    #[test]
    fn a_line_takes_the_place_of_the_one_before_and_the_others_stay() {
        let text = "# ann|x\r\n ann|1\nann|2\nbob|3";
        assert_eq!(
            with_line(text, "ann", "ann|9"),
            ("# ann|x\r\n ann|1\nann|9\nbob|3".to_owned(), true)
        );
        assert_eq!(
            with_line(text, "bob", "bob|9"),
            ("# ann|x\r\n ann|1\nann|2\nbob|9\n".to_owned(), true)
        );
        assert_eq!(
            with_line(text, "cyd", "cyd|9"),
            ("# ann|x\r\n ann|1\nann|2\nbob|3\ncyd|9\n".to_owned(), false)
        );
        assert_eq!(with_line("", "a", "a|1"), ("a|1\n".to_owned(), false));
    }

    #[test]
    fn some_names_are_refused_and_why() {
        for (name, why) in [
            ("", "it is empty"),
            ("a|b", "it has a `|`"),
            ("a\nb", "it has a line ending"),
            ("#a", "it begins with `#`"),
        ] {
            assert!(check_name(name).unwrap_err().contains(why), "{name:?}");
        }
        assert_eq!(check_name("J\u{fc}rgen M."), Ok(()));
    }
}
