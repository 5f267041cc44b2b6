//! `PURGE`: what is kept is forgotten because a client says so that may.
//!
//! ```text
//! PURGE http://host/path                      that URL, all its variants    200 with their number, or 404
//! PURGE http://host/path/*                    all that begins so            202
//! PURGE http://host/   Surrogate-Key: a b     all of the host with a tag    202
//!                      Cache-Tag: a, b
//! ```
//!
//! In every form in which a request names its origin. The method is no standard, but what caches
//! share that have it. A 202 says that nothing of it is used any more, while its files are still
//! being looked for ([`Store::ban`](crate::cache::store::Store::ban)).
//!
//! Not here: requests to a proxy without a cache, for which it is a method like any other.

use std::task::Poll;

use super::Begun;
use super::errand::Cache;
use super::route::Route;
use crate::cache::store::{NotPurged, Scope, tags_in};
use crate::http::head::{BodyLength, RequestHead};
use crate::http::target::{Authority, Uri};
use crate::http::{Method, Status};
use crate::services::web::reply::{Refusal, Reply};

/// The method's name.
const NAME: &str = "PURGE";

/// The most bytes of tags in one request.
const TAGS_BYTES_MAX: usize = 8 * 1024;

const NOT_YOU: Refusal = Refusal::new(
    Status::FORBIDDEN,
    "who may purge what is kept here is said by `purge_from`",
);
const BODY: Refusal = Refusal::new(Status::BAD_REQUEST, "PURGE has no body");
const NO_URL: Refusal = Refusal::new(Status::BAD_REQUEST, "PURGE needs a URL");
const TAGS: Refusal = Refusal::new(
    Status::BAD_REQUEST,
    "expected tags of visible ASCII, at most 8 KiB of them",
);
const NOTHING: Refusal = Refusal::new(Status::NOT_FOUND, "nothing is kept for this URL");
const BUSY: Refusal = Refusal::new(
    Status::SERVICE_UNAVAILABLE,
    "too much is being purged; try again in a moment",
);
const FAILED: Refusal = Refusal::new(
    Status::INTERNAL_SERVER_ERROR,
    "the disk failed: after another start what was to be purged may be used again",
);

/// Whether a request is one to purge.
pub(super) fn is_asked(head: &RequestHead<'_>) -> bool {
    head.method == Method::Other(NAME)
}

/// Forgets what a request says, if its client may ask for that.
///
/// # Errors
/// It may not, it cannot be understood, there is nothing, or the disk fails.
pub(super) fn purge(
    may: bool,
    cache: &mut Cache,
    head: &RequestHead<'_>,
    route: &Route<'_>,
    reply: &mut Reply<'_, '_>,
) -> Result<Begun, Refusal> {
    if !may {
        return Err(NOT_YOU);
    }
    if head.body != BodyLength::None {
        return Err(BODY);
    }
    match scope(cache, head, route)? {
        Some(scope) => cache.ban(scope, reply),
        None => cache.purge_one(reply),
    }
}

/// What a request means beyond one URL; the text of whose key is written in any case.
fn scope(
    cache: &mut Cache,
    head: &RequestHead<'_>,
    route: &Route<'_>,
) -> Result<Option<Scope>, Refusal> {
    let mut uri = Uri {
        scheme: "http",
        authority: Authority::parse(&route.authority).ok_or(NO_URL)?,
        path: route.path,
        query: route.query,
    };
    let tags = tags(head)?;
    let last = uri.query.unwrap_or(uri.path);
    let prefix = last.strip_suffix('*').filter(|_| tags.is_empty());
    match (prefix, &mut uri.query) {
        _ if !tags.is_empty() => (uri.path, uri.query) = ("/", None),
        (Some(prefix), Some(query)) => *query = prefix,
        (Some(prefix), None) => uri.path = prefix,
        (None, _) => {}
    }
    cache.put_text(Method::Get, &uri);
    let text = || String::from_utf8_lossy(&cache.text).into_owned();
    Ok(match (tags.is_empty(), prefix) {
        (false, _) => Some(Scope::Tags(text(), tags)),
        (true, Some(_)) => Some(Scope::Prefix(text())),
        (true, None) => None,
    })
}

/// The tags that a request names.
fn tags(head: &RequestHead<'_>) -> Result<Vec<String>, Refusal> {
    let mut tags = Vec::new();
    let mut bytes = 0;
    for (name, line) in head.headers.end_to_end_lines() {
        let value = &line[name.len() + 1..];
        for tag in tags_in(name, value.trim_ascii()).into_iter().flatten() {
            bytes += tag.len();
            let is_visible = tag
                .iter()
                .all(|&byte| byte.is_ascii_graphic() && byte != b',');
            if !is_visible || bytes > TAGS_BYTES_MAX {
                return Err(TAGS);
            }
            tags.push(String::from_utf8_lossy(tag).into_owned());
        }
    }
    Ok(tags)
}

impl Cache {
    /// Forgets what is kept under the key whose text was written.
    fn purge_one(&mut self, reply: &mut Reply<'_, '_>) -> Result<Begun, Refusal> {
        let id = reply.id;
        let (store, mut hands) = reply.cx.store(self.store);
        let key = store.hasher().key(&self.text);
        let count = match store.purge(key, id, &mut hands) {
            Poll::Pending => return Ok(Begun::Later),
            Poll::Ready(result) => result.map_err(refusal)?,
        };
        if count == 0 {
            return Err(NOTHING);
        }
        reply.plain(Status::OK, format!("purged: {count}\n").as_bytes());
        Ok(Begun::Answered)
    }

    /// Forgets all that a scope covers.
    fn ban(&mut self, scope: Scope, reply: &mut Reply<'_, '_>) -> Result<Begun, Refusal> {
        let id = reply.id;
        let (store, mut hands) = reply.cx.store(self.store);
        match store.ban(scope, id, &mut hands) {
            Poll::Pending => return Ok(Begun::Later),
            Poll::Ready(result) => result.map_err(refusal)?,
        }
        reply.plain(
            Status::ACCEPTED,
            b"purged: nothing of it is used any more\n",
        );
        Ok(Begun::Answered)
    }
}

fn refusal(why: NotPurged) -> Refusal {
    match why {
        NotPurged::Busy => BUSY,
        NotPurged::Failed => FAILED,
    }
}
