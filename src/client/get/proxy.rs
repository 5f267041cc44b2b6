//! Which proxy a URL is fetched through, and the tunnel through one (RFC 9110, section 9.3.6).

use std::net::IpAddr;

use ipnet::IpNet;

use super::GetArgs;
use super::exchange::read_head;
use crate::client::Failure;
use crate::client::stream::Stream;
use crate::client::url::Url;
use crate::http::Method;
use crate::http::head;
use crate::wire::idn;

/// Asks a proxy for a tunnel.
pub(super) fn open_tunnel(stream: &mut Stream, url: &Url, proxy: &Url) -> Result<(), Failure> {
    let authority = url.target().authority();
    let mut bytes = Vec::new();
    head::put_request_line(&mut bytes, Method::Connect, &authority);
    head::put_header(&mut bytes, "Host", &authority);
    if let Some(credentials) = &proxy.credentials {
        head::put_header(&mut bytes, "Proxy-Authorization", credentials.basic());
    }
    head::put_head_end(&mut bytes);
    stream.begin("asking the proxy for a tunnel");
    stream.write_all(&bytes)?;
    stream.begin("waiting for the proxy's answer");
    let mut received = Vec::new();
    let (head, _) = read_head(stream, &mut received, Method::Connect)?;
    match head.status {
        200..300 if received.is_empty() => Ok(()),
        200..300 => Err(stream.broken("the proxy sent something of its own into the tunnel")),
        status => Err(stream.broken(&format!("the proxy answered {status} {}", head.reason))),
    }
}

/// The proxy for a URL, from the flag or the environment.
pub(super) fn proxy_for(args: &GetArgs, url: &Url) -> Result<Option<Url>, Failure> {
    let variable = |names: &[&str]| {
        names
            .iter()
            .find_map(|name| std::env::var(name).ok())
            .filter(|text| !text.is_empty())
    };
    let text = match &args.proxy {
        Some(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        None if variable(&["no_proxy", "NO_PROXY"]).is_some_and(|list| is_exempt(&list, url)) => {
            None
        }
        None if url.is_https => variable(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
        // Not HTTP_PROXY: in a CGI program that is a header of the request.
        None => variable(&["http_proxy", "all_proxy", "ALL_PROXY"]),
    };
    let Some(text) = text else { return Ok(None) };
    match Url::parse(&text) {
        Ok(proxy) if !proxy.is_https => Ok(Some(proxy)),
        Ok(proxy) => Err(Failure::usage(format!(
            "{proxy}: a proxy is spoken to over http only"
        ))),
        Err(words) => Err(Failure::usage(format!("the proxy {words}"))),
    }
}

/// Whether `no_proxy`, entries between commas or blanks, names the host of a URL.
fn is_exempt(list: &str, url: &Url) -> bool {
    list.split(|c: char| c == ',' || c.is_whitespace())
        .filter(|entry| !entry.is_empty())
        .any(|entry| names(entry, url))
}

/// Whether an entry names the host: as itself, as a domain above it (with or without a dot or `*.`
/// in front), as a range of addresses, or with `*` for all. Behind a colon may stand the one port
/// that is meant.
fn names(entry: &str, url: &Url) -> bool {
    if entry == "*" {
        return true;
    }
    let host = url
        .host
        .split_once('%')
        .map_or(&url.host[..], |(host, _zone)| host);
    let (entry, port) = split_port(entry);
    if port.is_some_and(|port| port != url.port) {
        return false;
    }
    let bare = entry.replace(['[', ']'], "");
    if let Ok(address) = host.parse::<IpAddr>() {
        let address = address.to_canonical();
        return match bare.parse::<IpNet>() {
            Ok(range) => range.contains(&address),
            Err(_) => bare
                .parse::<IpAddr>()
                .is_ok_and(|one| one.to_canonical() == address),
        };
    }
    let domain = entry.strip_prefix('*').unwrap_or(entry);
    let domain = domain.trim_start_matches('.').trim_end_matches('.');
    let Ok(domain) = idn::to_ascii(domain) else {
        return false;
    };
    let host = host.trim_end_matches('.');
    let tail_at = host.len().checked_sub(domain.len());
    let Some((above, tail)) = tail_at.and_then(|at| host.split_at_checked(at)) else {
        return false;
    };
    !domain.is_empty()
        && tail.eq_ignore_ascii_case(&domain)
        && (above.is_empty() || above.ends_with('.'))
}

/// Takes the port off an entry; the colons of a bare IPv6 address are none.
fn split_port(entry: &str) -> (&str, Option<u16>) {
    match entry.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (entry, None),
        },
        _ => (entry, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exemptions_from_the_proxy() {
        for (list, host, exempt) in [
            ("localhost, .example.org", "www.example.org", true),
            ("example.org", "example.org", true),
            (".example.org", "example.org", true),
            ("*.example.org", "www.example.org", true),
            ("example.org", "notexample.org", false),
            ("www.example.org", "example.org", false),
            ("*", "anything", true),
            ("", "a", false),
            (".", "a", false),
            ("é", "xn--9ca", true),
            ("é", "xé", false),
            // The dot at the end of a full name.
            ("localhost", "localhost.", true),
            ("localhost.", "localhost", true),
            ("example.org.", "WWW.example.org.", true),
            // Commas, blanks, or both.
            ("a b\tc", "b", true),
            (" a , b,,c ", "c", true),
            ("a b", "ab", false),
            // Addresses and ranges.
            ("[::1]", "[::1]", true),
            ("0:0::1", "[::1]", true),
            ("10.0.0.0/8", "10.20.30.40", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.1.2.3/8", "10.20.30.40", true),
            ("127.0.0.0/8 192.168.0.0/16", "192.168.9.9", true),
            ("fe80::/10", "[fe80::5%25lo]", true),
            ("[fd00::]/8", "[fd12::1]", true),
            ("10.0.0.0/8", "[::ffff:10.0.0.1]", true),
            ("10.0.0.0/8", "10.example.org", false),
            ("0.0.1", "127.0.0.1", false),
            // Ports.
            ("a:80", "a", true),
            ("a:81", "a", false),
            ("a:81", "a:81", true),
            ("[::1]:81", "[::1]:81", true),
            ("[::1]:81", "[::1]", false),
            ("::1", "[::1]:81", true),
        ] {
            let url = Url::parse(&format!("http://{host}/")).unwrap();
            assert_eq!(is_exempt(list, &url), exempt, "{list:?} {host:?}");
        }
    }
}
