//! One query as bytes, and the verdict on the bytes that came back (RFC 1035, section 4).
//!
//! Three rules:
//! 1. What does not echo our id and our question is no answer: [`Verdict::Lie`]. Only an error that says
//!    that the query itself was not understood may leave the question out.
//! 2. Addresses count only under the name that was asked for, or under one to which a chain of CNAME
//!    records in the same message leads (RFC 1034, section 3.6.2; at most [`CHAIN_MAX`] links). The rest
//!    of the message is ignored, the additional section included.
//! 3. EDNS0 announces [`UDP_BYTES_MAX`] (RFC 6891; the size that needs no fragments, RFC 9715). A server
//!    that does not understand it says so, or garbles its answer: [`Verdict::NotUnderstood`], after
//!    which it is asked without. An answer that does not fit has the TC bit: it is asked for again over
//!    TCP (RFC 7766).
//!
//! The case of the letters is not randomised ("0x20"): the id and a fresh port for each query stand
//! against guessing, and servers that compare names octet by octet stay usable.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use simple_dns::rdata::{OPT, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, RCODE, TYPE, header_buffer};

/// The UDP payload announced with EDNS0, in bytes.
pub(super) const UDP_BYTES_MAX: u16 = 1232;
/// CNAME links that are followed in one message.
pub(super) const CHAIN_MAX: usize = 16;
/// Records of all sections; a message that announces more is taken for garbled before any memory is set
/// aside for them.
const RECORDS_MAX: usize = 512;
/// Addresses that are kept of one message.
pub(super) const ADDRESSES_MAX: usize = 32;
/// Bytes of a message's header.
const HEADER_BYTES: usize = 12;
/// The least bytes of a record: the root's name, type, class, time to live, length.
const RECORD_BYTES_MIN: usize = 11;

/// Which kind of address a question asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

/// What an answer says. Times to live are in seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Not an answer to this question.
    Lie,
    /// The addresses, at least one.
    Found { addresses: Vec<IpAddr>, ttl: u32 },
    /// The name has no address of this family. The time is the zone's, where it named one (RFC 2308).
    NoAddress { ttl: Option<u32> },
    /// There is no such name.
    NotFound { ttl: Option<u32> },
    /// The answer did not fit; these addresses did, perhaps none.
    Truncated { addresses: Vec<IpAddr>, ttl: u32 },
    /// The server did not understand the query, or its answer makes no sense.
    NotUnderstood,
    /// The server failed, refused, is not in charge, or tells of a loop.
    ServerFailure,
}

/// The bytes of a query for `name`, a valid host name without a final dot.
pub(super) fn query(id: u16, name: &str, family: Family, edns: bool) -> Vec<u8> {
    let qtype = match family {
        Family::V4 => TYPE::A,
        Family::V6 => TYPE::AAAA,
    };
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(
        Name::new_unchecked(name),
        qtype.into(),
        CLASS::IN.into(),
        false,
    ));
    if edns {
        *packet.opt_mut() = Some(OPT {
            opt_codes: Vec::new(),
            udp_packet_size: UDP_BYTES_MAX,
            version: 0,
        });
    }
    // Invariant: writing to memory does not fail.
    packet
        .build_bytes_vec()
        .expect("a query fits into a vector")
}

/// The first whole message in what a TCP connection has brought so far, without its two octets of length
/// (RFC 1035, section 4.2.2); `None` while it is not complete.
pub fn stream_message(received: &[u8]) -> Option<&[u8]> {
    let (length, rest) = received.split_first_chunk()?;
    rest.get(..u16::from_be_bytes(*length).into())
}

/// Judges `bytes` as the answer to the query `sent` for `name`. `whole` says that the transport cannot cut
/// a message short, so that its TC bit means nothing.
pub(super) fn judge(sent: &[u8], name: &str, family: Family, bytes: &[u8], whole: bool) -> Verdict {
    if bytes.len() < HEADER_BYTES
        || bytes[..2] != sent[..2]
        || !header_buffer::has_flags_unchecked(bytes, PacketFlag::RESPONSE)
        || bytes[2] & 0x78 != 0
    {
        return Verdict::Lie;
    }
    let rcode = header_buffer::rcode_unchecked(bytes);
    if !echoes_question(sent, name, bytes) {
        let bare = header_buffer::questions_unchecked(bytes) == 0
            && matches!(rcode, RCODE::FormatError | RCODE::NotImplemented);
        return if bare {
            Verdict::NotUnderstood
        } else {
            Verdict::Lie
        };
    }
    let truncated = !whole && header_buffer::has_flags_unchecked(bytes, PacketFlag::TRUNCATION);
    let Some(packet) = parse(bytes) else {
        return if truncated {
            Verdict::Truncated {
                addresses: Vec::new(),
                ttl: 0,
            }
        } else {
            Verdict::NotUnderstood
        };
    };
    let verdict = match packet.rcode() {
        RCODE::NoError => follow(&packet, name, family),
        RCODE::NameError => Verdict::NotFound {
            ttl: negative_ttl(&packet),
        },
        RCODE::FormatError | RCODE::NotImplemented | RCODE::BADVERS => Verdict::NotUnderstood,
        _ => Verdict::ServerFailure,
    };
    match verdict {
        Verdict::Found { addresses, ttl } if truncated => Verdict::Truncated { addresses, ttl },
        Verdict::NoAddress { .. } if truncated => Verdict::Truncated {
            addresses: Vec::new(),
            ttl: 0,
        },
        verdict => verdict,
    }
}

