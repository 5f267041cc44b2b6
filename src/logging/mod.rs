//! The log: which lines there are, how they are written, and whom each is about.
//!
//! Rules:
//! - It is one for the process, as that of the `log` crate is, and so are its settings: they can be
//!   changed while it is written to. What no filter lets through costs the comparison of a level.
//! - A line stays one, whatever a peer made part of it: what is hidden is escaped in both formats.
//! - A line that is written while a session is pumped has the session's number, the one of
//!   `/sessions.json`, and its listener ([`about`]); who writes it need not know either.
//!
//! Not here: where lines go ([`crate::sys::error_log`]), and how many of one cause there may be
//! ([`crate::sys::log_limit`]).

mod filters;
mod lines;

use std::cell::RefCell;
use std::fmt;
use std::io::Write;
use std::rc::Rc;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::SystemTime;

use log::{Log, Metadata, Record};

pub use filters::{Filters, WrongFilter};
pub use lines::{Format, dropped};

/// Who is pumped: the number of a session and the name of its listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// The number that `/sessions.json` shows.
    pub session: u32,
    /// The listener's name.
    pub listener: Rc<str>,
}

thread_local! {
    static ABOUT: RefCell<Option<About>> = const { RefCell::new(None) };
}

/// Whom the lines of this thread are about from now on.
pub fn about(whom: Option<About>) {
    ABOUT.with(|about| _ = about.replace(whom));
}

/// Does something whose lines are about nobody.
pub fn about_nobody<T>(what: impl FnOnce() -> T) -> T {
    let before = ABOUT.take();
    let done = what();
    about(before);
    done
}

/// How the log is to be: table `[log]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Which lines there are. Key `filter`, default `"info"`.
    pub filters: Filters,
    /// How they are written. Key `format`, default `"text"`.
    pub format: Format,
}

static SETTINGS: RwLock<Option<Settings>> = RwLock::new(None);

/// Other settings, from the next line on.
pub fn set(settings: Settings) {
    log::set_max_level(settings.filters.max_level());
    *SETTINGS.write().unwrap_or_else(PoisonError::into_inner) = Some(settings);
}

/// Other filters, until the settings are set again.
pub fn set_filters(filters: Filters) {
    let format = settings().as_ref().map_or(Format::Text, |set| set.format);
    set(Settings { filters, format });
}

/// The filters in force, as they were given.
pub fn filters() -> String {
    let settings = settings();
    let filters = settings.as_ref().map(|set| set.filters.to_string());
    filters.unwrap_or_else(|| "off".to_owned())
}

/// How lines are written.
pub(crate) fn format() -> Format {
    settings().as_ref().map_or(Format::Text, |set| set.format)
}

fn settings() -> RwLockReadGuard<'static, Option<Settings>> {
    SETTINGS.read().unwrap_or_else(PoisonError::into_inner)
}

/// Writes lines as the settings say.
pub struct Logger<W> {
    out: fn() -> W,
    wall: fn() -> SystemTime,
    is_coloured: bool,
}

impl<W> fmt::Debug for Logger<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Logger")
    }
}

impl<W: Write> Logger<W> {
    /// A log to `out`, whose writes take a line each and never wait. `wall`: the time of day.
    /// `is_coloured`: levels have colours in the text format.
    pub fn new(out: fn() -> W, wall: fn() -> SystemTime, is_coloured: bool) -> Self {
        Self {
            out,
            wall,
            is_coloured,
        }
    }
}

impl<W: Write> Log for Logger<W> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        settings()
            .as_ref()
            .is_some_and(|set| set.filters.enabled(metadata))
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut line = String::new();
        ABOUT.with_borrow(|about| {
            let (wall, about) = ((self.wall)(), about.as_ref());
            match format() {
                Format::Text => lines::text(&mut line, record, wall, about, self.is_coloured),
                Format::Json => lines::json(&mut line, record, wall, about),
            }
        });
        // A log that cannot be written has nobody to tell.
        let _ = (self.out)().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}
