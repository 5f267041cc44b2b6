// Exercise 9, a chat: whoever comes is told `welcome\n`; what one says, a line at a time, all others
// hear. A session that has something new to say, because of another one, has to be woken: nothing
// happened on its socket.
//
// Look at: `Cx::woken` and who pushes into it (`src/cache/store/`), `wake` in
// `src/reactor/sessions.rs`.
//
// What is given lets the others hear it once they say something themselves.
//
// Go on: what if somebody never reads? Bound what waits for one, and drop who is beyond it.
//
// Run: cargo test --test course --features exercises e09

use std::collections::HashMap;
use std::time::{Duration, Instant};

use netlab_reactor::ending::Error;
use netlab_reactor::service::{Cx, Id, Io, Peer, Service};

#[derive(Default)]
pub(crate) struct Chat {
    /// What each who is here has not been told yet.
    untold: HashMap<Id, Vec<u8>>,
}

pub(crate) struct Conn {
    /// `None` until its first call.
    id: Option<Id>,
    until: Instant,
}

impl Service for Chat {
    type Conn = Conn;

    fn accept(&mut self, _peer: &Peer, now: Instant) -> Conn {
        let until = now + Duration::from_secs(3600);
        Conn { id: None, until }
    }

    fn advance(&mut self, conn: &mut Conn, io: &mut Io<'_>) -> Result<(), Error> {
        if conn.id.is_none() {
            conn.id = Some(io.id);
            self.untold.insert(io.id, b"welcome\n".to_vec());
        }
        while let Some(end) = io.down.rx.bytes().iter().position(|byte| *byte == b'\n') {
            let line = io.down.rx.bytes()[..=end].to_vec();
            io.down.rx.consume(line.len());
            for (_, untold) in self.untold.iter_mut().filter(|(id, _)| **id != io.id) {
                untold.extend_from_slice(&line);
            }
        }
        if let Some(untold) = self.untold.get_mut(&io.id)
            && !untold.is_empty()
            && io.down.tx.has_room(untold.len())
        {
            io.down.tx.put(untold, io.cx.pool);
            untold.clear();
        }
        if io.down.is_drained() {
            io.close();
        }
        Ok(())
    }

    fn state(&self, _conn: &Conn) -> &'static str {
        "Chatting"
    }

    fn deadline(&self, conn: &Conn) -> Instant {
        conn.until
    }

    fn ended(&mut self, conn: Conn, _cx: &mut Cx<'_>) {
        if let Some(id) = conn.id {
            self.untold.remove(&id);
        }
    }
}
