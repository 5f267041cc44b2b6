//! A prompt by which a replay is looked at: turn by turn, or one thing that was done after the
//! other, up to where a session comes to a state.

use std::collections::VecDeque;
use std::io::{self, BufRead, Write};

use super::{Replay, ReplayError, Verdict};
use crate::inside::ring::{Record, What};
use crate::inside::roster::Row;
use crate::inside::trace::{Format, Trace};

const HELP: &str = "\
next [N]          the next turn, or the next N: what was done in it
fact              the next thing that was done
run ID [STATE]    turns until session ID comes to a state, or ends; `run ID` until anything is done for it
until N           turns until turn N is done
sessions          all sessions
session ID        one of them
help              this
quit              ends (as the end of the input does)
";

/// Turns beyond which a run is given up; the prompt can go on from there.
const RUN_TURNS_MAX: u64 = 10_000_000;

/// The prompt over one replay.
pub struct Prompt<'a> {
    replay: &'a mut Replay,
    out: &'a mut dyn Write,
    trace: Trace,
    /// What was done in this turn and not shown yet, each with its line.
    waiting: VecDeque<(Record, String)>,
    /// How it ended, if it did.
    ended: Option<Result<Verdict, ReplayError>>,
}

/// What somebody wants.
enum Wish<'a> {
    Next(u64),
    Fact,
    Run(u32, Option<&'a str>),
    Until(u64),
    Sessions(Option<u32>),
    Help,
    Quit,
    Nothing,
}

impl<'a> Wish<'a> {
    fn parse(line: &'a str) -> Result<Self, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |word: &str| {
            let number = word.trim_start_matches('#').parse::<u32>();
            number.map_err(|_| format!("{word:?} is no number"))
        };
        Ok(match words[..] {
            [] => Wish::Nothing,
            ["n" | "next"] => Wish::Next(1),
            ["n" | "next", count] => Wish::Next(number(count)?.into()),
            ["f" | "fact"] => Wish::Fact,
            ["r" | "run", id] => Wish::Run(number(id)?, None),
            ["r" | "run", id, state] => Wish::Run(number(id)?, Some(state)),
            ["u" | "until", turn] => Wish::Until(number(turn)?.into()),
            ["sessions"] => Wish::Sessions(None),
            ["s" | "session", id] => Wish::Sessions(Some(number(id)?)),
            ["h" | "help" | "?"] => Wish::Help,
            ["q" | "quit" | "exit"] => Wish::Quit,
            _ => {
                return Err(format!(
                    "{line:?} is not understood; expected one of:\n{HELP}"
                ));
            }
        })
    }
}

impl<'a> Prompt<'a> {
    /// A prompt over a replay that has just begun.
    pub fn new(replay: &'a mut Replay, out: &'a mut dyn Write) -> Self {
        replay.watch();
        Self {
            replay,
            out,
            trace: Trace::new(Format::Text, &mut String::new()),
            waiting: VecDeque::new(),
            ended: None,
        }
    }

    /// Does what the lines of `input` say, to their end or that of the replay.
    ///
    /// # Errors
    /// It diverged, or the record is damaged; or the output cannot be written.
    pub fn run(mut self, input: &mut dyn BufRead) -> Result<(), ReplayError> {
        let mut line = String::new();
        loop {
            let turn = self.replay.played().turns;
            write!(self.out, "turn {turn}> ")?;
            self.out.flush()?;
            line.clear();
            if input.read_line(&mut line)? == 0 {
                writeln!(self.out)?;
                return Ok(());
            }
            match Wish::parse(line.trim()) {
                Ok(Wish::Quit) => return Ok(()),
                Ok(wish) => self.fulfil(&wish)?,
                Err(why) => writeln!(self.out, "{}", why.trim_end())?,
            }
            if self.ended.is_some() && self.waiting.is_empty() {
                return self.tell_end();
            }
        }
    }

    fn tell_end(&mut self) -> Result<(), ReplayError> {
        match self.ended.take() {
            Some(Ok(Verdict::Exact)) => {
                writeln!(self.out, "the process ended, and all was as it was then")?;
            }
            Some(Ok(Verdict::Stopped(why))) => writeln!(self.out, "{why}")?,
            Some(Err(error)) => return Err(error),
            None => {}
        }
        Ok(())
    }

