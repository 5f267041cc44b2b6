//! Request paths to file paths: decoded once, inside the root, or refused.
//!
//! RFC 3986 sections 2.1 (percent-encoding), 3.3 (paths) and 6.2.2.3 (dot segments).
//!
//! Rules:
//! 1. Percent-encoding is undone exactly once, and what comes out is judged, never decoded again.
//! 2. A segment `.` or `..`, however encoded, is refused: clients resolve them before they send, so what arrives is an attempt
//!    to leave the root. So is `%2F`, because a file name cannot contain it, a backslash, because elsewhere it separates
//!    folders, NUL and the other control bytes, and what is not UTF-8.
//! 3. Empty segments vanish: `//a///b` is `a/b`. So the result never begins with `/`, and a `Location` that is made of it
//!    with one `/` in front stays on this host, which `//evil.test/` would not.
//!
//! No allocation where nothing has to change. Not here: files, symbolic links (to be opened beneath the root), and whether
//! hidden names are served; [`SafePath::is_hidden`] only tells.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use std::borrow::Cow;
use std::fmt;

/// What a path segment must not show unencoded, in a URI or in an HTML attribute.
const SEGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'&')
    .add(b'\'')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// A path relative to a root, that cannot leave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SafePath<'b> {
    /// Segments with one `/` between them: none empty, none `.` or `..`. Empty for the root itself.
    pub relative: Cow<'b, str>,
    /// Whether the request's path ended with `/`: it means a folder.
    pub folder: bool,
}

impl<'b> SafePath<'b> {
    /// Reads the path of a request target, which begins with `/`; query excluded.
    ///
    /// # Errors
    /// The request is to be answered with 400.
    pub fn parse(path: &'b str) -> Result<Self, PathError> {
        let encoded = path.strip_prefix('/').ok_or(PathError::NotAbsolute)?;
        let decoded = decode(encoded)?;
        if decoded.bytes().any(|byte| byte.is_ascii_control()) {
            return Err(PathError::ControlByte);
        }
        if decoded.contains('\\') {
            return Err(PathError::Backslash);
        }
        if decoded
            .split('/')
            .any(|segment| segment == "." || segment == "..")
        {
            return Err(PathError::DotSegment);
        }
        let folder = decoded.is_empty() || decoded.ends_with('/');
        Ok(Self {
            relative: without_empty_segments(decoded),
            folder,
        })
    }

    /// Whether any segment begins with a dot.
    #[must_use]
    pub fn is_hidden(&self) -> bool {
        self.relative
            .split('/')
            .any(|segment| segment.starts_with('.'))
    }
}

/// Undoes percent-encoding, once.
fn decode(encoded: &str) -> Result<Cow<'_, str>, PathError> {
    let Some(first) = memchr::memchr(b'%', encoded.as_bytes()) else {
        return Ok(Cow::Borrowed(encoded));
    };
    let mut decoded = encoded.as_bytes()[..first].to_vec();
    let mut rest = &encoded.as_bytes()[first..];
    while let [byte, after @ ..] = rest {
        rest = after;
        if *byte != b'%' {
            decoded.push(*byte);
            continue;
        }
        let [high, low, after @ ..] = after else {
            return Err(PathError::Percent);
        };
        rest = after;
        match (hex(*high)? << 4) | hex(*low)? {
            b'/' => return Err(PathError::EncodedSlash),
            byte => decoded.push(byte),
        }
    }
    String::from_utf8(decoded)
        .map(Cow::Owned)
        .map_err(|_| PathError::NotUtf8)
}

fn hex(digit: u8) -> Result<u8, PathError> {
    let value = (digit as char).to_digit(16).ok_or(PathError::Percent)?;
    Ok(value as u8)
}

fn without_empty_segments(path: Cow<'_, str>) -> Cow<'_, str> {
    if path.contains("//") || path.starts_with('/') {
        let mut joined = String::with_capacity(path.len());
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            if !joined.is_empty() {
                joined.push('/');
            }
            joined.push_str(segment);
        }
        return Cow::Owned(joined);
    }
    match path {
        Cow::Borrowed(path) => Cow::Borrowed(path.strip_suffix('/').unwrap_or(path)),
        Cow::Owned(mut path) => {
            path.truncate(path.strip_suffix('/').unwrap_or(&path).len());
            Cow::Owned(path)
        }
    }
}

/// `path` encoded for a `Location` or a link: what [`SafePath::parse`] undoes. `/` stays.
pub fn encode(path: &str) -> impl fmt::Display + '_ {
    utf8_percent_encode(path, SEGMENT)
}

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathError {
    /// It does not begin with `/`.
    NotAbsolute,
    /// A `%` without two hexadecimal digits behind it.
    Percent,
    /// `%2F`.
    EncodedSlash,
    /// A backslash, encoded or not.
    Backslash,
    /// NUL or another control byte.
    ControlByte,
    /// A segment `.` or `..`.
    DotSegment,
    /// Not UTF-8 once decoded.
    NotUtf8,
}

