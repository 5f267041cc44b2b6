//! The configuration: the TOML file, every default, every limit and time-out of the program.
//!
//! Rules:
//! - Parse, don't validate: what comes out needs no further check; what cannot be right is refused
//!   with its line and column, as many problems in one go as can be told apart.
//! - Every default stands in one place, the `Default` or `new` of its struct.
//! - Spans of time are `Duration`s; every other number has its unit, then its bound, at the end
//!   of its name.
//! - What was asked for at the start ([`Overrides`]) wins over the file, the file over the default.
//!
//! Deliberately not here: the command line and the environment, which `main.rs` turns into
//! [`Overrides`], and whether the folders that are named exist, which their services find out.
//! Files that are named are read here.

mod authorities;
mod bind;
mod compress;
mod cors;
pub mod explain;
mod files;
mod kinds;
mod limits;
mod parent;
mod problem;
mod process;
mod redirect;
mod section;
mod tls;
mod value;

use std::net::IpAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

pub use authorities::Authorities;
pub use compress::*;
pub use files::*;
pub use kinds::*;
pub use limits::*;
pub use parent::{PARENT_TIMEOUT, Parent};
pub use problem::{Place, Problem, Problems, Weight};
pub use process::*;
pub use tls::*;
pub use value::*;

use crate::limits::Limits;
use crate::logging::{Filters, Format, Settings};
use crate::surroundings::Surroundings;
use crate::wire::challenge::Secret;
use problem::{Finding, nearest};
use process::read_log;
use section::{Folders, Section, is_a, string};

/// Everything that the program can be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Table `[resolver]`.
    pub resolver: ResolverConfig,
    /// Tables `[limits]` and `[disk]`, and the key `drain_timeout`.
    pub limits: Limits,
    /// Table `[log]`.
    pub log: Settings,
    /// Keys `user` and `group`.
    pub run_as: RunAs,
    /// Table `[sandbox]`.
    pub sandbox: SandboxConfig,
    /// The file itself and the files that it names, all of which are read with it: not folders, and
    /// not what is written.
    pub files: Vec<PathBuf>,
    /// Each `[[listener]]`, in their order; never empty.
    pub listeners: Vec<ListenerConfig>,
    /// What is wrong without making it wrong as a whole: warnings, and after [`Config::load_again`]
    /// files that cannot be used.
    pub remarks: Problems,
}

/// One `[[listener]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct ListenerConfig {
    /// The name in logs and metrics. Key `name`, default the kind.
    pub name: String,
    /// Where it listens, at one address at least. Key `bind`, one or a list, default the loopback
    /// address with the port of its kind.
    pub bind: Vec<Bind>,
    /// What it serves. Key `kind`, and the keys of that kind.
    pub kind: Kind,
}

impl ListenerConfig {
    /// How many addresses the two have in common if they may be one listener, of two
    /// configurations: by name, kind and one address at least. Where it stands in the file means
    /// nothing.
    pub fn common(&self, other: &ListenerConfig) -> usize {
        if (&self.name, self.kind.name()) != (&other.name, other.kind.name()) {
            return 0;
        }
        let shared = self.bind.iter().filter(|bind| other.bind.contains(bind));
        shared.count()
    }

    /// Whether it is the same but for its addresses.
    pub fn serves_as(&self, other: &ListenerConfig) -> bool {
        let bind = self.bind.clone();
        let moved = ListenerConfig {
            bind,
            ..other.clone()
        };
        *self == moved
    }

    /// What could not be read for it stays what it was in `before`, the same listener of the
    /// configuration in force. Whether there was such a thing.
    pub fn keep(&mut self, before: &ListenerConfig) -> bool {
        let tls = self.kind.stream_mut().and_then(|keys| keys.tls.as_mut());
        let before = before.kind.tls();
        tls.zip(before)
            .is_some_and(|(tls, before)| tls.keep(before))
    }
}

