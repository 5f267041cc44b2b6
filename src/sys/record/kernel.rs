//! [`Sys`] for a kernel that is recorded, and for a record of one: each call once.
//!
//! A table, and a long one.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustls::RootCertStore;

use super::answers::{Answer, Clocks};
use super::call::Call;
use super::jobs::{hash_of, hash_of_job, hash_of_replies, name_of, put_finished};
use super::wire::{Out, Wire};
use super::{Handles, Played, Side, Taped, hash_of_first};
use crate::disk::{Disk, File};
use crate::hooks::{End, HookId, Program};
use crate::jobs::{Done, Job, JobId};
use crate::pipe::Pipe;
use crate::service::datagram::Outbox;
use crate::service::{Ends, Peer};
use crate::surroundings::{Kept, Surroundings};
use crate::sys::secure::{Facts, Role, Secure, SecureError, Transfer};
use crate::sys::{
    Batch, Bind, DatagramMemory, DatagramTuning, Event, GivenSocket, News, PlantedBug, Received,
    Signal, Sys, Unsent,
};
use crate::unread::Unread;

/// The number of a new handle.
fn number(place: usize) -> u32 {
    // Invariant: there are fewer sockets than descriptors.
    u32::try_from(place).expect("a number of a socket")
}

impl<K: Sys> Taped<K> {
    /// One more question about TLS: the answer, and what is known of it then.
    fn ask_tls<A: Answer>(
        &mut self,
        call: &Call,
        secure: &mut Secure,
        live: impl FnOnce(&mut K, &mut Handles<K>, &mut Secure) -> A,
    ) -> A {
        let (answer, facts): (A, Facts) = self.ask(call, |kernel, handles| {
            let answer = live(kernel, handles, secure);
            (answer, secure.facts())
        });
        secure.set_facts(facts);
        answer
    }

    /// Bytes that a replay has seen.
    fn count(&mut self, what: impl FnOnce(&mut Played) -> &mut u64, result: &io::Result<usize>) {
        if let (Side::Replaying(player), Ok(count)) = (&mut self.side, result) {
            *what(&mut player.get_mut().played) += *count as u64;
        }
    }

    /// What is known of a stream that is closed is forgotten.
    fn closed(&mut self, stream: u32) {
        if let Side::Recording { recorder, .. } = &mut self.side {
            recorder.get_mut().closed(stream);
        }
    }

    /// The clocks as they were told last, for a replay that is over.
    fn told(&self, last: impl FnOnce(&mut Clocks)) {
        if let Side::Replaying(player) = &self.side {
            player.borrow_mut().tell(last);
        }
    }
}

impl<K: Sys> Sys for Taped<K> {
    type Listener = u32;
    type Stream = u32;
    type Datagram = u32;

    fn disk(&mut self) -> &mut dyn Disk {
        self
    }

    fn start(&mut self, id: JobId, job: Job) {
        let call = Call::Start {
            id: id.0,
            job: name_of(&job),
            hash: hash_of_job(&job, !self.has_heads_only()),
        };
        if let Side::Replaying(player) = &mut self.side {
            let player = player.get_mut();
            player.answer::<()>(&call);
            player.begin_job(id, job);
            return;
        }
        self.ask(&call, |kernel, _| kernel.start(id, job));
    }

    fn finished(&mut self) -> Option<(JobId, Job, io::Result<Done>)> {
        match &mut self.side {
            Side::Recording {
                kernel, recorder, ..
            } => {
                let finished = kernel.finished();
                recorder.get_mut().enter(&Call::Finished {}, |out| {
                    put_finished(finished.as_ref(), out);
                });
                finished
            }
            Side::Replaying(player) => player.get_mut().finished(),
        }
    }

    fn spawn(&mut self, id: HookId, program: Program) {
        let environment = program.environment.iter();
        let runs =
            environment.flat_map(|(name, value)| [name.as_bytes(), value.as_encoded_bytes()]);
        let call = Call::Spawn {
            id: id.0,
            command: program.command.to_vec(),
            hash: hash_of(runs),
        };
        self.ask(&call, |kernel, _| kernel.spawn(id, program));
    }

    fn kill(&mut self, id: HookId) {
        self.ask(&Call::Kill { id: id.0 }, |kernel, _| kernel.kill(id));
    }

    fn exited(&mut self) -> Option<(HookId, End)> {
        self.ask(&Call::Exited {}, |kernel, _| kernel.exited())
    }

