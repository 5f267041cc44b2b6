//! The zip format: what stands before, behind and after the files, and what has to be remembered of
//! them.
//!
//! PKWARE APPNOTE.TXT 6.3.10, sections 4.3 (order and structures), 4.4 (fields), 4.5.3 (ZIP64),
//! appendix D (UTF-8).
//!
//! ```text
//! local header  bytes  data descriptor   …   central directory   [ZIP64 end, its locator]  end
//! ```
//!
//! Rules:
//! 1. Nothing is compressed. The sum of a file is known when it was read, so it stands behind the
//!    file, in a data descriptor.
//! 2. ZIP64 is used where a number needs it, and nowhere else: there are readers without it.
//! 3. A name that is UTF-8 says so. Of another one the bytes are as they are.
//! 4. The directory is all that is remembered: about a hundred bytes and the name for each entry.

use super::Entry;
use crate::http::date::put_iso;

/// What stands in a field of 4 or 2 bytes whose number is in the ZIP64 field.
const SEE_ZIP64: u32 = u32::MAX;
const SEE_ZIP64_SHORT: u16 = u16::MAX;

/// The version of the format that a reader needs: for folders and data descriptors, and for ZIP64
/// (section 4.4.3.2).
const VERSION: u16 = 20;
const VERSION_ZIP64: u16 = 45;
/// The upper byte of "made by": the modes are those of Unix (section 4.4.2).
const MADE_BY_UNIX: u16 = 3 << 8;

/// Flags (section 4.4.4): sum and sizes stand behind the file; the name is UTF-8.
const DESCRIPTOR_FLAG: u16 = 1 << 3;
const UTF_8_FLAG: u16 = 1 << 11;

/// Extra fields (section 4.5.2): ZIP64, and the time in seconds, as Info-ZIP has it.
const ZIP64_FIELD: u16 = 1;
const TIME_FIELD: u16 = 0x5455;

/// An archive being written.
#[derive(Debug, Default)]
pub(super) struct Zip {
    /// Bytes written so far.
    offset: u64,
    entries: u64,
    directory: Vec<u8>,
}

/// A file whose bytes are being written.
#[derive(Debug)]
pub(super) struct Open {
    entry: Entry,
    offset: u64,
    sum: crc32fast::Hasher,
    written: u64,
}

impl Zip {
    /// Bytes of the directory, which is written at the end.
    pub(super) fn bytes_held(&self) -> usize {
        self.directory.capacity()
    }

    /// Appends what stands before the bytes of a file; they follow by [`Zip::data`], and then
    /// [`Zip::end_file`].
    pub(super) fn begin_file(&mut self, out: &mut Vec<u8>, entry: Entry) -> Open {
        let open = Open {
            offset: self.offset,
            sum: crc32fast::Hasher::new(),
            written: 0,
            entry,
        };
        self.put(out, |out| open.entry.put_local_header(out));
        open
    }

    /// Counts bytes of a file, which are written as they are.
    pub(super) fn data(&mut self, open: &mut Open, bytes: &[u8]) {
        open.sum.update(bytes);
        open.written += bytes.len() as u64;
        self.offset += bytes.len() as u64;
    }

    /// Appends what stands behind the bytes of a file.
    pub(super) fn end_file(&mut self, out: &mut Vec<u8>, open: Open) {
        debug_assert_eq!(open.written, open.entry.len, "as the header promised");
        let sum = open.sum.finalize();
        let len = open.entry.len;
        let is_zip64 = open.entry.is_zip64();
        self.put(out, |out| {
            out.extend_from_slice(b"PK\x07\x08");
            put_4(out, sum);
            for _ in 0..2 {
                match is_zip64 {
                    true => put_8(out, len),
                    false => put_4(out, len as u32),
                }
            }
        });
        self.remember(&open.entry, open.offset, sum);
    }

    /// Appends a folder.
    pub(super) fn put_folder(&mut self, out: &mut Vec<u8>, entry: &Entry) {
        let offset = self.offset;
        self.put(out, |out| entry.put_local_header(out));
        self.remember(entry, offset, 0);
    }