/// Each address of each listener, in their order.
pub fn addresses(listeners: &[ListenerConfig]) -> impl Iterator<Item = (&ListenerConfig, &Bind)> {
    let all = listeners.iter();
    all.flat_map(|listener| listener.bind.iter().map(move |bind| (listener, bind)))
}

/// What the command line and the environment ask for; it wins over the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// The IP address of every TCP and UDP listener; the ports stay.
    pub bind: Option<IpAddr>,
    /// The folder of every web server.
    pub root: Option<PathBuf>,
    /// How the log is written.
    pub log_format: Option<Format>,
    /// Which lines the log has.
    pub log_filters: Option<Filters>,
}

/// The folder in which a proxy keeps what it fetched, unless it is told another one, for a
/// configuration in `file`.
pub fn default_cache(file: Option<&Path>) -> PathBuf {
    Folders::of(file.unwrap_or(Path::new("")), &Surroundings::live()).cache
}

/// A complete configuration with a comment and the default for each key.
pub fn example() -> &'static str {
    include_str!("example.toml")
}

impl Config {
    /// Reads a configuration file, or takes the defaults where there is none.
    ///
    /// # Errors
    /// Everything that is wrong with the file and those that it names, among it that it cannot be
    /// read.
    pub fn load(file: Option<&Path>, overrides: &Overrides) -> Result<Config, Problems> {
        Config::load_in(file, overrides, &Surroundings::live())
    }

    /// The same in these surroundings.
    ///
    /// # Errors
    /// As there.
    pub fn load_in(
        file: Option<&Path>,
        overrides: &Overrides,
        around: &Surroundings,
    ) -> Result<Config, Problems> {
        Config::load_again_in(file, overrides, around)?.without_bad_files()
    }

    /// The same for a process that serves already: it need not be told to give up what it has
    /// because a file that others write, such as a certificate, is not there or not whole. What is
    /// wrong with those stands in [`Config::remarks`].
    ///
    /// # Errors
    /// Everything else that is wrong with the file.
    pub fn load_again(file: Option<&Path>, overrides: &Overrides) -> Result<Config, Problems> {
        Config::load_again_in(file, overrides, &Surroundings::live())
    }

    /// The same in these surroundings.
    ///
    /// # Errors
    /// As there.
    pub fn load_again_in(
        file: Option<&Path>,
        overrides: &Overrides,
        around: &Surroundings,
    ) -> Result<Config, Problems> {
        let Some(file) = file else {
            return Config::without_a_file_in(overrides, around);
        };
        let wrong = |why: String| {
            Problems::whole(
                file,
                format!("{why}; expected a readable file of TOML text"),
            )
        };
        let bytes = around.file(file);
        let bytes = bytes.map_err(|error| wrong(format!("cannot be read: {error}")))?;
        let text = str::from_utf8(&bytes).map_err(|error| {
            let at = error.valid_up_to();
            let what = "a byte that is not UTF-8; expected a file of TOML text".to_owned();
            // Everything before the first bad byte is text, so its place can be counted.
            let text = String::from_utf8_lossy(&bytes[..at]);
            let (weight, span) = (Weight::Wrong, at..at);
            Problems::located(file, &text, vec![Finding { weight, span, what }])
        })?;
        Config::read(text, file, overrides, around)
    }

    /// Every kind of listener at its default.
    ///
    /// # Errors
    /// When the system has no random bytes for the secret of the upload listener.
    pub fn without_a_file(overrides: &Overrides) -> Result<Config, Problems> {
        Config::without_a_file_in(overrides, &Surroundings::live())
    }

    fn without_a_file_in(overrides: &Overrides, around: &Surroundings) -> Result<Config, Problems> {
        let file = Path::new("");
        let secret = random_secret(around).map_err(|why| Problems::whole(file, why))?;
        let listeners = default_listeners(&Folders::of(file, around), overrides, &secret);
        let mut config = Config::with(listeners);
        overrides.apply_to_log(&mut config.log);
        Ok(config)
    }

