//! Standard output: what was asked for, as text or as one JSON object per line.
//!
//! A reader that goes away (`| head`) ends the client quietly and successfully. Colour is used on
//! terminals only, never where `NO_COLOR` is set to anything (no-color.org).

use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};
use std::time::Duration;

use serde::Serialize;

use super::{Exit, Failure};
use crate::wire::text::printable_lines;

/// The locked standard output.
#[derive(Debug)]
pub struct Output {
    out: StdoutLock<'static>,
    colour: bool,
}

/// What a piece of text means, which its colour shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Plain,
    /// Something was lost or refused.
    Bad,
    /// Something was odd.
    Odd,
    /// Less important than the rest.
    Faint,
}

/// One exchange, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Exchange<'a> {
    sequence: u64,
    sent: &'a str,
    reply: &'a str,
    rtt_ms: f64,
}

impl Output {
    /// Takes standard output; one at a time.
    pub fn new() -> Self {
        Self {
            out: io::stdout().lock(),
            colour: io::stdout().is_terminal() && !no_color(),
        }
    }

    /// Whether a person sees what is written.
    pub fn is_terminal(&self) -> bool {
        io::stdout().is_terminal()
    }

    /// Writes one line and sends it on at once.
    ///
    /// # Errors
    /// Standard output is closed or full.
    pub fn line(&mut self, tone: Tone, text: &str) -> Result<(), Failure> {
        let (before, after) = match tone {
            _ if !self.colour => ("", ""),
            Tone::Plain => ("", ""),
            Tone::Bad => ("\x1b[31m", "\x1b[0m"),
            Tone::Odd => ("\x1b[33m", "\x1b[0m"),
            Tone::Faint => ("\x1b[2m", "\x1b[0m"),
        };
        self.bytes(format!("{before}{text}{after}\n").as_bytes())
    }

    /// Writes one JSON object as a line.
    ///
    /// # Errors
    /// Standard output is closed or full.
    pub fn json(&mut self, object: &impl Serialize) -> Result<(), Failure> {
        // Not a text of the whole first: a body may be large, and escaped it is larger. Short
        // objects are one write.
        let mut line = BufWriter::with_capacity(64 * 1024, &mut self.out);
        let written = serde_json::to_writer(&mut line, object).map_err(io::Error::from);
        written
            .and_then(|()| line.write_all(b"\n"))
            .and_then(|()| line.flush())
            .map_err(|error| write_failure("standard output", &error))
    }

    /// What was sent, what came back and how long that took: an object with `json`, else the reply
    /// and a line end.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn exchange(
        &mut self,
        json: bool,
        sequence: u64,
        (sent, reply): (&[u8], &[u8]),
        rtt: Duration,
    ) -> Result<(), Failure> {
        if json {
            return self.json(&Exchange {
                sequence,
                sent: &String::from_utf8_lossy(sent),
                reply: &String::from_utf8_lossy(reply),
                rtt_ms: rtt.as_secs_f64() * 1e3,
            });
        }
        self.peer_text(reply)?;
        self.bytes(b"\n")
    }

    /// Writes text of a peer: as it came, but on a terminal only what is safe there.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn peer_text(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match self.is_terminal() {
            true => self.bytes(printable_lines(bytes).as_bytes()),
            false => self.bytes(bytes),
        }
    }

    /// Writes bytes as they are and sends them on.
    ///
    /// # Errors
    /// Standard output is closed or full.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.write(bytes)
            .map_err(|error| write_failure("standard output", &error))
    }

    /// The same, for who has to hand on the system's error.
    ///
    /// # Errors
    /// See [`write_failure`].
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes).and_then(|()| self.out.flush())
    }
}

impl Default for Output {
    fn default() -> Self {
        Self::new()
    }
}

/// What a failed write to `what` means.
pub fn write_failure(what: &str, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure {
            exit: Exit::Done,
            message: String::new(),
        },
        _ => Failure {
            exit: Exit::Unwritable,
            message: format!("writing to {what}: {error}"),
        },
    }
}

/// Whether the user does not want colour.
pub fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_went_away_is_no_error() {
        let failure = write_failure("x", &io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((failure.exit, failure.message.as_str()), (Exit::Done, ""));
    }
}