    fn fulfil(&mut self, wish: &Wish<'_>) -> io::Result<()> {
        match wish {
            Wish::Next(count) => {
                for _ in 0..*count {
                    if self.waiting.is_empty() {
                        self.turn();
                    }
                    self.show_waiting()?;
                    if self.ended.is_some() {
                        break;
                    }
                }
            }
            Wish::Fact => {
                while self.waiting.is_empty() && self.ended.is_none() {
                    self.turn();
                }
                if let Some((_, line)) = self.waiting.pop_front() {
                    self.out.write_all(line.as_bytes())?;
                }
            }
            Wish::Until(turn) => {
                self.waiting.clear();
                while self.replay.played().turns < *turn && self.ended.is_none() {
                    self.turn();
                    self.waiting.clear();
                }
            }
            Wish::Run(id, state) => self.run_until(*id, *state)?,
            Wish::Sessions(only) => self.show_sessions(*only)?,
            Wish::Help => self.out.write_all(HELP.as_bytes())?,
            Wish::Quit | Wish::Nothing => {}
        }
        Ok(())
    }

    /// One turn, of which nothing was shown yet.
    fn turn(&mut self) {
        match self.replay.turn() {
            Ok(None) => {}
            Ok(Some(verdict)) => self.ended = Some(Ok(verdict)),
            Err(error) => self.ended = Some(Err(error)),
        }
        let (records, names) = self.replay.take_watched();
        for record in records {
            let mut line = String::new();
            self.trace.add(&record, names, &mut line);
            self.waiting.push_back((record, line));
        }
    }

    fn show_waiting(&mut self) -> io::Result<()> {
        for (_, line) in self.waiting.drain(..) {
            self.out.write_all(line.as_bytes())?;
        }
        Ok(())
    }

    /// Turns until something is done for a session, or until it comes to a state; shows what was
    /// done for it on the way.
    fn run_until(&mut self, id: u32, state: Option<&str>) -> io::Result<()> {
        for _ in 0..RUN_TURNS_MAX {
            while let Some((record, line)) = self.waiting.pop_front() {
                if record.id.generation != id {
                    continue;
                }
                self.out.write_all(line.as_bytes())?;
                if self.is_there(&record, state) {
                    return Ok(());
                }
            }
            if self.ended.is_some() {
                return Ok(());
            }
            self.turn();
        }
        writeln!(self.out, "not within {RUN_TURNS_MAX} turns")
    }

    fn is_there(&mut self, record: &Record, state: Option<&str>) -> bool {
        let Some(wanted) = state else { return true };
        let (_, names) = self.replay.take_watched();
        match record.what {
            What::Advanced { to, .. } => names.ring.name(to).eq_ignore_ascii_case(wanted),
            What::Ended(_) => true,
            _ => false,
        }
    }

    fn show_sessions(&mut self, only: Option<u32>) -> io::Result<()> {
        let rows = self.replay.rows();
        let wanted = |row: &&Row| only.is_none_or(|id| row.id.generation == id);
        let mut shown = 0;
        for row in rows.iter().filter(wanted) {
            writeln!(self.out, "{}", line_of(row))?;
            shown += 1;
        }
        match (shown, only) {
            (0, Some(id)) => writeln!(self.out, "there is no session #{id} now"),
            (0, None) => writeln!(self.out, "there are no sessions now"),
            _ => Ok(()),
        }
    }
}

/// A session in a line.
pub fn line_of(row: &Row) -> String {
    let Row {
        peer,
        state,
        waits,
        deadline_ms,
        received,
        queued,
        ..
    } = row;
    let origin = match row.has_origin {
        true => ", has an origin",
        false => "",
    };
    format!(
        "#{} of {peer}: {state}, waits for {}, at most {deadline_ms} ms; {received} bytes not consumed, \
         {queued} to be sent{origin}",
        row.id.generation,
        waits.name(),
    )
}
