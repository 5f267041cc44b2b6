//! Content negotiation: which coding of a file to send, and whether a listing is wanted as JSON or
//! HTML.
//!
//! RFC 9110 sections 12.4.2 (quality values), 12.5.1 (Accept), 12.5.3 (Accept-Encoding).
//!
//! Rules:
//! 1. The client's quality values decide; among equals, the order in which the caller names what it
//!    has: best as in [`Coding::ALL`].
//! 2. Identity is acceptable unless it is excluded, but a coding that the client names goes before
//!    an identity that it does not name.
//! 3. An element that cannot be read is left out. Nothing here refuses a request.
//!
//! Not here: compressing ([`super::compress`]).

use std::cmp::Ordering;

use super::head::Headers;
use super::trim_ows;

/// A content coding. The order of the variants is our order of preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// Brotli.
    Br,
    /// Zstandard.
    Zstd,
    /// gzip.
    Gzip,
    /// No coding.
    Identity,
}

impl Coding {
    /// All codings, the preferred first.
    pub const ALL: [Self; 4] = [Self::Br, Self::Zstd, Self::Gzip, Self::Identity];

    /// The name in `Accept-Encoding` and `Content-Encoding`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Br => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::Identity => "identity",
        }
    }

    /// The ending that a precompressed file has beside the plain one: `.br`, `.zst`, `.gz`,
    /// nothing.
    #[must_use]
    pub fn file_suffix(self) -> &'static str {
        match self {
            Self::Br => ".br",
            Self::Zstd => ".zst",
            Self::Gzip => ".gz",
            Self::Identity => "",
        }
    }

    fn from_name(name: &[u8]) -> Option<Self> {
        // `x-gzip` is the same as `gzip` (RFC 9110 section 8.4.1.3).
        let name = if name.eq_ignore_ascii_case(b"x-gzip") {
            b"gzip"
        } else {
            name
        };
        Self::ALL
            .into_iter()
            .find(|coding| coding.name().as_bytes().eq_ignore_ascii_case(name))
    }
}

/// How much a client wants each coding, in thousandths; 0 for not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcceptedCodings {
    /// By the position in [`Coding::ALL`].
    quality: [u16; 4],
    identity_named: bool,
}

impl AcceptedCodings {
    /// Reads `Accept-Encoding`. Without that header anything is acceptable by the letter, but then
    /// only identity is sent: such a client has not said that it can decode anything.
    #[must_use]
    pub fn parse(headers: &Headers<'_>) -> Self {
        let mut named = [None; 4];
        let mut others = None;
        for element in headers.list("accept-encoding") {
            let (name, parameters) = split_parameters(element);
            let Some(quality) = quality(parameters) else {
                continue;
            };
            match Coding::from_name(name) {
                Some(coding) => named[coding as usize] = Some(quality),
                None if name == b"*" => others = Some(quality),
                None => {}
            }
        }
        let identity = named[Coding::Identity as usize];
        let mut quality = named.map(|named| named.or(others).unwrap_or(0));
        quality[Coding::Identity as usize] = identity.or(others).unwrap_or(1000);
        Self {
            quality,
            identity_named: identity.is_some(),
        }
    }

    /// The best of the `available` codings, among equals the first; or `None` when none of them is
    /// acceptable. The caller may then send identity all the same, or answer 406.
    #[must_use]
    pub fn choose(&self, available: &[Coding]) -> Option<Coding> {
        let rank = |coding: Coding| {
            let unasked = coding == Coding::Identity && !self.identity_named;
            (!unasked, self.quality[coding as usize])
        };
        let acceptable = available.iter().copied().rev();
        let acceptable = acceptable.filter(|&coding| self.accepts(coding));
        acceptable.max_by_key(|&coding| rank(coding)) // of several the last, so the first of all
    }

    /// Whether `coding` is acceptable at all.
    #[must_use]
    pub fn accepts(&self, coding: Coding) -> bool {
        self.quality[coding as usize] > 0
    }
}

/// How a listing can be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListingFormat {
    /// `text/html`, also when the client does not mind.
    Html,
    /// `application/json`.
    Json,
}

impl ListingFormat {
    /// Reads `Accept`: JSON when the client wants it more than HTML.
    #[must_use]
    pub fn parse(headers: &Headers<'_>) -> Self {
        let [json, html] = media_qualities(headers, [("application", "json"), ("text", "html")]);
        if json > html { Self::Json } else { Self::Html }
    }
}

/// In which form an error is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorFormat {
    /// A page, `text/html`.
    Html,
    /// `text/plain`.
    Text,
}

impl ErrorFormat {
    /// Reads `Accept`: what the client wants more; `otherwise` when it does not mind.
    #[must_use]
    pub fn parse(headers: &Headers<'_>, otherwise: Self) -> Self {
        let [html, text] = media_qualities(headers, [("text", "html"), ("text", "plain")]);
        match html.cmp(&text) {
            Ordering::Greater => Self::Html,
            Ordering::Less => Self::Text,
            Ordering::Equal => otherwise,
        }
    }
}

