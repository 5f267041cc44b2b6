// Exercise 8, a header ahead of a connection: a load balancer says for whom it connects, in a line
// `PROXY TCP4 192.0.2.1 198.51.100.1 40000 80` and CR LF, or `TCP6`, or `PROXY UNKNOWN` and anything.
// The line has at most 107 bytes (proxy-protocol.txt of HAProxy, section 2.1). It may come in
// pieces; what is no such line is refused as soon as that is sure, since nobody else may be let in.
//
// Look at: `src/wire/proxy_protocol.rs`, which also reads the binary form.
//
// What is given reads a line that came whole, and believes all it says.
//
// Run: cargo test --test course --features exercises e08

use std::net::SocketAddr;

/// Who it is for (`None` where that is not known), and how many bytes said so; `None` while it is not
/// whole.
pub(crate) type Introduced = Option<(Option<SocketAddr>, usize)>;

/// Reads the beginning of a connection.
pub(crate) fn introduced(bytes: &[u8]) -> Result<Introduced, String> {
    let text = String::from_utf8_lossy(bytes);
    let words: Vec<&str> = text.split_whitespace().collect();
    let ip = words[2].parse().map_err(|_| "no address".to_owned())?;
    let port = words[4].parse().map_err(|_| "no port".to_owned())?;
    Ok(Some((Some(SocketAddr::new(ip, port)), bytes.len())))
}
