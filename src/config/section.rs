//! One table of the file while it is read: a verb for each type of value, and the problems found.
//!
//! Rules:
//! - A verb leaves the field as it was, at its default, where the key is absent or wrong; so the
//!   reading goes on and finds the next problem too.
//! - The keys that are asked for are the keys that exist: there is no second list of them.

use std::net::IpAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Finding, Weight, nearest};
use super::value::{DURATION_MAX, Fraction, parse_duration, parse_size};
use crate::hooks::Hook;
use crate::surroundings::Surroundings;

/// Where relative paths and default folders lead.
#[derive(Debug, Clone)]
pub(super) struct Folders<'s> {
    /// The folder of the configuration file; empty for the current one.
    pub(super) base: PathBuf,
    /// The folder for what can be fetched again.
    pub(super) cache: PathBuf,
    /// Who is asked for what is not in the text.
    pub(super) around: &'s Surroundings,
}

/// A table that is being read.
pub(super) struct Section<'t> {
    /// Its keys and values.
    table: &'t DeTable<'t>,
    /// Its header, to which a missing key is reported.
    header: Range<usize>,
    /// Where relative paths lead.
    pub(super) folders: &'t Folders<'t>,
    /// Every key that was asked for so far.
    pub(super) known: Vec<&'static str>,
    /// What was wrong so far.
    pub(super) findings: Vec<Finding>,
    /// The files that are read with the configuration.
    pub(super) files: Vec<PathBuf>,
}

