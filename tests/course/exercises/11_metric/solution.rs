// A counter counts what was done, behind the last reason not to do it. A gauge goes down as well, however
// a session ends: that is what `ended` is for.

use std::time::{Duration, Instant};

use netlab_reactor::ending::Error;
use netlab_reactor::service::{Cx, Io, Peer, Service};

const IDLE: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(crate) struct Lines {
    answered: u64,
    open: u64,
}

impl Lines {
    /// Both metrics in the text format of Prometheus.
    pub(crate) fn exposition(&self) -> String {
        let Self { answered, open } = self;
        format!(
            "# HELP lines_answered_total Lines that were answered.\n\
             # TYPE lines_answered_total counter\n\
             lines_answered_total {answered}\n\
             # HELP connections_open Connections that are open.\n\
             # TYPE connections_open gauge\n\
             connections_open {open}\n"
        )
    }
}

impl Service for Lines {
    type Conn = Instant;

    fn accept(&mut self, _peer: &Peer, now: Instant) -> Instant {
        self.open += 1;
        now + IDLE
    }

    fn advance(&mut self, until: &mut Instant, io: &mut Io<'_>) -> Result<(), Error> {
        while let Some(end) = memchr::memchr(b'\n', io.down.rx.bytes()) {
            if !io.down.tx.has_room(end + 1) {
                return Ok(());
            }
            self.answered += 1;
            io.down.tx.put(&io.down.rx.bytes()[..=end], io.cx.pool);
            io.down.rx.consume(end + 1);
            *until = io.cx.now + IDLE;
        }
        if io.down.eof || io.cx.now >= *until {
            io.close();
        }
        Ok(())
    }

    fn state(&self, _until: &Instant) -> &'static str {
        "Echoing"
    }

    fn deadline(&self, until: &Instant) -> Instant {
        *until
    }

    fn ended(&mut self, _until: Instant, _cx: &mut Cx<'_>) {
        self.open -= 1;
    }
}
