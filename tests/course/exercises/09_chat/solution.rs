// Sessions know each other by their ids only: who has gone is found by nobody.

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
            for (id, untold) in self.untold.iter_mut().filter(|(id, _)| **id != io.id) {
                untold.extend_from_slice(&line);
                io.cx.woken.push(*id);
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
