//! How a session ends: in good order or not, and what it was waiting for. Each way is one line of
//! the log and one counter.

use std::fmt;
use std::io;

/// Why a session ends in good order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// Both sides are done.
    #[default]
    Done,
    /// A deadline passed; where the peer waits for an answer, it was told.
    TimedOut(Phase),
    /// The peer broke the protocol or is beyond a limit, and was told.
    Refused,
}

/// Why a session was dropped. An answer such as 400 or 502 is no error: it is ordinary output
/// followed by [`Io::close`](crate::service::Io::close).
#[derive(Debug)]
pub enum Error {
    /// A deadline passed.
    TimedOut(Phase),
    /// The peer broke the protocol; the text says what was expected and what came.
    Protocol(String),
    /// The peer may not do that; the text says what.
    Refused(String),
    /// The connection broke.
    Reset(io::ErrorKind),
    /// A file could not be read or written; the text names it.
    Disk(String, io::Error),
    /// A file was changed while it was sent: what the peer has is short, and shows it.
    Changed,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::TimedOut(phase) => write!(f, "timed out: {}", phase.name()),
            Error::Protocol(text) => write!(f, "protocol: {text}"),
            Error::Refused(text) => write!(f, "refused: {text}"),
            Error::Reset(kind) => write!(f, "connection broke: {kind}"),
            Error::Disk(what, error) => write!(f, "{what}: {error}"),
            Error::Changed => f.write_str("the file changed while it was sent, so it ends short"),
        }
    }
}

impl std::error::Error for Error {}

/// What a session was waiting for when its deadline passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The next request or message of an open connection.
    Idle,
    /// The rest of a head.
    Head,
    /// More of a body.
    Body,
    /// The peer to take what was sent.
    Write,
    /// The answer to a challenge or a login, or the rest of a TLS handshake.
    Handshake,
    /// A connection to an origin.
    Connect,
    /// An origin's answer.
    Upstream,
    /// The peer's end of a closed connection.
    Linger,
    /// The end of the process.
    Drain,
}

impl Phase {
    /// All of them, in the order of their numbers.
    pub const ALL: [Phase; 9] = [
        Phase::Idle,
        Phase::Head,
        Phase::Body,
        Phase::Write,
        Phase::Handshake,
        Phase::Connect,
        Phase::Upstream,
        Phase::Linger,
        Phase::Drain,
    ];

    /// Its name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Idle => "idle",
            Phase::Head => "head",
            Phase::Body => "body",
            Phase::Write => "write",
            Phase::Handshake => "handshake",
            Phase::Connect => "connect",
            Phase::Upstream => "upstream",
            Phase::Linger => "linger",
            Phase::Drain => "drain",
        }
    }
}
