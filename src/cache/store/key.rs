//! What an object is called: one text for all spellings of a URI, and its hash.
//!
//! `GET http://host.test/path?query`: the method, and the URI that the request is for at its origin,
//! whatever form it reached the proxy in. Spellings that RFC 9110 section 4.2.3 and RFC 3986
//! sections 6.2.2.1 and 6.2.2.2 call equivalent have one text: the case of scheme, host and
//! escapes, the default port, an empty path, escapes of unreserved characters.
//!
//! The rules:
//! 1. Nothing is treated as equal beyond that. Dot segments, doubled strokes, the order of a query
//!    and a dot behind the host are the origin's to judge; who treats them as equal where the origin
//!    does not serves one resource for another.
//! 2. A path or query with a `%` that escapes nothing is taken as it is: decoding a part of it would
//!    make new escapes of what is left.
//! 3. The hash is SipHash-1-3 with 128 bits and a key that is the folder's and a secret: nobody who
//!    makes requests can have two meet, or many fall into one place.
//!
//! Not here: which methods' responses are stored (a HEAD is answered by what GET fetched), and
//! which of a key's variants is meant.

use std::io::Write as _;

use siphasher::sip128::SipHasher13;

use super::index::Key;
use crate::http::target::{Host, Uri, default_port};
use crate::http::{Method, put_decimal};

/// The secret of a folder, in bytes.
pub const SECRET_BYTES: usize = 16;

/// Makes keys of texts. Those of one secret are the same in all versions of the program.
#[derive(Clone, Debug)]
pub struct KeyHasher(SipHasher13);

impl KeyHasher {
    /// With the secret of a folder: random bytes that are kept in it.
    #[must_use]
    pub fn new(secret: &[u8; SECRET_BYTES]) -> Self {
        Self(SipHasher13::new_with_key(secret))
    }

    /// The key of a text that [`put_text`] wrote.
    #[must_use]
    pub fn key(&self, text: &[u8]) -> Key {
        Key(self.0.hash(text).as_u128())
    }

    /// The number of one of a key's variants: the hash of the request's selecting fields, in a
    /// form that can be compared. It is even: that of a part is [`of_part`].
    #[must_use]
    pub fn variant(&self, selecting: &[u8]) -> u64 {
        match selecting {
            [] => 0,
            _ => self.0.hash(selecting).h1 & !1,
        }
    }
}

/// The number under which a part is kept of what has this one, so that whoever knows no more than
/// names can tell parts from wholes: the odd one beside it.
#[must_use]
pub fn of_part(variant: u64) -> u64 {
    variant | 1
}

/// The number of the whole that a part is of; that of a whole is its own.
#[must_use]
pub fn of_whole(variant: u64) -> u64 {
    variant & !1
}

/// Appends the text of a key to `out`: visible ASCII and one blank. HEAD has the text of GET. With
/// room in `out` nothing is allocated.
pub fn put_text(out: &mut Vec<u8>, method: Method<'_>, uri: &Uri<'_>) {
    let method = match method {
        Method::Head => Method::Get,
        other => other,
    };
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    put_lower(out, uri.scheme);
    out.extend_from_slice(b"://");
    match uri.authority.host {
        Host::Name(name) | Host::International(name) => put_lower(out, name),
        // Invariant: writing into memory does not fail; so below.
        host @ Host::Ipv6(_) => write!(out, "{host}").unwrap(),
    }
    let default = default_port(uri.scheme);
    if let Some(port) = uri.authority.port.filter(|&port| Some(port) != default) {
        out.push(b':');
        put_decimal(out, u64::from(port));
    }
    put_normal(out, if uri.path.is_empty() { "/" } else { uri.path });
    if let Some(query) = uri.query {
        out.push(b'?');
        put_normal(out, query);
    }
}

fn put_lower(out: &mut Vec<u8>, text: &str) {
    if is_visible(text.as_bytes()) {
        let start = out.len();
        out.extend_from_slice(text.as_bytes());
        out[start..].make_ascii_lowercase();
        return;
    }
    for byte in text.bytes() {
        put_visible(out, byte.to_ascii_lowercase());
    }
}

/// Appends a path or a query with escapes in upper case, and none of unreserved characters.
fn put_normal(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    if memchr::memchr(b'%', rest).is_none() || has_stray_percent(rest) {
        // Nearly always all of it can be copied.
        match is_visible(rest) {
            true => out.extend_from_slice(rest),
            false => rest.iter().for_each(|&byte| put_visible(out, byte)),
        }
        return;
    }
    while let Some((&first, behind)) = rest.split_first() {
        rest = match escaped(rest) {
            Some(byte) => {
                match is_unreserved(byte) {
                    true => out.push(byte),
                    false => put_escape(out, byte),
                }
                &behind[2..]
            }
            None => {
                put_visible(out, first);
                behind
            }
        };
    }
}

/// Whether there is a `%` that is not followed by two hexadecimal digits.
fn has_stray_percent(text: &[u8]) -> bool {
    memchr::memchr_iter(b'%', text).any(|at| escaped(&text[at..]).is_none())
}

/// The byte whose escape `text` begins with.
fn escaped(text: &[u8]) -> Option<u8> {
    let &[b'%', high, low, ..] = text else {
        return None;
    };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// RFC 3986 section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// Appends a byte; what no URI has is escaped, so that a key is one line of text.
fn put_visible(out: &mut Vec<u8>, byte: u8) {
    match byte.is_ascii_graphic() {
        true => out.push(byte),
        false => put_escape(out, byte),
    }
}

fn is_visible(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_graphic)
}

fn put_escape(out: &mut Vec<u8>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |four_bits: u8| DIGITS[usize::from(four_bits)];
    out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
}

#[cfg(test)]
mod tests;
