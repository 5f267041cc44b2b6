//! Kind `upload`: receives files.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Kind, Row, StreamConfig, Transport};
use crate::config::section::{Section, path, string};
use crate::hooks::Hook;
use crate::surroundings::Surroundings;
use crate::wire::challenge::{Handshake, Secret};
use crate::wire::user_file::UserInfo;

/// Where the secret of an upload listener comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// From `secret` or `secret_file`; empty where neither was given.
    Given(Secret),
    /// Made at random for this run because there is no configuration; the start prints how to use
    /// it. It is printable ASCII.
    Random(Secret),
}

impl SecretSource {
    /// The secret, wherever it came from.
    pub fn secret(&self) -> &Secret {
        match self {
            SecretSource::Given(secret) | SecretSource::Random(secret) => secret,
        }
    }
}

/// What happens to a file whose name is taken. Key `overwrite`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overwrite {
    /// `"refuse"`: the later one is refused.
    Refuse,
    /// `"replace"`: the later one takes the name.
    Replace,
    /// `"version"`, the default: the later ones become `STEM.1.EXT`, `STEM.2.EXT` and so on.
    #[default]
    Version,
}

/// The keys of kind `upload`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadConfig {
    /// The folder for the files. Key `dir`, default `uploads`.
    pub dir: PathBuf,
    /// How a client proves that it knows the secret. Key `handshake`, default HMAC-MD5.
    pub handshake: Handshake,
    /// What both sides know; empty only where the handshake needs none. Keys `secret` and
    /// `secret_file`.
    pub secret: SecretSource,
    /// The users of the login after the handshake; `None` for no login. Key `login`, which names
    /// the file that was read with the configuration; default none.
    pub login: Option<UserInfo>,
    /// That file, to be read again when it changes; `None` for users that stay as they are.
    pub login_file: Option<PathBuf>,
    /// Failed logins from one IPv4 address or one IPv6 /64 within a minute, after which no other is
    /// checked for it until the minute is over; `None` for no limit. Key `max_failures` (0 for none),
    /// default 10.
    pub failures_max: Option<NonZeroU32>,
    /// The files of a user go to a folder of their own below `dir`. Key `user_folders`, default
    /// false; it takes a login.
    pub user_folders: bool,
    /// A file whose client says so goes to folders of that client's naming, below its folder; else it
    /// is refused. Key `keep_paths`, default true.
    pub keep_paths: bool,
    /// A command that is run for each file once it has its name. Key `on_stored`, a program and its
    /// arguments, default none.
    pub on_stored: Option<Hook>,
    /// Key `overwrite`, default versions.
    pub overwrite: Overwrite,
    /// Bytes of one file. Key `max_file_bytes`, default 4 GiB.
    pub file_bytes_max: u64,
    /// Bytes of the JSON header of one file. Key `max_header_bytes`,
    /// default 64 KiB.
    pub header_bytes_max: usize,
    /// Small files of one connection that are stored together, before the others get their turn:
    /// as many as came at once, up to this. Key `files_per_turn`, default 16.
    pub files_per_turn_max: usize,
    /// Files of one connection whose clients asked for an answer and that have none yet; the next one
    /// is taken once there are fewer. Key `max_unanswered_files`, default 32.
    pub unanswered_files_max: usize,
    /// Bytes of all files in the folder together, those under way and half-received ones included.
    /// Key `max_total_bytes` (0 for none), default none.
    pub total_bytes_max: Option<u64>,
    /// Bytes of the files of one user together, those under way included; it takes `user_folders`. Key
    /// `max_user_bytes` (0 for none), default none.
    pub user_bytes_max: Option<u64>,
    /// Bytes that stay free on the disk: a file for which there would be fewer is refused. Key
    /// `reserved_free_bytes`, default 64 MiB.
    pub reserved_free_bytes: u64,
    /// How long a half-received file is kept after its last byte, so that its client can go on with
    /// it. Key `partial_ttl`, default 24 h; at zero none is kept.
    pub partial_ttl: Duration,
    /// Half-received files that are kept; beyond that the oldest goes. Key `max_partial_files`,
    /// default 1,000.
    pub partial_files_max: usize,
    /// Time for the handshake and the login together, and for the whole header of a file from its
    /// first byte on. Key `handshake_timeout`, default 10 s.
    pub handshake_timeout: Duration,
    /// Silence of a client between and within files. Key `idle_timeout`, default 60 s.
    pub idle_timeout: Duration,
    /// Time that the disk may take to make a file, to write a piece of one or to give one its name;
    /// where it takes longer, the connection is dropped. Key `store_timeout`, default 30 s.
    pub store_timeout: Duration,
    /// Bytes a second that a file must bring: each byte buys its share of a second, and
    /// `idle_timeout` is the most that can be in hand. `None` for no minimum. Key `min_body_rate`
    /// (0 for none), default 240.
    pub body_rate_min: Option<NonZeroU32>,
    /// What every kind over streams has.
    pub stream: StreamConfig,
}

