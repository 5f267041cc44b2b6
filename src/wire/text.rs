//! What a peer sent, as text that is safe to show. On a terminal control characters move the
//! cursor, change what was printed before or type answers; a line end within a message forges the
//! next one; and there are characters that cannot be seen, or turn the order of what follows
//! around, so that one name looks like another.
//!
//! Rules:
//! - What is [hidden](is_hidden) is never shown as it came: it is escaped in logs, messages and
//!   pages, and no file gets a name with it. On a terminal it is replaced.
//! - What is shown of a peer's text is bounded, and says so where it was cut.

use std::fmt::{self, Write};

/// Bytes of a log line, without its time and place: room for the longest file name, each of its
/// letters escaped.
pub const LOG_LINE_BYTES_MAX: usize = 2048;

/// Bytes of a text within a message.
pub const QUOTED_BYTES_MAX: usize = 256;

/// Whether a character cannot be seen, or changes how those around it are seen: controls, line and
/// paragraph separators, marks that change the direction of text, and what Unicode calls format
/// characters and ignorable ones (Unicode Standard Annex 9 and 44). Not those that print (Arabic
/// number signs) or choose between forms of one letter (variation selectors).
pub fn is_hidden(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    matches!(c,
        '\u{80}'..='\u{9f}' // controls
        | '\u{ad}' // the soft hyphen
        | '\u{34f}' // the grapheme joiner
        | '\u{61c}' // the Arabic letter mark
        | '\u{115f}'..='\u{1160}' // Hangul fillers
        | '\u{17b4}'..='\u{17b5}' // Khmer inherent vowels
        | '\u{180e}' // the Mongolian vowel separator
        | '\u{200b}'..='\u{200f}' // zero width space and joiners, direction marks
        | '\u{2028}'..='\u{202e}' // separators, embeddings and overrides of direction
        | '\u{2060}'..='\u{206f}' // invisible operators, isolates
        | '\u{3164}' // a Hangul filler
        | '\u{feff}' // the byte order mark
        | '\u{ffa0}' // a Hangul filler
        | '\u{fff0}'..='\u{fffb}' // annotations
        | '\u{13430}'..='\u{1343f}' // joiners of hieroglyphs
        | '\u{1bca0}'..='\u{1bca3}' // shorthand controls
        | '\u{1d173}'..='\u{1d17a}' // beams and slurs
        | '\u{e0000}'..='\u{e00ff}' | '\u{e01f0}'..='\u{e0fff}' // tags
    )
}

/// A message for the log, as one line of at most [`LOG_LINE_BYTES_MAX`].
pub struct LogLine<'a>(pub fmt::Arguments<'a>);

impl fmt::Display for LogLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut escaped = Escaped::new(f, LOG_LINE_BYTES_MAX, is_hidden);
        escaped.write_fmt(self.0)?;
        escaped.finish()
    }
}

/// The same for a log whose format escapes what has to be: of at most as many bytes, and as it came.
pub struct LogText<'a>(pub fmt::Arguments<'a>);

impl fmt::Display for LogText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bounded = Escaped::new(f, LOG_LINE_BYTES_MAX, |_| false);
        bounded.write_fmt(self.0)?;
        bounded.finish()
    }
}

/// A text in quotation marks, as one of at most [`QUOTED_BYTES_MAX`].
#[derive(Debug, Clone, Copy)]
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        let is_special = |c| c == '"' || c == '\\' || is_hidden(c);
        let mut escaped = Escaped::new(f, QUOTED_BYTES_MAX, is_special);
        escaped.write_str(self.0)?;
        escaped.finish()?;
        f.write_char('"')
    }
}

/// Hands text on with some of its characters escaped as Rust does it, until a number of bytes is
/// full.
struct Escaped<'f, 'g, P> {
    out: &'f mut fmt::Formatter<'g>,
    /// Bytes that still have room.
    room: usize,
    /// Bytes of the text that had none.
    cut: usize,
    is_special: P,
}

impl<'f, 'g, P: Fn(char) -> bool> Escaped<'f, 'g, P> {
    fn new(out: &'f mut fmt::Formatter<'g>, room: usize, is_special: P) -> Self {
        Self {
            out,
            room,
            cut: 0,
            is_special,
        }
    }

    /// Says how much was cut.
    fn finish(self) -> fmt::Result {
        match self.cut {
            0 => Ok(()),
            bytes => write!(self.out, "… [{bytes} bytes more]"),
        }
    }
}

impl<P: Fn(char) -> bool> Write for Escaped<'_, '_, P> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (at, c) in text.char_indices() {
            let special = (self.is_special)(c);
            let bytes = if special {
                c.escape_default().len()
            } else {
                c.len_utf8()
            };
            if self.cut > 0 || bytes > self.room {
                self.cut += text.len() - at;
                return Ok(());
            }
            self.room -= bytes;
            if special {
                write!(self.out, "{}", c.escape_default())?;
            } else {
                self.out.write_char(c)?;
            }
        }
        Ok(())
    }
}

