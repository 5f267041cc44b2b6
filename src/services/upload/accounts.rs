//! Who may upload: the users, the file that they stand in, and the check of a password.
//!
//! ```text
//! Looking ──MD5, or nobody──▶ a verdict
//!    │  └────argon2id───▶ InLine ──its turn──▶ Checking ──the job is done──▶ a verdict
//!    └──too many failures from the address, or too many who wait──▶ refused unchecked
//! ```
//!
//! The rules:
//! 1. The file is looked at again for whoever logs in, once a second at most, by a job. A new one that
//!    is wrong, or gone, changes nothing: the log says why, and the users stay who they were.
//! 2. A password with an argon2id hash is checked by a job: it takes tens of milliseconds and much
//!    memory. One is at work at a time; the others wait, the addresses in turn, at most
//!    [`CHECKS_MAX`] of them ([`crate::shares`]).
//! 3. A check that was begun is finished and counted, also when its client has gone meanwhile: who
//!    hangs up has neither spared a failure nor made room for a second check at once.
//! 4. Failures are counted by address and logged with it. From [`UploadConfig::failures_max`] within
//!    a minute on, nothing more is checked for it until that is over.
//!
//! Not here: the dialogue, and what is known of a password ([`crate::wire::user_file`]).

use std::path::PathBuf;
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::config::UploadConfig;
use crate::disk::{File, Metadata};
use crate::ending::Error;
use crate::gate::failures::Failures;
use crate::jobs::{Command, Done, Finished, Query, Ticket};
use crate::service::{Cx, Id, Io, Peer, Waiter, work};
use crate::shares::{Client, InTurn, Shares};
use crate::wire::login::Login;
use crate::wire::text::Quoted;
use crate::wire::user_file::{Check, Proof, USER_FILE_BYTES_MAX, UserInfo};

/// Passwords that wait to be checked, with the one that is; who comes then is refused. One client
/// alone may have half of the places.
const CHECKS_MAX: usize = 128;
/// For how long the file is believed to be what it was.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The users of one listener.
pub(super) struct Accounts {
    users: UserInfo,
    file: Option<UserFile>,
    failures: Failures,
    checks: Checks,
    /// A check that is at work, and whose client has gone.
    left: Option<(Peer, String, Ticket)>,
}

/// The file that the users stand in.
struct UserFile {
    path: PathBuf,
    /// What it was when it was read last.
    was: Option<Metadata>,
    looked_at: Option<Instant>,
    /// Why it could not be read the last time.
    complaint: Option<String>,
}

/// The passwords that wait to be checked.
#[derive(Default)]
struct Checks {
    line: InTurn<Id>,
    shares: Shares,
    at_work: Option<(Client, Id)>,
}

/// Somebody who logs in.
pub(super) struct Attempt {
    login: Login,
    stage: Stage,
}

enum Stage {
    Looking,
    InLine(Check, Id),
    Checking(Ticket),
    Over,
}

/// What a login came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Right,
    Wrong,
}

impl Attempt {
    pub(super) fn new(login: Login) -> Self {
        Self {
            login,
            stage: Stage::Looking,
        }
    }

    /// Who it is said to be.
    pub(super) fn user(&self) -> &str {
        &self.login.user
    }
}

impl Checks {
    /// Lets a session wait for its turn, if there is room.
    fn enter(&mut self, client: Client, id: Id) -> bool {
        let has_room = self.shares.has_room(client, CHECKS_MAX);
        if has_room {
            self.shares.enter(client);
            self.line.push(client, id);
            self.next();
        }
        has_room
    }

    fn has_turn(&self, id: Id) -> bool {
        self.at_work.is_some_and(|(_, at_work)| at_work == id)
    }

    /// The check that is at work is over: who is next, if anybody.
    fn over(&mut self) -> Option<Id> {
        if let Some((client, _)) = self.at_work.take() {
            self.shares.leave(client);
        }
        self.next()
    }

    fn next(&mut self) -> Option<Id> {
        if self.at_work.is_none() {
            self.at_work = self.line.pop();
            return self.at_work.map(|(_, id)| id);
        }
        None
    }

