//! Where a request goes: which of the forms it has, which origin it names, and what is refused
//! before anybody is asked.
//!
//! ```text
//! gateway (`upstream` is configured)   /path, http://ANY/path, *   ──▶ an upstream
//! forward                              http://HOST[:PORT]/path     ──▶ HOST; https:// over TLS
//!                                      CONNECT HOST:PORT           ──▶ HOST, as a tunnel
//! address bar                          /HOST[:PORT]/path           ──▶ HOST; /https://HOST over TLS
//! ```
//!
//! A HOST in letters beyond ASCII is mapped to the name that DNS has ([`idn`]), which is judged and
//! asked for like any other: nobody behind us sees another spelling.
//!
//! A browser that shows an address-bar page resolves the page's links by itself. Those relative to
//! the page come out right; those that begin with `/` have lost their host, and get it back from
//! the `Referer` by a redirect.
//!
//! To the browser, all those pages come from this proxy. What keeps them apart stands in `heads`
//! (no cookies, no scripts), and here: a page of another site gets nothing in this form, nor does
//! one whose name was made to lead here ([`same_site`]), so that neither can lead a browser behind
//! its user's back to where only this proxy reaches.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::Rules;
use crate::http::head::RequestHead;
use crate::http::proxy_status::ProxyError;
use crate::http::same_site;
use crate::http::target::{Authority, Host, Target};
use crate::http::{Method, Status, parse_decimal};
use crate::services::web::reply::Refusal;
use crate::wire::idn;

/// What a request to a proxy looks like.
const EXPECTED: &str = "expected http://HOST/PATH, or /HOST/PATH in the address bar";

/// The port of `http`, or of `https`.
fn default_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

/// Extensions of files that pages refer to and that are no top-level domains: `/logo.png` is no
/// host.
const FILE_EXTENSIONS: [&str; 26] = [
    "css", "js", "mjs", "json", "map", "xml", "txt", "html", "htm", "xhtml", "php", "asp", "aspx",
    "jsp", "png", "jpg", "jpeg", "gif", "svg", "webp", "avif", "ico", "woff", "woff2", "mp4",
    "pdf",
];

/// In which form a request named its origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// An absolute URI.
    Forward,
    /// `/HOST/path`: redirects are rewritten, so that the browser stays with us.
    AddressBar,
    /// To the one configured origin.
    Gateway,
    /// `CONNECT`.
    Tunnel,
}

/// Where one request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route<'b> {
    pub(super) form: Form,
    /// Host and perhaps port, as they are to stand in `Host`: what was sent, but in ASCII.
    pub(super) authority: Cow<'b, str>,
    /// How many bytes of `authority` are the host, brackets included.
    host_bytes: usize,
    pub(super) port: u16,
    /// TLS is spoken with it.
    pub(super) tls: bool,
    pub(super) path: &'b str,
    pub(super) query: Option<&'b str>,
}

impl<'b> Route<'b> {
    /// Finds the way of a request.
    ///
    /// # Errors
    /// The answer to a request that has none.
    pub(super) fn find(head: &RequestHead<'b>, rules: &'b Rules) -> Result<Self, Refusal> {
        if head
            .headers
            .all("via")
            .any(|value| memchr::memmem::find(value, rules.pseudonym.as_bytes()).is_some())
        {
            return Err(Refusal::told(
                Status::LOOP_DETECTED,
                "the request has been here before: its way leads through this proxy twice",
            ));
        }
        last_hop(head)?;
        match &rules.gateway {
            Some(origin) => gateway(head, origin),
            None => {
                let route = forward(head, rules)?;
                if !rules.may_ask_for(route.host()) {
                    let text = format!("{} is not for this proxy to ask", route.host());
                    return Err(Refusal::told(Status::FORBIDDEN, text));
                }
                if let Some(refused) = rules.refuses_address(route.host()) {
                    let text = format!("{}: {refused}, which is refused here", route.host());
                    let error = ProxyError::DestinationIpProhibited;
                    return Err(Refusal::proxied(Status::FORBIDDEN, error, &text));
                }
                if route.form == Form::Tunnel || rules.forward_ports.allow(route.port) {
                    return Ok(route);
                }
                let text = format!("nothing is fetched from port {} here", route.port);
                Err(Refusal::told(Status::FORBIDDEN, text))
            }
        }
    }

    /// The host, an IPv6 address in its brackets.
    pub(super) fn host(&self) -> &str {
        &self.authority[..self.host_bytes]
    }

    /// The origin that it leads to.
    pub(super) fn origin(&self) -> Origin {
        let mut origin = Origin::default();
        origin.set(self);
        origin
    }

