//! The file that a record is.
//!
//! ```text
//! "netlab-record\0"  u16 format  block  block  …                      numbers are little-endian
//! block: u8 kind  u32 length  u32 CRC-32 of (u64 its place among the blocks, kind, payload)  payload
//!        Start    who recorded what: the first one
//!        Calls    whole entries: a call, its answer
//!        Stopped  the recording ended before its process did: why      ┐ the last one is
//!        Ended    the process ended: what it had counted               ┘ one of these
//! ```
//!
//! A thread of its own writes, so that a slow disk does not stop the loop. What waits for it is
//! bounded; beyond that the recording ends. Where nobody waits for the loop (a simulation), it writes by
//! itself, each turn at its end: a process that a panic ends has on disk what it did before that turn.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Instant, SystemTime};

use super::wire::{Broken, In, Out, Wire, wire_struct};
use crate::surroundings::Kept;

const MAGIC: &[u8; 14] = b"netlab-record\0";
/// The number of the format: any change of what is written changes it.
const FORMAT: u16 = 2;
/// Who writes and reads it: the loop turns in the same way only in the same version.
const PROGRAM: &str = env!("CARGO_PKG_VERSION");
const HEAD_BYTES: usize = 9;
/// The longest block that is believed.
const BLOCK_BYTES_MAX: usize = 256 << 20;
/// A block leaves when it has so many bytes.
pub(super) const BLOCK_BYTES: usize = 256 << 10;
/// Blocks that may wait for the disk: 16 MiB of ordinary ones.
const WAITING_MAX: usize = 64;

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum BlockKind {
    Start = 1,
    Calls = 2,
    Stopped = 3,
    Ended = 4,
}

/// Who recorded what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The version of the program.
    pub program: String,
    /// When.
    pub wall: SystemTime,
    /// The configuration file, its path.
    pub config: Option<PathBuf>,
    /// The flag or variable that wins over its addresses.
    pub bind: Option<std::net::IpAddr>,
    /// The flag or variable that wins over its folders.
    pub root: Option<PathBuf>,
    /// What the configuration was read from.
    pub kept: Kept,
    /// Descriptors that the process may have, if there is a limit.
    pub descriptors: Option<u64>,
    /// The simulation that it was, as its command has it.
    pub simulation: Option<String>,
    /// The bug that was planted in it, by its place among all.
    pub planted: Option<u8>,
    /// Bytes that were passed on unread are left out; of what left only the length is told.
    pub heads_only: bool,
}

wire_struct!(Start {
    program,
    wall,
    config,
    bind,
    root,
    kept,
    descriptors,
    simulation,
    planted,
    heads_only
});

impl Start {
    /// One of this program and moment, without a configuration.
    pub fn new(wall: SystemTime) -> Self {
        Self {
            program: PROGRAM.to_owned(),
            wall,
            config: None,
            bind: None,
            root: None,
            kept: Kept::new(),
            descriptors: None,
            simulation: None,
            planted: None,
            heads_only: false,
        }
    }
}

/// Why a file cannot be replayed, or not further.
#[derive(Debug, PartialEq, Eq)]
pub enum BadRecord {
    /// It does not begin as one.
    NoRecord,
    /// It is of another format.
    Format(u16),
    /// Another version of the program made it.
    Program(String),
    /// It is cut.
    Cut {
        /// In which block.
        block: u64,
        /// At which byte.
        at: u64,
    },
    /// A block is damaged.
    Damaged {
        /// Which one.
        block: u64,
        /// At which byte it begins.
        at: u64,
        /// What is wrong with it.
        why: String,
    },
    /// It cannot be read.
    Unreadable(String),
}

impl std::fmt::Display for BadRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BadRecord::NoRecord => {
                f.write_str("it is no record; expected a file that `--record` wrote")
            }
            BadRecord::Format(format) => write!(
                f,
                "it is a record in format {format}; this program reads format {FORMAT}"
            ),
            BadRecord::Program(program) => write!(
                f,
                "netlab-reactor {program} recorded it; this is {PROGRAM}, and only the same version \
                 turns in the same way"
            ),
            BadRecord::Cut { block, at } => write!(
                f,
                "it is cut in block {block}, at byte {at}: the file is not whole, or the process \
                 that recorded was killed"
            ),
            BadRecord::Damaged { block, at, why } => {
                write!(
                    f,
                    "block {block}, which begins at byte {at}, is damaged: {why}"
                )
            }
            BadRecord::Unreadable(why) => write!(f, "it cannot be read: {why}"),
        }
    }
}

