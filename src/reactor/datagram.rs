//! A datagram socket with its service: batches in, batches out, and a limit for each source.
//!
//! Two services that answer each datagram answer each other without end, once somebody sent one of them a datagram that
//! bears the other's address (CERT advisory CA-1996-01). So who answers drops what comes from where services stand: from
//! ports below [`DatagramOptions::source_port_min`](super::DatagramOptions), and from the ports of this process's answering
//! sockets. Whatever address such a datagram bears: a socket bound to the unspecified address has them all, and another
//! machine's server of this kind has the same port.
//!
//! The rate limit counts datagrams of each source address in windows of one second. The table of sources is bounded: when
//! it is full, all sources that are not in it share one count, so that forged addresses cannot fill the memory and cannot
//! take the sources seen before out of it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::metrics::{Cause, ListenerMetrics};
use crate::service::datagram::{DatagramIo, DatagramService, Outbox};
use crate::sys::{Batch, Sys};

const WINDOW: Duration = Duration::from_secs(1);

/// A datagram socket and what serves it.
pub(crate) struct DatagramSocket<S: Sys> {
    pub(crate) socket: S::Datagram,
    /// Its address, by which it is found.
    pub(crate) bound: SocketAddr,
    pub(crate) service: Box<dyn DatagramService>,
    /// Its place in the metrics.
    pub(crate) metrics: usize,
    /// An edge was told and the socket not yet drained.
    pub(crate) pending: bool,
    /// The lowest source port that is answered; `None` for a service that never answers.
    pub(crate) source_port_min: Option<u16>,
    /// Batches in one turn, before the others have theirs.
    pub(crate) batches_per_turn_max: usize,
    pub(crate) sources: Sources,
}

impl<S: Sys> DatagramSocket<S> {
    /// Serves what has arrived, as far as this turn allows.
    pub(crate) fn serve(
        &mut self,
        sys: &mut S,
        batch: &mut Batch,
        out: &mut Outbox,
        answering_ports: &[u16],
        metrics: &mut ListenerMetrics,
        now: Instant,
    ) {
        let wall = sys.wall();
        for _ in 0..self.batches_per_turn_max {
            // Linux tells a socket without a peer of no ICMP error. Whatever else fails concerns one datagram.
            let received = match sys.recv_batch(&self.socket, batch) {
                Ok(received) => received,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    self.pending = false;
                    return;
                }
                Err(_) => continue,
            };
            let mut bytes = 0;
            for slot in 0..received {
                let (from, payload) = batch.datagram_mut(slot);
                bytes += payload.len();
                if self.sources.exceeded(from.ip(), now) {
                    metrics.dropped(Cause::Rate, 1);
                    continue;
                }
                let port = from.port();
                if self
                    .source_port_min
                    .is_some_and(|min| port < min || answering_ports.contains(&port))
                {
                    metrics.dropped(Cause::Loop, 1);
                    continue;
                }
                self.service.receive(&mut DatagramIo {
                    now,
                    wall,
                    from,
                    payload,
                    out,
                    metrics,
                    slot,
                });
            }
            metrics.received(received, bytes);
            send(sys, &self.socket, batch, out, metrics);
            if received < Batch::SLOTS {
                self.pending = false; // fewer than asked for: the socket is drained, the next datagram is a new edge
                return;
            }
        }
    }

    /// Lets the service act on its deadline.
    pub(crate) fn advance(
        &mut self,
        sys: &mut S,
        batch: &Batch,
        out: &mut Outbox,
        metrics: &mut ListenerMetrics,
        now: Instant,
    ) {
        self.service.advance(out, now, metrics);
        send(sys, &self.socket, batch, out, metrics);
    }
}

fn send<S: Sys>(
    sys: &mut S,
    socket: &S::Datagram,
    batch: &Batch,
    out: &mut Outbox,
    metrics: &mut ListenerMetrics,
) {
    if out.replies.is_empty() {
        return;
    }
    let unsent = sys.send_batch(socket, batch, out);
    let all = batch.unsent(out, 0);
    metrics.dropped(Cause::Unsent, unsent.replies);
    metrics.sent(all.replies - unsent.replies, all.bytes - unsent.bytes);
    out.clear();
}

/// How often each source sent in the window of now.
pub(crate) struct Sources {
    /// Datagrams in a window; 0 for no limit.
    rate_max: u32,
    /// Addresses counted apart from one another in one window.
    sources_max: usize,
    window_start: Option<Instant>,
    counts: HashMap<IpAddr, u32>,
    others: u32,
}

impl Sources {
    pub(crate) fn new(rate_max: u32, sources_max: usize) -> Self {
        Self {
            rate_max,
            sources_max,
            window_start: None,
            counts: HashMap::new(),
            others: 0,
        }
    }

