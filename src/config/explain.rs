//! Every key of a configuration, its value in force, and where that came from.
//!
//! The keys are those that the readers ask for, as everywhere; the defaults are those of the example,
//! which a test holds to the real ones. So there is no list of either here.
//!
//! Rules:
//! - A secret is shown as [`SET`], and so are the user and password of a URL.
//! - Of tables within a listener, such as routes, what the file has is shown: which of their keys have a
//!   default depends on what they serve.
//!
//! Not here: whether the configuration is right; [`Config::load`] has found that.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use toml::de::{DeTable, DeValue};

use super::problem::Place;
use super::process::read_log;
use super::section::{Folders, Section};
use super::{
    Cache, Config, KINDS, Kind, ListenerConfig, Overrides, ResolverConfig, Row, SandboxConfig,
    example, listener_keys,
};
use crate::limits::{DiskLimits, Limits};
use crate::logging::Format;
use crate::surroundings::Surroundings;

/// What is shown of a secret.
pub const SET: &str = "(set)";

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A line of the configuration file, counted from 1.
    File(PathBuf, usize),
    /// A flag or a variable of the environment, by its name.
    Told(&'static str),
    /// Another listener that has the same folder.
    Shared,
    /// It was made up at the start.
    Random,
    /// Nobody said anything.
    Default,
}

/// A key.
#[derive(Debug, Clone, PartialEq)]
pub struct Explained {
    /// Its name with those of its tables, as in `limits.backlog` and `listener[0].bind`.
    pub key: String,
    /// Its value; null where there is none, or where it depends on the machine.
    pub value: Value,
    /// Where that came from.
    pub origin: Origin,
}

/// The flag or variable that an override came from, for those that there are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tellers {
    /// For [`Overrides::bind`].
    pub bind: &'static str,
    /// For [`Overrides::root`].
    pub root: &'static str,
    /// For [`Overrides::log_format`].
    pub log_format: &'static str,
    /// For [`Overrides::log_filters`].
    pub log_filters: &'static str,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File(file, line) => write!(f, "{}:{line}", file.display()),
            Origin::Told(by) => f.write_str(by),
            Origin::Shared => f.write_str("the listener with the same cache_dir"),
            Origin::Random => f.write_str("random"),
            Origin::Default => f.write_str("default"),
        }
    }
}

/// As aligned text, a line each.
pub fn text(all: &[Explained]) -> String {
    let value = |row: &Explained| match &row.value {
        Value::Null => "(not set)".to_owned(),
        Value::String(text) if text == SET => text.clone(),
        value => value.to_string(),
    };
    let key_width = all.iter().map(|row| row.key.len()).max().unwrap_or(0);
    let values: Vec<String> = all.iter().map(value).collect();
    // A long list moves its own line only.
    let widths = values.iter().map(|value| value.chars().count());
    let value_width = widths.filter(|width| *width <= 40).max().unwrap_or(0);
    let line = |(row, value): (&Explained, &String)| {
        let (key, origin) = (&row.key, &row.origin);
        format!("{key:key_width$}  {value:value_width$}  {origin}\n")
    };
    all.iter().zip(&values).map(line).collect()
}

/// As a JSON array of objects.
pub fn json(all: &[Explained]) -> String {
    let object = |row: &Explained| {
        let mut object = Map::new();
        object.insert("key".to_owned(), json!(row.key));
        object.insert("value".to_owned(), row.value.clone());
        let (origin, more) = match &row.origin {
            Origin::File(file, line) => {
                object.insert("line".to_owned(), json!(line));
                ("file", Some(("file", file.display().to_string())))
            }
            Origin::Told(by) if by.starts_with("--") => ("flag", Some(("flag", (*by).to_owned()))),
            Origin::Told(by) => ("environment", Some(("variable", (*by).to_owned()))),
            Origin::Shared => ("shared", None),
            Origin::Random => ("random", None),
            Origin::Default => ("default", None),
        };
        object.insert("origin".to_owned(), json!(origin));
        object.extend(more.map(|(name, text)| (name.to_owned(), Value::String(text))));
        Value::Object(object)
    };
    let all: Vec<Value> = all.iter().map(object).collect();
    format!("{:#}\n", Value::Array(all))
}

