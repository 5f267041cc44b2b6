//! What a request with an unsafe method makes untrue (RFC 9111 section 4.4, RFC 9875 section 3).
//!
//! A non-error response to such a request (2xx, 3xx) invalidates what is stored for its target, and
//! for what `Location` and `Content-Location` name on the same origin: no other, or one site could
//! empty what is kept of another. A method that nobody here knows counts as unsafe.

use super::super::Method;
use super::super::head::{RequestHead, ResponseHead};
use super::super::target::{Authority, Target, Uri, default_port};
use super::groups;

impl Uri<'_> {
    fn is_origin(&self, scheme: &str, authority: Authority<'_>) -> bool {
        let port = |authority: Authority<'_>| authority.port.or_else(|| default_port(scheme));
        self.scheme.eq_ignore_ascii_case(scheme)
            && self.authority.host.is_same(authority.host)
            && port(self.authority) == port(authority)
    }

    /// The path and query that `reference` means here (RFC 3986 section 5.2), or `None` where it
    /// leads to another origin or is none.
    #[must_use]
    pub fn resolve(&self, reference: &[u8]) -> Option<String> {
        let reference = str::from_utf8(reference)
            .ok()
            .filter(|text| text.is_ascii())?;
        let reference = reference.split('#').next().unwrap_or_default();
        let is_absolute = reference
            .split(['/', '?'])
            .next()
            .is_some_and(|first| first.contains(':'));
        if is_absolute {
            return self.absolute(reference);
        }
        if reference.starts_with("//") {
            return self.absolute(&format!("{}:{reference}", self.scheme));
        }
        let (path, query) = match reference.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (reference, None),
        };
        let path = match path {
            "" => return Some(join(self.path, query.or(self.query))),
            _ if path.starts_with('/') => without_dots(path),
            _ => {
                let folder = &self.path[..self.path.rfind('/').map_or(0, |at| at + 1)];
                without_dots(&format!("{folder}{path}"))
            }
        };
        Some(join(&path, query))
    }

    fn absolute(&self, reference: &str) -> Option<String> {
        match Target::absolute(reference)? {
            Target::Absolute {
                scheme,
                authority,
                path,
                query,
            } if self.is_origin(scheme, authority) => Some(join(&without_dots(path), query)),
            _ => None,
        }
    }
}

fn join(path: &str, query: Option<&str>) -> String {
    match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    }
}

/// A path that begins with `/`, without its `.` and `..` (RFC 3986 section 5.2.4).
fn without_dots(path: &str) -> String {
    let mut segments = Vec::new();
    let mut given = path.split('/').skip(1).peekable();
    while let Some(segment) = given.next() {
        let is_last = given.peek().is_none();
        match segment {
            "." => {}
            ".." => {
                segments.pop();
            }
            _ => {
                segments.push(segment);
                continue;
            }
        }
        if is_last {
            segments.push("");
        }
    }
    format!("/{}", segments.join("/"))
}

/// What is not to be used again without being validated, beside the target itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Invalidated {
    /// Paths with their queries, on the origin of the target.
    pub others: Vec<String>,
    /// Groups of responses of that origin (RFC 9875 section 3).
    pub groups: Vec<String>,
}

/// What a response to a request for `target` invalidates; `None` if nothing, not even the target.
#[must_use]
pub fn invalidated(
    method: Method<'_>,
    target: &Uri<'_>,
    response: &ResponseHead<'_>,
) -> Option<Invalidated> {
    let is_success = (200..400).contains(&response.status.code());
    if method.is_safe() || method == Method::Connect || !is_success {
        return None;
    }
    let references = ["location", "content-location"]
        .iter()
        .filter_map(|name| response.headers.only(name));
    Some(Invalidated {
        others: references
            .filter_map(|reference| target.resolve(reference))
            .collect(),
        groups: groups::invalidated(&response.headers),
    })
}

/// Whether a response to POST stands for what a GET of its target would bring: `Content-Location` is
/// that target (RFC 9110 section 9.3.3).
pub(super) fn names_target(target: &Uri<'_>, response: &ResponseHead<'_>) -> bool {
    let location = response.headers.only("content-location");
    location.and_then(|reference| target.resolve(reference))
        == Some(join(target.path, target.query))
}

/// The URL of a request whose target or `Host` names the origin: the absolute form, and the origin
/// form where this program has the name of the origin.
#[must_use]
pub fn uri_of<'b>(request: &RequestHead<'b>, scheme: &'b str) -> Option<Uri<'b>> {
    let authority = request.authority()?;
    let scheme = match request.target {
        Target::Absolute { scheme, .. } => scheme,
        _ => scheme,
    };
    Some(Uri {
        scheme,
        authority,
        path: request.target.path()?,
        query: request.target.query(),
    })
}
