//! One query as bytes, and the verdict on the bytes that came back (RFC 1035, section 4).
//!
//! Three rules:
//! 1. What does not echo our id and our question is no answer: [`Verdict::Lie`]. Only an error that
//!    says that the query itself was not understood may leave the question out.
//! 2. Addresses count only under the name that was asked for, or under one to which a chain of
//!    CNAME records in the same message leads (RFC 1034, section 3.6.2; at most [`CHAIN_MAX`]
//!    links). The rest of the message is ignored, the additional section included.
//! 3. EDNS0 announces [`UDP_BYTES_MAX`] (RFC 6891; the size that needs no fragments, RFC 9715). A
//!    server that does not understand it says so, or garbles its answer:
//!    [`Verdict::NotUnderstood`], after which it is asked without. An answer that does not fit has
//!    the TC bit: it is asked for again over TCP (RFC 7766). A datagram that is larger is nothing
//!    that was asked for: [`Verdict::Lie`].
//! 4. What it costs to read a message is bounded before it is read: its records, and how many
//!    compression pointers lead to one another ([`HOPS_MAX`]).
//!
//! The case of the letters is not randomised ("0x20"): the id and a fresh port for each query stand
//! against guessing, and servers that compare names octet by octet stay usable.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use simple_dns::rdata::{OPT, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, RCODE, TYPE, header_buffer};

/// The UDP payload announced with EDNS0, in bytes.
pub(super) const UDP_BYTES_MAX: u16 = 1232;
/// The longest message that is taken over TCP, in bytes: room for [`RECORDS_MAX`] addresses. A
/// connection that announces more is closed before any of it is received.
pub const STREAM_MESSAGE_BYTES_MAX: usize = 16 * 1024;
/// CNAME links that are followed in one message.
pub(super) const CHAIN_MAX: usize = 16;
/// Records of all sections; a message that announces more is taken for garbled before any memory is
/// set aside for them.
const RECORDS_MAX: usize = 512;
/// Addresses that are kept of one message.
pub(super) const ADDRESSES_MAX: usize = 32;
/// Compression pointers that lead from one straight to the next. A name in a message points to a
/// label; some servers point to a name that is a pointer itself. A chain of thousands, read again
/// for each of hundreds of records, would cost 25 ms.
const HOPS_MAX: u8 = 4;
/// The longest time to live that is believed, in seconds (RFC 8767, section 4).
const TTL_SECONDS_MAX: u32 = 604_800;
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
    /// The name has no address of this family. The time is the zone's, where it named one (RFC
    /// 2308).
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

/// What a TCP connection has brought so far (RFC 1035, section 4.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framed<'a> {
    /// So many bytes are still to come, at the least.
    Partial(usize),
    /// The first message is there: this is it, without its two octets of length.
    Whole(&'a [u8]),
    /// It announces more than [`STREAM_MESSAGE_BYTES_MAX`].
    TooLong,
}

/// The first message in what a TCP connection has brought so far.
pub fn stream_message(received: &[u8]) -> Framed<'_> {
    let Some((length, rest)) = received.split_first_chunk() else {
        return Framed::Partial(2 - received.len());
    };
    let length = usize::from(u16::from_be_bytes(*length));
    match rest.get(..length) {
        _ if length > STREAM_MESSAGE_BYTES_MAX => Framed::TooLong,
        Some(message) => Framed::Whole(message),
        None => Framed::Partial(length - rest.len()),
    }
}

