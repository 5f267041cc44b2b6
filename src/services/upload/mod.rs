//! The upload server: a challenge, perhaps a login, then one file after the other into one folder.
//!
//! ```text
//! Greeting ─▶ Answer ──right──▶ Login ─▶ LoggingIn ──right──▶ Header ◀──────────────────┐
//!                │                           │    │  │                                  │
//!                └── wrong: dropped, or ─────┘    │  ├──small──▶ Small ──all bytes──▶ Storing
//!                    {"flag": false} and closed   │  └──▶ Beginning ──▶ Body ──all bytes──▲
//!                                                 └── the client's end ──▶ closed
//! ```
//!
//! The rules:
//! 1. A challenge is used once: there is no second try on a connection.
//! 2. What was begun is bounded as a whole (a handshake with its login, a header) or by its rate (a
//!    body): a byte from time to time does not keep a connection.
//! 3. No call waits for the disk here: `Beginning`, `Body` and `Storing` wait for jobs
//!    ([`crate::jobs`]), each of which has [`UploadConfig::store_timeout`]. What is asked for in an
//!    order is stored in it: nothing else of a connection is looked at while files are stored. A
//!    job that failed for want of descriptors is asked for again within that time.
//! 4. Small files that came together are stored by one job, at most
//!    [`UploadConfig::files_per_turn_max`] of them: a job for each would cost more than the file.
//!
//! A long file, since it is one machine.
//!
//! The files in reading order: this one, `accounts` (who may log in), `incoming` (the bytes of a large file), `store` (partial
//! files, and the names of whole ones).
//!
//! Deliberately not here: answers to `"ack"`, `"sha256"` and `"resume"` of a header. A client that
//! asked for an answer and sees the end of the stream without one knows that this is a plain
//! server.

use std::io;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::prolonged;
use crate::buffer::{Held, PAGE_BYTES};
use crate::config::UploadConfig;
use crate::disk::Disk;
use crate::ending::{Error, Phase};
use crate::hooks::Hook;
use crate::metrics::{Of, UploadMetrics};
use crate::service::{Cx, Io, Peer, Service, Waiter, work};
use crate::wire::challenge::{CHALLENGE_BYTES, Handshake, Secret};
use crate::wire::frame::{self, Frame};
use crate::wire::login::{self, LOGIN_BYTES_MAX, Login, ObjectScanner};
use crate::wire::text::Quoted;
use crate::wire::upload::{FileHeader, SafeName, blanks_before_header, is_blank};

mod accounts;
mod incoming;
mod owner;
mod store;
#[cfg(test)]
mod tests;

use accounts::{Accounts, Attempt, Verdict};
use incoming::Incoming;
use owner::{Owner, StoredFile};
use store::{Announced, Beginning, Store, Storing};

/// Bytes of a file that is stored by one job: they always fit the page that they come in. A larger
/// one is, too, if it is here already.
const SMALL_BYTES_MAX: u64 = PAGE_BYTES as u64;

/// The upload service.
pub struct Upload {
    handshake: Handshake,
    secret: Secret,
    accounts: Option<Accounts>,
    file_bytes_max: u64,
    header_bytes_max: usize,
    files_per_turn_max: usize,
    handshake_timeout: Duration,
    idle_timeout: Duration,
    body_rate_min: Option<NonZeroU32>,
    store: Store,
    user_folders: bool,
    on_stored: Option<Hook>,
    /// The path of the folder, for those who are told of files in it.
    dir: PathBuf,
    /// Files whose sessions ended while they were being stored.
    left: Vec<(Peer, Box<Storing>)>,
}

/// One connection.
pub struct Conn {
    owner: Rc<Owner>,
    state: State,
    /// Small files that came whole, and are stored before anything is waited for.
    whole: Vec<(Announced, Box<[u8]>)>,
    /// Bytes of those, and of the header that is gathered, as they were last counted.
    held: Held,
}

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
    /// They are being checked.
    LoggingIn {
        attempt: Box<Attempt>,
        until: Instant,
    },
    /// The header of the next file is awaited. What came of it is gathered here, because it may be
    /// longer than a page; while that is nothing but blanks, the connection is idle.
    Header { gathered: Vec<u8>, until: Instant },
    /// The bytes of a small file are coming; so many of them are here.
    Small {
        announced: Box<Announced>,
        arrived: usize,
        until: Instant,
    },
    /// The disk is asked whether there is room for a file, and to make it.
    Beginning { beginning: Box<Beginning> },
    /// The bytes of a file are coming.
    Body {
        incoming: Box<Incoming>,
        until: Instant,
    },
    /// Files are being stored; then it goes on with the next state.
    Storing {
        storing: Box<Storing>,
        next: Box<State>,
    },
}

