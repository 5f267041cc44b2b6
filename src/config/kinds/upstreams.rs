//! The upstreams of a gateway: one URL, a list of URLs, or a list of tables.
//!
//! ```toml
//! upstream = "http://10.0.0.1:8000"
//! upstream = ["http://10.0.0.1:8000", { url = "http://10.0.0.2:8000", weight = 2 }]
//! ```
//!
//! To clients and to the cache they are one origin, which has the name of the first: it stands in
//! `Host`, and in what a response is kept under. So all have one scheme. Over TLS each proves that
//! it is the host of its own URL.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use crate::config::section::{Section, integer, is_a, string};
use crate::config::value::Upstream;

/// Upstreams of one gateway, at most.
pub const UPSTREAMS_MAX: usize = 64;

/// What an entry of `upstream` looks like.
const ENTRY: &str =
    r#""http://127.0.0.1:8000", or { url = "http://127.0.0.1:8000", weight = 2, backup = true }"#;

/// The keys that say how several upstreams are used. They are for a gateway only.
const KEYS: [&str; 3] = ["max_tries", "fail_on", "check"];

/// The upstreams of a gateway, and how they are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstreams {
    /// All of them, one at least and [`UPSTREAMS_MAX`] at most, of one scheme. Key `upstream`.
    pub all: Vec<UpstreamConfig>,
    /// To how many of them a request is sent at most, each once. Key `max_tries`, default all.
    pub tries_max: usize,
    /// Statuses of theirs, from 400 on, that count as failures. Key `fail_on`, default none.
    pub fail_on: Vec<u16>,
    /// How they are checked, if they are. Key `check`, default not at all.
    pub check: Option<CheckConfig>,
}

/// One upstream: an entry of key `upstream`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamConfig {
    /// Where it is. Key `url`.
    pub origin: Upstream,
    /// How many requests it gets for each one of an upstream whose weight is 1. Key `weight`,
    /// default 1.
    pub weight: u32,
    /// How many requests must fail within `fail_timeout` for it to get no others; 0 for never. Key
    /// `max_fails`, default 1.
    pub fails_max: u32,
    /// Within which time, and for how long. Key `fail_timeout`, default 10 s.
    pub fail_timeout: Duration,
    /// It gets requests only while none of the others can. Key `backup`, default false.
    pub is_backup: bool,
}

/// How upstreams are checked: by a GET to each, on a connection of its own. Key `check`, a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckConfig {
    /// What is asked for: a path, perhaps with a query. Key `path`, default `"/"`.
    pub path: String,
    /// From the beginning of one check to that of the next. Key `every`, default 5 s.
    pub every: Duration,
    /// How long one may take, from the look-up of the name to the head of the response; no longer
    /// than `every`. Key `timeout`, default 2 s.
    pub timeout: Duration,
    /// How many must pass one after another until one that is down is up. Key `rise`, default 2.
    pub rise: u32,
    /// How many must fail one after another until one that is up is down. Key `fall`, default 3.
    pub fall: u32,
    /// The statuses with which one passes. Key `expect`, a status or `"FIRST-LAST"`, default
    /// `"200-399"`.
    pub expect: RangeInclusive<u16>,
}

impl Default for CheckConfig {
    fn default() -> Self {
        Self {
            path: "/".to_owned(),
            every: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            rise: 2,
            fall: 3,
            expect: 200..=399,
        }
    }
}

impl UpstreamConfig {
    /// One with the defaults.
    pub fn new(origin: Upstream) -> Self {
        Self {
            origin,
            weight: 1,
            fails_max: 1,
            fail_timeout: Duration::from_secs(10),
            is_backup: false,
        }
    }
}

impl From<Vec<UpstreamConfig>> for Upstreams {
    /// These, with the defaults.
    fn from(all: Vec<UpstreamConfig>) -> Self {
        Self {
            tries_max: all.len(),
            all,
            fail_on: Vec::new(),
            check: None,
        }
    }
}

impl FromStr for Upstreams {
    type Err = String;

    /// A single one, by its URL.
    fn from_str(text: &str) -> Result<Self, String> {
        Ok(vec![UpstreamConfig::new(text.parse()?)].into())
    }
}

impl fmt::Display for Upstreams {
    /// The authorities of all.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, upstream) in self.all.iter().enumerate() {
            let separator = if place == 0 { "" } else { ", " };
            write!(out, "{separator}{}", upstream.origin)?;
        }
        Ok(())
    }
}

impl Upstreams {
    /// Whether TLS is spoken with them.
    pub fn tls(&self) -> bool {
        self.all.iter().any(|upstream| upstream.origin.tls)
    }

    /// Reads `upstream` and the keys beside it.
    pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
        let is_gateway = section.has("upstream");
        let all = read_all(section);
        let mut upstreams = Self::from(all.unwrap_or_default());
        let tries = &mut upstreams.tries_max;
        section.count("max_tries", 1..=UPSTREAMS_MAX, tries);
        let expected = "a status from 400 to 599";
        let statuses = section.list("fail_on", expected, |value| match integer(value)? {
            status @ 400..=599 => Ok(status as u16),
            status => Err(format!("is {status}")),
        });
        upstreams.fail_on = statuses.unwrap_or_default();
        upstreams.check = CheckConfig::read(section);
        for key in KEYS {
            if section.has(key) && !is_gateway {
                let what = format!("`{key}` is for a gateway; expected `upstream` beside it");
                section.problem(section.span(key), what);
            }
        }
        (!upstreams.all.is_empty()).then_some(upstreams)
    }
}

