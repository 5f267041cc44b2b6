use proptest::prelude::*;

use super::*;

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n";

const NEW: Room = Room::New { is_sent: false };

fn header() -> Header<'static> {
    Header {
        key: Cow::Borrowed(b"GET http://host.test/path?query"),
        selecting: Cow::Borrowed(b"accept-encoding: gzip\naccept-language: \xe4\\"),
        requested_ms: 1_790_000_000_000,
        responded_ms: 1_790_000_000_120,
        boot: 0x2f1d_4c0a_8b0e_4b6f_9a7c_3d5e_6f70_8192,
        body: Body::Whole {
            bytes: 12_345,
            crc32: 0x89ab_cdef,
        },
        head: HEAD,
    }
}

fn encoded(header: &Header<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    header.encode(&mut out, NEW).expect("a small header");
    out
}

#[test]
fn a_file_can_be_read_by_people() {
    let bytes = encoded(&header());
    let text = String::from_utf8(bytes).expect("text");
    let crc32 = &text[CRC_AT..CRC_AT + CRC_DIGITS];
    let expected = format!(
        "netlab-reactor object 1, header 00000512 bytes, crc32 {crc32}\n\
         key: GET http://host.test/path?query\n\
         selecting: accept-encoding: gzip\\naccept-language: \\xe4\\\\\n\
         requested_ms: 1790000000000\n\
         responded_ms: 1790000000120\n\
         boot: 2f1d4c0a8b0e4b6f9a7c3d5e6f708192\n\
         body:                12345 bytes, crc32 89abcdef\n\
         head_bytes: 45\n\
         \n\
         HTTP/1.1 200 OK\r\n\
         Content-Type: text/plain\r\n\
         \r\n"
    );
    assert_eq!(text.len(), 512);
    assert_eq!(text.trim_end(), expected.trim_end());
    let padding = &text[expected.len()..];
    assert!(padding.len() >= ROOM_BYTES);
    assert_eq!(padding.trim_end_matches(' '), padding);
    assert_eq!(padding.trim_matches([' ', '\n']), "");
}

#[test]
fn the_end_of_a_body_is_written_over_its_beginning() {
    let unfinished = Header {
        body: Body::Unfinished,
        ..header()
    };
    let before = encoded(&unfinished);
    assert_eq!(
        Header::decode(&before),
        Decoded::Header(unfinished.clone(), before.len())
    );
    for bytes in [0, u64::MAX] {
        let body = Body::Whole { bytes, crc32: 7 };
        let whole = Header {
            body,
            ..unfinished.clone()
        };
        // Without any room, too.
        for room in [before.len(), before.len() - 200] {
            let mut before = Vec::new();
            let mut after = Vec::new();
            let fits = unfinished.encode(&mut before, Room::Same(room));
            assert_eq!(whole.encode(&mut after, Room::Same(room)), fits);
            assert_eq!(before.len(), after.len());
        }
    }
}

#[test]
fn a_head_that_grows_is_written_over_the_old_one_while_there_is_room() {
    let mut file = encoded(&header());
    let room = file.len();
    let head = [HEAD, &b"x".repeat(ROOM_BYTES)].concat();
    let grown = Header {
        head: &head,
        ..header()
    };
    let mut over = Vec::new();
    grown.encode(&mut over, Room::Same(room)).expect("room");
    file[..room].copy_from_slice(&over);
    assert_eq!(Header::decode(&file), Decoded::Header(grown, room));

    let head = b"x".repeat(room);
    let too_long = Header {
        head: &head,
        ..header()
    };
    let mut out = b"before".to_vec();
    assert_eq!(too_long.encode(&mut out, Room::Same(room)), Err(DoesNotFit));
    assert_eq!(out, b"before");
    let head = vec![b'x'; HEADER_BYTES_MAX];
    let too_long = Header {
        head: &head,
        ..header()
    };
    assert_eq!(too_long.encode(&mut out, NEW), Err(DoesNotFit));
}

