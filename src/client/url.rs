//! The part of URLs that a client needs: `http` and `https`, user and password, a host, a port, a
//! path with query; and following a reference from one to the next (RFC 3986, section 5.2).
//!
//! Rules:
//! - What is kept is what goes out: the host in ASCII (see [`crate::wire::idn`]), the path
//!   percent-encoded and without `.` and `..`.
//! - The zone of a link-local address (RFC 6874) is for this machine alone: connecting needs it, no
//!   server sees it.
//! - A password is in no message and in no output.

use std::borrow::Cow;
use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::http::target::{Authority, NEVER_IN_URI};
use crate::wire::idn;
use crate::wire::user_info::Credentials;

use super::connect::Target;

/// What is encoded in a zone (RFC 6874, section 2).
const ZONE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A URL that can be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// `https` rather than `http`.
    pub is_https: bool,
    /// User and password, where the URL has them.
    pub credentials: Option<Credentials>,
    /// The host, an IPv6 address without its brackets and perhaps with a zone behind `%`.
    pub host: String,
    /// The port, the scheme's where none was given.
    pub port: u16,
    /// Path and query, percent-encoded where needed; begins with `/`.
    pub path: String,
}

impl Url {
    /// Reads a URL; one without a scheme is taken for `http`.
    ///
    /// # Errors
    /// In words: another scheme, no host or one that cannot be, a bad port, a user with a colon.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = match split_scheme(text) {
            Some((scheme, rest)) => match rest.strip_prefix("//") {
                Some(rest) => (scheme, rest),
                // In `localhost:80/x` and `user:password@host` the colon ends no scheme.
                None if rest.starts_with(|c: char| c.is_ascii_digit()) || has_user(text) => {
                    ("http", text)
                }
                None => return Err(foreign(text)),
            },
            None => ("http", text),
        };
        let is_https = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(foreign(text)),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let path_at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(path_at);
        let (user, host_and_port) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        let wrong = |what: &str| format!("\"{scheme}://{host_and_port}{path}\": {what}");
        let credentials = match user.map(Credentials::from_url) {
            Some(None) => return Err(wrong("a colon stands in the user's name")),
            Some(credentials) => credentials,
            None => None,
        };
        let (host, port) = host_and_port_of(host_and_port).map_err(|what| wrong(&what))?;
        let slash = if path.starts_with('/') { "" } else { "/" };
        let path = without_dots(&format!("{slash}{path}"));
        Ok(Self {
            is_https,
            credentials,
            host,
            port: port.unwrap_or(if is_https { 443 } else { 80 }),
            path: utf8_percent_encode(&path, NEVER_IN_URI).to_string(),
        })
    }

    /// Where a reference on this page leads, such as the value of `Location` (RFC 3986, section
    /// 5.2.2). Bytes that are no UTF-8 are kept percent-encoded.
    ///
    /// # Errors
    /// As [`Url::parse`].
    pub fn join(&self, reference: &[u8]) -> Result<Self, String> {
        let reference = &*decoded_reference(reference);
        let scheme = if self.is_https { "https" } else { "http" };
        if let Some(rest) = reference.strip_prefix("//") {
            return Self::parse(&format!("{scheme}://{rest}"));
        }
        match split_scheme(reference) {
            Some((_, rest)) if rest.starts_with("//") => return Self::parse(reference),
            Some(_) => return Err(foreign(reference)),
            None => {}
        }
        let reference = reference.split('#').next().unwrap_or_default();
        let (own_path, _) = self.path.split_once('?').unwrap_or((&self.path, ""));
        let path = match reference.chars().next() {
            None => self.path.clone(),
            Some('/') => reference.to_owned(),
            Some('?') => format!("{own_path}{reference}"),
            Some(_) => {
                let folder = own_path.rsplit_once('/').map_or("", |(folder, _)| folder);
                format!("{folder}/{reference}")
            }
        };
        let path = utf8_percent_encode(&without_dots(&path), NEVER_IN_URI).to_string();
        Ok(Self {
            path,
            ..self.clone()
        })
    }

    /// Where to connect to.
    pub fn target(&self) -> Target {
        Target::new(&self.host, self.port)
    }

    /// Host and port as `Host` carries them: the port only where it is not the scheme's.
    pub fn authority(&self) -> String {
        let authority = self.target().authority();
        let usual = if self.is_https { ":443" } else { ":80" };
        authority
            .strip_suffix(usual)
            .unwrap_or(&authority)
            .to_owned()
    }

    /// The whole as a proxy is asked for it: without user, password and zone.
    pub fn absolute(&self) -> String {
        let scheme = if self.is_https { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority(), self.path)
    }

    /// Whether both are of one server, so that what is for the one is not kept from the other.
    pub fn is_same_server(&self, other: &Self) -> bool {
        self.is_https == other.is_https
            && self.port == other.port
            && self.host.eq_ignore_ascii_case(&other.host)
    }
}

