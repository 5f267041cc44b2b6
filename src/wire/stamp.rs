//! `SEQ TIME`: what a ping and a heartbeat have in common behind their first word.
//!
//! TIME is seconds since the epoch as a decimal fraction. It is read exactly as far as an `f64`
//! goes, which at today's dates is a quarter of a microsecond, and written with six digits.

use std::time::Duration;

/// The sequence number and time of sending that a datagram carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Counts up by one per datagram.
    pub sequence: u64,
    /// When its sender says that it was sent, since the epoch.
    pub sent_at: Duration,
}

impl Stamp {
    /// Reads `WORD SEQ TIME` in any case of the word; what follows after a space is handed back,
    /// with white space around it cut off. `None` for anything else.
    pub fn parse<'a>(word: &str, bytes: &'a [u8]) -> Option<(Self, &'a str)> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (first, text) = next_word(text)?;
        let (sequence, text) = next_word(text)?;
        let (time, rest) = next_word(text)?;
        if !first.eq_ignore_ascii_case(word) {
            return None;
        }
        let sent_at = Duration::try_from_secs_f64(time.parse().ok()?).ok()?;
        Some((
            Self {
                sequence: sequence.parse().ok()?,
                sent_at,
            },
            rest,
        ))
    }

    /// `WORD SEQ TIME`.
    pub fn write(&self, word: &str) -> String {
        let (seconds, micros) = (self.sent_at.as_secs(), self.sent_at.subsec_micros());
        format!("{word} {} {seconds}.{micros:06}", self.sequence)
    }
}

/// The first word of `text` and what follows it; `None` when there is no word.
fn next_word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim();
    let (word, rest) = text
        .split_once(|c: char| c.is_ascii_whitespace())
        .unwrap_or((text, ""));
    (!word.is_empty()).then_some((word, rest.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_times_and_rests() {
        let stamp = Stamp {
            sequence: 3,
            sent_at: Duration::new(1_700_000_000, 250_000_000),
        };
        assert_eq!(
            Stamp::parse("ping", b"Ping 3 1700000000.25"),
            Some((stamp, ""))
        );
        assert_eq!(
            Stamp::parse("Ping", b"PING  3\t1700000000.25  a b \r\n"),
            Some((stamp, "a b"))
        );
        assert_eq!(stamp.write("Ping"), "Ping 3 1700000000.250000");
    }

    #[test]
    fn other_lines_are_none() {
        for line in [
            "",
            "Ping",
            "Ping 1",
            "Ping x 1",
            "Ping 1 x",
            "Ping 1 -1",
            "Ping 1 nan",
            "Ping 1 inf",
            "Ping -1 1",
            "Pong 1 1",
        ] {
            assert_eq!(Stamp::parse("Ping", line.as_bytes()), None, "{line}");
        }
        assert_eq!(Stamp::parse("Ping", b"Ping 1 1 \xff"), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(sequence in any::<u64>(), micros in 0_u64..4_000_000_000_000_000) {
            let sent_at = Duration::from_micros(micros);
            let line = Stamp { sequence, sent_at }.write("Ping");
            let (stamp, rest) = Stamp::parse("Ping", line.as_bytes()).unwrap();
            prop_assert_eq!(rest, "");
            prop_assert_eq!(stamp.sequence, sequence);
            prop_assert!(stamp.sent_at.abs_diff(sent_at) < Duration::from_micros(1));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Stamp::parse("Ping", &bytes);
        }
    }
}
