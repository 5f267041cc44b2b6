//! A socket that the process was given when it was started (`man 3 sd_listen_fds`), as everybody
//! but the kernel sees it.

use std::fmt;

use super::Bind;

/// What is known of a socket that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenSocket {
    /// The number of its descriptor.
    pub number: i32,
    /// Its name in `LISTEN_FDNAMES`, if it has one.
    pub name: Option<String>,
    /// It was opened by this process at its start, and not given by another one.
    pub is_own: bool,
    /// Connections come to it, or else datagrams.
    pub is_stream: bool,
    /// Where it is bound.
    pub bound: Bind,
}

impl fmt::Display for GivenSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = if self.is_own { "own" } else { "given" };
        write!(f, "the {whose} socket {}", self.number)?;
        if let Some(name) = &self.name {
            write!(f, " {name:?}")?;
        }
        match (self.is_stream, &self.bound) {
            (true, Bind::Inet(address)) => write!(f, " (TCP {address})"),
            (false, bound) => write!(f, " (UDP {bound})"),
            (true, bound) => write!(f, " ({bound})"),
        }
    }
}
