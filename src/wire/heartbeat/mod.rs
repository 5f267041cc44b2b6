//! UDP heartbeats: `Heartbeat SEQ TIME` and no answer; and what a receiver concludes about one
//! sender ([`Tracker`]).
//!
//! Behind TIME a sender may put words of its own; receivers ignore those that they do not know.
//! Ours are, in any order but for the last:
//! - `id=NAME`: the sender's name for itself;
//! - `every=SECONDS`: the time between two of its heartbeats, a decimal fraction;
//! - `down`: it ends, and is not to be waited for;
//! - `hmac=HEX` as the last word: HMAC-SHA-256 of everything before the space in front of it, in 64
//!   hexadecimal digits.
//!
//! Not here: how many senders are tracked and which one goes when there are too many; logging and
//! metrics.

mod clock;
mod sequence;
mod tracker;

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::challenge::Secret;
use super::hex;
use super::stamp::Stamp;

pub use clock::Differences;
pub use sequence::{GAP_MAX, WINDOW};
pub use tracker::{Change, Counts, LOST_MAX, Rules, State, Tracker};

/// The longest that a network is believed to hold a datagram back: the maximum segment lifetime of
/// RFC 9293, section 3.4.2.
pub const DELAY_MAX: Duration = Duration::from_secs(120);

/// One heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat<'a> {
    /// Sequence number and time of sending.
    pub stamp: Stamp,
    /// The sender's name for itself, where it gave one.
    pub identity: Option<&'a str>,
    /// Time between two of its heartbeats, where it said so; never 0.
    pub interval: Option<Duration>,
    /// It is the last one.
    pub is_down: bool,
}

impl Beat<'_> {
    /// One with nothing but its stamp.
    pub fn new(stamp: Stamp) -> Self {
        Self {
            stamp,
            identity: None,
            interval: None,
            is_down: false,
        }
    }
}

/// The datagram of one heartbeat. The identity must not hold white space, or what follows it is
/// taken for other words.
pub fn build(beat: &Beat<'_>, secret: Option<&Secret>) -> Vec<u8> {
    let mut line = beat.stamp.write("Heartbeat");
    if let Some(identity) = beat.identity {
        line.push_str(" id=");
        line.push_str(identity);
    }
    if let Some(interval) = beat.interval {
        line.push_str(" every=");
        line.push_str(&interval.as_secs_f64().to_string());
    }
    if beat.is_down {
        line.push_str(" down");
    }
    if let Some(secret) = secret {
        let mac = mac(secret, line.as_bytes()).finalize().into_bytes();
        line.push_str(" hmac=");
        line.push_str(&hex::encode(&mac));
    }
    line.into_bytes()
}

/// Reads a heartbeat; `None` when the bytes are none. A word of ours that makes no sense counts as
/// one that is not known.
pub fn parse(datagram: &[u8]) -> Option<Beat<'_>> {
    let (stamp, rest) = Stamp::parse("Heartbeat", datagram)?;
    let mut beat = Beat::new(stamp);
    for word in rest.split_ascii_whitespace() {
        if let Some(identity) = word.strip_prefix("id=") {
            beat.identity.get_or_insert(identity);
        } else if let Some(seconds) = word.strip_prefix("every=") {
            let interval = seconds.parse().ok();
            let interval = interval.and_then(|s| Duration::try_from_secs_f64(s).ok());
            beat.interval = interval.filter(|interval| !interval.is_zero());
        }
        beat.is_down |= word == "down";
    }
    Some(beat)
}

/// Whether the datagram ends with the right `hmac=` word under this secret, compared in constant
/// time.
pub fn is_authentic(datagram: &[u8], secret: &Secret) -> bool {
    let datagram = datagram.trim_ascii_end();
    let Some((line, word)) = datagram.split_last_chunk::<70>() else {
        return false;
    };
    let Some(digits) = word.strip_prefix(b" hmac=") else {
        return false;
    };
    let Some(claimed) = hex::decode::<32>(digits) else {
        return false;
    };
    mac(secret, line).verify_slice(&claimed).is_ok()
}

fn mac(secret: &Secret, line: &[u8]) -> Hmac<Sha256> {
    // Invariant: HMAC takes a key of any length (RFC 2104, section 2).
    let mac = Hmac::<Sha256>::new_from_slice(secret.expose()).expect("HMAC takes any key length");
    mac.chain_update(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(sequence: u64, sent_s: u64) -> Stamp {
        Stamp {
            sequence,
            sent_at: Duration::from_secs(sent_s),
        }
    }

    #[test]
    fn datagrams_are_built_and_read() {
        let secret = Secret::from("key");
        let plain = build(&Beat::new(stamp(4, 5)), None);
        assert_eq!(plain, b"Heartbeat 4 5.000000");
        assert_eq!(parse(&plain), Some(Beat::new(stamp(4, 5))));
        let beat = Beat {
            identity: Some("roof"),
            interval: Some(Duration::from_millis(1500)),
            is_down: true,
            ..Beat::new(stamp(4, 5))
        };
        let full = build(&beat, None);
        assert_eq!(full, b"Heartbeat 4 5.000000 id=roof every=1.5 down");
        assert_eq!(parse(&full), Some(beat));
        let signed = build(&beat, Some(&secret));
        assert_eq!(parse(&signed), Some(beat));
        assert!(is_authentic(&signed, &secret));
        assert!(!is_authentic(&signed, &Secret::from("other")));
        assert!(!is_authentic(&plain, &secret));
        let forged = String::from_utf8(signed).unwrap().replace("roof", "root");
        assert!(!is_authentic(forged.as_bytes(), &secret));
        assert_eq!(parse(b"Ping 1 1"), None);
    }

    #[test]
    fn words_that_make_no_sense_are_words_that_nobody_knows() {
        for word in [
            "every=0",
            "every=-1",
            "every=x",
            "every=nan",
            "every=",
            "Down",
            "downy",
            "x",
        ] {
            let datagram = format!("Heartbeat 4 5 {word}");
            assert_eq!(
                parse(datagram.as_bytes()),
                Some(Beat::new(stamp(4, 5))),
                "{word}"
            );
        }
    }
}
