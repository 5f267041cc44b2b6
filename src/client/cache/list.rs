//! `cache ls`, `cache show` and `cache verify`.

use std::time::Duration;

use serde::Serialize;

use super::folder::{Folder, Object, key_of};
use super::{ListArgs, Place, ShowArgs, VerifyArgs};
use crate::cache::store::object;
use crate::client::output::{Output, Tone};
use crate::client::units::{Size, Span, since_epoch};
use crate::client::{Exit, Outcome};
use crate::http::Method;
use crate::http::caching::{Terms, Times};
use crate::http::head::{HeadScanner, Limits, Parsed};
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
}

impl Listed {
    fn of(object: &Object, place: &Place) -> Option<Self> {
        let (header, _) = object.header();
        let limits = Limits {
            head_bytes_max: object::HEADER_BYTES_MAX,
            ..Limits::DEFAULT
        };
        let mut scanner = HeadScanner::default();
        let parsed = scanner.response(header.head, &limits, Method::Get);
        let Ok(Parsed::Complete(head, _)) = parsed else {
            return None;
        };
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
        })
    }

    fn line(&self) -> String {
        let size = Size(self.bytes).to_string();
        let age = span(i64::from(self.age_s));
        let fresh = match self.fresh_for_s {
            seconds if seconds > 0 => span(seconds),
            _ => "stale".to_owned(),
        };
        format!(
            "{size:>11} {age:>9} {fresh:>9}  {} {}",
            self.status, self.url
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
    let (mut objects, mut bytes) = (0, 0);
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
        match args.common.json {
            true => out.json(&listed)?,
            false => out.line(Tone::Plain, &listed.line())?,
        }
    }
    if !args.common.json {
        eprintln!("{objects} objects, {}", Size(bytes));
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
    fault: &'a str,
}

/// `cache verify`.
pub(super) fn verify(args: &VerifyArgs, place: &Place) -> Outcome {
    let folder = Folder::open(&place.dir)?;
    let mut out = Output::new();
    let (mut good, mut bad) = (0, 0);
    for name in folder.names(None) {
        let object = match folder.read(name) {
            Ok(None) => continue,
            Ok(Some(object)) => folder.verify(object),
            Err(fault) => Err(fault),
        };
        let Err(fault) = object else {
            good += 1;
            continue;
        };
        bad += 1;
        let file = name.to_string();
        match args.common.json {
            true => out.json(&Bad {
                file,
                fault: &fault,
            })?,
            false => out.line(Tone::Bad, &format!("{file}: {fault}"))?,
        }
    }
    eprintln!("{good} good, {bad} bad");
    Ok(match bad {
        0 => Exit::Done,
        _ => Exit::Negative,
    })
}
