//! How a record writes things down: numbers as varints (LEB128), what has several forms behind a
//! number for its form, in the order of the declarations.
//!
//! One trait for both directions, so that what is written is what is read.

use std::collections::HashMap;
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::disk::{File, WeakFile};

/// Something that a record holds.
pub(super) trait Wire: Sized {
    /// Writes it.
    fn put(&self, out: &mut Out);
    /// Reads it.
    ///
    /// # Errors
    /// There is something else.
    fn take(from: &mut In) -> Result<Self, Broken>;
}

/// What cannot be read: what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken(pub(super) &'static str);

/// What is being written.
#[derive(Debug)]
pub(super) struct Out {
    pub(super) bytes: Vec<u8>,
    /// Moments are counted from here.
    pub(super) base: Instant,
    /// The number of the last file that was given one.
    pub(super) files: u64,
}

impl Out {
    pub(super) fn new(base: Instant) -> Self {
        Self {
            bytes: Vec::new(),
            base,
            files: 0,
        }
    }
}

/// What is being read.
#[derive(Debug)]
pub(super) struct In {
    pub(super) bytes: Vec<u8>,
    pub(super) at: usize,
    pub(super) base: Instant,
    /// Files that were told of, by their numbers.
    pub(super) files: HashMap<u64, WeakFile>,
    /// How many there may be before those that nobody has open are looked for.
    files_max: usize,
}

/// Open files at which it is looked for the first time for those that were closed.
const FILES_MAX: usize = 64;

impl In {
    pub(super) fn new(bytes: Vec<u8>, base: Instant) -> Self {
        Self {
            bytes,
            at: 0,
            base,
            files: HashMap::new(),
            files_max: FILES_MAX,
        }
    }

    /// What was not read yet.
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    /// The next so many bytes.
    pub(super) fn bytes(&mut self, count: usize) -> Result<&[u8], Broken> {
        let end = self
            .at
            .checked_add(count)
            .filter(|end| *end <= self.bytes.len());
        let end = end.ok_or(Broken("more bytes"))?;
        let start = std::mem::replace(&mut self.at, end);
        Ok(&self.bytes[start..end])
    }

    fn byte(&mut self) -> Result<u8, Broken> {
        Ok(self.bytes(1)?[0])
    }

    /// The file of that number, or else this one, from now on.
    fn file(&mut self, number: u64, made: File) -> File {
        if let Some(file) = self.files.get(&number).and_then(WeakFile::upgrade) {
            return file;
        }
        if self.files.len() >= self.files_max {
            self.files.retain(|_, file| file.upgrade().is_some());
            self.files_max = FILES_MAX.max(2 * self.files.len());
        }
        made.set_number(number);
        self.files.insert(number, made.downgrade());
        made
    }
}

/// A type that is a struct: its fields, one after the other.
macro_rules! wire_struct {
    ($type:ty { $($field:ident),* $(,)? }) => {
        impl Wire for $type {
            fn put(&self, out: &mut Out) {
                $(self.$field.put(out);)*
            }

            fn take(from: &mut In) -> Result<Self, Broken> {
                Ok(Self { $($field: Wire::take(from)?),* })
            }
        }
    };
}

/// A type that is an enum: the number of the variant, then what it holds.
macro_rules! wire_enum {
    ($type:ident { $($tag:literal $variant:ident $(($($part:ident),*))?),* $(,)? }) => {
        impl Wire for $type {
            fn put(&self, out: &mut Out) {
                match self {
                    $($type::$variant $(($($part),*))? => {
                        out.bytes.push($tag);
                        $($($part.put(out);)*)?
                    })*
                }
            }

            fn take(from: &mut In) -> Result<Self, Broken> {
                Ok(match u8::take(from)? {
                    $($tag => {
                        $($(let $part = Wire::take(from)?;)*)?
                        $type::$variant $(($($part),*))?
                    })*
                    _ => return Err(Broken(concat!("a ", stringify!($type)))),
                })
            }
        }
    };
}

pub(super) use {wire_enum, wire_struct};

impl Wire for () {
    fn put(&self, _out: &mut Out) {}

    fn take(_from: &mut In) -> Result<Self, Broken> {
        Ok(())
    }
}

impl Wire for u8 {
    fn put(&self, out: &mut Out) {
        out.bytes.push(*self);
    }

