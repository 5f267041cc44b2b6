//! Which addresses a proxy does not connect to on behalf of strangers.
//!
//! Three rules:
//! 1. What is not reachable from the whole Internet is refused: loopback, private, shared,
//!    link-local, unique-local, multicast, unspecified, broadcast, reserved (RFC 6890 and the
//!    registries that it founded), and the addresses at which clouds tell a machine its secrets.
//! 2. An IPv6 address that carries an IPv4 address counts as that one too: mapped, compatible,
//!    translated (RFC 2765, RFC 6052, RFC 8215), 6to4 (RFC 3056), Teredo (RFC 4380), ISATAP (RFC
//!    5214).
//! 3. A range that the operator allows takes out what it holds, the carried IPv4 address included. One
//!    that the operator denies is refused, whatever is allowed, and so is what carries it.
//!    A name is refused as a whole if any of its addresses is, so that it cannot offer one address
//!    for the check and another one for the connection.
//!
//! Ranges for documentation (RFC 5737, RFC 3849) and for benchmarks (RFC 2544) are not refused:
//! nobody's machines are there, but in laboratories, whose operators mean to reach them.
//!
//! Deliberately not here: ports, names, and who may use the proxy at all.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

/// Tells which destinations are refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressPolicy {
    allow: Vec<IpNet>,
    deny: Vec<IpNet>,
}

/// A destination that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// The address as it was given.
    pub addr: IpAddr,
    /// What is wrong with it, or with the IPv4 address that it carries.
    pub why: Why,
}

/// What is wrong with an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// This machine: 127.0.0.0/8, ::1.
    Loopback,
    /// A private network (RFC 1918), site-local (RFC 3879), or a translator's own prefix (RFC
    /// 8215).
    Private,
    /// Behind a provider's address translation: 100.64.0.0/10 (RFC 6598).
    Shared,
    /// This link: 169.254.0.0/16 (RFC 3927), fe80::/10.
    LinkLocal,
    /// fc00::/7 (RFC 4193).
    UniqueLocal,
    /// A group: 224.0.0.0/4, ff00::/8.
    Multicast,
    /// No address, which systems take for this machine: 0.0.0.0/8, ::.
    Unspecified,
    /// 255.255.255.255.
    Broadcast,
    /// 240.0.0.0/4 and 192.0.0.0/24 (RFC 6890).
    Reserved,
    /// Where a cloud tells a machine about itself, secrets included.
    Metadata,
    /// The operator says so.
    Denied,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::Loopback => "a loopback",
            Why::Private => "a private",
            Why::Shared => "a shared",
            Why::LinkLocal => "a link-local",
            Why::UniqueLocal => "a unique-local",
            Why::Multicast => "a multicast",
            Why::Unspecified => "an unspecified",
            Why::Broadcast => "a broadcast",
            Why::Reserved => "a reserved",
            Why::Metadata => "a metadata",
            Why::Denied => "a denied",
        })
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {} address", self.addr, self.why)
    }
}

impl std::error::Error for Refused {}

impl AddressPolicy {
    /// Refuses all that the module's rules say, but for what is in `allow`.
    pub fn new(allow: impl IntoIterator<Item = IpNet>) -> Self {
        AddressPolicy {
            allow: allow.into_iter().map(unmapped).collect(),
            deny: Vec::new(),
        }
    }

    /// The same, and refuses what is in `deny`, whatever is allowed.
    #[must_use]
    pub fn denying(mut self, deny: impl IntoIterator<Item = IpNet>) -> Self {
        self.deny = deny.into_iter().map(unmapped).collect();
        self
    }

    /// # Errors
    /// Says why `addr` is refused.
    pub fn check(&self, addr: IpAddr) -> Result<(), Refused> {
        let why = match addr {
            IpAddr::V4(v4) => self.judge_v4(v4),
            IpAddr::V6(v6) => self.judge_v6(v6),
        };
        why.map_or(Ok(()), |why| Err(Refused { addr, why }))
    }

