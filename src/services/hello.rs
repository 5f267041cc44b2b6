//! The hello stream: `hello0`, any reply, a pause, `hello1`, … and the end.
//!
//! ```text
//! Awaiting(i) ──a reply──▶ Pausing(i) ──interval──▶ Awaiting(i + 1)      after the last reply: closed
//! ```
//!
//! Whatever has come when a reply is awaited is one reply: the clients send no terminator. What
//! comes during a pause belongs to the reply before it and is dropped when the pause ends.

use std::time::{Duration, Instant};

use crate::config::HelloConfig;
use crate::ending::{Error, Phase};
use crate::service::{Io, Peer, Service};

/// The hello service.
pub struct Hello {
    config: HelloConfig,
}

/// How far one client's stream is.
pub struct Conn {
    /// The number of the next message.
    next: u32,
    state: State,
}

enum State {
    /// The next message may be sent now.
    Ready { until: Instant },
    /// A message was sent; its reply is awaited.
    Awaiting { until: Instant },
    /// The reply came; the next message is sent when the pause is over.
    Pausing { until: Instant },
}

impl Hello {
    /// A service as configured.
    pub fn new(config: &HelloConfig) -> Self {
        Self {
            config: config.clone(),
        }
    }

    fn wait(&self, now: Instant) -> Instant {
        now + self.config.idle_timeout.max(Duration::from_millis(1))
    }
}

impl Service for Hello {
    type Conn = Conn;

    fn accept(&mut self, _peer: &Peer, now: Instant) -> Conn {
        Conn {
            next: 0,
            state: State::Ready {
                until: self.wait(now),
            },
        }
    }

    fn advance(&mut self, conn: &mut Conn, io: &mut Io<'_>) -> Result<(), Error> {
        loop {
            match conn.state {
                State::Ready { .. } => {
                    let message = format!("hello{}", conn.next);
                    if !io.down.tx.has_room(message.len()) {
                        return Ok(());
                    }
                    io.down.tx.put(message.as_bytes(), io.cx.pool);
                    conn.next += 1;
                    conn.state = State::Awaiting {
                        until: self.wait(io.cx.now),
                    };
                }
                State::Awaiting { .. } if !io.down.rx.is_empty() => {
                    io.down.rx.clear();
                    if conn.next == self.config.count.get() {
                        io.close();
                        return Ok(());
                    }
                    conn.state = State::Pausing {
                        until: io.cx.now + self.config.interval,
                    };
                }
                // A client that will not reply any more gets no more messages, whatever it said
                // during a pause.
                State::Awaiting { .. } | State::Pausing { .. } if io.down.eof => {
                    io.close();
                    return Ok(());
                }
                State::Awaiting { until } if io.cx.now >= until && !io.drained => {
                    return Err(Error::TimedOut(Phase::Idle));
                }
                State::Awaiting { ref mut until } => {
                    if io.drained {
                        *until = self.wait(io.cx.now);
                    }
                    return Ok(());
                }
                State::Pausing { until } => {
                    io.down.rx.clear();
                    if io.cx.now < until {
                        return Ok(());
                    }
                    conn.state = State::Ready {
                        until: self.wait(io.cx.now),
                    };
                }
            }
        }
    }

    fn state(&self, conn: &Conn) -> &'static str {
        match conn.state {
            State::Ready { .. } => "Ready",
            State::Awaiting { .. } => "Awaiting",
            State::Pausing { .. } => "Pausing",
        }
    }

    fn deadline(&self, conn: &Conn) -> Instant {
        match conn.state {
            State::Ready { until } | State::Awaiting { until } | State::Pausing { until } => until,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::bench::Bench;
    use std::num::NonZeroU32;

    fn bench(count: u32) -> Bench<Hello> {
        let count = NonZeroU32::new(count).expect("at least one");
        Bench::new(Hello::new(&HelloConfig {
            count,
            ..HelloConfig::default()
        }))
    }

    #[test]
    fn each_message_waits_for_a_reply_and_then_for_the_interval() {
        let mut bench = bench(3);
        bench
            .expect(b"hello0")
            .later(Duration::from_secs(2))
            .expect(b"");
        bench
            .peer_sends(b"bye")
            .expect(b"")
            .later(Duration::from_millis(499))
            .expect(b"");
        bench.later(Duration::from_millis(1)).expect(b"hello1");
        bench
            .peer_sends(b"byebye")
            .later(Duration::from_millis(500))
            .expect(b"hello2")
            .expect_open();
        bench.peer_sends(b"byebye").expect(b"").expect_closed();
    }

    #[test]
    fn what_comes_during_a_pause_is_no_reply_to_the_next_message() {
        let mut bench = bench(3);
        bench
            .expect(b"hello0")
            .peer_sends(b"bye")
            .peer_sends(b"bye");
        bench
            .later(Duration::from_millis(500))
            .expect(b"hello1")
            .later(Duration::from_secs(1))
            .expect(b"");
    }

    #[test]
    fn a_silent_client_is_dropped() {
        let mut bench = bench(3);
        bench.later(Duration::from_secs(60));
        assert!(matches!(bench.failed, Some(Error::TimedOut(Phase::Idle))));
    }

    #[test]
    fn the_end_together_with_what_comes_during_a_pause_is_seen_at_once() {
        let mut bench = bench(3);
        bench.expect(b"hello0").peer_sends(b"by");
        bench
            .peer_sends_and_closes(b"e")
            .expect(b"")
            .expect_closed();
    }

    #[test]
    fn a_client_that_closes_is_closed() {
        let mut bench = bench(3);
        bench
            .expect(b"hello0")
            .peer_closes()
            .expect(b"")
            .expect_closed();
    }
}