/// True if the answer's one question is ours, letter case aside. A first name cannot be compressed, so
/// that the octets may be compared as they are; length octets are below the letters.
fn echoes_question(sent: &[u8], name: &str, bytes: &[u8]) -> bool {
    let end = HEADER_BYTES + name.len() + 2 + 4;
    let question = |message: &[u8]| {
        message
            .get(HEADER_BYTES..end)
            .map(<[u8]>::to_ascii_lowercase)
    };
    header_buffer::questions_unchecked(bytes) == 1 && question(bytes) == question(sent)
}

/// The library's parse, kept from setting aside memory for records that cannot be there. An OPT record
/// among the answers comes from servers that copy all behind the header as "the question".
fn parse(bytes: &[u8]) -> Option<Packet<'_>> {
    let records = usize::from(header_buffer::answers_unchecked(bytes))
        + usize::from(header_buffer::name_servers_unchecked(bytes))
        + usize::from(header_buffer::additional_records_unchecked(bytes));
    if records > RECORDS_MAX || records * RECORD_BYTES_MIN > bytes.len() {
        return None;
    }
    let packet = Packet::parse(bytes).ok()?;
    let misplaced = packet
        .answers
        .iter()
        .any(|r| r.rdata.type_code() == TYPE::OPT);
    (!misplaced).then_some(packet)
}

/// Follows the chain from `name` to addresses.
fn follow(packet: &Packet<'_>, name: &str, family: Family) -> Verdict {
    let mut owner = &Name::new_unchecked(name);
    let mut ttl = u32::MAX;
    for _ in 0..=CHAIN_MAX {
        let of_owner = || {
            packet
                .answers
                .iter()
                .filter(|record| record.class == CLASS::IN && record.name == *owner)
        };
        let mut addresses = Vec::new();
        let mut alias = None;
        for record in of_owner() {
            let address: IpAddr = match (&record.rdata, family) {
                (RData::A(a), Family::V4) => Ipv4Addr::from_bits(a.address).into(),
                (RData::AAAA(a), Family::V6) => Ipv6Addr::from_bits(a.address).into(),
                (RData::CNAME(target), _) => {
                    alias = alias.or(Some((&target.0, record.ttl)));
                    continue;
                }
                _ => continue,
            };
            if addresses.len() < ADDRESSES_MAX {
                addresses.push(address);
                ttl = ttl.min(seconds(record.ttl));
            }
        }
        if !addresses.is_empty() {
            return Verdict::Found { addresses, ttl };
        }
        let Some((target, target_ttl)) = alias else {
            return if is_referral(packet) {
                Verdict::ServerFailure
            } else {
                Verdict::NoAddress {
                    ttl: negative_ttl(packet).map(|negative| negative.min(ttl)),
                }
            };
        };
        ttl = ttl.min(seconds(target_ttl));
        owner = target;
    }
    Verdict::ServerFailure
}

/// A server that only points to others cannot be used by a stub: no start of authority, name servers
/// instead, and no claim to authority.
fn is_referral(packet: &Packet<'_>) -> bool {
    let holds = |wanted| {
        packet
            .name_servers
            .iter()
            .any(|record| record.rdata.type_code() == wanted)
    };
    holds(TYPE::NS) && !holds(TYPE::SOA) && !packet.has_flags(PacketFlag::AUTHORITATIVE_ANSWER)
}

/// How long "no" holds: the lesser of the start of authority's own time and its `minimum`
/// (RFC 2308, section 5).
fn negative_ttl(packet: &Packet<'_>) -> Option<u32> {
    packet
        .name_servers
        .iter()
        .find_map(|record| match &record.rdata {
            RData::SOA(soa) => Some(seconds(record.ttl).min(seconds(soa.minimum))),
            _ => None,
        })
}

/// A time to live with its highest bit set means none (RFC 2181, section 8).
fn seconds(ttl: u32) -> u32 {
    if ttl > i32::MAX as u32 { 0 } else { ttl }
}
