//! The upload server: a challenge, perhaps a login, then one file after the other into one folder.
//!
//! ```text
//! Greeting ─▶ Answer ──right──▶ Login ──right──▶ Header ──whole──▶ Body ──all bytes──▶ stored
//!                │                │              ▲  │                                    │
//!                └── wrong: dropped, or {"flag": false} and closed └── the client's end ─▶ closed │
//!                                                └───────────────────────────────────────┘
//! ```
//!
//! The rules:
//! 1. A challenge is used once: there is no second try on a connection.
//! 2. What was begun is bounded as a whole (a handshake with its login, a header) or by its rate (a
//!    body): a byte from time to time does not keep a connection.
//! 3. A file takes some system calls however small it is, so a client gives way to the others after
//!    [`UploadConfig::files_per_turn_max`] of them, as it does when its share of work is spent.
//!
//! The files in reading order: this one, `store` (partial files, and the names of whole ones).
//!
//! Deliberately not here: answers to `"ack"`, `"sha256"` and `"resume"` of a header. A client that
//! asked for an answer and sees the end of the stream without one knows that this is a plain
//! server.

use std::io;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use super::prolonged;
use crate::config::UploadConfig;
use crate::disk::{Disk, is_out_of_descriptors};
use crate::ending::{Error, Phase};
use crate::metrics::{Of, UploadMetrics};
use crate::service::{Cx, Io, Peer, Service, work};
use crate::wire::challenge::{CHALLENGE_BYTES, Handshake, Secret};
use crate::wire::frame::{self, Frame};
use crate::wire::login::{self, LOGIN_BYTES_MAX, Login, ObjectScanner, UserInfo};
use crate::wire::text::Quoted;
use crate::wire::upload::{FileHeader, SafeName, blanks_before_header, is_blank};

mod store;
#[cfg(test)]
mod tests;

use store::{Incoming, Store};

/// The upload service.
pub struct Upload {
    handshake: Handshake,
    secret: Secret,
    users: Option<UserInfo>,
    file_bytes_max: u64,
    header_bytes_max: usize,
    files_per_turn_max: usize,
    handshake_timeout: Duration,
    idle_timeout: Duration,
    body_rate_min: Option<NonZeroU32>,
    store: Store,
}

/// One connection.
pub struct Conn {
    peer: Peer,
    state: State,
    /// Files that were stored since the others last had their turn.
    stored: usize,
    /// There were no descriptors: when it is tried again, and until then nothing else is.
    retry_at: Option<Instant>,
}

/// How soon what failed for want of descriptors is tried again. Somebody else's connection may end
/// in a moment; meanwhile the client waits as for a slow disk, within the time that its state has.
const RETRY_AFTER: Duration = Duration::from_millis(200);

enum State {
    /// The challenge is to be sent.
    Greeting { until: Instant },
    /// It was; its answer is awaited.
    Answer {
        challenge: [u8; CHALLENGE_BYTES],
        until: Instant,
    },
    /// Name and password are awaited.
    Login {
        scanner: ObjectScanner,
        until: Instant,
    },
    /// The header of the next file is awaited. What came of it is gathered here, because it may be
    /// longer than a page; while that is nothing but blanks, the connection is idle.
    Header { gathered: Vec<u8>, until: Instant },
    /// The bytes of a file are coming.
    Body {
        incoming: Box<Incoming>,
        until: Instant,
    },
}

/// What a state came to.
enum Step {
    /// It waits: for more input, or for the end that it asked for.
    Wait,
    /// The next state goes on at once.
    Go(State),
    /// The next state goes on in another turn, or not at all, as was asked for.
    Rest(State),
}

impl Upload {
    /// A service as configured. Makes the folder, with its parents, and clears away what a crash
    /// left in it, unless another server uses it.
    ///
    /// # Errors
    /// The folder cannot be made or opened; the text names it.
    pub fn new(config: &UploadConfig, disk: &mut dyn Disk) -> io::Result<Self> {
        Ok(Self {
            handshake: config.handshake,
            secret: config.secret.secret().clone(),
            users: config.login.clone(),
            file_bytes_max: config.file_bytes_max,
            header_bytes_max: config.header_bytes_max,
            files_per_turn_max: config.files_per_turn_max,
            handshake_timeout: config.handshake_timeout,
            idle_timeout: config.idle_timeout,
            body_rate_min: config.body_rate_min,
            store: Store::open(&config.dir, config.overwrite, disk)?,
        })
    }

    fn idle(&self, now: Instant) -> State {
        State::Header {
            gathered: Vec::new(),
            until: now + self.idle_timeout,
        }
    }

