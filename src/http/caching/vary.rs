//! Which of several stored responses a request selects (RFC 9111 section 4.1).
//!
//! The fields that `Vary` names make a key of those of the request: a line `name:value` for each, or
//! `name` where the request had none, in the order of their names. Values are normalised, so that
//! what means the same is the same:
//!
//! - lines are joined, blanks around commas go, empty elements go;
//! - the lists of `Accept`, `Accept-Charset`, `Accept-Encoding` and `Accept-Language` are brought
//!   into one order, their case where it does not matter (all of it but the parameters of `Accept`)
//!   and their weights (`q=1.0` is none) into one form.
//!
//! A request is compared with a key byte by byte, while its value is being normalised: nothing is
//! allocated.

use super::super::head::Headers;
use super::super::{is_token, trim_ows};
use super::NotStored;
use super::control::{split_element, split_outside_quotes};

/// The most fields that `Vary` may name.
pub const FIELDS_MAX: usize = 16;

/// The most bytes that a key may have.
pub const KEY_BYTES_MAX: usize = 4096;

/// Lists with more elements are not brought into order: their key is theirs alone.
const SORTED_MAX: usize = 32;

/// Whether a response with these headers can be selected again by its key.
///
/// # Errors
/// [`NotStored::VaryStar`], [`NotStored::VaryTooLong`].
pub fn check(response: &Headers<'_>, request: &Headers<'_>) -> Result<(), NotStored> {
    match response.contains("vary") {
        true => put_key(&mut Vec::new(), response, request),
        false => Ok(()),
    }
}

/// Appends the key of a response to a request. Without `Vary` it is empty.
///
/// # Errors
/// [`NotStored::VaryStar`], [`NotStored::VaryTooLong`]; `out` is then to be thrown away.
pub fn put_key(
    out: &mut Vec<u8>,
    response: &Headers<'_>,
    request: &Headers<'_>,
) -> Result<(), NotStored> {
    let start = out.len();
    let mut names: Vec<Vec<u8>> = Vec::new();
    for name in response.list("vary") {
        // `*` among names is `*`; what is no name is as little to be understood.
        if name == b"*" || !is_token(name) {
            return Err(NotStored::VaryStar);
        }
        names.push(name.to_ascii_lowercase());
    }
    names.sort_unstable();
    names.dedup();
    if names.len() > FIELDS_MAX {
        return Err(NotStored::VaryTooLong);
    }
    for name in names {
        // Invariant: a token is ASCII.
        let name = str::from_utf8(&name).unwrap_or_default();
        out.extend_from_slice(name.as_bytes());
        normalise(name, request, &mut |byte| out.push(byte));
        out.push(b'\n');
    }
    match out.len() - start <= KEY_BYTES_MAX {
        true => Ok(()),
        false => Err(NotStored::VaryTooLong),
    }
}

/// Appends the key that a request has of the fields that `key` names.
pub fn put_key_as(out: &mut Vec<u8>, key: &[u8], request: &Headers<'_>) {
    for line in key
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
        let Ok(name) = str::from_utf8(name) else {
            continue;
        };
        out.extend_from_slice(name.as_bytes());
        normalise(name, request, &mut |byte| out.push(byte));
        out.push(b'\n');
    }
}

/// Whether a request has the key of a stored response.
#[must_use]
pub fn matches(key: &[u8], request: &Headers<'_>) -> bool {
    let mut rest = key;
    while !rest.is_empty() {
        let name_len = rest
            .iter()
            .take_while(|byte| !b":\n".contains(byte))
            .count();
        let Ok(name) = str::from_utf8(&rest[..name_len]) else {
            return false;
        };
        let Some(line_len) = memchr::memchr(b'\n', rest) else {
            return false;
        };
        let mut expected = rest[name_len..line_len].iter();
        let mut is_same = true;
        normalise(name, request, &mut |byte| {
            is_same &= expected.next() == Some(&byte);
        });
        if !is_same || expected.next().is_some() {
            return false;
        }
        rest = &rest[line_len + 1..];
    }
    true
}

