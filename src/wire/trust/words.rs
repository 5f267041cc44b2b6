//! Errors of TLS in words that say what to do about them.

use std::time::{Duration, UNIX_EPOCH};

use rustls::{AlertDescription, CertificateError, Error};
use rustls_pki_types::UnixTime;

/// The error of a handshake, or of what came after it. `ca_file`: how a person names other
/// authorities.
pub fn explain(error: &Error, ca_file: &str) -> String {
    match error {
        Error::InvalidCertificate(error) => {
            format!(
                "invalid peer certificate: {}",
                explain_certificate(error, ca_file)
            )
        }
        Error::InvalidMessage(_) => "the server does not speak TLS there".to_owned(),
        Error::PeerIncompatible(_) | Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            "the server speaks neither TLS 1.2 nor TLS 1.3 in a way that is known here".to_owned()
        }
        Error::AlertReceived(AlertDescription::HandshakeFailure) => {
            "the server found no way to encrypt that both sides know".to_owned()
        }
        Error::AlertReceived(AlertDescription::UnrecognisedName) => {
            "the server has no certificate for this name".to_owned()
        }
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the server wants a certificate of the client, which cannot be given here".to_owned()
        }
        Error::AlertReceived(alert) => format!("the server ended it with the alert {alert:?}"),
        other => other.to_string(),
    }
}

fn explain_certificate(error: &CertificateError, ca_file: &str) -> String {
    match error {
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("it expired on {}", date(*not_after))
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("it is not valid before {}", date(*not_before))
        }
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => {
            let expected = expected.to_str();
            let names: Vec<_> = presented.iter().map(|name| bare(name)).collect();
            match names.is_empty() {
                true => format!("it names no host, so it is not for {expected}"),
                false => format!("it is for {}, not for {expected}", names.join(", ")),
            }
        }
        CertificateError::UnknownIssuer => {
            format!("no authority that is trusted has signed it; {ca_file} names others")
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "it is not meant for servers".to_owned()
        }
        CertificateError::BadSignature => "its signature is wrong".to_owned(),
        CertificateError::BadEncoding => "it cannot be read".to_owned(),
        // webpki's own error, which rustls hands on without a name.
        CertificateError::Other(other) if other.to_string() == "CaUsedAsEndEntity" => {
            format!(
                "it is the certificate of an authority; to trust it for this server, name it with {ca_file}"
            )
        }
        other => other.to_string(),
    }
}

/// A name out of webpki's notation, such as `DnsName("a.test")`.
fn bare(name: &str) -> &str {
    let inner = name
        .split_once('(')
        .and_then(|(_, name)| name.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"')
}

fn date(time: UnixTime) -> String {
    // httpdate writes the years up to 9999 only, where certificates without an end stand.
    let end = Duration::from_secs(253_402_300_799);
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(time.as_secs()).min(end))
}
