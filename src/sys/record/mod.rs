//! Record and replay: a kernel whose answers are written down, and one that answers what was
//! written.
//!
//! Both are one type, [`Taped`], in which every call of [`Sys`] and [`Disk`](crate::disk::Disk)
//! stands once, for both directions: so what is written is what is read.
//!
//! ```text
//!                    ┌─ recording ─▶ the kernel ─▶ answer ─┬▶ the loop
//! call ── Taped ─────┤                                     └▶ the record: call, answer
//!                    └─ replaying ─▶ the record: is it the call that was made then? ─▶ its answer
//! ```
//!
//! The rules:
//! 1. What comes from outside is written as it is; what leaves is written as its length and a hash.
//!    What passes through a pipe or by `sendfile` stays in the kernel: only its length is known.
//! 2. Sockets and files are numbers. TLS is asked as a kernel is ([`super::Secure`]): no key
//!    is in a record, and none is needed.
//! 3. One of heads only ([`Start::heads_only`]) has zeros in the place of bytes that were passed on
//!    unread (`leaving`), and of what left and was written only lengths are compared.
//! 4. A replay that is asked for something else has diverged: it answers from then on that there is
//!    nothing and nothing can be done, the next poll fails, and [`Taped::over`] says what was asked
//!    then and what now. In the same way it ends where the record ends.
//!
//! The files in reading order: this one, `call` (what can be asked), `kernel` and `disk` (the two
//! traits), `wire`, `errors`, `answers` and `jobs` (how things are written), `file` (blocks), `leaving`,
//! `recorder`, `player`.

mod answers;
mod call;
mod disk;
mod errors;
mod file;
mod jobs;
mod kernel;
mod leaving;
mod player;
mod recorder;
#[cfg(test)]
mod tests;
mod wire;

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::time::Instant;

use slab::Slab;

use super::{PlantedBug, Sys};
use answers::{Answer, Counted};
use call::Call;
pub use file::{BadRecord, Start};
use player::Player;
pub use player::{Over, Played};
pub use recorder::Options;
use recorder::Recorder;
use wire::{Wire, put_bytes};

/// A kernel that is recorded, or a record of one.
pub struct Taped<K: Sys> {
    side: Side<K>,
    planted: Option<PlantedBug>,
}

enum Side<K: Sys> {
    Recording {
        kernel: Box<K>,
        handles: Handles<K>,
        recorder: RefCell<Recorder>,
    },
    Replaying(RefCell<Player>),
}

/// What the kernel calls what has a number.
struct Handles<K: Sys> {
    listeners: Slab<K::Listener>,
    streams: Slab<K::Stream>,
    datagrams: Slab<K::Datagram>,
}

impl<K: Sys> Default for Handles<K> {
    fn default() -> Self {
        Self {
            listeners: Slab::new(),
            streams: Slab::new(),
            datagrams: Slab::new(),
        }
    }
}

impl<K: Sys> Taped<K> {
    /// A kernel that is recorded.
    ///
    /// # Errors
    /// Those of `write(2)`, and that there is no thread to be had.
    pub fn record(
        kernel: K,
        to: impl Write + Send + 'static,
        options: &Options,
    ) -> io::Result<Self> {
        let recorder = Recorder::begin(to, options, kernel.now())?;
        Ok(Self::over_kernel(kernel, recorder))
    }

    /// A kernel that is not.
    pub fn unrecorded(kernel: K) -> Self {
        let recorder = Recorder::none(kernel.now());
        Self::over_kernel(kernel, recorder)
    }

    fn over_kernel(kernel: K, recorder: Recorder) -> Self {
        Self {
            side: Side::Recording {
                kernel: Box::new(kernel),
                handles: Handles::default(),
                recorder: RefCell::new(recorder),
            },
            planted: None,
        }
    }

    /// What a record says of a kernel.
    ///
    /// # Errors
    /// It is no record, or none that can be replayed here.
    pub fn replay(from: impl Read + Send + 'static) -> Result<(Self, Start), BadRecord> {
        let (player, start) = Player::begin(Box::new(from), Instant::now())?;
        let planted = start
            .planted
            .and_then(|place| PlantedBug::ALL.get(usize::from(place)));
        let taped = Self {
            side: Side::Replaying(RefCell::new(player)),
            planted: planted.copied(),
        };
        Ok((taped, start))
    }

    /// The kernel, if there is one.
    pub fn kernel(&mut self) -> Option<&mut K> {
        match &mut self.side {
            Side::Recording { kernel, .. } => Some(kernel),
            Side::Replaying(_) => None,
        }
    }

    /// The same, when it is asked for nothing more.
    pub fn into_kernel(self) -> Option<K> {
        match self.side {
            Side::Recording { kernel, .. } => Some(*kernel),
            Side::Replaying(_) => None,
        }
    }

    /// Whether what happens is written down.
    pub fn is_recording(&self) -> bool {
        match &self.side {
            Side::Recording { recorder, .. } => recorder.borrow().is_on(),
            Side::Replaying(_) => false,
        }
    }

