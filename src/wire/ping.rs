//! UDP ping: `Ping SEQ TIME` out, the same bytes in ASCII upper case back.
//!
//! Rules:
//! - The answer is as long as the question, whatever its bytes are; an empty one gets an empty one.
//! - A client may put filler after TIME; it comes back like the rest, so corruption of it shows.
//!
//! Not here: loss, delay and the other things that a server does to answers on purpose, and the
//! statistics of a client.

use super::stamp::Stamp;

/// The longest datagram that IPv4 carries, in bytes: 65,535 less the IP and UDP headers.
pub const DATAGRAM_BYTES_MAX: usize = 65_507;

/// Turns a question into its answer where it lies: ASCII letters become upper case, every other
/// byte stays.
pub fn answer_in_place(datagram: &mut [u8]) {
    datagram.make_ascii_uppercase();
}

/// The datagram of one ping: `Ping SEQ TIME`, and filler up to `bytes_min` bytes where it is
/// shorter.
pub fn build(stamp: &Stamp, bytes_min: usize) -> Vec<u8> {
    let mut datagram = stamp.write("Ping").into_bytes();
    if datagram.len() < bytes_min {
        datagram.push(b' ');
    }
    while datagram.len() < bytes_min {
        datagram.push(b'a' + (datagram.len() % 26) as u8);
    }
    datagram.truncate(DATAGRAM_BYTES_MAX);
    datagram
}

/// The stamp of a ping or of its answer; `None` when the bytes are neither.
pub fn parse(datagram: &[u8]) -> Option<Stamp> {
    Stamp::parse("Ping", datagram).map(|(stamp, _)| stamp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const STAMP: Stamp = Stamp {
        sequence: 7,
        sent_at: Duration::from_millis(1_700_000_000_500),
    };

    #[test]
    fn the_plain_form() {
        assert_eq!(build(&STAMP, 0), b"Ping 7 1700000000.500000");
        assert_eq!(parse(b"PING 7 1700000000.500000"), Some(STAMP));
    }

    #[test]
    fn filler_reaches_the_size_and_survives_parsing() {
        for size in 0..100 {
            let mut datagram = build(&STAMP, size);
            assert_eq!(datagram.len(), size.max(24));
            answer_in_place(&mut datagram);
            assert_eq!(parse(&datagram), Some(STAMP));
        }
        assert_eq!(build(&STAMP, 70_000).len(), DATAGRAM_BYTES_MAX);
    }

    #[test]
    fn only_ascii_letters_change() {
        let mut datagram = *b"a\xc3\xa9\x80z{";
        answer_in_place(&mut datagram);
        assert_eq!(datagram, *b"A\xc3\xa9\x80Z{");
        answer_in_place(&mut []);
    }
}
