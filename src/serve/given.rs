//! Which listener a given socket is for: the one of its name, else the one at its address.
//!
//! A listener that has sockets by its name listens on these and nowhere else, whatever its `bind`
//! says. A name that two listeners share, as two of a kind do without a `name`, is nobody's.

use crate::config::{self, Config, ListenerConfig};
use crate::sys::{Bind, GivenSocket};

/// A given socket that no listener wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unwanted {
    /// Its descriptor.
    pub(super) number: i32,
    /// Which one it is, and what was expected.
    pub(super) why: String,
}

/// Lets the listeners of a configuration listen on the sockets that were given for them; the
/// sockets that are left.
pub(super) fn place(config: &mut Config, given: &[GivenSocket]) -> Vec<Unwanted> {
    let names: Vec<String> = config.listeners.iter().map(|l| l.name.clone()).collect();
    let is_unique = |name: &str| names.iter().filter(|other| *other == name).count() == 1;
    for listener in &mut config.listeners {
        let is_for_it = |socket: &&GivenSocket| {
            socket.name.as_ref() == Some(&listener.name) && fits(listener, socket)
        };
        if is_unique(&listener.name) {
            let own: Vec<_> = given.iter().filter(is_for_it).map(bind).collect();
            if !own.is_empty() {
                listener.bind = own;
            }
        }
    }
    let is_wanted = |socket: &GivenSocket| {
        let bind = bind(socket);
        config::addresses(&config.listeners).any(|(_, at)| *at == bind)
    };
    let left = given.iter().filter(|socket| !is_wanted(socket));
    left.map(|socket| Unwanted {
        number: socket.number,
        why: why(socket, &config.listeners),
    })
    .collect()
}

/// As the configuration writes it.
fn bind(socket: &GivenSocket) -> config::Bind {
    match (&socket.bound, socket.is_stream) {
        (Bind::Inet(address), true) => config::Bind::Tcp(*address),
        (Bind::Inet(address), false) => config::Bind::Udp(*address),
        (Bind::Unix(path), _) => config::Bind::Unix(path.clone()),
    }
}

/// Whether a listener can be served over a socket.
fn fits(listener: &ListenerConfig, socket: &GivenSocket) -> bool {
    listener.kind.stream().is_some() == socket.is_stream
}

fn why(socket: &GivenSocket, listeners: &[ListenerConfig]) -> String {
    if socket.is_own {
        return format!("{socket}: no listener has this address any more");
    }
    let mut of_name = listeners
        .iter()
        .filter(|l| socket.name.as_ref() == Some(&l.name));
    match (of_name.next(), of_name.next()) {
        (Some(listener), None) => {
            let transport = match listener.kind.stream() {
                Some(_) => "a listening stream socket",
                None => "a UDP socket",
            };
            let kind = listener.kind.name();
            format!("{socket}: the listener of this name is of kind {kind:?}; expected {transport}")
        }
        (named, _) => {
            let wrong = match named {
                Some(_) => "several listeners have this name, and none this address",
                None => "no listener has this name or this address",
            };
            let names: Vec<String> = listeners.iter().map(|l| format!("{:?}", l.name)).collect();
            let at = config::addresses(listeners).map(|(_, at)| at.to_string());
            format!(
                "{socket}: {wrong}; expected one of the names {}, or one of the addresses {}",
                names.join(", "),
                at.collect::<Vec<_>>().join(", ")
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;
    use std::path::Path;

    const CONFIG: &str = r#"
        [[listener]]
        kind = "http"
        name = "web"
        bind = ["127.0.0.1:80", "[::1]:80"]
        [[listener]]
        kind = "tcp-echo"
        bind = "127.0.0.1:7"
        [[listener]]
        kind = "udp-echo"
        bind = "127.0.0.1:7"
        [[listener]]
        kind = "hello"
        bind = "unix:/run/hello.sock"
        [[listener]]
        kind = "hello"
        bind = "127.0.0.1:9000"
    "#;

    fn socket(name: &str, is_stream: bool, at: &str) -> GivenSocket {
        GivenSocket {
            is_own: false,
            number: 3,
            name: (!name.is_empty()).then(|| name.to_owned()),
            is_stream,
            bound: match at.strip_prefix("unix:") {
                Some(path) => Bind::Unix(path.into()),
                None => Bind::Inet(at.parse().expect("an address")),
            },
        }
    }

    /// Where each listener listens, and why sockets are left.
    fn placed(given: &[GivenSocket]) -> (Vec<String>, Vec<String>) {
        let mut config =
            Config::parse(CONFIG, Path::new("x.toml"), &Overrides::default()).expect("it is right");
        let left = place(&mut config, given).into_iter().map(|left| left.why);
        let at = |l: &ListenerConfig| l.bind.iter().map(ToString::to_string).collect::<Vec<_>>();
        let at = config.listeners.iter().map(|l| at(l).join(" "));
        (at.collect(), left.collect())
    }

    #[test]
    fn a_socket_is_for_the_listener_of_its_name_which_listens_nowhere_else() {
        let given = [
            socket("web", true, "192.0.2.1:8080"),
            socket("web", true, "[::1]:80"),
            socket("udp-echo", false, "0.0.0.0:99"),
        ];
        let (at, left) = placed(&given);
        assert_eq!(at[0], "192.0.2.1:8080 [::1]:80");
        assert_eq!(at[1..3], ["127.0.0.1:7", "0.0.0.0:99"]);
        assert_eq!(left, [""; 0]);
    }

    #[test]
    fn without_a_name_or_with_an_unknown_one_it_is_for_the_listener_at_its_address() {
        let given = [
            socket("", true, "[::1]:80"),
            socket("netlab.socket", true, "127.0.0.1:7"),
            socket("", false, "127.0.0.1:7"),
            socket("hello", true, "unix:/run/hello.sock"),
        ];
        let (at, left) = placed(&given);
        assert_eq!((at, left), placed(&[]));
    }

    #[test]
    fn what_nobody_wants_is_named_with_what_was_expected() {
        let cases = [
            (
                socket("nobody", true, "127.0.0.1:1"),
                "the given socket 3 \"nobody\" (TCP 127.0.0.1:1): no listener has this name or \
                 this address; expected one of the names \"web\", ",
            ),
            (
                socket("", false, "127.0.0.1:80"),
                "the given socket 3 (UDP 127.0.0.1:80): no listener",
            ),
            (
                socket("web", false, "127.0.0.1:1"),
                "the given socket 3 \"web\" (UDP 127.0.0.1:1): the listener of this name is of \
                 kind \"http\"; expected a listening stream socket",
            ),
            (
                socket("hello", true, "unix:/run/other.sock"),
                "the given socket 3 \"hello\" (unix:/run/other.sock): several listeners have \
                 this name, and none this address; expected",
            ),
        ];
        for (socket, expected) in cases {
            let (_, left) = placed(&[socket]);
            assert!(left[0].starts_with(expected), "{left:?}");
            assert_eq!(left.len(), 1);
        }
    }
}
