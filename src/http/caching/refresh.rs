//! What an operator decides about some URLs, against what their responses say.
//!
//! Rules:
//! 1. The first pattern that fits counts. It is compared with the URL as keys are written, without
//!    its query: one that names a scheme (`http://host/assets/**`) with all of it, another
//!    (`/assets/**`, `*.css`) with the path of any host.
//! 2. What may be ignored is what an origin says to all ([`Ignore`]), never what a request asks for,
//!    nor that it had an `Authorization` (RFC 9111 section 3.5), `Vary`, or fields that `private`
//!    names. A response with a `Set-Cookie` is for one client whatever is ignored: of its directives
//!    all count.

use super::super::glob::Glob;
use super::super::head::Headers;
use super::Rules;
use super::control::Control;
use super::targeted::Policy;

/// Directives of responses that do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)] // The names are those of the directives.
pub struct Ignore {
    pub no_store: bool,
    pub private: bool,
    /// Without field names.
    pub no_cache: bool,
    /// And `proxy-revalidate`.
    pub must_revalidate: bool,
}

impl Ignore {
    /// The names of all of them, as a configuration has them.
    pub const NAMES: [&'static str; 4] = ["no-store", "private", "no-cache", "must-revalidate"];

    /// Ignores one more, if it is one of [`Ignore::NAMES`]: whether it is.
    pub fn add(&mut self, name: &str) -> bool {
        match name {
            "no-store" => self.no_store = true,
            "private" => self.private = true,
            "no-cache" => self.no_cache = true,
            "must-revalidate" => self.must_revalidate = true,
            _ => return false,
        }
        true
    }

    /// What is left of directives.
    fn strip(self, control: &mut Control) {
        control.no_store &= !self.no_store;
        control.private &= !self.private;
        control.no_cache &= !self.no_cache;
        control.must_revalidate &= !self.must_revalidate;
        control.proxy_revalidate &= !self.must_revalidate;
    }
}

impl Policy {
    /// The policy of a response with these headers, under the rules for its URL.
    pub(super) fn under(headers: &Headers<'_>, rules: &Rules) -> Self {
        let mut policy = Self::of(headers);
        if rules.ignore != Ignore::default() && !headers.contains("set-cookie") {
            let (Self::Targeted(control) | Self::General(control)) = &mut policy;
            rules.ignore.strip(control);
        }
        policy
    }
}

/// URLs for which other rules hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    glob: Glob,
    /// It is compared with the whole URL, not with the path alone.
    is_whole: bool,
}

impl Pattern {
    /// Reads a pattern; every text is one.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self {
            glob: Glob::new(text),
            is_whole: text.contains("://"),
        }
    }

    /// Whether a URL without its query fits.
    fn matches(&self, url: &str) -> bool {
        let text = match self.is_whole {
            true => url,
            false => path(url),
        };
        self.glob.matches(text)
    }
}

/// What stands behind the first stroke of the path.
fn path(url: &str) -> &str {
    let behind_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    behind_scheme.split_once('/').map_or("", |(_, path)| path)
}

/// The rules for every URL.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RuleBook {
    /// Those for every URL that no pattern fits.
    pub rest: Rules,
    patterns: Vec<(Pattern, Rules)>,
}

impl RuleBook {
    /// These rules, and others for some URLs.
    #[must_use]
    pub fn new(rest: Rules, patterns: Vec<(Pattern, Rules)>) -> Self {
        Self { rest, patterns }
    }

    /// Whether the same rules hold for all URLs.
    #[must_use]
    pub fn is_uniform(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The rules for a URL, given as the text of its key: `GET http://host/path?query`.
    #[must_use]
    pub fn of(&self, key: &[u8]) -> &Rules {
        if self.is_uniform() {
            return &self.rest;
        }
        let text = str::from_utf8(key).unwrap_or_default();
        let url = text.split_once(' ').map_or(text, |(_, url)| url);
        let url = url.split('?').next().unwrap_or_default();
        let mut patterns = self.patterns.iter();
        let found = patterns.find(|(pattern, _)| pattern.matches(url));
        found.map_or(&self.rest, |(_, rules)| rules)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(patterns: &[&str]) -> RuleBook {
        let rules = |index: usize| Rules {
            lifetime_min_s: index as u32 + 1,
            ..Rules::default()
        };
        let patterns = patterns.iter().enumerate();
        let patterns = patterns.map(|(index, text)| (Pattern::new(text), rules(index)));
        RuleBook::new(Rules::default(), patterns.collect())
    }

    #[test]
    fn the_first_pattern_that_fits_counts() {
        let book = book(&[
            "http://a.test/x/**",
            "/x/*",
            "*.css",
            "http://b.test:8080/**",
        ]);
        for (key, which) in [
            ("GET http://a.test/x/1/2", 1),
            ("GET http://a.test/x/1?q=/z.css", 1),
            ("GET http://c.test/x/1", 2),
            ("GET http://c.test/x/1/2", 0),
            ("GET http://c.test/y/a.css?x", 3),
            ("GET http://c.test/y/a?.css", 0),
            ("GET http://b.test:8080/", 4),
            ("GET http://b.test/", 0),
            ("GET http://evil.test/http://a.test/x/1", 0),
        ] {
            assert_eq!(book.of(key.as_bytes()).lifetime_min_s, which, "{key}");
        }
        assert!(RuleBook::default().is_uniform());
    }

    #[test]
    fn only_what_is_known_can_be_ignored() {
        let mut ignore = Ignore::default();
        assert!(!ignore.add("authorization") && !ignore.add("vary"));
        assert_eq!(ignore, Ignore::default());
        assert!(Ignore::NAMES.iter().all(|name| ignore.add(name)));
        assert!(ignore.no_store && ignore.private && ignore.no_cache && ignore.must_revalidate);
    }
}