/// Writes `:` and the normalised value of the field `name`; nothing where the request has none. No
/// value has a line feed in it.
fn normalise(name: &str, request: &Headers<'_>, put: &mut impl FnMut(u8)) {
    if !request.contains(name) {
        return;
    }
    put(b':');
    match name {
        "accept" => put_sorted(name, request, Case::OfParametersMatters, put),
        "accept-charset" | "accept-encoding" | "accept-language" => {
            put_sorted(name, request, Case::Ignored, put);
        }
        _ => put_in_order(name, request, put),
    }
}

/// The elements of all lines called `name`, as they come.
fn elements<'b>(name: &str, headers: &Headers<'b>) -> impl Iterator<Item = &'b [u8]> {
    headers.all(name).flat_map(|mut line| {
        std::iter::from_fn(move || {
            let (element, rest) = split_element(line)?;
            line = rest;
            Some(element)
        })
        .filter(|element| !element.is_empty())
    })
}

fn put_in_order(name: &str, request: &Headers<'_>, put: &mut impl FnMut(u8)) {
    for (place, element) in elements(name, request).enumerate() {
        if place > 0 {
            put(b',');
        }
        element.iter().for_each(|&byte| put(byte));
    }
}

/// Where the case of a list's elements does not matter.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    Ignored,
    OfParametersMatters,
}

fn put_sorted(name: &str, request: &Headers<'_>, case: Case, put: &mut impl FnMut(u8)) {
    let mut sorted: [&[u8]; SORTED_MAX] = [b""; SORTED_MAX];
    let mut count = 0;
    for element in elements(name, request) {
        let Some(place) = sorted.get_mut(count) else {
            return put_in_order(name, request, put);
        };
        *place = element;
        count += 1;
    }
    sorted[..count].sort_unstable_by(|a, b| lower_case(a).cmp(lower_case(b)).then(a.cmp(b)));
    for (place, element) in sorted[..count].iter().enumerate() {
        if place > 0 {
            put(b',');
        }
        put_weighed(element, case, put);
    }
}

fn lower_case(text: &[u8]) -> impl Iterator<Item = u8> {
    text.iter().map(u8::to_ascii_lowercase)
}

/// Writes an element and its parameters without blanks, its weight at the end, if it is not 1.
fn put_weighed(element: &[u8], case: Case, put: &mut impl FnMut(u8)) {
    let (mut rest, mut weight, mut place) = (element, 1000, 0);
    while let Some((part, behind)) = split_outside_quotes(rest, b';') {
        rest = behind;
        match quality(part) {
            Some(thousandths) if place > 0 => weight = thousandths,
            _ => {
                if place > 0 {
                    put(b';');
                }
                let keeps_case = place > 0 && case == Case::OfParametersMatters;
                for byte in part {
                    put(if keeps_case {
                        *byte
                    } else {
                        byte.to_ascii_lowercase()
                    });
                }
            }
        }
        place += 1;
    }
    if weight != 1000 {
        b";q=".iter().for_each(|&byte| put(byte));
        for divisor in [100, 10, 1] {
            put(b'0' + (weight / divisor % 10) as u8);
        }
    }
}

/// Reads `q=0.5` as thousandths (RFC 9110 section 12.4.2).
fn quality(parameter: &[u8]) -> Option<u16> {
    let value = match parameter {
        [b'q' | b'Q', rest @ ..] => trim_ows(trim_ows(rest).strip_prefix(b"=")?),
        _ => return None,
    };
    let (whole, decimals) = match value {
        [whole] => (*whole, &b""[..]),
        [whole, b'.', decimals @ ..] if decimals.len() <= 3 => (*whole, decimals),
        _ => return None,
    };
    let mut thousandths = match whole {
        b'0' => 0,
        b'1' => 1000,
        _ => return None,
    };
    for (digit, unit) in decimals.iter().zip([100, 10, 1]) {
        if !digit.is_ascii_digit() {
            return None;
        }
        thousandths += u16::from(digit - b'0') * unit;
    }
    (thousandths <= 1000).then_some(thousandths)
}
