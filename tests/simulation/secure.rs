//! TLS of simulated origins. A run of a seed is the same as any other run of it: keys and signatures
//! differ from one to the next, since the cryptography draws on the system, but nothing that the
//! simulation looks at does. It sees lengths, and those are fixed: a certificate of a constant key,
//! signed by Ed25519, whose signatures have one length and no chance in them; X25519; TLS 1.3.

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;

use netlab_reactor::config::Authorities;
use netlab_reactor::sys::sim::End;
use netlab_reactor::sys::sim::actor::{Hands, Received};
use netlab_reactor::sys::sim::faults::Fault;
use rustls::crypto::ring::{default_provider, kx_group};
use rustls::pki_types::PrivateKeyDer;
use rustls::version::TLS13;
use rustls::{ServerConfig, ServerConnection};

/// The names of the certificate: that of an origin and of a parent.
const NAMES: [&str; 2] = ["secure.example", "parent.example"];

/// Bytes that are read at a time.
const PIECE_BYTES: usize = 5000;

const KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEIHuKj1iFmoS+FoTfXeyqYMqcdkKtzHpzda/3b7i8p8zH\n\
    -----END PRIVATE KEY-----";

fn key() -> rcgen::KeyPair {
    rcgen::KeyPair::from_pem(KEY).expect("a key")
}

fn certificate() -> rcgen::Certificate {
    let params = rcgen::CertificateParams::new(NAMES.map(str::to_owned)).expect("names");
    params.self_signed(&key()).expect("a certificate")
}

/// Whom a proxy has to trust.
pub(crate) fn authorities() -> Authorities {
    Authorities {
        path: "own.pem".into(),
        pem: certificate().pem().into_bytes().into(),
    }
}

/// An origin with that certificate, whoever is asked for.
pub(crate) fn server() -> Arc<ServerConfig> {
    let provider = rustls::crypto::CryptoProvider {
        kx_groups: vec![kx_group::X25519],
        ..default_provider()
    };
    let config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS13])
        .expect("a version");
    let key = PrivateKeyDer::try_from(key().serialize_der()).expect("a key");
    let config = config
        .with_no_client_auth()
        .with_single_cert(vec![certificate().into()], key);
    Arc::new(config.expect("a certificate"))
}

/// One end of a connection, in plain text or not.
pub(crate) struct Wire {
    end: End,
    /// The outermost first: each is spoken within the one before.
    layers: Vec<Tls>,
}

struct Tls {
    connection: ServerConnection,
    /// What is to be sent as it is: records, or what comes ahead of the first.
    out: Vec<u8>,
    /// It breaks off within the handshake.
    breaks: bool,
    ended: bool,
}

impl Wire {
    pub(crate) fn new(end: End) -> Self {
        Self {
            end,
            layers: Vec::new(),
        }
    }

    /// TLS begins, behind these bytes in plain text; within that which is spoken already.
    pub(crate) fn secure(
        &mut self,
        config: &Arc<ServerConfig>,
        ahead: &[u8],
        hands: &mut Hands<'_>,
    ) {
        let connection = ServerConnection::new(Arc::clone(config)).expect("a connection");
        let is_within = !self.layers.is_empty();
        self.layers.push(Tls {
            connection,
            out: ahead.to_vec(),
            breaks: hands.strikes(Fault::Reset),
            ended: false,
        });
        if is_within {
            hands.note(|| "TLS is to begin within TLS".to_owned());
        }
    }

    /// What came, at most a piece of it.
    pub(crate) fn receive(&mut self, hands: &mut Hands<'_>) -> Received {
        receive(&mut self.layers, self.end, hands)
    }

    /// Sends what there is room for; how much that was.
    pub(crate) fn send(&mut self, bytes: &[u8], hands: &mut Hands<'_>) -> usize {
        send(&mut self.layers, self.end, bytes, hands)
    }

    /// Closes in good order, once all of it was sent; whether it did.
    pub(crate) fn close(&mut self, hands: &mut Hands<'_>) -> bool {
        for at in (0..self.layers.len()).rev() {
            let (outer, inner) = self.layers.split_at_mut(at);
            let tls = &mut inner[0];
            if !std::mem::replace(&mut tls.ended, true) {
                tls.connection.send_close_notify();
            }
            tls.flush(outer, self.end, hands);
            if !tls.out.is_empty() && !hands.is_over(self.end) {
                return false;
            }
        }
        hands.close(self.end);
        true
    }

    /// Closes with a reset.
    pub(crate) fn abort(&mut self, hands: &mut Hands<'_>) {
        hands.abort(self.end);
    }
}

/// What came within these layers of TLS.
fn receive(layers: &mut [Tls], end: End, hands: &mut Hands<'_>) -> Received {
    let Some((tls, outer)) = layers.split_last_mut() else {
        return hands.receive(end, PIECE_BYTES);
    };
    loop {
        let mut plain = vec![0; PIECE_BYTES];
        match tls.connection.reader().read(&mut plain) {
            Ok(0) => return Received::End,
            Ok(count) => {
                plain.truncate(count);
                return Received::Bytes(plain);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return Received::Broken,
        }
        let bytes = match receive(outer, end, hands) {
            Received::Bytes(bytes) => bytes,
            other => return other,
        };
        if tls.breaks {
            hands.abort(end);
            return Received::Broken;
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let was_handshaking = tls.connection.is_handshaking();
            let taken = tls.connection.read_tls(&mut rest);
            let is_sound = taken.is_ok() && tls.connection.process_new_packets().is_ok();
            if was_handshaking && !tls.connection.is_handshaking() {
                let kind = tls.connection.handshake_kind();
                hands.note(|| format!("TLS begins on {end:?}: {kind:?}"));
            }
            tls.flush(outer, end, hands);
            if !is_sound {
                return Received::Broken; // the proxy does not believe the certificate
            }
        }
    }
}

/// Sends within these layers of TLS what there is room for; how much that was.
fn send(layers: &mut [Tls], end: End, bytes: &[u8], hands: &mut Hands<'_>) -> usize {
    let Some((tls, outer)) = layers.split_last_mut() else {
        return hands.send(end, bytes);
    };
    tls.flush(outer, end, hands);
    if tls.connection.is_handshaking() || !tls.out.is_empty() {
        return 0;
    }
    // It takes some at once, and nobody would call again while there is room.
    let mut count = 0;
    while count < bytes.len() && tls.out.is_empty() {
        let mut writer = tls.connection.writer();
        count += writer.write(&bytes[count..]).expect("room");
        tls.flush(outer, end, hands);
    }
    count
}

impl Tls {
    fn flush(&mut self, outer: &mut [Tls], end: End, hands: &mut Hands<'_>) {
        while self.connection.wants_write() {
            self.connection
                .write_tls(&mut self.out)
                .expect("memory takes it");
        }
        // What a layer around it holds back is sent with whatever comes next.
        let sent = send(outer, end, &self.out, hands);
        self.out.drain(..sent);
    }
}
