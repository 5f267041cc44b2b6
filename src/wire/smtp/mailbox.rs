//! Addresses as they stand between the angle brackets of MAIL FROM and RCPT TO (RFC 5321, section
//! 4.1.2).

use std::fmt;

use crate::wire::idn;

/// The longest address, in bytes: 64 of a name, `@`, 255 of a domain (RFC 5321, section 4.5.3.1).
pub const MAILBOX_BYTES_MAX: usize = 320;

/// A mailbox as it stands between the angle brackets of MAIL FROM and RCPT TO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mailbox(String);

/// Why a text cannot stand in MAIL FROM or RCPT TO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailboxError {
    text: String,
    reason: String,
}

impl fmt::Display for MailboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a mail address: {}", self.text, self.reason)
    }
}

impl std::error::Error for MailboxError {}

impl Mailbox {
    /// Takes `name@domain`, `"any text"@domain` or `name@[address]`; whether it exists is for the
    /// server to say. A domain in letters beyond ASCII is kept as DNS has it, so that no server
    /// needs to know more than ASCII for it.
    ///
    /// # Errors
    /// A part is missing or holds what cannot stand there, or all of it is longer than
    /// [`MAILBOX_BYTES_MAX`].
    pub fn parse(text: &str) -> Result<Self, MailboxError> {
        let wrong = |reason: &str| MailboxError {
            text: text.to_owned(),
            reason: reason.to_owned(),
        };
        let name_bytes = match text.strip_prefix('"') {
            Some(quoted) => {
                1 + quoted_bytes(quoted).ok_or_else(|| {
                    wrong("the quoted name does not end, or holds control characters")
                })?
            }
            None => text.find('@').unwrap_or(text.len()),
        };
        let (name, domain) = text.split_at(name_bytes);
        let domain = domain
            .strip_prefix('@')
            .filter(|domain| !domain.is_empty() && !name.is_empty())
            .ok_or_else(|| wrong("expected NAME@DOMAIN"))?;
        if !name.starts_with('"') && !name.chars().all(is_atom) {
            return Err(wrong(
                "a name with spaces, control characters or one of ()<>[]:;,\\\" has to be in quotation marks",
            ));
        }
        let domain = idn::to_ascii(domain).map_err(|reason| wrong(&reason))?;
        let is_literal = domain
            .strip_prefix('[')
            .and_then(|domain| domain.strip_suffix(']'))
            .is_some_and(|address| address.bytes().all(is_literal_byte));
        if !is_literal && !domain.bytes().all(is_domain_byte) {
            return Err(wrong("the domain is neither a host name nor [ADDRESS]"));
        }
        let mailbox = format!("{name}@{domain}");
        match mailbox.len() <= MAILBOX_BYTES_MAX {
            true => Ok(Self(mailbox)),
            false => Err(wrong(&format!(
                "it is longer than {MAILBOX_BYTES_MAX} bytes"
            ))),
        }
    }

    /// The empty reverse path of notifications that must not be answered (RFC 5321, section 4.5.5).
    pub fn null() -> Self {
        Self(String::new())
    }

    /// The address, without brackets.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands behind the last `@`; empty for [`Mailbox::null`].
    pub fn domain(&self) -> &str {
        self.0.rsplit_once('@').map_or("", |(_, domain)| domain)
    }
}

/// How many bytes of `text`, what follows an opening quotation mark, belong to the quoted string,
/// its end included. A backslash stands before a character that is meant as it is.
fn quoted_bytes(text: &str) -> Option<usize> {
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Some(at + 1),
            '\\' if characters
                .next()
                .is_some_and(|(_, next)| !next.is_control()) => {}
            '\\' => return None,
            c if c.is_control() => return None,
            _ => {}
        }
    }
    None
}

/// What may stand in a name without quotation marks: the letters of atoms (RFC 5322, section
/// 3.2.3), dots, and all beyond ASCII (RFC 6531, section 3.3) that is neither blank nor a control
/// character.
fn is_atom(c: char) -> bool {
    !c.is_control() && !c.is_whitespace() && !"()<>[]:;@\\,\"".contains(c)
}

fn is_domain_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._".contains(&byte)
}

fn is_literal_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-.:".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_an_address() {
        for (text, expected) in [
            ("a@b", "a@b"),
            ("a.b+c=d'e@x-y.org", "a.b+c=d'e@x-y.org"),
            ("\"a@b\"@c", "\"a@b\"@c"),
            ("\"a <b>, c\"@d.org", "\"a <b>, c\"@d.org"),
            ("\"say \\\"hi\\\\\"@d", "\"say \\\"hi\\\\\"@d"),
            ("\"\"@d", "\"\"@d"),
            ("ü@bücher.example", "ü@xn--bcher-kva.example"),
            ("a@[127.0.0.1]", "a@[127.0.0.1]"),
            ("a@[IPv6:::1]", "a@[IPv6:::1]"),
        ] {
            assert_eq!(
                Mailbox::parse(text).map(|mailbox| mailbox.0).as_deref(),
                Ok(expected)
            );
        }
        let too_long = format!("{}@b", "a".repeat(MAILBOX_BYTES_MAX));
        for text in [
            "",
            "a",
            "a@",
            "@b",
            "a b@c",
            "a@b c",
            "a@b@c",
            "a@b>\r\nDATA",
            "<a@b>",
            "a@b\n",
            "\"a@b",
            "\"a\"b@c",
            "\"a\\\"@c",
            "\"a\r\nb\"@c",
            "\"a\\\r\nDATA\"@c",
            "a\"b@c",
            "a,b@c",
            "a@[1.2.3.4",
            "a@[x y]",
            "a@b\u{202e}c",
            &too_long,
        ] {
            let error = Mailbox::parse(text).unwrap_err().to_string();
            assert!(error.contains(" is not a mail address: "), "{error}");
        }
    }

    #[test]
    fn the_domain_is_behind_the_last_at() {
        let domain = |text| Mailbox::parse(text).unwrap().domain().to_owned();
        assert_eq!(domain("\"a@b\"@c.org"), "c.org");
        assert_eq!(Mailbox::null().domain(), "");
    }
}
