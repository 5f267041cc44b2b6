//! What may go wrong, how often, and how often it did.
//!
//! A seed does not get a little of everything but a random subset, each fault with a rate of its
//! own (swarm testing: Groce and others, 2012): some bugs show only while most of the world
//! behaves. Each fault counts its hits, so that a sweep can tell that a fault which it believes to
//! test has never happened.

use super::rng::Rng;

/// One thing that may go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A read gets less than is there; an edge for the rest follows.
    ShortRead,
    /// A write takes less than there is room for; an edge follows.
    ShortWrite,
    /// A call would block although it need not; an edge follows.
    SpuriousWouldBlock,
    /// Bytes arrive between the poll and the read: the edge for them finds nothing.
    EarlyArrival,
    /// A call is interrupted by a signal (`EINTR`).
    Interrupted,
    /// So is the poll.
    PollInterrupted,
    /// An event is told late.
    DelayedEvent,
    /// Readable and writable are told apart, and nothing but what changed is told.
    SplitEvent,
    /// An event although nothing changed.
    SpuriousEvent,
    /// An event for a socket that was closed.
    StaleEvent,
    /// A connection breaks.
    Reset,
    /// `accept` is out of descriptors (`EMFILE`).
    AcceptOutOfDescriptors,
    /// Nor does giving up the spare one help (`ENFILE`).
    ShedFails,
    /// `accept` is out of memory (`ENOBUFS`).
    AcceptOutOfMemory,
    /// The client was gone before it was accepted (`ECONNABORTED`).
    AcceptAborted,
    /// A listening socket is closed by an administrator: from now on `accept` fails (`EINVAL`).
    ListenerBreaks,
    /// So is a datagram socket, which is told once (`ECONNABORTED`); it has no address any more.
    DatagramSocketKilled,
    /// Nothing may be received from a datagram socket from now on (`EPERM`).
    DatagramSocketBreaks,
    /// The address of one that broke is not to be had again yet (`EADDRINUSE`).
    ReopenFails,
    /// A socket cannot be registered (`ENOMEM`).
    RegisterFails,
    /// A connection to an origin is refused at once, by the call itself.
    ConnectFails,
    /// It is refused by the other side.
    ConnectRefused,
    /// It is neither made nor refused.
    ConnectHangs,
    /// It takes seconds.
    ConnectSlow,
    /// A datagram is lost on its way.
    DatagramLost,
    /// It arrives twice.
    DatagramDuplicated,
    /// It is overtaken by others.
    DatagramReordered,
    /// Those of one source that wait are received as one run.
    DatagramsJoined,
    /// The socket does not take one now.
    DatagramSendBlocked,
    /// The socket reports that an earlier one found nobody (ICMP).
    DatagramRefused,
    /// A name server answers what was not asked.
    DnsLies,
    /// A name server takes its time.
    DnsSlow,
    /// The disk is full.
    DiskFull,
    /// A write to a file takes less than was given.
    DiskShortWrite,
    /// A read from a file gives less than there is.
    DiskShortRead,
    /// A file cannot be opened: no descriptors.
    DiskOpenFails,
    /// A file cannot be made.
    DiskCreateFails,
    /// A file cannot be given another name.
    DiskRenameFails,
    /// Another program writes a file anew under its inode, so that those who have it open see the
    /// change.
    FileRewritten,
    /// Another program appends to a file, or moves it away and begins a new one, while it is sent.
    FileGrown,
    /// What is asked for is not in memory: only a job can answer.
    DiskCold,
    /// A job takes seconds.
    JobSlow,
    /// A job fails.
    JobFails,
    /// The process dies in the middle of an operation on the disk.
    Crash,
    /// It dies in the middle of a write: a part of it is on the disk.
    TornWrite,
    /// The power fails in the middle of an operation on the disk: what was not synced is there in
    /// part.
    PowerLoss,
    /// There is no pipe to be had (`EMFILE`).
    PipeFails,
    /// A name server's answer does not fit into a datagram.
    DnsTruncates,
}

impl Fault {
    /// Its name on the command line: `short-read`.
    pub fn name(self) -> String {
        crate::sys::kebab(&format!("{self:?}"))
    }

