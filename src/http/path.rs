//! Request paths to file paths: decoded once, inside the root, or refused.
//!
//! RFC 3986 sections 2.1 (percent-encoding), 3.3 (paths), 5.2.4 and 6.2.2.3 (dot segments).
//!
//! Rules:
//! 1. Percent-encoding is undone exactly once, and what comes out is judged, never decoded again.
//! 2. Segments `.` and `..`, encoded or not (a dot is the same either way, section 6.2.2.2), are
//!    resolved as section 5.2.4 does. Where that would clamp a path to the root, it is refused: it
//!    means something that is not below it. So is `%2F`, because a file name cannot contain it, and
//!    NUL. All other bytes may stand in names.
//! 3. Empty segments vanish: `//a///b` is `a/b`. So the result never begins with `/`, and a
//!    `Location` that is made of it with one `/` in front stays on this host, which `//evil.test/`
//!    would not.
//!
//! No allocation where nothing has to change. Not here: files, symbolic links (to be opened beneath
//! the root), and whether hidden names are served; [`SafePath::is_hidden`] only tells.

use percent_encoding::{AsciiSet, CONTROLS, percent_encode};
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
    pub relative: Cow<'b, [u8]>,
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
        if means_itself(encoded.as_bytes()) {
            return Ok(Self {
                relative: Cow::Borrowed(encoded.strip_suffix('/').unwrap_or(encoded).as_bytes()),
                folder: encoded.is_empty() || encoded.ends_with('/'),
            });
        }
        let decoded = decode(encoded.as_bytes())?;
        if decoded.contains(&0) {
            return Err(PathError::Nul);
        }
        let decoded = without_dot_segments(decoded)?;
        let folder = decoded.is_empty() || decoded.ends_with(b"/");
        Ok(Self {
            relative: without_empty_segments(decoded),
            folder,
        })
    }

    /// Whether any segment begins with a dot.
    #[must_use]
    pub fn is_hidden(&self) -> bool {
        segments(&self.relative).any(|segment| segment.starts_with(b"."))
    }
}

fn segments(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/')
}

/// Whether nothing in a path has to be undone, resolved or judged, as in nearly all: nothing is
/// encoded, and no segment is empty or begins with a dot. Found in one walk over it, without a
/// branch for each byte.
fn means_itself(path: &[u8]) -> bool {
    const SLASH: u8 = 1;
    const DOT: u8 = 2;
    const NEVER: u8 = 4;
    /// For each byte which kind it is, and four bits further which kinds are odd behind it.
    const KINDS: [u8; 256] = {
        let mut kinds = [NEVER << 4; 256];
        kinds[b'/' as usize] = SLASH | ((NEVER | SLASH | DOT) << 4);
        kinds[b'.' as usize] |= DOT;
        kinds[b'%' as usize] |= NEVER;
        kinds[0] |= NEVER;
        kinds
    };
    let (mut odd, mut is_odd_here) = (0, NEVER | SLASH | DOT);
    for &byte in path {
        let kind = KINDS[usize::from(byte)];
        odd |= kind & is_odd_here;
        is_odd_here = kind >> 4;
    }
    odd == 0
}

/// Undoes percent-encoding, once.
fn decode(encoded: &[u8]) -> Result<Cow<'_, [u8]>, PathError> {
    let Some(first) = memchr::memchr(b'%', encoded) else {
        return Ok(Cow::Borrowed(encoded));
    };
    let mut decoded = encoded[..first].to_vec();
    let mut rest = &encoded[first..];
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
    Ok(Cow::Owned(decoded))
}

fn hex(digit: u8) -> Result<u8, PathError> {
    let value = (digit as char).to_digit(16).ok_or(PathError::Percent)?;
    Ok(value as u8)
}

/// Resolves `.` and `..`. A `..` takes an empty segment before it away like any other, as RFC 3986
/// section 5.2.4 has it.
fn without_dot_segments(path: Cow<'_, [u8]>) -> Result<Cow<'_, [u8]>, PathError> {
    let is_dots = |segment: &[u8]| matches!(segment, b"." | b"..");
    if !segments(&path).any(is_dots) {
        return Ok(path);
    }
    let mut resolved: Vec<&[u8]> = Vec::new();
    for segment in segments(&path) {
        match segment {
            b"." => {}
            b".." => drop(resolved.pop().ok_or(PathError::AboveRoot)?),
            segment => resolved.push(segment),
        }
    }
    // What ends with dots is the folder that they lead to.
    if segments(&path).next_back().is_some_and(is_dots) {
        resolved.push(b"");
    }
    Ok(Cow::Owned(resolved.join(&b'/')))
}

fn without_empty_segments(path: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    if path.starts_with(b"/") || path.windows(2).any(|two| two == b"//") {
        let names = segments(&path).filter(|segment| !segment.is_empty());
        return Cow::Owned(names.collect::<Vec<_>>().join(&b'/'));
    }
    match path {
        Cow::Borrowed(path) => Cow::Borrowed(path.strip_suffix(b"/").unwrap_or(path)),
        Cow::Owned(mut path) => {
            path.truncate(path.strip_suffix(b"/").unwrap_or(&path).len());
            Cow::Owned(path)
        }
    }
}

/// `path` encoded for a `Location` or a link: what [`SafePath::parse`] undoes. `/` stays.
pub fn encode(path: &[u8]) -> impl fmt::Display + '_ {
    percent_encode(path, SEGMENT)
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
    /// `%00`.
    Nul,
    /// More segments `..` than there are names before them.
    AboveRoot,
}

