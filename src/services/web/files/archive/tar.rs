//! The tar format: what stands before, behind and after the files.
//!
//! POSIX.1-2017, utility `pax`: "ustar Interchange Format", and "pax Extended Header" for what that has no room for: long
//! names, names of text that is not ASCII, sizes from 8 GiB on, times before 1970 and after 2242.
//!
//! ```text
//! [header of type x, its records, zeros]  header  bytes of the file, zeros to the block   …   two blocks of zeros
//! ```
//!
//! Who owns a file on this machine is nobody's business: owner and group are 0 and have no name.

use super::Entry;

/// What everything is rounded up to, in bytes.
const BLOCK: usize = 512;
/// What a ustar header has room for: a name, the folders before it, and a number of eleven octal digits.
const NAME_BYTES_MAX: usize = 100;
const PREFIX_BYTES_MAX: usize = 155;
const NUMBER_MAX: u64 = 0o777_7777_7777;

/// The end of an archive.
pub(super) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// How many zeros follow a file of so many bytes.
pub(super) fn padding(len: u64) -> usize {
    (BLOCK - (len % BLOCK as u64) as usize) % BLOCK
}

/// Appends what stands before the bytes of an entry.
pub(super) fn put_header(out: &mut Vec<u8>, entry: &Entry) {
    let name = &entry.name[..];
    let is_text = str::from_utf8(name).is_ok();
    // A short name of bytes that are no text is read as it is from a header, and with a warning from a record.
    let place = split(name).filter(|_| name.is_ascii() || !is_text);
    let time = u64::try_from(entry.modified_s).ok();
    let time = time.filter(|&seconds| seconds <= NUMBER_MAX);
    let len = Some(entry.len).filter(|&len| len <= NUMBER_MAX);

    let mut records = Vec::new();
    if place.is_none() {
        if !is_text {
            put_record(&mut records, "hdrcharset", b"BINARY");
        }
        put_record(&mut records, "path", name);
    }
    if len.is_none() {
        put_record(&mut records, "size", entry.len.to_string().as_bytes());
    }
    if time.is_none() {
        let seconds = entry.modified_s.to_string();
        put_record(&mut records, "mtime", seconds.as_bytes());
    }
    if !records.is_empty() {
        let fields = Fields {
            name: b"PaxHeader",
            len: records.len() as u64,
            kind: b'x',
            ..Fields::default()
        };
        fields.put(out);
        let padding = padding(records.len() as u64);
        out.append(&mut records);
        out.resize(out.len() + padding, 0);
    }

    // Who does not know the records finds as much of the name as there is room for.
    let (prefix, name) = place.unwrap_or((b"", &name[..name.len().min(NAME_BYTES_MAX)]));
    let fields = Fields {
        prefix,
        name,
        mode: entry.mode(),
        len: len.unwrap_or(0),
        time: time.unwrap_or(0),
        kind: if entry.is_folder { b'5' } else { b'0' },
    };
    fields.put(out);
}

/// A name as the two fields of a header: the folders, without the slash behind them, and the rest. `None` where it does not fit.
fn split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= NAME_BYTES_MAX {
        return Some((b"", name));
    }
    let first = name.len() - NAME_BYTES_MAX - 1;
    let last = name.len() - 2; // a slash at the end says that it is a folder, and stays
    let slash = name[first..last].iter().position(|&byte| byte == b'/')?;
    let (prefix, rest) = (&name[..first + slash], &name[first + slash + 1..]);
    (!prefix.is_empty() && prefix.len() <= PREFIX_BYTES_MAX).then_some((prefix, rest))
}

/// A record: its own length in decimal, a blank, key, value and line end. The length counts its own digits.
fn put_record(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    let others = key.len() + value.len() + 3;
    let mut digits = 1;
    while (others + digits).to_string().len() > digits {
        digits += 1;
    }
    out.extend_from_slice(format!("{} {key}=", others + digits).as_bytes());
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// What a header block says.
#[derive(Default)]
struct Fields<'a> {
    prefix: &'a [u8],
    name: &'a [u8],
    mode: u32,
    len: u64,
    time: u64,
    kind: u8,
}

