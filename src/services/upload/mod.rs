//! The upload server: a challenge, perhaps a login, then one file after the other into one folder.
//!
//! ```text
//! Greeting ─▶ Answer ──right──▶ Login ─▶ LoggingIn ──right──▶ Header ◀────────────────────────────┐
//!                │                           │    │  │                                            │
//!                └── wrong: dropped, or ─────┘    │  ├──small, plain──▶ Small ──all bytes──▶ Storing
//!                    {"flag": false} and closed   │  └──▶ Beginning ──▶ Small or Body ──all bytes──▲
//!                                                 │                          │                     │
//!                                                 │                          └──to be answered─▶ answers, told in order
//!                                                 │          Refusing ◀── what cannot come, once all before is answered
//!                                                 └── the client's end ──▶ closed
//! ```
//!
//! The rules:
//! 1. A challenge is used once: there is no second try on a connection.
//! 2. What was begun is bounded as a whole (a handshake with its login, a header) or by its rate (a
//!    body): a byte from time to time does not keep a connection.
//! 3. No call waits for the disk here: `Beginning`, `Body` and `Storing` wait for jobs
//!    ([`crate::jobs`]), each of which has [`UploadConfig::store_timeout`]. A job that failed for want
//!    of descriptors is asked for again within that time.
//! 4. Plain files are stored in their order: nothing else of a connection is looked at while they
//!    are. Small ones that came together are stored by one job, at most
//!    [`UploadConfig::files_per_turn_max`] of them: a job for each would cost more than the file.
//! 5. A file with `"ack"` goes on to `answers` with its last byte, and the next one is taken while it
//!    is made sure, up to [`UploadConfig::unanswered_files_max`] of them. A plain file among those
//!    waits until they are answered.
//! 6. A file that is refused before its last byte came ends the connection: nobody knows how much of
//!    it follows. What does is read and thrown away, so that the client comes to read why
//!    ([`Io::close`]). One that is refused after its last byte ends nothing.
//!
//! Here: how the steps of a connection follow each other, what becomes of refusals and of files that
//! are stored, and whom the service waits for. The steps themselves are in `entering` (handshake and
//! login) and `receiving` (headers and bytes).
//!
//! The files in reading order: this one, `state`, `entering`, `accounts` (who may log in), `owner`
//! (whose a file is), `receiving`, `announced`, `store` (the folder), `beginning` (what is asked of the
//! disk before the bytes of a file), `incoming` (the bytes of a large file), `storing` (whole files and
//! their names), `answers` (those, up to their answers), `resuming` and `kept` (half-received files),
//! `room` (how much may still come), `walk`, `refusal`, `told`.

use std::io;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::buffer::Held;
use crate::config::UploadConfig;
use crate::disk::Disk;
use crate::ending::{Ending, Error, Phase};
use crate::metrics::{Of, UploadMetrics};
use crate::service::{Cx, Io, Peer, Service, Waiter};
use crate::wire::challenge::{Handshake, Secret};
use crate::wire::upload::is_blank;

mod accounts;
mod announced;
mod answers;
mod beginning;
mod entering;
mod incoming;
mod kept;
mod owner;
mod receiving;
mod refusal;
mod resuming;
mod room;
mod state;
mod store;
mod storing;
#[cfg(test)]
mod tests;
mod told;
mod walk;

use accounts::Accounts;
use announced::Announced;
use answers::{Answers, was_refused};
use owner::Owner;
use refusal::Refusal;
use state::{State, Step};
use store::Store;
use storing::Storing;
use told::Told;

/// Bytes of the longest refusal: a sentence with a name, each byte of it escaped. That of a client's
/// own text is cut to far less.
const REFUSAL_BYTES_MAX: usize = 4096;

/// The upload service.
pub struct Upload {
    handshake: Handshake,
    secret: Secret,
    accounts: Option<Accounts>,
    file_bytes_max: u64,
    header_bytes_max: usize,
    files_per_turn_max: usize,
    unanswered_files_max: usize,
    handshake_timeout: Duration,
    idle_timeout: Duration,
    body_rate_min: Option<NonZeroU32>,
    store: Store,
    user_folders: bool,
    keeps_paths: bool,
    told: Told,
    /// Files whose sessions ended while they were being stored.
    left: Vec<(Peer, Box<Storing>)>,
}

/// One connection.
pub struct Conn {
    owner: Rc<Owner>,
    state: State,
    /// Small files that came whole, and are stored before anything is waited for.
    whole: Vec<(Announced, Box<[u8]>)>,
    /// Files that are to be answered.
    answers: Answers,
    /// Bytes of those, and of the header that is gathered, as they were last counted.
    held: Held,
}