impl fmt::Display for Url {
    /// For people: the whole without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.split_once('%') {
            None => f.write_str(&self.absolute()),
            Some((address, zone)) => {
                let zone = utf8_percent_encode(zone, ZONE);
                let (with_zone, bare) = (format!("[{address}%25{zone}]"), format!("[{address}]"));
                f.write_str(&self.absolute().replacen(&bare, &with_zone, 1))
            }
        }
    }
}

fn foreign(text: &str) -> String {
    let scheme = text.split(':').next().unwrap_or_default();
    format!("\"{scheme}:\": only http and https are spoken here")
}

fn has_user(text: &str) -> bool {
    let authority = text.split(['/', '?', '#']).next();
    authority.is_some_and(|authority| authority.contains('@'))
}

/// The scheme in front of the first colon, if it is one (RFC 3986, section 3.1), and what stands
/// behind the colon.
fn split_scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    is_scheme.then_some((scheme, rest))
}

/// Takes `HOST`, `HOST:PORT`, `[ADDRESS]:PORT` or `[ADDRESS%25ZONE]:PORT` apart. A zone behind a
/// bare `%`, as people copy it from `ip address`, is taken as well.
fn host_and_port_of(text: &str) -> Result<(String, Option<u16>), String> {
    let malformed = || "the host or port is malformed".to_owned();
    let (literal, rest) = match text.strip_prefix('[') {
        Some(inner) => inner.split_once(']').ok_or_else(malformed)?,
        None => {
            let (name, port) = text.split_at(text.rfind(':').unwrap_or(text.len()));
            let name = percent_decode_str(name)
                .decode_utf8()
                .map_err(|_| malformed())?;
            let name = idn::to_ascii(&name)?;
            let ascii = format!("{name}{port}");
            let authority = Authority::parse(&ascii).ok_or_else(malformed)?;
            return Ok((authority.host.to_string(), authority.port));
        }
    };
    let (address, zone) = match literal.split_once('%') {
        Some((address, zone)) => (address, Some(zone.strip_prefix("25").unwrap_or(zone))),
        None => (literal, None),
    };
    let without_zone = format!("[{address}]{rest}");
    let authority = Authority::parse(&without_zone).ok_or_else(malformed)?;
    let address = authority.host.to_string();
    let mut host = address.trim_matches(['[', ']']).to_owned();
    if let Some(zone) = zone {
        let zone = percent_decode_str(zone)
            .decode_utf8()
            .map_err(|_| malformed())?;
        if zone.is_empty() || zone.contains(|c: char| c.is_control() || c == '/' || c == '%') {
            return Err(malformed());
        }
        host = format!("{host}%{zone}");
    }
    Ok((host, authority.port))
}

/// The bytes of a reference as text.
fn decoded_reference(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(bytes.len() * 2);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    Cow::Owned(text)
}