    /// Counts one datagram. Whether its source sent more than it may. Loopback has no limit.
    #[inline]
    fn exceeded(&mut self, source: IpAddr, now: Instant) -> bool {
        if self.rate_max == 0 || source.to_canonical().is_loopback() {
            return false;
        }
        if self.window_start.is_none_or(|start| now >= start + WINDOW) {
            self.window_start = Some(now);
            self.counts.clear();
            self.others = 0;
        }
        let count = if self.counts.len() < self.sources_max || self.counts.contains_key(&source) {
            self.counts.entry(source).or_default()
        } else {
            &mut self.others
        };
        *count += 1;
        *count > self.rate_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::UdpEchoConfig;
    use crate::services::udp_echo::UdpEcho;
    use crate::sys::unix::Unix;
    use std::net::Ipv4Addr;

    /// A socket that echoes, a client that sent it some datagrams, and the client's address.
    struct Bench {
        sys: Unix,
        socket: DatagramSocket<Unix>,
        to: SocketAddr,
        from: SocketAddr,
        metrics: ListenerMetrics,
    }

    impl Bench {
        fn new(datagrams: usize) -> Self {
            let mut sys = Unix::new(false).expect("a poll");
            let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let (socket, to) = sys.bind_datagram(free, 0).expect("a socket");
            let (client, from) = sys.bind_datagram(free, 1).expect("a socket");
            let mut out = Outbox::default();
            for _ in 0..datagrams {
                out.send(to, b"x");
            }
            assert_eq!(sys.send_batch(&client, &Batch::new(), &out).replies, 0);
            let socket = DatagramSocket {
                bound: to,
                socket,
                service: Box::new(UdpEcho::new(&UdpEchoConfig::default())),
                metrics: 0,
                pending: true,
                source_port_min: Some(0),
                batches_per_turn_max: 4,
                sources: Sources::new(0, 1),
            };
            Self {
                sys,
                socket,
                to,
                from,
                metrics: ListenerMetrics::new(
                    "echo",
                    "udp-echo",
                    to.to_string(),
                    UdpEcho::counts(),
                ),
            }
        }

        /// One turn; how many datagrams were answered so far and how many dropped for fear of a loop.
        fn turn(&mut self, answering_port: u16) -> (u64, u64) {
            let (ports, now) = ([self.to.port(), answering_port], Instant::now());
            let (mut batch, mut out) = (Batch::new(), Outbox::default());
            let Self {
                sys,
                socket,
                metrics,
                ..
            } = self;
            socket.serve(sys, &mut batch, &mut out, &ports, metrics, now);
            let datagrams = metrics.of.datagrams().expect("it has datagrams");
            (datagrams.sent, datagrams.dropped[Cause::Loop as usize])
        }
    }

    #[test]
    fn a_flooded_socket_gives_way_after_some_batches() {
        let mut bench = Bench::new(2 * Batch::SLOTS + 1);
        bench.socket.batches_per_turn_max = 1;
        let slots = Batch::SLOTS as u64;
        assert_eq!(bench.turn(0), (slots, 0));
        assert!(bench.socket.pending);
        bench.socket.batches_per_turn_max = 2;
        assert_eq!(bench.turn(0), (2 * slots + 1, 0));
        assert!(!bench.socket.pending);
    }

    #[test]
    fn who_may_answer_the_answer_gets_none() {
        let answered = |limits: fn(u16) -> (Option<u16>, u16)| {
            let mut bench = Bench::new(3);
            let (source_port_min, answering_port) = limits(bench.from.port());
            bench.socket.source_port_min = source_port_min;
            bench.turn(answering_port)
        };
        assert_eq!(answered(|port| (Some(port), 0)), (3, 0));
        assert_eq!(answered(|port| (Some(port + 1), 0)), (0, 3));
        assert_eq!(answered(|port| (Some(0), port)), (0, 3));
        // Who never answers has nothing to fear.
        assert_eq!(answered(|port| (None, port)), (3, 0));
    }

    #[test]
    fn a_source_has_its_rate_in_each_window_and_loopback_has_none() {
        let now = Instant::now();
        let mut sources = Sources::new(2, 16);
        let source = IpAddr::from([192, 0, 2, 1]);
        let other = IpAddr::from([192, 0, 2, 2]);
        assert_eq!(
            [(); 3].map(|()| sources.exceeded(source, now)),
            [false, false, true]
        );
        assert!(!sources.exceeded(other, now));
        assert!(!sources.exceeded(source, now + WINDOW));
        for _ in 0..10 {
            assert!(!sources.exceeded(IpAddr::from(Ipv4Addr::LOCALHOST), now));
            assert!(!sources.exceeded("::ffff:127.0.0.1".parse().expect("an address"), now));
        }
    }

    #[test]
    fn a_full_table_counts_newcomers_together_and_keeps_those_in_it() {
        let now = Instant::now();
        const SOURCES_MAX: usize = 1000;
        let mut sources = Sources::new(1, SOURCES_MAX);
        for i in 0..SOURCES_MAX as u32 {
            assert!(!sources.exceeded(IpAddr::from((0x0a00_0000 + i).to_be_bytes()), now));
        }
        assert!(!sources.exceeded(IpAddr::from([192, 0, 2, 1]), now));
        assert!(
            sources.exceeded(IpAddr::from([192, 0, 2, 2]), now),
            "newcomers share one count"
        );
        assert!(
            sources.exceeded(IpAddr::from([10, 0, 0, 0]), now),
            "the first has its own"
        );
        assert_eq!(sources.counts.len(), SOURCES_MAX);
    }
}
