//! What is said on a connection to an origin before the first request.

use std::sync::Arc;

use rustls_pki_types::ServerName;

use super::Rules;
use super::parent::Parent;
use super::route::Origin;
use crate::http::proxy_status::ProxyError;
use crate::service::origins::{Introduce, Opening, TlsTo};
use crate::service::{Io, Peer};
use crate::wire::trust;

/// TLS with an origin, if it is spoken with it.
///
/// # Errors
/// Why that cannot be.
pub(super) fn tls_to(
    origin: &Origin,
    rules: &Rules,
) -> Result<Option<TlsTo>, (ProxyError, &'static str)> {
    match origin.tls {
        true => tls_with(origin.host(), rules).map(Some),
        false => Ok(None),
    }
}

/// TLS with a host, which is an origin or a parent.
///
/// # Errors
/// Why that cannot be.
fn tls_with(host: &str, rules: &Rules) -> Result<TlsTo, (ProxyError, &'static str)> {
    let Some(config) = &rules.tls else {
        let text = "nobody can vouch for it: the system trusts no authority, and no `ca_file` does";
        return Err((ProxyError::ProxyConfigurationError, text));
    };
    let host = host.trim_matches(['[', ']']);
    let host = host.strip_suffix('.').unwrap_or(host).to_owned();
    let name = ServerName::try_from(host).map_err(|_| {
        let text = "no certificate could have this name";
        (ProxyError::TlsCertificateError, text)
    })?;
    Ok(TlsTo {
        config: Arc::clone(config),
        name,
        explain: |error| trust::explain(error, "`ca_file`"),
    })
}

/// What is said on a new connection before anything else: to the parent, if one stands between. TLS
/// with the origin comes later then, and is known to be possible.
///
/// # Errors
/// Why TLS cannot be spoken with one of them.
pub(super) fn opening(
    origin: &Origin,
    parent: Option<&Parent>,
    rules: &Rules,
    io: &Io<'_>,
) -> Result<Opening, (ProxyError, String)> {
    let with_origin = tls_to(origin, rules);
    let with_origin =
        with_origin.map_err(|(error, text)| (error, format!("{}: {text}", origin.host())))?;
    let tls = match parent {
        None => with_origin,
        Some(parent) if parent.tls => {
            let tls = tls_with(&parent.host, rules).map(Some);
            tls.map_err(|(error, text)| (error, format!("parent {}: {text}", parent.name)))?
        }
        Some(_) => None,
    };
    let introduce = introduce(rules, io);
    Ok(Opening { introduce, tls })
}

/// How the origin is told of its client ahead of everything else.
fn introduce(rules: &Rules, io: &Io<'_>) -> Option<Introduce> {
    rules.send_proxy.map(|version| Introduce {
        version,
        client: match io.peer {
            Peer::Inet(address) => Some(*address),
            Peer::Unix => None,
        },
    })
}
