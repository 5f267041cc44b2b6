//! Kind `admin`: health and metrics.

use std::time::Duration;

use super::{HEAD_BYTES_MAX, StreamConfig, read_hosts};
use crate::config::section::Section;

/// The keys of kind `admin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminConfig {
    /// Names under which the pages are answered, beside addresses and `localhost`. Key `hosts`,
    /// default none.
    pub hosts: Vec<String>,
    /// Silence between two requests, or refusal to take the answer. Key `idle_timeout`,
    /// default 60 s.
    pub idle_timeout: Duration,
    /// Time for a whole request head. Key `head_timeout`, default 10 s.
    pub head_timeout: Duration,
    /// Bytes of a request head. Not a key, [`HEAD_BYTES_MAX`].
    pub head_bytes_max: usize,
    /// What every kind over streams has.
    pub stream: StreamConfig,
}

impl Default for AdminConfig {
    fn default() -> AdminConfig {
        AdminConfig {
            hosts: Vec::new(),
            idle_timeout: Duration::from_secs(60),
            head_timeout: Duration::from_secs(10),
            head_bytes_max: HEAD_BYTES_MAX,
            stream: StreamConfig {
                connections_max: 256,
                ..StreamConfig::default()
            },
        }
    }
}

impl AdminConfig {
    /// Reads the keys of this kind.
    pub(super) fn read(section: &mut Section<'_>) -> AdminConfig {
        let mut config = AdminConfig {
            hosts: read_hosts(section),
            ..AdminConfig::default()
        };
        section.timeout("idle_timeout", &mut config.idle_timeout);
        section.timeout("head_timeout", &mut config.head_timeout);
        config.stream.read(section);
        config
    }
}
