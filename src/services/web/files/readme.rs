//! A `README` under a listing: text that its folder says of itself.
//!
//! It is shown as it is written, Markdown too: who put it there need not be who runs the server,
//! and a page of this server neither runs nor draws what others wrote. What is no text is not
//! shown.

use std::ffi::OsStr;
use std::fmt::Write;
use std::hash::Hash;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{File, FileKind, Metadata};
use crate::http::path::encode;
use crate::jobs::Jobs;
use crate::jobs::pending::{Asker, Pending};
use crate::services::web::html::Html;

/// The names that are shown, in any case; of several the first.
const NAMES: [&str; 3] = ["README", "README.txt", "README.md"];

/// Which of some names is shown.
#[derive(Default)]
pub(super) struct Choice(Option<(usize, PathBuf)>);

impl Choice {
    /// One name more.
    pub(super) fn offer(&mut self, name: &OsStr) {
        let mut shown = NAMES.iter();
        if let Some(rank) = shown.position(|shown| name.eq_ignore_ascii_case(shown))
            && self.0.as_ref().is_none_or(|(best, _)| rank < *best)
        {
            self.0 = Some((rank, name.into()));
        }
    }

    pub(super) fn name(self) -> Option<PathBuf> {
        Some(self.0?.1)
    }
}

/// The beginning of a file, or all of it.
pub(super) struct Contents {
    bytes: Vec<u8>,
    is_all: bool,
}

/// A file whose beginning is being read.
pub(super) enum Readme {
    Opening(Pending<(File, Metadata)>),
    Reading(Pending<Arc<[u8]>>),
    /// Nothing of what is no file, or cannot be read.
    Done(Option<Contents>),
}

impl Readme {
    pub(super) fn new<W: Copy + Ord + Hash>(
        root: &File,
        path: &Path,
        asker: &mut Asker<'_, W>,
    ) -> Self {
        Self::Opening(asker.open(root, path))
    }

    /// Goes on as far as the disk allows, to read at most `bytes_max` bytes. Whether it is done.
    pub(super) fn work<W: Copy + Ord + Hash>(
        &mut self,
        bytes_max: usize,
        asker: &mut Asker<'_, W>,
    ) -> bool {
        loop {
            *self = match std::mem::replace(self, Self::Done(None)) {
                Self::Opening(opened) => match opened.take(asker.jobs) {
                    Ok(Ok((file, metadata))) if metadata.kind == FileKind::Regular => {
                        Self::Reading(asker.read(&file, 0, bytes_max + 1))
                    }
                    Ok(_) => Self::Done(None),
                    Err(opened) => {
                        *self = Self::Opening(opened);
                        return false;
                    }
                },
                Self::Reading(read) => match read.take(asker.jobs) {
                    Ok(read) => Self::Done(read.ok().map(|bytes| Contents {
                        is_all: bytes.len() <= bytes_max,
                        bytes: bytes[..bytes.len().min(bytes_max)].to_vec(),
                    })),
                    Err(read) => {
                        *self = Self::Reading(read);
                        return false;
                    }
                },
                Self::Done(contents) => {
                    *self = Self::Done(contents);
                    return true;
                }
            };
        }
    }

    pub(super) fn contents(self) -> Option<Contents> {
        match self {
            Self::Done(contents) => contents,
            Self::Opening(_) | Self::Reading(_) => None,
        }
    }

    /// It is not wanted any more.
    pub(super) fn cancel<W: Copy + Ord + Hash>(self, jobs: &mut Jobs<W>) {
        match self {
            Self::Opening(opened) => opened.cancel(jobs),
            Self::Reading(read) => read.cancel(jobs),
            Self::Done(_) => {}
        }
    }
}

/// Appends the part of the page that shows the file.
pub(super) fn put(text: &mut String, name: &OsStr, contents: &Contents) {
    let Contents { bytes, is_all } = contents;
    if bytes.contains(&0) {
        return; // UTF-16, or no text
    }
    let mut contents = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if !is_all && let Some(end) = memchr::memrchr(b'\n', contents) {
        contents = &contents[..end]; // a line that was cut may end in half a character
    }
    let name = name.as_bytes();
    // Invariant: writing to a String does not fail.
    let _ = write!(
        text,
        "<section><h2><a href=\"./{}\">{}</a></h2>\n<pre>\n",
        encode(name),
        Html(name)
    );
    for line in contents.trim_ascii_end().split(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        for (place, part) in line.split(|&byte| byte == b'\t').enumerate() {
            let tab = if place > 0 { "\t" } else { "" };
            let _ = write!(text, "{tab}{}", Html(part));
        }
        text.push('\n');
    }
    text.push_str("</pre>\n");
    if !is_all {
        let _ = writeln!(
            text,
            "<p>There is more in <a href=\"./{}\">{}</a>.</p>",
            encode(name),
            Html(name)
        );
    }
    text.push_str("</section>\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(contents: &[u8], is_all: bool) -> String {
        let mut text = String::new();
        let bytes = contents.to_vec();
        let contents = Contents { bytes, is_all };
        put(&mut text, OsStr::new("README.md"), &contents);
        text
    }

    #[test]
    fn the_first_of_the_names_is_shown_in_any_case() {
        for (names, chosen) in [
            (&["a", "ReadMe.MD", "readme.txt"][..], Some("readme.txt")),
            (&["README.md", "README"], Some("README")),
            (&["README.html", "README.md.bak", "README.rst"], None),
            (&[], None),
        ] {
            let mut choice = Choice::default();
            for name in names {
                choice.offer(OsStr::new(name));
            }
            assert_eq!(choice.name(), chosen.map(PathBuf::from));
        }
    }

    #[test]
    fn text_stays_text() {
        let page = shown(
            b"\xef\xbb\xbf# A <b>\r\n\tb & \"c\"\n\n<script>x</script>\xff\xe2\x80\xae\x1b[2J\n\n",
            true,
        );
        let expected = "<section><h2><a href=\"./README.md\">README.md</a></h2>\n<pre>\n# A &lt;b&gt;\n\
                        \tb &amp; &quot;c&quot;\n\n&lt;script&gt;x&lt;/script&gt;\\xff\\u{202e}\\u{1b}[2J\n</pre>\n</section>\n";
        assert_eq!(page, expected);
    }

    #[test]
    fn what_is_no_text_is_not_shown() {
        assert_eq!(shown(b"a\0b", true), "");
        assert_eq!(shown(b"\xff\xfea\0", true), "");
    }

    #[test]
    fn what_is_cut_ends_with_a_line_and_says_so() {
        let page = shown(b"one\ntwo\nthr\xc3", false);
        assert!(page.contains("<pre>\none\ntwo\n</pre>"), "{page}");
        assert!(
            page.contains("There is more in <a href=\"./README.md\">"),
            "{page}"
        );
        assert!(shown("\u{fc}".as_bytes(), false).contains("<pre>\n\u{fc}\n</pre>"));
    }
}
