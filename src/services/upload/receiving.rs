//! The files of a connection up to their last bytes: a header is gathered and read, then the bytes are
//! taken, into memory or to the disk.
//!
//! What is whole goes on to `answers` if its client asked for one. A plain file that is small gathers
//! in [`Conn::whole`](super::Conn), and a large one is stored at once.
//!
//! Not here: what becomes of the bytes of a large file ([`super::incoming`]), and what is asked of
//! the disk before they come ([`super::beginning`]).

use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use sha2::{Digest as _, Sha256};

use super::announced::{Announced, Asks};
use super::beginning::{Beginning, Begun};
use super::incoming::Incoming;
use super::kept::Key;
use super::owner::Owner;
use super::refusal::Refusal;
use super::resuming::hash_ns;
use super::state::{State, Step};
use super::store::Store;
use super::{Conn, Upload, wait};
use crate::buffer::PAGE_BYTES;
use crate::ending::{Error, Phase};
use crate::inside::ring::Topic;
use crate::service::{Io, Waiter, work};
use crate::services::prolonged;
use crate::wire::frame::{self, Frame};
use crate::wire::hex;
use crate::wire::safe_path::SafePath;
use crate::wire::text::{LogLine, Quoted};
use crate::wire::upload::{
    Code, FileHeader, HeaderError, SafeName, asks_for_ack, blanks_before_header, is_blank,
};

/// Bytes of a file that is stored by one job: they always fit the page that they come in. A larger
/// one is, too, if it is here already.
const SMALL_BYTES_MAX: u64 = PAGE_BYTES as u64;

