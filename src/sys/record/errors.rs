//! Errors of the kernel in a record: their number, or else their kind and their words.

use std::io;

use super::wire::{Broken, In, Out, Wire};

/// Every kind of error that std can make without a number of the system's; the place of one is its
/// number here.
const KINDS: &[io::ErrorKind] = &[
    io::ErrorKind::Other,
    io::ErrorKind::NotFound,
    io::ErrorKind::PermissionDenied,
    io::ErrorKind::ConnectionRefused,
    io::ErrorKind::ConnectionReset,
    io::ErrorKind::HostUnreachable,
    io::ErrorKind::NetworkUnreachable,
    io::ErrorKind::ConnectionAborted,
    io::ErrorKind::NotConnected,
    io::ErrorKind::AddrInUse,
    io::ErrorKind::AddrNotAvailable,
    io::ErrorKind::NetworkDown,
    io::ErrorKind::BrokenPipe,
    io::ErrorKind::AlreadyExists,
    io::ErrorKind::WouldBlock,
    io::ErrorKind::NotADirectory,
    io::ErrorKind::IsADirectory,
    io::ErrorKind::DirectoryNotEmpty,
    io::ErrorKind::ReadOnlyFilesystem,
    io::ErrorKind::StaleNetworkFileHandle,
    io::ErrorKind::InvalidInput,
    io::ErrorKind::InvalidData,
    io::ErrorKind::TimedOut,
    io::ErrorKind::WriteZero,
    io::ErrorKind::StorageFull,
    io::ErrorKind::NotSeekable,
    io::ErrorKind::QuotaExceeded,
    io::ErrorKind::FileTooLarge,
    io::ErrorKind::ResourceBusy,
    io::ErrorKind::ExecutableFileBusy,
    io::ErrorKind::Deadlock,
    io::ErrorKind::CrossesDevices,
    io::ErrorKind::TooManyLinks,
    io::ErrorKind::InvalidFilename,
    io::ErrorKind::ArgumentListTooLong,
    io::ErrorKind::Interrupted,
    io::ErrorKind::Unsupported,
    io::ErrorKind::UnexpectedEof,
    io::ErrorKind::OutOfMemory,
];

impl Wire for io::ErrorKind {
    fn put(&self, out: &mut Out) {
        let place = KINDS.iter().position(|kind| kind == self);
        out.bytes.push(place.unwrap_or(0) as u8);
    }

    fn take(from: &mut In) -> Result<Self, Broken> {
        let place = usize::from(u8::take(from)?);
        KINDS.get(place).copied().ok_or(Broken("a kind of error"))
    }
}

impl Wire for io::Error {
    fn put(&self, out: &mut Out) {
        let code = self.raw_os_error();
        code.put(out);
        if code.is_none() {
            self.kind().put(out);
            self.get_ref().map(ToString::to_string).put(out);
        }
    }

    fn take(from: &mut In) -> Result<Self, Broken> {
        let code: Option<i32> = Wire::take(from)?;
        if let Some(code) = code {
            return Ok(io::Error::from_raw_os_error(code));
        }
        let kind = io::ErrorKind::take(from)?;
        let text: Option<String> = Wire::take(from)?;
        Ok(match text {
            Some(text) => io::Error::new(kind, text),
            None => kind.into(),
        })
    }
}