/// What a state came to.
enum Step {
    /// It waits: for more input, or for the end that it asked for.
    Wait,
    /// The next state goes on at once.
    Go(State),
    /// This user is logged in.
    LoggedIn(Box<str>),
    /// It has become another state, which goes on at once.
    Again,
    /// The files that came whole are stored first; then this state goes on.
    Store,
}

impl Conn {
    /// Bytes that it holds outside of pages.
    fn bytes_held(&self) -> usize {
        let header = match &self.state {
            State::Header { gathered, .. } => gathered.capacity(),
            _ => 0,
        };
        let files = self.whole.iter().map(|(_, bytes)| bytes.len());
        header + files.sum::<usize>()
    }
}

impl State {
    /// Whether a client that is told nothing more would miss nothing.
    fn is_between_files(&self) -> bool {
        matches!(self, State::Header { gathered, .. } if is_blank(gathered))
    }

    /// The time that the disk took is not the client's.
    fn prolong(&mut self, by: Duration) {
        if let State::Header { until, .. } | State::Small { until, .. } = self {
            *until += by;
        }
    }
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
            accounts: Accounts::new(config),
            file_bytes_max: config.file_bytes_max,
            header_bytes_max: config.header_bytes_max,
            files_per_turn_max: config.files_per_turn_max,
            handshake_timeout: config.handshake_timeout,
            idle_timeout: config.idle_timeout,
            body_rate_min: config.body_rate_min,
            store: Store::open(&config.dir, config.overwrite, config.store_timeout, disk)?,
            user_folders: config.user_folders,
            on_stored: config.on_stored.clone(),
            dir: std::path::absolute(&config.dir)?,
            left: Vec::new(),
        })
    }

    fn idle(&self, now: Instant) -> State {
        State::Header {
            gathered: Vec::new(),
            until: now + self.idle_timeout,
        }
    }

    fn after_handshake(&self, until: Instant, now: Instant) -> State {
        match self.accounts {
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

    fn login(scanner: &mut ObjectScanner, until: Instant, io: &mut Io<'_>) -> Result<Step, Error> {
        let bytes = io.down.rx.bytes();
        let scanned = scanner.scan(bytes);
        let Some(end) = scanned.map_err(|error| Error::Protocol(error.to_string()))? else {
            let begun = !bytes.is_empty();
            return wait(io, until, Phase::Handshake, begun, || "the login".into());
        };
        let login =
            Login::parse(&bytes[..end]).map_err(|error| Error::Protocol(error.to_string()))?;
        io.down.rx.consume(end);
        Ok(Step::Go(State::LoggingIn {
            attempt: Box::new(Attempt::new(login)),
            until,
        }))
    }

    fn logging_in(
        &mut self,
        attempt: &mut Attempt,
        until: Instant,
        io: &mut Io<'_>,
    ) -> Result<Step, Error> {
        // Invariant: nobody logs in where there are no accounts.
        let accounts = self.accounts.as_mut().expect("accounts");
        match accounts.judge(attempt, self.store.folder(), io)? {
            Poll::Pending if io.cx.now >= until => Err(Error::TimedOut(Phase::Handshake)),
            Poll::Pending => Ok(Step::Wait),
            Poll::Ready(Verdict::Right) => {
                io.down.tx.put(login::ACCEPTED, io.cx.pool);
                Ok(Step::LoggedIn(attempt.user().into()))
            }
            Poll::Ready(Verdict::Wrong) => {
                io.down.tx.put(login::REFUSED, io.cx.pool);
                io.close();
                Ok(Step::Wait)
            }
        }
    }

    /// Takes files as far as the session's share of work goes.
    fn take_files(&mut self, conn: &mut Conn, io: &mut Io<'_>) -> Result<(), Error> {
        let Conn {
            owner,
            state,
            whole,
            ..
        } = conn;
        while !io.cx.work.is_spent() {
            let holds_files = !whole.is_empty();
            let step = if whole.len() >= self.store.files_max(self.files_per_turn_max) {
                Ok(Step::Store)
            } else {
                self.step(state, whole, owner, io)
            };
            match step {
                Err(error) if !holds_files => return Err(error),
                Ok(Step::Wait) => return Ok(()),
                Ok(Step::Again) => {}
                Ok(Step::Go(next)) => *state = next,
                Ok(Step::LoggedIn(name)) => {
                    *owner = owner.logged_in(&name, self.user_folders);
                    *state = self.idle(io.cx.now);
                }
                // What came whole is stored, whatever came behind it.
                Ok(Step::Store) | Err(_) => {
                    let storing = Box::new(self.store.store(whole, io)?);
                    let idle = self.idle(io.cx.now);
                    let next = Box::new(std::mem::replace(state, idle));
                    *state = State::Storing { storing, next };
                }
            }
        }
        Ok(())
    }

    fn header(
        &mut self,
        (gathered, until): (&mut Vec<u8>, &mut Instant),
        owner: &Rc<Owner>,
        holds_files: bool,
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
                        Ok(Frame::Complete { payload, .. }) => {
                            io.cx.work.charge(work::FILE_NS);
                            let waits = io.down.rx.len();
                            let now = io.cx.now;
                            return self.announced(payload, waits, owner, now).map(Step::Go);
                        }
                    }
                }
            };
            let rx = &mut io.down.rx;
            let count = missing.min(rx.len());
            let was_begun = !is_blank(gathered);
            if count == 0 && holds_files {
                return Ok(Step::Store);
            }
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

    /// The state for the file that a header announces, or why there is none. So many bytes wait
    /// behind the header.
    fn announced(
        &self,
        header: &[u8],
        waits: usize,
        owner: &Rc<Owner>,
        now: Instant,
    ) -> Result<State, Error> {
        let header = FileHeader::parse(header, self.file_bytes_max)
            .map_err(|error| Error::Protocol(error.to_string()))?;
        let name = SafeName::reduce_portable(&header.filename)
            .map_err(|error| Error::Refused(format!("{}: {error}", Quoted(&header.filename))))?;
        let announced = Announced {
            name,
            size_bytes: header.size_bytes,
            began: now,
            owner: Rc::clone(owner),
        };
        Ok(
            match header.size_bytes <= SMALL_BYTES_MAX.max(waits as u64) {
                true => State::Small {
                    announced: Box::new(announced),
                    arrived: 0,
                    until: now + self.idle_timeout,
                },
                false => State::Beginning {
                    beginning: Box::new(Beginning::new(announced, now)),
                },
            },
        )
    }

    fn small(
        &self,
        announced: &Announced,
        arrived: &mut usize,
        until: &mut Instant,
        whole: &mut Vec<(Announced, Box<[u8]>)>,
        io: &mut Io<'_>,
    ) -> Result<Step, Error> {
        let Announced {
            name, size_bytes, ..
        } = announced;
        let rx = &mut io.down.rx;
        let size = *size_bytes as usize;
        let now_here = rx.len().min(size);
        let more = now_here - std::mem::replace(arrived, now_here);
        let (rate_min, most) = (self.body_rate_min, self.idle_timeout);
        *until = prolonged(*until, more, rate_min, io.cx.now, most);
        if now_here < size && !whole.is_empty() {
            return Ok(Step::Store);
        }
        if now_here < size {
            return wait(io, *until, Phase::Body, true, || {
                format!("{name} after {now_here} of {size_bytes} bytes")
            });
        }
        whole.push((announced.clone(), rx.bytes()[..size].into()));
        rx.consume(size);
        Ok(Step::Go(self.idle(io.cx.now)))
    }

    fn beginning(
        &mut self,
        beginning: &mut Beginning,
        holds_files: bool,
        io: &mut Io<'_>,
    ) -> Result<Step, Error> {
        if holds_files {
            return Ok(Step::Store);
        }
        let Poll::Ready(partial) = self.store.begin(beginning, io)? else {
            return Ok(Step::Wait);
        };
        Ok(Step::Go(State::Body {
            incoming: Box::new(Incoming::new(partial)),
            until: io.cx.now + self.idle_timeout,
        }))
    }

    fn body(
        &self,
        incoming: &mut Incoming,
        until: &mut Instant,
        io: &mut Io<'_>,
    ) -> Result<Step, Error> {
        let blocked = incoming.blocked;
        let count = incoming.write(io)?;
        let (rate_min, most) = (self.body_rate_min, self.idle_timeout);
        if let Some(since) = blocked {
            *until += io.cx.now - since; // the time that the disk took is not the client's
        }
        *until = prolonged(*until, count, rate_min, io.cx.now, most);
        let Announced {
            name, size_bytes, ..
        } = &incoming.partial.announced;
        if incoming.is_whole() {
            let storing = self.store.keep(&incoming.partial, io)?;
            return Ok(Step::Go(State::Storing {
                storing: Box::new(storing),
                next: Box::new(self.idle(io.cx.now)),
            }));
        }
        if let Some(since) = incoming.writing_since() {
            self.store.in_time(name, since, io.cx.now)?;
        }
        if incoming.waits_for_disk() {
            return Ok(Step::Wait);
        }
        let arrived_bytes = incoming.arrived_bytes;
        wait(io, *until, Phase::Body, true, || {
            format!("{name} after {arrived_bytes} of {size_bytes} bytes")
        })
    }

    /// Tells of files whose session has ended, once they are stored.
    fn left(&mut self, peer: Peer, storing: Box<Storing>, stored: Poll<Result<(), Error>>) {
        match stored {
            Poll::Pending => self.left.push((peer, storing)),
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => log::error!("upload {peer}: {error}"),
        }
    }

    /// One step of a state.
    fn step(
        &mut self,
        state: &mut State,
        whole: &mut Vec<(Announced, Box<[u8]>)>,
        owner: &Rc<Owner>,
        io: &mut Io<'_>,
    ) -> Result<Step, Error> {
        let holds_files = !whole.is_empty();
        match state {
            State::Greeting { until } => Ok(self.greeting(*until, io)),
            State::Answer { challenge, until } => self.answer(challenge, *until, io),
            State::Login { scanner, until } => Self::login(scanner, *until, io),
            State::LoggingIn { attempt, until } => self.logging_in(attempt, *until, io),
            State::Header { gathered, until } => {
                self.header((gathered, until), owner, holds_files, io)
            }
            State::Small {
                announced,
                arrived,
                until,
            } => self.small(announced, arrived, until, whole, io),
            State::Beginning { beginning } => self.beginning(beginning, holds_files, io),
            State::Body { incoming, until } => self.body(incoming, until, io),
            State::Storing { .. } => self.storing(state, &owner.peer, io),
        }
    }

    /// Files have been asked for to be stored. The state that goes on, once they are.
    fn storing(&self, state: &mut State, peer: &Peer, io: &mut Io<'_>) -> Result<Step, Error> {
        let State::Storing { storing, next } = state else {
            return Ok(Step::Wait);
        };
        let (since, now) = (storing.since, io.cx.now);
        let waiter = Waiter::Session(io.id);
        let Poll::Ready(result) = self.stored(storing, peer, waiter, &mut io.cx) else {
            self.store.in_time(&storing.files[0].name, since, now)?;
            return Ok(Step::Wait);
        };
        next.prolong(now - since);
        let idle = self.idle(now);
        *state = std::mem::replace(&mut **next, idle); // the ticket is used up
        result?;
        if io.cx.draining && state.is_between_files() {
            io.close();
            return Ok(Step::Wait);
        }
        Ok(Step::Again)
    }

    /// Tells of the files that were stored; why the next one was not. Those for which there were no
    /// descriptors are asked for again, for `waiter`.
    fn stored(
        &self,
        storing: &mut Storing,
        peer: &Peer,
        waiter: Waiter,
        cx: &mut Cx<'_>,
    ) -> Poll<Result<(), Error>> {
        if let Err(error) = self.store.retry(storing, waiter, cx) {
            return Poll::Ready(Err(error));
        }
        let Poll::Ready((names, result)) = self.store.stored(storing, cx) else {
            return Poll::Pending;
        };
        for (file, name) in storing.files.drain(..names.len()).zip(names) {
            let (size_bytes, seconds) = (file.size_bytes, (cx.now - file.began).as_secs_f64());
            cx.counted.stored(size_bytes);
            let path = file.owner.path_of(&name);
            let path = path.display();
            log::info!("upload {peer}: stored {path}, {size_bytes} bytes in {seconds:.3} s");
            let stored = StoredFile {
                name: &name,
                size_bytes,
                sha256: None,
            };
            let on_stored = self.on_stored.as_ref();
            file.owner.stored(&stored, &self.dir, on_stored, cx);
        }
        match storing.retry_at() {
            Some(_) => Poll::Pending,
            None => Poll::Ready(result),
        }
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
            owner: Owner::nobody(peer),
            state,
            whole: Vec::new(),
            held: Held::default(),
        }
    }

    fn advance(&mut self, conn: &mut Conn, io: &mut Io<'_>) -> Result<(), Error> {
        let result = self.take_files(conn, io);
        let bytes_held = conn.bytes_held();
        io.cx.pool.hold(&mut conn.held, bytes_held);
        result
    }

    fn state(&self, conn: &Conn) -> &'static str {
        match conn.state {
            State::Greeting { .. } => "Greeting",
            State::Answer { .. } => "Answer",
            State::Login { .. } => "Login",
            State::LoggingIn { .. } => "LoggingIn",
            State::Header { .. } => "Header",
            State::Small { .. } => "Small",
            State::Beginning { .. } => "Beginning",
            State::Body { .. } => "Body",
            State::Storing { .. } => "Storing",
        }
    }

    fn deadline(&self, conn: &Conn) -> Instant {
        match &conn.state {
            State::Greeting { until }
            | State::Answer { until, .. }
            | State::Login { until, .. }
            | State::LoggingIn { until, .. }
            | State::Header { until, .. }
            | State::Small { until, .. } => *until,
            State::Beginning { beginning } => self.store.beginning_until(beginning),
            State::Storing { storing, .. } => self.store.storing_until(storing),
            State::Body { incoming, until } => {
                let disk = incoming
                    .writing_since()
                    .map(|since| self.store.until(since));
                match (disk, incoming.waits_for_disk()) {
                    (Some(disk), true) => disk,
                    (Some(disk), false) => disk.min(*until),
                    (None, _) => *until,
                }
            }
        }
    }

    fn ended(&mut self, conn: Conn, cx: &mut Cx<'_>) {
        match conn.state {
            State::LoggingIn { attempt, .. } => {
                if let Some(accounts) = &mut self.accounts {
                    accounts.give_up(*attempt, conn.owner.peer.clone(), cx);
                }
            }
            State::Beginning { beginning } => self.store.give_up(&beginning, cx),
            State::Body { incoming, .. } => {
                self.store.discard(incoming.partial, cx);
            }
            State::Storing { mut storing, .. } => {
                let mut stored = self.stored(&mut storing, &conn.owner.peer, Waiter::Service, cx);
                if stored.is_pending()
                    && let Err(error) = self.store.hand_over(&mut storing, cx)
                {
                    stored = Poll::Ready(Err(error));
                }
                self.left(conn.owner.peer.clone(), storing, stored);
            }
            _ => {}
        }
    }

    fn turn_ended(&mut self, cx: &mut Cx<'_>) -> bool {
        if let Some(accounts) = &mut self.accounts {
            accounts.turn_ended(cx);
        }
        for (peer, mut storing) in std::mem::take(&mut self.left) {
            let stored = self.stored(&mut storing, &peer, Waiter::Service, cx);
            self.left(peer, storing, stored);
        }
        false
    }

    fn turn_deadline(&self) -> Option<Instant> {
        let left = self.left.iter();
        left.filter_map(|(_, storing)| storing.retry_at()).min()
    }

    fn is_busy(&self) -> bool {
        !self.left.is_empty() || self.accounts.as_ref().is_some_and(Accounts::is_busy)
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