    /// A session that waits for its turn goes: who is next, if it had it.
    fn leave(&mut self, client: Client, id: Id) -> Option<Id> {
        if self.has_turn(id) {
            return self.over();
        }
        let shares = &mut self.shares;
        self.line.retain_of(client, |waiter| {
            let stays = *waiter != id;
            if !stays {
                shares.leave(client);
            }
            stays
        });
        None
    }
}

impl Accounts {
    /// The users as configured, if anybody has to log in.
    pub(super) fn new(config: &UploadConfig) -> Option<Self> {
        let file = config.login_file.as_ref().map(|path| UserFile {
            path: path.clone(),
            was: None,
            looked_at: None,
            complaint: None,
        });
        Some(Self {
            users: config.login.clone()?,
            file,
            failures: Failures::new(config.failures_max),
            checks: Checks::default(),
            left: None,
        })
    }

    /// Whether a login is right; asked again until it answers. What it asks of a disk waits on that
    /// of `beside`.
    ///
    /// # Errors
    /// That cannot be found out.
    pub(super) fn judge(
        &mut self,
        attempt: &mut Attempt,
        beside: &File,
        io: &mut Io<'_>,
    ) -> Result<Poll<Verdict>, Error> {
        loop {
            match &attempt.stage {
                Stage::Looking if self.is_slowed(attempt, io) => {
                    return Ok(Poll::Ready(Verdict::Wrong));
                }
                Stage::Looking => {
                    let Poll::Ready(decided) = self.decide(attempt, beside, io) else {
                        return Ok(Poll::Pending);
                    };
                    if let Some(verdict) = decided {
                        return Ok(Poll::Ready(verdict));
                    }
                }
                Stage::InLine(_, id) if !self.checks.has_turn(*id) => return Ok(Poll::Pending),
                Stage::InLine(..) if self.is_slowed(attempt, io) => {
                    attempt.stage = Stage::Over;
                    io.cx.woken.extend(self.checks.over());
                    return Ok(Poll::Ready(Verdict::Wrong));
                }
                Stage::InLine(check, _) => {
                    let prove = Command::Prove {
                        beside: beside.clone(),
                        check: check.clone(),
                        password: attempt.login.password.clone(),
                    };
                    let started = io.cx.jobs.start(Waiter::Session(io.id), prove, io.cx.now);
                    let ticket = started.map_err(|refused| unproven(*refused))?;
                    attempt.stage = Stage::Checking(ticket);
                }
                Stage::Checking(ticket) => {
                    let Poll::Ready(finished) = io.cx.jobs.take(ticket) else {
                        return Ok(Poll::Pending);
                    };
                    attempt.stage = Stage::Over;
                    io.cx.woken.extend(self.checks.over());
                    let right = proven(finished)?;
                    return Ok(Poll::Ready(
                        self.verdict(right, io.peer, attempt, io.cx.now),
                    ));
                }
                Stage::Over => return Ok(Poll::Ready(Verdict::Wrong)),
            }
        }
    }

    /// Looks at the users: what can be told at once, or nothing if the password waits for its check.
    fn decide(
        &mut self,
        attempt: &mut Attempt,
        beside: &File,
        io: &mut Io<'_>,
    ) -> Poll<Option<Verdict>> {
        let Poll::Ready(()) = self.look(beside, io) else {
            return Poll::Pending;
        };
        io.cx.work.charge(work::REQUEST_NS);
        let right = match self.users.prove(&attempt.login) {
            Proof::Costly(check) if self.checks.enter(io.peer.network(), io.id) => {
                attempt.stage = Stage::InLine(check, io.id);
                return Poll::Ready(None);
            }
            Proof::Costly(_) => {
                let (peer, user) = (io.peer, Quoted(attempt.user()));
                log::warn!("upload {peer}: login of {user} refused unchecked: too many wait");
                attempt.stage = Stage::Over;
                return Poll::Ready(Some(Verdict::Wrong));
            }
            Proof::Right => true,
            Proof::Wrong => false,
        };
        attempt.stage = Stage::Over;
        Poll::Ready(Some(self.verdict(right, io.peer, attempt, io.cx.now)))
    }

    /// Whether nothing is checked for this client now.
    fn is_slowed(&self, attempt: &Attempt, io: &Io<'_>) -> bool {
        let is_slowed = self.failures.are_too_many(io.peer.network(), io.cx.now);
        if is_slowed {
            log::info!(
                "upload {}: login of {} refused unchecked: too many failed from this address",
                io.peer,
                Quoted(attempt.user())
            );
        }
        is_slowed
    }