    /// A replay trusts nobody: it shakes no hands.
    fn authorities(&mut self) -> Arc<RootCertStore> {
        let mut known = None;
        self.ask(&Call::Authorities {}, |kernel, _| {
            known = Some(kernel.authorities());
        });
        known.unwrap_or_else(|| Arc::new(RootCertStore::empty()))
    }

    fn surroundings(&mut self, read: &mut dyn FnMut(&Surroundings)) {
        let call = Call::Surroundings {};
        if let Side::Replaying(player) = &mut self.side {
            let kept: Kept = player.get_mut().answer(&call);
            return read(&Surroundings::kept(kept));
        }
        self.ask(&call, |kernel, _| {
            let mut notes = Kept::new();
            kernel.surroundings(&mut |around| {
                read(around);
                notes = around.notes();
            });
            notes
        });
    }

    fn given_sockets(&mut self) -> Vec<GivenSocket> {
        self.ask(&Call::GivenSockets {}, |kernel, _| kernel.given_sockets())
    }

    fn close_given(&mut self, number: i32) -> bool {
        self.ask(&Call::CloseGiven { number }, |kernel, _| {
            kernel.close_given(number)
        })
    }

    fn now(&self) -> Instant {
        let now = self.look(&Call::Now {}, |kernel, _| kernel.now());
        self.told(|last| last.now = now);
        now
    }

    fn wall(&self) -> SystemTime {
        let wall = self.look(&Call::Wall {}, |kernel, _| kernel.wall());
        self.told(|last| last.wall = wall);
        wall
    }

    fn poll(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
        let call = Call::Poll { timeout };
        match &mut self.side {
            Side::Recording {
                kernel, recorder, ..
            } => {
                let sleeps = timeout.is_none_or(|timeout| !timeout.is_zero());
                recorder.get_mut().turn_ends(|| kernel.now(), sleeps);
                let polled = kernel.poll(events, timeout);
                recorder.get_mut().enter(&call, |out| {
                    polled.put(out);
                    events.put(out);
                });
                polled
            }
            Side::Replaying(player) => {
                let player = player.get_mut();
                let polled = player.answer(&call);
                events.extend(player.more::<Vec<Event>>().unwrap_or_default());
                polled
            }
        }
    }

    fn signal(&mut self) -> Option<Signal> {
        self.ask(&Call::Signal {}, |kernel, _| kernel.signal())
    }

    fn tell(&mut self, news: &News) -> bool {
        let call = Call::Tell {
            news: format!("{news:?}"),
        };
        self.ask(&call, |kernel, _| kernel.tell(news))
    }

    fn watchdog(&self) -> Option<Duration> {
        self.look(&Call::Watchdog {}, |kernel, _| kernel.watchdog())
    }

    fn listen(
        &mut self,
        bind: &Bind,
        backlog: i32,
        client_first: bool,
        token: u64,
    ) -> io::Result<(u32, Bind)> {
        let call = Call::Listen {
            bind: bind.clone(),
            backlog,
            client_first,
            token,
        };
        self.ask(&call, |kernel, handles| {
            let (listener, bound) = kernel.listen(bind, backlog, client_first, token)?;
            Ok((number(handles.listeners.insert(listener)), bound))
        })
    }

    fn accept(&mut self, listener: &u32) -> io::Result<(u32, Peer)> {
        let listener = *listener;
        self.ask(&Call::Accept { listener }, |kernel, handles| {
            let (stream, peer) = kernel.accept(&handles.listeners[listener as usize])?;
            Ok((number(handles.streams.insert(stream)), peer))
        })
    }

    fn shed(&mut self, listener: &u32) -> io::Result<()> {
        let listener = *listener;
        self.ask(&Call::Shed { listener }, |kernel, handles| {
            kernel.shed(&handles.listeners[listener as usize])
        })
    }

    fn unlisten(&mut self, listener: u32) {
        self.ask(&Call::Unlisten { listener }, |kernel, handles| {
            kernel.unlisten(handles.listeners.remove(listener as usize));
        });
    }

    fn register(&mut self, stream: &u32, token: u64) -> io::Result<()> {
        let stream = *stream;
        self.ask(&Call::Register { stream, token }, |kernel, handles| {
            kernel.register(&handles.streams[stream as usize], token)
        })
    }

