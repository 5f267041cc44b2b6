//! The upload protocol after handshake and login: a JSON header in a frame, then the raw bytes of
//! the file, and so on.
//!
//! ```text
//! client  i32le length, {"filename": "a.txt", "filesize": 5}, 5 bytes
//!         with "ack": true also:  server  frame {"ready": true, "offset": 0}, and after the body
//!                                         frame {"ok": true, "filename": …, "size": …, "sha256": …}
//!                                 or at either place  frame {"ok": false, "error": CODE, "message": TEXT}
//! ```
//!
//! Rules:
//! - A header is parsed into [`FileHeader`] or refused with words that name the key and what is
//!   wrong with it.
//! - A file name becomes a [`SafeName`] or nothing: the last component, one plain visible file in
//!   the target folder, that other systems can have as well. Nothing in it is replaced: two names
//!   would become one.
//! - Blanks in front of a header are passed over ([`blanks_before_header`]): a client that ends its
//!   login, or its answer to a challenge, as a line is as good as another.
//! - Unknown keys are ignored, so that either side may be older.
//!
//! Not here: frames (see [`super::frame`]), digests of the body, files.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

use super::frame::{self, LENGTH_BYTES};
use super::text::is_hidden;
use super::{JSON_BLANKS, hex};

/// The longest header or answer that anybody needs, in bytes; a sensible limit for
/// [`super::frame::decode`].
pub const HEADER_BYTES_MAX: usize = 64 * 1024;

/// The longest file name that the usual file systems take, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// What is left of a name in front of its extension when it is cut for a version's number: longer
/// than the name of any device, which might otherwise be what is left.
const STEM_BYTES_MIN: usize = 16;

/// What a client says about the file that follows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileHeader {
    /// The name as the client wrote it; see [`SafeName::reduce`].
    pub filename: String,
    /// How many bytes follow the header (less those of the offset, when resuming).
    pub size_bytes: u64,
    /// The client wants `ready` and a final answer.
    pub ack: bool,
    /// The SHA-256 of the whole file, to be checked.
    pub sha256: Option<[u8; 32]>,
    /// The client waits for `ready` and sends from its offset.
    pub resume: bool,
    /// The client waits for the answer: the final one in place of `ready` says that a file of this
    /// name, size and digest is there already, and no bytes follow.
    pub skip_same: bool,
    /// The folder below the target that the file goes to, its components separated by `/`.
    pub folder: Option<String>,
}

/// Whether a header that may be malformed otherwise asks for answers: then its client can be told
/// what is wrong with it.
pub fn asks_for_ack(json: &[u8]) -> bool {
    let object = super::json_object(json);
    object.is_ok_and(|object| object.get("ack") == Some(&Value::Bool(true)))
}

/// What is wrong with a header; displayed as a sentence that names the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderError {
    /// The bytes are not a JSON object.
    NotAnObject {
        /// The JSON parser's words, or what was found instead; nothing of the client's text.
        message: String,
    },
    /// A key that must be there is not.
    Missing {
        /// The key.
        key: &'static str,
    },
    /// A value has the wrong type or form.
    Wrong {
        /// The key.
        key: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// The file is larger than the receiver takes.
    TooLarge {
        /// What was announced, in bytes.
        size_bytes: u64,
        /// The limit, in bytes.
        limit: u64,
    },
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnObject { message } => {
                write!(f, "the file header is not a JSON object: {message}")
            }
            Self::Missing { key } => write!(f, "the file header has no {key:?}"),
            Self::Wrong { key, expected } => {
                write!(f, "{key:?} in the file header is not {expected}")
            }
            Self::TooLarge { size_bytes, limit } => {
                write!(
                    f,
                    "\"filesize\" is {size_bytes}, above the limit of {limit} bytes"
                )
            }
        }
    }
}

impl std::error::Error for HeaderError {}

