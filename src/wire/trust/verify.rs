//! Which certificates of servers are good: those that an authority of the list signed, and those
//! that stand in the list themselves.
//!
//! Certificates that sign themselves come in two kinds: some say that they are an authority, as
//! `openssl req -x509` makes them by default, some do not. A server with one of the first kind is
//! refused by webpki whatever the list holds (RFC 5280, section 4.2.1.9: an authority's certificate
//! is for signing others). Its owner means that very certificate to be trusted, and OpenSSL does
//! it. So a server's certificate that is byte for byte one of the list needs no signature of
//! somebody else; its dates and its names count all the same, and the handshake proves that the
//! server has its key.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The check of servers' certificates.
#[derive(Debug)]
pub(super) struct Verifier {
    /// What follows from the authorities.
    pub(super) authorities: Arc<WebPkiServerVerifier>,
    /// Certificates that are good for a server themselves.
    pub(super) listed: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.listed.iter().any(|listed| listed == certificate) {
            return verify_listed(certificate, name, now).map(|()| ServerCertVerified::assertion());
        }
        self.authorities
            .verify_server_cert(certificate, intermediates, name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}

/// The dates and the names of a certificate that is trusted as it is.
fn verify_listed(
    der: &CertificateDer<'_>,
    name: &ServerName<'_>,
    now: UnixTime,
) -> Result<(), Error> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|_| CertificateError::BadEncoding)?;
    let validity = certificate.validity();
    let (not_before, not_after) = (
        unix_time(&validity.not_before),
        unix_time(&validity.not_after),
    );
    if now < not_before {
        let time = now;
        return Err(CertificateError::NotValidYetContext { time, not_before }.into());
    }
    if now > not_after {
        let time = now;
        return Err(CertificateError::ExpiredContext { time, not_after }.into());
    }
    match rustls::client::verify_server_name(&ParsedCertificate::try_from(der)?, name) {
        Err(_) if has_only_common_name(&certificate, name) => Ok(()),
        verified => verified,
    }
}

/// Whether the certificate names the server as its subject, and has no list of names that would
/// count instead (RFC 6125, section 6.4.4): what `openssl req -x509 -subj /CN=HOST` makes.
/// Authorities sign no such certificate any more.
fn has_only_common_name(certificate: &X509Certificate<'_>, name: &ServerName<'_>) -> bool {
    let mut common_names = certificate.subject().iter_common_name();
    matches!(certificate.subject_alternative_name(), Ok(None))
        && common_names.any(|common| {
            let common = common.as_str();
            common.is_ok_and(|common| common.eq_ignore_ascii_case(&name.to_str()))
        })
}

/// Dates before 1970 are taken for its beginning.
fn unix_time(time: &x509_parser::time::ASN1Time) -> UnixTime {
    let seconds = u64::try_from(time.timestamp()).unwrap_or(0);
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, date_time_ymd};
    use rustls::RootCertStore;
    use rustls::crypto::ring::default_provider;

    use super::*;

    /// The middle of the time in which [`made`] certificates are good: 2030-01-01.
    const NOW: u64 = 1_893_456_000;

    /// A certificate that signs itself, with these names.
    fn made(is_authority: bool, names: &[&str], common_name: &str) -> CertificateDer<'static> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        params.not_before = date_time_ymd(2025, 1, 1);
        params.not_after = date_time_ymd(2035, 1, 1);
        if is_authority {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().clone()
    }

    fn verify(
        list: &[&CertificateDer<'static>],
        certificate: &CertificateDer<'_>,
        name: &str,
        now: u64,
    ) -> Result<(), Error> {
        let listed: Vec<_> = list.iter().map(|&listed| listed.clone()).collect();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(listed.clone());
        let provider = Arc::new(default_provider());
        let authorities = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .unwrap();
        let verifier = Verifier {
            authorities,
            listed,
        };
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
        verifier
            .verify_server_cert(certificate, &[], &name, &[], now)
            .map(|_| ())
    }

    #[test]
    fn a_listed_certificate_is_good_for_its_server_whatever_it_calls_itself() {
        for is_authority in [true, false] {
            let own = made(is_authority, &["a.test", "127.0.0.1"], "x");
            for name in ["a.test", "A.test", "127.0.0.1"] {
                assert_eq!(verify(&[&own], &own, name, NOW), Ok(()), "{name}");
            }
            let other = made(is_authority, &["a.test"], "other");
            assert_eq!(verify(&[&other, &own], &own, "a.test", NOW), Ok(()));
        }
    }

    #[test]
    fn dates_and_names_of_a_listed_certificate_count() {
        let own = made(true, &["a.test"], "b.test");
        for (name, now, words) in [
            ("c.test", NOW, "not valid for name"),
            // The list of names counts alone where there is one.
            ("b.test", NOW, "not valid for name"),
            ("127.0.0.1", NOW, "not valid for name"),
            ("a.test", NOW + 3_000_000_000, "expired"),
            ("a.test", NOW - 300_000_000, "not valid yet"),
        ] {
            let error = verify(&[&own], &own, name, now).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_common_name_counts_where_there_is_no_list_of_names() {
        let own = made(true, &[], "a.test");
        assert_eq!(verify(&[&own], &own, "A.TEST", NOW), Ok(()));
        assert!(verify(&[&own], &own, "b.test", NOW).is_err());
        let by_address = made(true, &[], "127.0.0.1");
        assert_eq!(
            verify(&[&by_address], &by_address, "127.0.0.1", NOW),
            Ok(())
        );
    }

    #[test]
    fn a_certificate_that_only_resembles_a_listed_one_is_not_it() {
        let (listed, impostor) = (made(true, &["a.test"], "x"), made(true, &["a.test"], "x"));
        assert!(verify(&[&listed], &impostor, "a.test", NOW).is_err());
    }
}
