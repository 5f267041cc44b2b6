//! Ranges of addresses, and lists of them that allow and deny.

use std::net::IpAddr;

use ipnet::IpNet;

/// A set of addresses: the first and last of each range, in order and apart from one another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl Ranges {
    /// Whether it holds none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Whether it holds an address. An IPv4 address within IPv6 is that IPv4 address.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match ip.to_canonical() {
            IpAddr::V4(ip) => holds(&self.v4, ip.into()),
            IpAddr::V6(ip) => holds(&self.v6, ip.into()),
        }
    }
}

impl FromIterator<IpNet> for Ranges {
    fn from_iter<T: IntoIterator<Item = IpNet>>(ranges: T) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for range in ranges {
            let ends = (range.network(), range.broadcast());
            match (ends.0.to_canonical(), ends.1.to_canonical()) {
                (IpAddr::V4(first), IpAddr::V4(last)) => v4.push((first.into(), last.into())),
                _ => {
                    let IpNet::V6(range) = range else {
                        continue; // the ends of a range of IPv4 are of IPv4
                    };
                    v6.push((range.network().into(), range.broadcast().into()));
                }
            }
        }
        Self {
            v4: apart(v4),
            v6: apart(v6),
        }
    }
}

/// The same in order, where ranges that overlap are one.
fn apart<T: Ord + Copy>(mut ranges: Vec<(T, T)>) -> Vec<(T, T)> {
    ranges.sort_unstable();
    ranges.dedup_by(|next, before| {
        let overlap = next.0 <= before.1;
        if overlap {
            before.1 = before.1.max(next.1);
        }
        overlap
    });
    ranges
}

/// Whether one of the ranges, in order and apart, holds `one`.
fn holds<T: Ord + Copy>(ranges: &[(T, T)], one: T) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= one);
    after > 0 && one <= ranges[after - 1].1
}

/// Which peers may come. By default all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    allow: Option<Ranges>,
    deny: Ranges,
}

impl Access {
    /// Those in `allow`, `None` for all, that are not in `deny`.
    pub fn new(allow: Option<Ranges>, deny: Ranges) -> Self {
        Self { allow, deny }
    }

    /// Whether a peer may come.
    #[inline]
    pub fn admits(&self, ip: IpAddr) -> bool {
        !self.deny.contains(ip) && self.allow.as_ref().is_none_or(|allow| allow.contains(ip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn ranges(texts: &[&str]) -> Ranges {
        let ranges = texts.iter().map(|text| text.parse().expect("a range"));
        ranges.collect()
    }

    #[test]
    fn a_range_has_its_ends_and_no_more() {
        let set = ranges(&[
            "10.0.0.0/8",
            "10.1.0.0/16",
            "11.0.0.0/8",
            "192.0.2.7/32",
            "2001:db8::/32",
            "::ffff:198.51.100.0/120",
        ]);
        let holds = |text: &str| set.contains(text.parse().expect("an address"));
        for inside in [
            "10.0.0.0",
            "11.255.255.255",
            "::ffff:10.1.2.3",
            "192.0.2.7",
            "198.51.100.255",
            "2001:db8::",
            "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
        ] {
            assert!(holds(inside), "{inside}");
        }
        for outside in [
            "9.255.255.255",
            "12.0.0.0",
            "192.0.2.6",
            "192.0.2.8",
            "198.51.101.0",
            "2001:db7:ffff::",
            "2001:db9::",
            "::1",
            "::10.0.0.0",
        ] {
            assert!(!holds(outside), "{outside}");
        }
    }

    #[test]
    fn all_of_ipv6_is_not_ipv4() {
        let (every4, every6) = (ranges(&["0.0.0.0/0"]), ranges(&["::/0"]));
        for ip in [
            "192.0.2.1",
            "::ffff:192.0.2.1",
            "0.0.0.0",
            "255.255.255.255",
        ] {
            let ip = ip.parse().expect("an address");
            assert!(every4.contains(ip) && !every6.contains(ip), "{ip}");
        }
        for ip in [
            "::",
            "2001:db8::1",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        ] {
            let ip = ip.parse().expect("an address");
            assert!(every6.contains(ip) && !every4.contains(ip), "{ip}");
        }
    }

    #[test]
    fn deny_wins_and_without_allow_all_may_come() {
        let admits = |access: &Access, ip: &str| access.admits(ip.parse().expect("an address"));
        let denies = Access::new(None, ranges(&["10.0.0.0/8"]));
        assert!(admits(&denies, "192.0.2.1") && !admits(&denies, "10.0.0.1"));
        let both = Access::new(Some(ranges(&["10.0.0.0/8"])), ranges(&["10.9.0.0/16"]));
        assert!(admits(&both, "10.0.0.1"));
        assert!(!admits(&both, "10.9.0.1") && !admits(&both, "192.0.2.1") && !admits(&both, "::1"));
        assert!(admits(&Access::default(), "::1"));
    }

    fn range() -> impl Strategy<Value = IpNet> {
        // Few bits, so that ranges meet.
        let v4 = (0..16_u32, 24..=32_u8)
            .prop_map(|(low, len)| IpNet::new(Ipv4Addr::from(low << 2).into(), len));
        let v6 = (0..16_u128, 120..=128_u8)
            .prop_map(|(low, len)| IpNet::new(Ipv6Addr::from(low << 2 | 1 << 100).into(), len));
        prop_oneof![v4, v6].prop_map(|range| range.expect("a range"))
    }

    proptest! {
        #[test]
        fn a_set_holds_what_one_of_its_ranges_holds(list in prop::collection::vec(range(), 0..8), low in 0..256_u32) {
            let set: Ranges = list.iter().copied().collect();
            let v4 = IpAddr::V4(low.into());
            let v6 = IpAddr::V6((u128::from(low) | 1 << 100).into());
            for ip in [v4, v6] {
                prop_assert_eq!(set.contains(ip), list.iter().any(|range| range.contains(&ip)));
            }
        }
    }
}
