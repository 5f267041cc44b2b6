//! The folder of a store, as it lies on the disk.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::cache::store::key::{KeyHasher, SECRET_BYTES, of_part, put_text};
use crate::cache::store::object::{self, Decoded, Header, Name};
use crate::cache::store::parse_head;
use crate::client::Failure;
use crate::client::url::Url;
use crate::http::caching::partial::{Part, put_range_of};
use crate::http::target::{Authority, Uri};
use crate::http::{Method, Status};

/// What is read of a file first: most headers fit.
const READ_BYTES: usize = 4096;

/// A store's folder.
pub(super) struct Folder {
    pub(super) dir: PathBuf,
    hasher: KeyHasher,
}

/// One file.
pub(super) struct Object {
    pub(super) name: Name,
    pub(super) path: PathBuf,
    file: File,
    /// What was read of it so far: the header at least.
    bytes: Vec<u8>,
}

/// Why a file is not what it should be.
pub(super) type Fault = String;

impl Folder {
    /// A folder that is one of a store.
    ///
    /// # Errors
    /// It is not.
    pub(super) fn open(dir: &Path) -> Result<Self, Failure> {
        let secret = fs::read_to_string(dir.join("secret"));
        let secret = secret.map_err(|error| {
            let dir = dir.display();
            Failure::unavailable(format!("{dir}: no folder of a cache: secret: {error}"))
        })?;
        let secret = u128::from_str_radix(secret.trim_end(), 16).map_err(|_| {
            Failure::unavailable(format!("{}: its file secret is another's", dir.display()))
        })?;
        let secret: [u8; SECRET_BYTES] = secret.to_be_bytes();
        Ok(Self {
            dir: dir.to_owned(),
            hasher: KeyHasher::new(&secret),
        })
    }

    /// The lock that a server holds; `None` if one does.
    ///
    /// # Errors
    /// It cannot be known.
    pub(super) fn lock(&self) -> Result<Option<File>, Failure> {
        let path = self.dir.join("tmp");
        let wrong = |error| Failure::unavailable(format!("{}: {error}", path.display()));
        let folder = File::open(&path).map_err(wrong)?;
        match folder.try_lock() {
            Ok(()) => Ok(Some(folder)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(wrong(error)),
        }
    }

    /// The names of all objects, in order; with `key`, of those under it only.
    pub(super) fn names(&self, key: Option<&str>) -> impl Iterator<Item = Name> {
        let key = key.map(|text| self.hasher.key(text.as_bytes()));
        let wanted = key.map(|key| format!("{:02x}", key.0 >> 120));
        let folders = object::folders();
        let folders = folders.filter(move |folder| wanted.as_ref().is_none_or(|it| it == folder));
        let dir = self.dir.clone();
        folders.flat_map(move |folder| {
            let entries = fs::read_dir(dir.join(&folder))
                .into_iter()
                .flatten()
                .flatten();
            let parse =
                |name: &std::ffi::OsStr| Name::parse(folder.as_bytes(), name.as_encoded_bytes());
            let names = entries.filter_map(|entry| parse(&entry.file_name()));
            let mut names: Vec<Name> = names
                .filter(|name| key.is_none_or(|key| name.key == key))
                .collect();
            names.sort_by_key(|name| (name.key, name.variant, name.stored_ms));
            names
        })
    }

    /// Opens an object and reads its header; `None` if it is not there any more.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(&self, name: Name) -> Result<Option<Object>, Fault> {
        let path = self.dir.join(name.to_string());
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let mut object = Object {
            name,
            path,
            file,
            bytes: Vec::new(),
        };
        let mut wanted = READ_BYTES;
        loop {
            object.read_to(wanted).map_err(|error| error.to_string())?;
            match Header::decode(&object.bytes) {
                Decoded::NeedMore(more) if more > object.bytes.len() && more > wanted => {
                    wanted = more;
                }
                Decoded::NeedMore(_) => return Err("it ends in its header".to_owned()),
                Decoded::Bad(why) => return Err(why.to_owned()),
                Decoded::Header(..) => return Ok(Some(object)),
            }
        }
    }