#[test]
fn a_body_that_is_sent_from_its_file_begins_with_a_page() {
    for head_bytes in [0, 3_000, 4_000, 9_000] {
        let head = b"x".repeat(head_bytes);
        let header = Header {
            head: &head,
            ..header()
        };
        let (mut read, mut sent) = (Vec::new(), Vec::new());
        header.encode(&mut read, NEW).expect("room");
        let room = Room::New { is_sent: true };
        header.encode(&mut sent, room).expect("room");
        assert_eq!(sent.len(), read.len().next_multiple_of(4096));
        assert_eq!(Header::decode(&sent), Decoded::Header(header, sent.len()));
    }
}

#[test]
fn any_room_that_is_enough_is_filled_exactly() {
    let least = {
        let mut out = vec![0; FIRST_LINE_BYTES];
        header().put_fields(&mut out);
        out.len()
    };
    let mut out = Vec::new();
    assert_eq!(
        header().encode(&mut out, Room::Same(least - 1)),
        Err(DoesNotFit)
    );
    for room in least..least + 4 {
        out.clear();
        header().encode(&mut out, Room::Same(room)).expect("room");
        assert_eq!(out.len(), room);
        assert_eq!(Header::decode(&out), Decoded::Header(header(), room));
    }
}

#[test]
fn a_file_that_is_cut_off_is_never_a_header() {
    let file = encoded(&header());
    for cut in 0..file.len() {
        let expected = match cut < FIRST_LINE_BYTES {
            true => FIRST_LINE_BYTES,
            false => file.len(),
        };
        assert_eq!(Header::decode(&file[..cut]), Decoded::NeedMore(expected));
    }
}

/// A part that was not written is what was there before, often zeros (a hole in the file).
#[test]
fn a_torn_header_is_bad() {
    let old = encoded(&header());
    let newer = Header {
        responded_ms: 1_800_000_000_000,
        ..header()
    };
    let newer = encoded(&newer);
    let zeros = vec![0; old.len()];
    for before in [&old, &zeros] {
        for at in 1..old.len() {
            let torn = [&newer[..at], &before[at..]].concat();
            let is_one = torn == newer || torn == old;
            match Header::decode(&torn) {
                Decoded::Header(..) => assert!(is_one, "{at}"),
                Decoded::Bad(_) => assert!(!is_one, "{at}"),
                Decoded::NeedMore(more) => panic!("{more} at {at}"),
            }
        }
    }
}

#[test]
fn each_flipped_bit_is_found() {
    let file = [encoded(&header()), b"the body".to_vec()].concat();
    for at in 0..encoded(&header()).len() {
        for bit in 0..8 {
            let mut flipped = file.clone();
            flipped[at] ^= 1 << bit;
            match Header::decode(&flipped) {
                Decoded::Header(..) => panic!("bit {bit} of byte {at}"),
                // The header's length is a larger one, which ends behind this file.
                Decoded::NeedMore(bytes) => assert!(bytes > file.len()),
                Decoded::Bad(_) => {}
            }
        }
    }
}

#[test]
fn names_say_what_the_index_has_to_know() {
    let name = Name {
        key: Key(0x0f86_d081_884c_7d65_9a2f_eaa0_c55a_d015),
        variant: 0x1b4f,
        stored_ms: 0x1a0_c3f5_d400,
        bytes: 0,
    };
    let path = name.to_string();
    assert_eq!(
        path,
        "0f/0f86d081884c7d659a2feaa0c55ad015-0000000000001b4f-1a0c3f5d400-0"
    );
    let (folder, file) = path.split_once('/').expect("a folder");
    assert_eq!(Name::parse(folder.as_bytes(), file.as_bytes()), Some(name));
    assert!(folders().any(|each| each == folder));
    assert_eq!(Name::from(Entry::from(name)), name);
    for (folder, file) in [
        ("0e", file.to_owned()),
        ("", file.to_owned()),
        ("0f", String::new()),
        ("0f", file.to_uppercase()),
        ("0f", file.replace("-1a0", "-01a0")),
        ("0f", file.replace("-1a0", "-+1a0")),
        ("0f", file.replace("-0000000000001b4f", "-1b4f")),
        ("0f", format!("{file}-0")),
        ("0f", format!("{file}~")),
        ("0f", file[..file.len() - 1].to_owned()),
        ("0f", format!("{file}0")),
        ("0f", format!("{file}{}", "1".repeat(20))),
        ("0f", file.replacen("0f", "0g", 1)),
        ("0f", Temporary(1).to_string()),
    ] {
        let parsed = Name::parse(folder.as_bytes(), file.as_bytes());
        assert_eq!(parsed, None, "{folder}/{file}");
    }
}

