//! Datagrams of one connected socket in batches, for clients that load a server: many in one call,
//! and runs of them as one message where the kernel can.

use std::io;
use std::os::fd::AsFd;

use super::datagrams::{Messages, tune};
use crate::service::datagram::Outbox;
use crate::sys::{Batch, DatagramTuning};

/// What is to be sent over a connected socket, and what is received from it.
pub struct Bursts {
    batch: Batch,
    out: Outbox,
    receiving: Messages,
    sending: Messages,
    /// Neighbours are joined (`UDP_SEGMENT`); cleared when the kernel refuses that.
    joins: bool,
}

impl Bursts {
    /// For this socket, whose buffers are sized. `joins`: datagrams of one length leave joined, so
    /// that they cost one way through the kernel together.
    pub fn new(socket: &impl AsFd, tuning: &DatagramTuning, joins: bool) -> Self {
        tune(socket, tuning);
        Self {
            batch: Batch::new(),
            out: Outbox::default(),
            receiving: Messages::new(),
            sending: Messages::connected(),
            joins,
        }
    }

    /// One more datagram, which [`Bursts::send`] sends.
    pub fn push(&mut self, bytes: &[u8]) {
        let peer = ([0, 0, 0, 0], 0).into(); // the socket knows it
        self.out.send(peer, bytes);
    }

    /// Sends what was pushed, in order, until something does not go. How many went, and what the
    /// next one met; what did not go is forgotten.
    pub fn send(&mut self, socket: &impl AsFd) -> (usize, Option<io::Error>) {
        let result = self
            .sending
            .send_in_order(socket, &self.batch, &self.out, &mut self.joins);
        self.out.clear();
        result
    }

    /// Receives what is there, as much as fits into a batch, and hands over each datagram. How many
    /// messages they were: less than [`Batch::SLOTS`] means that no more is there.
    ///
    /// # Errors
    /// Those of `recvmmsg(2)`.
    pub fn receive(
        &mut self,
        socket: &impl AsFd,
        mut each: impl FnMut(&[u8]),
    ) -> io::Result<usize> {
        let received = self.receiving.receive(socket, &mut self.batch)?;
        for slot in 0..received {
            // Invariant: so many slots hold something.
            let message = self.batch.message(slot).expect("a message");
            for number in 0..message.datagrams() {
                each(self.batch.part_mut(slot, message.datagram(number)).1);
            }
        }
        Ok(received)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, UdpSocket};

    const TUNING: DatagramTuning = DatagramTuning {
        recv_buffer_bytes: 1 << 20,
        send_buffer_bytes: 1 << 20,
        receive_runs: true,
    };

    /// Two sockets that are connected to one another.
    fn pair() -> (UdpSocket, UdpSocket) {
        let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        let (one, other) = (bind(), bind());
        let address = |socket: &UdpSocket| socket.local_addr().expect("an address");
        one.connect(address(&other)).expect("an address");
        other.connect(address(&one)).expect("an address");
        (one, other)
    }

    /// What arrives of these lengths, sent in this order: as they were, whether or not they are
    /// joined on either side.
    #[test]
    fn every_datagram_arrives_as_it_was_sent_joined_or_not() {
        let lengths = [
            &[64; 200][..],
            &[64, 64, 30, 64, 64],
            &[0, 0, 5, 0, 5, 5, 0],
            &[1; 300],
            &[1400, 1400, 1401, 1400, 9000, 40_000, 65_507, 1],
            &[600; 150],
        ];
        for (joins, receive_runs) in [(true, true), (true, false), (false, true)] {
            let (one, other) = pair();
            let tuning = DatagramTuning {
                receive_runs,
                ..TUNING
            };
            let mut sender = Bursts::new(&one, &tuning, joins);
            let mut receiver = Bursts::new(&other, &tuning, joins);
            for lengths in lengths {
                let sent: Vec<Vec<u8>> = (0..)
                    .zip(lengths)
                    .map(|(i, len)| vec![i as u8; *len])
                    .collect();
                sent.iter().for_each(|bytes| sender.push(bytes));
                let (went, error) = sender.send(&one);
                assert_eq!((went, error.map(|e| e.kind())), (sent.len(), None));
                let mut came = Vec::new();
                while let Ok(1..) = receiver.receive(&other, |bytes| came.push(bytes.to_vec())) {}
                assert!(came == sent, "{lengths:?} {joins} {receive_runs}");
            }
            assert_eq!(sender.joins, joins);
        }
    }

    #[test]
    fn runs_are_received_as_such_where_that_is_asked_for_and_cut_ones_are_marked() {
        let (one, other) = pair();
        let mut sender = Bursts::new(&one, &TUNING, true);
        tune(&other, &TUNING);
        let mut receive = |lengths: &[usize], slot_bytes| {
            lengths.iter().for_each(|len| sender.push(&vec![7; *len]));
            assert_eq!(sender.send(&one).0, lengths.len());
            let mut batch = Batch::of_slots(slot_bytes);
            let mut messages = Messages::new();
            messages.receive(&other, &mut batch).expect("datagrams");
            let runs = (0..batch.len()).filter_map(|slot| batch.message(slot));
            runs.map(|run| (run.len, run.segment_bytes, run.is_cut))
                .collect::<Vec<_>>()
        };
        assert_eq!(receive(&[64; 32], 65_527), [(2048, 64, false)]);
        assert_eq!(receive(&[64, 64, 30], 65_527), [(158, 64, false)]);
        assert_eq!(receive(&[0, 0], 65_527), [(0, 1, false), (0, 1, false)]);
        assert_eq!(receive(&[100], 65_527), [(100, 100, false)]);
        assert_eq!(receive(&[100], 99), [(99, 99, true)]);
        assert_eq!(receive(&[64; 3], 150), [(150, 64, true)]);
    }
}
