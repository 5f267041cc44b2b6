//! A name server: knows a few names, and lies, dawdles or cuts its answers short if it is told to;
//! over TCP it has all of them.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use netlab_reactor::dns::{Framed, stream_message};
use netlab_reactor::sys::sim::End;
use netlab_reactor::sys::sim::actor::{Actor, Hands, Received};
use netlab_reactor::sys::sim::faults::Fault;
use simple_dns::rdata::{A, RData};
use simple_dns::{CLASS, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};

/// The name servers of the configuration.
pub(crate) const SERVERS: [SocketAddr; 2] = [
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 53)), 53),
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 54)), 53),
];

/// Where nobody is.
const DEAD: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 80);
/// Where the relay's origin is.
pub(crate) const ALIVE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 81);
/// Another one.
pub(crate) const ALIVE_TOO: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 82);
/// Where the proxy's origin is.
pub(crate) const ORIGIN: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 80);
/// Where the proxy's parent is.
pub(crate) const PARENT: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 90);

/// The zone. The second name has an address where nobody is before the one where somebody is.
const NAMES: [(&str, Ipv4Addr); 11] = [
    ("one.example", ALIVE),
    ("two.example", DEAD),
    ("two.example", ALIVE),
    ("both.example", ALIVE),
    ("both.example", ALIVE_TOO),
    ("dead.example", DEAD),
    ("web.example", ORIGIN),
    ("secure.example", ORIGIN),
    ("stranger.example", ORIGIN),
    ("parent.example", PARENT),
    ("inside.example", Ipv4Addr::LOCALHOST),
];

/// One server.
pub(crate) struct NameServer {
    at: SocketAddr,
    socket: Option<usize>,
    /// Answers that wait for their moment.
    late: Vec<(Duration, SocketAddr, Vec<u8>)>,
    connections: Vec<Connection>,
}

/// A connection to a server: what came on it, and what is still to be sent.
struct Connection {
    end: End,
    received: Vec<u8>,
    unsent: Vec<u8>,
}

impl NameServer {
    pub(crate) fn new(at: SocketAddr) -> Self {
        Self {
            at,
            socket: None,
            late: Vec::new(),
            connections: Vec::new(),
        }
    }

    fn answer(query: &[u8]) -> Option<Vec<u8>> {
        let query = Packet::parse(query).ok()?;
        let question = query.questions.first()?.clone();
        let name = question.qname.to_string();
        let mut reply = Packet::new_reply(query.id());
        reply.set_flags(PacketFlag::RESPONSE | PacketFlag::RECURSION_AVAILABLE);
        let known = NAMES
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(&name));
        let addresses: Vec<Ipv4Addr> = known.map(|(_, address)| *address).collect();
        if addresses.is_empty() {
            *reply.rcode_mut() = RCODE::NameError;
        } else if question.qtype == QTYPE::TYPE(TYPE::A) {
            for address in addresses {
                let record = RData::A(A::from(address));
                let name = question.qname.clone();
                reply
                    .answers
                    .push(ResourceRecord::new(name, CLASS::IN, 60, record));
            }
        }
        reply.questions.push(question);
        reply.build_bytes_vec().ok()
    }
}

/// A forged answer, or a real one that was damaged: the id, the flags, the question, the address,
/// whatever it hits. `None` if nobody could tell it from the real one.
fn lie(answer: &[u8], hands: &mut Hands<'_>) -> Option<Vec<u8>> {
    let mut lie = answer.to_vec();
    let at = hands.rng().below(lie.len());
    lie[at] ^= 1 << hands.rng().below(8);
    (!is_believable(&lie, answer)).then_some(lie)
}

/// The same answer without its records, and with the TC bit.
fn cut_short(answer: &[u8]) -> Vec<u8> {
    let mut packet = Packet::parse(answer).expect("an answer");
    packet.answers.clear();
    packet.set_flags(PacketFlag::TRUNCATION);
    packet.build_bytes_vec().expect("a short answer")
}

impl Connection {
    /// Answers the query, once it is there. Whether there is anything left to do.
    fn act(&mut self, hands: &mut Hands<'_>) -> bool {
        loop {
            match hands.receive(self.end, 512) {
                Received::Bytes(bytes) => self.received.extend(bytes),
                Received::Nothing => break,
                Received::End | Received::Broken => {
                    hands.close(self.end);
                    return false;
                }
            }
        }
        if let Framed::Whole(query) = stream_message(&self.received)
            && let Some(answer) = NameServer::answer(query)
        {
            let lie = match hands.strikes(Fault::DnsLies) {
                true => lie(&answer, hands),
                false => None,
            };
            let answer = lie.unwrap_or(answer);
            let length = u16::try_from(answer.len()).expect("a short answer");
            self.unsent = [&length.to_be_bytes()[..], &answer].concat();
            self.received.clear();
        }
        if !self.unsent.is_empty() {
            let count = hands.send(self.end, &self.unsent);
            self.unsent.drain(..count);
        }
        true
    }
}

impl Actor for NameServer {
    fn act(&mut self, hands: &mut Hands<'_>) {
        let at = self.at;
        let socket = *self.socket.get_or_insert_with(|| {
            hands.listen(at);
            hands.bind(at).expect("its own address")
        });
        while let Some(end) = hands.accept() {
            self.connections.push(Connection {
                end,
                received: Vec::new(),
                unsent: Vec::new(),
            });
        }
        self.connections
            .retain_mut(|connection| connection.act(hands));
        while let Some((from, query)) = hands.receive_from(socket) {
            let Some(answer) = Self::answer(&query) else {
                continue;
            };
            if hands.strikes(Fault::DnsLies)
                && let Some(lie) = lie(&answer, hands)
            {
                hands.send_to(socket, from, &lie);
            }
            let answer = match hands.strikes(Fault::DnsTruncates) {
                true => cut_short(&answer),
                false => answer,
            };
            let delay = if hands.strikes(Fault::DnsSlow) {
                hands.rng().span(Duration::from_secs(4))
            } else {
                Duration::ZERO
            };
            self.late.push((hands.now() + delay, from, answer));
            hands.wake_in(delay);
        }
        let now = hands.now();
        let (due, late) = std::mem::take(&mut self.late)
            .into_iter()
            .partition(|late| late.0 <= now);
        self.late = late;
        for (_, to, answer) in due {
            hands.send_to(socket, to, &answer);
        }
    }

    fn is_done(&self) -> bool {
        true
    }

    fn verdict(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Whether a forged message passes for an answer to the same question: then nobody could tell, and
/// it proves nothing.
fn is_believable(forged: &[u8], real: &[u8]) -> bool {
    let (Ok(a), Ok(b)) = (Packet::parse(forged), Packet::parse(real)) else {
        return false;
    };
    let question = |packet: &Packet<'_>| {
        packet
            .questions
            .first()
            .map(|q| q.qname.to_string().to_lowercase())
    };
    a.id() == b.id() && question(&a) == question(&b)
}
