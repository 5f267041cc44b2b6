//! `CDN-Cache-Control`: directives for caches like this one, which go before `Cache-Control` (RFC
//! 9213), as a structured dictionary (RFC 9651).
//!
//! Rules:
//! 1. A field that is empty, or no dictionary, is as good as absent (section 2.2): its neighbour
//!    `Cache-Control` counts. If it counts, neither `Cache-Control` nor `Expires` does.
//! 2. A directive whose value has another type than its own is ignored (section 2.1): a span is a
//!    non-negative integer, a fact is true, fields are named by a string.

use sfv::{BareItem, Dictionary, ListEntry, Parser};

use super::super::head::Headers;
use super::control::{self, Control, is_field_list};
use super::span;

/// The field that is meant for this cache.
pub const NAME: &str = "cdn-cache-control";

/// What the response says about being cached, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// In `CDN-Cache-Control`: `Expires` does not count.
    Targeted(Control),
    /// In `Cache-Control`, or nowhere.
    General(Control),
}

impl Policy {
    /// The policy of a response with these headers.
    #[must_use]
    pub fn of(headers: &Headers<'_>) -> Self {
        match dictionary(headers) {
            Some(dictionary) => Self::Targeted(directives(&dictionary)),
            None => Self::General(Control::of(headers)),
        }
    }

    /// The directives.
    #[must_use]
    pub fn control(&self) -> &Control {
        match self {
            Self::Targeted(control) | Self::General(control) => control,
        }
    }
}

/// Appends the fields that the policy of a response names as not to be stored (RFC 9111 section
/// 3.1), each followed by a comma. To be asked where [`Control::names_fields`] is set.
pub(super) fn put_named_fields(out: &mut Vec<u8>, headers: &Headers<'_>) {
    let Some(dictionary) = dictionary(headers) else {
        return control::put_named_fields(out, headers);
    };
    for name in ["no-cache", "private"] {
        if let Some(fields) = dictionary.get(name).and_then(fields) {
            out.extend_from_slice(fields.as_bytes());
            out.push(b',');
        }
    }
}

/// The field's value, all lines together, if it is a dictionary with something in it.
fn dictionary(headers: &Headers<'_>) -> Option<Dictionary> {
    let mut lines = headers.all(NAME);
    let mut value = lines.next()?.to_vec();
    for line in lines {
        value.extend_from_slice(b", ");
        value.extend_from_slice(line);
    }
    let dictionary: Dictionary = Parser::new(&value).parse().ok()?;
    (!dictionary.is_empty()).then_some(dictionary)
}

fn directives(dictionary: &Dictionary) -> Control {
    const SPANS: [&str; 4] = [
        "max-age",
        "s-maxage",
        "stale-while-revalidate",
        "stale-if-error",
    ];
    let mut control = Control::default();
    for (name, entry) in dictionary {
        let name = name.as_str();
        let ListEntry::Item(item) = entry else {
            continue;
        };
        match &item.bare_item {
            BareItem::Integer(seconds) if SPANS.contains(&name) => {
                let seconds = i64::from(*seconds);
                if seconds >= 0 {
                    control.take(name.as_bytes(), span(seconds), || false);
                }
            }
            BareItem::Boolean(true) if !SPANS.contains(&name) => {
                control.take(name.as_bytes(), 0, || false);
            }
            // A string that names no fields is read as the directive without it, which asks for
            // more.
            BareItem::String(_) if matches!(name, "no-cache" | "private") => {
                control.take(name.as_bytes(), 0, || fields(entry).is_some());
            }
            _ => {}
        }
    }
    control
}

/// The list of field names that a directive has as its string.
fn fields(entry: &ListEntry) -> Option<&str> {
    let ListEntry::Item(item) = entry else {
        return None;
    };
    let fields = item.bare_item.as_string()?.as_str();
    is_field_list(fields.as_bytes()).then_some(fields)
}
