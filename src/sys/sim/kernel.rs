//! The calls of [`Sys`], with what may go wrong in each.
//!
//! A fault that takes an edge's promise back gives another one: whoever was told less than there
//! is, or that a call would block which need not, hears of it again within [`AGAIN`]. Nothing else
//! would be fair: an edge-triggered kernel owes one edge for each change, and no reactor can make
//! up for one that never came.

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use super::agenda::Happening;
use super::faults::Fault;
use super::ids::{Ear, Edges, End, Owner};
use super::sockets::{DatagramSocket, Stage};
use super::{CALLS_PER_TURN_MAX, DEAD_TOKENS_MAX, Sim};
use crate::disk::{Disk, File};
use crate::hooks::{End as HookEnd, HookId, Program};
use crate::jobs::{Done, Job, JobId};
use crate::pipe::{Ends as PipeEnds, Pipe};
use crate::service::datagram::Outbox;
use crate::service::{Ends, Peer};
use crate::surroundings::{Kept, Surroundings};
use crate::sys::{
    Batch, Bind, DatagramMemory, DatagramTuning, Event, News, PlantedBug, Received, Signal, Sys,
    Unsent,
};

/// How long an edge may be owed.
const AGAIN: Duration = Duration::from_millis(5);
/// Connections that wait for one listener, whatever backlog was asked for.
const BACKLOG_MAX: usize = 8;
/// How long a job may be done before the process is told.
const JOB_WAITS_MAX: Duration = Duration::from_secs(1);
/// As how many a byte that arrived is told.
const WAITING_TOLD: usize = 1024;
/// What a pipe holds.
const PIPE_BYTES: usize = 64 * 1024;
/// What is read from a file at a time to be sent.
const FILE_PIECE_BYTES: u64 = 256 * 1024;

impl Sim {
    /// Counts a call. A turn without an end is a bug that no other oracle sees.
    fn call(&mut self) {
        self.calls += 1;
        assert!(
            self.calls < CALLS_PER_TURN_MAX,
            "the reactor turns in circles"
        );
    }

    /// Owes an edge.
    fn owe(&mut self, ear: Ear, edges: Edges) {
        let at = self.world.now() + self.world.rng.span(AGAIN);
        self.net.agenda.add(at, Happening::Tell(ear, edges));
    }

    /// Whether the call does nothing this time.
    fn hindered(&mut self, ear: Ear, edges: Edges) -> io::Result<()> {
        self.call();
        if self.world.strikes(Fault::Interrupted) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if self.world.strikes(Fault::SpuriousWouldBlock) {
            self.owe(ear, edges);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(())
    }

    fn send_bytes(&mut self, end: End, bytes: &[u8]) -> io::Result<usize> {
        if let Err(error) = self.hindered(Ear::Stream(end), Edges::WRITE) {
            // There may be no room by the time of the edge that is owed: then another one follows.
            self.net.half_mut(end).want_room();
            return Err(error);
        }
        if self.volume.is_crashed() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut count = bytes.len();
        if count > 1 && self.world.strikes(Fault::ShortWrite) {
            count = self.world.rng.between(1, count - 1);
        }
        let sent = self.net.write(end, &bytes[..count], &mut self.world)?;
        if sent < bytes.len() {
            self.net.half_mut(end).want_room();
            if sent == count {
                self.owe(Ear::Stream(end), Edges::WRITE);
            }
        }
        self.world
            .note(|| format!("process sends {sent} of {} bytes to {end:?}", bytes.len()));
        Ok(sent)
    }
}

impl Sim {
    /// Takes out what is in a pipe, which is so many bytes.
    pub(super) fn take_piped(&mut self, pipe: &Pipe, bytes: usize) -> Vec<u8> {
        let held = self.pipes[number(pipe)].take();
        let held = held.expect("a pipe that is open");
        assert_eq!(held.len(), bytes, "what is in a pipe is known");
        held
    }

    /// Puts back what is left.
    pub(super) fn put_piped(&mut self, pipe: &Pipe, held: Vec<u8>) {
        self.pipes[number(pipe)] = Some(held);
    }

