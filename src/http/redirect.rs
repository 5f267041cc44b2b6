//! Redirects: what has moved, by path and host, and where to.
//!
//! RFC 9110 sections 10.2.2 (Location), 15.4 (the five statuses); RFC 3986 section 4.2
//! (references).
//!
//! | `from` | fits |
//! |---|---|
//! | `/old` | that path alone; `/old/` is another |
//! | `/old/**` | `/old`, `/old/` and all below |
//! | a pattern, such as `/old/*.html` or `*.php` | what [`super::glob`] says |
//!
//! `to` is a path or a URL of http or https. A `**` at its end is the part of the request's path
//! for which the `**` of `from` stands. The request's query is carried over unless `to` has one of
//! its own.
//!
//! Rules:
//! 1. The first that fits counts, in the order of the configuration.
//! 2. Paths are compared decoded and without dot segments, as files are looked for: `/%6fld` is
//!    `/old`.
//! 3. What comes of the request is encoded again, and never stands where a host could: no request
//!    makes a redirect lead to another site than the configuration does.

use std::fmt;
use std::str::FromStr;

use percent_encoding::utf8_percent_encode;

use super::Status;
use super::glob::Glob;
use super::path::{SafePath, encode};
use super::target::{Authority, NEVER_IN_URI, Target};

/// The redirects that browsers follow one after another; beyond, they give up.
pub const CHAIN_MAX: usize = 20;

/// One redirect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// The host that it is for, in lower case; `None` for all.
    pub host: Option<String>,
    /// What has moved.
    pub from: Place,
    /// Where to.
    pub to: Destination,
    /// 301, 302, 303, 307 or 308.
    pub status: Status,
}

/// Paths that a redirect is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// One path: relative to the root, as [`SafePath`] has it, and whether it ends with a slash.
    Exact(Vec<u8>, bool),
    /// A path and all below it.
    Below(Vec<u8>),
    /// Those that fit a pattern, with the pattern's text.
    Like(Glob, String),
}

impl FromStr for Place {
    type Err = &'static str;

    /// Reads the key `from`; the error says what is wrong.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_pattern = text.contains(['*', '?']);
        let path = match text.strip_prefix('/') {
            Some(_) => text.to_owned(),
            None if is_pattern && !text.contains('/') => format!("/{text}"),
            None => return Err("does not begin with a slash"),
        };
        if path.contains(['%', '#']) {
            return Err("is encoded");
        }
        let safe = SafePath::parse(&path).map_err(|_| "leads out of the root")?;
        let (relative, folder) = (safe.relative.into_owned(), safe.folder);
        if path != whole(&relative, folder) {
            return Err("has segments that no request has");
        }
        let below = path.strip_suffix("/**");
        Ok(match below {
            Some(prefix) if !prefix.contains(['*', '?']) => {
                Self::Below(prefix.trim_start_matches('/').into())
            }
            _ if is_pattern => Self::Like(Glob::new(text), text.to_owned()),
            _ => Self::Exact(relative, folder),
        })
    }
}

impl Place {
    /// Whether a path fits, and the rest of it behind the prefix, if there is one.
    fn fits<'p>(&self, path: &'p SafePath<'_>) -> Option<&'p [u8]> {
        match self {
            Self::Exact(relative, folder) => {
                let same = **relative == *path.relative && *folder == path.folder;
                same.then_some(b"")
            }
            Self::Below(prefix) if prefix.is_empty() => Some(&path.relative),
            Self::Below(prefix) => match path.relative.strip_prefix(&prefix[..])? {
                b"" => Some(b""),
                rest => rest.strip_prefix(b"/"),
            },
            Self::Like(glob, _) => {
                let text = whole(&path.relative, path.folder);
                glob.matches(&text[1..]).then_some(b"")
            }
        }
    }

    /// Paths that fit, to follow them.
    fn samples(&self) -> Vec<String> {
        match self {
            Self::Exact(relative, folder) => vec![whole(relative, *folder)],
            Self::Below(prefix) => ["", "x"]
                .map(|name| whole(&[&prefix[..], b"/", name.as_bytes()].concat(), false))
                .to_vec(),
            Self::Like(_, text) => {
                let text = text.strip_prefix('/').unwrap_or(text);
                let text = text.replace("**/", "").replace("**", "x");
                vec![format!("/{}", text.replace(['*', '?'], "x"))]
            }
        }
    }
}

