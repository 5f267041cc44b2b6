//! Who waits: the names by which the loop knows whom to wake.

/// Who waits for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Waiter {
    /// A session, for its protocol.
    Session(Id),
    /// A session, for bytes of a file that are to be sent.
    Sending(Id),
    /// A service: it is told at the end of a turn.
    Service,
    /// The files that names depend on.
    NameFiles,
    /// A store of responses, for a task of its own.
    Store {
        /// Which store.
        store: u32,
        /// What for, as the store numbers its tasks.
        task: u32,
    },
}

/// Which session: an index that is used again, and the generation that tells one user from the
/// next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// Index into the slab of sessions.
    pub index: u32,
    /// Counts the sessions of the process.
    pub generation: u32,
}
