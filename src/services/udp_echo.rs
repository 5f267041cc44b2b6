//! UDP echo: each datagram comes back, upper-cased as Unicode text or as it is.
//!
//! ASCII is changed in place and sent from where it arrived.

use crate::config::{Transform, UdpEchoConfig};
use crate::metrics::Cause;
use crate::service::datagram::{DATAGRAM_BYTES_MAX, DatagramIo, DatagramService};
use crate::service::work;
use crate::wire::upper;

/// The echo service.
pub struct UdpEcho {
    transform: Transform,
    /// One answer, kept for its memory only.
    answer: Vec<u8>,
}

impl UdpEcho {
    /// A service as configured.
    pub fn new(config: &UdpEchoConfig) -> Self {
        Self {
            transform: config.transform,
            answer: Vec::new(),
        }
    }
}

impl DatagramService for UdpEcho {
    fn receive(&mut self, io: &mut DatagramIo<'_>) {
        if self.transform == Transform::None || upper::ascii_in_place(io.payload) {
            io.echo();
            return;
        }
        let characters = upper::characters_beyond_ascii(io.payload);
        io.work.charge_each(characters, work::CHARACTER_NS);
        self.answer.clear();
        upper::datagram(io.payload, &mut self.answer);
        if self.answer.len() <= DATAGRAM_BYTES_MAX {
            io.reply(&self.answer);
        } else {
            io.metrics.dropped(Cause::Unsent, 1); // it grew beyond what a datagram can carry
        }
    }
}