    /// The directory and the end of the archive.
    pub(super) fn finish(self) -> Vec<u8> {
        let Self {
            offset,
            entries,
            mut directory,
        } = self;
        let bytes = directory.len() as u64;
        let short = |number: u64| u32::try_from(number).unwrap_or(SEE_ZIP64);
        let out = &mut directory;
        let few = u16::try_from(entries).unwrap_or(SEE_ZIP64_SHORT);
        if few == SEE_ZIP64_SHORT || [bytes, offset].map(short).contains(&SEE_ZIP64) {
            out.extend_from_slice(b"PK\x06\x06");
            put_8(out, 44); // bytes that follow
            put_2(out, MADE_BY_UNIX | VERSION_ZIP64);
            put_2(out, VERSION_ZIP64);
            put_4(out, 0); // this disk, and that of the directory
            put_4(out, 0);
            for number in [entries, entries, bytes, offset] {
                put_8(out, number);
            }
            out.extend_from_slice(b"PK\x06\x07");
            put_4(out, 0);
            put_8(out, offset + bytes);
            put_4(out, 1); // disks
        }
        out.extend_from_slice(b"PK\x05\x06");
        for number in [0, 0, few, few] {
            put_2(out, number);
        }
        put_4(out, short(bytes));
        put_4(out, short(offset));
        put_2(out, 0); // comment
        directory
    }

    /// Appends and counts.
    fn put(&mut self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        let before = out.len();
        write(out);
        self.offset += (out.len() - before) as u64;
    }

    /// The entry's record in the directory.
    fn remember(&mut self, entry: &Entry, offset: u64, sum: u32) {
        let len = match entry.is_zip64() {
            true => SEE_ZIP64,
            false => entry.len as u32,
        };
        let short_offset = u32::try_from(offset).unwrap_or(SEE_ZIP64);
        let mut zip64 = Vec::new();
        if len == SEE_ZIP64 {
            put_8(&mut zip64, entry.len);
            put_8(&mut zip64, entry.len);
        }
        if short_offset == SEE_ZIP64 {
            put_8(&mut zip64, offset);
        }
        let version = match zip64.is_empty() {
            true => VERSION,
            false => VERSION_ZIP64,
        };
        let mut extra = Vec::new();
        put_field(&mut extra, ZIP64_FIELD, &zip64);
        entry.put_time_field(&mut extra);
        let (kind, folder) = match entry.is_folder {
            true => (0o040_000, 0x10), // the second: MS-DOS's own flag for a folder
            false => (0o100_000, 0),
        };
        let out = &mut self.directory;
        out.extend_from_slice(b"PK\x01\x02");
        put_2(out, MADE_BY_UNIX | version);
        put_2(out, version);
        entry.put_flags_and_time(out);
        put_4(out, sum);
        put_4(out, len);
        put_4(out, len);
        put_2(out, entry.name.len() as u16);
        put_2(out, extra.len() as u16);
        put_2(out, 0); // comment
        put_2(out, 0); // disk
        put_2(out, 0); // internal attributes
        put_4(out, (kind | entry.mode()) << 16 | folder);
        put_4(out, short_offset);
        out.extend_from_slice(&entry.name);
        out.append(&mut extra);
        self.entries += 1;
    }
}

impl Entry {
    fn is_zip64(&self) -> bool {
        self.len >= u64::from(SEE_ZIP64)
    }

    fn put_local_header(&self, out: &mut Vec<u8>) {
        let mut extra = Vec::new();
        if self.is_zip64() {
            put_field(&mut extra, ZIP64_FIELD, &[0; 16]); // so the descriptor has sizes of 8 bytes (section 4.3.9.2)
        }
        self.put_time_field(&mut extra);
        let (version, len) = match self.is_zip64() {
            true => (VERSION_ZIP64, SEE_ZIP64),
            false => (VERSION, 0),
        };
        out.extend_from_slice(b"PK\x03\x04");
        put_2(out, version);
        self.put_flags_and_time(out);
        put_4(out, 0); // the sum
        put_4(out, len);
        put_4(out, len);
        put_2(out, self.name.len() as u16);
        put_2(out, extra.len() as u16);
        out.extend_from_slice(&self.name);
        out.append(&mut extra);
    }

