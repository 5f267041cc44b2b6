//! Kind `admin`: health and metrics.

use super::upload::{not_empty, read_secret_of};
use super::{HttpConfig, Kind, Row, StreamConfig, Transport, read_hosts};
use crate::config::section::Section;
use crate::wire::challenge::Secret;

/// The keys of kind `admin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminConfig {
    /// Names under which the pages are answered, beside addresses and `localhost`. Key `hosts`,
    /// default none.
    pub hosts: Vec<String>,
    /// Who sends it (`Authorization: Bearer TOKEN`, RFC 6750) is answered, beside those whom `auth`
    /// knows; `None` for everybody whom `auth` does not keep out. Keys `token`, `token_file`,
    /// default none.
    pub token: Option<Secret>,
    /// What every kind that speaks HTTP has; `max_connections` is 256 here.
    pub http: HttpConfig,
}

impl Default for AdminConfig {
    fn default() -> AdminConfig {
        AdminConfig {
            hosts: Vec::new(),
            token: None,
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
            token: read_token(section),
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
            token: read_token(section),
            ..AdminConfig::default()
        };
        config.http.files.read_errors(section);
        config
    }
}

/// Reads `token` and `token_file`, of which one may be given.
fn read_token(section: &mut Section<'_>) -> Option<Secret> {
    read_secret_of(section, ("token", "token_file"), |token| {
        let token = not_empty(token)?;
        match token.expose().iter().all(u8::is_ascii_graphic) {
            true => Ok(token),
            false => Err("is not printable ASCII without blanks".to_owned()),
        }
    })
}