/// A path with its slashes; what is no text in it is replaced, as it fits no configured path.
fn whole(relative: &[u8], folder: bool) -> String {
    let slash = if folder && !relative.is_empty() {
        "/"
    } else {
        ""
    };
    format!("/{}{slash}", String::from_utf8_lossy(relative))
}

/// Where a redirect leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Up to the rest of the path, encoded.
    before: String,
    /// The rest of the request's path comes next.
    carries: bool,
    /// In place of the request's.
    query: Option<String>,
    fragment: Option<String>,
}

impl FromStr for Destination {
    type Err = &'static str;

    /// Reads the key `to`; the error says what is wrong.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = utf8_percent_encode(text, NEVER_IN_URI).to_string();
        let (text, fragment) = split(&text, '#');
        let (path, query) = split(text, '?');
        let (before, carries) = match path.strip_suffix("**") {
            Some(before) => (before, true),
            None => (path, false),
        };
        if before.contains("**") {
            return Err("has a `**` that is not at the end of its path");
        }
        let is_path = before.starts_with('/') && !before.starts_with("//");
        if !is_path {
            let target = Target::absolute(before).ok_or("is neither a path nor a URL")?;
            let Target::Absolute { scheme, .. } = target else {
                return Err("is neither a path nor a URL");
            };
            if !["http", "https"].contains(&&*scheme.to_ascii_lowercase()) {
                return Err("is a URL of another scheme");
            }
        }
        // What is carried over must not become a part of the host, or of a name.
        let has_path = is_path || before.matches('/').count() > 2;
        if carries && !(has_path && before.ends_with('/')) {
            return Err("has no slash before its `**`");
        }
        Ok(Self {
            before: before.to_owned(),
            carries,
            query: query.map(str::to_owned),
            fragment: fragment.map(str::to_owned),
        })
    }
}

fn split(text: &str, mark: char) -> (&str, Option<&str>) {
    match text.split_once(mark) {
        Some((before, after)) => (before, Some(after)),
        None => (text, None),
    }
}

impl Destination {
    /// Whether it needs the rest of a path.
    #[must_use]
    pub fn carries(&self) -> bool {
        self.carries
    }

    /// The value of `Location`.
    fn location(&self, rest: &[u8], folder: bool, query: Option<&str>) -> String {
        let mut location = self.before.clone();
        if self.carries {
            let slash = if folder && !rest.is_empty() { "/" } else { "" };
            location += &format!("{}{slash}", encode(rest));
        }
        let parts = [
            ('?', self.query.as_deref().or(query)),
            ('#', self.fragment.as_deref()),
        ];
        for (mark, part) in parts {
            if let Some(part) = part {
                location.push(mark);
                location += part;
            }
        }
        location
    }
}

/// The first of `redirects` that fits a request: its status and `Location`.
#[must_use]
pub fn find(
    redirects: &[Redirect],
    host: Option<&Authority<'_>>,
    path: &SafePath<'_>,
    query: Option<&str>,
) -> Option<(Status, String)> {
    redirects.iter().find_map(|redirect| {
        let is_host = |wanted: &String| host.is_some_and(|host| host.is_host(wanted));
        if !redirect.host.as_ref().is_none_or(is_host) {
            return None;
        }
        let rest = redirect.from.fits(path)?;
        let location = redirect.to.location(rest, path.folder, query);
        Some((redirect.status, location))
    })
}

/// Which URLs lead back to the listener of some redirects, as far as that can be known.
#[derive(Debug, Clone, Copy)]
pub struct Here<'c> {
    /// `http`, or `https` where the listener speaks TLS.
    pub scheme: &'c str,
    /// Its ports: it may listen at several addresses.
    pub ports: &'c [u16],
    /// Names that the listener has, beside those of the redirects.
    pub hosts: &'c [String],
}

/// A redirect that leads to itself, or through more others than a browser follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circle {
    /// Its place among the redirects.
    pub place: usize,
    /// The URLs from the first on, the last of which is there twice in a circle.
    pub way: Vec<String>,
}

