//! The upload handshakes: the server sends a random challenge, the client proves that it knows the
//! secret.
//!
//! | handshake     | answer of the client                                             | bytes |
//! |---------------|------------------------------------------------------------------|-------|
//! | `none`        | no challenge, no answer                                          | 0     |
//! | `sha1`        | lower-case hexadecimal of SHA-1(secret ‖ challenge)              | 40    |
//! | `hmac-md5`    | raw HMAC-MD5 of the challenge under the secret (RFC 2104)        | 16    |
//! | `hmac-sha1`   | raw HMAC-SHA-1                                                   | 20    |
//! | `hmac-sha256` | raw HMAC-SHA-256                                                 | 32    |
//!
//! Rules:
//! - Answers are compared in constant time; a wrong length is simply wrong.
//! - A [`Secret`] never shows in `Debug` output, so never in a log.
//!
//! Not here: where the challenge's random bytes come from, and what follows a right or wrong
//! answer.

use std::fmt;
use std::str::FromStr;

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::hex;

/// Bytes of a challenge.
pub const CHALLENGE_BYTES: usize = 32;

/// Bytes of the longest answer.
pub const ANSWER_BYTES_MAX: usize = 40;

/// Which proof an upload listener asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Handshake {
    /// No challenge: the first file comes at once.
    None,
    /// Hexadecimal SHA-1 of the secret followed by the challenge.
    Sha1,
    /// Raw HMAC-MD5; what plain clients speak when nothing else was agreed.
    #[default]
    HmacMd5,
    /// Raw HMAC-SHA-1.
    HmacSha1,
    /// Raw HMAC-SHA-256; the one to choose where both sides can.
    HmacSha256,
}

impl Handshake {
    /// Every handshake, in the order of the table above.
    pub const ALL: [Self; 5] = [
        Self::None,
        Self::Sha1,
        Self::HmacMd5,
        Self::HmacSha1,
        Self::HmacSha256,
    ];

    /// The names of [`Handshake::ALL`], as configuration files and command lines write them.
    pub const NAMES: [&'static str; 5] = ["none", "sha1", "hmac-md5", "hmac-sha1", "hmac-sha256"];

    /// The name in configuration files and on command lines.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// Whether the server sends a challenge, and so whether both sides need a secret.
    pub fn needs_secret(self) -> bool {
        self != Self::None
    }

    /// Bytes of the answer: 0 where there is no challenge.
    pub fn answer_bytes(self) -> usize {
        match self {
            Self::None => 0,
            Self::Sha1 => 40,
            Self::HmacMd5 => 16,
            Self::HmacSha1 => 20,
            Self::HmacSha256 => 32,
        }
    }

    /// What a client that knows `secret` answers to `challenge`; empty for [`Handshake::None`].
    pub fn answer(self, secret: &Secret, challenge: &[u8; CHALLENGE_BYTES]) -> Vec<u8> {
        match self {
            Self::None => Vec::new(),
            Self::Sha1 => {
                let digest = Sha1::new()
                    .chain_update(secret.expose())
                    .chain_update(challenge)
                    .finalize();
                hex::encode(&digest).into_bytes()
            }
            Self::HmacMd5 => mac::<Hmac<Md5>>(secret, challenge),
            Self::HmacSha1 => mac::<Hmac<Sha1>>(secret, challenge),
            Self::HmacSha256 => mac::<Hmac<Sha256>>(secret, challenge),
        }
    }

    /// Whether `answer` is the right one, in a time that does not depend on where it differs.
    pub fn verify(self, secret: &Secret, challenge: &[u8; CHALLENGE_BYTES], answer: &[u8]) -> bool {
        self.answer(secret, challenge).ct_eq(answer).into()
    }
}

/// The MAC of `message` under `secret`.
fn mac<M: Mac + KeyInit>(secret: &Secret, message: &[u8]) -> Vec<u8> {
    // Invariant: HMAC takes a key of any length (RFC 2104, section 2).
    let mac = <M as KeyInit>::new_from_slice(secret.expose()).expect("HMAC takes any key length");
    mac.chain_update(message).finalize().into_bytes().to_vec()
}

impl fmt::Display for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A handshake name that is none of [`Handshake::NAMES`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownHandshake(String);

impl fmt::Display for UnknownHandshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "no handshake is named {:?}; there are {}",
            self.0,
            Handshake::NAMES.join(", ")
        )
    }
}

