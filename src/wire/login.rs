//! The upload login: one JSON object each way, with no length in front.
//!
//! ```text
//! client  {"operate": "login", "user": "ann", "passwd": "tulip"}
//! server  {"flag": true}            or {"flag": false}, after which it closes
//! ```
//!
//! Rules:
//! - Where an object ends is found by [`ObjectScanner`], which looks at each byte once however the
//!   stream is cut, and gives up at a bound. What follows the object belongs to whatever comes
//!   next.
//!
//! Not here: the file of users (`super::user_file`), and how often a peer may try.

use std::fmt;

use serde::Serialize;

use super::JSON_BLANKS;
use super::challenge::Secret;

/// The longest login object that anybody needs, in bytes; a sensible limit for
/// [`ObjectScanner::new`].
pub const LOGIN_BYTES_MAX: usize = 4096;

/// What the server sends when user and password are right: these bytes exactly.
pub const ACCEPTED: &[u8] = b"{\"flag\": true}";

/// What the server sends before it closes when they are not: these bytes exactly.
pub const REFUSED: &[u8] = b"{\"flag\": false}";

/// Finds the end of one JSON object in a stream that arrives in pieces.
///
/// It follows braces and strings only; whether the text between is JSON is for the parser to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectScanner {
    limit: usize,
    scanned: usize,
    place: Place,
}

/// Where in the object the scanner stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Before,
    Inside { depth: usize },
    Text { depth: usize },
    Escape { depth: usize },
    After,
}

/// Why no JSON object can be at the front of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanError {
    /// The first byte that is not white space does not open an object.
    NotAnObject {
        /// That byte.
        found: u8,
    },
    /// The object does not end within the limit.
    TooLong {
        /// The limit, in bytes.
        limit: usize,
    },
}

impl fmt::Display for ScanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnObject { found } => {
                write!(
                    f,
                    "expected a JSON object, found a byte {found:#04x} ({:?})",
                    char::from(*found)
                )
            }
            Self::TooLong { limit } => {
                write!(f, "the JSON object does not end within {limit} bytes")
            }
        }
    }
}

impl std::error::Error for ScanError {}

impl ObjectScanner {
    /// A scanner for one object of at most `limit` bytes, white space in front of it included.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            scanned: 0,
            place: Place::Before,
        }
    }

    /// Looks on in `bytes`, which is everything since the front of the object: what was there at
    /// the last call, and more. Answers how many bytes the object takes once it is whole, `None`
    /// before; the same again when called again.
    ///
    /// # Errors
    /// Something else than an object, or one that is longer than the limit.
    pub fn scan(&mut self, bytes: &[u8]) -> Result<Option<usize>, ScanError> {
        for &byte in bytes.iter().take(self.limit).skip(self.scanned) {
            if self.place == Place::After {
                break;
            }
            self.place = self.place.next(byte)?;
            self.scanned += 1;
        }
        if self.place == Place::After {
            Ok(Some(self.scanned))
        } else if self.scanned >= self.limit {
            Err(ScanError::TooLong { limit: self.limit })
        } else {
            Ok(None)
        }
    }
}

impl Place {
    fn next(self, byte: u8) -> Result<Self, ScanError> {
        Ok(match (self, byte) {
            (Self::Before, b'{') => Self::Inside { depth: 1 },
            (Self::Before, byte) if JSON_BLANKS.contains(&byte) => Self::Before,
            (Self::Before, found) => return Err(ScanError::NotAnObject { found }),
            (Self::Inside { depth }, b'{') => Self::Inside { depth: depth + 1 },
            (Self::Inside { depth: 1 }, b'}') => Self::After,
            (Self::Inside { depth }, b'}') => Self::Inside { depth: depth - 1 },
            (Self::Inside { depth }, b'"') => Self::Text { depth },
            (Self::Text { depth }, b'\\') => Self::Escape { depth },
            (Self::Text { depth }, b'"') => Self::Inside { depth },
            (Self::Escape { depth }, _) => Self::Text { depth },
            (place, _) => place,
        })
    }
}

/// Who wants to log in. Unknown keys of the object are ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The user's name.
    pub user: String,
    /// The password, in clear: that is the protocol.
    pub password: Secret,
}

/// Why an object is not a login; the words never quote a value of the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginError(String);

impl fmt::Display for LoginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a login: {}", self.0)
    }
}

impl std::error::Error for LoginError {}

impl Login {
    /// Reads one whole object.
    ///
    /// # Errors
    /// Anything but an object with `"operate": "login"` and texts `user` and `passwd`.
    pub fn parse(object: &[u8]) -> Result<Self, LoginError> {
        let value = super::json_object(object).map_err(LoginError)?;
        let text = |key: &str| match value.get(key) {
            Some(serde_json::Value::String(text)) => Ok(text.as_str()),
            Some(_) => Err(LoginError(format!("{key:?} is not a text"))),
            None => Err(LoginError(format!("{key:?} is missing"))),
        };
        if text("operate")? != "login" {
            return Err(LoginError("\"operate\" is not \"login\"".to_owned()));
        }
        Ok(Self {
            user: text("user")?.to_owned(),
            password: Secret::from(text("passwd")?),
        })
    }