/// The path with `.` and `..` resolved (RFC 3986, section 5.2.4), also where they are written with
/// `%2E`, which means the same (section 6.2.2.2); the query stays.
fn without_dots(path: &str) -> String {
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, format!("?{query}")),
        None => (path, String::new()),
    };
    let mut segments = Vec::new();
    let mut ends_in_folder = false;
    for segment in path.split('/').skip(1) {
        let plain = segment.replace("%2e", ".").replace("%2E", ".");
        ends_in_folder = matches!(plain.as_str(), "." | "..");
        match plain.as_str() {
            "." => {}
            ".." => {
                segments.pop();
            }
            _ => segments.push(segment),
        }
    }
    if ends_in_folder {
        segments.push("");
    }
    format!("/{}{query}", segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap_or_else(|words| panic!("{words}"))
    }

    #[test]
    fn urls_are_read() {
        for (text, expected) in [
            ("http://a", "http://a/"),
            ("a:8080/x y#frag", "http://a:8080/x%20y"),
            ("a/?u=http://x", "http://a/?u=http://x"),
            ("HTTPS://a:443/x?y=ü", "https://a/x?y=%C3%BC"),
            ("http://[::1]:81?q", "http://[::1]:81/?q"),
            ("http://a/%7E", "http://a/%7E"),
            ("http://a/b/./c/../d/..", "http://a/b/"),
            ("http://a/../../x/.", "http://a/x/"),
            ("http://a/b/%2E%2e/c%2e/..%2f", "http://a/c%2e/..%2f"),
            ("http://a/b?c=/../d", "http://a/b?c=/../d"),
            ("http://a//b/..//c", "http://a///c"),
            ("http://bücher.example/", "http://xn--bcher-kva.example/"),
            (
                "http://b%C3%BCcher.example:81",
                "http://xn--bcher-kva.example:81/",
            ),
        ] {
            assert_eq!(url(text).to_string(), expected, "{text}");
        }
        for text in [
            "ftp://a",
            "javascript:x",
            "http:/a",
            "http://",
            "http://a:0",
            "http://a:b",
            "http://a b",
            "http://a%",
            "http://[::1",
            "http://[fe80::1%25]/",
            "http://[fe80::1%25a%2Fb]/",
            "http://a\u{202e}b/",
        ] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
        assert_eq!(url("http://[::1]/").host, "::1");
    }

    #[test]
    fn a_zone_is_for_connecting_alone() {
        for text in ["http://[fe80::5%25lo]:81/x", "http://[fe80::5%lo]:81/x"] {
            let url = url(text);
            assert_eq!(url.target(), Target::new("fe80::5%lo", 81));
            assert_eq!(url.authority(), "[fe80::5]:81");
            assert_eq!(url.absolute(), "http://[fe80::5]:81/x");
            assert_eq!(url.to_string(), "http://[fe80::5%25lo]:81/x");
        }
    }

    #[test]
    fn users_and_passwords_are_read_and_not_shown() {
        for (text, plain) in [
            ("http://ann:tulip@a/", "ann:tulip"),
            ("http://ann@a/", "ann:"),
            ("http://:tulip@a/", ":tulip"),
            ("http://a%40b:c%3Ad@a/", "a@b:c:d"),
            ("http://a@b:c@a/", "a@b:c"),
            ("ann:tulip:x@a:80", "ann:tulip:x"),
        ] {
            let url = url(text);
            let basic = format!("Basic {}", BASE64.encode(plain));
            assert_eq!(url.credentials.as_ref().unwrap().basic(), basic);
            assert_eq!(url.to_string(), "http://a/");
            assert!(!format!("{url:?}").contains("tulip"));
        }
        for text in [
            "http://a%3Ab:tulip@c/",
            "http://ann:tulip@a:x/",
            "http://ann:tulip@/",
        ] {
            let words = Url::parse(text).unwrap_err();
            assert!(!words.contains("tulip"), "{words}");
        }
    }

    #[test]
    fn references_are_followed() {
        let base = url("http://u:p@a:81/b/c/d?q");
        for (reference, expected) in [
            ("https://x/y", "https://x/y"),
            ("//x/y", "http://x/y"),
            ("/y", "http://a:81/y"),
            ("y", "http://a:81/b/c/y"),
            ("../y?z", "http://a:81/b/y?z"),
            ("../../../..", "http://a:81/"),
            ("./", "http://a:81/b/c/"),
            ("?z", "http://a:81/b/c/d?z"),
            ("#z", "http://a:81/b/c/d?q"),
            ("", "http://a:81/b/c/d?q"),
            ("/a b", "http://a:81/a%20b"),
            ("/r?u=http://x", "http://a:81/r?u=http://x"),
            ("1:2", "http://a:81/b/c/1:2"),
            ("./x:y", "http://a:81/b/c/x:y"),
            ("/é", "http://a:81/%C3%A9"),
            (
                "http://bücher.example/é",
                "http://xn--bcher-kva.example/%C3%A9",
            ),
        ] {
            let joined = base.join(reference.as_bytes()).unwrap();
            assert_eq!(joined.to_string(), expected, "{reference}");
            let keeps = joined.is_same_server(&base);
            assert_eq!(joined.credentials.is_some(), keeps, "{reference}");
        }
        let latin = base.join(b"/caf\xe9/\xc3\xa9?\xff").unwrap();
        assert_eq!(latin.to_string(), "http://a:81/caf%E9/%C3%A9?%FF");
        for reference in [
            &b"javascript:x"[..],
            b"file:///etc",
            b"x+y.z:1",
            b"//caf\xe9/",
        ] {
            assert!(base.join(reference).is_err(), "{reference:?}");
        }
    }
}
