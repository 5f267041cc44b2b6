// A prefix of what is right may become right; anything else is refused at once. The family has to be
// that of both addresses.

use std::net::{IpAddr, SocketAddr};

/// Who it is for (`None` where that is not known), and how many bytes said so; `None` while it is not
/// whole.
pub(crate) type Introduced = Option<(Option<SocketAddr>, usize)>;

const BEGIN: &[u8] = b"PROXY ";
const LINE_BYTES_MAX: usize = 107;

/// Reads the beginning of a connection.
pub(crate) fn introduced(bytes: &[u8]) -> Result<Introduced, String> {
    let common = bytes.len().min(BEGIN.len());
    if bytes[..common] != BEGIN[..common] {
        return Err("no PROXY line".to_owned());
    }
    let within = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = within.windows(2).position(|pair| pair == b"\r\n") else {
        return match bytes.len() < LINE_BYTES_MAX {
            true => Ok(None),
            false => Err(format!("no line end within {LINE_BYTES_MAX} bytes")),
        };
    };
    let line = std::str::from_utf8(&bytes[BEGIN.len()..end]).map_err(|_| "no text".to_owned())?;
    let words: Vec<&str> = line.split(' ').collect();
    let client = match words[..] {
        ["UNKNOWN", ..] => None,
        ["TCP4" | "TCP6", from, to, from_port, to_port] => {
            let address = |text: &str| text.parse().map_err(|_| format!("{text:?} is no address"));
            let port = |text: &str| text.parse().map_err(|_| format!("{text:?} is no port"));
            let ips: [IpAddr; 2] = [address(from)?, address(to)?];
            let ports: [u16; 2] = [port(from_port)?, port(to_port)?];
            if ips.iter().any(|ip| ip.is_ipv4() != (words[0] == "TCP4")) {
                return Err("addresses of another family".to_owned());
            }
            Some(SocketAddr::new(ips[0], ports[0]))
        }
        _ => return Err(format!("{line:?}; expected TCP4, TCP6 or UNKNOWN")),
    };
    Ok(Some((client, end + 2)))
}
