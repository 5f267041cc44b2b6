//! What a proxy says of an answer that it makes in the place of an origin: the field `Proxy-Status`.
//!
//! RFC 9209; RFC 9651 section 3 (how its value is written).
//!
//! Not here: what a person reads of it.

use super::Status;

/// By which name this proxy speaks of itself.
const NAME: &str = "netlab-reactor";
/// Bytes of details; more is cut.
const DETAILS_BYTES_MAX: usize = 256;

/// Why there is no answer of the origin (RFC 9209 section 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // They are the RFC's names.
pub enum ProxyError {
    DnsTimeout,
    DnsError,
    /// The name server says that there is no such name.
    NoSuchName,
    /// Somebody between us and the origin says that it cannot be had, or nobody is asked, since what
    /// was heard before says that it would be in vain.
    DestinationUnavailable,
    DestinationIpProhibited,
    DestinationIpUnroutable,
    ConnectionRefused,
    ConnectionTerminated,
    ConnectionTimeout,
    TlsProtocolError,
    TlsCertificateError,
    HttpRequestError,
    HttpRequestDenied,
    HttpResponseIncomplete,
    HttpResponseHeadTooLarge,
    HttpResponseTimeout,
    HttpProtocolError,
    HttpUpgradeFailed,
    /// The answer is the proxy's own: nobody was asked.
    ProxyInternalResponse,
    ProxyInternalError,
    ProxyConfigurationError,
    ProxyLoopDetected,
}

impl ProxyError {
    /// What an answer with this status is for, where nothing better is known; `None` if it is no
    /// error.
    #[must_use]
    pub fn of(status: Status) -> Option<Self> {
        Some(match status.code() {
            ..=399 => return None,
            508 => Self::ProxyLoopDetected,
            401 | 403 | 405 | 407 | 421 | 429 => Self::HttpRequestDenied,
            400..=499 | 501 | 505 => Self::HttpRequestError,
            502 => Self::HttpProtocolError,
            504 => Self::HttpResponseTimeout,
            _ => Self::ProxyInternalError,
        })
    }

    /// The name that is registered for it, and further parameters.
    fn words(self) -> &'static str {
        match self {
            Self::DnsTimeout => "dns_timeout",
            Self::DnsError => "dns_error",
            Self::NoSuchName => "dns_error; rcode=\"NXDOMAIN\"",
            Self::DestinationUnavailable => "destination_unavailable",
            Self::DestinationIpProhibited => "destination_ip_prohibited",
            Self::DestinationIpUnroutable => "destination_ip_unroutable",
            Self::ConnectionRefused => "connection_refused",
            Self::ConnectionTerminated => "connection_terminated",
            Self::ConnectionTimeout => "connection_timeout",
            Self::TlsProtocolError => "tls_protocol_error",
            Self::TlsCertificateError => "tls_certificate_error",
            Self::HttpRequestError => "http_request_error",
            Self::HttpRequestDenied => "http_request_denied",
            Self::HttpResponseIncomplete => "http_response_incomplete",
            Self::HttpResponseHeadTooLarge => "http_response_header_section_size",
            Self::HttpResponseTimeout => "http_response_timeout",
            Self::HttpProtocolError => "http_protocol_error",
            Self::HttpUpgradeFailed => "http_upgrade_failed",
            Self::ProxyInternalResponse => "proxy_internal_response",
            Self::ProxyInternalError => "proxy_internal_error",
            Self::ProxyConfigurationError => "proxy_configuration_error",
            Self::ProxyLoopDetected => "proxy_loop_detected",
        }
    }

    /// Whether it is the origin's failure, or that of the way to it: another server of the same
    /// site might have answered.
    #[must_use]
    pub fn is_of_origin(self) -> bool {
        match self {
            Self::DnsTimeout
            | Self::DnsError
            | Self::NoSuchName
            | Self::DestinationIpUnroutable
            | Self::ConnectionRefused
            | Self::ConnectionTerminated
            | Self::ConnectionTimeout
            | Self::TlsProtocolError
            | Self::TlsCertificateError
            | Self::HttpResponseIncomplete
            | Self::HttpResponseHeadTooLarge
            | Self::HttpResponseTimeout
            | Self::HttpProtocolError => true,
            Self::DestinationUnavailable
            | Self::DestinationIpProhibited
            | Self::HttpRequestError
            | Self::HttpRequestDenied
            | Self::HttpUpgradeFailed
            | Self::ProxyInternalResponse
            | Self::ProxyInternalError
            | Self::ProxyConfigurationError
            | Self::ProxyLoopDetected => false,
        }
    }

    /// What was being done, for people.
    #[must_use]
    pub fn phase(self) -> &'static str {
        match self {
            Self::DnsTimeout | Self::DnsError | Self::NoSuchName => "name look-up",
            Self::DestinationUnavailable
            | Self::DestinationIpProhibited
            | Self::DestinationIpUnroutable
            | Self::ConnectionRefused
            | Self::ConnectionTimeout => "connection",
            Self::TlsProtocolError | Self::TlsCertificateError => "TLS handshake",
            Self::ConnectionTerminated
            | Self::HttpResponseIncomplete
            | Self::HttpResponseHeadTooLarge
            | Self::HttpResponseTimeout
            | Self::HttpProtocolError
            | Self::HttpUpgradeFailed => "response",
            Self::HttpRequestError
            | Self::HttpRequestDenied
            | Self::ProxyInternalResponse
            | Self::ProxyInternalError
            | Self::ProxyConfigurationError
            | Self::ProxyLoopDetected => "request",
        }
    }

    /// Writes the line of the field. `details`: a sentence, of which what a string cannot hold is
    /// replaced. `next_hop`: the proxy that the request went to, or was to go to (section 2.1.2); its
    /// origin goes without saying.
    pub fn put(self, out: &mut Vec<u8>, details: &str, next_hop: Option<&str>) {
        out.extend_from_slice(b"Proxy-Status: ");
        out.extend_from_slice(NAME.as_bytes());
        out.extend_from_slice(b"; error=");
        out.extend_from_slice(self.words().as_bytes());
        if let Some(next_hop) = next_hop {
            put_parameter(out, "next-hop", next_hop);
        }
        put_parameter(out, "details", details);
        out.extend_from_slice(b"\r\n");
    }
}

