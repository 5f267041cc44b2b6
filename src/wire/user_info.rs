//! User and password, as they stand in a URL or a file, and as HTTP sends them.
//!
//! RFC 3986 section 3.2.1, RFC 7617 section 2. The border between the two is the first colon, so a
//! user's name has none; a password may.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use percent_encoding::percent_decode_str;

use super::challenge::Secret;

/// User and password. Neither shows in `Debug` output.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    user: Vec<u8>,
    password: Secret,
}

impl Credentials {
    /// Reads `user:password` or `user` out of a URL, both percent-encoded; `None` when the user's name
    /// holds a colon.
    #[must_use]
    pub fn from_url(text: &str) -> Option<Self> {
        let (user, password) = text.split_once(':').unwrap_or((text, ""));
        let decoded = |text| percent_decode_str(text).collect::<Vec<u8>>();
        let user = decoded(user);
        (!user.contains(&b':')).then(|| Self {
            user,
            password: Secret::new(decoded(password)),
        })
    }

    /// Reads `user:password` as it is; `None` without a colon, or with a byte that controls.
    #[must_use]
    pub fn from_text(text: &[u8]) -> Option<Self> {
        let colon = text.iter().position(|&byte| byte == b':')?;
        let is_plain = !text.iter().any(u8::is_ascii_control);
        is_plain.then(|| Self {
            user: text[..colon].to_vec(),
            password: Secret::new(&text[colon + 1..]),
        })
    }

    /// The value of `Authorization` or `Proxy-Authorization`.
    #[must_use]
    pub fn basic(&self) -> String {
        let text = [&self.user, &b":"[..], self.password.expose()].concat();
        format!("Basic {}", BASE64.encode(text))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(text: &str) -> String {
        format!("Basic {}", BASE64.encode(text))
    }

    #[test]
    fn they_are_read_from_a_url_and_from_a_file() {
        let from_url = |text| Credentials::from_url(text).map(|read| read.basic());
        assert_eq!(from_url("ann"), Some(basic("ann:")));
        assert_eq!(from_url("ann:p%40ss:w"), Some(basic("ann:p@ss:w")));
        assert_eq!(from_url("a%3Ann:x"), None);
        let from_text =
            |text: &str| Credentials::from_text(text.as_bytes()).map(|read| read.basic());
        assert_eq!(from_text("ann:p%40:x"), Some(basic("ann:p%40:x")));
        assert_eq!(from_text("ann"), None);
        assert_eq!(from_text("ann:x\r\nX-Evil: 1"), None);
    }

    #[test]
    fn they_do_not_show() {
        let shown = format!("{:?}", Credentials::from_url("ann:tulip"));
        assert!(
            !shown.contains("ann") && !shown.contains("tulip"),
            "{shown}"
        );
    }
}
