//! Basic authentication: credentials out of a header, a file of users, and a check of a password
//! that can be interrupted.
//!
//! RFC 7617 (Basic, with `charset="UTF-8"`), RFC 8018 (PBKDF2), RFC 2104 (HMAC).
//!
//! ```text
//! # a file of users
//! ann:$pbkdf2-sha256$100000$SALT$DIGEST
//! ```
//!
//! Rules:
//! 1. A password is kept as PBKDF2-HMAC-SHA-256 with a salt and a number of rounds of its own, in
//!    the notation of Python's passlib: base64 with `.` for `+` and without padding. Each round
//!    makes guessing from a stolen file dearer.
//! 2. What is slow by design must not stop an event loop: [`Check`] is taken some rounds at a time.
//! 3. A user who does not exist costs as much time as the dearest one who does, and digests are
//!    compared in constant time.
//! 4. A file of users is refused as a whole with the line that is wrong.
//!
//! Not here: who may see what, and for how long a verified password is remembered.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::trim_ows;

/// Rounds of a password that is hashed now. About 0.1 s of a processor for each guess from a stolen
/// file.
pub const ROUNDS: u32 = 100_000;

/// The most rounds that a file of users may ask for.
pub const ROUNDS_MAX: u32 = 10_000_000;

/// Bytes of a digest.
const DIGEST_BYTES: usize = 32;

const SCHEME: &str = "$pbkdf2-sha256$";

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a client says of itself.
#[derive(PartialEq, Eq)]
pub struct Credentials {
    /// The name.
    pub user: String,
    /// The password, as bytes: that they are UTF-8 is the client's matter.
    pub password: Vec<u8>,
}

impl Credentials {
    /// Reads the value of `Authorization`; `None` when it is another scheme or malformed.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (scheme, rest) = value.split_at_checked(5)?;
        if !scheme.eq_ignore_ascii_case(b"Basic") || !rest.starts_with(b" ") {
            return None;
        }
        let decoded = BASE64.decode(trim_ows(rest)).ok()?;
        let colon = memchr::memchr(b':', &decoded)?;
        Some(Self {
            user: str::from_utf8(&decoded[..colon]).ok()?.to_owned(),
            password: decoded[colon + 1..].to_vec(),
        })
    }
}

/// A password as it is kept.
#[derive(Clone, PartialEq, Eq)]
struct Hash {
    rounds: u32,
    salt: Vec<u8>,
    digest: [u8; DIGEST_BYTES],
}

/// The users of a site.
#[derive(Clone, PartialEq, Eq)]
pub struct Users {
    users: BTreeMap<String, Hash>,
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.users.keys()).finish() // never a digest
    }
}

/// What is wrong with a file of users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsersError {
    /// The line, from 1 on.
    pub line: usize,
    what: &'static str,
}

impl fmt::Display for UsersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for UsersError {}

impl Users {
    /// Reads a file of users: a line `USER:HASH` each; empty lines and those that begin with `#`
    /// are left out.
    ///
    /// # Errors
    /// The first line that is wrong.
    pub fn parse(text: &str) -> Result<Self, UsersError> {
        let mut users = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |what| UsersError {
                line: index + 1,
                what,
            };
            let (user, hash) = line.split_once(':').ok_or(wrong("expected USER:HASH"))?;
            if user.is_empty() || user.chars().any(char::is_control) {
                return Err(wrong("expected a name before the colon"));
            }
            let hash = Hash::parse(hash).ok_or(wrong(
                "expected a hash $pbkdf2-sha256$ROUNDS$SALT$DIGEST, as `netlab-reactor passwd` makes it",
            ))?;
            if users.insert(user.to_owned(), hash).is_some() {
                return Err(wrong("the name stands in a line above already"));
            }
        }
        Ok(Self { users })
    }

    /// Begins to check a password.
    #[must_use]
    pub fn check(&self, credentials: &Credentials) -> Check {
        let known = self.users.get(&credentials.user);
        let nobody = Hash {
            rounds: self
                .users
                .values()
                .map(|hash| hash.rounds)
                .max()
                .unwrap_or(ROUNDS),
            salt: vec![0; 16],
            digest: [0; DIGEST_BYTES],
        };
        let hash = known.unwrap_or(&nobody);
        Check {
            derivation: Derivation::new(&credentials.password, &hash.salt, hash.rounds),
            digest: hash.digest,
            is_known: known.is_some(),
        }
    }
}

/// The line of a file of users for a password, hashed with `salt`, which has to be random, in
/// `rounds` from 1 on.
#[must_use]
pub fn user_line(user: &str, password: &[u8], salt: &[u8; 16], rounds: u32) -> String {
    let mut derivation = Derivation::new(password, salt, rounds);
    derivation.step(rounds);
    let encode = |bytes: &[u8]| BASE64.encode(bytes).replace('+', ".");
    format!(
        "{user}:{SCHEME}{rounds}${}${}",
        encode(salt),
        encode(&derivation.sum)
    )
}

impl Hash {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix(SCHEME)?.split('$');
        let rounds = parts.next()?;
        let rounds: u32 = rounds
            .bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| rounds.parse().ok())??;
        let mut decoded = || BASE64.decode(parts.next()?.replace('.', "+")).ok();
        let (salt, digest) = (decoded()?, decoded()?);
        if parts.next().is_some() || !(1..=ROUNDS_MAX).contains(&rounds) {
            return None;
        }
        Some(Self {
            rounds,
            salt,
            digest: digest.try_into().ok()?,
        })
    }
}