/// Explains a configuration that was loaded from `text`, the contents of `file`; both empty where
/// there is no file.
pub fn explain(
    config: &Config,
    (file, text): (&Path, &str),
    overrides: &Overrides,
    tellers: Tellers,
) -> Vec<Explained> {
    let (table, _) = DeTable::parse_recoverable(text);
    let (defaults, _) = DeTable::parse_recoverable(example());
    let source = Source {
        file,
        text,
        overrides,
        tellers,
    };
    let mut all = Vec::new();
    let (table, defaults) = (table.get_ref(), defaults.get_ref());
    source.table(
        "",
        &["drain_timeout", "user", "group"],
        Some(table),
        Some(defaults),
        &mut all,
    );
    for (name, keys) in tables() {
        let of = |table| as_table(table, name);
        source.table(
            &format!("{name}."),
            &keys,
            of(table),
            of(defaults),
            &mut all,
        );
    }
    source.log(config, &mut all);
    for (index, listener) in config.listeners.iter().enumerate() {
        let prefix = format!("listener[{index}].");
        let given = nth_listener(table, index);
        source.listener(&prefix, listener, given, defaults, &mut all);
    }
    all
}

/// The tables beside the listeners, with their keys.
fn tables() -> [(&'static str, Vec<&'static str>); 6] {
    let keys = |read: &dyn Fn(&mut Section<'_>)| {
        let (empty, around) = (DeTable::new(), Surroundings::live());
        let folders = Folders::of(Path::new(""), &around);
        let mut section = Section::new(&empty, 0..0, &folders);
        read(&mut section);
        section.known
    };
    [
        (
            "log",
            keys(&|s| read_log(&mut super::Settings::default(), s)),
        ),
        ("sandbox", keys(&|s| SandboxConfig::default().read(s))),
        ("resolver", keys(&|s| ResolverConfig::default().read(s))),
        ("limits", keys(&|s| Limits::default().read(s))),
        ("disk", keys(&|s| DiskLimits::default().read(s))),
        ("trace", keys(&|s| Limits::default().read_trace(s))),
    ]
}

fn as_table<'v, 't>(table: &'v DeTable<'t>, key: &str) -> Option<&'v DeTable<'t>> {
    match table.get(key)?.get_ref() {
        DeValue::Table(table) => Some(table),
        _ => None,
    }
}

fn nth_listener<'v, 't>(table: &'v DeTable<'t>, index: usize) -> Option<&'v DeTable<'t>> {
    match table
        .get("listener")?
        .get_ref()
        .as_array()?
        .get(index)?
        .get_ref()
    {
        DeValue::Table(table) => Some(table),
        _ => None,
    }
}

/// The part of the example for a kind.
fn example_of<'v, 't>(defaults: &'v DeTable<'t>, kind: &str) -> Option<&'v DeTable<'t>> {
    let is_it = |table: &&DeTable<'t>| {
        table.get("kind").and_then(|value| value.get_ref().as_str()) == Some(kind)
    };
    let all = 0..KINDS.len();
    all.filter_map(|index| nth_listener(defaults, index))
        .find(is_it)
}

/// Where values come from.
struct Source<'a> {
    file: &'a Path,
    text: &'a str,
    overrides: &'a Overrides,
    tellers: Tellers,
}

