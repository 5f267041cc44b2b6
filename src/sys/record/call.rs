//! What is asked of the kernel: one line for each call of [`crate::sys::Sys`] and
//! [`crate::disk::Disk`], with what tells one from another. Sockets and files are numbers of the
//! record's; which pipe it is shows in what was moved into it before; what is sent or written is told by its length here, and by a hash behind the answer.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::wire::{Broken, In, Out, Wire};
use crate::sys::Bind;

macro_rules! calls {
    ($($tag:literal $name:ident { $($field:ident: $type:ty),* }),* $(,)?) => {
        /// One call. What is told of it shows in errors as it stands here.
        #[derive(Clone, Debug, PartialEq)]
        pub(super) enum Call {
            $($name { $($field: $type),* }),*
        }

        impl Wire for Call {
            fn put(&self, out: &mut Out) {
                match self {
                    $(Call::$name { $($field),* } => {
                        out.bytes.push($tag);
                        $($field.put(out);)*
                    })*
                }
            }

            fn take(from: &mut In) -> Result<Self, Broken> {
                Ok(match u8::take(from)? {
                    $($tag => Call::$name { $($field: Wire::take(from)?),* },)*
                    _ => return Err(Broken("a call")),
                })
            }
        }
    };
}

calls! {
    0 Poll { timeout: Option<Duration> },
    1 Now {},
    2 Wall {},
    3 Signal {},
    4 Recv { stream: u32, room: usize },
    5 Peek { stream: u32, room: usize },
    6 Send { stream: u32, bytes: usize, more: bool },
    7 SendFile { stream: u32, file: u64, offset: u64, len: u64 },
    8 Accept { listener: u32 },
    9 Register { stream: u32, token: u64 },
    10 Shutdown { stream: u32 },
    11 Close { stream: u32 },
    12 Abort { stream: u32 },
    13 Shed { listener: u32 },
    14 Listen { bind: Bind, backlog: i32, client_first: bool, token: u64 },
    15 Unlisten { listener: u32 },
    16 Connect { to: SocketAddr, token: u64 },
    17 Connected { stream: u32 },
    18 Pipe {},
    19 SpliceIn { stream: u32, bytes_max: usize },
    20 SpliceOut { stream: u32, bytes: usize },
    21 ClosePipe {},
    22 Unsent { stream: u32 },
    23 HoldAtMost { stream: u32, bytes: u32 },
    24 BindDatagram { bind: SocketAddr, token: u64 },
    25 ConnectDatagram { to: SocketAddr, token: u64 },
    26 TuneDatagram { socket: u32, recv_bytes: usize, send_bytes: usize, runs: bool },
    27 DatagramMemory { socket: u32 },
    28 RecvBatch { socket: u32 },
    29 SendBatch { socket: u32, replies: usize, hash: u64 },
    30 CloseDatagram { socket: u32 },
    31 Start { id: u64, job: String, hash: u64 },
    32 Finished {},
    33 Spawn { id: u64, command: Vec<String>, hash: u64 },
    34 Kill { id: u64 },
    35 Exited {},
    36 Tell { news: String },
    37 Watchdog {},
    38 LogDropped {},
    39 Authorities {},
    40 Surroundings {},
    41 GivenSockets {},
    42 CloseGiven { number: i32 },
    43 TlsBegin { server: bool },
    44 TlsFeed { bytes: usize },
    45 TlsRecv { stream: u32 },
    46 TlsOpen { stream: u32 },
    47 TlsPlain { room: usize },
    48 TlsSeal { bytes: usize },
    49 TlsEnd {},
    50 TlsSend { stream: u32 },
    51 Waiting { stream: u32 },
    64 OpenFolder { path: PathBuf },
    65 Open { root: u64, path: PathBuf },
    66 OpenNow { root: u64, path: PathBuf },
    67 Metadata { file: u64 },
    68 MetadataNow { file: u64 },
    69 ReadAt { file: u64, offset: u64, room: usize },
    70 ReadNow { file: u64, offset: u64, room: usize },
    71 IsInMemory { file: u64, offset: u64, len: u64 },
    72 Entries { folder: u64 },
    73 Names { folder: u64, from: u64 },
    74 Look { root: u64, path: PathBuf },
    75 LookNow { root: u64, path: PathBuf },
    76 OpenConfigured { path: PathBuf },
    77 OpenLog { path: PathBuf },
    78 StandardError {},
    79 Append { file: u64, bytes: usize },
    80 Create { root: u64, path: PathBuf },
    81 OpenToWrite { root: u64, path: PathBuf },
    82 CreateFolder { root: u64, name: PathBuf },
    83 Enter { root: u64, path: PathBuf },
    84 LockAlone { folder: u64 },
    85 LockShared { folder: u64 },
    86 WriteAt { file: u64, offset: u64, bytes: usize },
    87 Rename { root: u64, from: PathBuf, folder: u64, to: PathBuf, replace: bool },
    88 Remove { root: u64, path: PathBuf },
    89 WillRead { file: u64, offset: u64, len: u64 },
    90 Version { file: u64 },
    91 VersionNow { file: u64 },
    92 Contents { file: u64, small_bytes_max: u64 },
    93 ContentsNow { file: u64, small_bytes_max: u64 },
    94 Keeps { file: u64 },
    95 KeepsNow { file: u64 },
    96 Sync { file: u64 },
    97 Reserve { file: u64, len: u64 },
    98 Trim { file: u64 },
    99 WriteBack { file: u64, offset: u64, len: u64 },
    100 FreeBytes { root: u64 },
    101 Entropy { room: usize },
    102 WritePiped { file: u64, offset: u64, bytes: usize },
    103 Warm { file: u64, offset: u64, len: u64 },
}
