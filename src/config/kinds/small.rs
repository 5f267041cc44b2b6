//! The kinds that take a few keys: echo, ping and heartbeat over UDP, echo and greetings over TCP.

use std::num::NonZeroU32;
use std::time::Duration;

use super::{DatagramConfig, Kind, Row, StreamConfig, Transport};
use crate::config::section::Section;
use crate::config::value::Fraction;
use crate::hooks::Hook;

/// The lowest source port whose datagrams are answered, unless the listener is told otherwise:
/// 1,024. Below it stand the services that may answer whatever reaches them, such as echo (7),
/// chargen (19) and DNS (53); clients have ports above it.
pub const SOURCE_PORT_MIN: u16 = 1024;

/// What an echo does to the bytes. Key `transform`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transform {
    /// `"upper"`, the default: Unicode upper case; what is not UTF-8 comes back unchanged.
    #[default]
    Upper,
    /// `"none"`: the bytes come back as they were, as in RFC 862.
    None,
}

/// The words of `transform`.
pub(super) const TRANSFORMS: [(&str, Transform); 2] =
    [("upper", Transform::Upper), ("none", Transform::None)];

/// The keys of kind `tcp-echo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpEchoConfig {
    /// Key `transform`, default upper case.
    pub transform: Transform,
    /// Silence, or refusal to take our bytes, after which a connection is closed.
    /// Key `idle_timeout`, default 5 min.
    pub idle_timeout: Duration,
    /// What every kind over streams has.
    pub stream: StreamConfig,
}

impl Default for TcpEchoConfig {
    fn default() -> TcpEchoConfig {
        TcpEchoConfig {
            transform: Transform::default(),
            idle_timeout: Duration::from_secs(5 * 60),
            stream: StreamConfig::default(),
        }
    }
}

impl TcpEchoConfig {
    /// The line of this kind in the table.
    pub(super) const ROW: Row = Row {
        name: "tcp-echo",
        transport: Transport::Stream,
        port: 12000,
        attempt: "netlab-reactor tcp {at} \"hello, world\"",
        read: |section| Kind::TcpEcho(TcpEchoConfig::read(section)),
    };

    /// Reads the keys of this kind.
    pub(super) fn read(section: &mut Section<'_>) -> TcpEchoConfig {
        let mut config = TcpEchoConfig::default();
        section.choice("transform", &TRANSFORMS, &mut config.transform);
        section.timeout("idle_timeout", &mut config.idle_timeout);
        config.stream.read(section);
        config
    }
}

/// The keys of kind `udp-echo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpEchoConfig {
    /// Key `transform`, default upper case.
    pub transform: Transform,
    /// What every kind over datagrams has.
    pub datagram: DatagramConfig,
    /// The lowest source port whose datagrams are answered. Key `source_port_min` (0 for any),
    /// default [`SOURCE_PORT_MIN`].
    pub source_port_min: u16,
}

impl Default for UdpEchoConfig {
    fn default() -> UdpEchoConfig {
        UdpEchoConfig {
            transform: Transform::default(),
            datagram: DatagramConfig::default(),
            source_port_min: SOURCE_PORT_MIN,
        }
    }
}

impl UdpEchoConfig {
    /// The line of this kind in the table.
    pub(super) const ROW: Row = Row {
        name: "udp-echo",
        transport: Transport::Datagram,
        port: 12002,
        attempt: "netlab-reactor udp {at} \"hello, world\"",
        read: |section| Kind::UdpEcho(UdpEchoConfig::read(section)),
    };

    /// Reads the keys of this kind.
    pub(super) fn read(section: &mut Section<'_>) -> UdpEchoConfig {
        let mut config = UdpEchoConfig::default();
        section.choice("transform", &TRANSFORMS, &mut config.transform);
        config.datagram.read(section);
        read_source_port_min(section, &mut config.source_port_min);
        config
    }
}

/// The keys of kind `udp-ping`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpPingConfig {
    /// Share of datagrams that get no answer. Key `loss`, default 4/11.
    pub loss: Fraction,
    /// Share of answers that are sent twice. Key `duplicate`, default 0.
    pub duplicate: Fraction,
    /// Share of answers that are held back, so that the next one overtakes them if it comes within
    /// `reorder_hold`. Key `reorder`, default 0.
    pub reorder: Fraction,
    /// Share of answers in which one bit is flipped. Key `corrupt`, default 0.
    pub corrupt: Fraction,
    /// Time for which each answer is held back. Key `delay`, default 0.
    pub delay: Duration,
    /// The most that is added to `delay`, at random and uniformly. Key `jitter`, default 0.
    pub jitter: Duration,
    /// What is added to `delay` for those that `reorder` holds back. Key `reorder_hold`, default 20
    /// ms.
    pub reorder_hold: Duration,
    /// Memory that answers which are held back may take; those beyond are dropped, as by a router
    /// whose queue is full. Key `max_delayed_bytes`, default 16 MiB.
    pub delayed_bytes_max: usize,
    /// Seed of the random stream; `None` takes a new one at each start. Key `seed`, default none.
    pub seed: Option<u64>,
    /// What every kind over datagrams has.
    pub datagram: DatagramConfig,
    /// The lowest source port whose datagrams are answered. Key `source_port_min` (0 for any),
    /// default [`SOURCE_PORT_MIN`].
    pub source_port_min: u16,
}