impl FileHeader {
    /// Reads a header.
    ///
    /// # Errors
    /// Anything but an object with a text `filename` and an integer `filesize` from 0 to
    /// `size_bytes_max`; a malformed `ack`, `sha256`, `resume`, `skip_same` or `folder`; `resume`
    /// or `skip_same` without the first two.
    pub fn parse(json: &[u8], size_bytes_max: u64) -> Result<Self, HeaderError> {
        let object =
            super::json_object(json).map_err(|message| HeaderError::NotAnObject { message })?;
        let filename = text(&object, "filename")?;
        let ack = flag(&object, "ack")?;
        let header = Self {
            filename: filename.ok_or(HeaderError::Missing { key: "filename" })?,
            size_bytes: size(&object, size_bytes_max)?,
            ack,
            sha256: digest(&object)?,
            resume: flag(&object, "resume")?,
            // A plain client's header may hold anything under these names.
            skip_same: ack && flag(&object, "skip_same")?,
            folder: match object.get("folder") {
                Some(value) if ack && !value.is_null() => text(&object, "folder")?,
                _ => None,
            },
        };
        let is_known = ack && header.sha256.is_some();
        for (key, is_set) in [("resume", header.resume), ("skip_same", header.skip_same)] {
            if is_set && !is_known {
                return Err(HeaderError::Wrong {
                    key,
                    expected: "allowed without \"ack\" and \"sha256\"",
                });
            }
        }
        Ok(header)
    }

    /// The header as JSON, without keys that say nothing.
    pub fn to_json(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Object<'a> {
            filename: &'a str,
            filesize: u64,
            #[serde(skip_serializing_if = "std::ops::Not::not")]
            ack: bool,
            #[serde(skip_serializing_if = "Option::is_none")]
            sha256: Option<String>,
            #[serde(skip_serializing_if = "std::ops::Not::not")]
            resume: bool,
            #[serde(skip_serializing_if = "std::ops::Not::not")]
            skip_same: bool,
            #[serde(skip_serializing_if = "Option::is_none")]
            folder: Option<&'a str>,
        }
        to_vec(&Object {
            filename: &self.filename,
            filesize: self.size_bytes,
            ack: self.ack,
            sha256: self.sha256.map(|digest| hex::encode(&digest)),
            resume: self.resume,
            skip_same: self.skip_same,
            folder: self.folder.as_deref(),
        })
    }
}

fn text(object: &Map<String, Value>, key: &'static str) -> Result<Option<String>, HeaderError> {
    match object.get(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(HeaderError::Wrong {
            key,
            expected: "a text",
        }),
    }
}

fn size(object: &Map<String, Value>, size_bytes_max: u64) -> Result<u64, HeaderError> {
    let value = object
        .get("filesize")
        .ok_or(HeaderError::Missing { key: "filesize" })?;
    match value.as_u64() {
        Some(size_bytes) if size_bytes > size_bytes_max => Err(HeaderError::TooLarge {
            size_bytes,
            limit: size_bytes_max,
        }),
        Some(size_bytes) => Ok(size_bytes),
        None if value.as_i64().is_some() => Err(HeaderError::Wrong {
            key: "filesize",
            expected: "a size: it is negative",
        }),
        None => Err(HeaderError::Wrong {
            key: "filesize",
            expected: "an integer",
        }),
    }
}

fn flag(object: &Map<String, Value>, key: &'static str) -> Result<bool, HeaderError> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(HeaderError::Wrong {
            key,
            expected: "true or false",
        }),
    }
}

fn digest(object: &Map<String, Value>) -> Result<Option<[u8; 32]>, HeaderError> {
    let wrong = HeaderError::Wrong {
        key: "sha256",
        expected: "a text of 64 hexadecimal digits",
    };
    match object.get("sha256") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(digits)) => hex::decode(digits.as_bytes()).map(Some).ok_or(wrong),
        Some(_) => Err(wrong),
    }
}

fn to_vec(object: &impl Serialize) -> Vec<u8> {
    // Invariant: the structs of this file hold texts, numbers and truth values, which all have a
    // JSON form.
    serde_json::to_vec(object).expect("plain values serialise")
}