impl Conn {
    /// Bytes that it holds outside of pages.
    fn bytes_held(&self) -> usize {
        let header = match &self.state {
            State::Header { gathered, .. } => gathered.capacity(),
            _ => 0,
        };
        let files = self.whole.iter().map(|(_, bytes)| bytes.len());
        header + files.sum::<usize>() + self.answers.bytes_held()
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
            unanswered_files_max: config.unanswered_files_max,
            handshake_timeout: config.handshake_timeout,
            idle_timeout: config.idle_timeout,
            body_rate_min: config.body_rate_min,
            store: Store::open(config, disk)?,
            user_folders: config.user_folders,
            keeps_paths: config.keep_paths,
            told: Told {
                dir: std::path::absolute(&config.dir)?,
                on_stored: config.on_stored.clone(),
            },
            left: Vec::new(),
        })
    }

    fn idle(&self, now: Instant) -> State {
        State::Header {
            gathered: Vec::new(),
            until: now + self.idle_timeout,
        }
    }

    /// Takes files as far as the session's share of work goes, and tells what became of those
    /// before.
    fn take_files(&mut self, conn: &mut Conn, io: &mut Io<'_>) -> Result<(), Error> {
        loop {
            self.hear(conn, io);
            self.take_more(conn, io)?;
            let files_max = self.store.files_max(self.files_per_turn_max);
            conn.answers.start(&mut self.store, files_max, io);
            if io.cx.work.is_spent() || !conn.answers.may_send(io) {
                return Ok(());
            }
        }
    }

    /// Tells what became of files that are to be answered.
    fn hear(&mut self, conn: &mut Conn, io: &mut Io<'_>) {
        if conn.answers.is_empty() {
            return;
        }
        let waiter = Waiter::Session(io.id);
        conn.answers.hear(&mut self.store, waiter, &mut io.cx);
        if conn.answers.send(&self.told, &conn.owner.peer, io) {
            // Until now it was not the client who was waited for.
            self.client_is_told(&mut conn.state, io.cx.now);
        }
        if let Some(refusal) = conn.answers.is_late(&self.store, io.cx.now) {
            self.cut(conn, io);
            let refusing = self.refusing(refusal, io.cx.now);
            let state = std::mem::replace(&mut conn.state, refusing);
            self.leave(state, &conn.owner.peer, &mut io.cx);
        }
    }

    /// Until now it was not the client who was waited for: its time begins anew.
    fn client_is_told(&self, state: &mut State, now: Instant) {
        let span = match state {
            State::Header { gathered, .. } if !is_blank(gathered) => self.handshake_timeout,
            _ => self.idle_timeout,
        };
        if let State::Header { until, .. }
        | State::Small { until, .. }
        | State::Body { until, .. } = state
        {
            *until = (*until).max(now + span);
        }
    }

    /// Nothing more is waited for of what is being stored.
    fn cut(&mut self, conn: &mut Conn, io: &mut Io<'_>) {
        let left = conn
            .answers
            .cut(&mut self.store, &self.told, &conn.owner.peer, &mut io.cx);
        let peer = &conn.owner.peer;
        self.left
            .extend(left.into_iter().map(|storing| (peer.clone(), storing)));
    }

    fn refusing(&self, refusal: Refusal, now: Instant) -> State {
        State::Refusing {
            refusal,
            until: self.store.until(now),
        }
    }

    fn take_more(&mut self, conn: &mut Conn, io: &mut Io<'_>) -> Result<(), Error> {
        while !io.cx.work.is_spent() {
            let holds_files = !conn.whole.is_empty();
            let step = if conn.whole.len() >= self.store.files_max(self.files_per_turn_max) {
                Ok(Step::Store)
            } else {
                self.step(conn, io)
            };
            match step {
                Err(refusal) if !holds_files => self.refuse(conn, refusal, io)?,
                Ok(Step::Wait) => return Ok(()),
                Ok(Step::Again) => {}
                Ok(Step::Go(next)) => conn.state = next,
                Ok(Step::LoggedIn(name)) => {
                    conn.owner = conn.owner.logged_in(&name, self.user_folders);
                    conn.state = self.idle(io.cx.now);
                }
                // What came whole is stored, whatever came behind it.
                Ok(Step::Store) | Err(_) => {
                    let storing = self.store.store(&mut conn.whole, io);
                    let storing = Box::new(storing.map_err(|refusal| refusal.error)?);
                    let idle = self.idle(io.cx.now);
                    let next = Box::new(std::mem::replace(&mut conn.state, idle));
                    conn.state = State::Storing { storing, next };
                }
            }
        }
        Ok(())
    }

    /// What is to come next cannot. Who gets an answer is told, and so is whoever waits for one to
    /// what was before; others are dropped.
    fn refuse(&mut self, conn: &mut Conn, refusal: Refusal, io: &mut Io<'_>) -> Result<(), Error> {
        if let State::Refusing { .. } = conn.state {
            return Err(refusal.error);
        }
        let refusal = match conn.state.is_answered() {
            Some(false) => refusal.untold(),
            _ => refusal,
        };
        if refusal.code.is_none() && conn.answers.is_empty() {
            return Err(refusal.error);
        }
        let refusing = self.refusing(refusal, io.cx.now);
        let state = std::mem::replace(&mut conn.state, refusing);
        self.leave(state, &conn.owner.peer, &mut io.cx);
        Ok(())
    }

    /// Once all before is answered, tells the client why the next file cannot come, and ends the
    /// connection.
    fn tell_refusal(&self, conn: &mut Conn, io: &mut Io<'_>) -> Result<Step, Refusal> {
        let State::Refusing { refusal, until } = &mut conn.state else {
            return Ok(Step::Wait);
        };
        if !conn.answers.is_empty() {
            return Ok(Step::Wait);
        }
        let Some(answer) = refusal.answer() else {
            // What was told before is sent first.
            if !io.down.tx.is_empty_or_wakes() {
                return Ok(Step::Wait);
            }
            let gone = Refusal::from(Error::Reset(io::ErrorKind::ConnectionAborted));
            return Err(std::mem::replace(refusal, gone));
        };
        if !io.down.tx.has_room(REFUSAL_BYTES_MAX) {
            return Ok(Step::Wait);
        }
        was_refused(refusal, &conn.owner.peer, &mut io.cx);
        let ending = match refusal.error {
            Error::TimedOut(phase) => Ending::TimedOut(phase),
            _ => Ending::Refused,
        };
        *until = io.cx.now;
        answers::put(&answer, io);
        io.close_as(ending);
        Ok(Step::Wait)
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
    fn step(&mut self, conn: &mut Conn, io: &mut Io<'_>) -> Result<Step, Refusal> {
        // A plain file is stored in its turn.
        if conn.state.is_answered() == Some(false) && !conn.answers.is_empty() {
            return Ok(Step::Wait);
        }
        if conn.answers.holds_ready() {
            self.client_is_told(&mut conn.state, io.cx.now);
        }
        match &mut conn.state {
            State::Greeting { until } => Ok(self.greeting(*until, io)),
            State::Answer { challenge, until } => {
                let answered = self.answer(challenge, *until, io);
                answered.map_err(|error| Refusal::from(error).untold())
            }
            State::Login { scanner, until } => {
                let login = Self::login(scanner, *until, io);
                login.map_err(|error| Refusal::from(error).untold())
            }
            State::LoggingIn { attempt, until } => {
                let logged_in = self.logging_in(attempt, *until, io);
                logged_in.map_err(|error| Refusal::from(error).untold())
            }
            State::Header { .. } => self.header(conn, io),
            State::Small { .. } => self.small(conn, io),
            State::Beginning { .. } => self.beginning(conn, io),
            State::Body { .. } => self.body(conn, io),
            State::Storing { .. } => self.storing(conn, io),
            State::Refusing { .. } => self.tell_refusal(conn, io),
        }
    }

    /// Files have been asked for to be stored. The state that goes on, once they are.
    fn storing(&mut self, conn: &mut Conn, io: &mut Io<'_>) -> Result<Step, Refusal> {
        let State::Storing { storing, next } = &mut conn.state else {
            return Ok(Step::Wait);
        };
        let (since, now) = (storing.since, io.cx.now);
        let waiter = Waiter::Session(io.id);
        let Poll::Ready(result) = self.stored(storing, &conn.owner.peer, waiter, &mut io.cx) else {
            let State::Storing { storing, .. } = &conn.state else {
                return Ok(Step::Wait);
            };
            let in_time = self.store.in_time(&storing.files[0].name, since, now);
            in_time.map_err(Refusal::untold)?;
            return Ok(Step::Wait);
        };
        next.prolong(now - since);
        let idle = self.idle(now);
        conn.state = std::mem::replace(&mut **next, idle); // the ticket is used up
        result.map_err(|error| Refusal::from(error).untold())?;
        if io.cx.draining && conn.state.is_between_files() {
            io.close();
            return Ok(Step::Wait);
        }
        Ok(Step::Again)
    }

    /// Tells of the files that were stored; why the next one was not. Those for which there were no
    /// descriptors are asked for again, for `waiter`.
    fn stored(
        &mut self,
        storing: &mut Storing,
        peer: &Peer,
        waiter: Waiter,
        cx: &mut Cx<'_>,
    ) -> Poll<Result<(), Error>> {
        loop {
            if let Err(refusal) = self.store.retry(storing, waiter, cx) {
                return Poll::Ready(Err(refusal.error));
            }
            let Poll::Ready(outcome) = self.store.stored(storing, cx) else {
                return Poll::Pending;
            };
            let names = outcome.names.iter();
            for (file, name) in storing.files.drain(..names.len()).zip(names) {
                self.told.stored(&file, name, None, cx);
            }
            match outcome.failed {
                Some(refusal) if outcome.is_over => return Poll::Ready(Err(refusal.error)),
                Some(refusal) => {
                    log::error!("upload {peer}: {}", refusal.error);
                    storing.files.remove(0);
                }
                None if outcome.is_over => return Poll::Ready(Ok(())),
                None => {}
            }
        }
    }

    fn state_deadline(&self, state: &State) -> Instant {
        match state {
            State::Greeting { until }
            | State::Answer { until, .. }
            | State::Login { until, .. }
            | State::LoggingIn { until, .. }
            | State::Header { until, .. }
            | State::Refusing { until, .. }
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

    /// A connection leaves a state for good.
    fn leave(&mut self, state: State, peer: &Peer, cx: &mut Cx<'_>) {
        match state {
            State::LoggingIn { attempt, .. } => {
                if let Some(accounts) = &mut self.accounts {
                    accounts.give_up(*attempt, peer.clone(), cx);
                }
            }
            State::Beginning { beginning } => self.store.give_up(*beginning, cx),
            State::Body { incoming, .. } => {
                let (partial, bytes) = incoming.give_up(cx);
                self.store.leave(partial, bytes, cx);
            }
            State::Storing { mut storing, .. } => {
                let mut stored = self.stored(&mut storing, peer, Waiter::Service, cx);
                if stored.is_pending()
                    && let Err(refusal) = self.store.hand_over(&mut storing, cx)
                {
                    stored = Poll::Ready(Err(refusal.error));
                }
                self.left(peer.clone(), storing, stored);
            }
            _ => {}
        }
    }
}

impl Service for Upload {
    type Conn = Conn;

    const BEGINS_ALONE: bool = true;

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
            answers: Answers::default(),
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
            State::Refusing { .. } => "Refusing",
            State::Storing { .. } => "Storing",
        }
    }

    fn deadline(&self, conn: &Conn) -> Instant {
        let answers = conn.answers.until(&self.store);
        let waits_for_answers = match &conn.state {
            State::Header { gathered, .. } => is_blank(gathered),
            State::Refusing { .. } => true,
            _ if conn.answers.holds_ready() => true,
            state => state.is_answered() == Some(false),
        };
        match answers {
            Some(until) if waits_for_answers => until,
            Some(until) => until.min(self.state_deadline(&conn.state)),
            None => self.state_deadline(&conn.state),
        }
    }

    fn ended(&mut self, mut conn: Conn, cx: &mut Cx<'_>) {
        let left = conn
            .answers
            .cut(&mut self.store, &self.told, &conn.owner.peer, cx);
        for storing in left {
            self.left.push((conn.owner.peer.clone(), storing));
        }
        self.leave(conn.state, &conn.owner.peer, cx);
    }

    fn turn_ended(&mut self, cx: &mut Cx<'_>) -> bool {
        if let Some(accounts) = &mut self.accounts {
            accounts.turn_ended(cx);
        }
        for (peer, mut storing) in std::mem::take(&mut self.left) {
            let stored = self.stored(&mut storing, &peer, Waiter::Service, cx);
            self.left(peer, storing, stored);
        }
        let is_more = self.store.work(cx);
        let (files, bytes) = self.store.kept.counts();
        cx.counted.partials(files, bytes);
        is_more
    }

    fn turn_deadline(&self) -> Option<Instant> {
        let left = self.left.iter();
        let left = left.filter_map(|(_, storing)| storing.retry_at());
        left.chain(self.store.deadline()).min()
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
