// Exercise 11, a metric: an echo of lines tells how many lines it has answered, a counter, and how many
// connections are open, a gauge, as Prometheus reads them.
//
// Look at: rule 1 of `src/service/mod.rs` (how often `advance` is called), `Service::ended`, how
// `src/services/tcp_echo.rs` counts a request once, and what `src/services/web/admin/exposition.rs` writes
// of a metric before its samples: `# HELP` with a sentence, `# TYPE` with `counter` or `gauge`.
//
// What is given counts calls, and connections that were open some time. A line that had no room counts
// each time it is looked at; and nobody knows of what sort the numbers are.
//
// Run: cargo test --test course --features exercises e11

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
        format!("lines_answered_total {answered}\nconnections_open {open}\n")
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
            self.answered += 1;
            if !io.down.tx.has_room(end + 1) {
                return Ok(());
            }
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

    fn ended(&mut self, _until: Instant, _cx: &mut Cx<'_>) {}
}