/// The quality of each media type: that of the most specific range in `Accept` that covers it. 0
/// when none does.
fn media_qualities<const N: usize>(headers: &Headers<'_>, types: [(&str, &str); N]) -> [u16; N] {
    let mut best = [(0, 0); N];
    for element in headers.list("accept") {
        let (range, parameters) = split_parameters(element);
        let Some(slash) = range.iter().position(|&byte| byte == b'/') else {
            continue;
        };
        let (range_kind, range_subtype) = (&range[..slash], &range[slash + 1..]);
        let Some(quality) = quality(parameters) else {
            continue;
        };
        for (best, (kind, subtype)) in best.iter_mut().zip(types) {
            let same_kind = range_kind.eq_ignore_ascii_case(kind.as_bytes());
            let specificity = match range_subtype {
                b"*" if range_kind == b"*" => 1,
                b"*" if same_kind => 2,
                _ if same_kind && range_subtype.eq_ignore_ascii_case(subtype.as_bytes()) => 3,
                _ => continue,
            };
            *best = (*best).max((specificity, quality));
        }
    }
    best.map(|(_, quality)| quality)
}

fn split_parameters(element: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b';', element) {
        Some(mark) => (trim_ows(&element[..mark]), &element[mark + 1..]),
        None => (element, b""),
    }
}

/// The quality value among `parameters`, in thousandths; 1000 without one, `None` when it is
/// malformed.
fn quality(parameters: &[u8]) -> Option<u16> {
    let weight = parameters
        .split(|&byte| byte == b';')
        .map(trim_ows)
        .find(|parameter| matches!(parameter, [b'q' | b'Q', b'=', ..]));
    let Some([_, _, value @ ..]) = weight else {
        return Some(1000);
    };
    let (whole, decimals) = match value {
        [whole] => (whole, &b""[..]),
        [whole, b'.', decimals @ ..] if decimals.len() <= 3 => (whole, decimals),
        _ => return None,
    };
    let mut thousandths = match whole {
        b'0' => 0,
        b'1' => 1000,
        _ => return None,
    };
    for (decimal, unit) in decimals.iter().zip([100, 10, 1]) {
        if !decimal.is_ascii_digit() {
            return None;
        }
        thousandths += u16::from(decimal - b'0') * unit;
    }
    (thousandths <= 1000).then_some(thousandths)
}

#[cfg(test)]
mod tests {
    use super::super::Method;
    use super::super::head::{HeadScanner, Limits, Parsed};
    use super::*;

    fn with_headers<T>(lines: &str, then: impl FnOnce(&Headers<'_>) -> T) -> T {
        let text = format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n");
        match HeadScanner::default().response(text.as_bytes(), &Limits::default(), Method::Get) {
            Ok(Parsed::Complete(head, _)) => then(&head.headers),
            other => panic!("{other:?}"),
        }
    }

    fn choose(lines: &str, available: &[Coding]) -> Option<Coding> {
        with_headers(lines, |headers| {
            AcceptedCodings::parse(headers).choose(available)
        })
    }

    #[test]
    fn the_best_acceptable_coding_is_chosen() {
        use Coding::{Br, Gzip, Identity, Zstd};
        let all = &Coding::ALL;
        for (lines, available, chosen) in [
            ("A: b", &all[..], Some(Identity)),
            ("Accept-Encoding:", all, Some(Identity)),
            ("Accept-Encoding: gzip, deflate, br, zstd", all, Some(Br)),
            ("Accept-Encoding: gzip, deflate", all, Some(Gzip)),
            ("Accept-Encoding: X-GZIP", all, Some(Gzip)),
            ("Accept-Encoding: gzip;q=1.0, br;q=0.5", all, Some(Gzip)),
            ("Accept-Encoding: gzip;q=0.5, identity", all, Some(Identity)),
            ("Accept-Encoding: gzip;q=0.001", all, Some(Gzip)),
            ("Accept-Encoding: gzip;q=0", all, Some(Identity)),
            ("Accept-Encoding: *", all, Some(Br)),
            ("Accept-Encoding: *;q=0.5, zstd;Q=0.6", all, Some(Zstd)),
            (
                "Accept-Encoding: gzip\r\nAccept-Encoding: br",
                all,
                Some(Br),
            ),
            (
                "Accept-Encoding: br;q=2, gzip;q=0.1234, zstd;q=x",
                all,
                Some(Identity),
            ),
            ("Accept-Encoding: br", &[Gzip, Identity], Some(Identity)),
            (
                "Accept-Encoding: gzip, br",
                &[Gzip, Br, Identity],
                Some(Gzip),
            ),
            ("Accept-Encoding: *", &[Zstd, Br, Identity], Some(Zstd)),
            (
                "Accept-Encoding: gzip;q=0.9, br",
                &[Gzip, Br, Identity],
                Some(Br),
            ),
            ("Accept-Encoding: br, identity;q=0", &[Gzip, Identity], None),
            ("Accept-Encoding: br, *;q=0", &[Gzip, Identity], None),
            ("Accept-Encoding: identity, *;q=0", all, Some(Identity)),
        ] {
            assert_eq!(choose(lines, available), chosen, "{lines:?}");
        }
    }

    #[test]
    fn json_is_sent_to_who_prefers_it() {
        use ListingFormat::{Html, Json};
        for (accept, format) in [
            ("A: b", Html),
            ("Accept: */*", Html),
            (
                "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
                Html,
            ),
            ("Accept: application/json", Json),
            ("Accept: Application/JSON;charset=utf-8;q=0.1", Json),
            ("Accept: application/*, text/html;q=0.9", Json),
            ("Accept: application/json;q=0, */*", Html),
            ("Accept: text/html;q=0.5, */*", Json),
        ] {
            assert_eq!(
                with_headers(accept, ListingFormat::parse),
                format,
                "{accept:?}"
            );
        }
    }
}