impl std::error::Error for UnknownHandshake {}

impl FromStr for Handshake {
    type Err = UnknownHandshake;

    fn from_str(name: &str) -> Result<Self, UnknownHandshake> {
        let known = Self::ALL
            .into_iter()
            .find(|handshake| handshake.name() == name);
        known.ok_or_else(|| UnknownHandshake(name.to_owned()))
    }
}

/// A secret or a password: bytes that are used, never shown.
#[derive(Clone, Default, Deserialize)]
#[serde(from = "String")]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes the bytes as they are: a trailing newline from a file is part of them unless the
    /// caller cut it.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// A secret as it stands in a file: one line ending at the very end (`\n` or `\r\n`) is not
    /// part of it.
    pub fn from_file_text(mut bytes: Vec<u8>) -> Self {
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        Self(bytes)
    }

    /// Whether there is nothing in it, which no handshake should accept as a secret.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes, for a digest or the wire; never for a message to a person.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into_bytes())
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::from(text))
    }
}

/// Shows that there is a secret, not which one nor how long.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() {
            "Secret(empty)"
        } else {
            "Secret(hidden)"
        })
    }
}

/// Equality takes the same time wherever two secrets of one length differ.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Secret {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_and_print() {
        for handshake in Handshake::ALL {
            assert_eq!(handshake.name().parse(), Ok(handshake));
            assert_eq!(
                serde_json::to_string(&handshake).unwrap(),
                format!("\"{handshake}\"")
            );
        }
        let error = "md5".parse::<Handshake>().unwrap_err().to_string();
        assert_eq!(
            error,
            "no handshake is named \"md5\"; there are none, sha1, hmac-md5, hmac-sha1, hmac-sha256"
        );
    }

    #[test]
    fn answers_have_their_length_and_verify() {
        let secret = Secret::from("open sesame");
        let challenge = [7; CHALLENGE_BYTES];
        for handshake in Handshake::ALL {
            let answer = handshake.answer(&secret, &challenge);
            assert_eq!(answer.len(), handshake.answer_bytes(), "{handshake}");
            assert!(answer.len() <= ANSWER_BYTES_MAX);
            assert!(handshake.verify(&secret, &challenge, &answer));
            if handshake.needs_secret() {
                assert!(!handshake.verify(&Secret::from("open barley"), &challenge, &answer));
                assert!(!handshake.verify(&secret, &challenge, &answer[1..]));
                assert!(!handshake.verify(&secret, &challenge, b""));
            }
        }
    }

    /// Computed with Python's `hashlib` and `hmac` for the secret `secret` and the bytes 0 to 31.
    #[test]
    fn answers_are_what_python_computes() {
        let secret = Secret::from("secret");
        let challenge: [u8; CHALLENGE_BYTES] = std::array::from_fn(|index| index as u8);
        let hex_of = |handshake: Handshake| hex::encode(&handshake.answer(&secret, &challenge));
        assert_eq!(
            Handshake::Sha1.answer(&secret, &challenge),
            b"470e797136d0d56df28783dde96302ea3a8e18ac"
        );
        assert_eq!(
            hex_of(Handshake::HmacMd5),
            "0daba9e53256b66a2aa1fd3d7346bf04"
        );
        assert_eq!(
            hex_of(Handshake::HmacSha1),
            "5f7b8fa8f5481264d48ba58112ec0636ee4a0b74"
        );
        assert_eq!(
            hex_of(Handshake::HmacSha256),
            "47860bcbb991426bea828dbf6097dff33339b093e3b9f61d9aef8a052f93e402"
        );
    }

    #[test]
    fn a_secret_is_never_shown() {
        let shown = format!("{:?} {:?}", Secret::from("tell nobody"), Secret::default());
        assert_eq!(shown, "Secret(hidden) Secret(empty)");
    }

    #[test]
    fn a_secret_file_may_end_with_one_line_ending() {
        assert_eq!(Secret::from_file_text(b"a b\r\n".to_vec()).expose(), b"a b");
        assert_eq!(Secret::from_file_text(b"a\n\n".to_vec()).expose(), b"a\n");
        assert_eq!(Secret::from_file_text(b"a".to_vec()).expose(), b"a");
    }
}