/// A password that is being checked.
pub struct Check {
    derivation: Derivation,
    digest: [u8; DIGEST_BYTES],
    is_known: bool,
}

impl Check {
    /// Does at most so many rounds more. Whether the password is right, once they are all done.
    pub fn step(&mut self, rounds: u32) -> Option<bool> {
        self.derivation.step(rounds).then(|| {
            let same = self.derivation.sum.ct_eq(&self.digest);
            (same & subtle::Choice::from(u8::from(self.is_known))).into()
        })
    }
}

/// PBKDF2 with one block of output, which is all that a digest of the hash's own length needs (RFC
/// 8018 section 5.2).
struct Derivation {
    keyed: Hmac<Sha256>,
    last: [u8; DIGEST_BYTES],
    sum: [u8; DIGEST_BYTES],
    rounds_left: u32,
}

impl Derivation {
    fn new(password: &[u8], salt: &[u8], rounds: u32) -> Self {
        // Invariant: HMAC takes a key of any length.
        let keyed = <Hmac<Sha256> as KeyInit>::new_from_slice(password).expect("any key length");
        let first = keyed
            .clone()
            .chain_update(salt)
            .chain_update(1u32.to_be_bytes());
        let first: [u8; DIGEST_BYTES] = first.finalize().into_bytes().into();
        Self {
            keyed,
            last: first,
            sum: first,
            rounds_left: rounds - 1,
        }
    }

    /// At most so many rounds more; whether all are done.
    fn step(&mut self, rounds: u32) -> bool {
        let rounds = rounds.min(self.rounds_left);
        for _ in 0..rounds {
            let next = self.keyed.clone().chain_update(self.last);
            self.last = next.finalize().into_bytes().into();
            for (sum, byte) in self.sum.iter_mut().zip(self.last) {
                *sum ^= byte;
            }
        }
        self.rounds_left -= rounds;
        self.rounds_left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `hashlib.pbkdf2_hmac("sha256", b"tulip", b"0123456789abcdef", 1000)` of Python.
    const ANN: &str = "ann:$pbkdf2-sha256$1000$MDEyMzQ1Njc4OWFiY2RlZg$fs.rEuj8C0tajqih1Cd4IzAr5JShHdUIu3UcbkAgO8k";

    fn credentials(user: &str, password: &str) -> Credentials {
        Credentials {
            user: user.to_owned(),
            password: password.as_bytes().to_vec(),
        }
    }

    fn verify(users: &Users, user: &str, password: &str, step: u32) -> (bool, u32) {
        let mut check = users.check(&credentials(user, password));
        let mut steps = 1;
        loop {
            match check.step(step) {
                Some(verdict) => return (verdict, steps),
                None => steps += 1,
            }
        }
    }

    #[test]
    fn a_password_is_checked_in_steps() {
        let users = Users::parse(&format!("# staff\n\n{ANN}\n")).expect("a file of users");
        assert_eq!(verify(&users, "ann", "tulip", 100), (true, 10));
        assert_eq!(verify(&users, "ann", "tulip", u32::MAX), (true, 1));
        assert_eq!(verify(&users, "ann", "Tulip", 100), (false, 10));
        assert_eq!(verify(&users, "bob", "tulip", 100), (false, 10));
        assert!(!format!("{users:?}").contains("pbkdf2"));
    }

    #[test]
    fn what_is_made_is_read() {
        let line = user_line("ann", b"tulip", &[0xfb; 16], 10);
        let users = Users::parse(&line).expect(&line);
        assert_eq!(verify(&users, "ann", "tulip", u32::MAX), (true, 1));
    }

    #[test]
    fn a_wrong_line_is_named() {
        let digest = "A".repeat(43);
        for line in [
            "ann",
            ":$pbkdf2-sha256$1$AAAA$x",
            "ann:secret",
            "ann:$apr1$x$y",
            &format!("ann:$pbkdf2-sha256$0$AAAA${digest}"),
            &format!("ann:$pbkdf2-sha256$+1$AAAA${digest}"),
            &format!("ann:$pbkdf2-sha256$10000001$AAAA${digest}"),
            &format!("ann:$pbkdf2-sha256$1$AAAA${digest}$"),
            "ann:$pbkdf2-sha256$1$AAAA$AAAA",
        ] {
            let error = Users::parse(&format!("#\n{line}\n")).map_err(|error| error.line);
            assert_eq!(error, Err(2), "{line}");
        }
        let twice = Users::parse(&format!("{ANN}\n{ANN}\n"));
        assert_eq!(twice.map_err(|error| error.line), Err(2));
    }

    #[test]
    fn credentials_are_read_from_a_header() {
        let parse = |value: &str| {
            Credentials::parse(value.as_bytes())
                .map(|c| (c.user, String::from_utf8_lossy(&c.password).into_owned()))
        };
        let ann = || Some(("ann".to_owned(), "tu:lip".to_owned()));
        assert_eq!(parse("Basic YW5uOnR1OmxpcA=="), ann());
        assert_eq!(parse("bAsIc   YW5uOnR1OmxpcA"), ann());
        for wrong in [
            "",
            "Basic",
            "BasicYW5uOng=",
            "Bearer YW5uOng=",
            "Basic !",
            "Basic YW5u",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