    /// The object that a client sends.
    pub fn to_json(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Object<'a> {
            operate: &'a str,
            user: &'a str,
            passwd: &'a str,
        }
        let passwd = String::from_utf8_lossy(self.password.expose());
        let object = Object {
            operate: "login",
            user: &self.user,
            passwd: &passwd,
        };
        // Invariant: texts always have a JSON form, and a Vec always takes them.
        serde_json::to_vec(&object).expect("texts serialise")
    }
}

/// What the server's answer says.
///
/// # Errors
/// An object without a truth value `flag`.
pub fn parse_answer(object: &[u8]) -> Result<bool, LoginError> {
    let object = super::json_object(object).map_err(LoginError)?;
    let flag = object.get("flag").and_then(serde_json::Value::as_bool);
    flag.ok_or_else(|| LoginError("\"flag\" is not true or false".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LOGIN: &[u8] = br#"{"operate": "login", "user": "ann", "passwd": "tu\"}lip"}"#;

    #[test]
    fn the_end_is_found_at_every_cut_and_what_follows_is_left() {
        let mut stream = LOGIN.to_vec();
        stream.extend_from_slice(b"\x10\0\0\0{\"filename\"");
        let mut scanner = ObjectScanner::new(LOGIN_BYTES_MAX);
        for cut in 0..LOGIN.len() {
            assert_eq!(scanner.scan(&stream[..cut]), Ok(None), "at {cut}");
        }
        assert_eq!(scanner.scan(&stream), Ok(Some(LOGIN.len())));
        assert_eq!(scanner.scan(&stream), Ok(Some(LOGIN.len())));
    }

    #[test]
    fn nested_objects_and_leading_space() {
        assert_eq!(
            ObjectScanner::new(99).scan(b" \r\n{\"a\":{\"b\":\"{\"}} {"),
            Ok(Some(18))
        );
    }

    #[test]
    fn other_bytes_and_endless_objects_are_refused() {
        assert_eq!(
            ObjectScanner::new(99).scan(b" ["),
            Err(ScanError::NotAnObject { found: b'[' })
        );
        let mut scanner = ObjectScanner::new(8);
        assert_eq!(scanner.scan(b"{\"aaaaa"), Ok(None));
        assert_eq!(
            scanner.scan(b"{\"aaaaaa"),
            Err(ScanError::TooLong { limit: 8 })
        );
        assert_eq!(
            scanner.scan(b"{\"aaaaaa\"}"),
            Err(ScanError::TooLong { limit: 8 })
        );
        assert_eq!(ObjectScanner::new(8).scan(b"{\"aaaa\"}"), Ok(Some(8)));
    }

    #[test]
    fn a_login_parses_and_comes_back() {
        let login = Login::parse(LOGIN).unwrap();
        assert_eq!(login.user, "ann");
        assert_eq!(login.password.expose(), b"tu\"}lip");
        assert_eq!(Login::parse(&login.to_json()), Ok(login.clone()));
        assert!(!format!("{login:?}").contains("lip"));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let message = |object: &[u8]| Login::parse(object).unwrap_err().to_string();
        assert_eq!(message(b"{}"), "not a login: \"operate\" is missing");
        assert_eq!(
            message(br#"{"operate":"logout"}"#),
            "not a login: \"operate\" is not \"login\""
        );
        assert_eq!(
            message(br#"{"operate":"login","user":"a"}"#),
            "not a login: \"passwd\" is missing"
        );
        assert_eq!(
            message(br#"{"operate":"login","user":1}"#),
            "not a login: \"user\" is not a text"
        );
        assert!(message(b"{").starts_with("not a login: EOF"));
    }

    #[test]
    fn answers_parse() {
        assert_eq!(parse_answer(ACCEPTED), Ok(true));
        assert_eq!(parse_answer(REFUSED), Ok(false));
        assert!(parse_answer(b"{\"flag\": 1}").is_err());
    }

    proptest! {
        #[test]
        fn any_fragmentation_finds_the_same_end(bytes in "[ {}\"\\\\a]{0,40}", cuts in proptest::collection::vec(0_usize..40, 0..6)) {
            let bytes = bytes.as_bytes();
            let whole = ObjectScanner::new(30).scan(bytes);
            let mut scanner = ObjectScanner::new(30);
            let mut ends: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            ends.push(bytes.len());
            ends.sort_unstable();
            let mut answer = Ok(None);
            for end in ends {
                answer = scanner.scan(&bytes[..end]);
                if answer != Ok(None) {
                    break;
                }
            }
            prop_assert_eq!(answer, whole);
        }
    }
}