impl PathError {
    /// What was wrong and what was expected, in a few words.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::NotAbsolute => "bad path: expected / at its beginning",
            Self::Percent => "bad path: expected two hexadecimal digits after %",
            Self::EncodedSlash => "bad path: expected no %2F",
            Self::Nul => "bad path: expected no %00",
            Self::AboveRoot => "bad path: expected no more .. than names before them",
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
        ] {
            let safe = SafePath::parse(path).expect(path);
            assert_eq!(
                (&*safe.relative, safe.folder),
                (relative.as_bytes(), folder),
                "{path}"
            );
            assert!(matches!(safe.relative, Cow::Borrowed(_)), "{path}");
        }
    }

    #[test]
    fn decoding_happens_once_and_empty_segments_vanish() {
        for (path, relative, folder) in [
            ("/a%20b", &b"a b"[..], false),
            ("/%c3%bc/", "\u{fc}".as_bytes(), true),
            ("/%252e%252e/x", b"%2e%2e/x", false),
            ("//evil.test//", b"evil.test", true),
            ("///a///b", b"a/b", false),
            ("//", b"", true),
            // Whatever a file system takes for a name.
            ("/a%0ab%09%7f", b"a\nb\t\x7f", false),
            ("/..%5ca", b"..\\a", false),
            ("/%ff/%c0%ae%c0%ae/", b"\xff/\xc0\xae\xc0\xae", true),
        ] {
            let safe = SafePath::parse(path).expect(path);
            assert_eq!((&*safe.relative, safe.folder), (relative, folder), "{path}");
        }
    }

    #[test]
    fn dot_segments_are_resolved_below_the_root() {
        for (path, relative, folder) in [
            // The example of RFC 3986 section 5.2.4.
            ("/a/b/c/./../../g", "a/g", false),
            ("/./Packages", "Packages", false),
            ("/apt/./Packages", "apt/Packages", false),
            ("/a/../x", "x", false),
            ("/a/b/..", "a", true),
            ("/a/b/../", "a", true),
            ("/a/.", "a", true),
            ("/a/..", "", true),
            ("/.", "", true),
            ("/././.", "", true),
            ("/a/../b/../c", "c", false),
            ("/%2e/a", "a", false),
            ("/a/%2E%2e/b", "b", false),
            ("/a/.%2e/b", "b", false),
            ("/.git/../a", "a", false),
            ("/a//../b", "a/b", false),
            ("//../b", "b", false),
            ("/a/..//b", "b", false),
        ] {
            let safe = SafePath::parse(path).expect(path);
            assert_eq!(
                (&*safe.relative, safe.folder),
                (relative.as_bytes(), folder),
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
            ("/..", E::AboveRoot),
            ("/../etc/passwd", E::AboveRoot),
            ("/a/../..", E::AboveRoot),
            ("/a/../../b", E::AboveRoot),
            ("/./../a", E::AboveRoot),
            ("/../a/b/c", E::AboveRoot),
            ("/%2e%2e/a", E::AboveRoot),
            ("/.%2E/a", E::AboveRoot),
            ("/..%2f..%2fetc", E::EncodedSlash),
            ("/a%2Fb", E::EncodedSlash),
            ("/a%00.html", E::Nul),
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

    /// RFC 3986 section 5.2.4, to the letter.
    fn remove_dot_segments(path: &str) -> String {
        let (mut input, mut output) = (path.to_owned(), String::new());
        while !input.is_empty() {
            if input.starts_with("/./") || input == "/." {
                input.replace_range(..input.len().min(3), "/");
            } else if input.starts_with("/../") || input == "/.." {
                input.replace_range(..input.len().min(4), "/");
                output.truncate(output.rfind('/').unwrap_or(0));
            } else {
                let end = input[1..].find('/').map_or(input.len(), |at| at + 1);
                output.extend(input.drain(..end));
            }
        }
        output
    }

    proptest! {
        #[test]
        fn no_path_leaves_the_root(path in r"/([./\\a]|%2e|%2f|%5c|%00|%25|%c0|\u{fc}){0,12}") {
            if let Ok(safe) = SafePath::parse(&path) {
                let mut names = segments(&safe.relative);
                let is_safe = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && !name.contains(&0);
                prop_assert!(safe.relative.is_empty() || names.all(is_safe));
            }
        }

        #[test]
        fn dots_are_resolved_as_the_rfc_does(path in r"(/(\.|\.\.|a|b|)){1,8}") {
            let depths = path.split('/').skip(1).scan(0i32, |depth, segment| {
                *depth += match segment { ".." => -1, "." => 0, _ => 1 };
                Some(*depth)
            });
            let is_above = depths.min() < Some(0);
            match SafePath::parse(&path) {
                Err(error) => prop_assert!(is_above && error == PathError::AboveRoot),
                Ok(safe) => {
                    prop_assert!(!is_above);
                    let resolved = remove_dot_segments(&path);
                    prop_assert_eq!(safe.folder, resolved.ends_with('/'));
                    let names: Vec<_> = resolved.split('/').filter(|name| !name.is_empty()).collect();
                    let names = names.join("/");
                    prop_assert_eq!(&*safe.relative, names.as_bytes());
                }
            }
        }

        #[test]
        fn parsing_undoes_encoding(names in prop::collection::vec(prop::collection::vec(1u8.., 1..6), 1..4)) {
            let is_name = |name: &Vec<u8>| !name.contains(&b'/') && !matches!(&name[..], b"." | b"..");
            prop_assume!(names.iter().all(is_name));
            let name = names.join(&b'/');
            let path = format!("/{}", encode(&name));
            prop_assert!(path.bytes().all(|b| b.is_ascii_graphic() && !b"<>\"'&?#\\".contains(&b)));
            let safe = SafePath::parse(&path).expect("encoded");
            prop_assert_eq!(&*safe.relative, &name[..]);
        }

        #[test]
        fn no_text_panics(path in ".*") {
            let _ = SafePath::parse(&path);
        }
    }
}
