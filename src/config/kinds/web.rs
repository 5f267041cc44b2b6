//! Kind `http`: a web server. How a folder is served stands in [`FilesConfig`], which its sites
//! have too. The other kinds that speak HTTP have the same keys, but for those of the files.

use std::num::{NonZeroU32, NonZeroU64};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::{HEAD_BYTES_MAX, Kind, Row, StreamConfig, Transport};
use crate::buffer::LARGE_PAGE_BYTES;
use crate::config::files::{AuthConfig, FilesConfig, SiteConfig};
use crate::config::redirect;
use crate::config::section::{Section, path, string};
use crate::http::forwarded::Fields;
use crate::http::redirect::{Here, Redirect};

/// The bounds of `max_head_bytes`: a head that fills a page is moved to a large one.
const HEAD_BYTES: RangeInclusive<usize> = 256..=LARGE_PAGE_BYTES;

/// Built-in routes of a web server beside its files. Key `routes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Routes {
    /// `"none"`, the default: files only.
    #[default]
    None,
    /// `"probe"`: the routes for load and conformance tools; they win over files.
    Probe,
}

/// Where a line for each request goes. Key `access_log`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLog {
    /// `"-"`: standard error.
    StandardError,
    /// A path: appended to that file, which is opened anew on SIGHUP and SIGUSR1.
    Path(PathBuf),
}

/// How a line of the access log looks. Key `log_format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// `"combined"`, the default: Combined Log Format.
    #[default]
    Combined,
    /// `"json"`: an object on a line.
    Json,
}

/// The keys of kind `http`, and what the other kinds that speak HTTP can be told as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// The folder that is served; `None` serves the small embedded site. Key `root`, default none.
    pub root: Option<PathBuf>,
    /// How it is served.
    pub files: FilesConfig,
    /// What is served for some hosts or paths instead. Key `route`, a list of tables
    /// `[[listener.route]]`, or `site`, its former name; default none.
    pub sites: Vec<SiteConfig>,
    /// What has moved; it goes before all sites. Key `redirect`, a list of tables
    /// `[[listener.redirect]]`, default none.
    pub redirects: Vec<Redirect>,
    /// Who is answered at all, whatever the method and the route; `None` for everybody. Key `auth`,
    /// default none.
    pub auth: Option<AuthConfig>,
    /// Where a line for each request goes. Key `access_log`, default nowhere.
    pub access_log: Option<AccessLog>,
    /// Key `log_format`, default combined.
    pub log_format: LogFormat,
    /// In which fields proxies before this server tell of their clients, if they are among
    /// `trusted_proxies`, and a gateway tells its origin. Key `forwarded`: `"off"`, `"forwarded"`
    /// (RFC 7239) or `"x-forwarded"`; the default is the last, but for the origins of a forward
    /// proxy, which are told nothing.
    pub forwarded: Option<Fields>,
    /// Key `routes`, default none.
    pub routes: Routes,
    /// Silence between two requests after which a connection is closed.
    /// Key `idle_timeout`, default 60 s.
    pub idle_timeout: Duration,
    /// For how long after its last answer an idle connection stays while the process drains: a request
    /// that is on its way meanwhile is answered. Zero: none stays. Key `drain_idle_grace`, default 1 s.
    pub drain_idle_grace: Duration,
    /// Time for a whole request head, from its first byte on; slow senders cannot refresh it.
    /// Key `head_timeout`, default 10 s.
    pub head_timeout: Duration,
    /// Silence within a request body after which it is given up. Key `body_timeout`, default 30 s.
    pub body_timeout: Duration,
    /// How long an answer may take to be made: a listing, or the check of a password. Key
    /// `answer_timeout`, default 30 s.
    pub answer_timeout: Duration,
    /// Bytes a second that a request body must bring: each byte buys its share of a second, and
    /// `body_timeout` is the most that can be in hand, so that a drip does not last for ever.
    /// `None` for no minimum. Key `min_body_rate` (0 for none), default 240.
    pub body_rate_min: Option<NonZeroU32>,
    /// Bytes of a request head. Key `max_head_bytes`, default [`HEAD_BYTES_MAX`].
    pub head_bytes_max: usize,
    /// Bytes of a request target. Key `max_target_bytes`, default 8,000.
    pub target_bytes_max: usize,
    /// Bytes of a request body. Key `max_body_bytes`, default 1 MiB.
    pub body_bytes_max: u64,
    /// Requests after which a connection is closed; `None` for no limit.
    /// Key `max_requests_per_connection`, default none.
    pub requests_per_connection_max: Option<NonZeroU64>,
    /// Files that are kept open for the next request, for each root. Key `max_open_files`, default
    /// 1,024.
    pub open_files_max: usize,
    /// Bytes of answers that are kept in memory, for each root. Key `max_memory_bytes`, default 64
    /// MiB.
    pub memory_bytes_max: usize,
    /// What every kind over streams has; connections beyond `max_connections` are answered 503,
    /// those beyond `max_connections_per_address` 429.
    pub stream: StreamConfig,
}