impl std::error::Error for BadRecord {}

fn crc(place: u64, kind: u8, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&place.to_le_bytes());
    hasher.update(&[kind]);
    hasher.update(payload);
    hasher.finalize()
}

/// Writes blocks.
struct Writer<W> {
    to: W,
    blocks: u64,
}

impl<W: Write> Writer<W> {
    fn begin(mut to: W, start: &Start) -> io::Result<Self> {
        to.write_all(MAGIC)?;
        to.write_all(&FORMAT.to_le_bytes())?;
        let mut out = Out::new(Instant::now());
        start.put(&mut out);
        let mut writer = Self { to, blocks: 0 };
        writer.block(BlockKind::Start, &out.bytes)?;
        Ok(writer)
    }

    fn block(&mut self, kind: BlockKind, payload: &[u8]) -> io::Result<()> {
        let kind = kind as u8;
        // Invariant: a block is cut when it is long; one entry is far below 4 GiB.
        let len = u32::try_from(payload.len()).map_err(io::Error::other)?;
        let mut head = [0; HEAD_BYTES];
        head[0] = kind;
        head[1..5].copy_from_slice(&len.to_le_bytes());
        head[5..].copy_from_slice(&crc(self.blocks, kind, payload).to_le_bytes());
        self.to.write_all(&head)?;
        self.to.write_all(payload)?;
        self.blocks += 1;
        Ok(())
    }
}

type Block = (BlockKind, Vec<u8>);

/// Where blocks go: straight into the file, or to a thread that writes them, which begins with the
/// first one: a process that is to be kept to its files has no other thread before that
/// (`serve::confine`).
pub(super) struct Sink {
    /// `None` once the thread has it.
    writer: Option<Writer<Box<dyn Write + Send>>>,
    thread: Option<(SyncSender<Block>, JoinHandle<io::Result<()>>)>,
    /// There is none: the loop waits for the disk.
    waits: bool,
}

impl Sink {
    /// Begins a record. `waits`: the loop writes by itself, and waits for the disk.
    pub(super) fn begin(
        to: impl Write + Send + 'static,
        start: &Start,
        waits: bool,
    ) -> io::Result<Self> {
        let to: Box<dyn Write + Send> = Box::new(to);
        Ok(Self {
            writer: Some(Writer::begin(to, start)?),
            thread: None,
            waits,
        })
    }

    /// The way to the thread, which is begun if need be.
    fn blocks(&mut self) -> io::Result<&SyncSender<Block>> {
        if let Some(mut writer) = self.writer.take() {
            let (blocks, queue): (_, Receiver<Block>) = sync_channel(WAITING_MAX);
            let thread = thread::Builder::new().name("record".to_owned());
            let thread = thread.spawn(move || {
                let written = queue
                    .into_iter()
                    .try_for_each(|(kind, payload): Block| writer.block(kind, &payload))
                    .and_then(|()| writer.to.flush());
                if let Err(error) = &written {
                    log::error!("the record cannot be written: {error}");
                }
                written
            })?;
            self.thread = Some((blocks, thread));
        }
        let begun = self.thread.as_ref().map(|(blocks, _)| blocks);
        begun.ok_or_else(|| io::Error::other(FAILED))
    }

    /// Hands over a block of calls.
    ///
    /// # Errors
    /// Why it was not taken: the recording is over.
    pub(super) fn put(&mut self, payload: Vec<u8>) -> Result<(), &'static str> {
        if self.waits {
            return self.write(BlockKind::Calls, &payload).map_err(|_| FAILED);
        }
        let block = (BlockKind::Calls, payload);
        let blocks = self.blocks().map_err(|_| FAILED)?;
        blocks.try_send(block).map_err(|error| match error {
            TrySendError::Full(_) => "the disk is slower than the loop",
            TrySendError::Disconnected(_) => FAILED,
        })
    }

    /// Writes a block to the file itself.
    fn write(&mut self, kind: BlockKind, payload: &[u8]) -> io::Result<()> {
        let failed = || io::Error::other(FAILED);
        let writer = self.writer.as_mut().ok_or_else(failed)?;
        writer.block(kind, payload)?;
        writer.to.flush()
    }

    /// Writes the last block, once those before it are written. It waits for the disk, unless that
    /// is not wanted: then the thread ends by itself.
    ///
    /// # Errors
    /// Those of `write(2)`.
    pub(super) fn end(mut self, kind: BlockKind, payload: Vec<u8>, waits: bool) -> io::Result<()> {
        if self.waits {
            return self.write(kind, &payload);
        }
        self.blocks()?;
        let Some((blocks, thread)) = self.thread else {
            return Ok(());
        };
        if !waits {
            // Another thread waits in the place of the loop.
            let last = move || {
                let _ = blocks.send((kind, payload));
                let _ = thread.join();
            };
            let waiting = thread::Builder::new().name("record-end".to_owned());
            return waiting.spawn(last).map(drop);
        }
        let _ = blocks.send((kind, payload)); // if it failed, the thread knows why
        drop(blocks);
        let ended = thread.join();
        ended.unwrap_or_else(|_| Err(io::Error::other("the thread that writes died")))
    }
}

