//! How the answers of the kernel are written, and what is answered in their place once nothing more
//! can be ([`Answer::nothing`]).

use std::io;
use std::time::{Instant, SystemTime};

use super::wire::{Broken, Bytes, In, Out, Wire, wire_enum, wire_struct};
use crate::disk::{Contents, DiskId, Entry, File, FileKind, Metadata, Version};
use crate::hooks::{End, HookId};
use crate::jobs::JobId;
use crate::pipe::{self, Pipe};
use crate::service::{Ends, Peer};
use crate::surroundings::{self, Asked};
use crate::sys::secure::Facts;
use crate::sys::{
    Bind, DatagramMemory, Event, GivenSocket, Received, SecureError, Signal, Transfer, Unsent,
};

/// An answer that has a form for the time after the last one that is known, in which the loop comes
/// to the end of its turn.
pub(super) trait Answer: Wire {
    /// Nothing is there, nothing can be done; `last`: the last moments that were told.
    fn nothing(last: Clocks) -> Self;
}

/// Both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks {
    pub(super) now: Instant,
    pub(super) wall: SystemTime,
}

/// Why nothing can be done.
pub(super) const OVER: &str = "the replay is over";

impl Answer for () {
    fn nothing(_last: Clocks) -> Self {}
}

impl Answer for bool {
    fn nothing(_last: Clocks) -> Self {
        false
    }
}

impl Answer for u64 {
    fn nothing(_last: Clocks) -> Self {
        0
    }
}

impl Answer for usize {
    fn nothing(_last: Clocks) -> Self {
        0
    }
}

/// A pipe is itself, and in a replay nothing is in it.
impl Wire for Pipe {
    fn put(&self, _out: &mut Out) {}

    fn take(_from: &mut In) -> Result<Self, Broken> {
        Ok(Pipe::new(pipe::Ends::Simulated(0)))
    }
}

impl<T: Wire> Answer for Option<T> {
    fn nothing(_last: Clocks) -> Self {
        None
    }
}

impl<T: Wire> Answer for Vec<T> {
    fn nothing(_last: Clocks) -> Self {
        Vec::new()
    }
}

impl<T: Wire> Answer for io::Result<T> {
    fn nothing(_last: Clocks) -> Self {
        Err(io::Error::other(OVER))
    }
}

impl<T: Wire> Answer for Result<T, SecureError> {
    fn nothing(_last: Clocks) -> Self {
        Err(SecureError {
            text: OVER.to_owned(),
            is_certificate: false,
        })
    }
}

impl<T: Answer> Answer for (T, Facts) {
    fn nothing(last: Clocks) -> Self {
        (T::nothing(last), Facts::default())
    }
}

impl Answer for Instant {
    fn nothing(last: Clocks) -> Self {
        last.now
    }
}

impl Answer for SystemTime {
    fn nothing(last: Clocks) -> Self {
        last.wall
    }
}

impl Answer for Unsent {
    fn nothing(_last: Clocks) -> Self {
        Unsent::default()
    }
}

impl Answer for Transfer {
    fn nothing(last: Clocks) -> Self {
        Transfer {
            count: Answer::nothing(last),
            is_full: false,
            left: 0,
        }
    }
}

