//! Key `redirect` of a web server, tables `[[listener.redirect]]`: what has moved, and where to.

use std::ops::Range;

use super::files::host_name;
use super::section::{Section, integer, string};
use crate::http::Status;
use crate::http::redirect::{Destination, Here, Place, Redirect, circles};

/// The statuses that a redirect may have, the default first.
const STATUSES: [Status; 5] = [
    Status::MOVED_PERMANENTLY,
    Status::FOUND,
    Status::SEE_OTHER,
    Status::TEMPORARY_REDIRECT,
    Status::PERMANENT_REDIRECT,
];

/// What a wrong `from` and a wrong `to` are told.
const FROM: &str = r#"a path as people read it, such as "/old", "/old/**" with all below, or a pattern such as "*.php""#;
const TO: &str =
    r#"a path such as "/new", or a URL of http or https; "/new/**" with the rest of the path"#;

/// Reads the tables, and refuses those that lead in a circle.
pub(super) fn read(section: &mut Section<'_>, here: &Here<'_>) -> Vec<Redirect> {
    let entries = section.tables("redirect", read_entry);
    let (redirects, spans): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
    for circle in circles(&redirects, here) {
        let what = format!("`to` leads in a circle, from {circle}; expected a way that ends");
        section.problem(spans[circle.place].clone(), what);
    }
    redirects
}

fn read_entry(section: &mut Section<'_>) -> Option<(Redirect, Range<usize>)> {
    let wrong = |text: &str, wrong: &str| format!("is {text:?}, which {wrong}");
    let from: Option<Place> = section.parsed("from", FROM, |value| {
        let text = string(value)?;
        text.parse().map_err(|error| wrong(text, error))
    });
    let to: Option<Destination> = section.parsed("to", TO, |value| {
        let text = string(value)?;
        text.parse().map_err(|error| wrong(text, error))
    });
    let codes = STATUSES.map(|status| status.code().to_string()).join(", ");
    let status = section.parsed("status", &format!("one of {codes}"), |value| {
        let code = integer(value)?;
        let status = STATUSES
            .iter()
            .find(|status| u64::from(status.code()) == code);
        status.copied().ok_or_else(|| format!("is {code}"))
    });
    let expected = "the name of a host, without a port";
    let host = section.parsed("host", expected, host_name);
    for key in ["from", "to"] {
        if !section.has(key) {
            let span = section.span(key);
            let what = format!(
                r#"a redirect without `{key}`; expected both, as in {{ from = "/old", to = "/new" }}"#
            );
            section.problem(span, what);
        }
    }
    let (from, to) = (from?, to?);
    let span = section.span("to");
    if to.carries() && !matches!(from, Place::Below(_)) {
        let what = "`to` has a `**` for which `from` has none at its end, behind a path without patterns; \
                    expected as in { from = \"/old/**\", to = \"/new/**\" }";
        section.problem(span.clone(), what.to_owned());
        return None;
    }
    let redirect = Redirect {
        host,
        from,
        to,
        status: status.unwrap_or(STATUSES[0]),
    };
    Some((redirect, span))
}
