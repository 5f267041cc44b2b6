//! `cache purge`: the server is asked if one runs, else the files are removed.

use std::fs;
use std::io;

use super::ask::ask;
use super::folder::{Folder, key_of};
use super::{Place, PurgeArgs};
use crate::cache::store::tags_in;
use crate::client::output::{Output, Tone};
use crate::client::{CommonArgs, Exit, Failure, Outcome};
use crate::http::Method;
use crate::wire::text::printable;

/// What is to go.
enum Wanted {
    Url(String),
    Prefix(String),
    /// Of an origin, what has one of these tags.
    Tags(String, Vec<String>),
}

impl Wanted {
    /// By the texts of keys.
    fn of(args: &PurgeArgs) -> Result<Self, Failure> {
        Ok(match (&args.url, &args.prefix) {
            (_, Some(prefix)) => Self::Prefix(key_of(prefix)?),
            (Some(url), None) if args.tags.is_empty() => Self::Url(key_of(url)?),
            (Some(url), None) => {
                let key = key_of(url)?;
                let host_at = key.find("://").map_or(0, |at| at + "://".len());
                let end = key[host_at..]
                    .find('/')
                    .map_or(key.len(), |at| host_at + at + 1);
                Self::Tags(key[..end].to_owned(), args.tags.clone())
            }
            (None, None) => return Err(Failure::usage("expected a URL, or --prefix")),
        })
    }

    fn covers(&self, key: &[u8], head: &[u8]) -> bool {
        match self {
            Self::Url(url) => key == url.as_bytes(),
            Self::Prefix(prefix) => key.starts_with(prefix.as_bytes()),
            Self::Tags(origin, tags) => key.starts_with(origin.as_bytes()) && has_tag(head, tags),
        }
    }
}

fn has_tag(head: &[u8], tags: &[String]) -> bool {
    let is_wanted = |tag: &[u8]| tags.iter().any(|one| one.as_bytes() == tag);
    let mut lines = head.split(|&byte| byte == b'\n');
    lines.any(|line| {
        let colon = memchr::memchr(b':', line);
        let (name, value) = colon.map_or((line, &b""[..]), |at| (&line[..at], &line[at + 1..]));
        tags_in(name, value).is_some_and(|mut tags| tags.any(is_wanted))
    })
}

/// `cache purge`.
pub(super) fn purge(args: &PurgeArgs, place: &Place) -> Outcome {
    let wanted = Wanted::of(args)?;
    let folder = Folder::open(&place.dir)?;
    let Some(_lock) = folder.lock()? else {
        return ask_server(&wanted, &args.common, place);
    };
    let key = match &wanted {
        Wanted::Url(key) => Some(&key[..]),
        Wanted::Prefix(_) | Wanted::Tags(..) => None,
    };
    let mut count = 0;
    for name in folder.names(key) {
        let Ok(Some(object)) = folder.read(name) else {
            continue;
        };
        let (header, _) = object.header();
        if !wanted.covers(&header.key, header.head) {
            continue;
        }
        match fs::remove_file(&object.path) {
            Ok(()) => count += 1,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let path = object.path.display();
                return Err(Failure {
                    exit: Exit::Unwritable,
                    message: format!("{path}: {error}"),
                });
            }
        }
    }
    Output::new().line(Tone::Plain, &format!("purged: {count}"))?;
    Ok(match count {
        0 => Exit::Negative,
        _ => Exit::Done,
    })
}

/// Has a server that runs do it.
fn ask_server(wanted: &Wanted, common: &CommonArgs, place: &Place) -> Outcome {
    let url_of = |key: &str| key.strip_prefix("GET ").unwrap_or(key).to_owned();
    let (url, tags) = match wanted {
        Wanted::Url(key) => (url_of(key), None),
        Wanted::Prefix(key) => (url_of(key) + "*", None),
        Wanted::Tags(origin, tags) => (url_of(origin), Some(tags.join(","))),
    };
    let headers: Vec<(&str, &str)> = tags.iter().map(|tags| ("Cache-Tag", &tags[..])).collect();
    let mut text = Vec::new();
    let head = ask(
        (Method::Other("PURGE"), &url),
        &headers,
        (&place.proxy, common),
        &mut |piece| text.extend_from_slice(&piece[..piece.len().min(4096 - text.len().min(4096))]),
    )?;
    let text = printable(text.trim_ascii_end());
    match head.status {
        200 | 202 => {
            Output::new().line(Tone::Plain, &text)?;
            Ok(Exit::Done)
        }
        404 => {
            Output::new().line(Tone::Plain, "purged: 0")?;
            Ok(Exit::Negative)
        }
        status => Err(Failure {
            exit: match status {
                403 | 405 | 407 => Exit::Refused,
                503 => Exit::TryLater,
                _ => Exit::Unavailable,
            },
            message: format!("{}: {status} {}: {text}", place.proxy, head.reason),
        }),
    }
}
