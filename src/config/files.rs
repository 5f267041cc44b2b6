//! How a web server serves a folder: the keys that a listener of kind `http` shares with each of
//! its sites.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::DeValue;

use super::compress::CompressConfig;
use super::cors;
use super::kinds::{AdminConfig, ProxyConfig};
use super::section::{Section, is_a, path, string};
use crate::http::basic::Users;
use crate::http::cors::Cors;
use crate::http::glob::Glob;
use crate::http::is_token;
use crate::http::target::Authority;

/// How the files of one root are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesConfig {
    /// Names of the files that stand for their folder, the first that exists wins.
    /// Key `index` (one name or a list), default `["index.html"]`.
    pub index: Vec<String>,
    /// A folder without an index is listed. Key `listing`, default false.
    pub listing: bool,
    /// Entries of a folder that a listing shows. Key `max_listing_entries`, default 10,000.
    pub listing_entries_max: usize,
    /// Listings that are made at once; who asks for another is answered 503. Key `max_listings`,
    /// default 16.
    pub listings_max: usize,
    /// Of those, how many for one IPv4 address or one IPv6 /64, loopback exempt. Key
    /// `max_listings_per_address` (0 for no limit), default 4: none takes the places of all others.
    pub listings_per_address_max: Option<NonZeroU32>,
    /// Bytes of a `README` that are shown under a listing; 0 for none. Key `max_readme_bytes`,
    /// default 64 KiB.
    pub readme_bytes_max: usize,
    /// A folder that is listed can be fetched with all below it, as one file. Key `archive`,
    /// default true; without `listing` it says nothing.
    pub archive: bool,
    /// What such a file may hold.
    pub archive_limits: ArchiveLimits,
    /// `FILE.br`, `FILE.zst` and `FILE.gz` are sent in place of `FILE` to clients that take them,
    /// if they are no older. Key `precompressed`, default false: a file of such a name need not be
    /// a copy of its neighbour.
    pub precompressed: bool,
    /// What is compressed on the way.
    pub compress: CompressConfig,
    /// The folder of `error_pages`; `None`: they are below the root. Key `error_root`, default
    /// none.
    pub error_root: Option<PathBuf>,
    /// Files below the root that are the bodies of errors, by status; what cannot be told to be for
    /// a site gets those of the listener. Key `error_pages`, default none.
    pub error_pages: BTreeMap<u16, String>,
    /// Values of `Cache-Control`; the first pattern that matches wins. Key `cache_control`, default
    /// none.
    pub cache_control: Vec<CacheControl>,
    /// Headers that are added to every answer about a file. Key `headers`, default none.
    pub headers: Vec<(String, String)>,
    /// The file below the root that answers where there is none, for pages that read the path
    /// themselves. Key `spa`, default none.
    pub spa: Option<String>,
    /// Values of `Content-Type` by extension, before the built-in ones. Key `media_types`, default
    /// none.
    pub media_types: Vec<(String, String)>,
    /// Which pages of other sites may read the answers. Key `cors`, default none.
    pub cors: Option<Cors>,
}

/// The limits of the archives of one root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiveLimits {
    /// Files and folders in one. Key `max_archive_entries`, default 100,000.
    pub entries_max: usize,
    /// Folders within folders. Key `max_archive_depth`, default 64.
    pub depth_max: usize,
    /// Archives that are sent at once; a request for another is answered 503. Key `max_archives`,
    /// default 64.
    pub archives_max: usize,
}

impl Default for ArchiveLimits {
    fn default() -> ArchiveLimits {
        ArchiveLimits {
            entries_max: 100_000,
            depth_max: 64,
            archives_max: 64,
        }
    }
}