    /// Whether a datagram socket is broken, or breaks now; one with a peer lives too shortly for
    /// that.
    fn breaks(&mut self, socket: usize) -> io::Result<()> {
        let socket = &mut self.net.datagrams[socket];
        if socket.peer.is_some() {
            return Ok(());
        }
        if socket.open && self.world.strikes(Fault::DatagramSocketKilled) {
            (socket.open, socket.broken) = (false, true);
            socket.queue.clear();
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        socket.broken |= self.world.strikes(Fault::DatagramSocketBreaks);
        match socket.open && socket.broken {
            true => Err(io::Error::from_raw_os_error(libc::EPERM)),
            false => Ok(()),
        }
    }

    /// Remembers the token of a stream that is about to be closed.
    fn bury(&mut self, stream: End) {
        let half = self.net.half(stream);
        if let Some(token) = half.token {
            // A session outlives its connections to origins, and uses one token for all of them.
            let gone = !half.opened_by_process;
            self.dead_tokens.push_back((token, gone));
            if self.dead_tokens.len() > DEAD_TOKENS_MAX {
                self.dead_tokens.pop_front();
            }
        }
    }
}

fn number(pipe: &Pipe) -> usize {
    match pipe.ends() {
        PipeEnds::Simulated(number) => *number,
        PipeEnds::Kernel { .. } => unreachable!("a pipe of the operating system"),
    }
}

impl Sys for Sim {
    type Listener = usize;
    type Stream = End;
    type Datagram = usize;

    fn disk(&mut self) -> &mut dyn Disk {
        self
    }

    fn start(&mut self, id: JobId, job: Job) {
        self.start_job(id, job);
    }

    fn spawn(&mut self, id: HookId, program: Program) {
        let (world, agenda) = (&mut self.world, &mut self.net.agenda);
        self.programs.spawn(id, program, world, agenda);
    }

    fn kill(&mut self, id: HookId) {
        let (world, agenda) = (&mut self.world, &mut self.net.agenda);
        self.programs.kill(id, world, agenda);
    }

    fn exited(&mut self) -> Option<(HookId, HookEnd)> {
        self.programs.exited()
    }

    fn finished(&mut self) -> Option<(JobId, Job, io::Result<Done>)> {
        let done = self.jobs_done.pop_front();
        if done.is_none() {
            self.job_done_at = None;
        }
        done
    }

    /// There are no files but those of the volume, and no variables.
    fn surroundings(&mut self, read: &mut dyn FnMut(&Surroundings)) {
        read(&Surroundings::kept(Kept::new()));
    }

    fn now(&self) -> Instant {
        self.world.clock.now()
    }

    fn wall(&self) -> SystemTime {
        self.world.clock.wall()
    }

    fn poll(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
        self.wait(events, timeout)?;
        for event in &*events {
            self.world.note(|| format!("{event:?}"));
        }
        // Who waits for a job is told as soon as it is done.
        assert!(
            self.job_waits() < JOB_WAITS_MAX,
            "a job is done and nobody was told"
        );
        Ok(())
    }

    fn signal(&mut self) -> Option<Signal> {
        self.signals.pop_front()
    }

    fn tell(&mut self, news: &News) -> bool {
        if !self.supervisor.is_deaf {
            self.supervisor.told.push(news.clone());
        }
        !self.supervisor.is_deaf
    }

    fn watchdog(&self) -> Option<Duration> {
        self.supervisor.watchdog
    }

    fn listen(
        &mut self,
        bind: &Bind,
        backlog: i32,
        _client_first: bool,
        token: u64,
    ) -> io::Result<(usize, Bind)> {
        let mut bind = bind.clone();
        if let Bind::Inet(address) = &mut bind
            && address.port() == 0
        {
            address.set_port(self.net.ephemeral_port());
        }
        let mut open = self.net.listeners.iter().filter(|l| l.open);
        let taken = open.any(|l| l.is_in_the_way_of(&bind));
        if taken || (self.net.broke_at(&bind) && self.world.strikes(Fault::ReopenFails)) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let backlog = usize::try_from(backlog).unwrap_or(1).clamp(1, BACKLOG_MAX);
        self.net
            .listen(bind.clone(), Owner::Process, token, backlog);
        Ok((self.net.listeners.len() - 1, bind))
    }