/// Writes what a string of a structured field can have of `value` (RFC 9651 section 3.3.3).
fn put_escaped(out: &mut Vec<u8>, value: &str) {
    for c in value.chars().take(DETAILS_BYTES_MAX) {
        match c {
            '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
            ' '..='~' => out.push(c as u8),
            _ => out.push(b'?'),
        }
    }
}

/// Writes a parameter whose value is a string.
fn put_parameter(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(b"; ");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"=\"");
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
    // As nearly always, and refusals are many: so none is a reason to stop.
    let are_plain = || value.bytes().fold(true, |all, byte| all & is_plain(byte));
    if value.len() <= DETAILS_BYTES_MAX && are_plain() {
        out.extend_from_slice(value.as_bytes());
    } else {
        put_escaped(out, value);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_written_as_its_rfc_has_it() {
        let mut out = Vec::new();
        ProxyError::NoSuchName.put(&mut out, "a\"b\\c\r\n\u{fc}: no such host", None);
        assert_eq!(
            String::from_utf8(out).expect("ASCII"),
            "Proxy-Status: netlab-reactor; error=dns_error; rcode=\"NXDOMAIN\"; \
             details=\"a\\\"b\\\\c???: no such host\"\r\n"
        );
        let mut out = Vec::new();
        ProxyError::ConnectionRefused.put(&mut out, &"x".repeat(10_000), None);
        assert!(out.len() < 400);
        let mut out = Vec::new();
        ProxyError::HttpResponseTimeout.put(&mut out, "late", Some("[::1]:3128"));
        assert_eq!(
            String::from_utf8(out).expect("ASCII"),
            "Proxy-Status: netlab-reactor; error=http_response_timeout; \
             next-hop=\"[::1]:3128\"; details=\"late\"\r\n"
        );
    }

    #[test]
    fn an_answer_that_is_no_error_says_nothing() {
        let of = |code| ProxyError::of(Status::from_code(code).expect("a code"));
        for code in [200, 204, 307] {
            assert_eq!(of(code), None);
        }
        assert_eq!(of(407), Some(ProxyError::HttpRequestDenied));
        assert_eq!(of(400), Some(ProxyError::HttpRequestError));
        assert_eq!(of(503), Some(ProxyError::ProxyInternalError));
        assert_eq!(of(508), Some(ProxyError::ProxyLoopDetected));
    }
}