impl Default for HttpConfig {
    fn default() -> HttpConfig {
        HttpConfig {
            root: None,
            files: FilesConfig::default(),
            sites: Vec::new(),
            redirects: Vec::new(),
            auth: None,
            access_log: None,
            log_format: LogFormat::default(),
            forwarded: None,
            routes: Routes::default(),
            idle_timeout: Duration::from_secs(60),
            drain_idle_grace: Duration::from_secs(1),
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            answer_timeout: Duration::from_secs(30),
            body_rate_min: NonZeroU32::new(240),
            head_bytes_max: HEAD_BYTES_MAX,
            target_bytes_max: 8000,
            body_bytes_max: 1024 * 1024,
            requests_per_connection_max: None,
            open_files_max: 1024,
            memory_bytes_max: 64 * 1024 * 1024,
            stream: StreamConfig::default(),
        }
    }
}

impl HttpConfig {
    /// The line of this kind in the table.
    pub(super) const ROW: Row = Row {
        name: "http",
        transport: Transport::Stream,
        port: 6789,
        attempt: "curl http://{address}/HelloWorld.html",
        read: |section| Kind::Http(HttpConfig::read(section)),
    };

    /// Reads the keys of this kind.
    pub(super) fn read(section: &mut Section<'_>) -> HttpConfig {
        let mut config = HttpConfig {
            root: section.path("root"),
            files: FilesConfig::read(section),
            ..HttpConfig::default()
        };
        config.read_common(section);
        config.redirects = read_redirects(section, &config.sites);
        config
    }

    /// Reads the keys of every kind that speaks HTTP.
    pub(super) fn read_common(&mut self, section: &mut Section<'_>) {
        let config = self;
        config.auth = AuthConfig::read(section);
        config.sites = section.tables("route", SiteConfig::read);
        config
            .sites
            .extend(section.tables("site", SiteConfig::read));
        let base = section.folders.base.as_path();
        let expected = r#"a path, or "-" for standard error"#;
        config.access_log = section.parsed("access_log", expected, |value| match string(value)? {
            "-" => Ok(AccessLog::StandardError),
            text => path(base, text).map(AccessLog::Path),
        });
        let formats = [("combined", LogFormat::Combined), ("json", LogFormat::Json)];
        section.choice("log_format", &formats, &mut config.log_format);
        let mut fields = Fields::default();
        let all = [
            ("off", Fields::Off),
            ("forwarded", Fields::Forwarded),
            ("x-forwarded", Fields::XForwarded),
        ];
        section.choice("forwarded", &all, &mut fields);
        config.forwarded = section.has("forwarded").then_some(fields);
        let routes = [("none", Routes::None), ("probe", Routes::Probe)];
        section.choice("routes", &routes, &mut config.routes);
        section.timeout("idle_timeout", &mut config.idle_timeout);
        section.duration("drain_idle_grace", &mut config.drain_idle_grace);
        section.timeout("head_timeout", &mut config.head_timeout);
        section.timeout("body_timeout", &mut config.body_timeout);
        section.timeout("answer_timeout", &mut config.answer_timeout);
        section.rate("min_body_rate", &mut config.body_rate_min);
        let head = &mut config.head_bytes_max;
        section.memory_size("max_head_bytes", HEAD_BYTES, head);
        let target = &mut config.target_bytes_max;
        section.memory_size("max_target_bytes", 1..=LARGE_PAGE_BYTES, target);
        section.size(
            "max_body_bytes",
            0..=i64::MAX as u64,
            &mut config.body_bytes_max,
        );
        let requests = &mut config.requests_per_connection_max;
        section.limit("max_requests_per_connection", requests);
        section.count("max_open_files", 0..=1_000_000, &mut config.open_files_max);
        section.memory_size(
            "max_memory_bytes",
            0..=1 << 40,
            &mut config.memory_bytes_max,
        );
        config.stream.read(section);
    }
}

/// Reads the redirects, knowing what leads back to this listener.
fn read_redirects(section: &mut Section<'_>, sites: &[SiteConfig]) -> Vec<Redirect> {
    let ports: Vec<u16> = match section.texts("bind") {
        Some(binds) => binds.filter_map(port).collect(),
        None => vec![HttpConfig::ROW.port],
    };
    let hosts: Vec<String> = sites.iter().filter_map(|site| site.host.clone()).collect();
    let here = Here {
        scheme: if section.has("tls") { "https" } else { "http" },
        ports: &ports,
        hosts: &hosts,
    };
    redirect::read(section, &here)
}

/// The port of a `bind`; none for a Unix socket's.
fn port(bind: &str) -> Option<u16> {
    let (_, port) = bind.rsplit_once(':')?;
    port.parse().ok()
}