impl Source<'_> {
    /// What was asked for wins over what the file has of the log.
    fn log(&self, config: &Config, all: &mut [Explained]) {
        let (told, log) = (self.overrides, &config.log);
        let word = Format::WORDS.iter().find(|(_, of)| *of == log.format);
        let format = (told.log_format.is_some(), self.tellers.log_format);
        let filters = (told.log_filters.is_some(), self.tellers.log_filters);
        let rows = [
            ("log.format", json!(word.map(|(word, _)| word)), format),
            ("log.filter", json!(log.filters.to_string()), filters),
        ];
        for (key, value, (is_told, by)) in rows {
            let row = all.iter_mut().find(|row| row.key == key);
            if let Some(row) = row.filter(|_| is_told) {
                (row.value, row.origin) = (value, Origin::Told(by));
            }
        }
    }

    /// The keys of one table.
    fn table(
        &self,
        prefix: &str,
        keys: &[&str],
        given: Option<&DeTable<'_>>,
        defaults: Option<&DeTable<'_>>,
        all: &mut Vec<Explained>,
    ) {
        for key in keys {
            let name = format!("{prefix}{key}");
            let written = given.and_then(|table| table.get(*key));
            match written {
                Some(value) => {
                    self.written(name, key, (value.get_ref(), value.span().start), all);
                }
                None => {
                    let value = defaults.and_then(|table| table.get(*key));
                    let value = value.map_or(Value::Null, |value| plain(value.get_ref()));
                    let origin = Origin::Default;
                    all.push(Explained {
                        key: name,
                        value,
                        origin,
                    });
                }
            }
        }
    }

    /// What the file has for a key: a row for each key of a table, and of a list of tables.
    fn written(
        &self,
        name: String,
        key: &str,
        (value, at): (&DeValue<'_>, usize),
        all: &mut Vec<Explained>,
    ) {
        match value {
            DeValue::Table(table) => {
                for (key, value) in table.iter() {
                    let key = key.get_ref();
                    let name = format!("{name}.{key}");
                    self.written(name, key, (value.get_ref(), value.span().start), all);
                }
            }
            DeValue::Array(list) if list.iter().any(|v| v.get_ref().is_table()) => {
                for (index, value) in list.iter().enumerate() {
                    let name = format!("{name}[{index}]");
                    self.written(name, key, (value.get_ref(), value.span().start), all);
                }
            }
            value => {
                let value = match is_secret(key) && value.is_str() {
                    true => Value::String(SET.to_owned()),
                    false => plain(value),
                };
                let Place { line, .. } = Place::of(self.text, at);
                let origin = Origin::File(self.file.to_owned(), line);
                all.push(Explained {
                    key: name,
                    value,
                    origin,
                });
            }
        }
    }

    fn listener(
        &self,
        prefix: &str,
        listener: &ListenerConfig,
        given: Option<&DeTable<'_>>,
        defaults: &DeTable<'_>,
        all: &mut Vec<Explained>,
    ) {
        let kind = listener.kind.name();
        let is_it = |row: &&&Row| row.name == kind;
        // Invariant: each kind has its line in the table.
        let row = KINDS.iter().find(|row| is_it(&row)).expect("a kind");
        let mut keys = vec!["kind", "name", "bind"];
        keys.extend(listener_keys(row));
        let first = all.len();
        self.table(prefix, &keys, given, example_of(defaults, kind), all);
        let has = |key: &str| given.is_some_and(|table| table.contains_key(key));
        for row in &mut all[first..] {
            match (&row.key[prefix.len()..], &listener.kind) {
                ("bind", _) if self.overrides.bind.is_some() => {
                    let at = listener.bind.iter().map(|bind| json!(bind.to_string()));
                    row.value = Value::Array(at.collect());
                    row.origin = Origin::Told(self.tellers.bind);
                }
                ("root", Kind::Http(http)) if self.overrides.root.is_some() => {
                    let root = http.root.as_ref().map(|root| root.display().to_string());
                    row.value = json!(root);
                    row.origin = Origin::Told(self.tellers.root);
                }
                ("secret", Kind::Upload(upload)) if given.is_none() => {
                    let is_random = matches!(upload.secret, super::SecretSource::Random(_));
                    row.value = json!(SET);
                    if is_random {
                        row.origin = Origin::Random;
                    }
                }
                // The example has to have one to be a configuration.
                ("secret", _) if !has("secret") => row.value = Value::Null,
                ("cache_dir", Kind::Proxy(proxy)) if !has("cache_dir") => {
                    if let Cache::On { dir, .. } = &proxy.cache {
                        row.value = json!(dir.display().to_string());
                    }
                }
                ("cache_max_bytes", Kind::Proxy(proxy)) if !has("cache_max_bytes") => {
                    if let Cache::On { bytes_max, .. } = &proxy.cache
                        && *bytes_max != default_cache_bytes(defaults)
                    {
                        row.value = json!(bytes_max);
                        row.origin = Origin::Shared;
                    }
                }
                _ => {}
            }
        }
    }
}