impl fmt::Display for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.way.len().min(4);
        f.write_str(&self.way[..shown].join(" to "))?;
        if self.way.len() > shown {
            write!(f, " and so on")?;
        }
        Ok(())
    }
}

/// The redirects that lead in a circle. Each is followed from paths that it is for, under each name
/// that is known.
#[must_use]
pub fn circles(redirects: &[Redirect], here: &Here<'_>) -> Vec<Circle> {
    let mut hosts: Vec<&str> = here.hosts.iter().map(String::as_str).collect();
    hosts.extend(
        redirects
            .iter()
            .filter_map(|redirect| redirect.host.as_deref()),
    );
    hosts.sort_unstable();
    hosts.dedup();
    let found = redirects
        .iter()
        .enumerate()
        .filter_map(|(place, redirect)| {
            let under = match &redirect.host {
                Some(host) => vec![Some(host.as_str())],
                None => std::iter::once(None)
                    .chain(hosts.iter().copied().map(Some))
                    .collect(),
            };
            let samples = redirect.from.samples();
            let mut ways = under
                .iter()
                .flat_map(|host| samples.iter().map(|path| (*host, path)));
            let way = ways.find_map(|(host, path)| circle(redirects, here, &hosts, host, path))?;
            Some(Circle { place, way })
        });
    found.collect()
}

