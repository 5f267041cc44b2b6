//! Keys `parent` and `parent_…`, `no_proxy`: another proxy, by which origins are reached.

use std::time::Duration;

use super::section::{self, Section, string};
use super::value::Upstream;
use crate::wire::no_proxy::{self, NoProxy};
use crate::wire::user_info::Credentials;

/// What `parent` may look like.
const EXPECTED: &str = r#"the address of a proxy such as "http://proxy.example:3128", "https://proxy.example:3129" or "http://USER:PASSWORD@proxy.example:3128""#;

/// A parent proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// Its name or IP address; an IPv6 address stands without its brackets. Key `parent`, with the
    /// port, default none.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
    /// TLS is spoken with it (`https://`), and it has to prove who it is as an https origin does.
    pub tls: bool,
    /// What it is told of us. In `parent`, or else in a file that `parent_credentials_file` names, or
    /// in the variable of the environment that `parent_credentials_variable` names: `USER:PASSWORD`.
    /// Default none.
    pub credentials: Option<Credentials>,
    /// Which hosts are reached without it. Key `no_proxy`, a list, default none.
    pub no_proxy: NoProxy,
    /// Time for its answer to CONNECT, within which it has to reach the origin. Key `parent_timeout`,
    /// default 30 s.
    pub timeout: Duration,
}

/// Time for a parent's answer to CONNECT, unless it is told otherwise.
pub const PARENT_TIMEOUT: Duration = Duration::from_secs(30);

impl Parent {
    /// Reads the keys of a parent.
    pub(super) fn read(section: &mut Section<'_>) -> Option<Parent> {
        let parent = section.parsed("parent", EXPECTED, |value| parse(string(value)?));
        let has_parent = section.has("parent");
        let (base, around) = (section.folders.base.clone(), section.folders.around);
        section.names_file("parent_credentials_file");
        let text = "a file that holds USER:PASSWORD";
        let filed = section.parsed("parent_credentials_file", text, |value| {
            let path = section::path(&base, string(value)?)?;
            let mut bytes = around
                .file(&path)
                .map_err(|error| format!("names {}: {error}", path.display()))?;
            let ending: &[u8] = b"\r\n";
            while bytes.last().is_some_and(|byte| ending.contains(byte)) {
                bytes.pop();
            }
            Credentials::from_text(&bytes)
                .ok_or_else(|| format!("names {}, which holds something else", path.display()))
        });
        let text = "the name of a variable of the environment that holds USER:PASSWORD";
        let named = section.parsed("parent_credentials_variable", text, |value| {
            let name = string(value)?;
            let is_name = !name.is_empty() && !name.contains(['=', '\0']);
            let held = is_name.then(|| around.variable(name)).flatten();
            let held = held.ok_or_else(|| format!("is {name:?}, which is not set"))?;
            Credentials::from_text(held.as_encoded_bytes())
                .ok_or_else(|| format!("is {name:?}, which holds something else"))
        });
        let entries = section.list("no_proxy", no_proxy::EXPECTED, |value| {
            let text = string(value)?;
            no_proxy::Entry::parse(text).ok_or_else(|| format!("is {text:?}"))
        });
        let mut timeout = PARENT_TIMEOUT;
        section.timeout("parent_timeout", &mut timeout);
        if !has_parent {
            refuse_without(section);
        }
        let (address, own) = parent?;
        let given = [own, filed, named];
        if given.iter().flatten().count() > 1 {
            let what = "the credentials for `parent` are given more than once; expected them in the address, in \
                        `parent_credentials_file` or in `parent_credentials_variable`";
            section.problem(section.span("parent"), what.to_owned());
        }
        Some(Parent {
            host: address.host,
            port: address.port,
            tls: address.tls,
            credentials: given.into_iter().flatten().next(),
            no_proxy: NoProxy::new(entries.unwrap_or_default()),
            timeout,
        })
    }
}

/// Refuses what is nothing without a parent.
fn refuse_without(section: &mut Section<'_>) {
    let keys = [
        "parent_credentials_file",
        "parent_credentials_variable",
        "parent_timeout",
        "no_proxy",
    ];
    for key in keys
        .into_iter()
        .filter(|key| section.has(key))
        .collect::<Vec<_>>()
    {
        let what = format!("`{key}` is for a parent proxy; expected `parent` beside it");
        section.problem(section.span(key), what);
    }
}

/// Parses `http://[USER[:PASSWORD]@]HOST:PORT`, or the same with `https`. No error shows user or
/// password.
fn parse(text: &str) -> Result<(Upstream, Option<Credentials>), String> {
    let found = ["http", "https"].iter().find_map(|scheme| {
        let rest = text.strip_prefix(scheme)?.strip_prefix("://")?;
        Some((scheme, rest))
    });
    let Some((scheme, rest)) = found else {
        return Err("is no http:// or https:// address".to_owned());
    };
    let (own, address) = match rest.rsplit_once('@') {
        Some((own, address)) => (Some(own), address),
        None => (None, rest),
    };
    let parsed: Upstream = format!("{scheme}://{address}").parse()?;
    let behind_host = address.rsplit(']').next().unwrap_or_default();
    if !behind_host.contains(':') {
        return Err(format!("is \"{scheme}://{address}\", without a port"));
    }
    let own = match own.map(Credentials::from_url) {
        Some(None) => return Err("has a colon in the user's name".to_owned()),
        Some(own) => own,
        None => None,
    };
    Ok((parsed, own))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_with_and_without_credentials() {
        let read = |text| {
            let (address, own) = parse(text).expect(text);
            (address.to_string(), own.map(|own| own.basic()))
        };
        assert_eq!(
            read("http://p.example:3128"),
            ("p.example:3128".to_owned(), None)
        );
        assert_eq!(read("http://[::1]:3128/").0, "[::1]:3128");
        for (text, tls) in [("http://p:1", false), ("https://ann:tulip@p:1", true)] {
            assert_eq!(parse(text).expect(text).0.tls, tls);
        }
        let (address, own) = read("http://ann:tu%40lip@p.example:3128");
        assert_eq!(address, "p.example:3128");
        assert_eq!(
            own,
            Credentials::from_text(b"ann:tu@lip").map(|own| own.basic())
        );
    }

    #[test]
    fn what_is_wrong_is_told_without_the_password() {
        for (text, wrong) in [
            ("p.example:3128", "is no http:// or https:// address"),
            ("ann:tulip@p.example:3128", "is no http:// or https://"),
            ("ftp://ann:tulip@p:3128", "is no http:// or https://"),
            ("https://ann:tulip@p", "is \"https://p\", without a port"),
            (
                "http://ann:tulip@p.example",
                "is \"http://p.example\", without a port",
            ),
            (
                "http://ann:tulip@[::1]",
                "is \"http://[::1]\", without a port",
            ),
            (
                "http://ann:tulip@p.example:0",
                "is \"http://p.example:0\", without a proper port",
            ),
            (
                "http://ann:tulip@:3128",
                "is \"http://:3128\", without a proper host",
            ),
            ("http://a%3An:tulip@p:3128", "has a colon"),
        ] {
            let told = parse(text).expect_err(text);
            assert!(told.starts_with(wrong), "{text}: {told}");
            assert!(!told.contains("tulip"), "{text}: {told}");
        }
    }
}
