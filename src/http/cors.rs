//! Cross-origin resource sharing: which pages of other sites may read the answers.
//!
//! Fetch standard (fetch.spec.whatwg.org), section 3.3 "CORS protocol" and 4.9 "CORS-preflight fetch"; RFC 6454 section 7
//! (Origin). A browser enforces it: the server only says what is allowed, in three places.
//!
//! | request | what the answer gets |
//! |---|---|
//! | any | [`Cors::always`]: the `*` of a resource that is for everybody, else `Vary: Origin` |
//! | from a page of an origin in the list | [`Cors::lines_for`]: that origin, credentials, what a script may see |
//! | [`is_preflight`] | [`Cors::put_preflight`] besides: methods, headers, and for how long that holds |
//!
//! Rules:
//! 1. What depends on `Origin` says so in `Vary`, also to a request that has none: else a cache hands the answer for one origin
//!    to another. What does not depend on it is the same for all, and says nothing.
//! 2. Credentials are for listed origins only. For every origin they would let any page act as whoever looks at it; a
//!    [`Origins`] cannot say so.
//! 3. A preflight has no credentials, so it is answered before any password is asked for.
//!
//! Not here: `Access-Control-Allow-Private-Network`, and whether the request itself is answered. A page that is not allowed is
//! answered like any other client; its browser keeps the answer from it.

use std::fmt::Write;
use std::str::FromStr;
use std::time::Duration;

use super::head::{Headers, RequestHead, put_header, put_header_number};
use super::target::Authority;
use super::{Method, is_token};

/// What a browser is told: the header lines, made once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    always: Vec<u8>,
    /// For each origin in the list, the lines of an answer to its pages.
    origins: Vec<(Origin, Vec<u8>)>,
    /// The lines of a preflight's answer that are the same for all.
    preflight: Vec<u8>,
    any_header: bool,
}

/// What is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// To whom.
    pub origins: Origins,
    /// Methods beside GET, HEAD and POST, which need no permission.
    pub methods: Vec<String>,
    /// Headers of requests.
    pub headers: Names,
    /// Headers of answers that a script may read beside the seven that it always may.
    pub expose: Vec<String>,
    /// For how long a browser need not ask again; `None` for its own idea of that (5 seconds).
    pub max_age: Option<Duration>,
}

/// Whose pages may read the answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// Everybody's, without credentials.
    Any,
    /// Those of a few.
    Only {
        /// Which.
        list: Vec<Origin>,
        /// With cookies, passwords and client certificates.
        credentials: bool,
    },
}

/// Names of headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Names {
    /// All.
    Any,
    /// A few.
    Only(Vec<String>),
}

/// The site of a page as browsers write it: scheme, host and, unless it is the scheme's own, port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

impl FromStr for Origin {
    type Err = &'static str;

    /// Reads `https://app.example` or `http://localhost:5173`, in any case and also with the port that needs not be said.
    /// The error says what is wrong. `null`, which all sandboxed pages and files share, is nobody's origin.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.to_ascii_lowercase();
        let (scheme, rest) = text.split_once("://").ok_or("is no origin")?;
        let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        if !scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            || !scheme.bytes().all(is_scheme)
        {
            return Err("is no origin");
        }
        if rest.contains(['/', '?', '#']) {
            return Err("is a URL with a path");
        }
        let mut authority = Authority::parse(rest).ok_or("has no host")?;
        let implied = match scheme {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        };
        if authority.port == implied {
            authority.port = None;
        }
        Ok(Self(format!("{scheme}://{authority}")))
    }
}

impl Cors {
    /// Writes the lines.
    #[must_use]
    pub fn new(rules: &Rules) -> Self {
        let expose = rules.expose.join(", ");
        let put_exposed = |lines: &mut Vec<u8>| {
            if !expose.is_empty() {
                put_header(lines, "Access-Control-Expose-Headers", &expose);
            }
        };
        let (mut always, mut origins) = (Vec::new(), Vec::new());
        match &rules.origins {
            Origins::Any => {
                put_header(&mut always, "Access-Control-Allow-Origin", "*");
                put_exposed(&mut always);
            }
            Origins::Only { list, credentials } => {
                put_header(&mut always, "Vary", "Origin");
                for origin in list {
                    let mut lines = Vec::new();
                    put_header(&mut lines, "Access-Control-Allow-Origin", &origin.0);
                    if *credentials {
                        put_header(&mut lines, "Access-Control-Allow-Credentials", "true");
                    }
                    put_exposed(&mut lines);
                    origins.push((origin.clone(), lines));
                }
            }
        }
        let mut preflight = Vec::new();
        if !rules.methods.is_empty() {
            let methods = rules.methods.join(", ");
            put_header(&mut preflight, "Access-Control-Allow-Methods", methods);
        }
        match &rules.headers {
            Names::Only(names) if !names.is_empty() => {
                put_header(
                    &mut preflight,
                    "Access-Control-Allow-Headers",
                    names.join(", "),
                );
            }
            _ => {}
        }
        if let Some(age) = rules.max_age {
            put_header_number(&mut preflight, "Access-Control-Max-Age", age.as_secs());
        }
        Self {
            always,
            origins,
            preflight,
            any_header: rules.headers == Names::Any,
        }
    }