impl<'t> Section<'t> {
    /// Starts to read a table.
    pub(super) fn new(
        table: &'t DeTable<'t>,
        header: Range<usize>,
        folders: &'t Folders<'t>,
    ) -> Section<'t> {
        Section {
            table,
            header,
            folders,
            known: Vec::new(),
            findings: Vec::new(),
            files: Vec::new(),
        }
    }

    /// Takes what was found in a table within this one.
    pub(super) fn absorb(&mut self, inner: Section<'_>) {
        self.findings.extend(inner.findings);
        self.files.extend(inner.files);
    }

    /// Notes that a key names a file that is read with the configuration, as its text says.
    pub(super) fn names_file(&mut self, key: &str) {
        if let Some(Ok(path)) = self.text(key).map(|text| path(&self.folders.base, text)) {
            self.files.push(path);
        }
    }

    /// The value of a key, which is known from now on.
    pub(super) fn value(&mut self, key: &'static str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.known.push(key);
        self.table.get(key)
    }

    /// Where the value of a key stands, or the header of the table if it has none.
    pub(super) fn span(&self, key: &str) -> Range<usize> {
        self.table
            .get(key)
            .map_or(self.header.clone(), Spanned::span)
    }

    /// Where each entry of a list stands; one value that is no list is an entry.
    pub(super) fn entry_spans(&self, key: &str) -> Vec<Range<usize>> {
        match self.table.get(key).map(Spanned::get_ref) {
            Some(DeValue::Array(entries)) => entries.iter().map(Spanned::span).collect(),
            _ => vec![self.span(key)],
        }
    }

    /// Whether the table has this key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Whether the value of this key is a table.
    pub(super) fn has_table(&self, key: &str) -> bool {
        let value = self.table.get(key).map(Spanned::get_ref);
        matches!(value, Some(DeValue::Table(_)))
    }

    /// The text of a key that another reader reads.
    pub(super) fn text(&self, key: &str) -> Option<&'t str> {
        self.table.get(key)?.get_ref().as_str()
    }

    /// The text, or the texts of the list, of a key that another reader reads.
    pub(super) fn texts(&self, key: &str) -> Option<impl Iterator<Item = &'t str>> {
        let value = self.table.get(key)?.get_ref();
        let list = value.as_array().into_iter().flatten();
        let texts = list.filter_map(|entry| entry.get_ref().as_str());
        Some(value.as_str().into_iter().chain(texts))
    }

    /// Notes a problem.
    pub(super) fn problem(&mut self, span: Range<usize>, what: String) {
        self.note(Weight::Wrong, span, what);
    }

    /// Notes a problem of this weight.
    pub(super) fn note(&mut self, weight: Weight, span: Range<usize>, what: String) {
        self.findings.push(Finding { weight, span, what });
    }

    /// The value of a key as `parse` understands it; `expected` is what a wrong one is told.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        parse: impl FnOnce(&DeValue<'t>) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.value(key)?;
        match parse(value.get_ref()) {
            Ok(parsed) => Some(parsed),
            Err(wrong) => {
                self.problem(
                    value.span(),
                    format!("`{key}` {wrong}; expected {expected}"),
                );
                None
            }
        }
    }

    /// Sets a field to the value of a key, as `parse` understands it.
    fn set<T>(
        &mut self,
        key: &'static str,
        field: &mut T,
        expected: &str,
        parse: impl FnOnce(&DeValue<'t>) -> Result<T, String>,
    ) {
        if let Some(value) = self.parsed(key, expected, parse) {
            *field = value;
        }
    }

    /// A list, each entry as `parse` understands it.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        parse: impl Fn(&DeValue<'t>) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let value = self.value(key)?;
        let DeValue::Array(array) = value.get_ref() else {
            let wrong = is_a(value.get_ref());
            self.problem(
                value.span(),
                format!("`{key}` {wrong}; expected a list, each {expected}"),
            );
            return None;
        };
        let mut entries = Vec::new();
        for entry in array.iter() {
            match parse(entry.get_ref()) {
                Ok(parsed) => entries.push(parsed),
                Err(wrong) => {
                    let what = format!("an entry of `{key}` {wrong}; expected {expected}");
                    self.problem(entry.span(), what);
                }
            }
        }
        (entries.len() == array.len()).then_some(entries)
    }

    /// A list, or one entry alone.
    pub(super) fn list_or_one<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        parse: impl Fn(&DeValue<'t>) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        match self.table.get(key).map(Spanned::get_ref) {
            Some(DeValue::String(_)) => self.parsed(key, expected, parse).map(|one| vec![one]),
            _ => self.list(key, expected, parse),
        }
    }

    /// A list of address ranges, or one alone; an address is a range of one.
    pub(super) fn ranges(&mut self, key: &'static str) -> Option<Vec<IpNet>> {
        let expected = r#"an address range such as "192.0.2.0/24" or "::1""#;
        self.list_or_one(key, expected, |value| {
            let text = string(value)?;
            let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
            let range = text.parse::<IpNet>().ok().or_else(address);
            range
                .map(|range| range.trunc())
                .ok_or_else(|| format!("is {text:?}"))
        })
    }

    /// A span of time, possibly zero: a string with a unit.
    pub(super) fn duration(&mut self, key: &'static str, field: &mut Duration) {
        let expected = r#"a duration such as "500ms", "3s" or "24h""#;
        self.set(key, field, expected, duration);
    }

    /// A time-out: a span of time above zero.
    pub(super) fn timeout(&mut self, key: &'static str, field: &mut Duration) {
        let expected = r#"a duration above zero such as "500ms", "3s" or "24h""#;
        let positive = |value: &DeValue<'_>| match duration(value)? {
            Duration::ZERO => Err("is zero".to_owned()),
            timeout => Ok(timeout),
        };
        self.set(key, field, expected, positive);
    }

    /// A size in bytes within bounds: an integer or a string with a unit.
    pub(super) fn size(&mut self, key: &'static str, bounds: RangeInclusive<u64>, field: &mut u64) {
        let expected = format!(
            r#"a size from {} to {} bytes such as 65536, "64MiB" or "10kB""#,
            bounds.start(),
            bounds.end()
        );
        let within = |value: &DeValue<'_>| {
            let bytes = match value {
                DeValue::String(text) => parse_size(text)?,
                _ => integer(value)?,
            };
            in_bounds(bytes, &bounds)
        };
        self.set(key, field, &expected, within);
    }

    /// A size of something that is held in memory.
    pub(super) fn memory_size(
        &mut self,
        key: &'static str,
        bounds: RangeInclusive<usize>,
        field: &mut usize,
    ) {
        let mut bytes = *field as u64;
        self.size(
            key,
            *bounds.start() as u64..=*bounds.end() as u64,
            &mut bytes,
        );
        // Invariant: both the default and the bounds came from a usize.
        *field = usize::try_from(bytes).expect("bounded by a usize");
    }

    /// A number of things within bounds.
    pub(super) fn count(
        &mut self,
        key: &'static str,
        bounds: RangeInclusive<usize>,
        field: &mut usize,
    ) {
        let bounds = *bounds.start() as u64..=*bounds.end() as u64;
        let expected = format!("an integer from {} to {}", bounds.start(), bounds.end());
        let within = |value: &DeValue<'_>| {
            let count = in_bounds(integer(value)?, &bounds)?;
            usize::try_from(count).map_err(|_| format!("is {count}"))
        };
        self.set(key, field, &expected, within);
    }

    /// A number from 1 to `u32::MAX`.
    pub(super) fn positive(&mut self, key: &'static str, field: &mut NonZeroU32) {
        let expected = format!("an integer from 1 to {}", u32::MAX);
        let positive = |value: &DeValue<'_>| {
            let number = integer(value)?;
            let fits = u32::try_from(number).ok().and_then(NonZeroU32::new);
            fits.ok_or_else(|| format!("is {number}"))
        };
        self.set(key, field, &expected, positive);
    }

    /// A limit from 1 on, where the key's absence means none.
    pub(super) fn limit(&mut self, key: &'static str, field: &mut Option<NonZeroU64>) {
        let positive =
            |value: &DeValue<'_>| NonZeroU64::new(integer(value)?).ok_or_else(|| "is 0".to_owned());
        let expected = "an integer from 1 on (leave it out for no limit)";
        self.set(key, field, expected, |value| positive(value).map(Some));
    }

    /// A rate a second, where 0 means no limit.
    pub(super) fn rate(&mut self, key: &'static str, field: &mut Option<NonZeroU32>) {
        let expected = format!("an integer from 0 (for no limit) to {}", u32::MAX);
        let rate = |value: &DeValue<'_>| {
            let number = integer(value)?;
            u32::try_from(number)
                .map(NonZeroU32::new)
                .map_err(|_| format!("is {number}"))
        };
        self.set(key, field, &expected, rate);
    }

    /// Any number from 0 on.
    pub(super) fn number(&mut self, key: &'static str, field: &mut Option<u64>) {
        let expected = "an integer from 0 on";
        self.set(key, field, expected, |value| integer(value).map(Some));
    }

    /// A share from 0 to 1.
    pub(super) fn share(&mut self, key: &'static str, field: &mut Fraction) {
        let expected = r#"a share from 0.0 to 1.0 such as 0.3 or "4/11""#;
        let share = |value: &DeValue<'_>| match value {
            DeValue::Integer(number) => number.to_string().parse(),
            DeValue::Float(number) => number.as_str().parse(),
            DeValue::String(text) => text.parse(),
            other => Err(is_a(other)),
        };
        self.set(key, field, expected, share);
    }

    /// A path; a relative one leads from the folder of the configuration file.
    pub(super) fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        let base = self.folders.base.as_path();
        self.parsed(key, "a path", |value| path(base, string(value)?))
    }

    /// A command: a program, which leads from the folder of the configuration file where it is a
    /// relative path, and its arguments.
    pub(super) fn hook(&mut self, key: &'static str) -> Option<Hook> {
        let base = self.folders.base.clone();
        let expected = r#"a program and its arguments such as ["/usr/bin/logger", "-t", "lab"]"#;
        let mut command = self.list(key, expected, |value| match string(value)? {
            text if text.contains('\0') => Err("contains a NUL".to_owned()),
            text => Ok(text.to_owned()),
        })?;
        let Some(program) = command.first_mut().filter(|program| !program.is_empty()) else {
            let what = format!("`{key}` names no program; expected {expected}");
            self.problem(self.span(key), what);
            return None;
        };
        if program.contains('/') {
            *program = base.join(&*program).to_str()?.to_owned();
        }
        Some(Hook {
            event: key,
            command: command.into(),
        })
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&'static str, T)],
        field: &mut T,
    ) {
        let quoted: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        let expected = format!("one of {}", quoted.join(", "));
        let chosen = |value: &DeValue<'_>| {
            let typed = string(value)?;
            match words.iter().find(|&&(word, _)| word == typed) {
                Some(&(_, choice)) => Ok(choice),
                None => Err(match nearest(typed, words.iter().map(|&(word, _)| word)) {
                    Some(word) => format!("is {typed:?}, probably meant as {word:?}"),
                    None => format!("is {typed:?}"),
                }),
            }
        };
        self.set(key, field, &expected, chosen);
    }

    /// Reads the table under a key; where it is absent, `read` sees an empty one.
    pub(super) fn table(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'_>)) {
        let empty = DeTable::new();
        let (table, header) = match self.value(key).map(|value| (value.get_ref(), value.span())) {
            Some((DeValue::Table(table), span)) => (table, span),
            Some((other, span)) => {
                let wrong = is_a(other);
                return self.problem(span, format!("`{key}` {wrong}; expected a table [{key}]"));
            }
            None => (&empty, self.header.clone()),
        };
        let mut section = Section::new(table, header, self.folders);
        read(&mut section);
        section.refuse_unknown(&format!("in table [{key}]"), |_| None);
        self.absorb(section);
    }

    /// Refuses each key that was not asked for. `place` says where it stands, as in "in table
    /// `[limits]`"; `elsewhere` may know where a key would belong.
    pub(super) fn refuse_unknown(
        &mut self,
        place: &str,
        elsewhere: impl Fn(&str) -> Option<String>,
    ) {
        for key in self.table.keys() {
            let name = key.get_ref().as_ref();
            if self.known.contains(&name) {
                continue;
            }
            let near = nearest(name, self.known.iter().copied());
            let what = match (elsewhere(name), near) {
                (Some(owner), _) => format!("key `{name}` belongs to {owner}"),
                (None, Some(near)) => format!("unknown key `{name}`, probably meant as `{near}`"),
                (None, None) => format!("unknown key `{name}`"),
            };
            let what = format!("{what}; expected {place} one of {}", self.known.join(", "));
            self.problem(key.span(), what);
        }
    }
}