/// Judges `bytes` as the answer to the query `sent` for `name`. `whole` says that the transport
/// cannot cut a message short, so that its TC bit means nothing.
pub(super) fn judge(sent: &[u8], name: &str, family: Family, bytes: &[u8], whole: bool) -> Verdict {
    if bytes.len() < HEADER_BYTES
        || (!whole && bytes.len() > UDP_BYTES_MAX.into())
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

/// True if the answer's one question is ours, letter case aside. A first name cannot be compressed,
/// so that the octets may be compared as they are; length octets are below the letters.
fn echoes_question(sent: &[u8], name: &str, bytes: &[u8]) -> bool {
    let end = HEADER_BYTES + name.len() + 2 + 4;
    let question = |message: &[u8]| {
        message
            .get(HEADER_BYTES..end)
            .map(<[u8]>::to_ascii_lowercase)
    };
    header_buffer::questions_unchecked(bytes) == 1 && question(bytes) == question(sent)
}

/// The library's parse, kept from setting aside memory for records that cannot be there. An OPT
/// record among the answers comes from servers that copy all behind the header as "the question".
fn parse(bytes: &[u8]) -> Option<Packet<'_>> {
    let records = usize::from(header_buffer::answers_unchecked(bytes))
        + usize::from(header_buffer::name_servers_unchecked(bytes))
        + usize::from(header_buffer::additional_records_unchecked(bytes));
    let is_too_dear = records > RECORDS_MAX || has_long_chain(bytes);
    if is_too_dear || records * RECORD_BYTES_MIN > bytes.len() {
        return None;
    }
    let packet = Packet::parse(bytes).ok()?;
    let misplaced = packet
        .answers
        .iter()
        .any(|r| r.rdata.type_code() == TYPE::OPT);
    (!misplaced).then_some(packet)
}

