//! TLS of a client: which servers it trusts, and why it does not, in words.
//!
//! There is no way to skip the checks: a certificate of one's own is trusted by naming its
//! authority, or the certificate itself. Where the certificates come from is the business of
//! whoever asks.

mod verify;
mod words;

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use verify::Verifier;
pub use words::explain;

/// The settings of a client that trusts what these authorities signed, and the certificates that
/// are `listed` themselves. Sessions are resumed, of the last 256 names (RFC 8446 section 2.2).
///
/// # Errors
/// There is no authority.
pub fn client(
    authorities: Arc<RootCertStore>,
    listed: Vec<CertificateDer<'static>>,
) -> Result<ClientConfig, String> {
    let provider = Arc::new(default_provider());
    let authorities =
        WebPkiServerVerifier::builder_with_provider(authorities, Arc::clone(&provider))
            .build()
            .map_err(|error| error.to_string())?;
    let verifier = Verifier {
        authorities,
        listed,
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(config)
}

/// The certificates of a file in PEM (RFC 7468): at least one.
///
/// # Errors
/// In words that follow the file's name.
pub fn authorities(pem: &[u8]) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), String> {
    let mut roots = RootCertStore::empty();
    let mut listed = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        let number = listed.len() + 1;
        roots
            .add(certificate.clone())
            .map_err(|_| format!("certificate {number} in it cannot be read"))?;
        listed.push(certificate);
    }
    match listed.is_empty() {
        true => Err("there is no certificate in it".to_owned()),
        false => Ok((roots, listed)),
    }
}
