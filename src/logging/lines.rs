//! A line as text, or as a JSON object (RFC 8259).

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use log::{Level, Record};
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

use super::About;
use crate::http::date::put_iso;
use crate::wire::text::{LogLine, LogText, is_hidden};

/// How lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For readers: time, level, module, session, message.
    #[default]
    Text,
    /// For programs: an object a line.
    Json,
}

impl Format {
    /// The words of the key `format`.
    pub const WORDS: [(&'static str, Self); 2] = [("text", Self::Text), ("json", Self::Json)];
}

/// A line as JSON has it.
#[derive(Serialize)]
struct Object<'a> {
    time: &'a str,
    level: &'a str,
    target: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    listener: Option<&'a str>,
    message: &'a str,
}

/// Appends a line for readers.
pub(super) fn text(
    out: &mut String,
    record: &Record<'_>,
    wall: SystemTime,
    about: Option<&About>,
    is_coloured: bool,
) {
    let level = record.level();
    let (style, end) = match is_coloured {
        true => (colour(level), "\x1b[0m"),
        false => ("", ""),
    };
    out.push('[');
    put_iso(out, unix_time(wall).as_secs() as i64);
    // Writing to a string does not fail.
    let _ = write!(out, " {style}{level:<5}{end} {}", record.target());
    if let Some(About { session, listener }) = about {
        let _ = write!(out, " {listener}#{session}");
    }
    let _ = writeln!(out, "] {}", LogLine(*record.args()));
}

/// Appends a line for programs.
pub(super) fn json(out: &mut String, record: &Record<'_>, wall: SystemTime, about: Option<&About>) {
    let since = unix_time(wall);
    let mut time = String::new();
    put_iso(&mut time, since.as_secs() as i64);
    time.pop(); // the Z, which stands behind the fraction
    let _ = write!(time, ".{:06}Z", since.subsec_micros());
    let level = record.level().as_str().to_ascii_lowercase();
    let message = LogText(*record.args()).to_string();
    put(
        out,
        &Object {
            time: &time,
            level: &level,
            target: record.target(),
            session: about.map(|about| about.session),
            listener: about.map(|about| &*about.listener),
            message: &message,
        },
    );
}

/// What is said of so many lines that nobody read, in a format.
pub fn dropped(format: Format, lines: u64) -> String {
    let message = format!("{lines} lines of the log were dropped: nobody read them");
    match format {
        Format::Text => format!("[{message}]\n"),
        Format::Json => {
            let mut out = String::new();
            put(
                &mut out,
                &serde_json::json!({ "level": "warn", "message": message }),
            );
            out
        }
    }
}

fn put(out: &mut String, object: &impl Serialize) {
    let mut bytes = Vec::new();
    // Invariant: memory takes all that is written, and texts and numbers are JSON.
    let written = object.serialize(&mut Serializer::with_formatter(&mut bytes, Visible));
    written.expect("an object of texts");
    out.push_str(&String::from_utf8_lossy(&bytes));
    out.push('\n');
}

fn unix_time(wall: SystemTime) -> Duration {
    wall.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The colours that env_logger made customary.
fn colour(level: Level) -> &'static str {
    match level {
        Level::Error => "\x1b[1;31m",
        Level::Warn => "\x1b[33m",
        Level::Info => "\x1b[32m",
        Level::Debug => "\x1b[34m",
        Level::Trace => "\x1b[36m",
    }
}

/// JSON in which nothing is hidden: beyond what it has to escape (RFC 8259 section 7), it escapes
/// what some take for the end of a line, and what changes how a terminal shows the rest.
struct Visible;

impl Formatter for Visible {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut plain = 0;
        for (at, hidden) in fragment.char_indices().filter(|(_, c)| is_hidden(*c)) {
            CompactFormatter.write_string_fragment(out, &fragment[plain..at])?;
            for unit in hidden.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}")?;
            }
            plain = at + hidden.len_utf8();
        }
        CompactFormatter.write_string_fragment(out, &fragment[plain..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    const WALL: Duration = Duration::new(784_111_777, 12_345_678);

    fn written(format: Format, message: &str, about: Option<&About>) -> String {
        let mut line = String::new();
        let wall = UNIX_EPOCH + WALL;
        let arguments = format_args!("{message}");
        let mut record = Record::builder();
        let record = record.level(Level::Warn).target("netlab_reactor::x");
        let record = record.args(arguments).build();
        match format {
            Format::Text => text(&mut line, &record, wall, about, false),
            Format::Json => json(&mut line, &record, wall, about),
        }
        line
    }

    fn web() -> About {
        About {
            session: 7,
            listener: "web".into(),
        }
    }

    #[test]
    fn a_line_has_its_time_its_place_and_whom_it_is_about() {
        assert_eq!(
            written(Format::Text, "late", Some(&web())),
            "[1994-11-06T08:49:37Z WARN  netlab_reactor::x web#7] late\n"
        );
        assert_eq!(
            written(Format::Text, "late", None),
            "[1994-11-06T08:49:37Z WARN  netlab_reactor::x] late\n"
        );
        assert_eq!(
            written(Format::Json, "\"late\"\n", Some(&web())),
            "{\"time\":\"1994-11-06T08:49:37.012345Z\",\"level\":\"warn\",\
             \"target\":\"netlab_reactor::x\",\"session\":7,\"listener\":\"web\",\
             \"message\":\"\\\"late\\\"\\n\"}\n"
        );
        let object: Value = serde_json::from_str(&written(Format::Json, "x", None)).expect("JSON");
        assert!(object.get("session").is_none());
    }

    #[test]
    fn what_was_dropped_is_told_in_the_format_of_the_log() {
        assert!(dropped(Format::Text, 3).starts_with("[3 lines of the log were dropped"));
        let object: Value = serde_json::from_str(&dropped(Format::Json, 3)).expect("JSON");
        assert_eq!(object["level"], "warn");
    }

    proptest! {
        /// Whatever is part of a message, its line is one, and of JSON it is what comes back.
        #[test]
        fn a_message_is_one_line(message in any::<String>()) {
            for format in [Format::Text, Format::Json] {
                let line = written(format, &message, None);
                let inner = line.strip_suffix('\n').expect("a line feed");
                prop_assert!(!inner.chars().any(is_hidden), "{}", line);
            }
            let object: Value = serde_json::from_str(&written(Format::Json, &message, None)).expect("JSON");
            prop_assert_eq!(object["message"].as_str(), Some(&*message));
        }
    }
}