/// Whether more than [`HOPS_MAX`] pointers may lead to one another (RFC 1035, section 4.1.4). Which
/// octets are names need not be known: whatever could be a pointer, to what could be one before it,
/// is taken for one, which other octets are by chance once in many million messages.
fn has_long_chain(bytes: &[u8]) -> bool {
    let pointer = |at: usize| match *bytes.get(at..at + 2)? {
        [high @ 0xc0..=0xff, low] => Some(usize::from(u16::from_be_bytes([high & 0x3f, low]))),
        _ => None,
    };
    // Pointers that lead on from each place; a pointer leads to a place before it.
    let mut hops = vec![0; bytes.len()];
    for at in HEADER_BYTES..bytes.len() {
        if let Some(to) = pointer(at).filter(|to| *to < at) {
            hops[at] = hops[to] + 1;
            if hops[at] > HOPS_MAX {
                return true;
            }
        }
    }
    false
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

/// A server that only points to others cannot be used by a stub: no start of authority, name
/// servers instead, and no claim to authority.
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

/// A time to live, which means a week at most, with its highest bit set as well (RFC 8767, section
/// 4).
fn seconds(ttl: u32) -> u32 {
    ttl.min(TTL_SECONDS_MAX)
}

/// Answers made by hand for the tests of this module and of the resolver.
#[cfg(test)]
pub(super) mod forge {
    use super::*;
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::{A, AAAA, CNAME, NS, RData, SOA};

    /// The type asked for.
    pub(in crate::dns) fn family(sent: &[u8]) -> Family {
        let packet = Packet::parse(sent).unwrap();
        match packet.questions[0].qtype {
            simple_dns::QTYPE::TYPE(TYPE::A) => Family::V4,
            _ => Family::V6,
        }
    }

    /// The name asked for.
    pub(in crate::dns) fn name(sent: &[u8]) -> String {
        Packet::parse(sent).unwrap().questions[0].qname.to_string()
    }

    pub(in crate::dns) fn has_edns(sent: &[u8]) -> bool {
        Packet::parse(sent).unwrap().opt().is_some()
    }

    /// An answer to `sent`: a line is `OWNER TTL TYPE DATA`; SOA (its data is the minimum) and NS
    /// go to the authority section.
    pub(in crate::dns) fn reply(sent: &[u8], rcode: RCODE, lines: &[&str]) -> Vec<u8> {
        let mut packet = Packet::parse(sent).unwrap().into_reply();
        packet.set_flags(PacketFlag::RECURSION_AVAILABLE);
        *packet.rcode_mut() = rcode;
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            let [owner, ttl, kind, data] = words[..] else {
                panic!("not a record: {line}")
            };
            let name = Name::new_unchecked;
            let rdata = match kind {
                "A" => RData::A(A::from(data.parse::<Ipv4Addr>().unwrap())),
                "AAAA" => RData::AAAA(AAAA::from(data.parse::<Ipv6Addr>().unwrap())),
                "CNAME" => RData::CNAME(CNAME(name(data))),
                "NS" => RData::NS(NS(name(data))),
                "SOA" => RData::SOA(SOA {
                    mname: name("ns.test"),
                    rname: name("root.test"),
                    serial: 1,
                    refresh: 1,
                    retry: 1,
                    expire: 1,
                    minimum: data.parse().unwrap(),
                }),
                _ => panic!("unknown type: {line}"),
            };
            let record = ResourceRecord::new(name(owner), CLASS::IN, ttl.parse().unwrap(), rdata);
            if ["SOA", "NS"].contains(&kind) {
                packet.name_servers.push(record);
            } else {
                packet.answers.push(record);
            }
        }
        packet.build_bytes_vec_compressed().unwrap()
    }

    /// Sets the TC bit.
    pub(in crate::dns) fn truncated(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes[2] |= 2;
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::forge::{reply, truncated};
    use super::*;
    use proptest::prelude::*;

    const NAME: &str = "www.test";

    fn sent() -> Vec<u8> {
        query(0x1234, NAME, Family::V4, true)
    }

    fn judged(bytes: &[u8]) -> Verdict {
        judge(&sent(), NAME, Family::V4, bytes, false)
    }

    fn answered(lines: &[&str]) -> Verdict {
        judged(&reply(&sent(), RCODE::NoError, lines))
    }

    fn found(addresses: &[&str], ttl: u32) -> Verdict {
        Verdict::Found {
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            ttl,
        }
    }

    #[test]
    fn a_query_octet_by_octet() {
        let plain = query(0x1234, NAME, Family::V6, false);
        assert_eq!(
            plain,
            b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x04test\x00\x00\x1c\x00\x01"
        );
        let opt = b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00";
        assert!(sent().ends_with(opt));
        assert_eq!(sent()[11], 1, "one additional record");
    }

    #[test]
    fn addresses_under_the_name_are_found() {
        let lines = ["www.test 300 A 10.0.0.1", "WWW.Test 60 A 10.0.0.2"];
        assert_eq!(answered(&lines), found(&["10.0.0.1", "10.0.0.2"], 60));
    }

    #[test]
    fn a_chain_is_followed_in_any_order_and_its_least_time_counts() {
        let lines = [
            "c.test 300 A 10.0.0.1",
            "b.test 30 CNAME c.test",
            "www.test 300 CNAME b.test",
        ];
        assert_eq!(answered(&lines), found(&["10.0.0.1"], 30));
    }

    #[test]
    fn addresses_beside_the_chain_are_ignored() {
        let lines = [
            "evil.test 300 A 10.6.6.6",
            "www.test 300 CNAME b.test",
            "b.test 300 A 10.0.0.1",
        ];
        assert_eq!(answered(&lines), found(&["10.0.0.1"], 300));
        let only_lies = ["evil.test 300 A 10.6.6.6", "www.test 300 AAAA ::1"];
        assert_eq!(answered(&only_lies), Verdict::NoAddress { ttl: None });
    }

    #[test]
    fn a_loop_is_the_servers_failure() {
        let lines = ["www.test 300 CNAME b.test", "b.test 300 CNAME www.test"];
        assert_eq!(answered(&lines), Verdict::ServerFailure);
        assert_eq!(
            answered(&["www.test 300 CNAME www.test"]),
            Verdict::ServerFailure
        );
    }

    #[test]
    fn a_chain_has_a_bound() {
        let chain = |links: usize| {
            let mut lines = vec!["www.test 9 CNAME n1".to_owned()];
            lines.extend((1..links).map(|i| format!("n{i} 9 CNAME n{}", i + 1)));
            lines.push(format!("n{links} 9 A 10.0.0.1"));
            answered(&lines.iter().map(String::as_str).collect::<Vec<_>>())
        };
        assert_eq!(chain(CHAIN_MAX), found(&["10.0.0.1"], 9));
        assert_eq!(chain(CHAIN_MAX + 1), Verdict::ServerFailure);
    }

    #[test]
    fn no_holds_as_long_as_the_zone_says() {
        let soa = ["test 300 SOA 60"];
        assert_eq!(answered(&soa), Verdict::NoAddress { ttl: Some(60) });
        let unknown = judged(&reply(&sent(), RCODE::NameError, &["test 20 SOA 60"]));
        assert_eq!(unknown, Verdict::NotFound { ttl: Some(20) });
        let chained = ["www.test 5 CNAME b.test", "test 300 SOA 60"];
        assert_eq!(answered(&chained), Verdict::NoAddress { ttl: Some(5) });
        let huge = ["test 4294967295 SOA 4294967295"];
        let ttl = Some(TTL_SECONDS_MAX);
        assert_eq!(answered(&huge), Verdict::NoAddress { ttl }, "a week");
    }

    #[test]
    fn a_referral_is_no_answer() {
        assert_eq!(answered(&["test 300 NS ns.test"]), Verdict::ServerFailure);
    }

    #[test]
    fn what_does_not_echo_the_query_is_a_lie() {
        let good = reply(&sent(), RCODE::NoError, &["www.test 300 A 10.0.0.1"]);
        let spoilt = |at: usize, bits: u8| {
            let mut bytes = good.clone();
            bytes[at] ^= bits;
            judged(&bytes)
        };
        assert!(matches!(judged(&good), Verdict::Found { .. }));
        assert_eq!(spoilt(0, 1), Verdict::Lie, "id");
        assert_eq!(spoilt(1, 1), Verdict::Lie, "id");
        assert_eq!(spoilt(2, 0x80), Verdict::Lie, "a query");
        assert_eq!(spoilt(2, 0x10), Verdict::Lie, "another operation");
        assert_eq!(spoilt(5, 1), Verdict::Lie, "no question");
        assert_eq!(spoilt(13, 1), Verdict::Lie, "another name");
        assert_eq!(spoilt(22, 0x1d), Verdict::Lie, "another type");
        assert_eq!(spoilt(24, 2), Verdict::Lie, "another class");
        assert!(
            matches!(spoilt(13, 0x20), Verdict::Found { .. }),
            "letter case"
        );
        assert_eq!(judged(b""), Verdict::Lie);
        assert_eq!(judged(&good[..20]), Verdict::Lie);
        assert_eq!(judged(&sent()), Verdict::Lie, "our own query, reflected");
    }

    #[test]
    fn codes_of_the_server() {
        let coded = |rcode| judged(&reply(&sent(), rcode, &[]));
        assert_eq!(coded(RCODE::ServerFailure), Verdict::ServerFailure);
        assert_eq!(coded(RCODE::Refused), Verdict::ServerFailure);
        assert_eq!(coded(RCODE::FormatError), Verdict::NotUnderstood);
        assert_eq!(coded(RCODE::NotImplemented), Verdict::NotUnderstood);
        let bare = b"\x12\x34\x80\x01\x00\x00\x00\x00\x00\x00\x00\x00";
        assert_eq!(judged(bare), Verdict::NotUnderstood);
        let bare_failure = b"\x12\x34\x80\x02\x00\x00\x00\x00\x00\x00\x00\x00";
        assert_eq!(judged(bare_failure), Verdict::Lie);
    }

    /// A server that takes all behind the header for the question sends our OPT record back in
    /// front of its answer, which then counts as the answer.
    #[test]
    fn a_copied_opt_record_is_noticed() {
        let mut bytes = sent();
        bytes[2] |= 0x80;
        bytes[7] = 1;
        bytes[11] = 0;
        bytes.extend(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x0a\x00\x00\x01");
        assert_eq!(judged(&bytes), Verdict::NotUnderstood);
    }

    #[test]
    fn more_records_than_fit_are_not_understood() {
        let mut bytes = reply(&sent(), RCODE::NoError, &[]);
        bytes[6..8].copy_from_slice(&[0xff, 0xff]);
        assert_eq!(judged(&bytes), Verdict::NotUnderstood);
    }

    #[test]
    fn a_datagram_beyond_the_announced_size_is_dropped() {
        let good = reply(&sent(), RCODE::NoError, &["www.test 300 A 10.0.0.1"]);
        let with = |size: usize, whole| {
            let mut bytes = good.clone();
            bytes.resize(size, 0);
            judge(&sent(), NAME, Family::V4, &bytes, whole)
        };
        let limit = UDP_BYTES_MAX.into();
        assert!(matches!(with(limit, false), Verdict::Found { .. }));
        assert_eq!(with(limit + 1, false), Verdict::Lie);
        let over_tcp = with(limit + 1, true);
        assert!(matches!(over_tcp, Verdict::Found { .. }));
    }

    /// An answer in which the name of a second record is the last of so many pointers.
    fn chained(pointers: usize) -> Verdict {
        let mut bytes = reply(&sent(), RCODE::NoError, &["www.test 300 A 10.0.0.1"]);
        let data = bytes.len() + 2 + 10;
        bytes.extend(b"\xc0\x0c\xff\x00\x00\x01\x00\x00\x00\x3c");
        bytes.extend(((pointers * 2) as u16).to_be_bytes());
        let mut to = 0x0c;
        for at in (data..).step_by(2).take(pointers) {
            bytes.extend((0xc000 | to as u16).to_be_bytes());
            to = at;
        }
        bytes[7] = 3;
        bytes.extend((0xc000 | to as u16).to_be_bytes());
        bytes.extend(b"\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x0a\x00\x00\x02");
        judge(&sent(), NAME, Family::V4, &bytes, true)
    }

    #[test]
    fn pointers_that_lead_to_pointers_have_a_bound() {
        let both = found(&["10.0.0.1", "10.0.0.2"], 60);
        // The record's own name is one more.
        assert_eq!(chained(usize::from(HOPS_MAX) - 1), both);
        assert_eq!(chained(HOPS_MAX.into()), Verdict::NotUnderstood);
        assert_eq!(chained(6000), Verdict::NotUnderstood);
    }

    #[test]
    fn a_truncated_answer_tells_what_fitted() {
        let whole = reply(&sent(), RCODE::NoError, &["www.test 300 A 10.0.0.1"]);
        let cut = truncated(whole);
        let addresses = vec!["10.0.0.1".parse().unwrap()];
        assert_eq!(
            judged(&cut),
            Verdict::Truncated {
                addresses,
                ttl: 300
            }
        );
        assert_eq!(
            judge(&sent(), NAME, Family::V4, &cut, true),
            found(&["10.0.0.1"], 300)
        );
        let nothing = Verdict::Truncated {
            addresses: vec![],
            ttl: 0,
        };
        assert_eq!(
            judged(&truncated(reply(&sent(), RCODE::NoError, &[]))),
            nothing
        );
        assert_eq!(
            judged(&cut[..cut.len() - 6]),
            nothing,
            "cut inside a record"
        );
    }

    #[test]
    fn addresses_have_a_bound() {
        let lines: Vec<String> = (0..60)
            .map(|i| format!("www.test 9 A 10.0.0.{i}"))
            .collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let Verdict::Found { addresses, .. } = answered(&lines) else {
            panic!("not found")
        };
        assert_eq!(addresses.len(), ADDRESSES_MAX);
    }

    #[test]
    fn a_stream_yields_whole_messages_only() {
        assert_eq!(stream_message(b""), Framed::Partial(2));
        assert_eq!(stream_message(b"\x00"), Framed::Partial(1));
        assert_eq!(stream_message(b"\x00\x03ab"), Framed::Partial(1));
        assert_eq!(stream_message(b"\x00\x03abc"), Framed::Whole(b"abc"));
        assert_eq!(stream_message(b"\x00\x03abcd"), Framed::Whole(b"abc"));
        assert_eq!(stream_message(b"\x00\x00"), Framed::Whole(b""));
        let most = STREAM_MESSAGE_BYTES_MAX as u16;
        let announced = |length: u16| length.to_be_bytes();
        let all = Framed::Partial(most.into());
        assert_eq!(stream_message(&announced(most)), all);
        assert_eq!(stream_message(&announced(most + 1)), Framed::TooLong);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), whole: bool) {
            judge(&sent(), NAME, Family::V4, &bytes, whole);
            let mut headed = sent();
            headed[2] |= 0x80;
            headed.truncate(HEADER_BYTES + NAME.len() + 6);
            headed[7] = 3;
            headed[9] = 1;
            headed[11] = 1;
            headed.extend(&bytes);
            judge(&sent(), NAME, Family::V4, &headed, whole);
        }

        #[test]
        fn no_spoilt_answer_panics(at in 0..200_usize, byte: u8, cut in 0..200_usize) {
            let lines = ["www.test 9 CNAME b.test", "b.test 9 A 10.0.0.1", "test 9 SOA 9", "test 9 NS ns.test"];
            let mut bytes = reply(&sent(), RCODE::NoError, &lines);
            bytes.truncate(cut.max(HEADER_BYTES));
            let at = at % bytes.len();
            bytes[at] = byte;
            judged(&bytes);
        }
    }
}
