//! What a request with an unsafe method makes untrue (RFC 9111 section 4.4, RFC 9875 section 3).
//!
//! A non-error response to such a request (2xx, 3xx) invalidates what is stored for its target, and
//! for what `Location` and `Content-Location` name on the same origin: no other, or one site could
//! empty what is kept of another. A method that nobody here knows counts as unsafe.

use super::super::Method;
use super::super::head::{RequestHead, ResponseHead};
use super::super::target::{Authority, Host, Target};
use super::groups;

/// The URL of an http resource, in the parts that references are resolved against: that of the
/// origin, whatever form the client's request had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Url<'a> {
    /// `http` or `https`, in any case.
    pub scheme: &'a str,
    /// Host and port.
    pub authority: Authority<'a>,
    /// The path; it begins with `/`.
    pub path: &'a str,
    /// What follows the first `?`, without it.
    pub query: Option<&'a str>,
}

impl Url<'_> {
    fn is_origin(&self, scheme: &str, authority: Authority<'_>) -> bool {
        let port = |authority: Authority<'_>| authority.port.or_else(|| default_port(scheme));
        let is_host = match (self.authority.host, authority.host) {
            (Host::Name(ours), Host::Name(theirs)) => ours.eq_ignore_ascii_case(theirs),
            (ours, theirs) => ours == theirs,
        };
        self.scheme.eq_ignore_ascii_case(scheme)
            && is_host
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

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        _ if scheme.eq_ignore_ascii_case("http") => Some(80),
        _ if scheme.eq_ignore_ascii_case("https") => Some(443),
        _ => None,
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
    target: &Url<'_>,
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
pub(super) fn names_target(target: &Url<'_>, response: &ResponseHead<'_>) -> bool {
    let location = response.headers.only("content-location");
    location.and_then(|reference| target.resolve(reference))
        == Some(join(target.path, target.query))
}

/// The URL of a request whose target or `Host` names the origin: the absolute form, and the origin
/// form where this program has the name of the origin.
#[must_use]
pub fn url_of<'b>(request: &RequestHead<'b>, scheme: &'b str) -> Option<Url<'b>> {
    let authority = request.authority()?;
    let scheme = match request.target {
        Target::Absolute { scheme, .. } => scheme,
        _ => scheme,
    };
    Some(Url {
        scheme,
        authority,
        path: request.target.path()?,
        query: request.target.query(),
    })
}