    fn new(
        form: Form,
        authority: Authority<'_>,
        text: &'b str,
        tls: bool,
    ) -> Result<Self, Refusal> {
        // `host:` is `host`.
        let text = text.strip_suffix(':').unwrap_or(text);
        let (host_bytes, in_ascii) = match authority.host {
            Host::Name(name) => (name.len(), Cow::Borrowed(text)),
            Host::Ipv6(_) => {
                let host_bytes = text.find(']').map_or(text.len(), |at| at + 1);
                (host_bytes, Cow::Borrowed(text))
            }
            Host::International(name) => {
                let host = in_ascii(name)?;
                (host.len(), Cow::Owned(host + &text[name.len()..]))
            }
        };
        Ok(Self {
            form,
            authority: in_ascii,
            host_bytes,
            port: authority.port.unwrap_or(default_port(tls)),
            tls,
            path: "/",
            query: None,
        })
    }
}

/// The name of a host that was sent in letters beyond ASCII or percent-encoded.
fn in_ascii(name: &str) -> Result<String, Refusal> {
    let decoded = percent_decode_str(name).decode_utf8().ok();
    let ascii = decoded.and_then(|name| idn::to_ascii(&name).map(Cow::into_owned).ok());
    // An encoded byte, or what a letter was mapped to, may be one that no host has.
    let is_name = |ascii: &String| match Authority::parse(ascii) {
        Some(Authority { host, port: None }) => host == Host::Name(ascii),
        _ => false,
    };
    ascii.filter(is_name).ok_or_else(|| {
        let text = format!("{name} is no host name: {EXPECTED}");
        Refusal::told(Status::BAD_REQUEST, text)
    })
}

/// `Max-Forwards: 0` makes us the end of the way (RFC 9110 section 7.6.2).
fn last_hop(head: &RequestHead<'_>) -> Result<(), Refusal> {
    let refusal = match head.method {
        Method::Options => Refusal::told(Status::OK, "this proxy forwards every method"),
        Method::Trace => Refusal::told(Status::METHOD_NOT_ALLOWED, "TRACE is not answered here"),
        _ => return Ok(()),
    };
    match head.headers.first("max-forwards").and_then(parse_decimal) {
        Some(0) => Err(refusal),
        _ => Ok(()),
    }
}

fn gateway<'b>(head: &RequestHead<'b>, origin: &'b Origin) -> Result<Route<'b>, Refusal> {
    let route = Route {
        form: Form::Gateway,
        authority: Cow::Borrowed(&origin.authority),
        host_bytes: origin.host_bytes,
        port: origin.port,
        tls: origin.tls,
        path: "*",
        query: None,
    };
    match head.target {
        Target::Asterisk => Ok(route),
        Target::Absolute { scheme, .. }
            if is_asterisk(head, split_absolute(head.target_text, scheme).1) =>
        {
            Ok(route)
        }
        Target::Origin { path, query } | Target::Absolute { path, query, .. } => Ok(Route {
            path,
            query,
            ..route
        }),
        Target::Authority(_) => Err(Refusal::told(
            Status::METHOD_NOT_ALLOWED,
            "CONNECT is not for a gateway to one origin",
        )),
    }
}

fn forward<'b>(head: &RequestHead<'b>, rules: &Rules) -> Result<Route<'b>, Refusal> {
    match head.target {
        Target::Absolute {
            scheme,
            authority,
            path,
            query,
        } => {
            let tls = is_tls(scheme)?;
            let (text, tail) = split_absolute(head.target_text, scheme);
            let path = if is_asterisk(head, tail) { "*" } else { path };
            Ok(Route {
                path,
                query,
                ..Route::new(Form::Forward, authority, text, tls)?
            })
        }
        Target::Origin { path, query } => {
            same_site::check(head, &rules.hosts)
                .map_err(|foreign| Refusal::told(foreign.status(), foreign.text()))?;
            address_bar(head, path, query)
        }
        Target::Authority(authority) => {
            let port = authority.port.unwrap_or(0);
            if !rules.connect_ports.allow(port) {
                return Err(Refusal::told(
                    Status::FORBIDDEN,
                    format!("CONNECT to port {port} is not allowed here"),
                ));
            }
            Route::new(Form::Tunnel, authority, head.target_text, false)
        }
        Target::Asterisk => Err(Refusal::told(
            Status::OK,
            "this proxy forwards every method",
        )),
    }
}

/// Splits an absolute target into its authority and what follows.
fn split_absolute<'b>(target: &'b str, scheme: &str) -> (&'b str, &'b str) {
    let rest = &target[scheme.len() + "://".len()..];
    rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()))
}