    /// Checks every address of one name.
    ///
    /// # Errors
    /// Tells the first address that is refused; then none of them may be used.
    pub fn check_all(&self, addresses: &[IpAddr]) -> Result<(), Refused> {
        addresses.iter().try_for_each(|&addr| self.check(addr))
    }

    /// Whether a range that the operator allowed holds `addr`.
    pub fn allows(&self, addr: IpAddr) -> bool {
        let addr = addr.to_canonical();
        self.allow.iter().any(|range| range.contains(&addr))
    }

    fn denies(&self, addr: IpAddr) -> bool {
        self.deny.iter().any(|range| range.contains(&addr))
    }

    fn judge_v4(&self, addr: Ipv4Addr) -> Option<Why> {
        if self.denies(addr.into()) {
            return Some(Why::Denied);
        }
        if self.allows(addr.into()) {
            return None;
        }
        why_v4(addr)
    }

    fn judge_v6(&self, addr: Ipv6Addr) -> Option<Why> {
        // A mapped address never leaves as IPv6: only what is said of IPv4 counts.
        if let Some(v4) = addr.to_ipv4_mapped() {
            return self.judge_v4(v4);
        }
        let carried = carried(addr);
        if self.denies(addr.into()) || carried.iter().any(|&v4| self.denies(v4.into())) {
            return Some(Why::Denied);
        }
        if self.allows(addr.into()) {
            return None;
        }
        if let Some(why) = carried.iter().find_map(|&v4| self.judge_v4(v4)) {
            return Some(why);
        }
        // Nothing carried is refused; where the operator allowed all of it, the shell is allowed
        // with it.
        let allowed = !carried.is_empty() && carried.iter().all(|&v4| self.allows(v4.into()));
        if allowed { None } else { why_v6(addr) }
    }
}

/// A range of mapped addresses as the IPv4 range that it means.
fn unmapped(range: IpNet) -> IpNet {
    if let IpNet::V6(v6) = range
        && let Some(v4) = v6.network().to_ipv4_mapped()
        && let Some(length) = v6.prefix_len().checked_sub(96)
        && let Ok(v4) = Ipv4Net::new(v4, length)
    {
        return v4.into();
    }
    range
}

fn why_v4(addr: Ipv4Addr) -> Option<Why> {
    Some(match addr.octets() {
        // Most clouds; containers of one; a third one inside the shared range; a fourth; a fifth,
        // whose address looks public.
        [169, 254, 169, 254]
        | [169, 254, 170, 2]
        | [100, 100, 100, 200]
        | [192, 0, 0, 192]
        | [168, 63, 129, 16] => Why::Metadata,
        [0, ..] => Why::Unspecified,
        [127, ..] => Why::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Why::Private,
        [100, 64..=127, ..] => Why::Shared,
        [169, 254, ..] => Why::LinkLocal,
        [192, 0, 0, _] => Why::Reserved,
        [224..=239, ..] => Why::Multicast,
        [255, 255, 255, 255] => Why::Broadcast,
        [240..=255, ..] => Why::Reserved,
        _ => return None,
    })
}

fn why_v6(addr: Ipv6Addr) -> Option<Why> {
    Some(match addr.segments() {
        [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254] | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254] => {
            Why::Metadata
        }
        [0, 0, 0, 0, 0, 0, 0, 0] => Why::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => Why::Loopback,
        // Where the IPv4 address stands depends on the translator, which is the network's own: the
        // whole prefix is refused.
        [0x64, 0xff9b, 1, ..] => Why::Private,
        [0xfc00..=0xfdff, ..] => Why::UniqueLocal,
        [0xfe80..=0xfebf, ..] => Why::LinkLocal,
        [0xfec0..=0xfeff, ..] => Why::Private,
        [0xff00..=0xffff, ..] => Why::Multicast,
        _ => return None,
    })
}

