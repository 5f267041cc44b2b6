//! `cache ls`, `cache show` and `cache verify`.

use std::time::Duration;

use serde::Serialize;

use super::folder::{Folder, Object, key_of, text_of};
use super::{ListArgs, Place, ShowArgs, VerifyArgs};
use crate::cache::store::index::is_of_part;
use crate::cache::store::parse_head;
use crate::client::output::{Output, Tone};
use crate::client::units::{Size, Span, since_epoch};
use crate::client::{Exit, Outcome};
use crate::http::caching::partial::Part;
use crate::http::caching::{Terms, Times};
use crate::wire::text::printable_lines;

/// One object, as `ls --json` prints it.
#[derive(Debug, Serialize)]
struct Listed {
    url: String,
    bytes: u64,
    status: u16,
    age_s: u32,
    fresh_for_s: i64,
    file: String,
    /// Not there for what is whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<ListedPart>,
}

/// Which bytes of a representation a part is.
#[derive(Debug, Serialize)]
struct ListedPart {
    first: u64,
    last: u64,
    bytes: u64,
    /// `null` where nobody knows it.
    total: Option<u64>,
    #[serde(skip)]
    text: String,
}

impl ListedPart {
    fn of(part: &Part) -> Self {
        Self {
            first: part.range.start,
            last: part.range.end.saturating_sub(1),
            bytes: part.range.len(),
            total: part.total,
            text: text_of(part),
        }
    }
}

impl Listed {
    fn of(object: &Object, place: &Place) -> Option<Self> {
        let (header, _) = object.header();
        let head = parse_head(header.head)?;
        let times = Times {
            request_s: (header.requested_ms / 1000) as i64,
            response_s: (header.responded_ms / 1000) as i64,
        };
        let terms = Terms::derive(&head, times, place.rules.of(&header.key));
        let now_s = since_epoch().as_secs() as i64;
        Some(Self {
            url: object.url(),
            bytes: object.name.bytes,
            status: head.status.code(),
            age_s: terms.age_s(now_s),
            fresh_for_s: terms.fresh_for_s(now_s),
            file: object.name.to_string(),
            part: object.part().as_ref().map(ListedPart::of),
        })
    }

    fn line(&self) -> String {
        let size = Size(self.bytes).to_string();
        let age = span(i64::from(self.age_s));
        let fresh = match self.fresh_for_s {
            seconds if seconds > 0 => span(seconds),
            _ => "stale".to_owned(),
        };
        let part = self.part.as_ref().map(|part| {
            let (text, size) = (&part.text, Size(part.bytes));
            format!("  part: {text}, {size}")
        });
        format!(
            "{size:>11} {age:>9} {fresh:>9}  {} {}{}",
            self.status,
            self.url,
            part.unwrap_or_default()
        )
    }
}

/// A span in the two largest units: `3d04h`.
fn span(seconds: i64) -> String {
    const HOUR_S: i64 = 60 * 60;
    const DAY_S: i64 = 24 * HOUR_S;
    match seconds {
        DAY_S.. => format!("{}d{:02}h", seconds / DAY_S, seconds % DAY_S / HOUR_S),
        HOUR_S.. => format!("{}h{:02}m", seconds / HOUR_S, seconds % HOUR_S / 60),
        _ => Span(Duration::from_secs(seconds.unsigned_abs())).to_string(),
    }
}

/// `cache ls`.
pub(super) fn list(args: &ListArgs, place: &Place) -> Outcome {
    let folder = Folder::open(&place.dir)?;
    let mut out = Output::new();
    let (mut objects, mut parts, mut bytes) = (0, 0, 0);
    for name in folder.names(None) {
        // What is bad is `verify`'s to tell.
        let Ok(Some(object)) = folder.read(name) else {
            continue;
        };
        let Some(listed) = Listed::of(&object, place) else {
            continue;
        };
        let prefix = args.prefix.as_deref().unwrap_or_default();
        if !listed.url.starts_with(prefix) {
            continue;
        }
        (objects, bytes) = (objects + 1, bytes + listed.bytes);
        parts += u64::from(listed.part.is_some());
        match args.common.json {
            true => out.json(&listed)?,
            false => out.line(Tone::Plain, &listed.line())?,
        }
    }
    if !args.common.json {
        let size = Size(bytes);
        eprintln!("{objects} objects, {size}{}", of_them_parts(parts));
    }
    Ok(Exit::Done)
}

/// `cache show`.
pub(super) fn show(args: &ShowArgs, place: &Place) -> Outcome {
    let folder = Folder::open(&place.dir)?;
    let key = key_of(&args.url)?;
    let mut out = Output::new();
    let mut exit = Exit::Negative;
    for name in folder.names(Some(&key)) {
        let Ok(Some(object)) = folder.read(name) else {
            continue;
        };
        out.line(Tone::Faint, &format!("file: {}", object.path.display()))?;
        if let Some(part) = object.part() {
            let (text, size) = (text_of(&part), Size(part.range.len()));
            out.line(Tone::Faint, &format!("part: {text}, {size}"))?;
        }
        out.bytes(printable_lines(object.text()).as_bytes())?;
        out.bytes(b"\n\n")?;
        exit = Exit::Done;
    }
    if exit == Exit::Negative {
        eprintln!("netlab-reactor cache: nothing is kept for {}", args.url);
    }
    Ok(exit)
}

/// One file, as `verify --json` prints it.
#[derive(Debug, Serialize)]
struct Bad<'a> {
    file: String,
    /// Of what is named as a part, which it says it is: `bytes 0-99/1000`, or `unknown`.
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<&'a str>,
    fault: &'a str,
}

/// `cache verify`.
pub(super) fn verify(args: &VerifyArgs, place: &Place) -> Outcome {
    let folder = Folder::open(&place.dir)?;
    let mut out = Output::new();
    let (mut good, mut bad, mut parts) = (0, 0, 0);
    for name in folder.names(None) {
        let (part, verified) = match folder.read(name) {
            Ok(None) => continue,
            Ok(Some(object)) => (object.part(), folder.verify(object)),
            Err(fault) => (None, Err(fault)),
        };
        let is_part = is_of_part(name.variant);
        parts += u64::from(is_part);
        let Err(fault) = verified else {
            good += 1;
            continue;
        };
        bad += 1;
        let file = name.to_string();
        let text = || part.as_ref().map_or_else(|| "unknown".to_owned(), text_of);
        let part = is_part.then(text);
        let (part, fault) = (part.as_deref(), &*fault);
        match (args.common.json, part) {
            (true, _) => out.json(&Bad { file, part, fault })?,
            (false, Some(part)) => {
                out.line(Tone::Bad, &format!("{file}: part {part}: {fault}"))?;
            }
            (false, None) => out.line(Tone::Bad, &format!("{file}: {fault}"))?,
        }
    }
    eprintln!("{good} good, {bad} bad{}", of_them_parts(parts));
    Ok(match bad {
        0 => Exit::Done,
        _ => Exit::Negative,
    })
}

/// What stands behind a count of objects of which some are parts.
fn of_them_parts(parts: u64) -> String {
    match parts {
        0 => String::new(),
        parts => format!("; {parts} of them parts"),
    }
}
