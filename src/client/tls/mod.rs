//! TLS for `get`, `mail`, `upload`, `trace` and `explain`: rustls over ring, with the system's
//! certificate authorities or a file of one's own.
//!
//! There is no flag to skip the checks: a certificate of one's own is trusted by naming its
//! authority's file.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::{CertificateDer, ServerName};

use super::Failure;
use super::connect::{is_pause, reason};
use crate::wire::{idn, trust};

/// The flags of clients that can speak TLS.
#[derive(Debug, Clone, Default, Args)]
pub struct TlsArgs {
    /// Trust the certificates in this file (PEM) instead of the system's authorities
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,

    /// The name that the server's certificate must have, where it differs from the host's
    #[arg(long, value_name = "NAME")]
    pub tls_name: Option<String>,
}

/// Whom to trust, and as whom.
#[derive(Debug, Clone)]
pub struct Trust {
    config: Arc<ClientConfig>,
    name: Option<String>,
}

impl TlsArgs {
    /// Reads the certificate authorities.
    ///
    /// # Errors
    /// The file cannot be read or holds no certificate; or the system has none.
    pub fn trust(&self) -> Result<Trust, Failure> {
        let (roots, listed) = match &self.ca_file {
            Some(path) => read_file(path)?,
            None => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                (roots, Vec::new())
            }
        };
        if roots.is_empty() {
            return Err(Failure::usage(
                "the system has no certificate authorities: name a file with --ca-file",
            ));
        }
        let config = trust::client(Arc::new(roots), listed)
            .map_err(|error| Failure::usage(format!("TLS: {error}")))?;
        Ok(Trust {
            config: Arc::new(config),
            name: self.tls_name.clone(),
        })
    }
}

/// The certificates of a file.
fn read_file(path: &Path) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), Failure> {
    let complaint = |words: &dyn std::fmt::Display| {
        Failure::usage(format!("--ca-file {}: {words}", path.display()))
    };
    let pem = std::fs::read(path).map_err(|error| complaint(&error))?;
    trust::authorities(&pem).map_err(|words| complaint(&words))
}

fn explain(error: &rustls::Error) -> String {
    trust::explain(error, "--ca-file")
}

/// A connection over TLS.
pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// Does the handshake with `host` until `until`.
///
/// # Errors
/// In words: a certificate that is not trusted or for another name, a server that speaks something
/// else, a time-out.
pub fn handshake(
    mut tcp: TcpStream,
    host: &str,
    trust: &Trust,
    until: Instant,
) -> Result<TlsStream, String> {
    // A zone names an interface of this machine: the server's certificate knows nothing of it.
    let host = host
        .split_once('%')
        .map_or(host, |(address, _zone)| address);
    let name = idn::to_ascii(trust.name.as_deref().unwrap_or(host))?.into_owned();
    let name = ServerName::try_from(name.clone())
        .map_err(|_| format!("TLS: {name:?} is no name that a certificate could have"))?;
    let mut connection = ClientConnection::new(Arc::clone(&trust.config), name)
        .map_err(|error| format!("TLS: {}", explain(&error)))?;
    // The last flight of ours goes out after the handshake counts as done.
    while connection.is_handshaking() || connection.wants_write() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err("timed out in the TLS handshake".to_owned());
        }
        let left = Some(left.max(Duration::from_millis(1)));
        let timeouts = tcp
            .set_read_timeout(left)
            .and_then(|()| tcp.set_write_timeout(left));
        match timeouts.and_then(|()| turn(&mut connection, &mut tcp)) {
            Ok(()) => {}
            Err(error) if is_pause(&error) => {}
            Err(error) => return Err(format!("TLS: {}", reason(&error))),
        }
    }
    Ok(StreamOwned::new(connection, tcp))
}

/// One write or read of the handshake. Not `complete_io`: that one does not come back while a slow
/// server sends a byte now and then.
fn turn(connection: &mut ClientConnection, tcp: &mut (impl Read + Write)) -> io::Result<()> {
    if connection.wants_write() {
        return connection.write_tls(tcp).map(|_| ());
    }
    if connection.read_tls(tcp)? == 0 {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the server closed the connection",
        ));
    }
    let processed = connection.process_new_packets();
    if processed.is_err() && connection.wants_write() {
        // The alert tells the server why. Whether it gets there does not matter any more.
        let _ = connection.write_tls(tcp);
    }
    processed.map(|_| ()).map_err(|error| broken(&error))
}

fn broken(error: &rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, explain(error))
}

/// Reads once: plain bytes that are there, else one read from the network. Errors of kind
/// `WouldBlock` ask to try again.
///
/// # Errors
/// The system's; what breaks TLS; an end of the stream that TLS did not announce, as
/// `UnexpectedEof`.
pub fn read(tls: &mut TlsStream, buffer: &mut [u8]) -> io::Result<usize> {
    match tls.conn.reader().read(buffer) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        read => return read,
    }
    tls.conn.read_tls(&mut tls.sock)?;
    tls.conn
        .process_new_packets()
        .map_err(|error| broken(&error))?;
    while tls.conn.wants_write() {
        tls.conn.write_tls(&mut tls.sock)?;
    }
    tls.conn.reader().read(buffer)
}