impl UploadConfig {
    /// The line of this kind in the table.
    pub(super) const ROW: Row = Row {
        name: "upload",
        transport: Transport::Stream,
        port: 9001,
        attempt: "netlab-reactor upload --secret-file SECRET {at} FILE",
        read: |section| Kind::Upload(UploadConfig::read(section)),
    };

    /// The defaults, with the given handshake and its secret.
    pub fn new(handshake: Handshake, secret: SecretSource) -> UploadConfig {
        UploadConfig {
            dir: PathBuf::from("uploads"),
            handshake,
            secret,
            login: None,
            login_file: None,
            failures_max: NonZeroU32::new(10),
            user_folders: false,
            keep_paths: true,
            on_stored: None,
            overwrite: Overwrite::default(),
            file_bytes_max: 4 * 1024 * 1024 * 1024,
            header_bytes_max: 64 * 1024,
            files_per_turn_max: 16,
            unanswered_files_max: 32,
            total_bytes_max: None,
            user_bytes_max: None,
            reserved_free_bytes: 64 * 1024 * 1024,
            partial_ttl: Duration::from_secs(24 * 3600),
            partial_files_max: 1000,
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            store_timeout: Duration::from_secs(30),
            body_rate_min: NonZeroU32::new(240),
            stream: StreamConfig::default(),
        }
    }

