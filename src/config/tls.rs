//! The certificate of a listener and its key, read with the configuration: what is wrong with them is told like what is wrong
//! with any other value, and at start and by `check` alike.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{Error, ServerConfig};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::section::Section;

const CERTIFICATE: &str = "PEM with one BEGIN CERTIFICATE or more, the listener's own first";
const KEY: &str = "PEM with one BEGIN PRIVATE KEY, not encrypted";

/// Where a certificate and its key stand, both in PEM (RFC 7468). Table `tls`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, the listener's own certificate first. Key `cert`.
    pub cert: PathBuf,
    /// The private key. Key `key`.
    pub key: PathBuf,
}

/// Why a certificate cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsError {
    /// The key of the configuration that names the file at fault.
    key: &'static str,
    /// The file, what is wrong with it, and what was expected.
    what: String,
}

impl fmt::Display for TlsError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.what)
    }
}

impl std::error::Error for TlsError {}

impl TlsFiles {
    /// Reads the table, and the files that it names: a certificate that cannot be used is a problem of the configuration.
    pub(super) fn read(section: &mut Section<'_>) -> Option<TlsFiles> {
        let listener = section.text("name").unwrap_or("http").to_owned();
        let mut files = None;
        section.table("tls", |tls| {
            let (Some(cert), Some(key)) = (tls.path("cert"), tls.path("key")) else {
                let what = "`tls` is not whole; expected two files, `cert` and `key`".to_owned();
                return tls.problem(tls.span("cert"), what);
            };
            let read = TlsFiles { cert, key };
            if let Err(TlsError { key, what }) = read.load() {
                let what = format!("listener {listener:?}: `{key}` names {what}");
                tls.problem(tls.span(key), what);
            }
            files = Some(read);
        });
        files
    }

    /// What a server needs of the two files.
    ///
    /// # Errors
    /// A file that cannot be read, holds no certificate or key, or a key that is not the certificate's.
    pub fn load(&self) -> Result<ServerConfig, TlsError> {
        let cert_failed = |why: &str| failed("cert", &self.cert, why, CERTIFICATE);
        let key_failed = |why: &str| failed("key", &self.key, why, KEY);
        let bytes = fs::read(&self.cert).map_err(|error| cert_failed(&error.to_string()))?;
        let chain: Result<Vec<CertificateDer<'static>>, _> =
            CertificateDer::pem_slice_iter(&bytes).collect();
        let chain = chain.map_err(|error| cert_failed(&broken(&error)))?;
        if chain.is_empty() {
            return Err(cert_failed("it holds no certificate"));
        }
        let bytes = fs::read(&self.key).map_err(|error| key_failed(&error.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
            pem::Error::NoItemsFound => key_failed("it holds no private key"),
            error => key_failed(&broken(&error)),
        })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let built = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key));
        let mut config = built.map_err(|error| match error {
            Error::InvalidCertificate(why) => {
                cert_failed(&format!("its certificate cannot be read: {why}"))
            }
            Error::InconsistentKeys(_) => {
                let cert = self.cert.display();
                let expected = format!("the key that the certificate in {cert} was made with");
                failed("key", &self.key, "it is another one's key", &expected)
            }
            error => key_failed(&format!("its key cannot be used: {error}")),
        })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
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

#[cfg(test)]
mod tests {
    use super::super::{Config, Overrides};
    use super::*;

    #[test]
    fn what_is_wrong_with_a_certificate_is_told_with_its_listener_and_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let made = [(); 2].map(|()| {
            let names = vec!["localhost".to_owned()];
            rcgen::generate_simple_self_signed(names).expect("a certificate")
        });
        let cut = made[0].cert.pem().replace("-----END CERTIFICATE-----", "");
        let wrong = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let curve = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        for (name, text) in [
            ("cert.pem", made[0].cert.pem()),
            ("key.pem", made[0].signing_key.serialize_pem()),
            ("other.pem", made[1].signing_key.serialize_pem()),
            ("text", "not PEM".to_owned()),
            ("cut.pem", cut),
            ("wrong.pem", wrong.to_owned()),
            ("curve.pem", curve.to_owned()),
        ] {
            fs::write(folder.path().join(name), text).expect("a file");
        }
        let file = folder.path().join("x.toml");
        let check = |cert: &str, key: &str| {
            let text = format!(
                "[[listener]]\nkind = 'http'\nname = 'web'\ntls.cert = '{cert}'\ntls.key = '{key}'\n"
            );
            Config::parse(&text, &file, &Overrides::default()).map_err(|wrong| wrong.to_string())
        };
        assert!(check("cert.pem", "key.pem").is_ok());
        let path = |name: &str| folder.path().join(name).display().to_string();
        for (cert, key, place, names, why, expected) in [
            (
                "none",
                "key.pem",
                "4:12",
                "`cert` names none",
                "No such file",
                CERTIFICATE,
            ),
            (
                "text",
                "key.pem",
                "4:12",
                "`cert` names text",
                "it holds no certificate",
                CERTIFICATE,
            ),
            (
                "key.pem",
                "key.pem",
                "4:12",
                "`cert` names key.pem",
                "it holds no certificate",
                CERTIFICATE,
            ),
            (
                "cut.pem",
                "key.pem",
                "4:12",
                "`cert` names cut.pem",
                "in the middle",
                CERTIFICATE,
            ),
            (
                "wrong.pem",
                "key.pem",
                "4:12",
                "`cert` names wrong.pem",
                "cannot be read",
                CERTIFICATE,
            ),
            (
                "cert.pem",
                "none",
                "5:11",
                "`key` names none",
                "No such file",
                KEY,
            ),
            (
                "cert.pem",
                "text",
                "5:11",
                "`key` names text",
                "it holds no private key",
                KEY,
            ),
            (
                "cert.pem",
                "cert.pem",
                "5:11",
                "`key` names cert.pem",
                "it holds no private key",
                KEY,
            ),
            (
                "cert.pem",
                "curve.pem",
                "5:11",
                "`key` names curve.pem",
                "cannot be used",
                KEY,
            ),
            (
                "cert.pem",
                "other.pem",
                "5:11",
                "`key` names other.pem",
                "another one's",
                "the key that the certificate in ",
            ),
        ] {
            let wrong = check(cert, key).expect_err("should be refused");
            let (what, name) = names.split_once("names ").expect("a name");
            let start = format!(
                "{}:{place}: listener \"web\": {what}names {}: ",
                file.display(),
                path(name)
            );
            assert!(wrong.starts_with(&start), "{wrong}\nand not\n{start}");
            assert!(
                wrong.contains(why) && wrong.contains(&format!("; expected {expected}")),
                "{wrong}"
            );
            assert_eq!(wrong.lines().count(), 1, "{wrong}");
        }
    }
}