/// Appends a text as JSON has it, in quotation marks, what is hidden as `\uHHHH` (RFC 8259, section
/// 7).
pub fn put_json(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if is_hidden(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a String does not fail.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Bytes as one line for a terminal: what is hidden is replaced, but for tabs, and what is not
/// UTF-8. The two joiners stay, which words in many scripts need and which move nothing.
pub fn printable(bytes: &[u8]) -> String {
    let keep = |c: char| !is_hidden(c) || matches!(c, '\t' | '\u{200c}' | '\u{200d}');
    String::from_utf8_lossy(bytes)
        .chars()
        .map(|c| {
            if keep(c) {
                c
            } else {
                char::REPLACEMENT_CHARACTER
            }
        })
        .collect()
}

/// The same line by line, each ended by a line feed alone.
pub fn printable_lines(bytes: &[u8]) -> String {
    let lines = bytes.split(|&byte| byte == b'\n');
    let lines: Vec<String> = lines
        .map(|line| printable(line.strip_suffix(b"\r").unwrap_or(line)))
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Characters that nobody sees, or that change what others look like.
    const HIDDEN: &str = "\0\u{1}\t\n\r\u{1b}\u{7f}\u{80}\u{9b}\u{ad}\u{61c}\u{180e}\u{200b}\u{200c}\u{200d}\
        \u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2060}\u{2066}\u{2067}\u{2068}\
        \u{2069}\u{206f}\u{3164}\u{feff}\u{fff9}\u{fffb}\u{1d173}\u{e0001}\u{e0041}";

    #[test]
    fn what_is_hidden_and_what_is_not() {
        for c in HIDDEN.chars() {
            assert!(is_hidden(c), "{c:?}");
        }
        for c in " ~aé\u{301}ß…中\u{3000}\u{a0}한🦀\u{fe0f}\u{fffd}\u{ffff}\u{e0100}".chars()
        {
            assert!(!is_hidden(c), "{c:?}");
        }
    }

    #[test]
    fn a_log_line_is_one_line_of_bounded_length() {
        let line = |text: &str| LogLine(format_args!("upload: {text}")).to_string();
        assert_eq!(line("\"é\\x\" a.txt"), "upload: \"é\\x\" a.txt");
        assert_eq!(
            line("a\r\n[2026] b\u{202e}c\u{2028}d\0\u{feff}"),
            "upload: a\\r\\n[2026] b\\u{202e}c\\u{2028}d\\u{0}\\u{feff}"
        );
        let long = line(&"x".repeat(60_000));
        let kept = LOG_LINE_BYTES_MAX - "upload: ".len();
        let expected = format!(
            "upload: {}… [{} bytes more]",
            "x".repeat(kept),
            60_000 - kept
        );
        assert_eq!(long, expected);
    }

    #[test]
    fn a_quoted_text_is_told_from_what_stands_around_it() {
        let quoted = |text: &str| Quoted(text).to_string();
        assert_eq!(quoted("ann"), "\"ann\"");
        assert_eq!(quoted("a\" refused\\\n"), "\"a\\\" refused\\\\\\n\"");
        let long = format!("{}é{}", "x".repeat(255), "y".repeat(100));
        let expected = format!("\"{}… [102 bytes more]\"", "x".repeat(255));
        assert_eq!(quoted(&long), expected);
    }

    #[test]
    fn json_hides_nothing_and_comes_back() {
        let text = format!("a\"\\/é🦀{HIDDEN}");
        let mut out = String::new();
        put_json(&mut out, &text);
        assert!(!out.chars().any(is_hidden), "{out}");
        assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
        out.clear();
        put_json(&mut out, "a\u{202e}\u{e0041}\n");
        assert_eq!(out, r#""a\u202e\udb40\udc41\u000a""#);
    }

    #[test]
    fn neither_escapes_nor_forged_lines_are_shown() {
        assert_eq!(
            printable("a\tb\x1b[2J\r\nok\u{9b}2J\u{202e}x\u{200d}".as_bytes()),
            "a\tb\u{fffd}[2J\u{fffd}\u{fffd}ok\u{fffd}2J\u{fffd}x\u{200d}"
        );
        assert_eq!(printable(b"\x9b2J\xff"), "\u{fffd}2J\u{fffd}");
        assert_eq!(
            printable_lines(b"X: \x1bc\r\n\r\nb\rc\n"),
            "X: \u{fffd}c\n\nb\u{fffd}c\n"
        );
    }

    proptest! {
        #[test]
        fn nothing_hidden_is_shown(text in any::<String>()) {
            let line = LogLine(format_args!("{text}")).to_string();
            prop_assert!(!line.chars().any(is_hidden));
            prop_assert!(line.len() < LOG_LINE_BYTES_MAX + 40);
            let quoted = Quoted(&text).to_string();
            prop_assert!(!quoted.chars().any(is_hidden));
            prop_assert!(quoted.len() < QUOTED_BYTES_MAX + 40);
        }
    }
}