impl PathError {
    /// What was wrong and what was expected, in a few words.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::NotAbsolute => "bad path: expected / at its beginning",
            Self::Percent => "bad path: expected two hexadecimal digits after %",
            Self::EncodedSlash => "bad path: expected no %2F",
            Self::Backslash => "bad path: expected no backslash",
            Self::ControlByte => "bad path: expected no control bytes",
            Self::DotSegment => "bad path: expected no . or .. segments",
            Self::NotUtf8 => "bad path: expected UTF-8",
        }
    }
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for PathError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ordinary_paths_are_borrowed() {
        for (path, relative, folder) in [
            ("/", "", true),
            ("/HelloWorld.html", "HelloWorld.html", false),
            ("/a/b/", "a/b", true),
            ("/.../..a/b..", ".../..a/b..", false),
            ("/\u{fc}", "\u{fc}", false),
        ] {
            let safe = SafePath::parse(path).expect(path);
            assert_eq!(
                (safe.relative.as_ref(), safe.folder),
                (relative, folder),
                "{path}"
            );
            assert!(matches!(safe.relative, Cow::Borrowed(_)), "{path}");
        }
    }

    #[test]
    fn decoding_happens_once_and_empty_segments_vanish() {
        for (path, relative, folder) in [
            ("/a%20b", "a b", false),
            ("/%c3%bc/", "\u{fc}", true),
            ("/%252e%252e/x", "%2e%2e/x", false),
            ("//evil.test//", "evil.test", true),
            ("///a///b", "a/b", false),
            ("//", "", true),
        ] {
            let safe = SafePath::parse(path).expect(path);
            assert_eq!(
                (safe.relative.as_ref(), safe.folder),
                (relative, folder),
                "{path}"
            );
        }
    }

    #[test]
    fn every_way_out_is_refused() {
        use PathError as E;
        for (path, error) in [
            ("", E::NotAbsolute),
            ("a", E::NotAbsolute),
            ("/..", E::DotSegment),
            ("/../etc/passwd", E::DotSegment),
            ("/a/../b", E::DotSegment),
            ("/./a", E::DotSegment),
            ("/a/.", E::DotSegment),
            ("/%2e%2e/a", E::DotSegment),
            ("/.%2E/a", E::DotSegment),
            ("/%2e", E::DotSegment),
            ("/..%2f..%2fetc", E::EncodedSlash),
            ("/a%2Fb", E::EncodedSlash),
            ("/..\\a", E::Backslash),
            ("/..%5ca", E::Backslash),
            ("/a%00.html", E::ControlByte),
            ("/a%0d%0aX:", E::ControlByte),
            ("/a%7f", E::ControlByte),
            ("/%c0%ae%c0%ae/", E::NotUtf8),
            ("/%ff", E::NotUtf8),
            ("/%", E::Percent),
            ("/%2", E::Percent),
            ("/%zz", E::Percent),
            ("/%+1", E::Percent),
        ] {
            assert_eq!(SafePath::parse(path), Err(error), "{path}");
        }
    }

    #[test]
    fn hidden_names_are_told() {
        let hidden = |path| SafePath::parse(path).is_ok_and(|safe| safe.is_hidden());
        assert!(hidden("/.git/config") && hidden("/a/%2ehtaccess"));
        assert!(!hidden("/") && !hidden("/a.b/c"));
    }

    proptest! {
        #[test]
        fn no_path_leaves_the_root(path in r"/([./\\a]|%2e|%2f|%5c|%00|%25|%c0|\u{fc}){0,12}") {
            if let Ok(safe) = SafePath::parse(&path) {
                let segments: Vec<_> = safe.relative.split('/').collect();
                prop_assert!(safe.relative.is_empty() || segments.iter().all(|s| !matches!(*s, "" | "." | "..")));
                prop_assert!(!safe.relative.contains(['\\', '\0']));
            }
        }

        #[test]
        fn parsing_undoes_encoding(name in r"[^\\/\p{C}.][^\\/\p{C}]{0,10}(/[^\\/\p{C}.]{1,5}){0,2}") {
            let path = format!("/{}", encode(&name));
            prop_assert!(path.bytes().all(|b| b.is_ascii_graphic() && !b"<>\"'&?#".contains(&b)));
            let safe = SafePath::parse(&path).expect("encoded");
            prop_assert_eq!(safe.relative.as_ref(), name.as_str());
        }

        #[test]
        fn no_text_panics(path in ".*") {
            let _ = SafePath::parse(&path);
        }
    }
}