    /// Header lines for every answer, whoever asks.
    #[must_use]
    pub fn always(&self) -> &[u8] {
        &self.always
    }

    /// Header lines for the answer to a request with these headers, besides: none unless it comes from a page of a listed
    /// origin, told in one `Origin`.
    #[must_use]
    pub fn lines_for(&self, headers: &Headers<'_>) -> &[u8] {
        if self.origins.is_empty() {
            return &[];
        }
        let Some(asking) = headers.only("origin") else {
            return &[];
        };
        let known = self
            .origins
            .iter()
            .find(|(origin, _)| origin.0.as_bytes() == asking);
        known.map_or(&[], |(_, lines)| lines)
    }

    /// Appends what the answer to a preflight has beside the lines of every answer to its origin. To an origin that is not in
    /// the list nothing is said.
    pub fn put_preflight(&self, headers: &Headers<'_>, into: &mut Vec<u8>) {
        if self.any_header {
            // `*` would not stand for Authorization, and not for anything where there are credentials.
            put_header(into, "Vary", "Access-Control-Request-Headers");
        }
        if !self.origins.is_empty() && self.lines_for(headers).is_empty() {
            return;
        }
        into.extend_from_slice(&self.preflight);
        if !self.any_header {
            return;
        }
        let asked = headers.list("access-control-request-headers");
        let mut names = String::new();
        for name in asked.filter(|name| is_token(name)) {
            let comma = if names.is_empty() { "" } else { ", " };
            // Invariant: writing to a String does not fail.
            let _ = write!(names, "{comma}{}", String::from_utf8_lossy(name));
        }
        if !names.is_empty() {
            put_header(into, "Access-Control-Allow-Headers", names);
        }
    }
}