    fn connect(&mut self, to: SocketAddr, token: u64) -> io::Result<u32> {
        self.ask(&Call::Connect { to, token }, |kernel, handles| {
            let stream = kernel.connect(to, token)?;
            Ok(number(handles.streams.insert(stream)))
        })
    }

    fn connected(&mut self, stream: &u32) -> io::Result<Option<Ends>> {
        let stream = *stream;
        self.ask(&Call::Connected { stream }, |kernel, handles| {
            kernel.connected(&handles.streams[stream as usize])
        })
    }

    fn recv(&mut self, stream: &u32, into: &mut [u8]) -> io::Result<usize> {
        let stream = *stream;
        let room = into.len();
        let result = self.ask_into(
            &Call::Recv { stream, room },
            into,
            |kernel, handles, into| kernel.recv(&handles.streams[stream as usize], into),
        );
        self.came(stream, &result);
        self.count(|played| &mut played.received_bytes, &result);
        result
    }

    fn peek(&mut self, stream: &u32, into: &mut [u8]) -> io::Result<usize> {
        let stream = *stream;
        let room = into.len();
        let result = self.ask_into(
            &Call::Peek { stream, room },
            into,
            |kernel, handles, into| kernel.peek(&handles.streams[stream as usize], into),
        );
        if let (Side::Recording { recorder, .. }, Ok(count)) = (&mut self.side, &result) {
            recorder.get_mut().peeked(stream, *count);
        }
        result
    }

    fn send(&mut self, stream: &u32, bytes: &[u8], more: bool) -> io::Result<usize> {
        let stream = *stream;
        let call = Call::Send {
            stream,
            bytes: bytes.len(),
            more,
        };
        let hash = |count: usize| hash_of([&bytes[..count]]);
        let result = self.ask_with(&call, hash, |kernel, handles| {
            kernel.send(&handles.streams[stream as usize], bytes, more)
        });
        self.count(|played| &mut played.sent_bytes, &result);
        result
    }