    /// The defaults, but for the listeners.
    fn with(listeners: Vec<ListenerConfig>) -> Config {
        Config {
            resolver: ResolverConfig::default(),
            limits: Limits::default(),
            log: Settings::default(),
            run_as: RunAs::default(),
            sandbox: SandboxConfig::default(),
            files: Vec::new(),
            listeners,
            remarks: Problems::default(),
        }
    }

    /// Reads the text of a configuration file; `file` is its path, from whose folder relative
    /// paths lead.
    ///
    /// # Errors
    /// Everything that is wrong with it and the files that it names.
    pub fn parse(text: &str, file: &Path, overrides: &Overrides) -> Result<Config, Problems> {
        Config::read(text, file, overrides, &Surroundings::live())?.without_bad_files()
    }

    /// Itself, if all files that it names can be used.
    fn without_bad_files(self) -> Result<Config, Problems> {
        match self.remarks.any(Weight::BadFile) {
            true => Err(self.remarks),
            false => Ok(self),
        }
    }

    fn read(
        text: &str,
        file: &Path,
        overrides: &Overrides,
        around: &Surroundings,
    ) -> Result<Config, Problems> {
        let (table, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            let finding = |error: &toml::de::Error| Finding {
                weight: Weight::Wrong,
                span: error.span().unwrap_or(0..0),
                what: format!("{}; expected TOML", error.message().replace('\n', ", ")),
            };
            return Err(Problems::located(
                file,
                text,
                errors.iter().map(finding).collect(),
            ));
        }
        let folders = Folders::of(file, around);
        let mut section = Section::new(table.get_ref(), 0..0, &folders);
        let mut config = Config::with(Vec::new());
        section.duration("drain_timeout", &mut config.limits.drain_timeout);
        config.run_as = RunAs::read(&mut section);
        section.table("log", |section| read_log(&mut config.log, section));
        overrides.apply_to_log(&mut config.log);
        section.table("sandbox", |section| config.sandbox.read(section));
        section.table("resolver", |section| config.resolver.read(section));
        section.table("limits", |section| config.limits.read(section));
        section.table("disk", |section| config.limits.disk.read(section));
        section.table("trace", |section| config.limits.read_trace(section));
        config.listeners = read_listeners(&mut section, text, overrides);
        section.refuse_unknown("at the top", |key| {
            let kind = KINDS.iter().find(|row| listener_keys(row).contains(&key))?;
            Some(format!("a [[listener]] of kind {:?}", kind.name))
        });
        config.files = section.files;
        config.files.push(file.to_owned());
        config.remarks = Problems::located(file, text, section.findings);
        match config.remarks.any(Weight::Wrong) {
            true => Err(config.remarks),
            false => Ok(config),
        }
    }
}