    /// Reads the keys of this kind.
    pub(super) fn read(section: &mut Section<'_>) -> UploadConfig {
        let (handshake, secret) = read_handshake(section);
        let mut config = UploadConfig::new(handshake, secret);
        let dir = section.path("dir");
        config.dir = dir.unwrap_or_else(|| section.folders.base.join(&config.dir));
        let (base, around) = (section.folders.base.as_path(), section.folders.around);
        let login = section.parsed("login", "a file of lines `user|hash`", |value| {
            let path = path(base, string(value)?)?;
            let users = UserInfo::from_bytes(&read_file(&path, around)?)
                .map_err(|why| format!("names {}: {why}", path.display()))?;
            Ok((users, path))
        });
        (config.login, config.login_file) = login.unzip();
        section.names_file("login");
        section.rate("max_failures", &mut config.failures_max);
        section.flag("user_folders", &mut config.user_folders);
        if config.user_folders && !section.has("login") {
            let what = "`user_folders` without users; expected `login` beside it";
            section.problem(section.span("user_folders"), what.to_owned());
        }
        section.flag("keep_paths", &mut config.keep_paths);
        config.on_stored = section.hook("on_stored");
        let overwrite = [
            ("refuse", Overwrite::Refuse),
            ("replace", Overwrite::Replace),
            ("version", Overwrite::Version),
        ];
        section.choice("overwrite", &overwrite, &mut config.overwrite);
        section.size(
            "max_file_bytes",
            0..=i64::MAX as u64,
            &mut config.file_bytes_max,
        );
        section.memory_size(
            "max_header_bytes",
            256..=1 << 20,
            &mut config.header_bytes_max,
        );
        section.count("files_per_turn", 1..=65_536, &mut config.files_per_turn_max);
        section.count(
            "max_unanswered_files",
            1..=4096,
            &mut config.unanswered_files_max,
        );
        let sizes = 0..=i64::MAX as u64;
        let mut total_bytes = 0;
        section.size("max_total_bytes", sizes.clone(), &mut total_bytes);
        config.total_bytes_max = (total_bytes > 0).then_some(total_bytes);
        let mut user_bytes = 0;
        section.size("max_user_bytes", sizes.clone(), &mut user_bytes);
        config.user_bytes_max = (user_bytes > 0).then_some(user_bytes);
        if user_bytes > 0 && !config.user_folders {
            let what = "`max_user_bytes` without a folder for each user; expected `user_folders = true` beside it";
            section.problem(section.span("max_user_bytes"), what.to_owned());
        }
        section.size(
            "reserved_free_bytes",
            sizes,
            &mut config.reserved_free_bytes,
        );
        section.duration("partial_ttl", &mut config.partial_ttl);
        section.count(
            "max_partial_files",
            1..=1_000_000,
            &mut config.partial_files_max,
        );
        section.timeout("handshake_timeout", &mut config.handshake_timeout);
        section.timeout("idle_timeout", &mut config.idle_timeout);
        section.timeout("store_timeout", &mut config.store_timeout);
        section.rate("min_body_rate", &mut config.body_rate_min);
        config.stream.read(section);
        config
    }
}

/// Reads the handshake and its secret, and refuses the one without the other.
fn read_handshake(section: &mut Section<'_>) -> (Handshake, SecretSource) {
    let problems_before = section.findings.len();
    let mut handshake = Handshake::default();
    let words = Handshake::ALL.map(|handshake| (handshake.name(), handshake));
    section.choice("handshake", &words, &mut handshake);
    let secret = read_secret(section);
    if handshake.needs_secret() && secret.is_none() && section.findings.len() == problems_before {
        let span = section.span("handshake");
        let name = handshake.name();
        section.problem(span, format!("handshake {name:?} has no secret; expected `secret`, `secret_file` or `handshake = \"none\"`"));
    }
    (handshake, SecretSource::Given(secret.unwrap_or_default()))
}

/// Reads `secret` and `secret_file`, of which one may be given.
pub(super) fn read_secret(section: &mut Section<'_>) -> Option<Secret> {
    read_secret_of(section, ("secret", "secret_file"), not_empty)
}

/// The same of keys with these names, by a rule of their own.
pub(super) fn read_secret_of(
    section: &mut Section<'_>,
    (key, file_key): (&'static str, &'static str),
    judged: fn(Secret) -> Result<Secret, String>,
) -> Option<Secret> {
    let written = section.parsed(key, "a text that is not empty", |value| {
        judged(Secret::from(string(value)?))
    });
    section.names_file(file_key);
    let (base, around) = (section.folders.base.as_path(), section.folders.around);
    let filed = section.parsed(file_key, "a file that holds the secret", |value| {
        let bytes = read_file(&path(base, string(value)?)?, around)?;
        judged(Secret::from_file_text(bytes))
    });
    if written.is_some() && filed.is_some() {
        let span = section.span(file_key);
        let what = format!("`{file_key}` is given beside `{key}`; expected one of the two");
        section.problem(span, what);
    }
    written.or(filed)
}

/// A secret that is one.
pub(super) fn not_empty(secret: Secret) -> Result<Secret, String> {
    if secret.is_empty() {
        Err("is empty".to_owned())
    } else {
        Ok(secret)
    }
}

/// What a file holds that a key names.
fn read_file(path: &Path, around: &Surroundings) -> Result<Vec<u8>, String> {
    around
        .file(path)
        .map_err(|error| format!("names {}: {error}", path.display()))
}