const FAILED: &str = "the file cannot be written";

/// Reads blocks.
pub(super) struct Reader {
    from: Box<dyn Read + Send>,
    blocks: u64,
    at: u64,
}

impl Reader {
    /// Begins to read a record.
    pub(super) fn begin(from: Box<dyn Read + Send>) -> Result<(Self, Start), BadRecord> {
        let mut reader = Self {
            from,
            blocks: 0,
            at: 0,
        };
        let mut head = [0; MAGIC.len() + 2];
        let count = reader.fill(&mut head)?;
        let (magic, format) = head.split_at(MAGIC.len());
        if count < head.len() || magic != MAGIC {
            return Err(BadRecord::NoRecord);
        }
        let format = u16::from_le_bytes([format[0], format[1]]);
        if format != FORMAT {
            return Err(BadRecord::Format(format));
        }
        let at = reader.at;
        let (kind, payload) = reader.next()?;
        let mut from = In::new(payload, Instant::now());
        // The version comes first, and is understood whatever follows.
        let program = String::take(&mut from).ok();
        if let Some(program) = program.filter(|program| program != PROGRAM) {
            return Err(BadRecord::Program(program));
        }
        from.at = 0;
        match Start::take(&mut from) {
            Ok(start) if kind == BlockKind::Start => Ok((reader, start)),
            _ => Err(reader.damaged(at, Broken("the beginning of a record"))),
        }
    }

    /// The next block.
    pub(super) fn next(&mut self) -> Result<Block, BadRecord> {
        let (block, at) = (self.blocks, self.at);
        let damaged = |why: &str| BadRecord::Damaged {
            block,
            at,
            why: why.to_owned(),
        };
        let mut head = [0; HEAD_BYTES];
        self.whole(&mut head)?;
        let number =
            |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let kind = match head[0] {
            1 => BlockKind::Start,
            2 => BlockKind::Calls,
            3 => BlockKind::Stopped,
            4 => BlockKind::Ended,
            _ => return Err(damaged("there is no such kind of block")),
        };
        let len = number(1) as usize;
        if len > BLOCK_BYTES_MAX {
            return Err(damaged("it is longer than a block can be"));
        }
        let mut payload = Vec::new();
        // What the length says is believed as far as the file goes.
        let read = (&mut self.from).take(len as u64).read_to_end(&mut payload);
        let count = read.map_err(|error| BadRecord::Unreadable(error.to_string()))?;
        self.at += count as u64;
        if count < len {
            return Err(BadRecord::Cut { block, at: self.at });
        }
        if number(5) != crc(block, head[0], &payload) {
            return Err(damaged("its checksum is another"));
        }
        self.blocks += 1;
        Ok((kind, payload))
    }

    /// What the last block that was read holds instead of what is expected.
    pub(super) fn damaged(&self, at: u64, expected: Broken) -> BadRecord {
        BadRecord::Damaged {
            block: self.blocks.saturating_sub(1),
            at,
            why: format!("expected {}", expected.0),
        }
    }

    /// Whether there is nothing more.
    pub(super) fn is_at_end(&mut self) -> bool {
        matches!(self.fill(&mut [0]), Ok(0))
    }

    /// Where the next block begins.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    fn whole(&mut self, into: &mut [u8]) -> Result<(), BadRecord> {
        match self.fill(into)? == into.len() {
            true => Ok(()),
            false => Err(BadRecord::Cut {
                block: self.blocks,
                at: self.at,
            }),
        }
    }

    fn fill(&mut self, into: &mut [u8]) -> Result<usize, BadRecord> {
        let mut count = 0;
        while count < into.len() {
            match self.from.read(&mut into[count..]) {
                Ok(0) => break,
                Ok(more) => count += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(BadRecord::Unreadable(error.to_string())),
            }
        }
        self.at += count as u64;
        Ok(count)
    }
}
