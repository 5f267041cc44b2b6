//! Datagrams in batches: `recvmmsg(2)` and `sendmmsg(2)`, whose arrays of headers point at one
//! another.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::net::{self, SocketType, sockopt};

use super::sockets::{canonical, inet_socket, local_address, socket_at};
use crate::service::datagram::{Outbox, Reply};
use crate::sys::{Batch, Unsent};

/// Bytes asked for a datagram socket's receive and send buffers; the kernel caps it at
/// `net.core.rmem_max`.
const DATAGRAM_SOCKET_BYTES: usize = 4 << 20;

/// A socket that is bound; the address that it got.
pub(super) fn bind(bind: SocketAddr) -> io::Result<(OwnedFd, SocketAddr)> {
    let (socket, bind) = socket_at(bind, SocketType::DGRAM)?;
    // Best effort: a smaller buffer drops earlier under a flood, nothing else.
    let _ = sockopt::set_socket_recv_buffer_size(&socket, DATAGRAM_SOCKET_BYTES);
    let _ = sockopt::set_socket_send_buffer_size(&socket, DATAGRAM_SOCKET_BYTES);
    net::bind(&socket, &bind)?;
    let bound = local_address(&socket)?;
    Ok((socket, bound))
}

/// A socket that is connected.
pub(super) fn connect(to: SocketAddr) -> io::Result<OwnedFd> {
    let socket = inet_socket(to, SocketType::DGRAM)?;
    net::connect(&socket, &to)?;
    Ok(socket)
}

/// The arrays that `recvmmsg(2)` and `sendmmsg(2)` take: headers that point to names, runs of bytes
/// and control messages. Allocated once and never moved; every pointer in a header is set anew
/// before each call that reads it.
pub(super) struct Messages {
    headers: Box<[libc::mmsghdr; Batch::SLOTS]>,
    names: Box<[Name; Batch::SLOTS]>,
    runs: Box<[libc::iovec; Batch::SLOTS]>,
    controls: Box<[Control; Batch::SLOTS]>,
    /// How many replies each message holds that is to be sent.
    replies: [usize; Batch::SLOTS],
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
            replies: [0; Batch::SLOTS],
        }
    }

    /// Receives as many datagrams as there are, up to the batch's slots.
    pub(super) fn receive(&mut self, socket: &OwnedFd, batch: &mut Batch) -> io::Result<usize> {
        batch.clear();
        for i in 0..Batch::SLOTS {
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
        }
        let received = loop {
            // SAFETY: the headers point to names, runs and slots that outlive the call, with their
            // true lengths, and to no control messages; the slots do not overlap.
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
        for i in 0..received {
            let from = self.names[i]
                .address()
                .unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
            batch.received(canonical(from), self.headers[i].msg_len as usize);
        }
        Ok(received)
    }

    /// Sends all replies; those that could not be sent.
    pub(super) fn send(
        &mut self,
        socket: &OwnedFd,
        batch: &Batch,
        out: &Outbox,
        segmentation: &mut bool,
    ) -> Unsent {
        let (mut unsent, mut next) = (Unsent::default(), 0);
        // Replies before this one go one by one: the kernel refused them together.
        let mut apart = 0;
        while next < out.replies.len() {
            let messages = self.gather(batch, out, next, *segmentation && next >= apart);
            match self.send_gathered(socket, messages) {
                Ok(sent) => {
                    if next < apart {
                        *segmentation = false; // a device that cannot
                    }
                    // What stopped it, if anything did, is told when it is the first.
                    next += self.replies[..sent].iter().sum::<usize>();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let left = batch.unsent(out, next);
                    unsent.replies += left.replies;
                    unsent.bytes += left.bytes;
                    break;
                }
                Err(_) if self.replies[0] > 1 => apart = next + self.replies[0],
                Err(_) => {
                    unsent.replies += 1;
                    unsent.bytes += batch.reply_bytes(out, &out.replies[next]).len();
                    next += 1;
                }
            }
        }
        unsent
    }

    /// Fills the headers with the replies from `first` on; how many messages, and in `self.replies`
    /// how many replies each holds. Neighbours of one size to one peer become one message.
    fn gather(&mut self, batch: &Batch, out: &Outbox, first: usize, segmentation: bool) -> usize {
        let replies = &out.replies[first..];
        let replies = &replies[..replies.len().min(Batch::SLOTS)];
        let (mut messages, mut i) = (0, 0);
        while i < replies.len() {
            let len = batch.reply_bytes(out, &replies[i]).len();
            let alike = |r: &Reply| r.to == replies[i].to && batch.reply_bytes(out, r).len() == len;
            let run = if segmentation && (1..=SEGMENT_BYTES_MAX).contains(&len) {
                replies[i..]
                    .iter()
                    .take(SEGMENTS_MAX.min(65_000 / len))
                    .take_while(|r| alike(r))
                    .count()
            } else {
                1
            };
            for (j, reply) in replies[i..i + run].iter().enumerate() {
                let bytes = batch.reply_bytes(out, reply);
                self.runs[i + j] = libc::iovec {
                    iov_base: bytes.as_ptr().cast_mut().cast(),
                    iov_len: bytes.len(),
                };
            }
            let header = &mut self.headers[messages].msg_hdr;
            header.msg_namelen = self.names[messages].set(replies[i].to);
            header.msg_name = self.names[messages].0.as_mut_ptr().cast();
            header.msg_iov = &raw mut self.runs[i];
            header.msg_iovlen = run as _;
            header.msg_control = std::ptr::null_mut();
            header.msg_controllen = 0;
            if run > 1 {
                self.controls[messages] = Control::segment(len as u16);
                header.msg_control = self.controls[messages].0.as_mut_ptr().cast();
                header.msg_controllen = size_of::<Control>() as _;
            }
            self.replies[messages] = run;
            messages += 1;
            i += run;
        }
        messages
    }

    /// How many of the messages were sent. The error is the first one's: a call that sent some
    /// tells none (`man 2 sendmmsg`).
    fn send_gathered(&mut self, socket: &OwnedFd, messages: usize) -> io::Result<usize> {
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
            let (from, _) = batch.datagram_mut(0);
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