    /// Whether the name of an object is the one that its header gives it.
    fn is_named_right(&self, object: &Object) -> bool {
        let (header, _) = object.header();
        let key = self.hasher.key(&header.key);
        let variant = self.hasher.variant(&header.selecting);
        let variant = match object.part() {
            Some(_) => of_part(variant),
            None => variant,
        };
        (object.name.key, object.name.variant) == (key, variant)
    }

    /// Compares all of a file with its name and its checksums; of a part, what its head says of the
    /// bytes that it is as well.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn verify(&self, mut object: Object) -> Result<(), Fault> {
        if !self.is_named_right(&object) {
            return Err("its name is another's".to_owned());
        }
        let (header, at) = object.header();
        let object::Body::Whole { bytes, crc32 } = header.body else {
            return Err("it was not finished".to_owned());
        };
        let head = parse_head(header.head).ok_or("its head is none")?;
        let is_part = head.status == Status::PARTIAL_CONTENT;
        if is_part != object.part().is_some_and(|part| part.range.len() == bytes) {
            return Err("its body is not the part that its head says".to_owned());
        }
        let at = at as u64;
        let mut hasher = crc32fast::Hasher::new();
        let mut length = object.bytes.len() as u64 - at;
        hasher.update(&object.bytes[at as usize..]);
        let mut piece = vec![0; 256 * 1024];
        loop {
            match object.file.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => {
                    hasher.update(&piece[..count]);
                    length += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        if length != bytes || at + length != object.name.bytes {
            return Err(format!("its body has {length} bytes instead of {bytes}"));
        }
        match hasher.finalize() == crc32 {
            true => Ok(()),
            false => Err("its body has another checksum".to_owned()),
        }
    }
}

impl Object {
    /// Reads on until so many bytes are there, or the end.
    fn read_to(&mut self, wanted: usize) -> io::Result<()> {
        let missing = wanted.saturating_sub(self.bytes.len()) as u64;
        (&mut self.file)
            .take(missing)
            .read_to_end(&mut self.bytes)?;
        Ok(())
    }

    /// The header and its length.
    pub(super) fn header(&self) -> (Header<'_>, usize) {
        match Header::decode(&self.bytes) {
            Decoded::Header(header, at) => (header, at),
            Decoded::NeedMore(_) | Decoded::Bad(_) => unreachable!("it was read before"),
        }
    }

    /// Which bytes of a representation it is, if not all of them.
    pub(super) fn part(&self) -> Option<Part> {
        Part::of_stored(&parse_head(self.header().0.head)?)
    }

    /// The text of the header as it is on disk, without what fills it up.
    pub(super) fn text(&self) -> &[u8] {
        let (_, at) = self.header();
        self.bytes[..at].trim_ascii_end()
    }

    /// The URL that it answers.
    pub(super) fn url(&self) -> String {
        let (header, _) = self.header();
        let text = String::from_utf8_lossy(&header.key).into_owned();
        match text.split_once(' ') {
            Some(("GET", url)) => url.to_owned(),
            _ => text,
        }
    }
}

/// A part as people read it: `bytes 0-99/1000`, or `bytes 0-99/*` where nobody knows of how many.
pub(super) fn text_of(part: &Part) -> String {
    let mut text = Vec::new();
    put_range_of(&mut text, part.range, part.total);
    String::from_utf8_lossy(&text).into_owned()
}

/// The text of the key of a URL, as a server writes it.
///
/// # Errors
/// It is no URL.
pub(super) fn key_of(text: &str) -> Result<String, Failure> {
    let url = Url::parse(text).map_err(Failure::usage)?;
    let authority = url.authority();
    let (path, query) = match url.path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (&url.path[..], None),
    };
    let uri = Uri {
        scheme: if url.is_https { "https" } else { "http" },
        authority: Authority::parse(&authority)
            .ok_or_else(|| Failure::usage(format!("{text}: its host is none")))?,
        path,
        query,
    };
    let mut key = Vec::new();
    put_text(&mut key, Method::Get, &uri);
    Ok(String::from_utf8_lossy(&key).into_owned())
}