impl Default for FilesConfig {
    fn default() -> FilesConfig {
        FilesConfig {
            index: vec!["index.html".to_owned()],
            listing: false,
            listing_entries_max: 10_000,
            listings_max: 16,
            listings_per_address_max: NonZeroU32::new(4),
            readme_bytes_max: 64 * 1024,
            archive: true,
            archive_limits: ArchiveLimits::default(),
            precompressed: false,
            compress: CompressConfig::default(),
            error_root: None,
            error_pages: BTreeMap::new(),
            cache_control: Vec::new(),
            headers: Vec::new(),
            spa: None,
            media_types: Vec::new(),
            cors: None,
        }
    }
}

/// A `Cache-Control` for some files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheControl {
    /// Which; paths are relative to the root. Key `match`.
    pub pattern: Glob,
    /// The header's value. Key `value`.
    pub value: String,
}

/// Basic authentication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthConfig {
    /// What the browser says that the password is for. Key `realm`.
    pub realm: String,
    /// From the file that key `file` names, read with the configuration.
    pub users: Users,
    /// Wrong passwords from one IPv4 address or one IPv6 /64 within a minute, after which no other is
    /// checked for it until the minute is over; `None` for no limit. Key `max_failures` (0 for none),
    /// default 10.
    pub failures_max: Option<NonZeroU32>,
}

/// What is served for some hosts or paths: an entry of key `route`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteConfig {
    /// The host that it is for, in lower case; `None` for all. Key `host`, default none.
    pub host: Option<String>,
    /// The path that it is for, without slashes around it; empty for all. Key `prefix`, default
    /// `"/"`.
    pub prefix: String,
    /// Who is answered at all; `None` for everybody. Key `auth`, default none.
    pub auth: Option<AuthConfig>,
    /// What it is.
    pub content: SiteContent,
}

/// What a route leads to: one of the keys `root`, `upstream`, `admin`, `routes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SiteContent {
    /// A folder, and how it is served. Key `root`.
    Files {
        /// The folder.
        root: PathBuf,
        /// How it is served.
        files: Box<FilesConfig>,
    },
    /// Another server. Key `upstream`.
    Upstream(Box<ProxyConfig>),
    /// The admin pages. Key `admin = true`.
    Admin(Box<AdminConfig>),
    /// The routes for load and conformance tools. Key `routes = "probe"`.
    Probe,
}

/// The headers that the server itself writes, or that would change where a message ends.
const OWN_HEADERS: [&str; 22] = [
    "Accept-Ranges",
    "Cache-Control",
    "Connection",
    "Content-Encoding",
    "Content-Length",
    "Content-Range",
    "Content-Type",
    "Date",
    "ETag",
    "Host",
    "Keep-Alive",
    "Last-Modified",
    "Location",
    "Proxy-Connection",
    "Server",
    "TE",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
    "Via",
    "WWW-Authenticate",
    "X-Content-Type-Options",
];

/// The errors that a web server or a proxy answers with, each of which can have a page.
const PAGED: [u16; 22] = [
    400, 401, 403, 404, 405, 407, 408, 412, 413, 414, 416, 417, 421, 429, 431, 500, 501, 502, 503,
    504, 505, 508,
];