/// The way from a path, if it does not end.
fn circle(
    redirects: &[Redirect],
    here: &Here<'_>,
    hosts: &[&str],
    host: Option<&str>,
    path: &str,
) -> Option<Vec<String>> {
    let mut host = host.map(str::to_owned);
    let mut way = vec![format!("{}", encode(path.as_bytes()))];
    loop {
        // Invariant: the way begins with a path.
        let last = way.last().expect("a beginning");
        let (authority, path) = match Target::absolute(last) {
            Some(Target::Absolute {
                scheme,
                authority,
                path,
                ..
            }) => {
                let leads_here = scheme.eq_ignore_ascii_case(here.scheme)
                    && authority.port.is_none_or(|port| here.ports.contains(&port))
                    && hosts.iter().any(|host| authority.is_host(host));
                if !leads_here {
                    return None;
                }
                host = Some(authority.host.to_string().to_ascii_lowercase());
                (host.as_deref(), path)
            }
            _ => (host.as_deref(), last.split(['?', '#']).next().unwrap_or("")),
        };
        let authority = authority.and_then(Authority::parse);
        let path = SafePath::parse(path).ok()?;
        let (_, location) = find(redirects, authority.as_ref(), &path, None)?;
        let is_circle = way.contains(&location);
        way.push(location);
        if is_circle || way.len() > CHAIN_MAX {
            return Some(way);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn redirect(from: &str, to: &str) -> Redirect {
        let (host, from) = match from.split_once('|') {
            Some((host, from)) => (Some(host.to_owned()), from),
            None => (None, from),
        };
        Redirect {
            host,
            from: from
                .parse()
                .unwrap_or_else(|wrong| panic!("{from} {wrong}")),
            to: to.parse().unwrap_or_else(|wrong| panic!("{to} {wrong}")),
            status: Status::MOVED_PERMANENTLY,
        }
    }

    /// Where a request for `path?query` under a host is led.
    fn led(redirects: &[Redirect], host: &str, target: &str) -> Option<String> {
        let (path, query) = split(target, '?');
        let path = SafePath::parse(path).expect("a path");
        let authority = Authority::parse(host);
        find(redirects, authority.as_ref(), &path, query).map(|(_, location)| location)
    }

    #[test]
    fn a_path_a_prefix_and_a_pattern_fit_what_they_say() {
        for (from, to, cases) in [
            (
                "/old",
                "/new",
                &[
                    ("/old", Some("/new")),
                    ("/%6fld", Some("/new")),
                    ("/a/../old", Some("/new")),
                    ("//old", Some("/new")),
                    ("/old/", None),
                    ("/old/a", None),
                    ("/Old", None),
                    ("/", None),
                ][..],
            ),
            (
                "/old/",
                "https://x.example/",
                &[("/old/", Some("https://x.example/")), ("/old", None)],
            ),
            ("/", "/start", &[("/", Some("/start")), ("/a", None)]),
            (
                "/old/**",
                "/new/**",
                &[
                    ("/old", Some("/new/")),
                    ("/old/", Some("/new/")),
                    ("/old/a/b", Some("/new/a/b")),
                    ("/old/a/b/", Some("/new/a/b/")),
                    ("/old//a%20b%3f", Some("/new/a%20b%3F")),
                    ("/old/%ff", Some("/new/%FF")),
                    ("/older", None),
                    ("/a/old/b", None),
                ],
            ),
            (
                "/old/**",
                "/all",
                &[("/old/a/b", Some("/all")), ("/old", Some("/all"))],
            ),
            (
                "/**",
                "https://x.example/y/**",
                &[
                    ("/", Some("https://x.example/y/")),
                    ("/a/", Some("https://x.example/y/a/")),
                    ("//evil.test/a", Some("https://x.example/y/evil.test/a")),
                ],
            ),
            (
                "/**",
                "https://x.example/**",
                &[("/@evil.test", Some("https://x.example/@evil.test"))],
            ),
            (
                "*.php",
                "/",
                &[
                    ("/a.php", Some("/")),
                    ("/x/a.php", Some("/")),
                    ("/a.php/", None),
                ],
            ),
            (
                "/blog/*/v?",
                "/blog",
                &[("/blog/a/v1", Some("/blog")), ("/blog/a/b/v1", None)],
            ),
            (
                "/b/*/",
                "/b",
                &[("/b/x/", Some("/b")), ("/b/x", None), ("/b/", None)],
            ),
            (
                "/f\u{fc}r",
                "/\u{e4} b",
                &[("/f%c3%bcr", Some("/%C3%A4%20b"))],
            ),
        ] {
            for (path, location) in cases {
                let given = led(&[redirect(from, to)], "h", path);
                assert_eq!(given.as_deref(), *location, "{from} {to} {path}");
            }
        }
    }

    #[test]
    fn the_query_is_carried_over_unless_there_is_another() {
        for (to, target, location) in [
            ("/b", "/a?x=1&y", "/b?x=1&y"),
            ("/b", "/a?", "/b?"),
            ("/b#top", "/a?x", "/b?x#top"),
            ("/b?own", "/a?x", "/b?own"),
            ("/b?", "/a?x", "/b?"),
            ("https://x.example", "/a?x", "https://x.example?x"),
        ] {
            let given = led(&[redirect("/a", to)], "h", target);
            assert_eq!(given.as_deref(), Some(location), "{to} {target}");
        }
        let carried = led(&[redirect("/a/**", "/b/**?v=2#end")], "h", "/a/c?x");
        assert_eq!(carried.as_deref(), Some("/b/c?v=2#end"));
    }

    #[test]
    fn the_first_that_fits_the_host_and_the_path_counts() {
        let all = [
            redirect("a.example|/x", "/for-a"),
            redirect("[::1]|/x", "/for-v6"),
            redirect("/x", "/for-all"),
            redirect("/**", "/rest"),
            redirect("/y", "/never"),
        ];
        for (host, path, location) in [
            ("a.example", "/x", "/for-a"),
            ("A.Example.:8080", "/x", "/for-a"),
            ("[0::1]:80", "/x", "/for-v6"),
            ("b.example", "/x", "/for-all"),
            ("", "/x", "/for-all"),
            ("a.example", "/y", "/rest"),
        ] {
            let given = led(&all, host, path);
            assert_eq!(given.as_deref(), Some(location), "{host} {path}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for from in [
            "", "old", "old/*", "/a/../b", "/a//b", "/./a", "/..", "/%61", "/a#b",
        ] {
            assert!(from.parse::<Place>().is_err(), "{from}");
        }
        for to in [
            "",
            "new",
            "//evil.test/",
            "mailto:a@b.example",
            "javascript:alert(1)",
            "ftp://a.example/",
            "https://",
            "https:///a",
            "https://u:p@a.example/",
            "/a**",
            "/**/a",
            "https://a.example**",
            "https://**",
        ] {
            assert!(to.parse::<Destination>().is_err(), "{to}");
        }
        for to in ["/a*b", "/a/**?x=**", "HTTPS://A.example/**", "/"] {
            assert!(to.parse::<Destination>().is_ok(), "{to}");
        }
    }

    fn here() -> Here<'static> {
        Here {
            scheme: "http",
            ports: &[8080],
            hosts: &[],
        }
    }

    #[test]
    fn circles_are_found() {
        for (redirects, places) in [
            (&[("/a", "/a")][..], &[0][..]),
            (&[("/a", "/b"), ("/b", "/a")], &[0, 1]),
            (&[("/a", "/b"), ("/b", "/c"), ("/c", "/b")], &[0, 1, 2]),
            (&[("/a", "/b"), ("/b", "/c")], &[]),
            (&[("/a", "/%61")], &[0]),
            (&[("/a", "/b?x#y"), ("/b", "/a")], &[0, 1]),
            (&[("/a", "/a/")], &[]),
            (&[("/a/**", "/a/")], &[0]),
            (&[("/a/**", "/a/b/**")], &[0]),
            (&[("/a/b/**", "/a/**")], &[]),
            (&[("/a/**", "/b/**"), ("/b/q/**", "/a/q/**")], &[1]),
            (&[("/a/**", "/b/**"), ("/b/c", "/a/c")], &[1]),
            (&[("/**", "/x/**")], &[0]),
            (&[("/**", "https://x.example/**")], &[]),
            (&[("/**", "http://x.example/**")], &[]),
            (&[("*.php", "/index.php")], &[0]),
            (&[("*.php", "/index.html")], &[]),
            (&[("/*/x", "/y/x")], &[0]),
            (&[("/**/a.htm", "/a.html")], &[]),
            // The first that fits counts, so the second never leads on.
            (&[("/a", "/c"), ("/a", "/a"), ("/b", "/a")], &[]),
            // Hosts.
            (&[("h|/a", "/b"), ("/b", "/a")], &[0, 1]),
            (&[("h|/a", "/b"), ("i|/b", "/a")], &[]),
            (&[("h|/**", "http://h/**")], &[0]),
            (&[("h|/**", "http://h:8080/**")], &[0]),
            (&[("h|/**", "http://h:81/**")], &[]),
            (&[("h|/**", "https://h/**")], &[]),
            (
                &[("h|/**", "http://i/**"), ("i|/**", "http://h/**")],
                &[0, 1],
            ),
            (&[("/**", "http://h/**"), ("h|/x", "/y")], &[0, 1]),
        ] {
            let all: Vec<_> = redirects.iter().map(|(f, t)| redirect(f, t)).collect();
            let found: Vec<_> = circles(&all, &here()).iter().map(|c| c.place).collect();
            assert_eq!(found, places, "{redirects:?}");
        }
    }

    #[test]
    fn a_chain_that_no_browser_follows_is_as_bad() {
        let chain = |len: usize| -> Vec<_> {
            (0..len)
                .map(|i| redirect(&format!("/{i}"), &format!("/{}", i + 1)))
                .collect()
        };
        assert_eq!(circles(&chain(CHAIN_MAX - 1), &here()), []);
        let found = circles(&chain(CHAIN_MAX), &here());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].to_string(), "/0 to /1 to /2 to /3 and so on");
        let found = circles(&[redirect("/a", "/a")], &here());
        assert_eq!(found[0].to_string(), "/a to /a");
    }

    #[test]
    fn a_name_of_the_listener_leads_back_to_it() {
        let all = [redirect("/**", "http://h.example/**")];
        let hosts = ["h.example".to_owned()];
        let here = Here {
            hosts: &hosts,
            ..here()
        };
        assert_eq!(circles(&all, &here).len(), 1);
    }

    proptest! {
        #[test]
        fn no_request_makes_a_redirect_lead_elsewhere(
            path in r"/([./\\a@:?#]|%2e|%5c|%0d%0a|%ff|\u{fc}){0,12}",
            query in proptest::option::of("[a@:/?]{0,8}"),
        ) {
            let all = [redirect("/**", "/x/**")];
            if let Ok(safe) = SafePath::parse(&path) {
                let (_, location) = find(&all, None, &safe, query.as_deref()).expect("a location");
                prop_assert!(location.starts_with("/x/"));
                prop_assert!(location.bytes().all(|byte| byte.is_ascii_graphic()), "{}", location);
            }
        }
    }
}
