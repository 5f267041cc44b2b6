//! `cache warm`: URLs are fetched through the proxy, some at once.

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use serde::Serialize;

use super::ask::ask;
use super::folder::key_of;
use super::{Place, WarmArgs};
use crate::client::output::{Output, Tone};
use crate::client::units::{Size, Span};
use crate::client::{CommonArgs, Exit, Failure, Outcome};
use crate::http::Method;
use crate::wire::text::printable;

/// What came of all URLs.
#[derive(Debug, Default, Serialize)]
struct Summary {
    urls: u64,
    /// They are kept now.
    stored: u64,
    /// They were kept before.
    hits: u64,
    /// They were answered, and are not kept.
    passed: u64,
    failed: u64,
    bytes: u64,
}

/// What the threads share.
struct Shared<'a> {
    urls: Mutex<std::vec::IntoIter<String>>,
    summary: Mutex<Summary>,
    headers: Vec<(&'a str, &'a str)>,
}

/// `cache warm`.
pub(super) fn warm(args: &WarmArgs, place: &Place) -> Outcome {
    let common = &args.common;
    let shared = Shared {
        urls: Mutex::new(read_urls(&args.file)?.into_iter()),
        summary: Mutex::default(),
        headers: args
            .headers
            .iter()
            .map(|line| header(line))
            .collect::<Result<_, _>>()?,
    };
    let (started, proxy) = (Instant::now(), &place.proxy);
    thread::scope(|scope| {
        for _ in 0..args.connections {
            scope.spawn(|| work(&shared, (proxy, common)));
        }
    });
    let summary = shared.summary.into_inner().unwrap_or_default();
    if common.json {
        Output::new().json(&summary)?;
    } else {
        let Summary {
            urls,
            stored,
            hits,
            passed,
            failed,
            bytes,
        } = summary;
        let (bytes, took) = (Size(bytes), Span(started.elapsed()));
        let told = format!(
            "{urls} URLs: {stored} stored, {hits} were there, {passed} are not kept, {failed} \
             failed; {bytes} in {took}"
        );
        Output::new().line(Tone::Plain, &told)?;
    }
    Ok(match summary.failed {
        0 => Exit::Done,
        _ => Exit::Negative,
    })
}

fn header(line: &str) -> Result<(&str, &str), Failure> {
    let parts = line
        .split_once(':')
        .map(|(name, value)| (name, value.trim()));
    let is_good = |(name, value): &(&str, &str)| {
        crate::http::is_token(name.as_bytes()) && !value.contains(['\r', '\n'])
    };
    parts
        .filter(is_good)
        .ok_or_else(|| Failure::usage(format!("{line:?} is not a header: expected NAME: VALUE")))
}

/// The URLs of a file; lines that are empty or begin with `#` are none.
fn read_urls(file: &Path) -> Result<Vec<String>, Failure> {
    let mut text = String::new();
    let read = match file == Path::new("-") {
        true => io::stdin().read_to_string(&mut text).map(|_| ()),
        false => fs::read_to_string(file).map(|read| text = read),
    };
    read.map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let url = |line: &str| key_of(line).map(|key| key["GET ".len()..].to_owned());
    lines.map(url).collect()
}

/// Takes one URL after the other.
fn work(shared: &Shared<'_>, proxy: (&str, &CommonArgs)) {
    loop {
        // Invariant: nobody panics with the lock.
        let Some(url) = shared.urls.lock().ok().and_then(|mut urls| urls.next()) else {
            return;
        };
        let mut bytes = 0;
        let asked = ask((Method::Get, &url), &shared.headers, proxy, &mut |piece| {
            bytes += piece.len() as u64;
        });
        let Ok(mut summary) = shared.summary.lock() else {
            return;
        };
        summary.urls += 1;
        summary.bytes += bytes;
        match asked {
            Ok(head) if head.status < 400 => {
                let said = cache_status(&head.text);
                match (said.contains("; hit"), said.contains("; stored")) {
                    (true, _) => summary.hits += 1,
                    (_, true) => summary.stored += 1,
                    (false, false) => summary.passed += 1,
                }
            }
            Ok(head) => {
                summary.failed += 1;
                eprintln!("{url}: {} {}", head.status, head.reason);
            }
            Err(failure) => {
                summary.failed += 1;
                eprintln!("{url}: {failure}");
            }
        }
    }
}

/// The last line of `Cache-Status`, which is that of the proxy that was asked (RFC 9211).
fn cache_status(head: &[u8]) -> String {
    let lines = head.split(|&byte| byte == b'\n').rev();
    let mut found = lines.filter(|line| {
        let name = line.get(.."cache-status:".len());
        name.is_some_and(|name| name.eq_ignore_ascii_case(b"cache-status:"))
    });
    found.next().map(printable).unwrap_or_default()
}