/// RFC 9112 section 3.2.4: the last proxy turns the empty path of an OPTIONS request into the
/// asterisk.
fn is_asterisk(head: &RequestHead<'_>, tail: &str) -> bool {
    tail.is_empty() && head.method == Method::Options
}

/// Whether the scheme is the one with TLS.
fn is_tls(scheme: &str) -> Result<bool, Refusal> {
    if scheme.eq_ignore_ascii_case("http") {
        return Ok(false);
    }
    if scheme.eq_ignore_ascii_case("https") {
        return Ok(true);
    }
    Err(Refusal::told(
        Status::NOT_IMPLEMENTED,
        format!("{scheme}:// is not fetched here; expected http:// or https://"),
    ))
}

/// `/HOST[:PORT]/path`. A whole URI behind the slash, as people paste it, means the same.
fn address_bar<'b>(
    head: &RequestHead<'b>,
    path: &'b str,
    query: Option<&'b str>,
) -> Result<Route<'b>, Refusal> {
    let (mut rest, mut tls) = (&path[1..], false);
    // One behind the host is the path's own.
    if let Some((scheme, after)) = rest.split_once("://")
        && !scheme.contains('/')
    {
        tls = is_tls(scheme)?;
        rest = after;
    }
    let (text, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if let Some(location) = link_without_host(head, text) {
        let text = "the link belongs to that host";
        let refusal = Refusal::redirect(Status::TEMPORARY_REDIRECT, text, location);
        return Err(refusal);
    }
    let Some(authority) = Authority::parse_international(text) else {
        let text = format!("this is a proxy: {EXPECTED}");
        return Err(Refusal::told(Status::BAD_REQUEST, text));
    };
    Ok(Route {
        path: if path.is_empty() { "/" } else { path },
        query,
        ..Route::new(Form::AddressBar, authority, text, tls)?
    })
}

/// Where a link that began with `/` on an address-bar page really leads: to the host of that page,
/// which the `Referer` names.
fn link_without_host(head: &RequestHead<'_>, first: &str) -> Option<String> {
    if !is_file_like(first) {
        return None;
    }
    let referer = str::from_utf8(head.headers.first("referer")?).ok()?;
    let Some(Target::Absolute {
        authority, path, ..
    }) = Target::absolute(referer)
    else {
        return None;
    };
    let (scheme, page) = match path[1..].strip_prefix("https://") {
        Some(page) => ("https://", page),
        None => ("", &path[1..]),
    };
    let page = page.split('/').next().unwrap_or_default();
    let ours = head.host() == Some(authority) && !page.eq_ignore_ascii_case(first);
    (ours && !has_file_extension(page) && Authority::parse_international(page).is_some())
        .then(|| format!("/{scheme}{page}{}", head.target_text))
}

/// Whether this is more likely a file or a folder than a host.
fn is_file_like(segment: &str) -> bool {
    let dotless = !segment.contains(['.', ':']) && !segment.eq_ignore_ascii_case("localhost");
    dotless || has_file_extension(segment)
}

fn has_file_extension(segment: &str) -> bool {
    let extension = segment.rsplit_once('.').map_or("", |(_, end)| end);
    FILE_EXTENSIONS
        .iter()
        .any(|known| known.eq_ignore_ascii_case(extension))
}

/// The origin that a connection belongs to.
#[derive(Debug, Default, Clone)]
pub(super) struct Origin {
    /// Host and perhaps port, as a request named them.
    pub(super) authority: String,
    host_bytes: usize,
    pub(super) port: u16,
    /// TLS is spoken with it.
    pub(super) tls: bool,
}

impl Origin {
    /// The origin of a gateway.
    pub(super) fn new(host: &str, port: u16, tls: bool) -> Self {
        let mut authority = match host.contains(':') {
            true => format!("[{host}]"),
            false => host.to_owned(),
        };
        let host_bytes = authority.len();
        if port != default_port(tls) {
            authority = format!("{authority}:{port}");
        }
        Self {
            authority,
            host_bytes,
            port,
            tls,
        }
    }

    /// The host, an IPv6 address in its brackets.
    pub(super) fn host(&self) -> &str {
        &self.authority[..self.host_bytes]
    }

    /// Becomes this one, in the memory that it has.
    pub(super) fn set_to(&mut self, other: &Origin) {
        self.authority.clone_from(&other.authority);
        self.host_bytes = other.host_bytes;
        self.port = other.port;
        self.tls = other.tls;
    }

    /// Becomes the origin that the route leads to.
    pub(super) fn set(&mut self, route: &Route<'_>) {
        self.authority.clear();
        self.authority.push_str(&route.authority);
        self.host_bytes = route.host_bytes;
        self.port = route.port;
        self.tls = route.tls;
    }
}
