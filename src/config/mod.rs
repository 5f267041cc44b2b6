//! The configuration: the TOML file, every default, every limit and time-out of the program.
//!
//! Rules:
//! - Parse, don't validate: what comes out needs no further check; what cannot be right is refused
//!   with its line and column, as many problems in one go as can be told apart.
//! - Every default stands in one place, the `Default` or `new` of its struct.
//! - Spans of time are [`Duration`]s; every other number has its unit, then its bound, at the end
//!   of its name.
//! - What was asked for at the start ([`Overrides`]) wins over the file, the file over the default.
//!
//! Deliberately not here: the command line and the environment, which `main.rs` turns into
//! [`Overrides`], and whether the folders that are named exist, which their services find out. Files that are named are read
//! here.

mod files;
mod kinds;
mod limits;
mod problem;
mod section;
mod tls;
mod value;

use std::env;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::{DeTable, DeValue};

pub use files::*;
pub use kinds::*;
pub use limits::*;
pub use problem::{Place, Problem, Problems};
pub use tls::*;
pub use value::*;

use crate::wire::challenge::Secret;
use problem::{Finding, nearest};
use section::{Folders, Section, is_a, string};

/// Everything that the program can be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Time for what is under way to finish after SIGTERM or SIGINT; what is left is cut.
    /// Key `drain_timeout`, default [`DRAIN_TIMEOUT`].
    pub drain_timeout: Duration,
    /// Table `[resolver]`.
    pub resolver: ResolverConfig,
    /// Table `[limits]`.
    pub limits: Limits,
    /// Each `[[listener]]`, in their order; never empty.
    pub listeners: Vec<ListenerConfig>,
}

/// Time for what is under way to finish at the end, unless the file says otherwise: 10 s.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// One `[[listener]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct ListenerConfig {
    /// The name in logs and metrics. Key `name`, default the kind.
    pub name: String,
    /// Where it listens. Key `bind`, default the loopback address with the port of its kind.
    pub bind: Bind,
    /// What it serves. Key `kind`, and the keys of that kind.
    pub kind: Kind,
}

impl ListenerConfig {
    /// Whether the two are one listener, of two configurations: by name, kind and address. Where it
    /// stands in the file means nothing.
    pub fn is(&self, other: &ListenerConfig) -> bool {
        (&self.name, self.kind.name(), &self.bind) == (&other.name, other.kind.name(), &other.bind)
    }
}

/// What the command line and the environment ask for; it wins over the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// The IP address of every TCP and UDP listener; the ports stay.
    pub bind: Option<IpAddr>,
    /// The folder of every web server.
    pub root: Option<PathBuf>,
}

/// A complete configuration with a comment and the default for each key.
pub fn example() -> &'static str {
    include_str!("example.toml")
}

impl Config {
    /// Reads a configuration file, or takes the defaults where there is none.
    ///
    /// # Errors
    /// Everything that is wrong with the file, among it that it cannot be read.
    pub fn load(file: Option<&Path>, overrides: &Overrides) -> Result<Config, Problems> {
        let Some(file) = file else {
            return Config::without_a_file(overrides);
        };
        let wrong = |why: String| {
            Problems::whole(
                file,
                format!("{why}; expected a readable file of TOML text"),
            )
        };
        let bytes = fs::read(file).map_err(|error| wrong(format!("cannot be read: {error}")))?;
        let text = str::from_utf8(&bytes).map_err(|error| {
            let at = error.valid_up_to();
            let what = "a byte that is not UTF-8; expected a file of TOML text".to_owned();
            // Everything before the first bad byte is text, so its place can be counted.
            let text = String::from_utf8_lossy(&bytes[..at]);
            Problems::located(file, &text, vec![Finding { span: at..at, what }])
        })?;
        Config::parse(text, file, overrides)
    }

    /// Every kind of listener at its default.
    ///
    /// # Errors
    /// When the system has no random bytes for the secret of the upload listener.
    pub fn without_a_file(overrides: &Overrides) -> Result<Config, Problems> {
        let file = Path::new("");
        let secret = random_secret().map_err(|why| Problems::whole(file, why))?;
        let listeners = default_listeners(&Folders::of(file), overrides, &secret);
        Ok(Config::with(listeners))
    }

    /// The defaults, but for the listeners.
    fn with(listeners: Vec<ListenerConfig>) -> Config {
        Config {
            drain_timeout: DRAIN_TIMEOUT,
            resolver: ResolverConfig::default(),
            limits: Limits::default(),
            listeners,
        }
    }