impl Fields<'_> {
    fn put(&self, out: &mut Vec<u8>) {
        let mut block = [0; BLOCK];
        let mut set = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        set(0, self.name);
        set(100, format!("{:07o}\0", self.mode).as_bytes());
        set(108, b"0000000\0"); // owner
        set(116, b"0000000\0"); // group
        set(124, format!("{:011o}\0", self.len).as_bytes());
        set(136, format!("{:011o}\0", self.time).as_bytes());
        set(148, b"        "); // the sum is made with blanks in its place
        set(156, &[self.kind]);
        set(257, b"ustar\x0000");
        set(329, b"0000000\0"); // device
        set(337, b"0000000\0");
        set(345, self.prefix);
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.extend_from_slice(&block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &[u8]) -> Entry {
        Entry {
            name: name.to_vec(),
            is_folder: name.ends_with(b"/"),
            executable: false,
            len: 0,
            modified_s: 0,
        }
    }

    fn header(entry: &Entry) -> Vec<u8> {
        let mut out = Vec::new();
        put_header(&mut out, entry);
        assert_eq!(out.len() % BLOCK, 0);
        out
    }

    /// The text of a field.
    fn field(block: &[u8], at: usize, len: usize) -> &str {
        let text = str::from_utf8(&block[at..at + len]).expect("text");
        text.trim_end_matches('\0')
    }

    #[test]
    fn an_ordinary_file_is_one_block() {
        let block = header(&Entry {
            len: 1234,
            modified_s: 784_111_777,
            executable: true,
            ..file(b"site/run.sh")
        });
        assert_eq!(block.len(), BLOCK);
        for (at, len, text) in [
            (0, 100, "site/run.sh"),
            (100, 8, "0000755"),
            (124, 12, "00000002322"),
            (136, 12, "05657114241"),
            (156, 1, "0"),
            (257, 8, "ustar\x0000"),
            (345, 155, ""),
        ] {
            assert_eq!(field(&block, at, len), text, "at {at}");
        }
        let folder = header(&file(b"site/"));
        assert_eq!(field(&folder, 100, 8), "0000755");
        assert_eq!(field(&folder, 156, 1), "5");
        assert_eq!(field(&header(&file(b"a")), 100, 8), "0000644");
    }

    #[test]
    fn the_sum_counts_its_own_place_as_blanks() {
        let block = header(&file(b"a"));
        let mut blank = block.clone();
        blank[148..156].fill(b' ');
        let sum: u32 = blank.iter().map(|&byte| u32::from(byte)).sum();
        assert_eq!(&block[148..156], format!("{sum:06o}\0 ").as_bytes());
    }

    #[test]
    fn a_name_that_is_long_is_split_at_a_slash_if_there_is_one() {
        let long = "x".repeat(90);
        for (name, prefix, rest) in [
            (
                format!("a/{}", "b".repeat(98)),
                "",
                format!("a/{}", "b".repeat(98)),
            ),
            (format!("{long}/{long}"), &long[..], long.clone()),
            (format!("{long}/{long}/"), &long[..], format!("{long}/")),
            (
                format!("{}/y/{}", "x".repeat(153), "z".repeat(100)),
                &format!("{}/y", "x".repeat(153)),
                "z".repeat(100),
            ),
        ] {
            let block = header(&file(name.as_bytes()));
            assert_eq!(block.len(), BLOCK, "{name}");
            assert_eq!(field(&block, 345, 155), prefix);
            assert_eq!(field(&block, 0, 100), rest);
        }
    }

    /// The records of an extended header, and the block behind it.
    fn extended(entry: &Entry) -> (Vec<u8>, Vec<u8>) {
        let blocks = header(entry);
        assert_eq!((&blocks[..9], blocks[156]), (&b"PaxHeader"[..], b'x'));
        let len = usize::from_str_radix(field(&blocks, 124, 12), 8).expect("octal");
        let behind = blocks.len() - BLOCK;
        (
            blocks[BLOCK..BLOCK + len].to_vec(),
            blocks[behind..].to_vec(),
        )
    }

    #[test]
    fn what_has_no_room_stands_in_an_extended_header() {
        let (records, block) = extended(&file("f\u{fc}r".as_bytes()));
        assert_eq!(records, "13 path=f\u{fc}r\n".as_bytes());
        assert_eq!(&block[..5], "f\u{fc}r\0".as_bytes());
        let short = header(&file(b"a\xff"));
        assert_eq!((short.len(), &short[..3]), (BLOCK, &b"a\xff\0"[..]));
        let long = [&[b'x'; 100], &b"\xff"[..]].concat();
        let (records, _) = extended(&file(&long));
        let expected = [b"21 hdrcharset=BINARY\n111 path=", &long[..], b"\n"].concat();
        assert_eq!(records, expected);
        let (records, block) = extended(&file("x".repeat(101).as_bytes()));
        assert_eq!(
            records,
            format!("111 path={}\n", "x".repeat(101)).as_bytes()
        );
        assert_eq!(field(&block, 0, 100), "x".repeat(100));

        let large = |len| Entry { len, ..file(b"a") };
        assert_eq!(header(&large(NUMBER_MAX)).len(), BLOCK);
        let (records, block) = extended(&large(NUMBER_MAX + 1));
        assert_eq!(records, b"19 size=8589934592\n");
        assert_eq!(field(&block, 124, 12), "00000000000");
        let at = |modified_s| Entry {
            modified_s,
            ..file(b"a")
        };
        assert_eq!(extended(&at(-1)).0, b"12 mtime=-1\n");
        assert_eq!(extended(&at(1 << 33)).0, b"20 mtime=8589934592\n");
    }

    #[test]
    fn a_record_counts_the_digits_of_its_length() {
        for len in [
            1, 85, 86, 87, 88, 89, 90, 91, 985, 986, 987, 988, 989, 990, 991, 9000,
        ] {
            let mut record = Vec::new();
            put_record(&mut record, "path", &vec![b'x'; len]);
            let text = String::from_utf8(record).expect("text");
            let (number, _) = text.split_once(' ').expect("a blank");
            assert_eq!(number, text.len().to_string());
        }
    }

    #[test]
    fn files_are_padded_to_the_block() {
        let given = [0, 1, 511, 512, 513, 1 << 40].map(padding);
        assert_eq!(given, [0, 511, 1, 0, 511, 0]);
    }
}
