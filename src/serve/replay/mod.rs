//! The same process once more, on a record of what its kernel answered: the same turns, the same
//! states, the same bytes out.
//!
//! ```text
//! record ─▶ its configuration ─▶ the same services ─▶ turn, turn … ─▶ told to end, as then ─▶ counted the same?
//! ```
//!
//! How it is looked at turn by turn: [`step`], and in a browser: [`show`].

pub mod show;
pub mod step;

use std::fmt;
use std::io::{self, Read};

use super::server::{Server, Source};
use crate::config::{Overrides, Problems};
use crate::inside::ring::{LOOP, Record};
use crate::inside::roster::Row;
use crate::inside::trace::{Format, Trace};
use crate::inside::words::Names;
use crate::surroundings::Surroundings;
use crate::sys::record::{BadRecord, Over, Played, Start, Taped};
use crate::sys::unix::Unix;

/// How far apart two records of one turn are shown, in nanoseconds: the record of a process knows
/// when its turns began, and in which order what was done in them.
const STEP_NS: u64 = 1000;

/// A record that is being replayed.
pub struct Replay {
    server: Server<Taped<Unix>>,
    start: Start,
    is_over: bool,
    /// When the last thing was done that is seen.
    last_ns: u64,
}

/// How a replay came to its end.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All was as it was then, to what was counted at the end.
    Exact,
    /// So it was up to where the recording stopped: why it did.
    Stopped(String),
}

/// Why a record is not replayed, or not further.
#[derive(Debug)]
pub enum ReplayError {
    /// It cannot be read.
    Bad(BadRecord),
    /// Its configuration is none.
    Config(Problems),
    /// It diverged, or the record is cut or damaged.
    Over(String),
    /// Something else was counted: the first line that is another, then and now.
    Counted {
        /// What it was.
        then: String,
        /// What it is.
        now: String,
    },
    /// What is seen of it cannot be written.
    Output(io::Error),
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReplayError::Bad(why) => why.fmt(f),
            ReplayError::Config(why) => write!(f, "its configuration: {why}"),
            ReplayError::Over(why) => f.write_str(why),
            ReplayError::Counted { then, now } => {
                write!(
                    f,
                    "it counted {:?} then and {:?} now",
                    then.trim(),
                    now.trim()
                )
            }
            ReplayError::Output(error) => write!(f, "cannot write: {error}"),
        }
    }
}

impl std::error::Error for ReplayError {}

impl From<io::Error> for ReplayError {
    fn from(error: io::Error) -> Self {
        ReplayError::Output(error)
    }
}

impl Replay {
    /// Opens what the process opened then.
    ///
    /// # Errors
    /// It is no record that can be replayed here, or ends or diverges at the start.
    pub fn begin(from: impl Read + Send + 'static) -> Result<Self, ReplayError> {
        let (sys, start) = Taped::replay(from).map_err(ReplayError::Bad)?;
        let source = Source {
            file: start.config.clone(),
            overrides: Overrides {
                bind: start.bind,
                root: start.root.clone(),
                ..Overrides::default()
            },
        };
        let config = source.load(&Surroundings::kept(start.kept.clone()));
        let config = config.map_err(ReplayError::Config)?;
        // What was refused then is refused now, and there is no server of which it could be told why.
        let server = Server::open(sys, config, source, start.descriptors);
        let mut server =
            server.map_err(|error| ReplayError::Over(format!("at the start: {error}")))?;
        server.begin();
        Ok(Self {
            server,
            start,
            is_over: false,
            last_ns: 0,
        })
    }

    /// Who recorded what.
    pub fn start(&self) -> &Start {
        &self.start
    }

    /// What was replayed so far.
    pub fn played(&mut self) -> Played {
        self.server.sys_mut().played()
    }

    /// From now on what the loop does can be seen.
    pub fn watch(&mut self) {
        self.server.reactor().watch();
    }

    /// One turn; how it ended, if it was the last one.
    ///
    /// # Errors
    /// It diverged, or the record is damaged.
    pub fn turn(&mut self) -> Result<Option<Verdict>, ReplayError> {
        if self.is_over {
            return Err(ReplayError::Over("the replay is over".to_owned()));
        }
        let turned = self.server.turn();
        if let Some(over) = self.server.sys_mut().over() {
            let ended = match over {
                Over::Stopped { .. } => Ok(Some(Verdict::Stopped(over.to_string()))),
                over => Err(ReplayError::Over(over.to_string())),
            };
            self.is_over = true;
            return ended;
        }
        match turned {
            Ok(true) => Ok(None),
            // The poll failed then, too, and that was the end.
            Ok(false) | Err(_) => {
                self.is_over = true;
                self.end().map(Some)
            }
        }
    }

    fn end(&mut self) -> Result<Verdict, ReplayError> {
        let now = self.server.counted();
        self.server.sys_mut().end("")?;
        match self.server.sys_mut().over() {
            Some(Over::Ended(then)) if *then == now => Ok(Verdict::Exact),
            Some(Over::Ended(then)) => Err(differing(then, &now)),
            Some(Over::Stopped { why, .. }) => Ok(Verdict::Stopped(why.clone())),
            Some(over) => Err(ReplayError::Over(over.to_string())),
            None => Err(ReplayError::Over("the record goes on".to_owned())),
        }
    }

    /// The sessions that there are.
    pub fn rows(&mut self) -> Vec<Row> {
        self.server.reactor().rows()
    }

    /// What the loop did since this was asked for last, each thing a moment after the one before.
    fn take_watched(&mut self) -> (Vec<Record>, Names<'_>) {
        let last_ns = &mut self.last_ns;
        let (mut records, ring, metrics) = self.server.reactor().take_watched();
        for record in &mut records {
            record.at_ns = record.at_ns.max(*last_ns + STEP_NS);
            *last_ns = record.at_ns;
        }
        let listeners = &metrics.listeners;
        (records, Names { ring, listeners })
    }
}

/// The first line that is another one.
fn differing(then: &str, now: &str) -> ReplayError {
    let mut lines = then.lines().zip(now.lines());
    let (then, now) = lines.find(|(then, now)| then != now).unwrap_or(("", ""));
    ReplayError::Counted {
        then: then.to_owned(),
        now: now.to_owned(),
    }
}

/// What is seen of a replay, written for others.
pub struct Seen {
    trace: Trace,
    text: String,
    /// Of this session alone.
    session: Option<u32>,
}

impl Seen {
    /// As the trace events of ui.perfetto.dev, or as lines for a reader; of one session, by the number
    /// that it has in lines, or of all and the loop.
    pub fn new(as_lines: bool, session: Option<u32>) -> Self {
        let format = match as_lines {
            true => Format::Text,
            false => Format::Json,
        };
        let mut text = String::new();
        Self {
            trace: Trace::new(format, &mut text),
            text,
            session,
        }
    }

    /// Adds what was done since the last time, and takes what is written of it.
    pub fn go_on(&mut self, replay: &mut Replay) -> String {
        let (records, names) = replay.take_watched();
        for record in records {
            self.add(record, names);
        }
        std::mem::take(&mut self.text)
    }

    fn add(&mut self, record: Record, names: Names<'_>) {
        let is_wanted = match self.session {
            Some(session) => record.id != LOOP && record.id.generation == session,
            None => true,
        };
        if is_wanted {
            self.trace.add(&record, names, &mut self.text);
        }
    }

    /// Ends it.
    pub fn end(mut self, replay: &mut Replay) -> String {
        let (_, names) = replay.take_watched();
        self.trace.end(names, &mut self.text);
        self.text
    }
}