    /// Reads the text of a configuration file; `file` is its path, from whose folder relative
    /// paths lead.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(text: &str, file: &Path, overrides: &Overrides) -> Result<Config, Problems> {
        let (table, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            let finding = |error: &toml::de::Error| Finding {
                span: error.span().unwrap_or(0..0),
                what: format!("{}; expected TOML", error.message().replace('\n', ", ")),
            };
            return Err(Problems::located(
                file,
                text,
                errors.iter().map(finding).collect(),
            ));
        }
        let folders = Folders::of(file);
        let mut section = Section::new(table.get_ref(), 0..0, &folders);
        let mut config = Config::with(Vec::new());
        section.duration("drain_timeout", &mut config.drain_timeout);
        section.table("resolver", |section| config.resolver.read(section));
        section.table("limits", |section| config.limits.read(section));
        config.listeners = read_listeners(&mut section, text, overrides);
        section.refuse_unknown("at the top", |key| {
            let kind = KINDS.iter().find(|row| listener_keys(row).contains(&key))?;
            Some(format!("a [[listener]] of kind {:?}", kind.name))
        });
        match section.findings {
            findings if findings.is_empty() => Ok(config),
            findings => Err(Problems::located(file, text, findings)),
        }
    }
}

impl Folders {
    /// The folders for a configuration in `file`.
    fn of(file: &Path) -> Folders {
        let base = file.parent().unwrap_or(Path::new("")).to_owned();
        let absolute = |name| {
            env::var_os(name)
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
        Folders { base, cache }
    }
}

/// A listener with where its keys stand, for the checks that compare several.
struct Read {
    /// What was read.
    listener: ListenerConfig,
    /// The span of `bind`, or of the header where the default was taken.
    bind_span: Range<usize>,
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
        section.findings.append(&mut listener.findings);
    }
    refuse_collisions(section, text, &read);
    share_cache_limits(section, text, &mut read);
    read.into_iter().map(|read| read.listener).collect()
}

/// Reads one `[[listener]]`; `None` where its kind is not known.
fn read_listener(section: &mut Section<'_>, overrides: &Overrides) -> Option<Read> {
    let kinds = KINDS.map(|row| row.name).join(", ");
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
    let base = section.folders.base.as_path();
    let given = section.parsed("bind", row.transport.bind_expected(), |value| {
        row.transport.parse_bind(string(value)?, base)
    });
    let bind = given.unwrap_or_else(|| row.default_bind());
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
        bind_span: section.span("bind"),
        name_span,
        cache_span: cache_given.then(|| section.span("cache_max_bytes")),
    })
}

/// Refuses listeners that could not both be bound, and names that were given twice.
fn refuse_collisions(section: &mut Section<'_>, text: &str, read: &[Read]) {
    for (index, later) in read.iter().enumerate() {
        let earlier = &read[..index];
        let bind = &later.listener.bind;
        if let Some(first) = earlier
            .iter()
            .find(|first| first.listener.bind.collides(bind))
        {
            let Place { line, .. } = Place::of(text, first.bind_span.start);
            let name = &first.listener.name;
            let what = format!(
                "the address {bind} is taken by listener {name:?} (line {line}); expected another `bind`"
            );
            section.problem(later.bind_span.clone(), what);
        }
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
                    cache: Cache::On { dir, bytes_max },
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
            cache: Cache::On { dir, bytes_max },
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
    folders: &Folders,
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
        let mut listener = ListenerConfig {
            name: row.name.to_owned(),
            bind: row.default_bind(),
            kind,
        };
        overrides.apply(&mut listener);
        listener
    };
    KINDS.iter().map(listener).collect()
}

/// A secret of 128 random bits in lower-case hexadecimal digits.
fn random_secret() -> Result<Secret, String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
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
    };
    let mut section = Section::new(&empty, 0..0, &folders);
    (row.read)(&mut section);
    section.known
}

impl Overrides {
    /// Lets what was asked for win over what a listener was given.
    fn apply(&self, listener: &mut ListenerConfig) {
        if let (Some(ip), Bind::Tcp(address) | Bind::Udp(address)) = (self.bind, &mut listener.bind)
        {
            address.set_ip(ip);
        }
        if let (Some(root), Kind::Http(http)) = (&self.root, &mut listener.kind) {
            http.root = Some(root.clone());
        }
    }
}

