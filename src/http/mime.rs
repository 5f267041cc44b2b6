//! Media types by file name.
//!
//! RFC 9110 section 8.3, RFC 6838 (types), RFC 9239 (JavaScript).
//!
//! Rules:
//! 1. The type follows from the last extension alone, never from the content.
//! 2. Text is UTF-8 and says so.
//! 3. What is unknown is `application/octet-stream`, for the browser to save. Send
//!    `X-Content-Type-Options: nosniff` with it.
//!
//! Not here: languages, and `Content-Encoding`; the type of `page.html.gz` sent as gzip is that of
//! `page.html`, so ask for that.

use std::borrow::Cow;

/// The type of what is unknown.
pub const OCTET_STREAM: &str = "application/octet-stream";

/// The usual types, with their parameters, so that a site's files are answered from here without
/// allocating.
const USUAL: [(&str, &str); 19] = [
    ("html", "text/html; charset=utf-8"),
    ("htm", "text/html; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("txt", "text/plain; charset=utf-8"),
    ("md", "text/markdown; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("json", "application/json"),
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("gif", "image/gif"),
    ("svg", "image/svg+xml"),
    ("webp", "image/webp"),
    ("ico", "image/x-icon"),
    ("woff2", "font/woff2"),
    ("wasm", "application/wasm"),
    ("pdf", "application/pdf"),
];

/// Media types by extension: what the operator has set, then the usual ones, then a large table.
#[derive(Debug, Clone, Default)]
pub struct MediaTypes {
    overrides: Vec<(String, String)>,
}

impl MediaTypes {
    /// The tables with `overrides` before them: pairs of an extension without its dot and a whole
    /// value of `Content-Type`, which is sent as it is.
    #[must_use]
    pub fn new(overrides: Vec<(String, String)>) -> Self {
        Self { overrides }
    }

    /// The value of `Content-Type` for a file of this name or path.
    #[must_use]
    pub fn of(&self, name: &str) -> Cow<'_, str> {
        let Some(extension) = extension(name) else {
            return Cow::Borrowed(OCTET_STREAM);
        };
        let overridden = self
            .overrides
            .iter()
            .map(|(ext, kind)| (ext.as_str(), kind.as_str()));
        let known = overridden
            .chain(USUAL)
            .find(|(known, _)| known.eq_ignore_ascii_case(extension));
        if let Some((_, kind)) = known {
            return Cow::Borrowed(kind);
        }
        match mime_guess::from_ext(extension).first_raw() {
            Some(kind) if kind.starts_with("text/") => Cow::Owned(format!("{kind}; charset=utf-8")),
            Some(kind) => Cow::Borrowed(kind),
            None => Cow::Borrowed(OCTET_STREAM),
        }
    }
}

/// What follows the last dot of the last segment; `None` for `.hidden` and for names without a dot.
fn extension(name: &str) -> Option<&str> {
    let file_name = name.rsplit('/').next()?;
    let (stem, extension) = file_name.rsplit_once('.')?;
    (!stem.is_empty()).then_some(extension)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_follow_the_last_extension() {
        let types = MediaTypes::default();
        for (name, kind) in [
            ("HelloWorld.html", "text/html; charset=utf-8"),
            ("a/b.c/INDEX.HTM", "text/html; charset=utf-8"),
            ("x.min.js", "text/javascript; charset=utf-8"),
            ("x.json", "application/json"),
            ("x.vcf", "text/x-vcard; charset=utf-8"),
            ("x.tar", "application/x-tar"),
            ("x.png", "image/png"),
            ("folder.html/README", OCTET_STREAM),
            (".html", OCTET_STREAM),
            ("x.", OCTET_STREAM),
            ("x.nosuchtype", OCTET_STREAM),
            ("", OCTET_STREAM),
        ] {
            assert_eq!(types.of(name), kind, "{name}");
        }
    }

    #[test]
    fn an_override_goes_first_and_is_sent_as_it_is() {
        let types = MediaTypes::new(vec![("HTML".into(), "text/html; charset=latin-1".into())]);
        assert_eq!(types.of("a.html"), "text/html; charset=latin-1");
        assert_eq!(types.of("a.css"), "text/css; charset=utf-8");
    }
}