impl FilesConfig {
    /// Reads the keys.
    pub(super) fn read(section: &mut Section<'_>) -> FilesConfig {
        let mut config = FilesConfig::default();
        let expected = "the name of a file, without a slash";
        let index = section.list_or_one("index", expected, |value| match string(value)? {
            "" => Err("is empty".to_owned()),
            name if name.contains(['/', '\\', '\0']) => Err(format!("is {name:?}")),
            name => Ok(name.to_owned()),
        });
        if let Some(names) = index {
            config.index = names;
        }
        section.flag("listing", &mut config.listing);
        let entries = &mut config.listing_entries_max;
        section.count("max_listing_entries", 1..=100_000, entries);
        section.count("max_listings", 1..=1000, &mut config.listings_max);
        let per_address = &mut config.listings_per_address_max;
        section.rate("max_listings_per_address", per_address);
        let readme = &mut config.readme_bytes_max;
        section.memory_size("max_readme_bytes", 0..=1024 * 1024, readme);
        section.flag("archive", &mut config.archive);
        let limits = &mut config.archive_limits;
        let entries = &mut limits.entries_max;
        section.count("max_archive_entries", 1..=10_000_000, entries);
        section.count("max_archive_depth", 0..=1000, &mut limits.depth_max);
        section.count("max_archives", 1..=10_000, &mut limits.archives_max);
        section.flag("precompressed", &mut config.precompressed);
        config.compress = CompressConfig::read(section);
        config.read_errors(section);
        config.cache_control = section.tables("cache_control", read_cache_control);
        let expected = r#"a table such as { X-Frame-Options = "DENY" }, of headers that the server does not write itself, and printable values"#;
        config.headers = section.pairs("headers", expected, |name, value| {
            let is_own = OWN_HEADERS.iter().any(|own| own.eq_ignore_ascii_case(name));
            if is_own || !is_token(name.as_bytes()) {
                return Err(format!("is {name:?}"));
            }
            Ok((name.to_owned(), header_value(value)?))
        });
        let expected = "a file below the root";
        config.spa = section.parsed("spa", expected, below_root);
        let expected = r#"a table such as { md = "text/markdown; charset=utf-8" }"#;
        config.media_types = section.pairs("media_types", expected, |extension, value| {
            let extension = extension.strip_prefix('.').unwrap_or(extension);
            if extension.is_empty() || extension.contains(['.', '/']) {
                return Err(format!("is {extension:?}"));
            }
            match header_value(value)? {
                kind if kind.contains('/') => Ok((extension.to_owned(), kind)),
                kind => Err(format!("is {kind:?}")),
            }
        });
        config.cors = cors::read(section);
        config
    }
}

impl FilesConfig {
    /// Reads the pages of errors, which every kind that speaks HTTP can have.
    pub(super) fn read_errors(&mut self, section: &mut Section<'_>) {
        self.error_root = section.path("error_root");
        let codes = PAGED.map(|code| code.to_string()).join(", ");
        let expected = format!(
            r#"a table such as {{ "404" = "404.html" }}, of any of {codes}, and a file below the root"#
        );
        let pages = section.pairs("error_pages", &expected, |key, value| {
            let status = key.parse().ok().filter(|status| PAGED.contains(status));
            let status = status.ok_or_else(|| format!("is {key:?}"))?;
            Ok((status, below_root(value)?))
        });
        self.error_pages.extend(pages);
        if self.error_root.is_none() && !self.error_pages.is_empty() && !section.has("root") {
            let what =
                "`error_pages` without a folder; expected `error_root`, or `root`, beside it";
            section.problem(section.span("error_pages"), what.to_owned());
        }
    }
}

impl SiteConfig {
    /// Reads one entry of `site`.
    pub(super) fn read(section: &mut Section<'_>) -> Option<SiteConfig> {
        let expected = "the name of a host, without a port";
        let host = section.parsed("host", expected, host_name);
        let expected = r#"a path such as "/docs/""#;
        let prefix = section.parsed("prefix", expected, |value| {
            let text = string(value)?;
            let safe = crate::http::path::SafePath::parse(text).ok();
            let safe = safe.filter(|safe| safe.folder && !text.contains('%'));
            let prefix = safe.map(|safe| String::from_utf8(safe.relative.into_owned()));
            match prefix {
                Some(Ok(prefix)) => Ok(prefix),
                _ => Err(format!("is {text:?}")),
            }
        });
        let auth = AuthConfig::read(section);
        let content = SiteContent::read(section);
        Some(SiteConfig {
            host,
            prefix: prefix.unwrap_or_default(),
            auth,
            content: content?,
        })
    }
}

impl SiteContent {
    /// How files are served: those of the route, or of its errors.
    pub fn files(&self) -> Option<&FilesConfig> {
        match self {
            SiteContent::Files { files, .. } => Some(files),
            SiteContent::Upstream(proxy) => Some(&proxy.http.files),
            SiteContent::Admin(admin) => Some(&admin.http.files),
            SiteContent::Probe => None,
        }
    }

