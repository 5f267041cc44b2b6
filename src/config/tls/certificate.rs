//! One certificate and its key, read from two files in PEM (RFC 7468).

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::Error;
use rustls::crypto::ring::default_provider;
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey;

use crate::http::date::{Date, unix_s};
use crate::surroundings::Surroundings;

const CERTIFICATE: &str = "PEM with one BEGIN CERTIFICATE or more, the listener's own first";
const KEY: &str = "PEM with one BEGIN PRIVATE KEY, not encrypted";

/// Bits of an RSA key above which handshakes are slow: the work of a signature grows with their
/// third power.
const RSA_BITS_MAX: usize = 2048;

/// Where a certificate and its key stand. Table `tls`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CertificateFiles {
    /// The chain, the listener's own certificate first. Key `cert`.
    pub cert: PathBuf,
    /// The private key. Key `key`.
    pub key: PathBuf,
}

/// A certificate that can be used.
#[derive(Debug)]
pub struct Certificate {
    /// The chain and the key.
    pub(super) signing: Arc<CertifiedKey>,
    /// The names that it is for, in lower case; `*.` at the front stands for one label. Addresses
    /// are not among them: a client asks for names only (RFC 6066 section 3).
    pub(super) names: Vec<String>,
    /// Seconds since the epoch, from and until which it is good.
    valid_s: (i64, i64),
    /// Bits of its key, if that is one of RSA.
    rsa_bits: Option<usize>,
}

/// Why a certificate cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsError {
    /// The key of the configuration that names the file at fault.
    pub(super) key: &'static str,
    /// The file, what is wrong with it, and what was expected.
    pub(super) what: String,
}

impl fmt::Display for TlsError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.what)
    }
}

impl std::error::Error for TlsError {}

/// Stands in for a private key where there is none to be had; nobody shakes hands there.
#[derive(Debug)]
struct NoKey;

impl SigningKey for NoKey {
    fn choose_scheme(&self, _offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        None
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl TlsError {
    /// Which file it is and why, in one text.
    fn noted(self) -> String {
        format!("{} {}", self.key, self.what)
    }

    /// The same from that text.
    fn of_note(note: &str) -> Self {
        match note.strip_prefix("cert ") {
            Some(what) => Self {
                key: "cert",
                what: what.to_owned(),
            },
            None => Self {
                key: "key",
                what: note.strip_prefix("key ").unwrap_or(note).to_owned(),
            },
        }
    }
}

impl CertificateFiles {
    /// Reads both files.
    ///
    /// # Errors
    /// A file that cannot be read, holds no certificate or key, or a key that is not the
    /// certificate's.
    pub fn load(&self, around: &Surroundings) -> Result<Certificate, TlsError> {
        let cert_failed = |why: &str| failed("cert", &self.cert, why, CERTIFICATE);
        let bytes = around
            .certificates(&self.cert)
            .map_err(|error| cert_failed(&error.to_string()))?;
        let chain: Result<Vec<CertificateDer<'static>>, _> =
            CertificateDer::pem_slice_iter(&bytes).collect();
        let chain = chain.map_err(|error| cert_failed(&broken(&error)))?;
        if chain.is_empty() {
            return Err(cert_failed("it holds no certificate"));
        }
        let without = || Ok(CertifiedKey::new(chain.clone(), Arc::new(NoKey)));
        let read = |bytes| self.signing(&chain, bytes).map_err(TlsError::noted);
        let signing = around.private(&self.key, &self.cert, read, without);
        let signing = signing.map_err(|note| TlsError::of_note(&note))?;
        Certificate::new(signing)
            .map_err(|error| cert_failed(&format!("its certificate cannot be read: {error}")))
    }

    /// The chain with its key, of which this was read.
    fn signing(
        &self,
        chain: &[CertificateDer<'static>],
        bytes: io::Result<Vec<u8>>,
    ) -> Result<CertifiedKey, TlsError> {
        let cert_failed = |why: &str| failed("cert", &self.cert, why, CERTIFICATE);
        let key_failed = |why: &str| failed("key", &self.key, why, KEY);
        let bytes = bytes.map_err(|error| key_failed(&error.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
            pem::Error::NoItemsFound => key_failed("it holds no private key"),
            error => key_failed(&broken(&error)),
        })?;
        let unreadable =
            |why: &dyn fmt::Display| cert_failed(&format!("its certificate cannot be read: {why}"));
        let signing = CertifiedKey::from_der(chain.to_vec(), key, &default_provider());
        signing.map_err(|error| match error {
            Error::InvalidCertificate(why) => unreadable(&why),
            Error::InconsistentKeys(_) => {
                let cert = self.cert.display();
                let expected = format!("the key that the certificate in {cert} was made with");
                failed("key", &self.key, "it is another one's key", &expected)
            }
            error => key_failed(&format!("its key cannot be used: {error}")),
        })
    }
}

impl Certificate {
    fn new(signing: CertifiedKey) -> Result<Certificate, String> {
        // Invariant: the chain is not empty.
        let own = X509Certificate::from_der(&signing.cert[0]).map_err(|error| error.to_string());
        let (_, own) = own?;
        let validity = own.validity();
        let names = own.subject_alternative_name().ok().flatten();
        let names = names.iter().flat_map(|names| &names.value.general_names);
        let mut names: Vec<String> = names
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
                _ => None,
            })
            .collect();
        names.sort_unstable();
        names.dedup();
        let rsa_bits = match own.public_key().parsed() {
            Ok(PublicKey::RSA(key)) => Some(key.key_size()),
            _ => None,
        };
        let valid_s = (
            validity.not_before.timestamp(),
            validity.not_after.timestamp(),
        );
        Ok(Certificate {
            names,
            valid_s,
            rsa_bits,
            signing: Arc::new(signing),
        })
    }

    /// What its owner should know, though it can be used: each says what is so, and what was
    /// expected.
    pub(super) fn oddities(&self, now: SystemTime) -> Vec<String> {
        let mut found = Vec::new();
        let (from, until) = self.valid_s;
        let now = unix_s(now);
        if now < from {
            let from = Date::new(from);
            let what = format!("it is not valid before {}", from.as_str());
            found.push(what + "; expected one that is valid now");
        }
        if now > until {
            let until = Date::new(until);
            let what = format!("it expired on {}", until.as_str());
            found.push(what + "; expected one that is valid now");
        }
        if let Some(bits) = self.rsa_bits.filter(|bits| *bits > RSA_BITS_MAX) {
            found.push(format!(
                "its RSA key has {bits} bits, which makes handshakes slow for everybody; \
                 expected {RSA_BITS_MAX}, or a key on P-256"
            ));
        }
        found
    }
}

fn broken(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => "it ends in the middle of its PEM".to_owned(),
        error => format!("its PEM is broken: {error}"),
    }
}

fn failed(key: &'static str, path: &Path, why: &str, expected: &str) -> TlsError {
    let what = format!("{}: {why}; expected {expected}", path.display());
    TlsError { key, what }
}