/// The text of a string.
pub(super) fn string<'v>(value: &'v DeValue<'_>) -> Result<&'v str, String> {
    value.as_str().ok_or_else(|| is_a(value))
}

/// An integer from 0 on, in any of TOML's notations.
pub(super) fn integer(value: &DeValue<'_>) -> Result<u64, String> {
    let number = value.as_integer().ok_or_else(|| is_a(value))?;
    u64::from_str_radix(number.as_str(), number.radix()).map_err(|_| format!("is {number}"))
}

/// A path under `base`, unless it is absolute.
pub(super) fn path(base: &Path, text: &str) -> Result<PathBuf, String> {
    match text {
        "" => Err("is empty".to_owned()),
        _ if text.contains('\0') => Err("contains a NUL".to_owned()),
        _ => Ok(base.join(text)),
    }
}

/// A bounded span of time.
fn duration(value: &DeValue<'_>) -> Result<Duration, String> {
    let DeValue::String(text) = value else {
        return Err(match value {
            DeValue::Integer(number) => format!("is {number} without a unit"),
            DeValue::Float(number) => format!("is {number} without a unit"),
            _ => is_a(value),
        });
    };
    match parse_duration(text)? {
        duration if duration > DURATION_MAX => Err(format!("is {text:?}, above ten years")),
        duration => Ok(duration),
    }
}

/// The number, if it lies within the bounds.
fn in_bounds(number: u64, bounds: &RangeInclusive<u64>) -> Result<u64, String> {
    if bounds.contains(&number) {
        Ok(number)
    } else {
        Err(format!("is {number}"))
    }
}

/// What a value of the wrong type is told.
pub(super) fn is_a(value: &DeValue<'_>) -> String {
    match value.type_str() {
        name @ ("array" | "integer") => format!("is an {name}"),
        name => format!("is a {name}"),
    }
}
