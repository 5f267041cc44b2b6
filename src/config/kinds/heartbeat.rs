//! The monitor of heartbeats.

use std::num::NonZeroU32;
use std::time::Duration;

use super::upload::read_secret;
use super::{DatagramConfig, Kind, Row, Transport};
use crate::config::section::Section;
use crate::hooks::Hook;
use crate::wire::challenge::Secret;

/// The keys of kind `udp-heartbeat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpHeartbeatConfig {
    /// Silence after which a sender is late, and dead as well when there is no grace.
    /// Key `timeout`, default 3 s.
    pub timeout: Duration,
    /// Further silence for which a late sender is not yet dead. Key `grace`, default 0.
    pub grace: Duration,
    /// So many of its own intervals, told or learnt, make a sender late, instead of `timeout`.
    /// `None`: `timeout` does. Key `missed_beats` (0 for none), default none.
    pub missed_max: Option<NonZeroU32>,
    /// The least that this comes to. Key `min_timeout`, default 100 ms.
    pub timeout_min: Duration,
    /// The most that this comes to. Key `max_timeout`, default 1 h.
    pub timeout_max: Duration,
    /// A change of a sender's time difference that is no jitter any more: its clock was set, or the
    /// heartbeat took long. Key `clock_step`, default 1 s.
    pub clock_step: Duration,
    /// What heartbeats have to be signed with; `None`: they need not be. Keys `secret` and
    /// `secret_file`, default none.
    pub secret: Option<Secret>,
    /// Senders remembered at once; when full, a newcomer takes the place of one that is not
    /// established, or of the longest dead one, or is dropped.
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
            missed_max: None,
            timeout_min: Duration::from_millis(100),
            timeout_max: Duration::from_secs(3600),
            clock_step: Duration::from_secs(1),
            secret: None,
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
        section.rate("missed_beats", &mut config.missed_max);
        section.timeout("min_timeout", &mut config.timeout_min);
        section.timeout("max_timeout", &mut config.timeout_max);
        if config.timeout_min > config.timeout_max {
            let what = "`min_timeout` is above `max_timeout`; expected it to be at most that";
            section.problem(section.span("min_timeout"), what.to_owned());
        }
        section.timeout("clock_step", &mut config.clock_step);
        config.secret = read_secret(section);
        section.count("max_senders", 1..=1 << 24, &mut config.senders_max);
        let logged = &mut config.logged_changes_max;
        section.count("max_logged_changes", 0..=1 << 24, logged);
        config.on_change = section.hook("on_change");
        config.datagram.read(section);
        config
    }
}
