//! A parent: another proxy, by which origins are reached.
//!
//! RFC 9110 sections 7.6.3 (Via), 9.3.6 (CONNECT), 11.7 (Proxy-Authorization); RFC 9112 section 3.2.2
//! (the absolute form).
//!
//! ```text
//! http                 GET http://HOST/path, on any connection to the parent
//! https, CONNECT       CONNECT HOST:PORT ──interim responses──▶ 2xx ──▶ TLS with HOST, or the client's tunnel
//!                                                   └── all else is no answer of HOST: a 502 says what it was
//! ```
//!
//! All of that within TLS with the parent, if it is an https:// one.
//!
//! Rules:
//! 1. The parent resolves names, so nobody here knows where they lead. What is known without asking is
//!    judged as ever: a literal address, however it is written, `localhost`, and what the hosts file
//!    has. Who has other names that must not be asked for lists them in `deny_hosts`.
//! 2. The parent is the administrator's choice, whatever its own address is.
//! 3. Our credentials are written on their way out and kept in no head, so that nothing that is stored
//!    or logged has them. The client's own end here, as every field of one connection does.
//! 4. What a parent may send before it opens a tunnel is bounded: by the head's limits, by
//!    [`INTERIM_MAX`] and by the time-out. The body of a refusal goes with its connection.

use std::task::Poll;
use std::time::{Duration, Instant};

use super::Rules;
use super::route::{Form, Origin};
use crate::buffer::{Pool, SendQueue};
use crate::config;
use crate::dns::{Addresses, Failure};
use crate::http::head::{HeadScanner, Limits, Parsed, put_head_end};
use crate::http::proxy_status::ProxyError;
use crate::http::{Method, Status};
use crate::service::Io;
use crate::service::origins::Through;
use crate::wire::no_proxy::NoProxy;

/// Interim responses (1xx) that a parent may send before it answers CONNECT.
const INTERIM_MAX: u8 = 8;

/// Of the reason that a parent gives with a refusal, so much is told.
const REASON_CHARS_MAX: usize = 80;

/// A parent, ready for use.
pub(super) struct Parent {
    /// Its name or address.
    pub(super) host: String,
    pub(super) port: u16,
    /// TLS is spoken with it, as with an https origin.
    pub(super) tls: bool,
    /// Both, for people.
    pub(super) name: String,
    /// The line that tells it who we are; empty if it is not told.
    authorization: Vec<u8>,
    no_proxy: NoProxy,
    /// For its answer to CONNECT.
    pub(super) timeout: Duration,
}

/// Why something is refused, as an answer of ours.
pub(super) type Refused = (Status, ProxyError, String);

impl Parent {
    pub(super) fn new(config: &config::Parent) -> Self {
        let (host, port) = (config.host.clone(), config.port);
        let line = config.credentials.as_ref();
        let line = line.map(|own| format!("Proxy-Authorization: {}\r\n", own.basic()));
        Self {
            name: match host.contains(':') {
                true => format!("[{host}]:{port}"),
                false => format!("{host}:{port}"),
            },
            host,
            port,
            tls: config.tls,
            authorization: line.unwrap_or_default().into_bytes(),
            no_proxy: config.no_proxy.clone(),
            timeout: config.timeout,
        }
    }

    /// How a request is sent on.
    pub(super) fn leads(&self, form: Form, origin: &Origin) -> Through {
        match form {
            _ if self.no_proxy.names(origin.host(), origin.port) => Through::Nobody,
            Form::Tunnel => Through::Tunnel,
            _ if origin.tls => Through::Tunnel,
            Form::Forward | Form::AddressBar | Form::Gateway => Through::Parent,
        }
    }

    /// Sends a head that was written for its origin in the form that a proxy is asked in.
    pub(super) fn put_request(
        &self,
        tx: &mut SendQueue,
        head: &[u8],
        origin: &Origin,
        pool: &mut Pool,
    ) {
        let target = head.iter().position(|&byte| byte == b' ');
        let (method, rest) = head.split_at(target.map_or(0, |at| at + 1));
        // RFC 9112 section 3.2.4: the asterisk has no absolute form but the one without a path.
        let rest = rest.strip_prefix(b"*").unwrap_or(rest);
        // Invariant: a head that was written here ends with an empty line.
        let (lines, end) = rest.split_at(rest.len() - b"\r\n".len());
        for part in [
            method,
            b"http://",
            origin.authority.as_bytes(),
            lines,
            &self.authorization,
            end,
        ] {
            tx.put(part, pool);
        }
    }

    /// Writes the request for a tunnel to the origin. Of the request's own head, only where it has been
    /// goes with it.
    pub(super) fn put_connect(&self, out: &mut Vec<u8>, head: &[u8], origin: &Origin) {
        let authority = format!("{}:{}", origin.host(), origin.port);
        out.extend_from_slice(b"CONNECT ");
        out.extend_from_slice(authority.as_bytes());
        out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
        out.extend_from_slice(authority.as_bytes());
        out.extend_from_slice(b"\r\n");
        let lines = head.split_inclusive(|&byte| byte == b'\n');
        let is_via = |line: &&[u8]| {
            let name = line.split_at_checked(4);
            name.is_some_and(|(name, _)| name.eq_ignore_ascii_case(b"via:"))
        };
        lines
            .filter(is_via)
            .for_each(|line| out.extend_from_slice(line));
        out.extend_from_slice(&self.authorization);
        put_head_end(out);
    }
}

