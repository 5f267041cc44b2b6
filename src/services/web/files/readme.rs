//! A `README` under a listing: text that its folder says of itself.
//!
//! It is shown as it is written, Markdown too: who put it there need not be who runs the server, and a page of this server
//! neither runs nor draws what others wrote. What is no text is not shown.

use std::ffi::OsStr;
use std::fmt::Write;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::disk::{Disk, File, FileKind};
use crate::http::path::encode;
use crate::services::web::html::Html;

/// The names that are shown, in any case; of several the first.
const NAMES: [&str; 3] = ["README", "README.txt", "README.md"];

/// Which of some names is shown.
pub(super) fn choose<'n>(names: impl Iterator<Item = &'n OsStr>) -> Option<&'n OsStr> {
    let rank = |name: &OsStr| {
        let mut shown = NAMES.iter();
        shown.position(|shown| name.eq_ignore_ascii_case(shown))
    };
    let ranked = names.filter_map(|name| Some((rank(name)?, name)));
    Some(ranked.min_by_key(|(rank, _)| *rank)?.1)
}

/// The beginning of a file, or all of it.
pub(super) struct Contents {
    bytes: Vec<u8>,
    is_all: bool,
}

/// Reads the first `bytes_max` bytes of a file; nothing of what is no file.
pub(super) fn read(
    root: &File,
    path: &Path,
    bytes_max: usize,
    disk: &mut dyn Disk,
) -> io::Result<Option<Contents>> {
    if bytes_max == 0 {
        return Ok(None);
    }
    let file = disk.open(root, path)?;
    if disk.metadata(&file)?.kind != FileKind::Regular {
        return Ok(None);
    }
    let mut bytes = vec![0; bytes_max + 1];
    let mut count = 0;
    while count < bytes.len() {
        match disk.read_at(&file, count as u64, &mut bytes[count..])? {
            0 => break,
            more => count += more,
        }
    }
    bytes.truncate(count.min(bytes_max));
    let is_all = count <= bytes_max;
    Ok(Some(Contents { bytes, is_all }))
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
            let names = names.iter().map(OsStr::new);
            assert_eq!(choose(names), chosen.map(OsStr::new));
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