    /// What was found out, counted and told.
    fn verdict(&mut self, right: bool, peer: &Peer, attempt: &Attempt, now: Instant) -> Verdict {
        if right {
            return Verdict::Right;
        }
        self.failed(peer, attempt.user(), now);
        Verdict::Wrong
    }

    fn failed(&mut self, peer: &Peer, user: &str, now: Instant) {
        self.failures.add(peer.network(), now);
        log::warn!("upload {peer}: login of {} refused", Quoted(user));
    }

    /// Reads the file again if it has changed, and if it was not looked at for a while.
    fn look(&mut self, beside: &File, io: &mut Io<'_>) -> Poll<()> {
        let Some(file) = &mut self.file else {
            return Poll::Ready(());
        };
        let (waiter, now) = (Waiter::Session(io.id), io.cx.now);
        if file.looked_at.is_some_and(|at| now < at + LOOK_EVERY) {
            io.cx.jobs.settle(waiter);
            return Poll::Ready(());
        }
        let query = Query::Configured {
            beside: beside.clone(),
            path: file.path.clone(),
            was: file.was,
            bytes_max: USER_FILE_BYTES_MAX,
        };
        let Poll::Ready(read) = io.cx.jobs.ask(waiter, query, now) else {
            return Poll::Pending;
        };
        io.cx.jobs.settle(waiter);
        file.looked_at = Some(now);
        let read = read.and_then(Done::into_configured);
        match read.map_err(|error| error.to_string()) {
            Ok(None) => file.complaint = None,
            Ok(Some((bytes, metadata))) => {
                file.was = Some(metadata);
                io.cx.work.charge_each(bytes.len(), work::HEAD_BYTE_NS);
                match UserInfo::from_bytes(&bytes) {
                    Ok(users) if users == self.users => file.complaint = None,
                    Ok(users) => {
                        let (path, count) = (file.path.display(), users.len());
                        log::info!("upload: {path} has changed: {count} users");
                        (self.users, file.complaint) = (users, None);
                    }
                    Err(why) => file.complain(why),
                }
            }
            Err(why) => file.complain(why),
        }
        Poll::Ready(())
    }

    /// A session ends within a login.
    pub(super) fn give_up(&mut self, attempt: Attempt, peer: Peer, cx: &mut Cx<'_>) {
        match attempt.stage {
            Stage::Looking | Stage::Over => {}
            Stage::InLine(_, id) => cx.woken.extend(self.checks.leave(peer.network(), id)),
            Stage::Checking(ticket) => {
                cx.jobs.hand_over(&ticket, Waiter::Service);
                self.left = Some((peer, attempt.login.user, ticket));
            }
        }
    }

    /// Takes what became of a check whose client has gone.
    pub(super) fn turn_ended(&mut self, cx: &mut Cx<'_>) {
        let Some((peer, user, ticket)) = self.left.take() else {
            return;
        };
        let Poll::Ready(finished) = cx.jobs.take(&ticket) else {
            self.left = Some((peer, user, ticket));
            return;
        };
        if let Ok(false) = proven(finished) {
            self.failed(&peer, &user, cx.now);
        }
        cx.woken.extend(self.checks.over());
    }

    /// Whether a check is at work whose client has gone.
    pub(super) fn is_busy(&self) -> bool {
        self.left.is_some()
    }
}

impl UserFile {
    /// Logs why the file cannot be used, once.
    fn complain(&mut self, why: String) {
        if self.complaint.as_ref() != Some(&why) {
            let path = self.path.display();
            log::error!("upload: {path}: {why}; the users stay who they were");
            self.complaint = Some(why);
        }
    }
}

fn proven(finished: Finished) -> Result<bool, Error> {
    let proven = finished.result.and_then(Done::into_proven);
    proven.map_err(|error| Error::Disk("a login".to_owned(), error))
}

fn unproven(refused: Finished) -> Error {
    // Invariant: what was refused was not done.
    proven(refused)
        .err()
        .unwrap_or_else(|| Error::Refused("a login".to_owned()))
}

#[cfg(test)]
mod tests;
