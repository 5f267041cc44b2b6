//! The directives of `Cache-Control` (RFC 9111 section 5.2).
//!
//! Rules:
//! 1. Names are read without regard to case; an argument may be a token or a quoted string,
//!    whatever form the directive is defined with.
//! 2. Of a directive that is repeated the first counts (section 4.2.1).
//! 3. An argument that is no number of seconds makes the response stale: 0.

use super::super::head::Headers;
use super::super::{is_token, list_elements, trim_ows};
use super::delta_seconds;

/// What a response says about being cached, from `Cache-Control` or from a targeted field.
///
/// The many `bool`s are independent facts, each of which may stand beside any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)] // The names are those of the directives.
pub struct Control {
    pub max_age_s: Option<u32>,
    pub s_maxage_s: Option<u32>,
    pub stale_while_revalidate_s: Option<u32>,
    pub stale_if_error_s: Option<u32>,
    pub no_store: bool,
    /// `no-cache` for the whole response, not for some fields of it.
    pub no_cache: bool,
    /// `private` for the whole response, not for some fields of it.
    pub private: bool,
    /// `no-cache` or `private` names fields, which are not to be stored.
    pub names_fields: bool,
    pub public: bool,
    pub must_revalidate: bool,
    pub proxy_revalidate: bool,
    pub must_understand: bool,
}

impl Control {
    /// Reads all `Cache-Control` lines.
    #[must_use]
    pub fn of(headers: &Headers<'_>) -> Self {
        let mut control = Self::default();
        for directive in directives(headers, "cache-control") {
            let seconds = match directive.argument {
                Some(argument) => delta_seconds(argument).unwrap_or(0),
                None => 0,
            };
            control.take(directive.name, seconds, || {
                directive.named_fields().is_some()
            });
        }
        control
    }

    /// Takes one directive in: its argument as seconds, and whether it is a list of field names.
    pub(super) fn take(&mut self, name: &[u8], seconds: u32, names_fields: impl Fn() -> bool) {
        let is = |directive: &str| name.eq_ignore_ascii_case(directive.as_bytes());
        let span = |place: &mut Option<u32>| {
            place.get_or_insert(seconds);
        };
        match name.len() {
            6 if is("public") => self.public = true,
            7 if is("max-age") => span(&mut self.max_age_s),
            7 if is("private") => match names_fields() {
                true => self.names_fields = true,
                false => self.private = true,
            },
            8 if is("s-maxage") => span(&mut self.s_maxage_s),
            8 if is("no-store") => self.no_store = true,
            8 if is("no-cache") => match names_fields() {
                true => self.names_fields = true,
                false => self.no_cache = true,
            },
            14 if is("stale-if-error") => span(&mut self.stale_if_error_s),
            15 if is("must-revalidate") => self.must_revalidate = true,
            15 if is("must-understand") => self.must_understand = true,
            16 if is("proxy-revalidate") => self.proxy_revalidate = true,
            22 if is("stale-while-revalidate") => span(&mut self.stale_while_revalidate_s),
            _ => {}
        }
    }
}

/// Appends the fields that `no-cache` and `private` name, which are therefore not stored (RFC 9111
/// section 3.1), each followed by a comma.
pub(super) fn put_named_fields(out: &mut Vec<u8>, headers: &Headers<'_>) {
    for directive in directives(headers, "cache-control") {
        let name = directive.name;
        if (name.eq_ignore_ascii_case(b"no-cache") || name.eq_ignore_ascii_case(b"private"))
            && let Some(fields) = directive.named_fields()
        {
            out.extend_from_slice(fields);
            out.push(b',');
        }
    }
}

/// One directive: `name`, `name=token` or `name="quoted"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Directive<'b> {
    /// The name as sent.
    pub name: &'b [u8],
    /// The argument without its quotes. Blanks around the `=` stay in it, so that it is no number:
    /// none may be there. What was escaped in quotes is not undone: neither a number nor a field
    /// name has any use for that.
    pub argument: Option<&'b [u8]>,
}

impl<'b> Directive<'b> {
    /// The argument, if it is a list of field names.
    fn named_fields(&self) -> Option<&'b [u8]> {
        self.argument.filter(|argument| is_field_list(argument))
    }
}

/// Whether `text` is a list of field names, at least one. Of anything else a qualified directive
/// is read as an unqualified one, which asks for more.
pub(super) fn is_field_list(text: &[u8]) -> bool {
    let mut fields = list_elements(text).peekable();
    fields.peek().is_some() && fields.all(is_token)
}

/// The directives in all headers called `name`, in order.
pub fn directives<'b>(headers: &Headers<'b>, name: &str) -> impl Iterator<Item = Directive<'b>> {
    headers.all(name).flat_map(|mut line| {
        std::iter::from_fn(move || {
            loop {
                let (element, rest) = split_element(line)?;
                line = rest;
                if !element.is_empty() {
                    return Some(directive(element));
                }
            }
        })
    })
}

fn directive(element: &[u8]) -> Directive<'_> {
    let Some(equals) = memchr::memchr(b'=', element) else {
        return Directive {
            name: element,
            argument: None,
        };
    };
    let (before, argument) = (&element[..equals], &element[equals + 1..]);
    let name = trim_ows(before);
    let argument = match argument {
        [b'"', quoted @ .., b'"'] => quoted,
        // What is left of a name with a blank behind it is no argument.
        _ if name.len() < before.len() => &b" "[..],
        plain => plain,
    };
    Directive {
        name,
        argument: Some(argument),
    }
}

/// Splits the first element off a list, without the blanks around it. Commas within quoted strings
/// divide nothing (RFC 9110 section 5.6.4); quotes that do not end reach to the end.
pub(super) fn split_element(list: &[u8]) -> Option<(&[u8], &[u8])> {
    split_outside_quotes(list, b',')
}

/// Splits off what stands before the first `divider` that is not within quotes.
pub(super) fn split_outside_quotes(text: &[u8], divider: u8) -> Option<(&[u8], &[u8])> {
    if text.is_empty() {
        return None;
    }
    let (mut quoted, mut escaped) = (false, false);
    let end = text.iter().position(|&byte| {
        if escaped {
            escaped = false;
        } else if byte == b'"' {
            quoted = !quoted;
        } else if byte == b'\\' && quoted {
            escaped = true;
        }
        byte == divider && !quoted
    });
    let end = end.unwrap_or(text.len());
    let rest = text.get(end + 1..).unwrap_or_default();
    Some((trim_ows(&text[..end]), rest))
}