/// How many blanks stand in front of the header whose frame begins `bytes`; `None` if more bytes
/// are needed to tell. What follows the blanks may be no header: that is for the frame's reader to
/// say.
///
/// The length of a header may begin with the code of a blank: `20 00 00 00 {` is a header of 32
/// bytes. So a blank belongs to a length where that is within `limit` and JSON of an object comes
/// behind it. In front of a length it does not: the byte that would have to begin the JSON is then
/// one of the real length's last, which are zero below a limit of half a megabyte.
pub fn blanks_before_header(bytes: &[u8], limit: usize) -> Option<usize> {
    let is_blank = |byte: &u8| JSON_BLANKS.contains(byte);
    let begins = |rest: &[u8]| match rest.split_first_chunk::<LENGTH_BYTES>() {
        Some((length, [first, ..])) => Some(
            frame::decode_length(*length, limit).is_ok() && (*first == b'{' || is_blank(first)),
        ),
        _ => None,
    };
    for blanks in 0..bytes.len() {
        if !is_blank(&bytes[blanks]) || begins(&bytes[blanks..])? {
            return Some(blanks);
        }
    }
    None
}

/// Whether these bytes, which came where a header may begin, are blanks and thus none of it so far.
pub fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| JSON_BLANKS.contains(byte))
}

/// Why a file is not taken: the `error` of a refusal. The list is closed, but another server may
/// have other words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The header is not what it has to be.
    BadHeader,
    /// Nothing safe is left of the name.
    BadName,
    /// The file is larger than the server takes.
    TooLarge,
    /// There is a file of that name, and it may not be replaced.
    Exists,
    /// The disk has no room for it.
    NoSpace,
    /// All files together, or those of the user, would be more than they may be.
    Quota,
    /// The same file is being received on another connection.
    Busy,
    /// What came is not what the digest was made of.
    DigestMismatch,
    /// The client, or the disk, took too long.
    Timeout,
    /// The disk failed.
    Storage,
}

impl Code {
    /// All of them.
    pub const ALL: [Code; 10] = [
        Code::BadHeader,
        Code::BadName,
        Code::TooLarge,
        Code::Exists,
        Code::NoSpace,
        Code::Quota,
        Code::Busy,
        Code::DigestMismatch,
        Code::Timeout,
        Code::Storage,
    ];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Code::BadHeader => "bad_header",
            Code::BadName => "bad_name",
            Code::TooLarge => "too_large",
            Code::Exists => "exists",
            Code::NoSpace => "no_space",
            Code::Quota => "quota",
            Code::Busy => "busy",
            Code::DigestMismatch => "digest_mismatch",
            Code::Timeout => "timeout",
            Code::Storage => "storage",
        }
    }
}

/// A frame from the server to a client that asked for `ack`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The file may come, from this offset on.
    Ready {
        /// How many bytes the server has already.
        offset: u64,
    },
    /// The file is durable under this name.
    Stored {
        /// The name that it got, which may be a version.
        filename: String,
        /// Its size in bytes.
        size_bytes: u64,
        /// The digest of what was stored.
        sha256: [u8; 32],
    },
    /// The file is not taken.
    Refused {
        /// A short word for programs: that of a [`Code`], if the server is one of ours.
        error: String,
        /// A sentence for people.
        message: String,
    },
}

impl Answer {
    /// The answer as JSON, to be framed.
    pub fn to_json(&self) -> Vec<u8> {
        #[derive(Serialize)]
        #[serde(untagged)]
        enum Object<'a> {
            Ready {
                ready: bool,
                offset: u64,
            },
            Stored {
                ok: bool,
                filename: &'a str,
                size: u64,
                sha256: String,
            },
            Refused {
                ok: bool,
                error: &'a str,
                message: &'a str,
            },
        }
        to_vec(&match self {
            Self::Ready { offset } => Object::Ready {
                ready: true,
                offset: *offset,
            },
            Self::Stored {
                filename,
                size_bytes,
                sha256,
            } => Object::Stored {
                ok: true,
                filename,
                size: *size_bytes,
                sha256: hex::encode(sha256),
            },
            Self::Refused { error, message } => Object::Refused {
                ok: false,
                error,
                message,
            },
        })
    }

    /// Reads an answer; `None` when it is none of the three.
    pub fn parse(json: &[u8]) -> Option<Self> {
        let object: Map<String, Value> = serde_json::from_slice(json).ok()?;
        let text = |key: &str| object.get(key).and_then(Value::as_str);
        let number = |key: &str| object.get(key).and_then(Value::as_u64);
        let truth = |key: &str| object.get(key).and_then(Value::as_bool);
        match (truth("ready"), truth("ok")) {
            (Some(true), _) => Some(Self::Ready {
                offset: number("offset")?,
            }),
            (_, Some(true)) => Some(Self::Stored {
                filename: text("filename")?.to_owned(),
                size_bytes: number("size")?,
                sha256: hex::decode(text("sha256")?.as_bytes())?,
            }),
            (_, Some(false)) => Some(Self::Refused {
                error: text("error").unwrap_or("unknown").to_owned(),
                message: text("message").unwrap_or_default().to_owned(),
            }),
            _ => None,
        }
    }
}