    /// Flags, method, time and date.
    fn put_flags_and_time(&self, out: &mut Vec<u8>) {
        let mut flags = 0;
        if !self.is_folder {
            flags |= DESCRIPTOR_FLAG;
        }
        if !self.name.is_ascii() && str::from_utf8(&self.name).is_ok() {
            flags |= UTF_8_FLAG;
        }
        let (date, time) = dos_time(self.modified_s);
        put_2(out, flags);
        put_2(out, 0); // stored
        put_2(out, time);
        put_2(out, date);
    }

    /// The time of modification in UTC, for readers that know better than MS-DOS.
    fn put_time_field(&self, extra: &mut Vec<u8>) {
        if let Ok(seconds) = i32::try_from(self.modified_s) {
            let mut field = vec![1]; // of three times, the first
            field.extend_from_slice(&seconds.to_le_bytes());
            put_field(extra, TIME_FIELD, &field);
        }
    }
}

/// Date and time as MS-DOS has them (section 4.4.6): the years 1980 to 2107, in steps of two
/// seconds; here in UTC.
fn dos_time(unix_s: i64) -> (u16, u16) {
    const FIRST_S: i64 = 315_532_800; // 1980-01-01T00:00:00Z
    const LAST_S: i64 = 4_354_819_198; // 2107-12-31T23:59:58Z
    let mut text = String::new();
    put_iso(&mut text, unix_s.clamp(FIRST_S, LAST_S));
    let mut numbers = text
        .split(['-', 'T', ':', 'Z'])
        .map(|part| part.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    let (year, month, day): (u16, u16, u16) = (next(), next(), next());
    let (hour, minute, second): (u16, u16, u16) = (next(), next(), next());
    (
        (year - 1980) << 9 | month << 5 | day,
        hour << 11 | minute << 5 | (second / 2),
    )
}

/// An extra field, unless it is empty.
fn put_field(out: &mut Vec<u8>, id: u16, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_2(out, id);
        put_2(out, bytes.len() as u16);
        out.extend_from_slice(bytes);
    }
}