    /// The process ends, and has counted this. Then a record is whole; of a replay it is looked
    /// whether that process ended here, too.
    ///
    /// # Errors
    /// Those of `write(2)`.
    pub fn end(&mut self, counted: &str) -> io::Result<()> {
        match &mut self.side {
            Side::Recording { recorder, .. } => recorder.get_mut().end(counted),
            Side::Replaying(player) => {
                player.get_mut().end();
                Ok(())
            }
        }
    }

    /// The recording ends before its process does.
    ///
    /// # Errors
    /// Those of `write(2)`.
    pub fn stop(&mut self, why: &str) -> io::Result<()> {
        match &mut self.side {
            Side::Recording { recorder, .. } => recorder.get_mut().stop(why),
            Side::Replaying(_) => Ok(()),
        }
    }

    /// Whether of what is given away only the length is compared.
    fn has_heads_only(&self) -> bool {
        match &self.side {
            Side::Recording { recorder, .. } => recorder.borrow().has_heads_only(),
            Side::Replaying(player) => player.borrow().has_heads_only(),
        }
    }

    /// The last bytes that were answered came by a stream, if there were any.
    fn came(&mut self, stream: u32, result: &io::Result<usize>) {
        if let (Side::Recording { recorder, .. }, Ok(count)) = (&mut self.side, result) {
            recorder.get_mut().came(stream, *count);
        }
    }

    /// Why a replay has no next answer, if it has none.
    pub fn over(&mut self) -> Option<&Over> {
        match &mut self.side {
            Side::Recording { .. } => None,
            Side::Replaying(player) => player.get_mut().over.as_ref(),
        }
    }

    /// What was replayed so far.
    pub fn played(&self) -> Played {
        match &self.side {
            Side::Recording { .. } => Played::default(),
            Side::Replaying(player) => player.borrow().played,
        }
    }

    /// Asks, and writes down what was answered; or answers what was.
    fn ask<A: Answer>(
        &mut self,
        call: &Call,
        live: impl FnOnce(&mut K, &mut Handles<K>) -> A,
    ) -> A {
        match &mut self.side {
            Side::Recording {
                kernel,
                handles,
                recorder,
            } => {
                let answer = live(kernel, handles);
                recorder.get_mut().enter(call, |out| answer.put(out));
                answer
            }
            Side::Replaying(player) => player.get_mut().answer(call),
        }
    }

    /// The same where the kernel is only looked at.
    fn look<A: Answer>(&self, call: &Call, live: impl FnOnce(&K, &Handles<K>) -> A) -> A {
        match &self.side {
            Side::Recording {
                kernel,
                handles,
                recorder,
            } => {
                let answer = live(kernel, handles);
                recorder.borrow_mut().enter(call, |out| answer.put(out));
                answer
            }
            Side::Replaying(player) => player.borrow_mut().answer(call),
        }
    }

    /// Asks for bytes, which are written behind the answer.
    fn ask_into<A: Counted>(
        &mut self,
        call: &Call,
        into: &mut [u8],
        live: impl FnOnce(&mut K, &mut Handles<K>, &mut [u8]) -> A,
    ) -> A {
        match &mut self.side {
            Side::Recording {
                kernel,
                handles,
                recorder,
            } => {
                let answer = live(kernel, handles, into);
                recorder.get_mut().enter(call, |out| {
                    answer.put(out);
                    put_bytes(&into[..answer.count()], out);
                });
                answer
            }
            Side::Replaying(player) => {
                let player = player.get_mut();
                let answer: A = player.answer(call);
                match into.get_mut(..answer.count()) {
                    Some(into) => player.bytes(into),
                    None => player.check("fewer bytes", 0),
                }
                answer
            }
        }
    }

    /// Gives bytes away; a hash of those that were taken is written behind the answer.
    fn ask_with<A: Counted>(
        &mut self,
        call: &Call,
        hash: impl FnOnce(usize) -> u64,
        live: impl FnOnce(&mut K, &mut Handles<K>) -> A,
    ) -> A {
        let heads_only = self.has_heads_only();
        let hash = |count| if heads_only { 0 } else { hash(count) };
        match &mut self.side {
            Side::Recording {
                kernel,
                handles,
                recorder,
            } => {
                let answer = live(kernel, handles);
                recorder.get_mut().enter(call, |out| {
                    answer.put(out);
                    hash(answer.count()).put(out);
                });
                answer
            }
            Side::Replaying(player) => {
                let player = player.get_mut();
                let answer: A = player.answer(call);
                player.check(&format!("{call:?}"), hash(answer.count()));
                answer
            }
        }
    }
}

/// A hash of the first so many bytes of runs.
fn hash_of_first(runs: &[io::IoSlice<'_>], mut count: usize) -> u64 {
    jobs::hash_of(runs.iter().map(|run| {
        let taken = run.len().min(count);
        count -= taken;
        &run[..taken]
    }))
}
