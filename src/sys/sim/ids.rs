//! What names the things of a simulation: actors, ends of connections, owners, and the edges that
//! are told of them.

/// Which actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ActorId(pub(super) usize);

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct End(pub(super) u32);

impl End {
    /// The other one.
    pub(super) fn peer(self) -> Self {
        Self(self.0 ^ 1)
    }

    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Who may be told an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ear {
    Stream(End),
    Listener(usize),
    Datagram(usize),
}

/// Whom a socket belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The process that is tested.
    Process,
    /// Nobody yet: it waits in a listener's queue.
    Queue,
    Actor(ActorId),
}

/// What changed, or is possible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Edges {
    pub(super) read: bool,
    pub(super) write: bool,
    pub(super) closed: bool,
}

impl Edges {
    pub(super) const READ: Self = Self {
        read: true,
        write: false,
        closed: false,
    };
    pub(super) const WRITE: Self = Self {
        read: false,
        write: true,
        closed: false,
    };
    pub(super) const END: Self = Self {
        read: true,
        write: false,
        closed: true,
    };
    pub(super) const ALL: Self = Self {
        read: true,
        write: true,
        closed: true,
    };

    pub(super) fn add(&mut self, more: Self) {
        self.read |= more.read;
        self.write |= more.write;
        self.closed |= more.closed;
    }

    pub(super) fn is_empty(self) -> bool {
        self == Self::default()
    }
}