/// Whether a browser asks what another request may do before it makes that.
#[must_use]
pub fn is_preflight(head: &RequestHead<'_>) -> bool {
    let has = |name| head.headers.contains(name);
    head.method == Method::Options && has("origin") && has("access-control-request-method")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{HeadScanner, Limits, Parsed};

    fn origins(list: &[&str], credentials: bool) -> Origins {
        let list = list.iter().map(|text| text.parse().expect("an origin"));
        Origins::Only {
            list: list.collect(),
            credentials,
        }
    }

    fn rules(origins: Origins) -> Rules {
        Rules {
            origins,
            methods: Vec::new(),
            headers: Names::Only(Vec::new()),
            expose: Vec::new(),
            max_age: None,
        }
    }

    /// What a request with these lines gets: whether it is a preflight, and all lines.
    fn asked(rules: &Rules, method: &str, lines: &str) -> (bool, String) {
        let text = format!("{method} / HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
        let mut scanner = HeadScanner::default();
        let Ok(Parsed::Complete(head, _)) = scanner.request(text.as_bytes(), &Limits::default())
        else {
            panic!("{text:?}")
        };
        let cors = Cors::new(rules);
        let mut all = [cors.always(), cors.lines_for(&head.headers)].concat();
        let preflight = is_preflight(&head);
        if preflight {
            cors.put_preflight(&head.headers, &mut all);
        }
        (preflight, String::from_utf8(all).expect("text"))
    }

    #[test]
    fn what_is_for_everybody_is_the_same_for_everybody() {
        let rules = Rules {
            expose: vec!["ETag".to_owned(), "X-Total".to_owned()],
            ..rules(Origins::Any)
        };
        for origin in ["", "Origin: https://a.example\r\n", "Origin: null\r\n"] {
            let expected = "Access-Control-Allow-Origin: *\r\nAccess-Control-Expose-Headers: ETag, X-Total\r\n";
            let given = asked(&rules, "GET", origin);
            assert_eq!(given, (false, expected.to_owned()), "{origin}");
        }
    }

    #[test]
    fn a_listed_origin_is_named_and_the_answer_varies_for_all() {
        let rules = Rules {
            expose: vec!["ETag".to_owned()],
            ..rules(origins(&["https://a.example", "http://[::1]:5173"], true))
        };
        for (origin, named) in [
            ("Origin: https://a.example\r\n", Some("https://a.example")),
            ("Origin: http://[::1]:5173\r\n", Some("http://[::1]:5173")),
            ("", None),
            ("Origin: https://b.example\r\n", None),
            ("Origin: http://a.example\r\n", None),
            ("Origin: https://a.example:8443\r\n", None),
            ("Origin: https://a.example.evil.test\r\n", None),
            ("Origin: https://evil-a.example\r\n", None),
            ("Origin: https://a.example/\r\n", None),
            ("Origin: null\r\n", None),
            ("Origin: *\r\n", None),
            ("Origin: https://a.example, https://b.example\r\n", None),
            (
                "Origin: https://a.example\r\nOrigin: https://b.example\r\n",
                None,
            ),
        ] {
            let mut expected = "Vary: Origin\r\n".to_owned();
            if let Some(named) = named {
                expected += &format!(
                    "Access-Control-Allow-Origin: {named}\r\nAccess-Control-Allow-Credentials: true\r\n\
                     Access-Control-Expose-Headers: ETag\r\n"
                );
            }
            assert_eq!(asked(&rules, "GET", origin), (false, expected), "{origin}");
        }
    }

    #[test]
    fn a_preflight_is_told_what_the_request_may_have() {
        let lines = "Origin: https://a.example\r\nAccess-Control-Request-Method: PUT\r\n\
                     Access-Control-Request-Headers: content-type, x-token\r\n";
        let some = Rules {
            methods: vec!["PUT".to_owned(), "DELETE".to_owned()],
            headers: Names::Only(vec!["Content-Type".to_owned(), "X-Token".to_owned()]),
            max_age: Some(Duration::from_secs(600)),
            ..rules(Origins::Any)
        };
        let told = "Access-Control-Allow-Methods: PUT, DELETE\r\n\
                    Access-Control-Allow-Headers: Content-Type, X-Token\r\nAccess-Control-Max-Age: 600\r\n";
        let expected = format!("Access-Control-Allow-Origin: *\r\n{told}");
        assert_eq!(asked(&some, "OPTIONS", lines), (true, expected));

        // The same for listed origins; another one is told nothing.
        let listed = Rules {
            origins: origins(&["https://a.example"], false),
            ..some
        };
        let expected =
            format!("Vary: Origin\r\nAccess-Control-Allow-Origin: https://a.example\r\n{told}");
        assert_eq!(asked(&listed, "OPTIONS", lines), (true, expected));
        let other = lines.replace("a.example", "b.example");
        let expected = "Vary: Origin\r\n".to_owned();
        assert_eq!(asked(&listed, "OPTIONS", &other), (true, expected));
    }

    #[test]
    fn where_all_headers_are_allowed_those_asked_for_are_named() {
        let all = Rules {
            headers: Names::Any,
            ..rules(Origins::Any)
        };
        let lines = "Origin: https://a.example\r\nAccess-Control-Request-Method: GET\r\n";
        let start = "Access-Control-Allow-Origin: *\r\nVary: Access-Control-Request-Headers\r\n";
        assert_eq!(asked(&all, "OPTIONS", lines), (true, start.to_owned()));
        for (asked_for, named) in [
            ("authorization,x-b", "authorization, x-b"),
            ("x-a, x b, , x-c:", "x-a"),
        ] {
            let lines = format!("{lines}Access-Control-Request-Headers: {asked_for}\r\n");
            let expected = format!("{start}Access-Control-Allow-Headers: {named}\r\n");
            assert_eq!(asked(&all, "OPTIONS", &lines), (true, expected));
        }
    }

    #[test]
    fn only_what_asks_for_another_request_is_a_preflight() {
        let rules = rules(Origins::Any);
        let method = "Access-Control-Request-Method: PUT\r\n";
        let origin = "Origin: https://a.example\r\n";
        for (verb, lines) in [
            ("OPTIONS", method.to_owned()),
            ("OPTIONS", origin.to_owned()),
            ("GET", format!("{origin}{method}")),
        ] {
            assert!(!asked(&rules, verb, &lines).0, "{verb} {lines}");
        }
        // `*` is about no resource, but a browser never asks for it.
        assert!(asked(&rules, "OPTIONS", &format!("{origin}{method}")).0);
    }

    #[test]
    fn origins_are_read_as_browsers_write_them() {
        for (text, origin) in [
            ("https://a.example", "https://a.example"),
            ("HTTPS://A.Example:443", "https://a.example"),
            ("http://a.example:80", "http://a.example"),
            ("http://a.example:443", "http://a.example:443"),
            ("http://LOCALHOST:5173", "http://localhost:5173"),
            ("http://[0:0::1]:8080", "http://[::1]:8080"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("moz-extension://0a1b-2c", "moz-extension://0a1b-2c"),
        ] {
            assert_eq!(text.parse(), Ok(Origin(origin.to_owned())), "{text}");
        }
        for (text, wrong) in [
            ("null", "is no origin"),
            ("*", "is no origin"),
            ("a.example", "is no origin"),
            ("://a.example", "is no origin"),
            ("a b://a.example", "is no origin"),
            ("https://a.example/", "is a URL with a path"),
            ("https://a.example?x", "is a URL with a path"),
            ("https://", "has no host"),
            ("https://*.a.example", "has no host"),
            ("https://u@a.example", "has no host"),
            ("https://\u{fc}.example", "has no host"),
        ] {
            assert_eq!(text.parse::<Origin>(), Err(wrong), "{text}");
        }
    }
}