/// A name that denotes one visible file directly in whatever folder it is joined to.
///
/// Not empty, at most [`NAME_BYTES_MAX`] bytes, no `/`, `\`, NUL or other [hidden](is_hidden)
/// character, not beginning with a dot or a hyphen.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SafeName(String);

/// Why nothing safe is left of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameError {
    /// It has no last component, as in `""` or `"folder/"`.
    Empty,
    /// Its last component begins with a dot: `.`, `..` and hidden files, so that nobody plants a
    /// shell's or a web server's settings, or reaches our own `.partial`.
    Dot,
    /// Its last component begins with a hyphen, and would be an option to the next command that is
    /// given `*`.
    Hyphen,
    /// It holds a character that cannot be seen or changes what is seen, NUL and line ends among
    /// them.
    Hidden {
        /// The first such character.
        found: char,
    },
    /// Its last component is longer than [`NAME_BYTES_MAX`]; cutting it could make two names one.
    TooLong,
    /// It holds one of the characters that Windows has other uses for, such as `:`.
    Special {
        /// The first such character.
        found: char,
    },
    /// It is a device on Windows, whatever its extension: `CON`, `nul.txt`.
    Device,
    /// It begins or ends with white space, or ends with a dot: Windows takes the end off, and
    /// nobody sees either.
    Edge,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the name is empty or ends with a separator"),
            Self::Dot => f.write_str("the name begins with a dot"),
            Self::Hyphen => f.write_str("the name begins with a hyphen, as an option does"),
            Self::Hidden { found } => write!(
                f,
                "the name holds a character that is not seen: U+{:04X}",
                u32::from(*found)
            ),
            Self::TooLong => write!(f, "the name is longer than {NAME_BYTES_MAX} bytes"),
            Self::Special { found } => {
                write!(f, "the name holds {found:?}, which not every system takes")
            }
            Self::Device => f.write_str("the name is that of a device on some systems"),
            Self::Edge => f.write_str("the name begins or ends with a blank, or ends with a dot"),
        }
    }
}

impl std::error::Error for NameError {}

impl SafeName {
    /// Reduces a name from a peer to its last component, both `/` and `\` separating:
    /// `..\..\boot.ini` is `boot.ini`.
    ///
    /// # Errors
    /// See [`NameError`]; the last three are for [`SafeName::reduce_portable`].
    pub fn reduce(name: &str) -> Result<Self, NameError> {
        let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
        if last.is_empty() {
            Err(NameError::Empty)
        } else if last.starts_with('.') {
            Err(NameError::Dot)
        } else if last.starts_with('-') {
            Err(NameError::Hyphen)
        } else if let Some(found) = last.chars().find(|c| is_hidden(*c)) {
            Err(NameError::Hidden { found })
        } else if last.len() > NAME_BYTES_MAX {
            Err(NameError::TooLong)
        } else {
            Ok(Self(last.to_owned()))
        }
    }