impl Row {
    /// The address where nothing else is configured.
    fn default_bind(&self) -> Bind {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        match self.transport {
            Transport::Stream => Bind::Tcp(address),
            Transport::Datagram => Bind::Udp(address),
        }
    }
}

impl Transport {
    /// What a wrong `bind` is told.
    fn bind_expected(self) -> &'static str {
        match self {
            Transport::Stream => {
                r#"an address such as "127.0.0.1:6789", "[::1]:6789" or "unix:/run/x.sock""#
            }
            Transport::Datagram => r#"an address such as "127.0.0.1:12000" or "[::1]:12000""#,
        }
    }

    /// Parses a `bind`; the path of a Unix socket leads from `base`.
    fn parse_bind(self, text: &str, base: &Path) -> Result<Bind, String> {
        let bind = match self {
            Transport::Stream => parse_stream_bind(text)?,
            Transport::Datagram => parse_datagram_bind(text)?,
        };
        let Bind::Unix(path) = bind else {
            return Ok(bind);
        };
        let path = base.join(path);
        match path.as_os_str().len() {
            0..=UNIX_PATH_BYTES_MAX => Ok(Bind::Unix(path)),
            long => Err(format!(
                "is a path of {long} bytes, above {UNIX_PATH_BYTES_MAX}"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::challenge::Handshake;
    use std::num::NonZeroU64;

    /// The shortest configuration.
    const HELLO: &str = "[[listener]]\nkind = 'hello'\n";

    /// Reads a text as if it stood in `conf/x.toml`.
    fn parse(text: &str) -> Result<Config, Problems> {
        Config::parse(text, Path::new("conf/x.toml"), &Overrides::default())
    }

    /// The problems of a text, one line each.
    fn problems(text: &str) -> String {
        parse(text).expect_err("should be refused").to_string()
    }

    /// The kind of the only listener, which has these lines.
    fn kind(lines: &str) -> Kind {
        let text = format!("[[listener]]\n{lines}\n");
        let mut listeners = parse(&text)
            .unwrap_or_else(|problems| panic!("{problems}"))
            .listeners;
        assert_eq!(listeners.len(), 1);
        listeners.remove(0).kind
    }

    #[test]
    fn without_a_file_every_kind_listens_on_loopback() {
        let config = Config::without_a_file(&Overrides::default()).unwrap();
        let lines: Vec<String> = config
            .listeners
            .iter()
            .map(|listener| format!("{} {}", listener.name, listener.bind))
            .collect();
        let expected = [
            "tcp-echo 127.0.0.1:12000",
            "udp-echo 127.0.0.1:12002",
            "udp-ping 127.0.0.1:12000",
            "udp-heartbeat 127.0.0.1:12001",
            "hello 127.0.0.1:9000",
            "http 127.0.0.1:6789",
            "proxy 127.0.0.1:8888",
            "upload 127.0.0.1:9001",
            "admin 127.0.0.1:9090",
        ];
        assert_eq!(lines, expected);
        for (listener, row) in config.listeners.iter().zip(&KINDS) {
            assert_eq!(listener.kind.name(), row.name);
        }
    }

    #[test]
    fn without_a_file_the_upload_secret_is_random() {
        let secret = || {
            let config = Config::without_a_file(&Overrides::default()).unwrap();
            let upload = config
                .listeners
                .into_iter()
                .find_map(|listener| match listener.kind {
                    Kind::Upload(upload) => Some((upload.handshake, upload.secret)),
                    _ => None,
                });
            match upload {
                Some((Handshake::HmacMd5, SecretSource::Random(secret))) => secret,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(secret().expose().len(), 32);
        assert_ne!(secret(), secret());
    }

    #[test]
    fn a_file_without_a_listener_is_a_mistake() {
        let told = "the file has no listener; expected at least one table [[listener]] (the defaults \
                    are for a start without a file)";
        for (text, place) in [
            ("", "1:1"),
            ("\n\n", "3:1"),
            ("# [[listener]]\n# kind = 'http'\n", "3:1"),
            ("\u{feff}# only a comment", "1:17"),
            ("drain_timeout = '1s'\n[limits]\nbacklog = 7", "3:12"),
        ] {
            assert_eq!(problems(text), format!("conf/x.toml:{place}: {told}"));
        }
        // A word that was mistyped is told as well.
        let wrong = problems("[[listner]]\nkind = 'http'");
        assert!(
            wrong.contains("`listener`") && wrong.ends_with(told),
            "{wrong}"
        );
    }

    #[test]
    fn overrides_win_over_the_file() {
        let text = "[[listener]]\nkind = 'http'\nbind = '127.0.0.1:81'\nroot = 'a'\n\
                    [[listener]]\nkind = 'hello'\nbind = 'unix:x.sock'\n";
        let overrides = Overrides {
            bind: Some("::1".parse().unwrap()),
            root: Some(PathBuf::from("b")),
        };
        let config = Config::parse(text, Path::new("conf/x.toml"), &overrides).unwrap();
        assert_eq!(config.listeners[0].bind.to_string(), "[::1]:81");
        assert_eq!(config.listeners[1].bind.to_string(), "unix:conf/x.sock");
        match &config.listeners[0].kind {
            Kind::Http(http) => assert_eq!(http.root.as_deref(), Some(Path::new("b"))),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn relative_paths_lead_from_the_folder_of_the_file() {
        let Kind::Http(http) = kind("kind = 'http'\nroot = 'site'") else {
            panic!()
        };
        assert_eq!(http.root.as_deref(), Some(Path::new("conf/site")));
        let Kind::Upload(upload) = kind("kind = 'upload'\nhandshake = 'none'") else {
            panic!()
        };
        assert_eq!(upload.dir, Path::new("conf/uploads"));
        let Kind::Proxy(proxy) = kind("kind = 'proxy'\ncache_dir = '/c'") else {
            panic!()
        };
        assert_eq!(
            proxy.cache,
            Cache::On {
                dir: PathBuf::from("/c"),
                bytes_max: CACHE_BYTES_MAX
            }
        );
    }

    #[test]
    fn each_kind_reads_its_keys() {
        let Kind::UdpPing(ping) = kind(
            "kind = 'udp-ping'\nloss = 0.3\nduplicate = '1/2'\n\
            reorder = 1\ndelay = '5ms'\nseed = 7\nsource_rate_max = 0",
        ) else {
            panic!()
        };
        assert_eq!(Some(ping.loss), Fraction::new(3, 10));
        assert_eq!(Some(ping.duplicate), Fraction::new(1, 2));
        assert_eq!(ping.reorder, Fraction::ONE);
        assert_eq!((ping.delay, ping.seed), (Duration::from_millis(5), Some(7)));
        assert_eq!(ping.source_rate_max, None);
        let Kind::Proxy(proxy) = kind(
            "kind = 'proxy'\nconnect_ports = []\nforward_ports = [25]\ncache = 'off'\n\
            allow_destinations = ['127.0.0.0/8', '::1']\nupstream = 'http://127.0.0.1:8000'",
        ) else {
            panic!()
        };
        assert_eq!(proxy.connect_ports, Ports::Any);
        assert_eq!(proxy.forward_ports, Ports::Only(vec![25]));
        assert_eq!(proxy.cache, Cache::Off);
        assert_eq!(proxy.upstream.unwrap().to_string(), "127.0.0.1:8000");
        assert_eq!(proxy.allow_destinations[1].to_string(), "::1/128");
        let Kind::Http(http) = kind(
            "kind = 'http'\nindex = 'home.html'\nroutes = 'probe'\n\
            max_body_bytes = '64MiB'\nmax_requests_per_connection = 100",
        ) else {
            panic!()
        };
        assert_eq!(http.files.index, ["home.html"]);
        assert_eq!(
            (http.routes, http.body_bytes_max),
            (Routes::Probe, 64 << 20)
        );
        assert_eq!(http.requests_per_connection_max, NonZeroU64::new(100));
    }

    #[test]
    fn a_resolver_is_read() {
        let config = parse(&format!(
            "{HELLO}[resolver]\nnameservers = ['127.0.0.1:5353', '::1']\nhosts = 'h'"
        ))
        .unwrap();
        let servers = ["127.0.0.1:5353", "[::1]:53"].map(|server| server.parse().unwrap());
        assert_eq!(
            config.resolver.nameservers,
            Nameservers::Listed(servers.to_vec())
        );
        assert_eq!(config.resolver.hosts, Path::new("conf/h"));
        let config = parse(&format!(
            "{HELLO}[resolver]\nquery_timeout = '200ms'\nattempts = 2\nlookup_timeout = '3s'\nsecond_family_delay = '0s'\n\
             max_waiters = 7\nmin_cached_time = '4s'\nmax_negative_time = '5s'\nfailure_time = '6s'",
        ));
        let resolver = config.unwrap().resolver;
        let expected = ResolverConfig {
            query_timeout: Some(Duration::from_millis(200)),
            attempts: Some(2),
            lookup_timeout: Duration::from_secs(3),
            second_family_delay: Duration::ZERO,
            waiters_max: 7,
            cached_time_min: Duration::from_secs(4),
            negative_time_max: Duration::from_secs(5),
            failure_time: Duration::from_secs(6),
            ..ResolverConfig::default()
        };
        assert_eq!(resolver, expected);
        let wrong = problems("[resolver]\nnameservers = ['127.0.0.1:5353',\n 'here']");
        assert!(
            wrong.starts_with("conf/x.toml:3:2: an entry of `nameservers` is \"here\""),
            "{wrong}"
        );
    }

    #[test]
    fn unknown_keys_are_refused_with_the_nearest_known_one() {
        let wrong = problems("[[listener]]\nkind = 'http'\nidle_timout = '1s'\n");
        assert!(
            wrong.starts_with(
                "conf/x.toml:3:1: unknown key `idle_timout`, probably meant as `idle_timeout`; \
                 expected for kind \"http\" one of kind, bind, name, root, "
            ),
            "{wrong}"
        );
        let wrong = problems("[limits]\nmax_session = 1\n[resolver]\nx = 1");
        assert!(
            wrong.starts_with("conf/x.toml:2:1: unknown key `max_session`, probably"),
            "{wrong}"
        );
        assert!(wrong.contains("\nconf/x.toml:4:1: unknown key `x`; expected in table [resolver]"));
    }

    #[test]
    fn keys_of_another_kind_are_refused_by_its_name() {
        let wrong = problems("[[listener]]\nkind = 'http'\ncache_dir = 'x'\n");
        let expected = "conf/x.toml:3:1: key `cache_dir` belongs to kind \"proxy\", not \"http\"";
        assert!(wrong.starts_with(expected), "{wrong}");
        let wrong = problems("root = 'x'\n");
        let expected = "conf/x.toml:1:1: key `root` belongs to a [[listener]] of kind \"http\"";
        assert!(wrong.starts_with(expected), "{wrong}");
    }

    #[test]
    fn wrong_types_are_refused_at_the_value() {
        for (line, expected) in [
            (
                "kind = 3",
                "2:8: `kind` is an integer; expected one of tcp-echo, ",
            ),
            (
                "kind = 'http'\nroot = []",
                "3:8: `root` is an array; expected a path",
            ),
            (
                "kind = 'http'\nindex = 1",
                "3:9: `index` is an integer; expected a list",
            ),
            (
                "kind = 'http'\nidle_timeout = 60",
                "3:16: `idle_timeout` is 60 without a unit",
            ),
            (
                "kind = 'http'\nmax_body_bytes = true",
                "3:18: `max_body_bytes` is a boolean",
            ),
            (
                "kind = 'hello'\ncount = '1'",
                "3:9: `count` is a string; expected an integer",
            ),
            (
                "kind = 'udp-ping'\nloss = true",
                "3:8: `loss` is a boolean; expected a share",
            ),
        ] {
            let wrong = problems(&format!("[[listener]]\n{line}"));
            assert!(
                wrong.starts_with(&format!("conf/x.toml:{expected}")),
                "{wrong}"
            );
        }
        assert!(problems("limits = 3").starts_with("conf/x.toml:1:10: `limits` is an integer"));
        assert!(problems("listener = 3").starts_with("conf/x.toml:1:12: `listener` is an integer"));
    }

    #[test]
    fn bad_values_are_refused_at_the_value() {
        for (line, expected) in [
            (
                "kind = 'http'\nbind = 'localhost:80'",
                "\"localhost:80\", not an IP address",
            ),
            (
                "kind = 'udp-ping'\nbind = 'unix:x'",
                "\"unix:x\", a Unix socket",
            ),
            (
                "kind = 'http'\nidle_timeout = '0s'",
                "zero; expected a duration above zero",
            ),
            (
                "kind = 'http'\nidle_timeout = '11y'",
                "\"11y\", not a number with a unit",
            ),
            (
                "kind = 'http'\nidle_timeout = '9999d'",
                "\"9999d\", above ten years",
            ),
            (
                "kind = 'http'\nmax_head_bytes = '1GiB'",
                "1073741824; expected a size from 256",
            ),
            (
                "kind = 'http'\nmax_connections = 0",
                "0; expected an integer from 1",
            ),
            (
                "kind = 'http'\nroutes = 'prob'",
                "\"prob\", probably meant as \"probe\"",
            ),
            ("kind = 'http'\nname = ''", "empty; expected a name"),
            (
                "kind = 'udp-ping'\nloss = 1.5",
                "1.5, not a share from 0 to 1; expected",
            ),
            (
                "kind = 'udp-ping'\nsource_rate_max = -1",
                "-1; expected an integer from 0",
            ),
            (
                "kind = 'proxy'\nconnect_ports = [70000]",
                "70000; expected a port",
            ),
            (
                "kind = 'proxy'\nallow_destinations = ['x']",
                "\"x\"; expected an address range",
            ),
            (
                "kind = 'proxy'\nupstream = 'ftp://x'",
                "\"ftp://x\", not an http:// address",
            ),
            (
                "kind = 'tcp-echo'\ntransform = 'lower'",
                "\"lower\"; expected one of \"upper\"",
            ),
        ] {
            let wrong = problems(&format!("[[listener]]\n{line}"));
            assert!(wrong.starts_with("conf/x.toml:3:"), "{wrong}");
            assert!(wrong.contains(&format!(" is {expected}")), "{wrong}");
            assert_eq!(wrong.lines().count(), 1, "{wrong}");
        }
    }

    #[test]
    fn what_a_folder_is_served_with_is_read_and_judged() {
        let Kind::Http(http) = kind(
            "kind = 'http'\nroot = 'a'\nlisting = true\nspa = '/app/index.html'\n\
             error_pages = { 404 = 'no.html' }\nheaders = { X-A = ' b ' }\nmedia_types = { '.md' = 'text/plain' }\n\
             access_log = 'log'\n[[listener.site]]\nhost = 'A.Example'\nprefix = '/x//y/'\nroot = 'b'\nlisting = true",
        ) else {
            panic!()
        };
        let files = &http.files;
        assert_eq!(files.spa.as_deref(), Some("app/index.html"));
        assert_eq!(files.error_pages[&404], "no.html");
        assert_eq!(files.headers, [("X-A".to_owned(), "b".to_owned())]);
        assert_eq!(files.media_types[0].0, "md");
        assert_eq!(http.access_log, Some(AccessLog::Path("conf/log".into())));
        let site = &http.sites[0];
        assert_eq!(
            (site.host.as_deref(), site.prefix.as_str()),
            (Some("a.example"), "x/y")
        );
        assert_eq!(site.root, Path::new("conf/b"));
        assert!(site.files.listing && !site.files.precompressed);
        for (line, expected) in [
            (
                "listing = 'yes'",
                "3:11: `listing` is a string; expected true or false",
            ),
            (
                "max_listing_entries = 0",
                "3:23: `max_listing_entries` is 0; expected",
            ),
            (
                "spa = '../x'",
                "3:7: `spa` is \"../x\"; expected a file below the root",
            ),
            (
                "error_pages = { 304 = 'x' }",
                "3:23: an entry of `error_pages` is \"304\"; expected",
            ),
            (
                "error_pages = { 404 = '/etc/../x' }",
                "3:23: an entry of `error_pages` is \"/etc/../x\"",
            ),
            (
                "headers = { content-length = '1' }",
                "3:30: an entry of `headers` is \"content-length\"",
            ),
            (
                "headers = { Transfer-Encoding = 'x' }",
                "3:33: an entry of `headers` is",
            ),
            (
                "headers = { 'a b' = 'x' }",
                "3:21: an entry of `headers` is \"a b\"",
            ),
            (
                "headers = { a = \"x\\r\\ny\" }",
                "3:17: an entry of `headers` is",
            ),
            (
                "media_types = { a = 'b' }",
                "3:21: an entry of `media_types` is \"b\"",
            ),
            (
                "cache_control = [{ match = '*' }]",
                "3:18: an entry of `cache_control` without `value`",
            ),
            (
                "cache_control = [{ match = '*', value = '' }]",
                "3:41: `value` is \"\"",
            ),
            (
                "auth = { realm = 'a\"b', file = 'none' }",
                "3:18: `realm` is",
            ),
            ("auth = { realm = 'x' }", "3:8: `auth` without `file`"),
            (
                "site = [{ host = 'a:1', root = 'x' }]",
                "3:18: `host` is \"a:1\"",
            ),
            (
                "site = [{ prefix = 'x', root = 'x' }]",
                "3:20: `prefix` is \"x\"",
            ),
            (
                "site = [{ host = 'a' }]",
                "3:9: a site without `root`; expected a folder",
            ),
            (
                "site = [{ root = 'a', bind = 'x' }]",
                "3:23: unknown key `bind`",
            ),
            (
                "log_format = 'jsonl'",
                "3:14: `log_format` is \"jsonl\", probably meant as \"json\"",
            ),
        ] {
            let wrong = problems(&format!("[[listener]]\nkind = 'http'\n{line}"));
            assert!(
                wrong.starts_with(&format!("conf/x.toml:{expected}")),
                "{wrong}"
            );
        }
    }

    #[test]
    fn unknown_and_missing_kinds_are_refused() {
        let wrong = problems("[[listener]]\nkind = 'htp'\n[[listener]]\nbind = '127.0.0.1:1'");
        let expected = "conf/x.toml:2:8: `kind` is \"htp\", probably meant as \"http\"; expected";
        assert!(wrong.starts_with(expected), "{wrong}");
        assert!(
            wrong.contains("\nconf/x.toml:3:1: a [[listener]] without `kind`; expected"),
            "{wrong}"
        );
        assert!(problems("listener = []").contains("`listener` is empty"));
        assert!(problems("[listener]\nkind = 'http'").contains("1:1: `listener` is a table"));
    }

    #[test]
    fn duplicate_binds_and_names_are_refused() {
        let http = |bind: &str, name: &str| {
            format!("[[listener]]\nkind = 'http'\nbind = '{bind}'\nname = '{name}'\n")
        };
        let wrong = problems(&format!(
            "{}{}",
            http("127.0.0.1:80", "a"),
            http("127.0.0.1:80", "a")
        ));
        assert_eq!(
            wrong,
            "conf/x.toml:7:8: the address 127.0.0.1:80 is taken by listener \"a\" (line 3); \
             expected another `bind`\n\
             conf/x.toml:8:8: the name \"a\" is taken (line 4); expected another `name`"
        );
        parse(&format!(
            "{}{}",
            http("127.0.0.1:0", "a"),
            http("127.0.0.1:0", "b")
        ))
        .unwrap();
        // Two of one kind at their default address collide as well.
        assert!(problems("[[listener]]\nkind='http'\n[[listener]]\nkind='http'").contains(":3:1:"));
    }

    #[test]
    fn a_secret_handshake_needs_a_secret() {
        let wrong = problems("[[listener]]\nkind = 'upload'\n");
        assert!(
            wrong.starts_with("conf/x.toml:1:1: handshake \"hmac-md5\" has no secret"),
            "{wrong}"
        );
        let wrong = problems("[[listener]]\nkind = 'upload'\nhandshake = 'sha1'");
        assert!(
            wrong.starts_with("conf/x.toml:3:13: handshake \"sha1\" has no secret"),
            "{wrong}"
        );
        let wrong = problems("[[listener]]\nkind = 'upload'\nhandshake = 'md5'");
        assert_eq!(wrong.lines().count(), 1, "{wrong}");
        let wrong = problems("[[listener]]\nkind = 'upload'\nsecret = ''");
        assert_eq!(
            wrong,
            "conf/x.toml:3:10: `secret` is empty; expected a text that is not empty"
        );
        let wrong = problems("[[listener]]\nkind = 'upload'\nsecret_file = 'missing'");
        assert!(
            wrong.starts_with("conf/x.toml:3:15: `secret_file` names conf/missing: "),
            "{wrong}"
        );
    }

    #[test]
    fn a_secret_file_loses_its_last_newline() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("secret"), "tiger \r\n").unwrap();
        let users = "ann|c29ea9a1ab8ef6ca0f3ee3bbbdbda2b5\n";
        fs::write(folder.path().join("users"), users).unwrap();
        let file = folder.path().join("x.toml");
        fs::write(
            &file,
            "[[listener]]\nkind = 'upload'\nsecret_file = 'secret'\nlogin = 'users'",
        )
        .unwrap();
        let config = Config::load(Some(&file), &Overrides::default()).unwrap();
        let Kind::Upload(upload) = &config.listeners[0].kind else {
            panic!()
        };
        assert_eq!(upload.secret.secret().expose(), b"tiger ");
        assert_eq!(upload.login.as_ref().unwrap().len(), 1);
        assert!(!format!("{config:?}").contains("tiger"));
    }

    #[test]
    fn a_wrong_user_file_is_refused_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("users"), "# staff\nann|00\n").unwrap();
        let text = "[[listener]]\nkind = 'upload'\nsecret = 'x'\nlogin = 'users'";
        let file = folder.path().join("x.toml");
        let wrong = Config::parse(text, &file, &Overrides::default())
            .unwrap_err()
            .to_string();
        let users = folder.path().join("users");
        assert!(
            wrong.contains(&format!(
                ":4:9: `login` names {}: line 2: the hash of \"ann\" is not 32",
                users.display()
            )),
            "{wrong}"
        );
    }

    #[test]
    fn two_secrets_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("s"), "tiger").unwrap();
        let text = "[[listener]]\nkind = 'upload'\nsecret = 'x'\nsecret_file = 's'";
        let file = folder.path().join("x.toml");
        let wrong = Config::parse(text, &file, &Overrides::default())
            .unwrap_err()
            .to_string();
        assert!(
            wrong.contains(":4:15: `secret_file` is given beside `secret`"),
            "{wrong}"
        );
    }

    #[test]
    fn listeners_that_share_a_cache_folder_share_its_limit() {
        let proxy = |port: u16, more: &str| {
            format!("[[listener]]\nkind='proxy'\nbind='127.0.0.1:{port}'\ncache_dir='c'\n{more}\n")
        };
        let config = parse(&format!(
            "{}{}",
            proxy(1, ""),
            proxy(2, "cache_max_bytes = '1MB'")
        ))
        .unwrap();
        for listener in config.listeners {
            let Kind::Proxy(proxy) = listener.kind else {
                panic!()
            };
            let dir = PathBuf::from("conf/c");
            assert_eq!(
                proxy.cache,
                Cache::On {
                    dir,
                    bytes_max: 1_000_000
                }
            );
        }
        let wrong = problems(&format!(
            "{}{}",
            proxy(1, "cache_max_bytes = 1"),
            proxy(2, "cache_max_bytes = 2")
        ));
        assert!(
            wrong.starts_with("conf/x.toml:10:19: `cache_max_bytes` is 2 for a folder"),
            "{wrong}"
        );
    }

    #[test]
    fn text_that_is_not_toml_is_refused() {
        let wrong = problems("a = 1\na = 2\nb = \n[x\n");
        assert!(
            wrong.contains("conf/x.toml:2:1: duplicate key; expected TOML"),
            "{wrong}"
        );
        assert!(wrong.lines().count() >= 2, "{wrong}");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.toml");
        fs::write(&file, b"a = 1\nb = '\xff'\n").unwrap();
        let wrong = Config::load(Some(&file), &Overrides::default()).unwrap_err();
        assert_eq!(wrong.0[0].place, Some(Place { line: 2, column: 6 }));
        let wrong = Config::load(Some(folder.path()), &Overrides::default()).unwrap_err();
        assert_eq!(wrong.0[0].place, None);
    }

    #[test]
    fn the_example_shows_every_key_with_its_default() {
        let file = Path::new("");
        let from_example = Config::parse(example(), file, &Overrides::default())
            .unwrap_or_else(|problems| panic!("{problems}"));
        let mut default = Config::without_a_file(&Overrides::default()).unwrap();
        for listener in &mut default.listeners {
            if let Kind::Upload(upload) = &mut listener.kind {
                upload.secret = SecretSource::Given(Secret::from("change me"));
            }
        }
        assert_eq!(from_example, default);

        // Each part of the example has each key of its table, some of them behind a `# `.
        let parts: Vec<Vec<&str>> = example()
            .split("\n[")
            .map(|part| {
                let key = |line: &'static str| {
                    let (key, _) = line.trim_start_matches("# ").split_once(" =")?;
                    key.bytes()
                        .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
                        .then_some(key)
                };
                part.lines().filter_map(key).collect()
            })
            .collect();
        let folders = Folders::of(file);
        let empty = DeTable::new();
        let mut known = vec![vec!["drain_timeout"]];
        let mut section = Section::new(&empty, 0..0, &folders);
        ResolverConfig::default().read(&mut section);
        known.push(std::mem::take(&mut section.known));
        Limits::default().read(&mut section);
        known.push(section.known);
        known.extend(KINDS.iter().map(|row| {
            let mut keys = vec!["kind", "bind", "name"];
            keys.extend(listener_keys(row));
            keys
        }));
        assert_eq!(parts.len(), known.len());
        for (mut part, mut known) in parts.into_iter().zip(known) {
            part.sort_unstable();
            known.sort_unstable();
            assert_eq!(part, known);
        }
    }
}