/// Bytes that a cache keeps on disk unless it is told otherwise.
fn default_cache_bytes(defaults: &DeTable<'_>) -> u64 {
    let value = example_of(defaults, "proxy").and_then(|table| table.get("cache_max_bytes"));
    let text = value.and_then(|value| value.get_ref().as_str());
    text.and_then(|text| super::parse_size(text).ok())
        .unwrap_or(0)
}

/// Whether the text of a key of this name is a secret, and not where one is.
fn is_secret(key: &str) -> bool {
    let words = ["secret", "password", "passwd", "token", "credential"];
    let is_place = ["_file", "_variable", "_dir"]
        .iter()
        .any(|end| key.ends_with(end));
    !is_place && words.iter().any(|word| key.contains(word))
}

/// A value without its place.
fn plain(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::String(without_login(text)),
        DeValue::Boolean(is_so) => json!(is_so),
        DeValue::Integer(number) => {
            let parsed = i64::from_str_radix(number.as_str(), number.radix());
            parsed.map_or_else(|_| json!(number.to_string()), |number| json!(number))
        }
        DeValue::Float(number) => {
            let parsed = number.as_str().parse::<f64>();
            parsed.map_or_else(|_| json!(number.as_str()), |number| json!(number))
        }
        DeValue::Array(list) => list.iter().map(|value| plain(value.get_ref())).collect(),
        DeValue::Table(table) => {
            let pairs = table.iter();
            let pair =
                pairs.map(|(key, value)| (key.get_ref().to_string(), plain(value.get_ref())));
            Value::Object(pair.collect())
        }
        other => json!(other.type_str()),
    }
}