wire_struct!(Unsent { replies, bytes });
wire_struct!(Transfer {
    count,
    is_full,
    left
});
wire_struct!(Facts {
    is_handshaking,
    has_output
});
wire_struct!(SecureError {
    text,
    is_certificate
});
wire_struct!(Ends { local, peer });
wire_struct!(Received {
    from,
    len,
    segment_bytes,
    is_cut
});
wire_struct!(DatagramMemory {
    recv_buffer_bytes,
    send_buffer_bytes,
    drops
});
wire_struct!(GivenSocket {
    number,
    name,
    is_stream,
    bound,
    is_own
});
wire_struct!(Version {
    len,
    modified,
    changed,
    sample
});
wire_struct!(Metadata {
    kind,
    len,
    modified,
    changed,
    identity,
    executable
});
wire_struct!(Entry { name, metadata });
wire_enum!(Bind { 0 Inet(address), 1 Unix(path) });
wire_enum!(Peer { 0 Inet(address), 1 Unix });
wire_enum!(Signal { 0 Terminate, 1 Reload, 2 Reopen });
wire_enum!(FileKind { 0 Regular, 1 Folder, 2 Other });
wire_enum!(Contents { 0 Small(bytes), 1 Large(version) });
wire_enum!(End { 0 Exited(code), 1 Signalled(signal), 2 NotStarted(error) });
wire_enum!(Asked { 0 File(path), 1 Private(path), 2 Variable(name), 3 Interface(name), 4 Random, 5 Said(who) });

/// Types that are a number with a name.
macro_rules! wire_newtype {
    ($($type:ident),*) => {$(
        impl Wire for $type {
            fn put(&self, out: &mut Out) {
                self.0.put(out);
            }

            fn take(from: &mut In) -> Result<Self, Broken> {
                Wire::take(from).map($type)
            }
        }
    )*};
}

wire_newtype!(DiskId, JobId, HookId);

impl Wire for surroundings::Answer {
    fn put(&self, out: &mut Out) {
        let plain: Option<Result<Bytes, (Option<i32>, String)>> = match self {
            Self::Bytes(bytes) => Some(Ok(Bytes(bytes.clone()))),
            Self::None => None,
            Self::Failed(code, why) => Some(Err((*code, why.clone()))),
        };
        plain.put(out);
    }

    fn take(from: &mut In) -> Result<Self, Broken> {
        let plain: Option<Result<Bytes, (Option<i32>, String)>> = Wire::take(from)?;
        Ok(match plain {
            Some(Ok(Bytes(bytes))) => Self::Bytes(bytes),
            None => Self::None,
            Some(Err((code, why))) => Self::Failed(code, why),
        })
    }
}

impl Wire for surroundings::Kept {
    fn put(&self, out: &mut Out) {
        self.len().put(out);
        for (asked, answer) in self {
            asked.put(out);
            answer.put(out);
        }
    }

    fn take(from: &mut In) -> Result<Self, Broken> {
        Ok(Vec::<(Asked, surroundings::Answer)>::take(from)?
            .into_iter()
            .collect())
    }
}

impl Answer for surroundings::Kept {
    fn nothing(_last: Clocks) -> Self {
        Self::new()
    }
}

const READABLE: u8 = 1;
const WRITABLE: u8 = 2;
const READ_CLOSED: u8 = 4;

impl Wire for Event {
    fn put(&self, out: &mut Out) {
        self.token.put(out);
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        out.bytes.push(
            flag(self.readable, READABLE)
                | flag(self.writable, WRITABLE)
                | flag(self.read_closed, READ_CLOSED),
        );
    }

    fn take(from: &mut In) -> Result<Self, Broken> {
        let (token, flags) = <(u64, u8)>::take(from)?;
        Ok(Self {
            token,
            readable: flags & READABLE != 0,
            writable: flags & WRITABLE != 0,
            read_closed: flags & READ_CLOSED != 0,
        })
    }
}

/// How many bytes an answer says that a buffer holds.
pub(super) trait Counted: Answer {
    fn count(&self) -> usize;
}

impl Counted for io::Result<usize> {
    fn count(&self) -> usize {
        *self.as_ref().unwrap_or(&0)
    }
}

impl Counted for Option<io::Result<usize>> {
    fn count(&self) -> usize {
        self.as_ref().map_or(0, Counted::count)
    }
}

impl Counted for (io::Result<usize>, Facts) {
    fn count(&self) -> usize {
        self.0.count()
    }
}

/// What else is asked of a file.
pub(super) type Found = io::Result<(File, Metadata)>;