    fn after_handshake(&self, until: Instant, now: Instant) -> State {
        match self.users {
            Some(_) => State::Login {
                scanner: ObjectScanner::new(LOGIN_BYTES_MAX),
                until,
            },
            None => self.idle(now),
        }
    }

    fn greeting(&self, until: Instant, io: &mut Io<'_>) -> Step {
        let mut challenge = [0; CHALLENGE_BYTES];
        io.cx.disk.entropy(&mut challenge);
        io.down.tx.put(&challenge, io.cx.pool);
        Step::Go(State::Answer { challenge, until })
    }

    fn answer(
        &self,
        challenge: &[u8; CHALLENGE_BYTES],
        until: Instant,
        io: &mut Io<'_>,
    ) -> Result<Step, Error> {
        let answer_bytes = self.handshake.answer_bytes();
        let Some(answer) = io.down.rx.bytes().get(..answer_bytes) else {
            let begun = !io.down.rx.is_empty();
            return wait(io, until, Phase::Handshake, begun, || "the answer".into());
        };
        if !self.handshake.verify(&self.secret, challenge, answer) {
            return Err(Error::Refused("a wrong answer to the challenge".to_owned()));
        }
        io.down.rx.consume(answer_bytes);
        Ok(Step::Go(self.after_handshake(until, io.cx.now)))
    }

    fn login(
        &self,
        scanner: &mut ObjectScanner,
        until: Instant,
        peer: &Peer,
        io: &mut Io<'_>,
    ) -> Result<Step, Error> {
        let bytes = io.down.rx.bytes();
        let scanned = scanner.scan(bytes);
        let Some(end) = scanned.map_err(|error| Error::Protocol(error.to_string()))? else {
            let begun = !bytes.is_empty();
            return wait(io, until, Phase::Handshake, begun, || "the login".into());
        };
        let login =
            Login::parse(&bytes[..end]).map_err(|error| Error::Protocol(error.to_string()))?;
        io.down.rx.consume(end);
        let users = self.users.as_ref();
        if !users.is_some_and(|users| users.verify(&login)) {
            log::info!("upload {peer}: login of {} refused", Quoted(&login.user));
            io.down.tx.put(login::REFUSED, io.cx.pool);
            io.close();
            return Ok(Step::Wait);
        }
        io.down.tx.put(login::ACCEPTED, io.cx.pool);
        Ok(Step::Go(self.idle(io.cx.now)))
    }

    fn header(
        &mut self,
        gathered: &mut Vec<u8>,
        until: &mut Instant,
        io: &mut Io<'_>,
    ) -> Result<Step, Error> {
        loop {
            let limit = self.header_bytes_max;
            let missing = match blanks_before_header(gathered, limit) {
                // One at a time: what follows a blank may be the whole header.
                None => 1,
                Some(blanks) => {
                    gathered.drain(..blanks);
                    match frame::decode(gathered, limit) {
                        Err(error) => return Err(Error::Protocol(error.to_string())),
                        Ok(Frame::Partial { missing }) => missing,
                        Ok(Frame::Complete { payload, .. }) => return self.begin(payload, io),
                    }
                }
            };
            let rx = &mut io.down.rx;
            let count = missing.min(rx.len());
            let was_begun = !is_blank(gathered);
            if count == 0 {
                let phase = if was_begun { Phase::Head } else { Phase::Idle };
                return wait(io, *until, phase, was_begun, || "a file header".into());
            }
            gathered.extend_from_slice(&rx.bytes()[..count]);
            rx.consume(count);
            if !was_begun && !is_blank(gathered) {
                *until = io.cx.now + self.handshake_timeout;
            }
        }
    }

    /// Makes the file that a header announces, or says why not.
    fn begin(&mut self, header: &[u8], io: &mut Io<'_>) -> Result<Step, Error> {
        let header = FileHeader::parse(header, self.file_bytes_max)
            .map_err(|error| Error::Protocol(error.to_string()))?;
        let name = SafeName::reduce_portable(&header.filename)
            .map_err(|error| Error::Refused(format!("{}: {error}", Quoted(&header.filename))))?;
        io.cx.work.charge(work::FILE_NS);
        let incoming = self.store.begin(name, header.size_bytes, io)?;
        Ok(Step::Go(State::Body {
            incoming: Box::new(incoming),
            until: io.cx.now + self.idle_timeout,
        }))
    }

