//! Pipes, through which the kernel moves bytes that the program does not look at.

use std::os::fd::OwnedFd;

/// A pipe: whoever has it may fill and empty it. A session has room for one, and most have none: so
/// it is small.
#[derive(Debug)]
pub struct Pipe(Box<Ends>);

/// What stands behind a [`Pipe`].
#[derive(Debug)]
pub enum Ends {
    /// One of the operating system (`man 7 pipe`).
    Kernel {
        /// The end that is read from.
        output: OwnedFd,
        /// The end that is written to.
        input: OwnedFd,
    },
    /// A number of the simulated kernel.
    Simulated(usize),
}

impl Pipe {
    /// A pipe with these ends.
    pub fn new(ends: Ends) -> Self {
        Self(Box::new(ends))
    }

    /// What stands behind it.
    pub fn ends(&self) -> &Ends {
        &self.0
    }
}

/// Bytes in a pipe.
#[derive(Debug)]
pub struct Piped {
    /// Where they are; nothing else is in it.
    pub pipe: Pipe,
    /// How many.
    pub bytes: usize,
}

/// A way into a connection for bytes that the protocol does not look at: from the socket to a pipe,
/// and from there to where the protocol has them moved.
#[derive(Debug, Default)]
pub struct Inlet {
    /// So many of the bytes that come next may come by it.
    pub wanted: u64,
    /// What came by it. Nothing more is received before that is taken.
    pub came: Option<Piped>,
    /// What comes next stays in the socket for now.
    pub held: bool,
}
