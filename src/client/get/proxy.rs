//! Which proxy a URL is fetched through, and the tunnel through one (RFC 9110, section 9.3.6).

use super::GetArgs;
use super::exchange::read_head;
use crate::client::Failure;
use crate::client::stream::Stream;
use crate::client::url::Url;
use crate::http::Method;
use crate::http::head;
use crate::wire::no_proxy::NoProxy;

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
    let is_exempt = |list: String| NoProxy::parse(&list).names(&url.host, url.port);
    let text = match &args.proxy {
        Some(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        None if variable(&["no_proxy", "NO_PROXY"]).is_some_and(is_exempt) => None,
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