/// Whether a parent may be asked for this host, of which so much is known here.
///
/// # Errors
/// Why not.
pub(super) fn may_ask(
    host: &str,
    known: Option<Result<Addresses, Failure>>,
    rules: &Rules,
) -> Result<(), Refused> {
    match known {
        Some(Err(failure @ Failure::BadName)) => {
            let text = format!("{host}: {failure}");
            Err((Status::BAD_REQUEST, ProxyError::HttpRequestError, text))
        }
        Some(Ok(addresses)) => {
            let allowed = rules.allowed(host, &addresses).map(drop);
            allowed.map_err(|refused| {
                let text = format!("{host}: {refused}, which is refused here");
                let error = ProxyError::DestinationIpProhibited;
                (Status::FORBIDDEN, error, text)
            })
        }
        // What has no address here may have one there.
        Some(Err(_)) | None => Ok(()),
    }
}

/// The answer to CONNECT, which is awaited.
pub(super) struct Asking {
    pub(super) until: Instant,
    scanner: HeadScanner,
    interim: u8,
}

impl Asking {
    pub(super) fn new(until: Instant) -> Self {
        Self {
            until,
            scanner: HeadScanner::default(),
            interim: 0,
        }
    }

    /// Looks at what came. Once the tunnel is open, its first bytes stand in the buffer.
    ///
    /// # Errors
    /// Why there is no tunnel, and none will come.
    pub(super) fn advance(
        &mut self,
        limits: &Limits,
        io: &mut Io<'_>,
    ) -> Poll<Result<(), (ProxyError, String)>> {
        let bad = |error, what: &str| Poll::Ready(Err((error, what.to_owned())));
        loop {
            let bytes = io.up.rx.bytes();
            let (head, head_bytes) = match self.scanner.response(bytes, limits, Method::Connect) {
                Ok(Parsed::Complete(head, head_bytes)) => (head, head_bytes),
                Ok(Parsed::Partial) if io.up.eof && bytes.is_empty() => {
                    return bad(
                        ProxyError::ConnectionTerminated,
                        "it closed without an answer",
                    );
                }
                Ok(Parsed::Partial) if io.up.eof => {
                    let error = ProxyError::HttpResponseIncomplete;
                    return bad(error, "it ended within the head of its answer");
                }
                Ok(Parsed::Partial) if !io.up.rx.has_space() => {
                    let error = ProxyError::HttpResponseHeadTooLarge;
                    return bad(error, "the head of its answer is too large");
                }
                Ok(Parsed::Partial) if io.cx.now >= self.until => {
                    let error = ProxyError::HttpResponseTimeout;
                    return bad(error, "it did not answer in time");
                }
                Ok(Parsed::Partial) => return Poll::Pending,
                Err(error) => {
                    let text = format!("bad response: {}", error.text());
                    return Poll::Ready(Err((ProxyError::HttpProtocolError, text)));
                }
            };
            match head.status.code() {
                101 => {
                    let text = "it switched protocols unasked";
                    return bad(ProxyError::HttpProtocolError, text);
                }
                ..200 if self.interim == INTERIM_MAX => {
                    let text = "it sends one interim response after another";
                    return bad(ProxyError::HttpProtocolError, text);
                }
                ..200 => {
                    self.interim += 1;
                    io.up.rx.consume(head_bytes);
                }
                // Whatever such a head says of a body, there is none (RFC 9110 section 9.3.6).
                200..300 => {
                    io.up.rx.consume(head_bytes);
                    return Poll::Ready(Ok(()));
                }
                code => {
                    let reason = String::from_utf8_lossy(head.reason);
                    let reason: String = reason.chars().take(REASON_CHARS_MAX).collect();
                    let error = match code {
                        407 => ProxyError::ProxyConfigurationError,
                        504 => ProxyError::ConnectionTimeout,
                        _ => ProxyError::DestinationUnavailable,
                    };
                    let text = format!("it refused with {code} {reason}");
                    return Poll::Ready(Err((error, text)));
                }
            }
        }
    }
}

/// How a request is answered for which a parent opened no tunnel.
pub(super) fn refused(parent: &Parent, origin: &Origin, why: (ProxyError, String)) -> Refused {
    let (error, what) = why;
    let status = match error {
        ProxyError::HttpResponseTimeout | ProxyError::ConnectionTimeout => Status::GATEWAY_TIMEOUT,
        _ => Status::BAD_GATEWAY,
    };
    let (name, host, port) = (&parent.name, origin.host(), origin.port);
    let text = format!("parent {name}: CONNECT {host}:{port}: {}", what.trim_end());
    (status, error, text)
}
