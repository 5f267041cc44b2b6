//! The connections that share the files, and what is told of each.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use serde_json::json;

use super::UploadArgs;
use super::bars::Bars;
use super::source::{Found, Source};
use super::uploader::{Fate, Uploader};
use crate::client::connect::Target;
use crate::client::output::{Output, Tone};
use crate::client::tls::Trust;
use crate::client::units::Size;
use crate::client::{Exit, Failure};
use crate::wire::challenge::Secret;
use crate::wire::login::Login;
use crate::wire::text::printable;

/// Sends files as the arguments say.
pub(super) struct Sender<'a> {
    pub(super) args: &'a UploadArgs,
    pub(super) secret: Secret,
    pub(super) login: Option<Login>,
    /// Whom to trust, where TLS is spoken.
    pub(super) trust: Option<Trust>,
}

/// What a connection tells.
enum Report {
    /// What became of a file.
    Done(Source, Fate),
    /// A file cannot be read: why.
    Unreadable(String),
    /// The connection ends, and nothing more is sent over any.
    Failed(Failure),
}

/// The files that no connection has taken yet.
struct Queue<'a> {
    files: &'a [Found],
    taken: AtomicUsize,
    is_stopped: AtomicBool,
}

impl<'a> Queue<'a> {
    fn next(&self) -> Option<&'a Found> {
        if self.is_stopped.load(Ordering::Relaxed) {
            return None;
        }
        self.files.get(self.taken.fetch_add(1, Ordering::Relaxed))
    }

    fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }
}

impl Sender<'_> {
    /// Sends the files and tells what became of each; complaints about those that cannot be read
    /// are added to `unreadable`.
    ///
    /// # Errors
    /// The first failure of a connection or of standard output.
    pub(super) fn send(
        &self,
        files: &[Found],
        unreadable: &mut Vec<String>,
    ) -> Result<(), Failure> {
        let bars = Bars::new(files.len(), !self.args.quiet && !self.args.common.json);
        let queue = Queue {
            files,
            taken: AtomicUsize::new(0),
            is_stopped: AtomicBool::new(false),
        };
        let mut output = Output::new();
        thread::scope(|scope| {
            let mut result = Ok(());
            let (tell, told) = mpsc::channel();
            for _ in 0..self.args.jobs.get().min(files.len()) {
                let (queue, bars, tell) = (&queue, &bars, tell.clone());
                scope.spawn(move || self.work(queue, bars, &tell));
            }
            drop(tell);
            for report in told {
                let said = match report {
                    Report::Done(source, fate) => {
                        bars.suspend(|| self.tell(&mut output, &source, &fate))
                    }
                    Report::Unreadable(words) => {
                        unreadable.push(words);
                        Ok(())
                    }
                    Report::Failed(failure) => Err(failure),
                };
                if said.is_err() {
                    queue.stop();
                    result = result.and(said);
                }
            }
            result
        })
    }

    /// Sends one file over one connection, and tells what became of it; the port of this end is
    /// given to `connected`.
    ///
    /// # Errors
    /// The file cannot be read, the connection fails, or the server refuses it.
    pub(super) fn send_one(
        &self,
        file: &Found,
        connected: &mut dyn FnMut(Option<u16>),
    ) -> Result<Exit, Failure> {
        let bars = Bars::new(1, false);
        let mut uploader = self.uploader(&bars);
        let link = uploader.connect()?;
        connected(link.stream.local_port());
        uploader.link = Some(link);
        let mut source = Source::open(file, self.args.keep_paths).map_err(Failure::usage)?;
        let fate = uploader.upload(&mut source)?;
        uploader.finish()?;
        self.tell(&mut Output::new(), &source, &fate)?;
        Ok(Exit::Done)
    }

    fn uploader<'u>(&'u self, bars: &'u Bars) -> Uploader<'u> {
        Uploader {
            target: Target::new(&self.args.host, self.args.port),
            args: self.args,
            secret: self.secret.clone(),
            login: self.login.clone(),
            trust: self.trust.clone(),
            link: None,
            knows_ack: !self.args.plain,
            was_ready: false,
            bars,
            timeouts: self.args.common.timeouts(),
        }
    }

    /// One connection's part.
    fn work(&self, queue: &Queue<'_>, bars: &Bars, tell: &mpsc::Sender<Report>) {
        let mut uploader = self.uploader(bars);
        let say = |report| {
            if matches!(report, Report::Failed(_)) {
                queue.stop();
            }
            // Whoever prints outlives whoever sends.
            let _ = tell.send(report);
        };
        while let Some(file) = queue.next() {
            match Source::open(file, self.args.keep_paths) {
                Ok(mut source) => match uploader.upload(&mut source) {
                    Ok(fate) => say(Report::Done(source, fate)),
                    Err(failure) => return say(Report::Failed(failure)),
                },
                Err(words) => say(Report::Unreadable(words)),
            }
        }
        if let Err(failure) = uploader.finish() {
            say(Report::Failed(failure));
        }
    }

    fn tell(&self, output: &mut Output, source: &Source, fate: &Fate) -> Result<(), Failure> {
        let path = source.path.display().to_string();
        let (stored_as, is_skipped) = match fate {
            Fate::Stored { filename } => (Some(filename.as_str()), false),
            Fate::Skipped { filename } => (Some(filename.as_str()), true),
            Fate::Unacknowledged => (None, false),
        };
        if self.args.common.json {
            return output.json(&json!({
                "file": path, "bytes": source.size_bytes, "acknowledged": stored_as.is_some(), "stored_as": stored_as,
                "skipped": is_skipped,
            }));
        }
        if self.args.quiet {
            return Ok(());
        }
        let what = match stored_as {
            Some(name) => {
                let how = if is_skipped {
                    "there already"
                } else {
                    "stored"
                };
                format!("{how} as {}", printable(name.as_bytes()))
            }
            None => "sent, not acknowledged".to_owned(),
        };
        let line = format!("{path}: {} {what}", Size(source.size_bytes));
        output.line(Tone::Plain, &line)
    }
}