/// The IPv4 addresses that an IPv6 address carries; a packet sent to it may reach any of them.
fn carried(addr: Ipv6Addr) -> Vec<Ipv4Addr> {
    let bits = addr.to_bits();
    // Invariant: the cast keeps the 32 bits that are meant.
    let at = |first_bit: u32| Ipv4Addr::from_bits((bits >> (96 - first_bit)) as u32);
    match addr.segments() {
        // `::` and `::1` carry nothing.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => vec![],
        // Compatible (RFC 4291, section 2.5.5.1), translated (RFC 2765), NAT64 (RFC 6052, RFC
        // 8215).
        [0, 0, 0, 0, 0, 0, ..]
        | [0, 0, 0, 0, 0xffff, 0, ..]
        | [0x64, 0xff9b, 0, 0, 0, 0, ..]
        | [0x64, 0xff9b, 1, ..] => vec![at(96)],
        [0x2002, ..] => vec![at(16)],
        // The server, and the client's address with its bits turned.
        [0x2001, 0, ..] => vec![at(32), Ipv4Addr::from_bits(!at(96).to_bits())],
        [_, _, _, _, 0 | 0x200, 0x5efe, ..] => vec![at(96)],
        _ => vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn why(allow: &[&str], addr: &str) -> Option<Why> {
        let policy = AddressPolicy::new(allow.iter().map(|range| range.parse().unwrap()));
        policy
            .check(addr.parse().unwrap())
            .err()
            .map(|refused| refused.why)
    }

    #[test]
    fn what_is_denied_is_refused_whatever_is_allowed_and_in_every_spelling() {
        let range = |text: &str| text.parse::<IpNet>().expect("a range");
        let policy = AddressPolicy::new([range("10.0.0.0/8"), range("::/0")]).denying([
            range("10.1.0.0/16"),
            range("198.51.100.7/32"),
            range("2001:db8::/32"),
        ]);
        for (text, refused) in [
            ("10.2.0.1", false),
            ("10.1.0.1", true),
            ("198.51.100.7", true),
            ("198.51.100.8", false),
            ("::ffff:198.51.100.7", true),
            ("64:ff9b::198.51.100.7", true),
            ("2002:c633:6407::1", true),
            ("2001:db8::1", true),
            ("2001:db9::1", false),
        ] {
            let checked = policy.check(text.parse().expect("an address"));
            let denied = checked.is_err_and(|refused| refused.why == Why::Denied);
            assert_eq!(denied, refused, "{text}");
        }
    }

    #[test]
    fn what_is_not_public_is_refused() {
        for (addr, expected) in [
            ("127.0.0.1", Why::Loopback),
            ("127.255.255.255", Why::Loopback),
            ("0.0.0.0", Why::Unspecified),
            ("0.1.2.3", Why::Unspecified),
            ("10.0.0.1", Why::Private),
            ("172.16.0.1", Why::Private),
            ("172.31.255.255", Why::Private),
            ("192.168.1.1", Why::Private),
            ("100.64.0.1", Why::Shared),
            ("100.127.255.255", Why::Shared),
            ("169.254.1.1", Why::LinkLocal),
            ("192.0.0.8", Why::Reserved),
            ("224.0.0.1", Why::Multicast),
            ("239.255.255.255", Why::Multicast),
            ("240.0.0.1", Why::Reserved),
            ("255.255.255.255", Why::Broadcast),
            ("169.254.169.254", Why::Metadata),
            ("100.100.100.200", Why::Metadata),
            ("168.63.129.16", Why::Metadata),
            ("::", Why::Unspecified),
            ("::1", Why::Loopback),
            ("fe80::1", Why::LinkLocal),
            ("fec0::1", Why::Private),
            ("fc00::1", Why::UniqueLocal),
            ("fd00:ec2::254", Why::Metadata),
            ("fd20:ce::254", Why::Metadata),
            ("ff02::1", Why::Multicast),
        ] {
            assert_eq!(why(&[], addr), Some(expected), "{addr}");
        }
    }

    #[test]
    fn what_is_public_is_not_refused() {
        for addr in [
            "1.1.1.1",
            "172.15.0.1",
            "172.32.0.1",
            "100.63.0.1",
            "100.128.0.1",
            "192.0.1.1",
            "192.0.2.1",
            "198.18.0.1",
            "203.0.113.9",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:db8::1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
            "2001:0:808:808::f7f7:f7f7",
        ] {
            assert_eq!(why(&[], addr), None, "{addr}");
        }
    }

    #[test]
    fn a_carried_address_counts() {
        for addr in [
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "::ffff:0:127.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b:1::127.0.0.1",
            "2002:7f00:1::",
            "2001:0:7f00:1::f7f7:f7f7",
            "2001:0:808:808::80ff:fffe",
            "2606:4700::5efe:127.0.0.1",
            "2606:4700::200:5efe:127.0.0.1",
        ] {
            assert_eq!(why(&[], addr), Some(Why::Loopback), "{addr}");
        }
        assert_eq!(why(&[], "::ffff:169.254.169.254"), Some(Why::Metadata));
        assert_eq!(why(&[], "64:ff9b::a9fe:a9fe"), Some(Why::Metadata));
        assert_eq!(why(&[], "64:ff9b:1::808:808"), Some(Why::Private));
    }

    #[test]
    fn an_allowed_range_holds_for_the_carried_address_too() {
        let allow = ["127.0.0.0/8"];
        for addr in [
            "127.0.0.1",
            "::ffff:127.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b:1::127.0.0.1",
            "2002:7f00:1::",
            "2001:0:808:808::80ff:fffe",
        ] {
            assert_eq!(why(&allow, addr), None, "{addr}");
        }
        assert_eq!(why(&allow, "::1"), Some(Why::Loopback));
        assert_eq!(why(&allow, "10.0.0.1"), Some(Why::Private));
        assert_eq!(why(&allow, "2001:0:7f00:1::f5ff:fffe"), Some(Why::Private));
        assert_eq!(why(&["169.254.169.254/32"], "169.254.169.254"), None);
        assert_eq!(why(&["::1/128"], "::1"), None);
        assert_eq!(why(&["2002::/16"], "2002:7f00:1::"), None);
        assert_eq!(why(&["::ffff:127.0.0.0/104"], "127.0.0.1"), None);
    }

    #[test]
    fn all_of_ipv6_does_not_hold_all_of_ipv4() {
        assert_eq!(why(&["::/0"], "::ffff:127.0.0.1"), Some(Why::Loopback));
        assert_eq!(why(&["::/0"], "fd00::1"), None);
    }

    #[test]
    fn a_name_is_refused_as_a_whole() {
        let policy = AddressPolicy::default();
        let addresses = ["8.8.8.8", "10.0.0.1"].map(|text| text.parse().unwrap());
        let refused = policy.check_all(&addresses).unwrap_err();
        assert_eq!((refused.addr, refused.why), (addresses[1], Why::Private));
        assert_eq!(refused.to_string(), "10.0.0.1 is a private address");
        let any = AddressPolicy::default().check(IpAddr::from([0; 4]));
        let words = any.map_err(|refused| refused.to_string());
        assert_eq!(words, Err("0.0.0.0 is an unspecified address".to_owned()));
        assert!(policy.check_all(&addresses[..1]).is_ok());
    }

    proptest! {
        #[test]
        fn a_mapped_address_is_judged_as_what_it_maps(bits: u32) {
            let v4 = Ipv4Addr::from_bits(bits);
            let policy = AddressPolicy::default();
            let direct = policy.check(v4.into()).map_err(|refused| refused.why);
            let mapped = policy.check(v4.to_ipv6_mapped().into()).map_err(|refused| refused.why);
            prop_assert_eq!(direct, mapped);
        }
    }
}
