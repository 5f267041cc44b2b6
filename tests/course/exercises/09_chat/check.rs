use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::mpsc;

use netlab_reactor::config::{Config, Overrides};
use netlab_reactor::gate::GateOptions;
use netlab_reactor::reactor::ListenerOptions;
use netlab_reactor::serve;
use netlab_reactor::sys::Bind;
use netlab_reactor::sys::unix::Unix;

fn start() -> SocketAddr {
    let (tell, address) = mpsc::channel();
    std::thread::spawn(move || {
        let mut config = Config::without_a_file(&Overrides::default()).expect("the defaults");
        config.listeners.clear();
        let sys = Unix::new(false).expect("a poll");
        let (mut reactor, _) = serve::open(sys, &config).expect("a reactor");
        let options = ListenerOptions {
            name: "chat".into(),
            kind: "chat",
            connections_max: 10,
            descriptors: 1,
            serves_while_draining: false,
            gate: GateOptions::default(),
            tls: None,
        };
        let bind = Bind::Inet((Ipv4Addr::LOCALHOST, 0).into());
        match reactor.listen(&bind, options, Chat::default()) {
            Ok(Bind::Inet(bound)) => tell.send(bound).expect("the check waits"),
            other => panic!("{other:?}"),
        }
        reactor.run().expect("a loop");
    });
    address.recv().expect("an address")
}

fn hears(client: &mut BufReader<TcpStream>, expected: &str) {
    let mut line = String::new();
    let heard = client.read_line(&mut line);
    assert_eq!((heard.is_ok(), &*line), (true, expected), "what one hears");
}

pub(crate) fn check() {
    let address = start();
    let mut all: Vec<BufReader<TcpStream>> = Vec::new();
    for _ in 0..3 {
        let stream = TcpStream::connect(address).expect("a connection");
        let patience = Some(Duration::from_secs(10));
        stream.set_read_timeout(patience).expect("a time-out");
        all.push(BufReader::new(stream));
        hears(all.last_mut().expect("one"), "welcome\n");
    }
    let says = |who: &mut BufReader<TcpStream>, text: &str| {
        who.get_mut()
            .write_all(text.as_bytes())
            .expect("it listens");
    };
    says(&mut all[0], "hello\n");
    hears(&mut all[1], "hello\n");
    hears(&mut all[2], "hello\n");
    says(&mut all[1], "you, ");
    says(&mut all[1], "too\n");
    hears(&mut all[0], "you, too\n");
    hears(&mut all[2], "you, too\n");
    drop(all.remove(1));
    says(&mut all[1], "who is left?\n");
    hears(&mut all[0], "who is left?\n");
}