/// A text as it is, but for the user and password of a URL.
fn without_login(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://{SET}{}", &rest[at..]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(text: &str, overrides: &Overrides) -> Vec<Explained> {
        let file = Path::new("x.toml");
        let config = match text {
            "" => Config::without_a_file(overrides),
            text => Config::parse(text, file, overrides),
        };
        let config = config.unwrap_or_else(|problems| panic!("{problems}"));
        let tellers = Tellers {
            bind: "--bind",
            root: "NETLAB_ROOT",
            log_format: "--log-format",
            log_filters: "NETLAB_LOG",
        };
        explain(&config, (file, text), overrides, tellers)
    }

    fn row<'a>(all: &'a [Explained], key: &str) -> (&'a Value, String) {
        let found: Vec<_> = all.iter().filter(|row| row.key == key).collect();
        assert_eq!(found.len(), 1, "{key}");
        (&found[0].value, found[0].origin.to_string())
    }

    #[test]
    fn what_the_file_says_has_its_line_and_the_rest_its_default() {
        let text = "drain_timeout = '3s'\n[limits]\nbacklog = 0x10\n[[listener]]\nkind = 'http'\nroot = 'site'\n\
                    auth = { file = 'users', realm = 'lab' }\n[[listener.route]]\nprefix = '/api/'\n\
                    upstream = 'http://127.0.0.1:1'\n[[listener]]\nkind = 'hello'\nbind = [\n  '127.0.0.1:1',\n]\n";
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("users"), "").expect("a file");
        let text = text.replace("'users'", &format!("'{}/users'", folder.path().display()));
        let all = explained(&text, &Overrides::default());
        let is = |key: &str, value: Value, origin: &str| {
            assert_eq!(row(&all, key), (&value, origin.to_owned()), "{key}");
        };
        is("drain_timeout", json!("3s"), "x.toml:1");
        is("limits.backlog", json!(16), "x.toml:3");
        is("limits.max_sessions", json!(65536), "default");
        is("disk.engine", json!("auto"), "default");
        is("resolver.nameservers", Value::Null, "default");
        is("listener[0].root", json!("site"), "x.toml:6");
        is("listener[0].auth.realm", json!("lab"), "x.toml:7");
        is("listener[0].route[0].prefix", json!("/api/"), "x.toml:9");
        is("listener[0].idle_timeout", json!("60s"), "default");
        is("listener[1].bind", json!(["127.0.0.1:1"]), "x.toml:13");
        is("listener[1].count", json!(200), "default");
        is("listener[1].name", json!("hello"), "default");
    }

    #[test]
    fn flags_and_the_environment_win_and_are_named() {
        let overrides = Overrides {
            bind: Some([192, 0, 2, 1].into()),
            root: Some("elsewhere".into()),
            log_format: Some(Format::Json),
            log_filters: None,
        };
        let all = explained("[[listener]]\nkind = 'http'\nroot = 'site'\n", &overrides);
        let (value, origin) = row(&all, "listener[0].bind");
        assert_eq!((value, &*origin), (&json!(["192.0.2.1:6789"]), "--bind"));
        let (value, origin) = row(&all, "listener[0].root");
        assert_eq!((value, &*origin), (&json!("elsewhere"), "NETLAB_ROOT"));
        let (value, origin) = row(&all, "log.format");
        assert_eq!((value, &*origin), (&json!("json"), "--log-format"));
    }

    #[test]
    fn secrets_are_not_shown() {
        let text = "[[listener]]\nkind = 'upload'\nsecret = 'tulip'\n";
        let all = explained(text, &Overrides::default());
        assert_eq!(row(&all, "listener[0].secret").0, &json!(SET));
        let as_text = super::text(&all);
        for shown in [as_text, json(&all)] {
            assert!(!shown.contains("tulip"), "{shown}");
        }
        let all = explained("", &Overrides::default());
        let upload = KINDS.iter().position(|row| row.name == "upload");
        let key = format!("listener[{}].secret", upload.expect("a kind"));
        assert_eq!(row(&all, &key), (&json!(SET), "random".to_owned()));
        let none = "[[listener]]\nkind = 'upload'\nhandshake = 'none'\n";
        let all = explained(none, &Overrides::default());
        assert_eq!(row(&all, "listener[0].secret").0, &Value::Null);
        assert_eq!(without_login("http://a:b@h:1/x@y"), "http://(set)@h:1/x@y");
        assert_eq!(without_login("http://h/x@y"), "http://h/x@y");
    }

    #[test]
    fn a_limit_of_a_shared_folder_is_that_of_the_other_listener() {
        let text = "[[listener]]\nkind = 'proxy'\ncache_dir = '/c'\ncache_max_bytes = 5000000\n\
                    [[listener]]\nkind = 'proxy'\nname = 'two'\nbind = '127.0.0.1:1'\ncache_dir = '/c'\n";
        let all = explained(text, &Overrides::default());
        let (value, origin) = row(&all, "listener[1].cache_max_bytes");
        assert_eq!(value, &json!(5_000_000));
        assert_eq!(origin, "the listener with the same cache_dir");
    }

    #[test]
    fn without_a_file_each_key_of_each_kind_is_there_once() {
        let all = explained("", &Overrides::default());
        let mut keys: Vec<&str> = all.iter().map(|row| &*row.key).collect();
        let count = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), count);
        for (index, kind) in KINDS.iter().enumerate() {
            for key in listener_keys(kind) {
                let name = format!("listener[{index}].{key}");
                let is_it = |row: &&Explained| row.key.starts_with(&name);
                assert!(all.iter().any(|row| is_it(&row)), "{name}");
            }
        }
    }
}
