//! Why a dialogue fails, and at which step.

use std::fmt;

use super::reply::{REPLY_BYTES_MAX, REPLY_LINE_BYTES_MAX, Reply};

/// The part of the dialogue that something happened in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpStep {
    /// Waiting for the server's first words.
    Greeting,
    /// EHLO or HELO.
    Hello,
    /// STARTTLS and the handshake behind it.
    StartTls,
    /// AUTH.
    Auth,
    /// MAIL FROM.
    Sender,
    /// RCPT TO.
    Recipient,
    /// DATA.
    Data,
    /// The message itself, up to the reply to its final dot.
    Message,
    /// RSET.
    Reset,
    /// QUIT.
    Quit,
}

impl fmt::Display for SmtpStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Greeting => "greeting",
            Self::Hello => "hello",
            Self::StartTls => "starttls",
            Self::Auth => "log-in",
            Self::Sender => "sender",
            Self::Recipient => "recipient",
            Self::Data => "data",
            Self::Message => "message",
            Self::Reset => "reset",
            Self::Quit => "quit",
        })
    }
}

/// Why a dialogue failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmtpError {
    /// Where.
    pub step: SmtpStep,
    /// After which command, with secrets hidden; `None` before the first one.
    pub command: Option<String>,
    /// What happened.
    pub problem: Problem,
}

impl SmtpError {
    /// Whether the same may succeed at another time.
    pub fn is_transient(&self) -> bool {
        matches!(&self.problem, Problem::Refused(reply) if reply.is_transient())
    }

    /// Whether the server said no, or could not be asked without breaking a rule of ours; the rest
    /// is a broken server or connection.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self.problem,
            Problem::Refused(_)
                | Problem::NotOffered { .. }
                | Problem::ClearText
                | Problem::TooLarge { .. }
        )
    }
}

impl fmt::Display for SmtpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at the step {}", self.step)?;
        if let Some(command) = &self.command {
            write!(f, " ({command})")?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl std::error::Error for SmtpError {}

/// What went wrong in a dialogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The server said no.
    Refused(Reply),
    /// The server said something that does not belong here.
    Unexpected(Reply),
    /// A line that does not begin with a reply code.
    NotSmtp {
        /// The beginning of the line.
        line: String,
    },
    /// A line without end.
    LineTooLong,
    /// A reply without end.
    ReplyTooLong,
    /// The connection ended.
    Closed,
    /// Something stood behind the reply to STARTTLS: somebody on the path may have put it there.
    Injected,
    /// The server lacks an extension that is needed.
    NotOffered {
        /// The extension.
        what: &'static str,
        /// What it is needed for.
        why: &'static str,
    },
    /// The password would have crossed the network unencrypted.
    ClearText,
    /// The message is larger than the server takes.
    TooLarge {
        /// The message, in bytes.
        size: u64,
        /// The server's limit, in bytes.
        limit: u64,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reply) => write!(f, "the server answered {reply}"),
            Self::Unexpected(reply) => write!(f, "unexpected answer {reply}"),
            Self::NotSmtp { line } => write!(f, "the server does not speak SMTP, it sent {line:?}"),
            Self::LineTooLong => write!(
                f,
                "the server sent a line of more than {REPLY_LINE_BYTES_MAX} bytes"
            ),
            Self::ReplyTooLong => write!(
                f,
                "the server sent a reply of more than {REPLY_BYTES_MAX} bytes"
            ),
            Self::Closed => f.write_str("the server closed the connection"),
            Self::Injected => f.write_str("bytes arrived in clear behind the reply to STARTTLS"),
            Self::NotOffered { what, why } => {
                write!(f, "the server does not offer {what}, needed {why}")
            }
            Self::ClearText => {
                f.write_str("the connection is not encrypted, so the password was not sent")
            }
            Self::TooLarge { size, limit } => {
                write!(f, "the message has {size} bytes, the server takes {limit}")
            }
        }
    }
}