    fn send_many(&mut self, stream: &u32, runs: &[IoSlice<'_>], more: bool) -> io::Result<usize> {
        let stream = *stream;
        let call = Call::Send {
            stream,
            bytes: runs.iter().map(|run| run.len()).sum(),
            more,
        };
        let hash = |count| hash_of_first(runs, count);
        let result = self.ask_with(&call, hash, |kernel, handles| {
            kernel.send_many(&handles.streams[stream as usize], runs, more)
        });
        self.count(|played| &mut played.sent_bytes, &result);
        result
    }

    fn send_file(&mut self, stream: &u32, file: &File, offset: u64, len: u64) -> io::Result<usize> {
        let stream = *stream;
        let call = Call::SendFile {
            stream,
            file: file.number(),
            offset,
            len,
        };
        let result = self.ask(&call, |kernel, handles| {
            kernel.send_file(&handles.streams[stream as usize], file, offset, len)
        });
        self.count(|played| &mut played.sent_bytes, &result);
        result
    }

    fn waiting(&mut self, stream: &u32) -> usize {
        let stream = *stream;
        self.ask(&Call::Waiting { stream }, |kernel, handles| {
            kernel.waiting(&handles.streams[stream as usize])
        })
    }

    fn pipe(&mut self) -> io::Result<Pipe> {
        self.ask(&Call::Pipe {}, |kernel, _| kernel.pipe())
    }

    fn splice_in(&mut self, stream: &u32, pipe: &Pipe, bytes_max: usize) -> io::Result<usize> {
        let stream = *stream;
        let result = self.ask(&Call::SpliceIn { stream, bytes_max }, |kernel, handles| {
            kernel.splice_in(&handles.streams[stream as usize], pipe, bytes_max)
        });
        self.count(|played| &mut played.received_bytes, &result);
        result
    }

    fn splice_out(&mut self, pipe: &Pipe, stream: &u32, bytes: usize) -> io::Result<usize> {
        let stream = *stream;
        let result = self.ask(&Call::SpliceOut { stream, bytes }, |kernel, handles| {
            kernel.splice_out(pipe, &handles.streams[stream as usize], bytes)
        });
        self.count(|played| &mut played.sent_bytes, &result);
        result
    }

    fn close_pipe(&mut self, pipe: Pipe) {
        self.ask(&Call::ClosePipe {}, |kernel, _| kernel.close_pipe(pipe));
    }

    fn unsent(&mut self, stream: &u32) -> u64 {
        let stream = *stream;
        self.ask(&Call::Unsent { stream }, |kernel, handles| {
            kernel.unsent(&handles.streams[stream as usize])
        })
    }

    fn hold_at_most(&mut self, stream: &u32, bytes: u32) {
        let stream = *stream;
        self.ask(&Call::HoldAtMost { stream, bytes }, |kernel, handles| {
            kernel.hold_at_most(&handles.streams[stream as usize], bytes);
        });
    }

    fn shutdown(&mut self, stream: &u32) -> io::Result<()> {
        let stream = *stream;
        self.ask(&Call::Shutdown { stream }, |kernel, handles| {
            kernel.shutdown(&handles.streams[stream as usize])
        })
    }

    fn close(&mut self, stream: u32) {
        self.closed(stream);
        self.ask(&Call::Close { stream }, |kernel, handles| {
            kernel.close(handles.streams.remove(stream as usize));
        });
    }

    fn abort(&mut self, stream: u32) {
        self.closed(stream);
        self.ask(&Call::Abort { stream }, |kernel, handles| {
            kernel.abort(handles.streams.remove(stream as usize));
        });
    }

    fn tls_begin(&mut self, role: &Role, outer: Option<Secure>) -> Result<Secure, SecureError> {
        let call = Call::TlsBegin {
            server: matches!(role, Role::Server(_)),
        };
        let mut begun = None;
        let facts: Result<Facts, SecureError> = self.ask(&call, |kernel, _| {
            let secure = kernel.tls_begin(role, outer)?;
            let facts = secure.facts();
            begun = Some(secure);
            Ok(facts)
        });
        let mut secure = begun.unwrap_or_else(Secure::replayed);
        secure.set_facts(facts?);
        Ok(secure)
    }

    fn tls_feed(&mut self, secure: &mut Secure, bytes: &[u8]) -> io::Result<()> {
        let call = Call::TlsFeed { bytes: bytes.len() };
        self.ask_tls(&call, secure, |kernel, _, secure| {
            kernel.tls_feed(secure, bytes)
        })
    }

    fn tls_recv(&mut self, secure: &mut Secure, stream: &u32) -> Transfer {
        let stream = *stream;
        secure.stream = Some(stream);
        let transfer = self.ask_tls(
            &Call::TlsRecv { stream },
            secure,
            |kernel, handles, secure| kernel.tls_recv(secure, &handles.streams[stream as usize]),
        );
        self.count(|played| &mut played.received_bytes, &transfer.count);
        transfer
    }

    fn tls_open(&mut self, secure: &mut Secure, stream: &u32) -> Result<(), SecureError> {
        let stream = *stream;
        self.ask_tls(
            &Call::TlsOpen { stream },
            secure,
            |kernel, handles, secure| kernel.tls_open(secure, &handles.streams[stream as usize]),
        )
    }

    fn tls_plain(&mut self, secure: &mut Secure, into: &mut [u8]) -> io::Result<usize> {
        let call = Call::TlsPlain { room: into.len() };
        let (count, facts): (io::Result<usize>, Facts) =
            self.ask_into(&call, into, |kernel, _, into| {
                let count = kernel.tls_plain(secure, into);
                (count, secure.facts())
            });
        secure.set_facts(facts);
        if let Some(stream) = secure.stream {
            self.came(stream, &count);
        }
        count
    }

    fn tls_seal(&mut self, secure: &mut Secure, runs: &[IoSlice<'_>]) -> io::Result<usize> {
        let call = Call::TlsSeal {
            bytes: runs.iter().map(|run| run.len()).sum(),
        };
        let hash = |count| hash_of_first(runs, count);
        let (count, facts): (io::Result<usize>, Facts) = self.ask_with(&call, hash, |kernel, _| {
            let count = kernel.tls_seal(secure, runs);
            (count, secure.facts())
        });
        secure.set_facts(facts);
        count
    }

    fn tls_end(&mut self, secure: &mut Secure) {
        self.ask_tls(&Call::TlsEnd {}, secure, |kernel, _, secure| {
            kernel.tls_end(secure);
        });
    }

    fn tls_send(&mut self, secure: &mut Secure, stream: &u32) -> Transfer {
        let stream = *stream;
        let transfer = self.ask_tls(
            &Call::TlsSend { stream },
            secure,
            |kernel, handles, secure| kernel.tls_send(secure, &handles.streams[stream as usize]),
        );
        self.count(|played| &mut played.sent_bytes, &transfer.count);
        transfer
    }

    fn bind_datagram(&mut self, bind: SocketAddr, token: u64) -> io::Result<(u32, SocketAddr)> {
        self.ask(&Call::BindDatagram { bind, token }, |kernel, handles| {
            let (socket, bound) = kernel.bind_datagram(bind, token)?;
            Ok((number(handles.datagrams.insert(socket)), bound))
        })
    }

    fn connect_datagram(&mut self, to: SocketAddr, token: u64) -> io::Result<u32> {
        self.ask(&Call::ConnectDatagram { to, token }, |kernel, handles| {
            let socket = kernel.connect_datagram(to, token)?;
            Ok(number(handles.datagrams.insert(socket)))
        })
    }

    fn tune_datagram(&mut self, socket: &u32, tuning: &DatagramTuning) {
        let socket = *socket;
        let call = Call::TuneDatagram {
            socket,
            recv_bytes: tuning.recv_buffer_bytes,
            send_bytes: tuning.send_buffer_bytes,
            runs: tuning.receive_runs,
        };
        self.ask(&call, |kernel, handles| {
            kernel.tune_datagram(&handles.datagrams[socket as usize], tuning);
        });
    }

    fn datagram_memory(&self, socket: &u32) -> Option<DatagramMemory> {
        let socket = *socket;
        self.look(&Call::DatagramMemory { socket }, |kernel, handles| {
            kernel.datagram_memory(&handles.datagrams[socket as usize])
        })
    }

    fn recv_batch(&mut self, socket: &u32, batch: &mut Batch) -> io::Result<usize> {
        let call = Call::RecvBatch { socket: *socket };
        match &mut self.side {
            Side::Recording {
                kernel,
                handles,
                recorder,
            } => {
                let result = kernel.recv_batch(&handles.datagrams[*socket as usize], batch);
                recorder.get_mut().enter(&call, |out| {
                    result.put(out);
                    if result.is_ok() {
                        put_batch(batch, out);
                    }
                });
                result
            }
            Side::Replaying(player) => {
                let player = player.get_mut();
                let result: io::Result<usize> = player.answer(&call);
                batch.clear();
                let count = result?;
                for slot in 0..count.min(Batch::SLOTS) {
                    let Some(received) = player.more::<Received>() else {
                        break;
                    };
                    match batch.slot_mut(slot).get_mut(..received.len) {
                        Some(into) => player.bytes(into),
                        None => player.check("a datagram that fits", 0),
                    }
                    if player.over.is_some() {
                        break;
                    }
                    batch.received_run(received);
                }
                Ok(batch.len())
            }
        }
    }

    fn send_batch(&mut self, socket: &u32, batch: &Batch, out: &Outbox) -> Unsent {
        let socket = *socket;
        let call = Call::SendBatch {
            socket,
            replies: out.replies.len(),
            hash: hash_of_replies(batch, out),
        };
        self.ask(&call, |kernel, handles| {
            kernel.send_batch(&handles.datagrams[socket as usize], batch, out)
        })
    }

    fn close_datagram(&mut self, socket: u32) {
        self.ask(&Call::CloseDatagram { socket }, |kernel, handles| {
            kernel.close_datagram(handles.datagrams.remove(socket as usize));
        });
    }

    fn flush_log(&mut self) {
        if let Some(kernel) = self.kernel() {
            kernel.flush_log();
        }
    }

    fn log_dropped(&self) -> u64 {
        self.look(&Call::LogDropped {}, |kernel, _| kernel.log_dropped())
    }

    fn leaves_out(&self) -> bool {
        match &self.side {
            Side::Recording { recorder, .. } => recorder.borrow().has_heads_only(),
            Side::Replaying(_) => false,
        }
    }

    fn unread(&mut self, stream: &u32, unread: &Unread, waits: usize) {
        if let Side::Recording { recorder, .. } = &mut self.side {
            recorder.get_mut().unread(*stream, unread, waits);
        }
    }

    fn planted(&self, bug: PlantedBug) -> bool {
        match &self.side {
            Side::Recording { kernel, .. } => kernel.planted(bug),
            Side::Replaying(_) => self.planted == Some(bug),
        }
    }
}

fn put_batch(batch: &mut Batch, out: &mut Out) {
    for slot in 0..batch.len() {
        if let Some(received) = batch.message(slot) {
            received.put(out);
            super::wire::put_bytes(&batch.slot_mut(slot)[..received.len], out);
        }
    }
}
