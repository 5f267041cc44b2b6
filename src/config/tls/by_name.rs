//! Which certificate of a listener a client gets.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring::{Ticketer, default_provider};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::Certificate;

/// The certificates of a listener, by name.
#[derive(Debug)]
pub struct ByName {
    first: Arc<CertifiedKey>,
    /// `*.` at the front of a name stands for one label.
    named: HashMap<String, Arc<CertifiedKey>>,
}

impl ByName {
    /// Of two that are for one name it is the former. There is at least one.
    pub(super) fn new(all: &[Arc<Certificate>]) -> ByName {
        let mut named = HashMap::new();
        for certificate in all {
            for name in &certificate.names {
                let signing = || Arc::clone(&certificate.signing);
                named.entry(name.clone()).or_insert_with(signing);
            }
        }
        ByName {
            // Invariant: a listener with TLS has a certificate.
            first: Arc::clone(&all[0].signing),
            named,
        }
    }

    /// What TLS of a listener needs: these certificates, versions 1.2 and 1.3, resumption by
    /// tickets, and the protocols that may be spoken within (RFC 7301), any if there are none.
    ///
    /// # Errors
    /// The system has no random bytes for the key of the tickets.
    pub fn server(self, protocols: &[&[u8]]) -> Result<ServerConfig, rustls::Error> {
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?;
        let mut config = builder
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(self));
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        // What a session needs stands in the client's ticket, not in a table that many clients
        // would push one another out of.
        config.ticketer = Ticketer::new()?;
        Ok(config)
    }

    /// The certificate for a name that a client asks for (RFC 6066 section 3): one with the very
    /// name, else one with a wildcard in place of its first label and no more (RFC 9525 section
    /// 6.3), else the first.
    pub(super) fn find(&self, name: Option<&str>) -> &Arc<CertifiedKey> {
        let found = name.and_then(|name| {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            self.named.get(&name).or_else(|| {
                let (_, parent) = name.split_once('.')?;
                self.named.get(&format!("*.{parent}"))
            })
        });
        found.unwrap_or(&self.first)
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(self.find(hello.server_name())))
    }
}