#[test]
fn temporary_names_are_known_again() {
    let name = Temporary(0x1234).to_string();
    assert_eq!(name, ".tmp-0000000000001234");
    assert!(Temporary::is_name(name.as_bytes()));
    for other in [
        ".tmp-",
        ".tmp-1234",
        ".tmp-000000000000123g",
        "tmp-0000000000001234",
        "",
    ] {
        assert!(!Temporary::is_name(other.as_bytes()), "{other}");
    }
}

fn any_header() -> impl Strategy<Value = (Vec<u8>, Vec<u8>, [u64; 2], u128, Body, Vec<u8>)> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..60);
    let whole = (any::<u64>(), any::<u32>());
    let body = whole.prop_map(|(bytes, crc32)| Body::Whole { bytes, crc32 });
    (
        bytes(),
        bytes(),
        any::<[u64; 2]>(),
        any::<u128>(),
        prop_oneof![Just(Body::Unfinished), body],
        bytes(),
    )
}

proptest! {
    #[test]
    fn what_was_written_is_read((key, selecting, times, boot, body, head) in any_header()) {
        let header = Header {
            key: Cow::Owned(key),
            selecting: Cow::Owned(selecting),
            requested_ms: times[0],
            responded_ms: times[1],
            boot,
            body,
            head: &head,
        };
        let mut file = encoded(&header);
        let length = file.len();
        file.extend_from_slice(b"body");
        prop_assert_eq!(Header::decode(&file), Decoded::Header(header, length));
    }

    /// Whoever can write into the folder can make a checksum, too: only panics are excluded here.
    #[test]
    fn hostile_files_do_not_panic(
        at in 0..512_usize,
        bytes in prop::collection::vec(any::<u8>(), 0..40),
        cut in 0..600_usize,
    ) {
        let mut file = encoded(&header());
        let end = (at + bytes.len()).min(file.len());
        let removed = cut.min(end - at.min(end));
        file.splice(at.min(end)..at.min(end) + removed, bytes);
        if let Some(first) = file.first_chunk::<FIRST_LINE_BYTES>()
            && let Some((length, _)) = first_line(first)
            && (FIRST_LINE_BYTES..=file.len()).contains(&length)
        {
            let crc32 = format!("{:08x}", checksum(&file[..length]));
            file[CRC_AT..CRC_AT + CRC_DIGITS].copy_from_slice(crc32.as_bytes());
        }
        if let Decoded::Header(_, length) = Header::decode(&file) {
            prop_assert!(length <= file.len());
        }
    }

    #[test]
    fn names_are_read_as_they_were_written(
        key in any::<u128>(), variant in any::<u64>(), stored_ms in any::<u64>(), bytes in any::<u64>(),
    ) {
        let name = Name { key: Key(key), variant, stored_ms, bytes };
        let path = name.to_string();
        let (folder, file) = path.split_once('/').expect("a folder");
        prop_assert_eq!(Name::parse(folder.as_bytes(), file.as_bytes()), Some(name));
    }

    #[test]
    fn there_is_one_spelling_of_a_name(file in "0[0-9a-f]{31}-[0-9a-f]{16}-[0-9a-fA+]{0,17}-[0-9a-f]{0,3}") {
        if let Some(name) = Name::parse(&file.as_bytes()[..2], file.as_bytes()) {
            prop_assert_eq!(name.to_string(), format!("{}/{file}", &file[..2]));
        }
    }
}