    fn accept(&mut self, listener: &usize) -> io::Result<(End, Peer)> {
        self.call();
        if self.world.strikes(Fault::Interrupted) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let broken = self.world.strikes(Fault::ListenerBreaks);
        self.net.listeners[*listener].broken |= broken;
        if self.net.listeners[*listener].broken {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        // The kernel looks for a free descriptor before it looks into the queue.
        if self.world.strikes(Fault::AcceptOutOfDescriptors) {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        if self.world.strikes(Fault::AcceptOutOfMemory) {
            return Err(io::Error::from_raw_os_error(libc::ENOBUFS));
        }
        let queue = &mut self.net.listeners[*listener].queue;
        if queue.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if self.world.strikes(Fault::SpuriousWouldBlock) {
            self.owe(Ear::Listener(*listener), Edges::READ);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // Invariant: the queue was just seen not to be empty.
        let end = queue.pop_front().expect("a connection");
        if self.world.strikes(Fault::AcceptAborted) {
            self.net.excuse(end);
            self.net.abort(end, &mut self.world);
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        self.net.half_mut(end).owner = Owner::Process;
        let peer = match &self.net.listeners[*listener].bind {
            Bind::Inet(_) => Peer::Inet(self.net.half(end).address),
            Bind::Unix(_) => Peer::Unix,
        };
        self.world.note(|| format!("{end:?} accepted"));
        Ok((end, peer))
    }

    fn shed(&mut self, listener: &usize) -> io::Result<()> {
        self.call();
        if self.world.strikes(Fault::ShedFails) {
            return Err(io::Error::from_raw_os_error(libc::ENFILE));
        }
        let waiting = self.net.listeners[*listener].queue.pop_front();
        let end = waiting.ok_or(io::ErrorKind::WouldBlock)?;
        self.net.excuse(end);
        self.net.close(end, &mut self.world);
        Ok(())
    }

    fn unlisten(&mut self, listener: usize) {
        self.net.unlisten(listener, &mut self.world);
    }

    fn register(&mut self, stream: &End, token: u64) -> io::Result<()> {
        if self.world.strikes(Fault::RegisterFails) {
            self.net.excuse(*stream);
            return Err(io::Error::from_raw_os_error(libc::ENOMEM));
        }
        self.net.half_mut(*stream).token = Some(token);
        let level = self.net.level(*stream);
        self.net.notify(*stream, level);
        Ok(())
    }

    fn connect(&mut self, to: SocketAddr, token: u64) -> io::Result<End> {
        if self.world.strikes(Fault::ConnectFails) {
            return Err(io::ErrorKind::NetworkUnreachable.into());
        }
        let from = SocketAddr::from(([192, 0, 2, 1], self.net.ephemeral_port()));
        let end = self
            .net
            .open(Owner::Process, from, &Bind::Inet(to), &mut self.world);
        self.net.half_mut(end).token = Some(token);
        self.world
            .note(|| format!("{end:?} is to be connected to {to}"));
        Ok(end)
    }

    fn connected(&mut self, stream: &End) -> io::Result<Option<Ends>> {
        self.call();
        match self.net.stage(*stream) {
            Stage::Opening => Ok(None),
            Stage::Open => {
                let half = self.net.half(*stream);
                let Some(Bind::Inet(peer)) = half.to else {
                    return Err(io::ErrorKind::NotConnected.into());
                };
                let local = half.address;
                Ok(Some(Ends { local, peer }))
            }
            Stage::Failed(kind) => Err(kind.into()),
        }
    }

    fn recv(&mut self, stream: &End, into: &mut [u8]) -> io::Result<usize> {
        let end = *stream;
        self.hindered(Ear::Stream(end), Edges::READ)?;
        if self.world.strikes(Fault::EarlyArrival) {
            self.net.deliver_next(end, &mut self.world);
        }
        let there = self.net.half(end).arrived().min(into.len());
        let mut room = into.len();
        if there > 1 && self.world.strikes(Fault::ShortRead) {
            room = self.world.rng.between(1, there - 1);
            let level = self.net.level(end);
            self.owe(
                Ear::Stream(end),
                Edges {
                    write: false,
                    ..level
                },
            );
        }
        let result = self.net.read(end, &mut into[..room]);
        self.world
            .note(|| format!("process reads {result:?} from {end:?}"));
        result
    }

    fn peek(&mut self, stream: &End, into: &mut [u8]) -> io::Result<usize> {
        self.hindered(Ear::Stream(*stream), Edges::READ)?;
        let half = self.net.half(*stream);
        let count = half.arrived().min(into.len());
        for (to, from) in into.iter_mut().zip(half.arrived.iter()) {
            *to = *from;
        }
        match (count, half.error) {
            (1.., _) => Ok(count),
            (0, Some(kind)) => Err(kind.into()),
            (0, None) if half.eof => Ok(0),
            (0, None) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn send(&mut self, stream: &End, bytes: &[u8], _more: bool) -> io::Result<usize> {
        self.send_bytes(*stream, bytes)
    }

    fn send_many(&mut self, stream: &End, runs: &[IoSlice<'_>], _more: bool) -> io::Result<usize> {
        // One byte more than there is room for shows that there is not room for all.
        let most = self.net.room(*stream) + 1;
        let bytes: Vec<u8> = runs
            .iter()
            .flat_map(|run| run.iter().copied())
            .take(most)
            .collect();
        self.send_bytes(*stream, &bytes)
    }

    fn send_file(&mut self, stream: &End, file: &File, offset: u64, len: u64) -> io::Result<usize> {
        // Bounded by what is asked for, which is bounded by a piece.
        let mut bytes = vec![0; len.min(FILE_PIECE_BYTES) as usize];
        let count = self
            .volume
            .read_at(file, offset, &mut bytes, &mut self.world)?;
        if count == 0 {
            self.call();
            return Ok(0);
        }
        self.send_bytes(*stream, &bytes[..count])
    }

    fn waiting(&mut self, stream: &End) -> usize {
        // Sockets hold little here, and what pays for many bytes only is to happen as well.
        self.net.half(*stream).arrived() * WAITING_TOLD
    }

    fn pipe(&mut self) -> io::Result<Pipe> {
        if self.world.strikes(Fault::PipeFails) {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        self.pipes.push(Some(Vec::new()));
        Ok(Pipe::new(PipeEnds::Simulated(self.pipes.len() - 1)))
    }

    fn splice_in(&mut self, stream: &End, pipe: &Pipe, bytes_max: usize) -> io::Result<usize> {
        let mut bytes = vec![0; bytes_max.min(PIPE_BYTES)];
        let count = self.recv(stream, &mut bytes)?;
        bytes.truncate(count);
        let held = self.pipes[number(pipe)].replace(bytes);
        assert_eq!(held, Some(Vec::new()), "a pipe is filled while it is empty");
        Ok(count)
    }

    fn splice_out(&mut self, pipe: &Pipe, stream: &End, bytes: usize) -> io::Result<usize> {
        let mut held = self.take_piped(pipe, bytes);
        let result = self.send_bytes(*stream, &held);
        held.drain(..*result.as_ref().unwrap_or(&0));
        self.put_piped(pipe, held);
        result
    }

    fn close_pipe(&mut self, pipe: Pipe) {
        let held = self.pipes[number(&pipe)].take();
        assert!(held.is_some(), "a pipe is closed once");
    }

    fn shutdown(&mut self, stream: &End) -> io::Result<()> {
        if self.volume.is_crashed() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        self.net.finish(*stream, &mut self.world)
    }

    fn close(&mut self, stream: End) {
        self.bury(stream);
        self.net.close(stream, &mut self.world);
    }

    fn abort(&mut self, stream: End) {
        self.bury(stream);
        self.net.abort(stream, &mut self.world);
    }

    fn bind_datagram(&mut self, bind: SocketAddr, token: u64) -> io::Result<(usize, SocketAddr)> {
        let broke = |d: &DatagramSocket| d.broken && d.address == bind;
        if self.net.datagrams.iter().any(broke) && self.world.strikes(Fault::ReopenFails) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let index = self.net.bind(bind, Owner::Process, token)?;
        Ok((index, self.net.datagrams[index].address))
    }

    fn connect_datagram(&mut self, to: SocketAddr, token: u64) -> io::Result<usize> {
        let any: IpAddr = match to {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let index = self.net.bind((any, 0).into(), Owner::Process, token)?;
        self.net.datagrams[index].peer = Some(to);
        Ok(index)
    }

    fn recv_batch(&mut self, socket: &usize, batch: &mut Batch) -> io::Result<usize> {
        self.call();
        batch.clear();
        self.breaks(*socket)?;
        let refused = std::mem::take(&mut self.net.datagrams[*socket].refused);
        if refused || self.world.strikes(Fault::DatagramRefused) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let mut would_block = self.net.datagrams[*socket].queue.is_empty();
        if !would_block && self.world.strikes(Fault::SpuriousWouldBlock) {
            would_block = true;
            self.owe(Ear::Datagram(*socket), Edges::READ);
        }
        if would_block {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let socket = &mut self.net.datagrams[*socket];
        while batch.len() < Batch::SLOTS && !socket.queue.is_empty() {
            let joins = socket.receives_runs && self.world.strikes(Fault::DatagramsJoined);
            let run = if joins { socket.run() } else { 1 };
            let (mut message, mut end) = (None, 0);
            let slot = batch.len();
            for (from, bytes) in socket.queue.drain(..run) {
                batch.slot_mut(slot)[end..][..bytes.len()].copy_from_slice(&bytes);
                end += bytes.len();
                message.get_or_insert((from, bytes.len().max(1)));
            }
            let Some((from, segment_bytes)) = message else {
                break;
            };
            batch.received_run(Received {
                from,
                len: end,
                segment_bytes,
                is_cut: false,
            });
        }
        Ok(batch.len())
    }

    fn tune_datagram(&mut self, socket: &usize, tuning: &DatagramTuning) {
        self.net.datagrams[*socket].receives_runs = tuning.receive_runs;
    }

    fn datagram_memory(&self, socket: &usize) -> Option<DatagramMemory> {
        Some(DatagramMemory {
            recv_buffer_bytes: usize::MAX,
            send_buffer_bytes: usize::MAX,
            drops: self.net.datagrams[*socket].drops,
        })
    }

    fn send_batch(&mut self, socket: &usize, batch: &Batch, out: &Outbox) -> Unsent {
        self.call();
        let (all, bytes) = out.sum();
        let mut unsent = Unsent {
            replies: all,
            bytes,
        };
        if self.volume.is_crashed() {
            return unsent;
        }
        for reply in &out.replies {
            let run = batch.reply_bytes(out, reply);
            for number in 0..reply.datagrams() {
                if self.world.strikes(Fault::DatagramSendBlocked) {
                    return unsent;
                }
                let start = number * reply.segment_bytes;
                let end = run.len().min(start + reply.segment_bytes);
                let bytes = &run[start..end];
                unsent.replies -= 1;
                unsent.bytes -= bytes.len();
                self.net
                    .send_datagram(*socket, reply.to, bytes, &mut self.world);
            }
        }
        unsent
    }

    fn close_datagram(&mut self, socket: usize) {
        let socket = &mut self.net.datagrams[socket];
        socket.open = false;
        socket.queue.clear();
        self.dead_tokens.push_back((socket.token, false));
    }

    fn planted(&self, bug: PlantedBug) -> bool {
        self.planted == Some(bug)
    }
}
