//! Datagrams in batches: `recvmmsg(2)` and `sendmmsg(2)`, whose arrays of headers point at one
//! another.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::net::{self, SocketType, sockopt};

use super::sockets::{canonical, inet_socket, local_address, socket_at};
use crate::service::datagram::{Outbox, Reply};
use crate::sys::{Batch, DatagramMemory, DatagramTuning, Received, Unsent};

/// A socket that is bound; the address that it got.
pub(super) fn bind(bind: SocketAddr) -> io::Result<(OwnedFd, SocketAddr)> {
    let (socket, bind) = socket_at(bind, SocketType::DGRAM)?;
    net::bind(&socket, &bind)?;
    let bound = local_address(&socket)?;
    Ok((socket, bound))
}

/// Sizes its buffers and says whether runs are received as such. What the kernel does not give it
/// does not give: [`memory`] tells.
pub(super) fn tune(socket: &impl AsFd, tuning: &DatagramTuning) {
    let asked = [tuning.recv_buffer_bytes, tuning.send_buffer_bytes];
    let _ = sockopt::set_socket_recv_buffer_size(socket, asked[0]);
    let _ = sockopt::set_socket_send_buffer_size(socket, asked[1]);
    // What is above `net.core.rmem_max` and `wmem_max` is for those with CAP_NET_ADMIN, by options
    // of its own (`man 7 socket`, SO_RCVBUFFORCE).
    let given = memory(socket);
    if given.is_none_or(|given| given.recv_buffer_bytes < asked[0]) {
        let _ = sockopt::set_socket_recv_buffer_size_force(socket, asked[0]);
    }
    if given.is_none_or(|given| given.send_buffer_bytes < asked[1]) {
        let _ = sockopt::set_socket_send_buffer_size_force(socket, asked[1]);
    }
    let _ = receive_runs(socket, tuning.receive_runs);
}

/// `UDP_GRO` (`man 7 udp`): a run may be received as one message. An error before Linux 5.0.
#[allow(unsafe_code)]
fn receive_runs(socket: &impl AsFd, wanted: bool) -> io::Result<()> {
    let wanted = libc::c_int::from(wanted);
    // SAFETY: the option's value is one `int`, which is valid for the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_GRO,
            (&raw const wanted).cast(),
            size_of_val(&wanted) as libc::socklen_t,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// `SO_MEMINFO` (Linux 4.12): nine numbers, of which `linux/sock_diag.h` names the places. Its drops
/// are what `SO_RXQ_OVFL` tells, without a control message for each datagram, and without the next
/// datagram that comes: after a flood that is the one that does not.
#[allow(unsafe_code)]
pub(super) fn memory(socket: &impl AsFd) -> Option<DatagramMemory> {
    const SO_MEMINFO: libc::c_int = 55;
    const RCVBUF: usize = 1;
    const SNDBUF: usize = 3;
    const DROPS: usize = 8;
    let mut numbers = [0_u32; DROPS + 1];
    let mut bytes = size_of_val(&numbers) as libc::socklen_t;
    // SAFETY: the kernel writes at most `bytes` bytes behind the pointer, which has room for them,
    // and says how many.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_MEMINFO,
            numbers.as_mut_ptr().cast(),
            &raw mut bytes,
        )
    };
    // The kernel keeps twice what it is asked for, for its own overhead (`man 7 socket`).
    (result == 0 && bytes as usize == size_of_val(&numbers)).then(|| DatagramMemory {
        recv_buffer_bytes: numbers[RCVBUF] as usize / 2,
        send_buffer_bytes: numbers[SNDBUF] as usize / 2,
        drops: numbers[DROPS],
    })
}

/// A socket that is connected.
pub(super) fn connect(to: SocketAddr) -> io::Result<OwnedFd> {
    let socket = inet_socket(to, SocketType::DGRAM)?;
    net::connect(&socket, &to)?;
    Ok(socket)
}

