//! The part of URLs that a client needs: `http` and `https`, a host, a port, a path with query; and following a reference
//! from one to the next (RFC 3986, section 5).
//!
//! Not here: user names and passwords in URLs, which would end up in process lists.

use std::fmt;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::http::target::Authority;

use super::connect::Target;

/// What may not stand in a request target as it is; `%` may, for it introduces what was encoded already.
const UNSAFE: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// A URL that can be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// `https` rather than `http`.
    pub is_https: bool,
    /// The host, an IPv6 address without its brackets.
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
    /// In words: another scheme, no host, a bad port, a user name.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let is_https = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(format!("{text:?}: only http and https are spoken here")),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let path_at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(path_at);
        if authority.contains('@') {
            return Err(format!("{text:?}: a user name in a URL is not supported"));
        }
        let Some(authority) = Authority::parse(authority) else {
            return Err(format!("{text:?}: the host or port is malformed"));
        };
        let host = authority.host.to_string();
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self {
            is_https,
            host: host.trim_matches(['[', ']']).to_owned(),
            port: authority.port.unwrap_or(if is_https { 443 } else { 80 }),
            path: utf8_percent_encode(&format!("{slash}{path}"), UNSAFE).to_string(),
        })
    }

    /// Where a `Location` on this page leads.
    ///
    /// # Errors
    /// As [`Url::parse`].
    pub fn join(&self, reference: &str) -> Result<Self, String> {
        let scheme = if self.is_https { "https" } else { "http" };
        let has_scheme = reference.split_once(':').is_some_and(|(scheme, _)| {
            !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())
        });
        if let Some(rest) = reference.strip_prefix("//") {
            return Self::parse(&format!("{scheme}://{rest}"));
        } else if has_scheme && !reference.contains("://") {
            return Err(format!(
                "{reference:?}: only http and https are spoken here"
            ));
        } else if has_scheme {
            return Self::parse(reference);
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
        let path = utf8_percent_encode(&without_dots(&path), UNSAFE).to_string();
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
        let target = self.target().to_string();
        let usual = if self.is_https { ":443" } else { ":80" };
        target.strip_suffix(usual).unwrap_or(&target).to_owned()
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

/// The path with `.` and `..` resolved (RFC 3986, section 5.2.4); the query stays.
fn without_dots(path: &str) -> String {
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, format!("?{query}")),
        None => (path, String::new()),
    };
    let mut segments = Vec::new();
    let mut ends_in_folder = false;
    for segment in path.split('/').skip(1) {
        ends_in_folder = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
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

    #[test]
    fn urls_are_read() {
        let url = |text: &str| Url::parse(text).map(|url| url.to_string());
        for (text, expected) in [
            ("http://a", "http://a/"),
            ("a:8080/x y#frag", "http://a:8080/x%20y"),
            ("HTTPS://a:443/x?y=ü", "https://a/x?y=%C3%BC"),
            ("http://[::1]:81?q", "http://[::1]:81/?q"),
            ("http://a/%7E", "http://a/%7E"),
        ] {
            assert_eq!(url(text).as_deref(), Ok(expected), "{text}");
        }
        for text in [
            "ftp://a",
            "http://",
            "http://a:0",
            "http://u:p@a",
            "http://a b",
        ] {
            assert!(url(text).is_err(), "{text}");
        }
        assert_eq!(Url::parse("http://[::1]/").unwrap().host, "::1");
    }

    #[test]
    fn references_are_followed() {
        let base = Url::parse("http://a:81/b/c/d?q").unwrap();
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
        ] {
            assert_eq!(
                base.join(reference).unwrap().to_string(),
                expected,
                "{reference}"
            );
        }
        assert!(base.join("javascript:x").is_err() && base.join("file:///etc").is_err());
    }
}
