//! Key `ca_file`: who may vouch for https origins, instead of the authorities that the system
//! trusts.

use std::path::PathBuf;
use std::sync::Arc;

use super::section::{self, Section, string};
use crate::wire::trust;

/// A file of certificates in PEM, and what it held when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorities {
    /// Where it stands.
    pub path: PathBuf,
    /// Its bytes: one certificate or more.
    pub pem: Arc<[u8]>,
}

impl Authorities {
    /// Reads key `ca_file`.
    pub(super) fn read(section: &mut Section<'_>) -> Option<Authorities> {
        section.names_file("ca_file");
        let (base, around) = (section.folders.base.clone(), section.folders.around);
        let expected = "a file in PEM with one BEGIN CERTIFICATE or more";
        section.parsed("ca_file", expected, |value| {
            let path = section::path(&base, string(value)?)?;
            let told = |words: &str| format!("is {}: {words}", path.display());
            let pem = around
                .certificates(&path)
                .map_err(|error| told(&error.to_string()))?;
            trust::authorities(&pem).map_err(|words| told(&words))?;
            Ok(Authorities {
                path,
                pem: pem.into(),
            })
        })
    }
}