impl Upload {
    pub(super) fn header(&mut self, conn: &mut Conn, io: &mut Io<'_>) -> Result<Step, Refusal> {
        let holds_files = !conn.whole.is_empty();
        let State::Header { gathered, until } = &mut conn.state else {
            return Ok(Step::Wait);
        };
        if is_blank(gathered) && conn.answers.len() >= self.unanswered_files_max {
            return Ok(Step::Wait);
        }
        loop {
            let limit = self.header_bytes_max;
            let missing = match blanks_before_header(gathered, limit) {
                // One at a time: what follows a blank may be the whole header.
                None => 1,
                Some(blanks) => {
                    gathered.drain(..blanks);
                    match frame::decode(gathered, limit) {
                        Err(error) => return Err(Error::Protocol(error.to_string()).into()),
                        Ok(Frame::Partial { missing }) => missing,
                        Ok(Frame::Complete { payload, .. }) => {
                            io.cx.work.charge(work::FILE_NS);
                            let waits = io.down.rx.len();
                            let owner = &conn.owner;
                            let ring = &mut io.cx.inside.ring;
                            ring.tell(io.id, Topic::File, || {
                                let header = String::from_utf8_lossy(payload);
                                LogLine(format_args!("{header}")).to_string()
                            });
                            return self
                                .announced(payload, waits, owner, io.cx.now)
                                .map(Step::Go);
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
            if count == 0 && !was_begun && !conn.answers.is_empty() {
                return Ok(Step::Wait); // the client waits for us
            }
            if count == 0 {
                let phase = if was_begun { Phase::Head } else { Phase::Idle };
                let waited = wait(io, *until, phase, was_begun, || "a file header".into());
                return waited.map_err(|error| Refusal::from(error).untold());
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
        json: &[u8],
        waits: usize,
        owner: &Rc<Owner>,
        now: Instant,
    ) -> Result<State, Refusal> {
        let announced = self.parse(json, owner, now);
        let (announced, header) = announced.map_err(|refusal| match asks_for_ack(json) {
            true => refusal,
            false => refusal.untold(),
        })?;
        let small_bytes_max = match announced.asks {
            None => SMALL_BYTES_MAX.max(waits as u64),
            Some(_) => SMALL_BYTES_MAX,
        };
        let is_small = announced.size_bytes <= small_bytes_max;
        if is_small && announced.asks.is_none() && !self.store.room.is_limited() {
            return Ok(State::Small {
                announced: Box::new(announced),
                arrived: 0,
                until: now + self.idle_timeout,
            });
        }
        let sha256 = header.sha256.filter(|_| self.store.kept.keeps_any());
        let key = match (sha256, is_small || !header.ack) {
            (Some(sha256), false) => Some(Key::new(
                owner.user(),
                &announced.name,
                announced.size_bytes,
                &sha256,
            )),
            _ => None,
        };
        let beginning = Box::new(Beginning::new(announced, key, is_small, now));
        Ok(State::Beginning { beginning })
    }

    fn parse(
        &self,
        json: &[u8],
        owner: &Rc<Owner>,
        now: Instant,
    ) -> Result<(Announced, FileHeader), Refusal> {
        let header = FileHeader::parse(json, self.file_bytes_max).map_err(|error| match error {
            HeaderError::TooLarge { .. } => Refusal {
                code: Some(Code::TooLarge),
                error: Error::Protocol(error.to_string()),
            },
            error => Refusal::malformed(error.to_string()),
        })?;
        let name = SafeName::reduce_portable(&header.filename).map_err(|error| {
            let text = format!("{}: {error}", Quoted(&header.filename));
            Refusal::new(Code::BadName, text)
        })?;
        let name = match &header.folder {
            None => SafePath::from(name),
            Some(folder) => self.in_folder(folder, name)?,
        };
        let asks = header.ack.then_some(Asks {
            sha256: header.sha256,
            resume: header.resume,
            skip_same: header.skip_same,
        });
        let announced = Announced {
            name,
            size_bytes: header.size_bytes,
            began: now,
            owner: Rc::clone(owner),
            asks,
            promise: None,
        };
        Ok((announced, header))
    }

    /// The path of a file that its client wants to have in a folder.
    fn in_folder(&self, folder: &str, name: SafeName) -> Result<SafePath, Refusal> {
        let path = match self.keeps_paths {
            true => SafePath::new(folder, name).map_err(|error| error.to_string()),
            false => Err("this server keeps no folders".to_owned()),
        };
        path.map_err(|why| Refusal::new(Code::BadName, format!("{}: {why}", Quoted(folder))))
    }

    pub(super) fn small(&mut self, conn: &mut Conn, io: &mut Io<'_>) -> Result<Step, Refusal> {
        let State::Small {
            announced,
            arrived,
            until,
        } = &mut conn.state
        else {
            return Ok(Step::Wait);
        };
        let Announced {
            name, size_bytes, ..
        } = &**announced;
        let rx = &mut io.down.rx;
        let size = *size_bytes as usize;
        if announced.asks.is_none() {
            rx.pass_unread(*size_bytes);
        }
        let now_here = rx.len().min(size);
        let more = now_here - std::mem::replace(arrived, now_here);
        let (rate_min, most) = (self.body_rate_min, self.idle_timeout);
        *until = prolonged(*until, more, rate_min, io.cx.now, most);
        if now_here < size && !conn.whole.is_empty() {
            return Ok(Step::Store);
        }
        if now_here < size {
            return Ok(wait(io, *until, Phase::Body, true, || {
                format!("{name} after {now_here} of {size_bytes} bytes")
            })?);
        }
        let bytes: Box<[u8]> = rx.bytes()[..size].into();
        rx.consume(size);
        let idle = self.idle(io.cx.now);
        let State::Small { announced, .. } = std::mem::replace(&mut conn.state, idle) else {
            return Ok(Step::Again); // Invariant: it was just looked at.
        };
        if announced.asks.is_none() {
            conn.whole.push((*announced, bytes));
            return Ok(Step::Again);
        }
        io.cx.work.charge(hash_ns(size));
        let digest: [u8; 32] = Sha256::digest(&bytes).into();
        match mismatch(&announced, &digest) {
            Some(refusal) => conn.answers.refuses(*announced, refusal),
            None => {
                let new = self.store.new_file(&announced, bytes);
                conn.answers.stores(*announced, digest, new);
            }
        }
        Ok(Step::Again)
    }

    pub(super) fn beginning(&mut self, conn: &mut Conn, io: &mut Io<'_>) -> Result<Step, Refusal> {
        let State::Beginning { beginning } = &mut conn.state else {
            return Ok(Step::Wait);
        };
        if !conn.whole.is_empty() {
            return Ok(Step::Store);
        }
        let is_answered = beginning.announced.asks.is_some();
        let Poll::Ready(begun) = self.store.begin(beginning, io)? else {
            return Ok(Step::Wait);
        };
        let until = io.cx.now + self.idle_timeout;
        let (offset, next) = match begun {
            Begun::Small(announced) => {
                let announced = Box::new(announced);
                let arrived = 0;
                let small = State::Small {
                    announced,
                    arrived,
                    until,
                };
                (0, small)
            }
            Begun::Large(partial, offset, digest) => {
                let incoming = Box::new(Incoming::new(partial, offset, digest));
                (offset, State::Body { incoming, until })
            }
            Begun::Same(announced) => {
                let waiter = Waiter::Session(io.id);
                let (store, cx) = (&self.store, &mut io.cx);
                conn.answers.is_same(announced, store, waiter, cx)?;
                return Ok(Step::Go(self.idle(io.cx.now)));
            }
        };
        if is_answered {
            conn.answers.is_ready(offset);
        }
        if offset > 0 {
            io.cx.counted.resumed(offset);
            let peer = &conn.owner.peer;
            log::info!("upload {peer}: a file is gone on with, {offset} bytes of it are here");
        }
        Ok(Step::Go(next))
    }

    pub(super) fn body(&mut self, conn: &mut Conn, io: &mut Io<'_>) -> Result<Step, Refusal> {
        let State::Body { incoming, until } = &mut conn.state else {
            return Ok(Step::Wait);
        };
        let blocked = incoming.blocked;
        let count = incoming.write(io)?;
        let (rate_min, most) = (self.body_rate_min, self.idle_timeout);
        if let Some(since) = blocked {
            *until += io.cx.now - since; // the time that the disk took is not the client's
        }
        *until = prolonged(*until, count, rate_min, io.cx.now, most);
        let Announced {
            name, size_bytes, ..
        } = incoming.announced();
        if incoming.is_whole() {
            return self.is_whole(conn, io);
        }
        if let Some(since) = incoming.writing_since() {
            self.store.in_time(name, since, io.cx.now)?;
        }
        if incoming.waits_for_disk() {
            return Ok(Step::Wait);
        }
        let arrived_bytes = incoming.arrived_bytes;
        Ok(wait(io, *until, Phase::Body, true, || {
            format!("{name} after {arrived_bytes} of {size_bytes} bytes")
        })?)
    }

    /// Every byte of a large file was written.
    fn is_whole(&mut self, conn: &mut Conn, io: &mut Io<'_>) -> Result<Step, Refusal> {
        let idle = self.idle(io.cx.now);
        let State::Body { incoming, .. } = std::mem::replace(&mut conn.state, idle) else {
            return Ok(Step::Again); // Invariant: the caller looked at it.
        };
        let Some(digest) = incoming.digest() else {
            let storing = self.store.keep(&incoming.partial, io)?;
            let next = Box::new(self.idle(io.cx.now));
            return Ok(Step::Go(State::Storing {
                storing: Box::new(storing),
                next,
            }));
        };
        let partial = incoming.partial;
        match mismatch(&partial.announced, &digest) {
            Some(refusal) => {
                let announced = partial.announced.clone();
                self.store.discard(partial, &mut io.cx);
                conn.answers.refuses(announced, refusal);
            }
            None => {
                let new = Store::written_file(&partial);
                conn.answers.stores(partial.announced, digest, new);
            }
        }
        Ok(Step::Again)
    }
}

/// Why a file is not stored that is not what its client made the digest of.
fn mismatch(announced: &Announced, digest: &[u8; 32]) -> Option<Refusal> {
    let expected = announced.asks?.sha256?;
    if expected == *digest {
        return None;
    }
    let text = format!(
        "{}: what came has the SHA-256 {}, expected {}",
        announced.name,
        hex::encode(digest),
        hex::encode(&expected)
    );
    Some(Refusal::new(Code::DigestMismatch, text))
}