    /// Reads what a route leads to.
    fn read(section: &mut Section<'_>) -> Option<SiteContent> {
        let leads = ["root", "upstream", "admin", "routes"];
        let given = leads
            .into_iter()
            .filter(|key| section.has(key))
            .collect::<Vec<_>>();
        let content = match given[..] {
            ["upstream"] => {
                let proxy = ProxyConfig::read_route(section);
                proxy
                    .upstream
                    .is_some()
                    .then(|| SiteContent::Upstream(Box::new(proxy)))
            }
            ["admin"] => {
                let mut is_admin = false;
                section.flag("admin", &mut is_admin);
                let admin = AdminConfig::read_route(section);
                is_admin.then(|| SiteContent::Admin(Box::new(admin)))
            }
            ["routes"] => {
                let mut is_probe = false;
                section.choice("routes", &[("probe", true)], &mut is_probe);
                is_probe.then_some(SiteContent::Probe)
            }
            _ => {
                let root = section.path("root");
                let files = Box::new(FilesConfig::read(section));
                root.map(|root| SiteContent::Files { root, files })
            }
        };
        if given.len() != 1 && section.findings.is_empty() {
            let span = section.span(given.get(1).copied().unwrap_or("root"));
            let what = match given.len() {
                0 => "a route that leads nowhere",
                _ => "a route that leads to two things",
            };
            let expected = "one of `root`, `upstream`, `admin = true`, `routes = \"probe\"`";
            section.problem(span, format!("{what}; expected {expected}"));
        }
        content
    }
}

fn read_cache_control(section: &mut Section<'_>) -> Option<CacheControl> {
    let pattern = section.parsed(
        "match",
        "a pattern such as \"*.css\"",
        |value| match string(value)? {
            "" => Err("is empty".to_owned()),
            pattern => Ok(Glob::new(pattern)),
        },
    );
    let value = section.parsed("value", "a value such as \"max-age=3600\"", header_value);
    for key in ["match", "value"] {
        if !section.has(key) {
            let span = section.span(key);
            section.problem(span, format!("an entry of `cache_control` without `{key}`; expected {{ match = \"*.css\", value = \"max-age=3600\" }}"));
        }
    }
    Some(CacheControl {
        pattern: pattern?,
        value: value?,
    })
}

impl AuthConfig {
    /// Wrong passwords of one client within a minute, unless told otherwise.
    pub const FAILURES_MAX: Option<NonZeroU32> = NonZeroU32::new(10);

    /// Reads `auth`.
    pub(super) fn read(section: &mut Section<'_>) -> Option<AuthConfig> {
        if !section.has("auth") {
            section.known.push("auth");
            return None;
        }
        let (mut realm, mut users) = ("files".to_owned(), None);
        let mut failures_max = AuthConfig::FAILURES_MAX;
        section.table("auth", |section| {
            let expected = "a text of printable ASCII without quotes";
            let given = section.parsed("realm", expected, |value| match header_value(value)? {
                realm if realm.contains(['"', '\\']) => Err(format!("is {realm:?}")),
                realm => Ok(realm),
            });
            if let Some(given) = given {
                realm = given;
            }
            section.rate("max_failures", &mut failures_max);
            let (base, around) = (section.folders.base.as_path(), section.folders.around);
            users = section.parsed("file", "a file of lines `user:hash`", |value| {
                let path = path(base, string(value)?)?;
                let named = |why: String| format!("names {}: {why}", path.display());
                let bytes = around
                    .file(&path)
                    .map_err(|error| named(error.to_string()))?;
                let text = String::from_utf8(bytes).map_err(|error| named(error.to_string()))?;
                Users::parse(&text).map_err(|error| named(error.to_string()))
            });
            section.names_file("file");
            if !section.has("file") {
                let span = section.span("file");
                section.problem(
                    span,
                    "`auth` without `file`; expected a file of users".to_owned(),
                );
            }
        });
        Some(AuthConfig {
            realm,
            users: users?,
            failures_max,
        })
    }
}