    fn body(
        &self,
        incoming: &mut Incoming,
        until: &mut Instant,
        stored: &mut usize,
        peer: &Peer,
        io: &mut Io<'_>,
    ) -> Result<Step, Error> {
        let count = incoming.write(io)?;
        let (rate_min, most) = (self.body_rate_min, self.idle_timeout);
        *until = prolonged(*until, count, rate_min, io.cx.now, most);
        let (size_bytes, written_bytes) = (incoming.size_bytes, incoming.written_bytes);
        if !incoming.is_whole() {
            return wait(io, *until, Phase::Body, true, || {
                let name = &incoming.name;
                format!("{name} after {written_bytes} of {size_bytes} bytes")
            });
        }
        io.cx.work.charge(work::FILE_NS);
        let name = self.store.keep(incoming, io.cx.disk)?;
        io.cx.counted.stored(size_bytes);
        let seconds = (io.cx.now - incoming.began).as_secs_f64();
        log::info!("upload {peer}: stored {name}, {size_bytes} bytes in {seconds:.3} s");
        let next = self.idle(io.cx.now);
        if io.cx.draining {
            io.close();
            return Ok(Step::Rest(next));
        }
        *stored += 1;
        if *stored >= self.files_per_turn_max {
            *stored = 0;
            io.again();
            return Ok(Step::Rest(next));
        }
        Ok(Step::Go(next))
    }

    /// Takes a connection as far as the facts allow.
    fn go_on(&mut self, conn: &mut Conn, io: &mut Io<'_>) -> Result<(), Error> {
        let Conn {
            peer,
            state,
            stored,
            ..
        } = conn;
        while !io.cx.work.is_spent() {
            let step = match state {
                State::Greeting { until } => self.greeting(*until, io),
                State::Answer { challenge, until } => self.answer(challenge, *until, io)?,
                State::Login { scanner, until } => self.login(scanner, *until, peer, io)?,
                State::Header { gathered, until } => self.header(gathered, until, io)?,
                State::Body { incoming, until } => self.body(incoming, until, stored, peer, io)?,
            };
            match step {
                Step::Wait => return Ok(()),
                Step::Go(next) => *state = next,
                Step::Rest(next) => {
                    *state = next;
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

impl Service for Upload {
    type Conn = Conn;

    fn counts() -> Of {
        Of::Upload(UploadMetrics::default())
    }

    fn accept(&mut self, peer: &Peer, now: Instant) -> Conn {
        let until = now + self.handshake_timeout;
        let state = match self.handshake {
            Handshake::None => self.after_handshake(until, now),
            _ => State::Greeting { until },
        };
        Conn {
            peer: peer.clone(),
            state,
            stored: 0,
            retry_at: None,
        }
    }

    fn advance(&mut self, conn: &mut Conn, io: &mut Io<'_>) -> Result<(), Error> {
        if conn.retry_at.is_some_and(|at| io.cx.now < at) {
            return Ok(());
        }
        conn.retry_at = None;
        let until = self.deadline(conn);
        match self.go_on(conn, io) {
            Err(Error::Disk(_, error))
                if is_out_of_descriptors(&error) && io.cx.now < until && !io.cx.draining =>
            {
                conn.retry_at = Some(io.cx.now + RETRY_AFTER);
                Ok(())
            }
            result => result,
        }
    }

    fn deadline(&self, conn: &Conn) -> Instant {
        let until = match conn.state {
            State::Greeting { until }
            | State::Answer { until, .. }
            | State::Login { until, .. }
            | State::Header { until, .. }
            | State::Body { until, .. } => until,
        };
        conn.retry_at.map_or(until, |at| at.min(until))
    }
    fn ended(&mut self, conn: Conn, cx: &mut Cx<'_>) {
        let State::Body { incoming, .. } = conn.state else {
            return;
        };
        if let Err(error) = self.store.discard(&incoming, cx.disk) {
            let path = incoming.partial.display();
            log::error!("upload {}: {path} stays behind: {error}", conn.peer);
        }
    }
}

/// More must come: closes a connection on which nothing more can, drops one that ends or exceeds
/// its time within something that it began.
fn wait(
    io: &mut Io<'_>,
    until: Instant,
    phase: Phase,
    begun: bool,
    what: impl Fn() -> String,
) -> Result<Step, Error> {
    if io.down.eof && begun {
        // What was said before is still sent: the end may have come together with what it answers.
        if !io.down.tx.is_empty_or_wakes() {
            return Ok(Step::Wait);
        }
        return Err(Error::Protocol(format!(
            "the stream ended within {}",
            what()
        )));
    }
    if io.down.eof || (io.cx.draining && !begun) {
        io.close();
    } else if io.cx.now >= until {
        return Err(Error::TimedOut(phase));
    }
    Ok(Step::Wait)
}
