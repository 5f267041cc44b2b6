//! Many clients that say hello at once.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;

use netlab_reactor::config::{Config, Overrides};
use netlab_reactor::serve;
use netlab_reactor::sys::Bind;
use netlab_reactor::sys::unix::Unix;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use socket2::{Domain, Socket, Type};

use super::{certificate, trusting};

/// A client at an address of its own that has said hello.
fn hello(from: [u8; 4], to: SocketAddr, config: &Arc<ClientConfig>) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let from = SocketAddr::from((IpAddr::from(from), 0));
    socket.bind(&from.into()).expect("an address of loopback");
    socket.connect(&to.into()).expect("a connection");
    let name = ServerName::try_from("localhost").expect("a name");
    let mut tls = ClientConnection::new(Arc::clone(config), name).expect("a client");
    let mut bytes = Vec::new();
    tls.write_tls(&mut bytes).expect("memory");
    let mut stream = TcpStream::from(socket);
    stream.write_all(&bytes).expect("room");
    stream.set_nonblocking(true).expect("a mode");
    stream
}

#[test]
fn a_turn_has_time_for_few_handshakes_and_the_clients_get_theirs_in_turn() {
    const CROWD: usize = 20;
    let files = tempfile::tempdir().expect("a folder");
    let trusted = trusting(certificate(files.path()));
    let text = "[limits]\nturn_handshake_time = '1ns'\n[[listener]]\nkind = 'http'\n\
                bind = '127.0.0.1:0'\ntls = { cert = 'cert.pem', key = 'key.pem' }\n";
    let file = files.path().join("netlab.toml");
    let config = Config::parse(text, &file, &Overrides::default()).expect("a configuration");
    let sys = Unix::new(false).expect("a poll");
    let (mut reactor, bound) = serve::open(sys, &config).expect("a listener");
    let Bind::Inet(at) = bound[0] else {
        panic!("an address was asked for");
    };
    let mut clients: Vec<TcpStream> = (0..CROWD)
        .map(|_| hello([127, 0, 0, 2], at, &trusted))
        .collect();
    clients.push(hello([127, 0, 0, 3], at, &trusted));
    let mut answered = Vec::new();
    while answered.len() <= CROWD {
        reactor.turn().expect("a turn");
        let before = answered.len();
        for (index, client) in clients.iter_mut().enumerate() {
            if matches!(client.read(&mut [0; 16_384]), Ok(1..)) && !answered.contains(&index) {
                answered.push(index);
            }
        }
        assert!(answered.len() <= before + 1, "one signature in each turn");
    }
    let place = answered.iter().position(|index| *index == CROWD);
    assert!(place < Some(4), "it came last: {answered:?}");
}
