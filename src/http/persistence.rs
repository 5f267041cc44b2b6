//! Whether a connection stays open after a response, and what the response says of it (RFC 9112
//! section 9.3).

use super::Version;

/// What the client is told about its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// It stays, as it does in HTTP/1.1 unless something is said.
    Stays,
    /// It stays, and an HTTP/1.0 client must be told.
    StaysTold,
    /// It ends with this response.
    Ends,
}

impl Persistence {
    /// For a client that speaks `version`, whose connection stays or not.
    #[must_use]
    pub fn new(stays: bool, version: Version) -> Self {
        match (stays, version) {
            (false, _) => Persistence::Ends,
            (true, Version::Http10) => Persistence::StaysTold,
            (true, Version::Http11) => Persistence::Stays,
        }
    }

    /// The header line that says so, with its line end; empty where nothing needs to be said.
    #[must_use]
    pub fn line(self) -> &'static [u8] {
        match self {
            Persistence::Stays => b"",
            Persistence::StaysTold => b"Connection: keep-alive\r\n",
            Persistence::Ends => b"Connection: close\r\n",
        }
    }
}
