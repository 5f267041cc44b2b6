//! Kind `admin`: health and metrics.

use super::{HttpConfig, Kind, Row, StreamConfig, Transport, read_hosts};
use crate::config::section::Section;

/// The keys of kind `admin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminConfig {
    /// Names under which the pages are answered, beside addresses and `localhost`. Key `hosts`,
    /// default none.
    pub hosts: Vec<String>,
    /// What every kind that speaks HTTP has; `max_connections` is 256 here.
    pub http: HttpConfig,
}

impl Default for AdminConfig {
    fn default() -> AdminConfig {
        AdminConfig {
            hosts: Vec::new(),
            http: HttpConfig {
                stream: StreamConfig {
                    connections_max: 256,
                    ..StreamConfig::default()
                },
                ..HttpConfig::default()
            },
        }
    }
}

impl AdminConfig {
    /// The line of this kind in the table.
    pub(super) const ROW: Row = Row {
        name: "admin",
        transport: Transport::Stream,
        port: 9090,
        attempt: "curl http://{address}/metrics",
        read: |section| Kind::Admin(AdminConfig::read(section)),
    };

    /// Reads the keys of this kind.
    pub(super) fn read(section: &mut Section<'_>) -> AdminConfig {
        let mut config = AdminConfig {
            hosts: read_hosts(section),
            ..AdminConfig::default()
        };
        config.http.read_common(section);
        config.http.files.read_errors(section);
        config
    }

    /// Reads a route of a web listener that leads to the admin pages.
    pub(in crate::config) fn read_route(section: &mut Section<'_>) -> AdminConfig {
        let mut config = AdminConfig {
            hosts: read_hosts(section),
            ..AdminConfig::default()
        };
        config.http.files.read_errors(section);
        config
    }
}
