//! Key `tls`: the certificates of a listener.
//!
//! ```text
//! tls = { cert, key }       one        ┌─ certificate   a chain and its key, read from two files, and
//! tls = [{ cert, key }, …]  several  ──┤                what is odd about them
//! [[listener.tls]]          the same   └─ by_name       which of them a client gets
//! ```
//!
//! The files are read with the configuration, so that what is wrong with them is told with its line
//! and column. A file that cannot be used does not make the configuration wrong
//! ([`Weight::BadFile`]): a listener that is served already keeps what it held before
//! ([`TlsConfig::keep`]).

mod by_name;
mod certificate;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

pub use by_name::ByName;
pub use certificate::{Certificate, CertificateFiles, TlsError};

use super::problem::Weight;
use super::section::Section;

/// What TLS of a listener needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// At least one. The first is for clients that ask for no name or for one that no certificate
    /// has.
    pub certificates: Vec<CertificateSource>,
}

/// A certificate by the files that it stands in, and what they held when they were read. Two are
/// the same if their files are: what those hold may change under a configuration that does not.
#[derive(Debug, Clone)]
pub struct CertificateSource {
    /// Where it stands.
    pub files: CertificateFiles,
    /// What was read.
    pub read: Result<Arc<Certificate>, TlsError>,
}

impl PartialEq for CertificateSource {
    fn eq(&self, other: &Self) -> bool {
        self.files == other.files
    }
}

impl Eq for CertificateSource {}

/// A certificate, and the span of the key that names it.
type Placed = (CertificateSource, Range<usize>);

impl TlsConfig {
    /// Reads key `tls`.
    pub(super) fn read(section: &mut Section<'_>) -> Option<TlsConfig> {
        let kind = section.text("kind").unwrap_or_default();
        let listener = section.text("name").unwrap_or(kind).to_owned();
        let problems_before = section.findings.len();
        let read = section.table_or_tables("tls", |tls| read_certificate(tls, &listener));
        if section.has("tls") && read.is_empty() && section.findings.len() == problems_before {
            let what = "`tls` is empty; expected a certificate, or no `tls` for plain text";
            section.problem(section.span("tls"), what.to_owned());
        }
        refuse_shared_names(section, &read, &listener);
        let certificates: Vec<_> = read.into_iter().map(|(source, _)| source).collect();
        (!certificates.is_empty()).then_some(TlsConfig { certificates })
    }

    /// What could not be read stays what it was in `before`, the same listener's of the
    /// configuration in force. Whether there was such a thing.
    pub fn keep(&mut self, before: &TlsConfig) -> bool {
        let mut kept = false;
        for source in &mut self.certificates {
            let mut old = before.certificates.iter();
            if source.read.is_err()
                && let Some(old) = old.find(|old| *old == source && old.read.is_ok())
            {
                source.read.clone_from(&old.read);
                kept = true;
            }
        }
        kept
    }

    /// Which of the certificates a client gets.
    ///
    /// # Errors
    /// Why one of them cannot be used.
    pub fn by_name(&self) -> Result<ByName, TlsError> {
        let read = self.certificates.iter().map(|source| source.read.clone());
        Ok(ByName::new(&read.collect::<Result<Vec<_>, _>>()?))
    }
}

/// Reads one table, and the files that it names.
fn read_certificate(section: &mut Section<'_>, listener: &str) -> Option<Placed> {
    let (Some(cert), Some(key)) = (section.path("cert"), section.path("key")) else {
        if section.findings.is_empty() {
            let what = "`tls` is not whole; expected two files, `cert` and `key`".to_owned();
            section.problem(section.span("cert"), what);
        }
        return None;
    };
    section.names_file("cert");
    section.names_file("key");
    let files = CertificateFiles { cert, key };
    let span = section.span("cert");
    let read = files.load(section.folders.around).map(Arc::new);
    match &read {
        Ok(certificate) => {
            for what in certificate.oddities(SystemTime::now()) {
                let cert = files.cert.display();
                let what = format!("listener {listener:?}: `cert` names {cert}: {what}");
                section.note(Weight::Warning, span.clone(), what);
            }
        }
        Err(TlsError { key, what }) => {
            let what = format!("listener {listener:?}: `{key}` names {what}");
            section.note(Weight::BadFile, section.span(key), what);
        }
    }
    Some((CertificateSource { files, read }, span))
}

/// Which of two certificates a name gets must not hang on their order alone. One that no name gets
/// is of no use but as the first.
fn refuse_shared_names(section: &mut Section<'_>, all: &[Placed], listener: &str) {
    let mut owners = HashMap::new();
    for (index, (source, span)) in all.iter().enumerate() {
        let Ok(certificate) = &source.read else {
            continue;
        };
        let cert = source.files.cert.display();
        if index > 0 && certificate.names.is_empty() {
            let what = format!(
                "listener {listener:?}: `cert` names {cert}: it is for no name \
                 (subjectAltName, DNS), so no client gets it; expected one that is"
            );
            section.note(Weight::Warning, span.clone(), what);
        }
        for name in &certificate.names {
            let owner = *owners.entry(name).or_insert(index);
            if owner != index {
                let first = all[owner].0.files.cert.display();
                let what = format!(
                    "listener {listener:?}: `cert` names {cert}: it is for {name:?}, and so is \
                     {first}; expected one certificate for a name"
                );
                section.note(Weight::BadFile, span.clone(), what);
            }
        }
    }
}

#[cfg(test)]
mod tests;
