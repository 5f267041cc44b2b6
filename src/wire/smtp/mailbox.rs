//! Addresses as they stand between the angle brackets of MAIL FROM and RCPT TO.

use std::fmt;

/// A mailbox as it stands between the angle brackets of MAIL FROM and RCPT TO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mailbox(String);

/// Why a text cannot stand in MAIL FROM or RCPT TO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailboxError(String);

impl fmt::Display for MailboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is not a mail address: expected NAME@DOMAIN without spaces, angle brackets or control characters",
            self.0
        )
    }
}

impl std::error::Error for MailboxError {}

impl Mailbox {
    /// Takes `name@domain`; whether it exists is for the server to say.
    ///
    /// # Errors
    /// No `@` with something on both sides, more than 320 bytes, or a character that could end the command early.
    pub fn parse(text: &str) -> Result<Self, MailboxError> {
        let wrong = |c: char| c.is_control() || c.is_whitespace() || c == '<' || c == '>';
        match text.rsplit_once('@') {
            Some((name, domain))
                if !name.is_empty()
                    && !domain.is_empty()
                    && text.len() <= 320
                    && !text.contains(wrong) =>
            {
                Ok(Self(text.to_owned()))
            }
            _ => Err(MailboxError(text.to_owned())),
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
}
