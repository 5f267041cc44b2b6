//! A record in the dashboard: it is replayed to where it is looked at, and a process of its own then
//! serves what was seen, on an admin listener. Nothing goes on there.

use std::net::SocketAddr;
use std::path::Path;

use super::{Replay, ReplayError, Verdict};
use crate::config::{Config, Overrides};
use crate::inside::replayed::Turns;
use crate::reactor::Shown;
use crate::serve::server::{Server, Source};
use crate::serve::{ServeError, kernel};
use crate::sys::record::Start;

/// What is to be seen of a record.
pub struct Seen {
    shown: Shown,
}

impl Seen {
    /// Replays a record called `name`, to the end or to the end of turn `until`. Of what was seen the
    /// newest turns are kept, about so many `bytes` of them. A replay that diverges, and a record that
    /// is cut or damaged, end there, and so they are shown.
    pub fn of(mut replay: Replay, name: &str, until: Option<u64>, bytes: u64) -> Self {
        replay.watch();
        let mut turns = Turns::new(usize::try_from(bytes).unwrap_or(usize::MAX));
        let mut ended = Ok(None);
        while matches!(ended, Ok(None)) && until.is_none_or(|until| replay.played().turns < until) {
            ended = replay.turn();
            let (turn, _) = replay.take_watched();
            if !turn.is_empty() {
                turns.push(turn);
            }
        }
        let about = about(replay.start(), name, turns.newest(), &ended);
        let rows = replay.rows();
        let (ring, books, senders) = replay.server.into_reactor().into_seen(replay.start.wall);
        let record = turns.show(ring, rows, books, about);
        Self {
            shown: Shown { record, senders },
        }
    }

    /// In a line: which record it is, and how far it went.
    pub fn about(&self) -> &str {
        &self.shown.record.2.about
    }

    /// Serves it, until the process is told to end.
    ///
    /// # Errors
    /// The listener cannot be opened, or the poll fails.
    pub fn serve(self, at: SocketAddr) -> Result<(), ServeError> {
        let text = format!("[[listener]]\nkind = \"admin\"\nname = \"replay\"\nbind = \"{at}\"\n");
        // Invariant: all of it is written here.
        let config = Config::parse(&text, Path::new("replay"), &Overrides::default());
        let config = config.expect("a configuration");
        let (sys, descriptors) = kernel(&config)?;
        let mut server = Server::open(sys, config, Source::default(), descriptors)?;
        server.reactor().show(self.shown);
        server.announce()?;
        server.begin();
        server.run()
    }
}

/// Which record it is, the number of the last turn that is seen of it, and what the replay came to.
fn about(
    start: &Start,
    name: &str,
    turns: u64,
    ended: &Result<Option<Verdict>, ReplayError>,
) -> String {
    let made = match &start.simulation {
        Some(simulation) => format!(", a simulation ({simulation})"),
        None => String::new(),
    };
    let end = match ended {
        Ok(None) => "exact up to here".to_owned(),
        Ok(Some(Verdict::Exact)) => "exact to its end".to_owned(),
        Ok(Some(Verdict::Stopped(why))) => format!("exact as far as it goes: {why}"),
        Err(error) => format!("it stops where it should not: {error}"),
    };
    let version = &start.program;
    format!("{name}, recorded by version {version}{made}: {turns} turns, {end}")
}