    fn take(from: &mut In) -> Result<Self, Broken> {
        from.byte()
    }
}

impl Wire for bool {
    fn put(&self, out: &mut Out) {
        out.bytes.push(u8::from(*self));
    }

    fn take(from: &mut In) -> Result<Self, Broken> {
        match from.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Broken("yes or no")),
        }
    }
}

impl Wire for u64 {
    fn put(&self, out: &mut Out) {
        let mut rest = *self;
        while rest >= 0x80 {
            out.bytes.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        out.bytes.push(rest as u8);
    }

    fn take(from: &mut In) -> Result<Self, Broken> {
        let (mut value, mut shift) = (0_u64, 0);
        loop {
            let byte = from.byte()?;
            if shift > 63 {
                return Err(Broken("a number of 64 bits"));
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
            shift += 7;
        }
    }
}

/// Numbers that are written as one of 64 bits.
macro_rules! wire_number {
    ($($type:ty),*) => {$(
        impl Wire for $type {
            fn put(&self, out: &mut Out) {
                (*self as u64).put(out);
            }

            fn take(from: &mut In) -> Result<Self, Broken> {
                let value = u64::take(from)?;
                <$type>::try_from(value).map_err(|_| Broken("a smaller number"))
            }
        }
    )*};
}

wire_number!(u16, u32, usize);

impl Wire for i32 {
    fn put(&self, out: &mut Out) {
        self.cast_unsigned().put(out);
    }

    fn take(from: &mut In) -> Result<Self, Broken> {
        Ok(u32::take(from)?.cast_signed())
    }
}

impl Wire for u128 {
    fn put(&self, out: &mut Out) {
        out.bytes.extend_from_slice(&self.to_le_bytes());
    }

    fn take(from: &mut In) -> Result<Self, Broken> {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(from.bytes(16)?);
        Ok(u128::from_le_bytes(bytes))
    }
}

/// Bytes with their length before them.
pub(super) fn put_bytes(bytes: &[u8], out: &mut Out) {
    bytes.len().put(out);
    out.bytes.extend_from_slice(bytes);
}

/// The same, read.
pub(super) fn take_bytes(from: &mut In) -> Result<&[u8], Broken> {
    let count = usize::take(from)?;
    from.bytes(count)
}

/// What is kept as its bytes.
macro_rules! wire_bytes {
    ($($type:ty, $bytes:expr, $made:expr;)*) => {$(
        impl Wire for $type {
            fn put(&self, out: &mut Out) {
                let bytes: fn(&$type) -> &[u8] = $bytes;
                put_bytes(bytes(self), out);
            }

            fn take(from: &mut In) -> Result<Self, Broken> {
                let made: fn(&[u8]) -> Result<$type, Broken> = $made;
                made(take_bytes(from)?)
            }
        }
    )*};
}

wire_bytes! {
    Arc<[u8]>, |all| all, |bytes| Ok(bytes.into());
    OsString, |all| all.as_bytes(), |bytes| Ok(OsString::from_vec(bytes.to_vec()));
    PathBuf, |all| all.as_os_str().as_bytes(), |bytes| Ok(OsString::from_vec(bytes.to_vec()).into());
    String, |all| all.as_bytes(), |bytes| {
        String::from_utf8(bytes.to_vec()).map_err(|_| Broken("text in UTF-8"))
    };
}

/// Bytes that belong to the one who has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bytes(pub(super) Vec<u8>);

impl Wire for Bytes {
    fn put(&self, out: &mut Out) {
        put_bytes(&self.0, out);
    }

    fn take(from: &mut In) -> Result<Self, Broken> {
        Ok(Self(take_bytes(from)?.to_vec()))
    }
}

impl<T: Wire> Wire for Option<T> {
    fn put(&self, out: &mut Out) {
        self.is_some().put(out);
        if let Some(some) = self {
            some.put(out);
        }
    }

    fn take(from: &mut In) -> Result<Self, Broken> {
        Ok(match bool::take(from)? {
            true => Some(T::take(from)?),
            false => None,
        })
    }
}

impl<T: Wire, E: Wire> Wire for Result<T, E> {
    fn put(&self, out: &mut Out) {
        self.is_err().put(out);
        match self {
            Ok(value) => value.put(out),
            Err(error) => error.put(out),
        }
    }

    fn take(from: &mut In) -> Result<Self, Broken> {
        Ok(match bool::take(from)? {
            false => Ok(T::take(from)?),
            true => Err(E::take(from)?),
        })
    }
}

/// The most that is made room for before what is to fill it was read.
const ROOM_MAX: usize = 1024;

impl<T: Wire> Wire for Vec<T> {
    fn put(&self, out: &mut Out) {
        self.len().put(out);
        for one in self {
            one.put(out);
        }
    }

    fn take(from: &mut In) -> Result<Self, Broken> {
        let count = usize::take(from)?;
        let mut all = Vec::with_capacity(count.min(ROOM_MAX));
        for _ in 0..count {
            all.push(T::take(from)?);
        }
        Ok(all)
    }
}

impl<A: Wire, B: Wire> Wire for (A, B) {
    fn put(&self, out: &mut Out) {
        self.0.put(out);
        self.1.put(out);
    }

    fn take(from: &mut In) -> Result<Self, Broken> {
        Ok((A::take(from)?, B::take(from)?))
    }
}

impl Wire for Duration {
    fn put(&self, out: &mut Out) {
        self.as_secs().put(out);
        self.subsec_nanos().put(out);
    }

    fn take(from: &mut In) -> Result<Self, Broken> {
        let seconds = u64::take(from)?;
        let nanos = u32::take(from)?;
        match nanos < 1_000_000_000 {
            true => Ok(Duration::new(seconds, nanos)),
            false => Err(Broken("nanoseconds of a second")),
        }
    }
}

impl Wire for Instant {
    fn put(&self, out: &mut Out) {
        self.saturating_duration_since(out.base).put(out);
    }

    fn take(from: &mut In) -> Result<Self, Broken> {
        let since = Duration::take(from)?;
        from.base.checked_add(since).ok_or(Broken("a moment"))
    }
}

impl Wire for SystemTime {
    fn put(&self, out: &mut Out) {
        let since = self.duration_since(SystemTime::UNIX_EPOCH);
        since.map_err(|before| before.duration()).put(out);
    }

    fn take(from: &mut In) -> Result<Self, Broken> {
        let time = match Result::<Duration, Duration>::take(from)? {
            Ok(since) => SystemTime::UNIX_EPOCH.checked_add(since),
            Err(before) => SystemTime::UNIX_EPOCH.checked_sub(before),
        };
        time.ok_or(Broken("a time"))
    }
}

wire_enum!(IpAddr { 0 V4(address), 1 V6(address) });

impl Wire for std::net::Ipv4Addr {
    fn put(&self, out: &mut Out) {
        out.bytes.extend_from_slice(&self.octets());
    }

    fn take(from: &mut In) -> Result<Self, Broken> {
        let mut octets = [0; 4];
        octets.copy_from_slice(from.bytes(4)?);
        Ok(octets.into())
    }
}

impl Wire for std::net::Ipv6Addr {
    fn put(&self, out: &mut Out) {
        self.to_bits().put(out);
    }

    fn take(from: &mut In) -> Result<Self, Broken> {
        Ok(u128::take(from)?.into())
    }
}

impl Wire for SocketAddr {
    fn put(&self, out: &mut Out) {
        self.ip().put(out);
        self.port().put(out);
        if let SocketAddr::V6(address) = self {
            address.flowinfo().put(out);
            address.scope_id().put(out);
        }
    }

    fn take(from: &mut In) -> Result<Self, Broken> {
        let (ip, port) = <(IpAddr, u16)>::take(from)?;
        Ok(match ip {
            IpAddr::V4(_) => (ip, port).into(),
            IpAddr::V6(ip) => {
                let (flow, scope) = Wire::take(from)?;
                SocketAddrV6::new(ip, port, flow, scope).into()
            }
        })
    }
}

impl Wire for File {
    fn put(&self, out: &mut Out) {
        if self.number() == 0 {
            out.files += 1;
            self.set_number(out.files);
        }
        self.number().put(out);
        self.disk().put(out);
        self.is_slow().put(out);
    }

    fn take(from: &mut In) -> Result<Self, Broken> {
        let (number, (disk, is_slow)) = Wire::take(from)?;
        let made = File::new(crate::disk::Handle::Simulated(number), disk, is_slow);
        Ok(from.file(number, made))
    }
}

#[cfg(test)]
mod tests;