impl<'s> Folders<'s> {
    /// The folders for a configuration in `file`.
    fn of(file: &Path, around: &'s Surroundings) -> Self {
        let base = file.parent().unwrap_or(Path::new("")).to_owned();
        let absolute = |name| {
            around
                .variable(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let platform = match cfg!(target_os = "macos") {
            true => absolute("HOME").map(|home| home.join("Library/Caches")),
            false => absolute("XDG_CACHE_HOME")
                .or_else(|| absolute("HOME").map(|home| home.join(".cache"))),
        };
        let cache = match platform {
            Some(folder) => folder.join("netlab-reactor/cache"),
            None => base.join("cache"),
        };
        Folders {
            base,
            cache,
            around,
        }
    }
}

/// A listener with where its keys stand, for the checks that compare several.
struct Read {
    /// What was read.
    listener: ListenerConfig,
    /// Where each of its addresses stands: an entry of `bind`, or the header where the default was
    /// taken.
    bind_spans: Vec<Range<usize>>,
    /// The span of `name`, if it was given.
    name_span: Option<Range<usize>>,
    /// The span of `cache_max_bytes`, if it was given.
    cache_span: Option<Range<usize>>,
}

/// Reads each `[[listener]]`. That a file has none is a mistake: a file that was emptied must not
/// open every kind of listener at its default.
fn read_listeners(
    section: &mut Section<'_>,
    text: &str,
    overrides: &Overrides,
) -> Vec<ListenerConfig> {
    let expected = "expected at least one table [[listener]]";
    let Some(value) = section.value("listener") else {
        let what = format!(
            "the file has no listener; {expected} (the defaults are for a start without a file)"
        );
        section.problem(text.len()..text.len(), what);
        return Vec::new();
    };
    let DeValue::Array(tables) = value.get_ref() else {
        let wrong = match value.get_ref() {
            DeValue::Table(_) => "is a table [listener]".to_owned(),
            other => is_a(other),
        };
        section.problem(value.span(), format!("`listener` {wrong}; {expected}"));
        return Vec::new();
    };
    if tables.is_empty() {
        section.problem(value.span(), format!("`listener` is empty; {expected}"));
    }
    let mut read = Vec::new();
    for table in tables.iter() {
        let DeValue::Table(keys) = table.get_ref() else {
            let wrong = is_a(table.get_ref());
            section.problem(
                table.span(),
                format!("an entry of `listener` {wrong}; {expected}"),
            );
            continue;
        };
        let mut listener = Section::new(keys, table.span(), section.folders);
        read.extend(read_listener(&mut listener, overrides));
        section.absorb(listener);
    }
    refuse_collisions(section, text, &read);
    share_cache_limits(section, text, &mut read);
    read.into_iter().map(|read| read.listener).collect()
}

/// Reads one `[[listener]]`; `None` where its kind is not known.
fn read_listener(section: &mut Section<'_>, overrides: &Overrides) -> Option<Read> {
    let kinds: Vec<&str> = KINDS.iter().map(|row| row.name).collect();
    let kinds = kinds.join(", ");
    let row = section.parsed("kind", &format!("one of {kinds}"), |value| {
        let typed = string(value)?;
        KINDS.iter().find(|row| row.name == typed).ok_or_else(|| {
            match nearest(typed, KINDS.iter().map(|row| row.name)) {
                Some(near) => format!("is {typed:?}, probably meant as {near:?}"),
                None => format!("is {typed:?}"),
            }
        })
    });
    let Some(row) = row else {
        if section.findings.is_empty() {
            let what = format!("a [[listener]] without `kind`; expected one of {kinds}");
            section.problem(section.span("kind"), what);
        }
        return None;
    };
    let (bind, bind_spans) = bind::read(section, row, overrides).into_iter().unzip();
    let expected = "a name of 1 to 64 characters, none of them a control character";
    let given = section.parsed("name", expected, |value| match string(value)? {
        "" => Err("is empty".to_owned()),
        name if name.chars().count() > 64 || name.chars().any(char::is_control) => {
            Err(format!("is {name:?}"))
        }
        name => Ok(name.to_owned()),
    });
    let name_span = given.is_some().then(|| section.span("name"));
    let name = given.unwrap_or_else(|| row.name.to_owned());
    let kind = (row.read)(section);
    section.refuse_unknown(&format!("for kind {:?}", row.name), |key| {
        let owner = KINDS
            .iter()
            .find(|other| listener_keys(other).contains(&key))?;
        Some(format!("kind {:?}, not {:?}", owner.name, row.name))
    });
    let cache_given = section.has("cache_max_bytes");
    let mut listener = ListenerConfig { name, bind, kind };
    overrides.apply(&mut listener);
    Some(Read {
        listener,
        bind_spans,
        name_span,
        cache_span: cache_given.then(|| section.span("cache_max_bytes")),
    })
}

/// Refuses addresses that could not both be bound, and names that were given twice.
fn refuse_collisions(section: &mut Section<'_>, text: &str, read: &[Read]) {
    bind::refuse_taken(section, text, read);
    for (index, later) in read.iter().enumerate() {
        let earlier = &read[..index];
        let Some(span) = &later.name_span else {
            continue;
        };
        let name = &later.listener.name;
        let same = |first: &&Read| first.name_span.is_some() && first.listener.name == *name;
        if let Some(Read {
            name_span: Some(first),
            ..
        }) = earlier.iter().find(same)
        {
            let Place { line, .. } = Place::of(text, first.start);
            let what = format!("the name {name:?} is taken (line {line}); expected another `name`");
            section.problem(span.clone(), what);
        }
    }
}

/// Gives the listeners that share a cache folder one limit: the one that was given.
fn share_cache_limits(section: &mut Section<'_>, text: &str, read: &mut [Read]) {
    let given: Vec<(PathBuf, u64, Range<usize>)> = read
        .iter()
        .filter_map(|read| match (&read.listener.kind, &read.cache_span) {
            (
                Kind::Proxy(ProxyConfig {
                    cache: Cache::On { dir, bytes_max, .. },
                    ..
                }),
                Some(span),
            ) => Some((dir.clone(), *bytes_max, span.clone())),
            _ => None,
        })
        .collect();
    let first_of = |dir: &Path| given.iter().find(|(first, ..)| first == dir);
    for (dir, bytes_max, span) in &given {
        if let Some((_, first, first_span)) = first_of(dir).filter(|(_, max, _)| max != bytes_max) {
            let Place { line, .. } = Place::of(text, first_span.start);
            let what = format!(
                "`cache_max_bytes` is {bytes_max} for a folder that line {line} gives {first}; \
                 expected the same"
            );
            section.problem(span.clone(), what);
        }
    }
    for Read { listener, .. } in read {
        if let Kind::Proxy(ProxyConfig {
            cache: Cache::On { dir, bytes_max, .. },
            ..
        }) = &mut listener.kind
            && let Some((_, first, _)) = first_of(dir)
        {
            *bytes_max = *first;
        }
    }
}

/// Every kind at its default.
fn default_listeners(
    folders: &Folders<'_>,
    overrides: &Overrides,
    secret: &Secret,
) -> Vec<ListenerConfig> {
    let empty = DeTable::new();
    let listener = |row: &Row| {
        let mut section = Section::new(&empty, 0..0, folders);
        let mut kind = (row.read)(&mut section);
        if let Kind::Upload(upload) = &mut kind {
            // The one key without a default: the reader reports it, this supplies it.
            upload.secret = SecretSource::Random(secret.clone());
        }
        let moved = overrides.moved(vec![(row.default_bind(), 0..0)]);
        let bind = moved.into_iter().map(|(bind, _)| bind).collect();
        let mut listener = ListenerConfig {
            name: row.name.to_owned(),
            bind,
            kind,
        };
        overrides.apply(&mut listener);
        listener
    };
    KINDS.iter().map(listener).collect()
}

/// A secret of 128 random bits in lower-case hexadecimal digits.
fn random_secret(around: &Surroundings) -> Result<Secret, String> {
    let bytes: [u8; 16] = around
        .random()
        .map_err(|error| format!("no random bytes for a secret: {error}; expected some"))?;
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Secret::new(digits))
}

/// The keys that a `[[listener]]` of one kind may have beside `kind`, `bind` and `name`.
fn listener_keys(row: &Row) -> Vec<&'static str> {
    let empty = DeTable::new();
    let folders = Folders {
        base: PathBuf::new(),
        cache: PathBuf::new(),
        around: &Surroundings::default(),
    };
    let mut section = Section::new(&empty, 0..0, &folders);
    (row.read)(&mut section);
    section.known
}

impl Overrides {
    /// Lets what was asked for win over what the log was to be.
    fn apply_to_log(&self, log: &mut Settings) {
        if let Some(format) = self.log_format {
            log.format = format;
        }
        if let Some(filters) = &self.log_filters {
            log.filters = filters.clone();
        }
    }

    /// Lets what was asked for win over what a listener was given.
    fn apply(&self, listener: &mut ListenerConfig) {
        if let (Some(root), Kind::Http(http)) = (&self.root, &mut listener.kind) {
            http.root = Some(root.clone());
        }
    }
}

#[cfg(test)]
mod tests;