    /// All of them, in the order of their numbers.
    pub const ALL: [Fault; 48] = [
        Fault::ShortRead,
        Fault::ShortWrite,
        Fault::SpuriousWouldBlock,
        Fault::EarlyArrival,
        Fault::Interrupted,
        Fault::PollInterrupted,
        Fault::DelayedEvent,
        Fault::SplitEvent,
        Fault::SpuriousEvent,
        Fault::StaleEvent,
        Fault::Reset,
        Fault::AcceptOutOfDescriptors,
        Fault::ShedFails,
        Fault::AcceptOutOfMemory,
        Fault::AcceptAborted,
        Fault::ListenerBreaks,
        Fault::DatagramSocketKilled,
        Fault::DatagramSocketBreaks,
        Fault::ReopenFails,
        Fault::RegisterFails,
        Fault::ConnectFails,
        Fault::ConnectRefused,
        Fault::ConnectHangs,
        Fault::ConnectSlow,
        Fault::DatagramLost,
        Fault::DatagramDuplicated,
        Fault::DatagramReordered,
        Fault::DatagramsJoined,
        Fault::DatagramSendBlocked,
        Fault::DatagramRefused,
        Fault::DnsLies,
        Fault::DnsSlow,
        Fault::DiskFull,
        Fault::DiskShortWrite,
        Fault::DiskShortRead,
        Fault::DiskOpenFails,
        Fault::DiskCreateFails,
        Fault::DiskRenameFails,
        Fault::FileRewritten,
        Fault::FileGrown,
        Fault::DiskCold,
        Fault::JobSlow,
        Fault::JobFails,
        Fault::Crash,
        Fault::TornWrite,
        Fault::PowerLoss,
        Fault::PipeFails,
        Fault::DnsTruncates,
    ];

    /// The highest rate that a seed may draw, in 1,000 of the occasions. What ends a connection or
    /// a process is rarer than what merely annoys it, or nothing would ever come to an end in good
    /// order.
    fn permille_max(self) -> usize {
        match self {
            Fault::TornWrite | Fault::DiskFull => 100,
            Fault::DatagramRefused => 60,
            Fault::ListenerBreaks | Fault::DatagramSocketKilled | Fault::DatagramSocketBreaks => 20,
            Fault::Crash => 200,
            Fault::AcceptOutOfDescriptors
            | Fault::ShedFails
            | Fault::AcceptOutOfMemory
            | Fault::AcceptAborted
            | Fault::RegisterFails => 200,
            Fault::PollInterrupted | Fault::SpuriousEvent | Fault::StaleEvent => 200,
            Fault::Interrupted | Fault::SpuriousWouldBlock | Fault::DiskRenameFails => 300,
            Fault::ConnectHangs | Fault::ConnectFails => 300,
            _ => 500,
        }
    }
}

/// The faults of one simulation: which may happen, how often, and how often they did.
#[derive(Clone, Debug)]
pub struct Faults {
    /// In 1,000 occasions; 0 for a fault that is off.
    permille: [u32; Fault::ALL.len()],
    hits: [u64; Fault::ALL.len()],
}

impl Faults {
    /// A kernel that behaves.
    pub fn none() -> Self {
        Self {
            permille: [0; Fault::ALL.len()],
            hits: [0; Fault::ALL.len()],
        }
    }

    /// A random subset: every fault has the same chance to be in it, and a rate of its own if it
    /// is. The power does not fail, answers about names fit, and datagrams come one by one: who wants
    /// that [enables](Faults::enable) it, with numbers of their own.
    pub fn swarm(rng: &mut Rng) -> Self {
        let mut faults = Self::none();
        let share = *rng.pick(&[0, 100, 300, 300, 600]);
        let has_its_own = |fault: &Fault| {
            use Fault::{DatagramsJoined, DnsTruncates, PowerLoss};
            matches!(fault, PowerLoss | DnsTruncates | DatagramsJoined)
        };
        for fault in Fault::ALL.into_iter().filter(|fault| !has_its_own(fault)) {
            if rng.chance(share) {
                let most = fault.permille_max();
                faults.enable(fault, rng.between(most / 20, most) as u32);
            }
        }
        faults
    }

    /// Lets a fault happen in `permille` of 1,000 occasions; 0 turns it off.
    pub fn enable(&mut self, fault: Fault, permille: u32) {
        self.permille[fault as usize] = permille;
    }

    /// Whether it may happen.
    pub fn is_enabled(&self, fault: Fault) -> bool {
        self.permille[fault as usize] > 0
    }

    /// How often it happened.
    pub fn hits(&self, fault: Fault) -> u64 {
        self.hits[fault as usize]
    }

    /// Whether it happens now. Nothing is drawn for a fault that is off.
    pub(super) fn strikes(&mut self, fault: Fault, rng: &mut Rng) -> bool {
        let permille = self.permille[fault as usize];
        let strikes = permille > 0 && rng.chance(permille);
        self.hits[fault as usize] += u64::from(strikes);
        strikes
    }
}
