//! A `README` under a listing: text that its folder says of itself.
//!
//! It is shown as it is written, Markdown too: who put it there need not be who runs the server, and a page of this server
//! neither runs nor draws what others wrote. What is no text is not shown.

use std::ffi::OsStr;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;

use super::super::html::Html;
use crate::http::path::encode;

/// The names that are shown, in any case; of several the first.
const NAMES: [&str; 3] = ["README", "README.txt", "README.md"];

/// Which of some names is shown.
pub(super) fn choose<'n>(names: impl Iterator<Item = &'n OsStr> + Clone) -> Option<&'n OsStr> {
    let named = |wanted: &str| {
        let mut names = names.clone();
        names.find(|name| name.eq_ignore_ascii_case(wanted))
    };
    NAMES.into_iter().find_map(named)
}

/// Appends the part of the page that shows `contents`, the beginning of a file, or all of it.
pub(super) fn put(text: &mut String, name: &OsStr, contents: &[u8], is_all: bool) {
    if contents.contains(&0) {
        return; // UTF-16, or no text
    }
    let mut contents = contents.strip_prefix(b"\xef\xbb\xbf").unwrap_or(contents);
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
        put(&mut text, OsStr::new("README.md"), contents, is_all);
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
