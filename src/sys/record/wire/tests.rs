use std::io;

use super::*;
use proptest::prelude::*;

/// What comes back of it.
fn there_and_back<T: Wire>(value: &T) -> T {
    let base = Instant::now();
    let mut out = Out::new(base);
    value.put(&mut out);
    let mut from = In::new(out.bytes.clone(), base);
    let back = T::take(&mut from).expect("what was written");
    assert!(from.rest().is_empty());
    // And nothing is read of less.
    for len in 0..out.bytes.len() {
        let mut cut = In::new(out.bytes[..len].to_vec(), base);
        assert!(
            T::take(&mut cut).is_err(),
            "{len} of {} bytes",
            out.bytes.len()
        );
    }
    back
}

proptest! {
    #[test]
    fn numbers_texts_and_times_come_back(
        number in any::<u64>(), signed in any::<i32>(), text in ".*",
        before in any::<bool>(), time in any::<u32>(), list in prop::collection::vec(any::<u32>(), 0..9),
    ) {
        prop_assert_eq!(there_and_back(&number), number);
        prop_assert_eq!(there_and_back(&signed), signed);
        prop_assert_eq!(there_and_back(&text), text);
        let span = Duration::from_micros(u64::from(time));
        let time = match before {
            true => SystemTime::UNIX_EPOCH - span,
            false => SystemTime::UNIX_EPOCH + span,
        };
        prop_assert_eq!(there_and_back(&time), time);
        prop_assert_eq!(there_and_back(&list), list);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let mut from = In::new(bytes, Instant::now());
        let _ = <Vec<(Option<SocketAddr>, io::Result<File>)>>::take(&mut from);
    }
}

#[test]
fn errors_come_back_with_their_number_or_kind_and_text() {
    for error in [
        io::Error::from_raw_os_error(libc::ENOSPC),
        io::ErrorKind::WouldBlock.into(),
        io::Error::other("its own words"),
    ] {
        let back = there_and_back(&error);
        assert_eq!(back.kind(), error.kind());
        assert_eq!(back.to_string(), error.to_string());
        assert_eq!(back.raw_os_error(), error.raw_os_error());
    }
    for address in ["192.0.2.1:80", "[fe80::1%3]:53"] {
        let address: SocketAddr = address.parse().expect("an address");
        assert_eq!(there_and_back(&address), address);
    }
}

#[test]
fn a_file_is_the_same_as_long_as_it_is_open() {
    let base = Instant::now();
    let file = File::new(
        crate::disk::Handle::Simulated(9),
        crate::disk::DiskId(1),
        true,
    );
    let mut out = Out::new(base);
    for _ in 0..3 {
        file.put(&mut out);
    }
    let mut from = In::new(out.bytes, base);
    let first = File::take(&mut from).expect("a file");
    assert!(first.is_slow() && first.number() == 1);
    assert!(File::take(&mut from).expect("a file") == first);
    drop(first);
    assert_eq!(File::take(&mut from).expect("a file").number(), 1);
}