/// The arrays that `recvmmsg(2)` and `sendmmsg(2)` take: headers that point to names, runs of bytes
/// and control messages. Allocated once and never moved. What is to be sent is set anew before each
/// call; for what is to be received, only what the kernel changed by the call before is, as long as
/// it is for the same memory: of 64 headers, ten are used where datagrams come ten at a time.
pub(super) struct Messages {
    headers: Box<[libc::mmsghdr; Batch::SLOTS]>,
    names: Box<[Name; Batch::SLOTS]>,
    runs: Box<[libc::iovec; Batch::SLOTS]>,
    controls: Box<[Control; Batch::SLOTS]>,
    /// Where each message ends that is to be sent, and how many datagrams it holds.
    sendable: [(Position, usize); Batch::SLOTS],
    /// The batch for which headers are set to receive, and how many from the first on are not any
    /// more.
    prepared: Option<((*const u8, usize), usize)>,
    /// The socket knows its peer: what is sent names none, which spares the look for a way there.
    is_connected: bool,
}

/// Where the next datagram to be sent begins.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Position {
    reply: usize,
    byte: usize,
}

/// A `sockaddr_storage` as bytes.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Name([u8; 128]);

/// One control message that carries a `u16`: a `cmsghdr` (16 bytes) and its padded payload.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; 24]);

/// The most datagrams of one size to one peer that leave as one `UDP_SEGMENT` message
/// (`UDP_MAX_SEGMENTS` of Linux, as it was before 6.9), and the most bytes of each: one Ethernet
/// frame's, so that no path on the way refuses them.
const SEGMENTS_MAX: usize = 64;
const SEGMENT_BYTES_MAX: usize = 1400;
/// The most bytes of them together: what one IP packet holds, with some room for headers.
const RUN_BYTES_MAX: usize = 65_000;

impl Name {
    /// Family in the machine's order, port and address in the network's (`man 7 ip`, `man 7 ipv6`).
    fn address(&self) -> Option<SocketAddr> {
        let b = &self.0;
        let port = u16::from_be_bytes([b[2], b[3]]);
        match i32::from(u16::from_ne_bytes([b[0], b[1]])) {
            libc::AF_INET => Some(SocketAddr::from(([b[4], b[5], b[6], b[7]], port))),
            libc::AF_INET6 => {
                let mut ip = [0; 16];
                ip.copy_from_slice(&b[8..24]);
                let flow = u32::from_be_bytes([b[4], b[5], b[6], b[7]]);
                let scope = u32::from_ne_bytes([b[24], b[25], b[26], b[27]]);
                Some(std::net::SocketAddrV6::new(ip.into(), port, flow, scope).into())
            }
            _ => None,
        }
    }

