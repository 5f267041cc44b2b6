//! Replies of the server (RFC 5321, section 4.2), and what its reply to EHLO offers.

use std::fmt;

/// The longest line of a reply, in bytes. RFC 5321, section 4.5.3.1.5 asks servers for 512; some
/// exceed it a little.
pub const REPLY_LINE_BYTES_MAX: usize = 2048;

/// All lines of one reply together, in bytes.
pub const REPLY_BYTES_MAX: usize = 64 * 1024;

/// One reply of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Three digits, 200 to 599.
    pub code: u16,
    /// The text of each line behind code and separator; control characters are replaced, so it may
    /// be shown.
    pub lines: Vec<String>,
}

impl Reply {
    pub(super) fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// Whether the same may succeed at another time (RFC 5321, section 4.2.1).
    pub fn is_transient(&self) -> bool {
        self.code / 100 == 4
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.lines.join(" / "))
    }
}

/// What the server said that it can do, from its reply to EHLO.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// STARTTLS is offered.
    pub starttls: bool,
    /// AUTH PLAIN is offered.
    pub auth_plain: bool,
    /// AUTH LOGIN is offered.
    pub auth_login: bool,
    /// Several commands may be sent at once.
    pub pipelining: bool,
    /// Bytes above 127 may stand in a message.
    pub eight_bit_mime: bool,
    /// Addresses may hold other characters than ASCII.
    pub smtputf8: bool,
    /// SIZE is offered, with the largest message in bytes where the server named one.
    pub size: Option<Option<u64>>,
}

impl Capabilities {
    /// Reads the lines after the first one of the reply to EHLO (RFC 5321, section 4.1.1.1); case
    /// does not matter.
    pub(super) fn parse(reply: &Reply) -> Self {
        let mut capabilities = Self::default();
        for line in reply.lines.iter().skip(1) {
            let line = line.to_ascii_uppercase();
            // Some old servers write `AUTH=LOGIN`.
            let mut words = line.split([' ', '=', '\t']).filter(|word| !word.is_empty());
            match words.next() {
                Some("STARTTLS") => capabilities.starttls = true,
                Some("PIPELINING") => capabilities.pipelining = true,
                Some("8BITMIME") => capabilities.eight_bit_mime = true,
                Some("SMTPUTF8") => capabilities.smtputf8 = true,
                Some("SIZE") => {
                    let limit = words.next().and_then(|word| word.parse().ok());
                    capabilities.size = Some(limit.filter(|&limit| limit > 0));
                }
                Some("AUTH") => {
                    for word in words {
                        capabilities.auth_plain |= word == "PLAIN";
                        capabilities.auth_login |= word == "LOGIN";
                    }
                }
                _ => {}
            }
        }
        capabilities
    }
}