fn put_2(out: &mut Vec<u8>, number: u16) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_4(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_8(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &[u8], len: u64) -> Entry {
        Entry {
            name: name.to_vec(),
            is_folder: name.ends_with(b"/"),
            executable: false,
            len,
            modified_s: 784_111_777,
        }
    }

    fn numbers(bytes: &[u8], at: usize, len: usize) -> u64 {
        let mut number = [0; 8];
        number[..len].copy_from_slice(&bytes[at..at + len]);
        u64::from_le_bytes(number)
    }

    #[test]
    fn an_archive_is_laid_out_as_the_note_says() {
        let (mut zip, mut out) = (Zip::default(), Vec::new());
        zip.put_folder(&mut out, &entry(b"a/", 0));
        let at_file = out.len();
        let mut open = zip.begin_file(&mut out, entry("a/\u{fc}".as_bytes(), 5));
        let data = out.len();
        for piece in [&b"he"[..], b"llo"] {
            zip.data(&mut open, piece);
            out.extend_from_slice(piece);
        }
        zip.end_file(&mut out, open);
        let at_directory = out.len();
        out.extend(zip.finish());

        // The local header of the file.
        let local = &out[at_file..];
        assert_eq!(&local[..4], b"PK\x03\x04");
        assert_eq!(numbers(local, 4, 2), 20);
        assert_eq!(numbers(local, 6, 2), 1 << 3 | 1 << 11);
        assert_eq!(numbers(local, 8, 2), 0);
        assert_eq!(numbers(local, 10, 2), 8 << 11 | 49 << 5 | 18);
        assert_eq!(numbers(local, 12, 2), (1994 - 1980) << 9 | 11 << 5 | 6);
        assert_eq!(&local[14..26], &[0; 12], "sum and sizes stand behind");
        assert_eq!((numbers(local, 26, 2), numbers(local, 28, 2)), (4, 9));
        assert_eq!(&local[30..34], "a/\u{fc}".as_bytes());
        assert_eq!(&local[34..43], b"UT\x05\x00\x01\xa1\x98\xbc\x2e");
        assert_eq!(at_file + 43, data);
        // The data descriptor.
        let behind = &out[data + 5..at_directory];
        assert_eq!(behind.len(), 16);
        assert_eq!(&behind[..4], b"PK\x07\x08");
        assert_eq!(numbers(behind, 4, 4), 0x3610_a686);
        assert_eq!((numbers(behind, 8, 4), numbers(behind, 12, 4)), (5, 5));
        // The directory.
        let folder = &out[at_directory..];
        assert_eq!(
            (&folder[..4], numbers(folder, 8, 2)),
            (&b"PK\x01\x02"[..], 0)
        );
        assert_eq!(numbers(folder, 38, 4), 0o040_755 << 16 | 0x10);
        let file = &folder[46 + 2 + 9..];
        assert_eq!(numbers(file, 16, 4), 0x3610_a686);
        assert_eq!(numbers(file, 38, 4), 0o100_644 << 16);
        assert_eq!(numbers(file, 42, 4), at_file as u64);
        // The end.
        let end = &out[out.len() - 22..];
        assert_eq!(&end[..4], b"PK\x05\x06");
        assert_eq!((numbers(end, 8, 2), numbers(end, 10, 2)), (2, 2));
        let directory = out.len() - 22 - at_directory;
        assert_eq!(numbers(end, 12, 4), directory as u64);
        assert_eq!(numbers(end, 16, 4), at_directory as u64);
    }

    #[test]
    fn large_numbers_stand_in_fields_of_eight_bytes_and_only_they() {
        const LARGE: u64 = 5 << 30;
        for (len, offset, descriptor, extra) in [
            (10, 0, 16, 0),
            (u64::from(SEE_ZIP64) - 1, 0, 16, 0),
            (u64::from(SEE_ZIP64), 0, 24, 20),
            (LARGE, LARGE, 24, 28),
            (10, LARGE, 16, 12),
        ] {
            let mut zip = Zip {
                offset,
                ..Zip::default()
            };
            let mut out = Vec::new();
            let mut open = zip.begin_file(&mut out, entry(b"a", len));
            open.written = len; // as if they had been
            zip.offset += len;
            let before = out.len();
            zip.end_file(&mut out, open);
            assert_eq!(out.len() - before, descriptor, "{len} {offset}");
            assert_eq!(zip.directory.len(), 46 + 1 + 9 + extra, "{len} {offset}");
            let needed = if extra > 0 { 45 } else { 20 };
            assert_eq!(numbers(&zip.directory, 6, 2), needed);
            if offset == LARGE {
                let last = 47 + extra - 8;
                assert_eq!(numbers(&zip.directory, last, 8), offset);
            }
            let end = zip.offset;
            let bytes = zip.directory.len();
            let is_zip64 = end >= u64::from(SEE_ZIP64);
            let finished = zip.finish();
            assert_eq!(finished.len() - bytes, if is_zip64 { 98 } else { 22 });
            if is_zip64 {
                assert_eq!(&finished[bytes..bytes + 4], b"PK\x06\x06");
                assert_eq!(numbers(&finished, bytes + 48, 8), end);
                let locator = &finished[bytes + 56..];
                assert_eq!(numbers(locator, 8, 8), end + bytes as u64);
            }
        }
    }

    #[test]
    fn many_entries_need_the_longer_end_too() {
        for (entries, longer) in [(0, false), (65_534, false), (65_535, true), (70_000, true)] {
            let zip = Zip {
                entries,
                ..Zip::default()
            };
            let finished = zip.finish();
            assert_eq!(finished.len(), if longer { 98 } else { 22 }, "{entries}");
            if longer {
                assert_eq!(numbers(&finished, 24, 8), entries);
                assert_eq!(numbers(&finished, 98 - 22 + 10, 2), 0xffff);
            }
        }
    }

    #[test]
    fn times_that_ms_dos_has_not_are_the_nearest_that_it_has() {
        assert_eq!(dos_time(i64::MIN), (1 << 5 | 1, 0));
        assert_eq!(dos_time(315_532_800), (1 << 5 | 1, 0));
        let last = (127 << 9 | 12 << 5 | 31, 23 << 11 | 59 << 5 | 29);
        assert_eq!(dos_time(4_354_819_199), last);
        assert_eq!(dos_time(i64::MAX), last);
        // And what has no room in the other field is left out of it.
        let far = Entry {
            modified_s: 1 << 31,
            ..entry(b"a", 0)
        };
        let mut out = Vec::new();
        far.put_local_header(&mut out);
        assert_eq!(out.len(), 31);
    }
}