/// Reads `upstream`; `None` where it is absent or wrong.
fn read_all(section: &mut Section<'_>) -> Option<Vec<UpstreamConfig>> {
    if section.text("upstream").is_some() {
        let expected = r#"the address of an origin such as "http://127.0.0.1:8000", or a list"#;
        let origin = section.parsed("upstream", expected, |value| string(value)?.parse())?;
        return Some(vec![UpstreamConfig::new(origin)]);
    }
    let value = section.value("upstream")?;
    let DeValue::Array(entries) = value.get_ref() else {
        let wrong = is_a(value.get_ref());
        let what = format!("`upstream` {wrong}; expected a list, each {ENTRY}");
        section.problem(value.span(), what);
        return None;
    };
    let mut all: Vec<UpstreamConfig> = Vec::new();
    for entry in entries.iter() {
        let Some(upstream) = read_entry(entry, section) else {
            continue;
        };
        let origin = &upstream.origin;
        if all.iter().any(|one| is_same(&one.origin, origin)) {
            let what = format!(
                "an entry of `upstream` is {origin} once more; expected each once (`weight` gives one more)"
            );
            section.problem(entry.span(), what);
        }
        let first = all.first().map(|first| first.origin.tls);
        if first.is_some_and(|tls| tls != origin.tls) {
            let what = "an entry of `upstream` has another scheme than the first; expected http:// for \
                        all, or https:// for all";
            section.problem(entry.span(), what.to_owned());
        }
        all.push(upstream);
    }
    let problem = match entries.len() {
        0 => format!("`upstream` is empty; expected a list, each {ENTRY}"),
        count if count > UPSTREAMS_MAX => {
            format!("`upstream` has {count} entries; expected at most {UPSTREAMS_MAX}")
        }
        count if count == all.len() && all.iter().all(|upstream| upstream.is_backup) => {
            "`upstream` has backups only; expected an entry without `backup = true`".to_owned()
        }
        _ => return Some(all),
    };
    section.problem(value.span(), problem);
    None
}

/// Reads an entry of `upstream`, a URL or a table.
fn read_entry(entry: &Spanned<DeValue<'_>>, section: &mut Section<'_>) -> Option<UpstreamConfig> {
    let keys = match entry.get_ref() {
        DeValue::Table(keys) => keys,
        DeValue::String(text) => match text.parse() {
            Ok(origin) => return Some(UpstreamConfig::new(origin)),
            Err(wrong) => {
                let what = format!("an entry of `upstream` {wrong}; expected {ENTRY}");
                section.problem(entry.span(), what);
                return None;
            }
        },
        other => {
            let what = format!("an entry of `upstream` {}; expected {ENTRY}", is_a(other));
            section.problem(entry.span(), what);
            return None;
        }
    };
    let mut table = Section::new(keys, entry.span(), section.folders);
    let expected = r#"the address of an origin such as "http://127.0.0.1:8000""#;
    let origin = table.parsed("url", expected, |value| string(value)?.parse());
    if !table.has("url") {
        let what = format!("an entry of `upstream` without `url`; expected {ENTRY}");
        table.problem(entry.span(), what);
    }
    let (mut weight, mut fails) = (1, 1);
    table.count("weight", 1..=65_535, &mut weight);
    table.count("max_fails", 0..=1_000_000, &mut fails);
    let mut fail_timeout = Duration::from_secs(10);
    table.timeout("fail_timeout", &mut fail_timeout);
    let mut is_backup = false;
    table.flag("backup", &mut is_backup);
    table.refuse_unknown("in an entry of `upstream`", |_| None);
    section.absorb(table);
    Some(UpstreamConfig {
        // Invariant: both are within the bounds of the keys.
        weight: weight as u32,
        fails_max: fails as u32,
        fail_timeout,
        is_backup,
        ..UpstreamConfig::new(origin?)
    })
}

fn is_same(one: &Upstream, other: &Upstream) -> bool {
    one.port == other.port && one.host.eq_ignore_ascii_case(&other.host)
}

impl CheckConfig {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let is_given = section.has("check");
        let mut check = Self::default();
        section.table("check", |table| {
            let expected = "a path such as \"/healthz\", in visible ASCII";
            let path = table.parsed("path", expected, |value| match string(value)? {
                path if path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic()) => {
                    Ok(path.to_owned())
                }
                path => Err(format!("is {path:?}")),
            });
            check.path = path.unwrap_or_else(|| check.path.clone());
            table.timeout("every", &mut check.every);
            table.timeout("timeout", &mut check.timeout);
            if check.timeout > check.every {
                let what = "`timeout` is longer than `every`; expected a check to be over before the \
                            next begins";
                table.problem(table.span("timeout"), what.to_owned());
            }
            let (mut rise, mut fall) = (check.rise as usize, check.fall as usize);
            table.count("rise", 1..=1000, &mut rise);
            table.count("fall", 1..=1000, &mut fall);
            (check.rise, check.fall) = (rise as u32, fall as u32);
            let expected = "a status such as 200, or a range of them such as \"200-399\"";
            let statuses = table.parsed("expect", expected, read_statuses);
            check.expect = statuses.unwrap_or_else(|| check.expect.clone());
        });
        is_given.then_some(check)
    }
}

/// A status, or a range of them.
fn read_statuses(value: &DeValue<'_>) -> Result<RangeInclusive<u16>, String> {
    let text = match value {
        DeValue::Integer(_) => integer(value)?.to_string(),
        _ => string(value)?.to_owned(),
    };
    let (first, last) = text.split_once('-').unwrap_or((&text, &text));
    let status = |text: &str| {
        let status = text.trim().parse::<u16>().ok();
        status.filter(|status| (200..=599).contains(status))
    };
    match (status(first), status(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        _ => Err(format!("is {text:?}")),
    }
}
