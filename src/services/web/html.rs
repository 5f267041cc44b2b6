//! Text in pages.

use std::fmt;

use crate::wire::text::is_hidden;

/// A name or path in a page: text that stays text. Of what is none, or would change how the text
/// around it looks, the escape is shown.
pub(super) struct Html<'a>(pub(super) &'a [u8]);

impl fmt::Display for Html<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            let text = chunk.valid();
            let mut written = 0;
            for (at, c) in text.char_indices() {
                let escape = match c {
                    '&' => "&amp;",
                    '<' => "&lt;",
                    '>' => "&gt;",
                    '"' => "&quot;",
                    '\'' => "&#39;",
                    c if is_hidden(c) => "",
                    _ => continue,
                };
                f.write_str(&text[written..at])?; // what needs no escape at a stroke: refusals are many
                match escape {
                    "" => write!(f, "{}", c.escape_default())?,
                    escape => f.write_str(escape)?,
                }
                written = at + c.len_utf8();
            }
            f.write_str(&text[written..])?;
            write!(f, "{}", chunk.invalid().escape_ascii())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Html;

    #[test]
    fn text_stays_text_and_what_is_none_is_shown_escaped() {
        let shown = |bytes: &[u8]| Html(bytes).to_string();
        assert_eq!(shown(b""), "");
        assert_eq!(shown(b"plain text"), "plain text");
        assert_eq!(shown("Grüße & Küsse".as_bytes()), "Grüße &amp; Küsse");
        assert_eq!(shown(b"<a href=\"'\">"), "&lt;a href=&quot;&#39;&quot;&gt;");
        assert_eq!(shown("ü\u{202e}ß".as_bytes()), "ü\\u{202e}ß");
        assert_eq!(shown(b"a\xffb\n&"), "a\\xffb\\n&amp;");
    }
}