/// The name of a host in lower case, or an IP address, in brackets if it has colons.
pub(super) fn host_name(value: &DeValue<'_>) -> Result<String, String> {
    let host = string(value)?.to_ascii_lowercase();
    match Authority::parse(&host) {
        Some(authority) if authority.port.is_none() && !host.ends_with(':') => Ok(host),
        _ => Err(format!("is {host:?}")),
    }
}

/// A path that stays below the root, without a slash in front.
fn below_root(value: &DeValue<'_>) -> Result<String, String> {
    let text = string(value)?;
    let wrong = |segment: &str| matches!(segment, "" | "." | "..");
    match text.strip_prefix('/').unwrap_or(text) {
        name if name.split('/').any(wrong) || name.contains('\0') => Err(format!("is {text:?}")),
        name => Ok(name.to_owned()),
    }
}

/// A value that can be sent as it is.
fn header_value(value: &DeValue<'_>) -> Result<String, String> {
    let text = string(value)?.trim();
    match text.bytes().all(|byte| matches!(byte, b' '..=b'~')) && !text.is_empty() {
        true => Ok(text.to_owned()),
        false => Err(format!("is {text:?}")),
    }
}

impl<'t> Section<'t> {
    /// Yes or no.
    pub(super) fn flag(&mut self, key: &'static str, field: &mut bool) {
        if let Some(flag) = self.parsed(key, "true or false", |value| match value {
            DeValue::Boolean(flag) => Ok(*flag),
            other => Err(is_a(other)),
        }) {
            *field = flag;
        }
    }

    /// A table whose keys are free, in the order of their names; `expected` says what the whole is.
    fn pairs<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        parse: impl Fn(&str, &DeValue<'t>) -> Result<T, String>,
    ) -> Vec<T> {
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        let DeValue::Table(table) = value.get_ref() else {
            let wrong = is_a(value.get_ref());
            self.problem(
                value.span(),
                format!("`{key}` {wrong}; expected {expected}"),
            );
            return Vec::new();
        };
        let mut pairs = Vec::new();
        for (name, value) in table.iter() {
            match parse(name.get_ref(), value.get_ref()) {
                Ok(pair) => pairs.push(pair),
                Err(wrong) => {
                    let what = format!("an entry of `{key}` {wrong}; expected {expected}");
                    self.problem(value.span(), what);
                }
            }
        }
        pairs
    }

    /// A list of tables, each as `read` understands it.
    pub(super) fn tables<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&mut Section<'_>) -> Option<T>,
    ) -> Vec<T> {
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        let expected = format!("expected a list of tables [[listener.{key}]]");
        let DeValue::Array(tables) = value.get_ref() else {
            let wrong = is_a(value.get_ref());
            self.problem(value.span(), format!("`{key}` {wrong}; {expected}"));
            return Vec::new();
        };
        let mut entries = Vec::new();
        for table in tables.iter() {
            let DeValue::Table(keys) = Spanned::get_ref(table) else {
                let wrong = is_a(table.get_ref());
                self.problem(
                    table.span(),
                    format!("an entry of `{key}` {wrong}; {expected}"),
                );
                continue;
            };
            let mut section = Section::new(keys, table.span(), self.folders);
            entries.extend(read(&mut section));
            section.refuse_unknown(&format!("in an entry of `{key}`"), |_| None);
            self.absorb(section);
        }
        entries
    }

    /// The same, where a single entry may also be written as a table of its own.
    pub(super) fn table_or_tables<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&mut Section<'_>) -> Option<T>,
    ) -> Vec<T> {
        if !self.has_table(key) {
            return self.tables(key, read);
        }
        let mut one = None;
        self.table(key, |section| one = read(section));
        one.into_iter().collect()
    }
}
