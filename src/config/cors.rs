//! Key `cors` of a web server and of its sites: which pages of other sites may read the answers.

use std::time::Duration;

use toml::de::DeValue;

use super::section::{Section, string};
use crate::http::cors::{Cors, Names, Origin, Origins, Rules};
use crate::http::is_token;

/// What a wrong `origins` is told.
const ORIGINS: &str =
    r#""*", or origins such as "https://app.example" (scheme, host and port, no path)"#;

/// Reads the table, if it is there.
pub(super) fn read(section: &mut Section<'_>) -> Option<Cors> {
    if !section.has("cors") {
        section.known.push("cors");
        return None;
    }
    let mut cors = None;
    section.table("cors", |section| {
        cors = read_rules(section).map(|rules| Cors::new(&rules));
    });
    cors
}

fn read_rules(section: &mut Section<'_>) -> Option<Rules> {
    let is_any = section.text("origins") == Some("*");
    let origins = match is_any {
        true => {
            section.known.push("origins");
            Some(Vec::new())
        }
        false => section.list_or_one("origins", ORIGINS, origin),
    };
    if !section.has("origins") {
        let span = section.span("origins");
        section.problem(
            span,
            format!("`cors` without `origins`; expected {ORIGINS}"),
        );
    }
    let mut credentials = false;
    section.flag("credentials", &mut credentials);
    if is_any && credentials {
        let span = section.span("credentials");
        let what = "`credentials` for every origin would let any page act as its visitor; expected `origins` \
                    to be a list where `credentials` is true";
        section.problem(span, what.to_owned());
    }
    let expected = "names of methods in capital letters, such as \"PUT\"";
    let methods = section.list_or_one("methods", expected, method);
    let expected = "names of headers, or \"*\" for all";
    let headers = match section.text("headers") {
        Some("*") => {
            section.known.push("headers");
            Names::Any
        }
        _ => Names::Only(names(section, "headers", expected)),
    };
    let expose = names(section, "expose", "names of headers");
    let mut max_age = Duration::ZERO;
    section.duration("max_age", &mut max_age);
    let list = origins?;
    Some(Rules {
        origins: match is_any {
            true => Origins::Any,
            false => Origins::Only { list, credentials },
        },
        methods: methods.unwrap_or_default(),
        headers,
        expose,
        max_age: section.has("max_age").then_some(max_age),
    })
}

fn origin(value: &DeValue<'_>) -> Result<Origin, String> {
    let text = string(value)?;
    text.parse()
        .map_err(|wrong| format!("is {text:?}, which {wrong}"))
}

fn method(value: &DeValue<'_>) -> Result<String, String> {
    let text = string(value)?;
    match is_token(text.as_bytes()) && text != "*" && !text.contains(char::is_lowercase) {
        true => Ok(text.to_owned()),
        false => Err(format!("is {text:?}")),
    }
}

fn names(section: &mut Section<'_>, key: &'static str, expected: &str) -> Vec<String> {
    let names = section.list_or_one(key, expected, |value| {
        let text = string(value)?;
        match is_token(text.as_bytes()) && text != "*" {
            true => Ok(text.to_owned()),
            false => Err(format!("is {text:?}")),
        }
    });
    names.unwrap_or_default()
}