    /// Writes an address; its length in bytes.
    fn set(&mut self, address: SocketAddr) -> libc::socklen_t {
        let b = &mut self.0;
        b[2..4].copy_from_slice(&address.port().to_be_bytes());
        match address {
            SocketAddr::V4(v4) => {
                b[0..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
                b[4..8].copy_from_slice(&v4.ip().octets());
                b[8..16].fill(0);
                16
            }
            SocketAddr::V6(v6) => {
                b[0..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
                b[4..8].copy_from_slice(&v6.flowinfo().to_be_bytes());
                b[8..24].copy_from_slice(&v6.ip().octets());
                b[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
                28
            }
        }
    }
}

impl Control {
    /// The control message that asks for segments of `bytes` (`man 7 udp`, `UDP_SEGMENT`).
    fn segment(bytes: u16) -> Self {
        let mut b = [0; 24];
        b[0..8].copy_from_slice(&(16 + size_of::<u16>()).to_ne_bytes());
        b[8..12].copy_from_slice(&libc::SOL_UDP.to_ne_bytes());
        b[12..16].copy_from_slice(&libc::UDP_SEGMENT.to_ne_bytes());
        b[16..18].copy_from_slice(&bytes.to_ne_bytes());
        Self(b)
    }

    /// What `UDP_GRO` tells of a message that is a run: the length of its datagrams, an `int`.
    /// Nothing else is asked for, so this is the only control message.
    fn run_segment(&self, bytes: usize) -> Option<usize> {
        let b = &self.0;
        let int = |at: usize| i32::from_ne_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
        let is_told = bytes >= 20 && (int(8), int(12)) == (libc::SOL_UDP, libc::UDP_GRO);
        let told = is_told.then(|| int(16))?;
        usize::try_from(told).ok().filter(|told| *told > 0)
    }
}

#[allow(unsafe_code)]
impl Messages {
    pub(super) fn new() -> Self {
        // SAFETY: all-zero is a valid `mmsghdr` and `iovec`: null pointers and zero lengths.
        let (headers, runs) = unsafe {
            (
                MaybeUninit::zeroed().assume_init(),
                MaybeUninit::zeroed().assume_init(),
            )
        };
        Self {
            headers: Box::new(headers),
            names: Box::new([Name([0; 128]); Batch::SLOTS]),
            runs: Box::new(runs),
            controls: Box::new([Control([0; 24]); Batch::SLOTS]),
            sendable: [(Position::default(), 0); Batch::SLOTS],
            prepared: None,
            is_connected: false,
        }
    }

    /// Those for a socket that is connected.
    pub(super) fn connected() -> Self {
        Self {
            is_connected: true,
            ..Self::new()
        }
    }

    /// Receives as many messages as there are, up to those that the batch wants.
    pub(super) fn receive(&mut self, socket: &impl AsFd, batch: &mut Batch) -> io::Result<usize> {
        batch.clear();
        self.prepare(batch);
        let received = loop {
            // SAFETY: `prepare` saw to it that all headers point to names, runs and controls of ours
            // and slots of this very batch, with their true lengths; they do not overlap, and
            // outlive the call.
            let received = unsafe {
                libc::recvmmsg(
                    socket.as_fd().as_raw_fd(),
                    self.headers.as_mut_ptr(),
                    Batch::SLOTS as u32,
                    libc::MSG_DONTWAIT,
                    std::ptr::null_mut(),
                )
            };
            match usize::try_from(received).map_err(|_| io::Error::last_os_error()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        let touched = (received + 1).min(Batch::SLOTS);
        self.prepared = Some((batch.place(), touched));
        for i in 0..received {
            let from = self.names[i].address();
            let from = from.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
            let header = &self.headers[i];
            let len = header.msg_len as usize;
            let segment_bytes = self.controls[i].run_segment(header.msg_hdr.msg_controllen as _);
            batch.received_run(Received {
                from: canonical(from),
                len,
                segment_bytes: segment_bytes.unwrap_or(len.max(1)),
                is_cut: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            });
        }
        Ok(received)
    }

    /// Sets the headers to receive into this batch, as far as they are not.
    fn prepare(&mut self, batch: &mut Batch) {
        let used = match self.prepared {
            Some((place, used)) if place == batch.place() => used,
            _ => Batch::SLOTS,
        };
        for i in 0..used {
            let slot = batch.slot_mut(i);
            self.runs[i] = libc::iovec {
                iov_base: slot.as_mut_ptr().cast(),
                iov_len: slot.len(),
            };
            let header = &mut self.headers[i].msg_hdr;
            header.msg_name = self.names[i].0.as_mut_ptr().cast();
            header.msg_namelen = size_of::<Name>() as libc::socklen_t;
            header.msg_iov = &raw mut self.runs[i];
            header.msg_iovlen = 1;
            header.msg_control = self.controls[i].0.as_mut_ptr().cast();
            header.msg_controllen = size_of::<Control>() as _;
        }
        // A call that fails changes none of them.
        self.prepared = Some((batch.place(), 0));
    }

    /// Sends all replies; those that could not be sent.
    pub(super) fn send(
        &mut self,
        socket: &OwnedFd,
        batch: &Batch,
        out: &Outbox,
        segmentation: &mut bool,
    ) -> Unsent {
        let (mut unsent, mut next) = (Unsent::default(), Position::default());
        loop {
            let Some(error) = self.send_from(&mut next, socket, batch, out, segmentation) else {
                return unsent;
            };
            if error.kind() == io::ErrorKind::WouldBlock {
                unsent.add(&left(out, next));
                return unsent;
            }
            unsent.replies += 1;
            unsent.bytes += self.runs[0].iov_len;
            next = self.sendable[0].0;
        }
    }

    /// Sends the replies until one cannot be sent: how many datagrams went, and why not the next.
    pub(super) fn send_in_order(
        &mut self,
        socket: &impl AsFd,
        batch: &Batch,
        out: &Outbox,
        segmentation: &mut bool,
    ) -> (usize, Option<io::Error>) {
        let mut next = Position::default();
        let error = self.send_from(&mut next, socket, batch, out, segmentation);
        (out.sum().0 - left(out, next).replies, error)
    }

    /// Sends the replies from `next` on until one cannot be sent, which is the first message of the
    /// headers then, and alone in it unless the socket would block; `next` is where it is.
    fn send_from(
        &mut self,
        next: &mut Position,
        socket: &impl AsFd,
        batch: &Batch,
        out: &Outbox,
        segmentation: &mut bool,
    ) -> Option<io::Error> {
        // Those before this one go one by one: the kernel refused them together.
        let mut apart = Position::default();
        while next.reply < out.replies.len() {
            let messages = self.gather(batch, out, *next, *segmentation && *next >= apart);
            let (end, datagrams) = self.sendable[0];
            match self.send_gathered(socket, messages) {
                Ok(sent) => {
                    if *next < apart {
                        *segmentation = false; // a device that cannot
                    }
                    // What stopped it, if anything did, is told when it is the first.
                    *next = self.sendable[sent - 1].0;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Some(error),
                Err(_) if datagrams > 1 => apart = end,
                Err(error) => return Some(error),
            }
        }
        None
    }

    /// Fills the headers with what is to be sent from `next` on; how many messages. Neighbours of
    /// one length to one peer become one message, and a shorter one may be its last.
    fn gather(&mut self, batch: &Batch, out: &Outbox, mut next: Position, joined: bool) -> usize {
        self.prepared = None;
        let (mut messages, mut runs) = (0, 0);
        while runs < Batch::SLOTS
            && let Some(first) = out.replies.get(next.reply)
        {
            let segment_bytes = first.segment_bytes;
            let joins = joined && (1..=SEGMENT_BYTES_MAX).contains(&segment_bytes);
            let most = match joins {
                true => SEGMENTS_MAX.min(RUN_BYTES_MAX / segment_bytes),
                false => 1,
            };
            let (first_run, mut datagrams, mut is_open) = (runs, 0, true);
            while is_open
                && datagrams < most
                && runs < Batch::SLOTS
                && let Some(reply) = out.replies.get(next.reply)
                && (datagrams == 0 || goes_on(first, reply))
            {
                let rest = &batch.reply_bytes(out, reply)[next.byte..];
                let rest = &rest[..rest.len().min((most - datagrams) * segment_bytes)];
                self.runs[runs] = libc::iovec {
                    iov_base: rest.as_ptr().cast_mut().cast(),
                    iov_len: rest.len(),
                };
                runs += 1;
                datagrams += rest.len().div_ceil(segment_bytes.max(1)).max(1);
                is_open = !rest.is_empty() && rest.len().is_multiple_of(segment_bytes);
                next.byte += rest.len();
                if next.byte == reply.len {
                    (next.reply, next.byte) = (next.reply + 1, 0);
                }
            }
            let header = &mut self.headers[messages].msg_hdr;
            (header.msg_name, header.msg_namelen) = match self.is_connected {
                true => (std::ptr::null_mut(), 0),
                false => {
                    let len = self.names[messages].set(first.to);
                    (self.names[messages].0.as_mut_ptr().cast(), len)
                }
            };
            header.msg_iov = &raw mut self.runs[first_run];
            header.msg_iovlen = (runs - first_run) as _;
            header.msg_control = std::ptr::null_mut();
            header.msg_controllen = 0;
            if datagrams > 1 {
                self.controls[messages] = Control::segment(segment_bytes as u16);
                header.msg_control = self.controls[messages].0.as_mut_ptr().cast();
                header.msg_controllen = size_of::<Control>() as _;
            }
            self.sendable[messages] = (next, datagrams);
            messages += 1;
        }
        messages
    }

    /// How many of the messages were sent. The error is the first one's: a call that sent some
    /// tells none (`man 2 sendmmsg`).
    fn send_gathered(&mut self, socket: &impl AsFd, messages: usize) -> io::Result<usize> {
        // SAFETY: the first `messages` headers were just filled by `gather` with pointers to names,
        // runs, controls and bytes of the batch and outbox, which the caller borrows beyond this
        // call; the kernel only reads them.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_fd().as_raw_fd(),
                self.headers.as_mut_ptr(),
                messages as u32,
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

/// Whether a reply may be sent behind another one in one message.
fn goes_on(first: &Reply, reply: &Reply) -> bool {
    let is_last = reply.len == reply.segment_bytes && (1..first.segment_bytes).contains(&reply.len);
    reply.to == first.to && (reply.segment_bytes == first.segment_bytes || is_last)
}

/// What is to be sent from there on.
fn left(out: &Outbox, next: Position) -> Unsent {
    let mut left = Unsent::default();
    for (i, reply) in out.replies.iter().enumerate().skip(next.reply) {
        let bytes = reply.len - if i == next.reply { next.byte } else { 0 };
        left.replies += bytes.div_ceil(reply.segment_bytes.max(1)).max(1);
        left.bytes += bytes;
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Sys;
    use crate::sys::unix::Unix;

    #[test]
    fn a_socket_of_both_families_answers_each_peer_in_its_own() {
        let mut sys = Unix::new(false).expect("a poll");
        let every = (std::net::Ipv6Addr::UNSPECIFIED, 0).into();
        let (socket, bound) = sys.bind_datagram(every, 0).expect("a socket");
        for ip in ["127.0.0.1", "::1"] {
            let ip: std::net::IpAddr = ip.parse().expect("an address");
            if ip.is_ipv6() && bound.is_ipv4() {
                continue; // not every machine has IPv6
            }
            let client = std::net::UdpSocket::bind((ip, 0)).expect("a socket");
            client.connect((ip, bound.port())).expect("an address");
            client.send(b"question").expect("a socket");
            let (mut batch, mut out) = (Batch::new(), Outbox::default());
            assert_eq!(sys.recv_batch(&socket, &mut batch).expect("a datagram"), 1);
            let (from, _) = batch.message_mut(0);
            assert_eq!(from, client.local_addr().expect("an address"));
            for _ in 0..3 {
                out.send(from, b"answers of one size leave together");
            }
            assert_eq!(sys.send_batch(&socket, &batch, &out).replies, 0);
            for _ in 0..3 {
                assert_eq!(client.recv(&mut [0; 64]).expect("an answer"), 34);
            }
        }
        assert!(sys.segmentation);
    }

    #[test]
    fn an_answer_that_cannot_be_sent_costs_the_others_nothing() {
        let mut sys = Unix::new(false).expect("a poll");
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let (socket, _) = sys.bind_datagram(loopback, 0).expect("a socket");
        let client = std::net::UdpSocket::bind(loopback).expect("a socket");
        let to = client.local_addr().expect("an address");
        let mut batch = Batch::new();
        // EAGAIN, the last error for whoever asks: a call that sent something changes nothing about
        // it.
        sys.recv_batch(&socket, &mut batch)
            .expect_err("nothing came");
        let mut out = Outbox::default();
        out.send(to, b"first");
        for _ in 0..2 {
            out.send(loopback, b"to port 0, which is nobody's"); // and two of a size, so that they go as segments
        }
        for _ in 0..3 {
            out.send(to, b"after");
        }
        let unsent = sys.send_batch(&socket, &batch, &out);
        assert_eq!((unsent.replies, unsent.bytes), (2, 2 * 28));
        client.set_nonblocking(true).expect("an option");
        let mut received = 0;
        while client.recv(&mut [0; 9]).is_ok() {
            received += 1;
        }
        assert_eq!(received, 4);
        assert!(sys.segmentation, "the network can, that address cannot");
    }
}