impl Default for UdpPingConfig {
    fn default() -> UdpPingConfig {
        const LOSS: Fraction = Fraction::new(4, 11).unwrap();
        UdpPingConfig {
            loss: LOSS,
            duplicate: Fraction::ZERO,
            reorder: Fraction::ZERO,
            corrupt: Fraction::ZERO,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            reorder_hold: Duration::from_millis(20),
            delayed_bytes_max: 16 * 1024 * 1024,
            seed: None,
            datagram: DatagramConfig::default(),
            source_port_min: SOURCE_PORT_MIN,
        }
    }
}

impl UdpPingConfig {
    /// The line of this kind in the table.
    pub(super) const ROW: Row = Row {
        name: "udp-ping",
        transport: Transport::Datagram,
        port: 12000,
        attempt: "netlab-reactor ping {at}",
        read: |section| Kind::UdpPing(UdpPingConfig::read(section)),
    };

    /// Reads the keys of this kind.
    pub(super) fn read(section: &mut Section<'_>) -> UdpPingConfig {
        let mut config = UdpPingConfig::default();
        section.share("loss", &mut config.loss);
        section.share("duplicate", &mut config.duplicate);
        section.share("reorder", &mut config.reorder);
        section.share("corrupt", &mut config.corrupt);
        section.duration("delay", &mut config.delay);
        section.duration("jitter", &mut config.jitter);
        section.timeout("reorder_hold", &mut config.reorder_hold);
        let delayed = &mut config.delayed_bytes_max;
        section.memory_size("max_delayed_bytes", 0..=1 << 40, delayed);
        section.number("seed", &mut config.seed);
        config.datagram.read(section);
        read_source_port_min(section, &mut config.source_port_min);
        config
    }
}

/// Reads `source_port_min`.
fn read_source_port_min(section: &mut Section<'_>, field: &mut u16) {
    let mut port = usize::from(*field);
    section.count("source_port_min", 0..=usize::from(u16::MAX), &mut port);
    // Invariant: both the default and the bounds came from a u16.
    *field = u16::try_from(port).expect("bounded by a u16");
}

/// The keys of kind `udp-heartbeat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpHeartbeatConfig {
    /// Silence after which a sender is late, and dead as well when there is no grace.
    /// Key `timeout`, default 3 s.
    pub timeout: Duration,
    /// Further silence for which a late sender is not yet dead. Key `grace`, default 0.
    pub grace: Duration,
    /// Senders remembered at once; when full, the longest dead one is forgotten, and while
    /// nobody is dead, newcomers are dropped.
    /// Key `max_senders`, default 65,536.
    pub senders_max: usize,
    /// Changes of a second that have a line of the log each; those beyond are counted in one, since
    /// a forged address costs its sender 34 bytes and is two changes. Key
    /// `max_logged_changes`, default 200.
    pub logged_changes_max: usize,
    /// A command that is run for each change. Key `on_change`, a program and its arguments, default
    /// none.
    pub on_change: Option<Hook>,
    /// What every kind over datagrams has.
    pub datagram: DatagramConfig,
}

impl Default for UdpHeartbeatConfig {
    fn default() -> UdpHeartbeatConfig {
        UdpHeartbeatConfig {
            timeout: Duration::from_secs(3),
            grace: Duration::ZERO,
            senders_max: 65_536,
            logged_changes_max: 200,
            on_change: None,
            datagram: DatagramConfig::default(),
        }
    }
}

impl UdpHeartbeatConfig {
    /// The line of this kind in the table.
    pub(super) const ROW: Row = Row {
        name: "udp-heartbeat",
        transport: Transport::Datagram,
        port: 12001,
        attempt: "netlab-reactor heartbeat {at}",
        read: |section| Kind::UdpHeartbeat(UdpHeartbeatConfig::read(section)),
    };

    /// Reads the keys of this kind.
    pub(super) fn read(section: &mut Section<'_>) -> UdpHeartbeatConfig {
        let mut config = UdpHeartbeatConfig::default();
        section.timeout("timeout", &mut config.timeout);
        section.duration("grace", &mut config.grace);
        section.count("max_senders", 1..=1 << 24, &mut config.senders_max);
        let logged = &mut config.logged_changes_max;
        section.count("max_logged_changes", 0..=1 << 24, logged);
        config.on_change = section.hook("on_change");
        config.datagram.read(section);
        config
    }
}

/// The keys of kind `hello`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelloConfig {
    /// Messages sent to each client, `hello0` to `hello<count - 1>`. Key `count`, default 200.
    pub count: NonZeroU32,
    /// Pause between a reply and the next message. Key `interval`, default 500 ms.
    pub interval: Duration,
    /// Time for which a reply is awaited before the connection is closed.
    /// Key `idle_timeout`, default 60 s.
    pub idle_timeout: Duration,
    /// What every kind over streams has.
    pub stream: StreamConfig,
}

impl Default for HelloConfig {
    fn default() -> HelloConfig {
        const COUNT: NonZeroU32 = NonZeroU32::new(200).unwrap();
        HelloConfig {
            count: COUNT,
            interval: Duration::from_millis(500),
            idle_timeout: Duration::from_secs(60),
            stream: StreamConfig::default(),
        }
    }
}

impl HelloConfig {
    /// The line of this kind in the table.
    pub(super) const ROW: Row = Row {
        name: "hello",
        transport: Transport::Stream,
        port: 9000,
        attempt: "netlab-reactor hello {at}",
        read: |section| Kind::Hello(HelloConfig::read(section)),
    };

    /// Reads the keys of this kind.
    pub(super) fn read(section: &mut Section<'_>) -> HelloConfig {
        let mut config = HelloConfig::default();
        section.positive("count", &mut config.count);
        section.duration("interval", &mut config.interval);
        section.timeout("idle_timeout", &mut config.idle_timeout);
        config.stream.read(section);
        config
    }
}