    /// The same for a file that others will fetch, back up or copy to systems of their own: its
    /// name is one that Windows can have as well ("Naming Files, Paths, and Namespaces" of its
    /// documentation).
    ///
    /// # Errors
    /// See [`NameError`].
    pub fn reduce_portable(name: &str) -> Result<Self, NameError> {
        let name = Self::reduce(name)?;
        let text = name.as_str();
        if let Some(found) = text.chars().find(|c| "<>:\"|?*".contains(*c)) {
            Err(NameError::Special { found })
        } else if text.trim() != text || text.ends_with('.') {
            Err(NameError::Edge)
        } else if is_device(text) {
            Err(NameError::Device)
        } else {
            Ok(name)
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of version `number` of this file: `STEM.1.EXT`, `STEM.1` without an extension, the
    /// stem cut where the whole would be too long. Number 0 is the file itself.
    pub fn version(&self, number: u32) -> Self {
        if number == 0 {
            return self.clone();
        }
        let dot = self.0.rfind('.').unwrap_or(self.0.len());
        let (stem, extension) = self.0.split_at(dot);
        let suffix = format!(".{number}{extension}");
        // An extension that leaves little room for a stem is no extension: then the number goes to
        // the end.
        let (stem, suffix) = if suffix.len() <= NAME_BYTES_MAX - STEM_BYTES_MIN {
            (stem, suffix)
        } else {
            (self.as_str(), format!(".{number}"))
        };
        let room = stem.floor_char_boundary(NAME_BYTES_MAX - suffix.len());
        Self(format!("{}{suffix}", &stem[..room]))
    }
}

/// Whether Windows takes this for a device: by what stands in front of the first dot, blanks at its
/// end and case aside.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default();
    let stem = stem.trim_end().to_ascii_uppercase();
    let port = stem
        .strip_prefix("COM")
        .or_else(|| stem.strip_prefix("LPT"));
    match port {
        Some(number) => {
            let mut digits = number.chars();
            let digit = digits.next();
            digit.is_some_and(|c| c.is_ascii_digit() || "¹²³".contains(c))
                && digits.next().is_none()
        }
        None => ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"].contains(&&*stem),
    }
}

impl AsRef<std::path::Path> for SafeName {
    fn as_ref(&self) -> &std::path::Path {
        self.0.as_ref()
    }
}

impl fmt::Display for SafeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn headers_come_back() {
        let plain = FileHeader {
            filename: "ä.txt".into(),
            size_bytes: 5,
            ..FileHeader::default()
        };
        assert_eq!(
            plain.to_json(),
            "{\"filename\":\"ä.txt\",\"filesize\":5}".as_bytes()
        );
        let full = FileHeader {
            ack: true,
            sha256: Some([0xab; 32]),
            resume: true,
            skip_same: true,
            folder: Some("a/ä".into()),
            ..plain.clone()
        };
        for header in [plain, full] {
            assert_eq!(FileHeader::parse(&header.to_json(), 5), Ok(header));
        }
        for old in [r#""mode": [1]"#, r#""folder": 7, "skip_same": "no""#] {
            let old = format!(r#"{{"filename": "a", "filesize": 0, {old}}}"#);
            let header = FileHeader::parse(old.as_bytes(), 0).unwrap();
            assert_eq!((header.filename.as_str(), header.folder), ("a", None));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let message = |json: &str| {
            FileHeader::parse(json.as_bytes(), 1000)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            message("[1]"),
            "the file header is not a JSON object: it is a list"
        );
        assert_eq!(
            message(&format!("{:?}", "x".repeat(60_000))),
            "the file header is not a JSON object: it is a text"
        );
        assert!(message("").starts_with("the file header is not a JSON object: EOF"));
        assert_eq!(message("{}"), "the file header has no \"filename\"");
        assert_eq!(
            message(r#"{"filename":"a"}"#),
            "the file header has no \"filesize\""
        );
        assert_eq!(
            message(r#"{"filename":1,"filesize":1}"#),
            "\"filename\" in the file header is not a text"
        );
        let size = |value: &str| message(&format!("{{\"filename\":\"a\",\"filesize\":{value}}}"));
        assert_eq!(
            size("-1"),
            "\"filesize\" in the file header is not a size: it is negative"
        );
        for value in ["1.5", "\"1\"", "null", "99999999999999999999999", "[]"] {
            assert_eq!(
                size(value),
                "\"filesize\" in the file header is not an integer",
                "{value}"
            );
        }
        assert_eq!(
            size("1001"),
            "\"filesize\" is 1001, above the limit of 1000 bytes"
        );
        let with = |extra: &str| message(&format!("{{\"filename\":\"a\",\"filesize\":1,{extra}}}"));
        assert_eq!(
            with("\"ack\":1"),
            "\"ack\" in the file header is not true or false"
        );
        assert!(with("\"sha256\":\"ab\"").contains("64 hexadecimal digits"));
        assert_eq!(
            with("\"resume\":true"),
            "\"resume\" in the file header is not allowed without \"ack\" and \"sha256\""
        );
        assert_eq!(
            with("\"ack\":true,\"skip_same\":true"),
            "\"skip_same\" in the file header is not allowed without \"ack\" and \"sha256\""
        );
        assert_eq!(
            with("\"ack\":true,\"folder\":[]"),
            "\"folder\" in the file header is not a text"
        );
    }

    #[test]
    fn answers_come_back() {
        let answers = [
            Answer::Ready { offset: 7 },
            Answer::Stored {
                filename: "a.1.txt".into(),
                size_bytes: 9,
                sha256: [1; 32],
            },
            Answer::Refused {
                error: "exists".into(),
                message: "it is there already".into(),
            },
        ];
        for answer in answers {
            assert_eq!(Answer::parse(&answer.to_json()), Some(answer));
        }
        assert_eq!(
            Answer::Ready { offset: 0 }.to_json(),
            br#"{"ready":true,"offset":0}"#
        );
        assert_eq!(Answer::parse(b"{}"), None);
        assert_eq!(Answer::parse(b"\x16\x03"), None);
    }

    #[test]
    fn names_are_reduced_or_refused() {
        let reduce = |name: &str| SafeName::reduce(name).map(|name| name.to_string());
        assert_eq!(reduce("a.txt"), Ok("a.txt".into()));
        assert_eq!(reduce("../../etc/passwd"), Ok("passwd".into()));
        assert_eq!(reduce("C:\\x\\boot.ini"), Ok("boot.ini".into()));
        assert_eq!(reduce("a b…"), Ok("a b…".into()));
        for name in ["", "/", "a/", "a\\"] {
            assert_eq!(reduce(name), Err(NameError::Empty), "{name:?}");
        }
        for name in [".", "..", "a/..", ".partial", ".bashrc"] {
            assert_eq!(reduce(name), Err(NameError::Dot), "{name:?}");
        }
        for name in ["-", "-rf", "a/-x", "--"] {
            assert_eq!(reduce(name), Err(NameError::Hyphen), "{name:?}");
        }
        for found in "\0\n\r\t\u{1b}\u{7f}\u{9b}\u{ad}\u{200b}\u{200f}\u{2028}\u{2029}\u{202e}\u{2066}\u{feff}\u{e0041}".chars() {
            for name in [format!("a{found}"), format!("{found}a"), format!("a{found}b.txt")] {
                assert_eq!(reduce(&name), Err(NameError::Hidden { found }), "{name:?}");
            }
        }
        assert_eq!(reduce(&"a".repeat(255)), Ok("a".repeat(255)));
        assert_eq!(reduce(&"a".repeat(256)), Err(NameError::TooLong));
    }

    #[test]
    fn names_that_other_systems_cannot_have_are_refused() {
        let reduce = |name: &str| SafeName::reduce_portable(name).map(|name| name.to_string());
        for name in [
            "a.txt",
            "x/a.txt",
            "console",
            "con-1",
            "COM",
            "COM10",
            "COMx",
            "lpt",
            "LPT¹²",
            "nul_",
            "a b",
            "a..b",
            "é-ü",
            "日本語.txt",
            "e\u{301}",
            "family 👪\u{fe0f}",
            "a{b}[c];d'e&f~g#h%i",
            "a.con",
        ] {
            assert_eq!(
                reduce(name).as_deref(),
                Ok(name.rsplit('/').next().unwrap()),
                "{name:?}"
            );
        }
        for name in [
            "CON",
            "con",
            "Con.txt",
            "prn",
            "AUX.tar.gz",
            "nul",
            "NUL .txt",
            "dir/COM1",
            "com9.log",
            "LPT3",
            "lpt0",
            "COM²",
            "LPT³.txt",
            "CONIN$",
            "conout$.x",
            "C:\\NUL",
        ] {
            assert_eq!(reduce(name), Err(NameError::Device), "{name:?}");
        }
        for found in "<>:\"|?*".chars() {
            for name in [
                format!("a{found}b"),
                format!("{found}"),
                format!("a{found}"),
                format!("CON{found}"),
            ] {
                assert_eq!(reduce(&name), Err(NameError::Special { found }), "{name:?}");
            }
        }
        assert_eq!(reduce("C:x"), Err(NameError::Special { found: ':' }));
        for name in [
            "x.",
            "x..",
            "x ",
            " x",
            "x. ",
            "x .",
            " ",
            "x\u{a0}",
            "\u{3000}x",
            "x.txt ",
        ] {
            assert_eq!(reduce(name), Err(NameError::Edge), "{name:?}");
        }
        assert_eq!(reduce("..."), Err(NameError::Dot));
        // The words name the character without showing it.
        assert_eq!(
            NameError::Hidden { found: '\u{202e}' }.to_string(),
            "the name holds a character that is not seen: U+202E"
        );
        assert_eq!(
            NameError::Special { found: ':' }.to_string(),
            "the name holds ':', which not every system takes"
        );
    }

    #[test]
    fn blanks_are_told_from_a_length() {
        let header = |len: usize| {
            let mut frame = (len as i32).to_le_bytes().to_vec();
            frame.extend(std::iter::once(b'{').chain(std::iter::repeat_n(b'x', len - 1)));
            frame
        };
        let lengths = [2, 9, 10, 13, 29, 32, 266, 0x0a0d, 0x2020, HEADER_BYTES_MAX];
        for blanks in [
            "",
            "\n",
            "\r\n",
            "\r\n\r\n",
            " ",
            " \t",
            "   ",
            "    ",
            "     ",
            " \r\n \n\n\t   \r\n",
        ] {
            for len in lengths {
                let bytes = [blanks.as_bytes(), &header(len)].concat();
                let case = format!("{blanks:?} before {len} bytes");
                let told = |cut: usize| blanks_before_header(&bytes[..cut], HEADER_BYTES_MAX);
                for cut in 0..bytes.len().min(blanks.len() + 8) {
                    // Nothing is told that more bytes would change.
                    assert!(
                        matches!(told(cut), None | Some(_) if told(cut).is_none_or(|n| n == blanks.len())),
                        "{case}"
                    );
                }
                assert_eq!(told(blanks.len() + 5), Some(blanks.len()), "{case}");
            }
        }
        let none: &[u8] = b"\0\0\0\0";
        assert_eq!(blanks_before_header(none, 10), Some(0));
        assert_eq!(blanks_before_header(b"GET / HTTP/1.1", 10), Some(0));
        assert_eq!(blanks_before_header(b"", 10), None);
    }

    #[test]
    fn versions() {
        let version =
            |name: &str, number| SafeName::reduce(name).unwrap().version(number).to_string();
        assert_eq!(version("a.txt", 0), "a.txt");
        assert_eq!(version("a.txt", 1), "a.1.txt");
        assert_eq!(version("a.tar.gz", 12), "a.tar.12.gz");
        assert_eq!(version("README", 2), "README.2");
        assert_eq!(version("a.", 2), "a.2.");
        assert_eq!(
            version(&format!("{}.txt", "ä".repeat(125)), 1),
            format!("{}.1.txt", "ä".repeat(124))
        );
        assert_eq!(
            version(&format!("a.{}", "x".repeat(253)), 1),
            format!("a.{}.1", "x".repeat(251))
        );
    }

    proptest! {
        #[test]
        fn a_safe_name_is_one_visible_component(name in "[a./\\\\\u{0}é\n]{0,8}|\\PC{0,300}|con[.x]{1,260}", number in any::<u32>()) {
            if let Ok(portable) = SafeName::reduce_portable(&name) {
                let version = portable.version(number);
                prop_assert_eq!(SafeName::reduce_portable(version.as_str()), Ok(version.clone()));
            }
            let Ok(safe) = SafeName::reduce(&name) else { return Ok(()) };
            for safe in [safe.version(number), safe.version(1), safe] {
                prop_assert!(safe.as_str().len() <= NAME_BYTES_MAX);
                let mut components = std::path::Path::new(safe.as_str()).components();
                prop_assert!(matches!(components.next(), Some(std::path::Component::Normal(_))));
                prop_assert_eq!(components.next(), None);
                prop_assert!(!safe.as_str().starts_with('.'));
            }
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = FileHeader::parse(&bytes, 10);
            let _ = Answer::parse(&bytes);
            let _ = blanks_before_header(&bytes, 10);
        }
    }
}
