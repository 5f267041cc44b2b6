//! What the process is to be like: table `[log]`, the keys `user` and `group`, table `[sandbox]`.

use std::path::PathBuf;

use super::section::{Section, path, string};
use crate::logging::{Filters, Format, Settings};

/// Whom the process becomes once it has what only root gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunAs {
    /// A user's name or number. Key `user`, default none: the process stays who it is.
    pub user: Option<String>,
    /// A group's name or number. Key `group`, default that of the user.
    pub group: Option<String>,
}

/// What the process may reach of the file system: table `[sandbox]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SandboxConfig {
    /// Whether the kernel keeps it to that. Key `landlock`, default `"off"`.
    pub landlock: Landlock,
    /// What may be read beside what the configuration names, files or folders with all below them.
    /// Key `read`, default none.
    pub read: Vec<PathBuf>,
    /// What may be written and read. Key `write`, default none.
    pub write: Vec<PathBuf>,
    /// What commands may be run from, and read. Key `execute`, default none: where listeners have
    /// commands, what programs of the system need.
    pub execute: Vec<PathBuf>,
}

/// Whether Landlock (`man 7 landlock`) is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Landlock {
    /// It is not.
    #[default]
    Off,
    /// As far as the kernel has it.
    Auto,
    /// As far as the kernel has it, and without it there is no start.
    On,
}

impl Landlock {
    const WORDS: [(&'static str, Self); 3] =
        [("auto", Self::Auto), ("on", Self::On), ("off", Self::Off)];
}

/// Reads table `[log]`.
pub(super) fn read_log(settings: &mut Settings, section: &mut Section<'_>) {
    section.choice("format", &Format::WORDS, &mut settings.format);
    let expected = r#"filters such as "info" or "info,netlab_reactor::dns=trace""#;
    let filters = section.parsed("filter", expected, |value| {
        let text = string(value)?;
        Filters::parse(text).map_err(|wrong| match wrong.part == text {
            true => format!("is {text:?}"),
            false => format!("is {text:?}, of which {:?} is none", wrong.part),
        })
    });
    if let Some(filters) = filters {
        settings.filters = filters;
    }
}

impl RunAs {
    /// Reads the keys.
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let mut name = |key| {
            section.parsed(key, "a name or a number", |value| match string(value)? {
                "" => Err("is empty".to_owned()),
                name if name.contains('\0') => Err("contains a NUL".to_owned()),
                name => Ok(name.to_owned()),
            })
        };
        let (user, group) = (name("user"), name("group"));
        if section.has("group") && !section.has("user") {
            let what = "`group` without `user`; expected both, or `user` alone";
            section.problem(section.span("group"), what.to_owned());
        }
        Self { user, group }
    }
}

impl SandboxConfig {
    /// Reads table `[sandbox]`.
    pub(super) fn read(&mut self, section: &mut Section<'_>) {
        section.choice("landlock", &Landlock::WORDS, &mut self.landlock);
        let base = section.folders.base.clone();
        let mut paths = |key| {
            let list = section.list_or_one(key, "a path", |value| path(&base, string(value)?));
            list.unwrap_or_default()
        };
        self.read = paths("read");
        self.write = paths("write");
        self.execute = paths("execute");
    }
}
