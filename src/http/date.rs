//! Time stamps: `Sun, 06 Nov 1994 08:49:37 GMT` and its two obsolete forms.
//!
//! RFC 9110 section 5.6.7.
//!
//! Rules:
//! 1. Times are whole seconds since the Unix epoch, handed in by the caller. There is no clock here.
//! 2. One form is written in heads (IMF-fixdate); all three are read. Listings and logs have their own.
//! 3. What is shown for one second is printed once: [`DateCache`] belongs to the caller and lives as long as its listener.
//!
//! Not here: time zones (HTTP has GMT only), fractions, and the age arithmetic of caches.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long an IMF-fixdate is.
pub const DATE_BYTES: usize = 29;

/// The last second of the year 9999: later ones do not fit the format and are shown as this one.
const LAST_S: u64 = 253_402_300_799;

/// A time stamp as it is written on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Date {
    text: [u8; DATE_BYTES],
}

impl Date {
    /// The time stamp of the moment `unix_s` seconds after the epoch.
    #[must_use]
    pub fn new(unix_s: u64) -> Self {
        let moment = UNIX_EPOCH + Duration::from_secs(unix_s.min(LAST_S));
        let mut cursor = Cursor {
            text: [b' '; DATE_BYTES],
            len: 0,
        };
        // Invariant: httpdate writes exactly DATE_BYTES bytes for any year up to 9999; the cursor refuses more.
        let written = write!(cursor, "{}", httpdate::HttpDate::from(moment));
        debug_assert!(written.is_ok() && cursor.len == DATE_BYTES);
        Self { text: cursor.text }
    }

    /// The time stamp as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Invariant: the bytes were written as text, all of it ASCII.
        str::from_utf8(&self.text).unwrap_or_default()
    }

    /// The time stamp as bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.text
    }
}

impl AsRef<[u8]> for Date {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

/// Lets formatting write into an array.
struct Cursor {
    text: [u8; DATE_BYTES],
    len: usize,
}

impl Write for Cursor {
    fn write_str(&mut self, part: &str) -> std::fmt::Result {
        let end = self.len + part.len();
        let room = self.text.get_mut(self.len..end).ok_or(std::fmt::Error)?;
        room.copy_from_slice(part.as_bytes());
        self.len = end;
        Ok(())
    }
}

/// Remembers the time stamp of the second that was last asked for.
#[derive(Debug, Clone, Copy)]
pub struct DateCache {
    unix_s: u64,
    date: Date,
}

impl DateCache {
    /// A cache that holds the epoch.
    #[must_use]
    pub fn new() -> Self {
        Self {
            unix_s: 0,
            date: Date::new(0),
        }
    }

    /// The time stamp of the moment `unix_s` seconds after the epoch.
    pub fn at(&mut self, unix_s: u64) -> &Date {
        if unix_s != self.unix_s {
            *self = Self {
                unix_s,
                date: Date::new(unix_s),
            };
        }
        &self.date
    }
}

impl Default for DateCache {
    fn default() -> Self {
        Self::new()
    }
}

/// Appends the moment as `1994-11-06T08:49:37Z` (RFC 3339).
pub fn put_iso(out: &mut String, unix_s: u64) {
    let date = Date::new(unix_s);
    let text = date.as_str();
    let month = MONTHS.iter().position(|month| *month == &text[8..11]);
    let month = month.unwrap_or_default() + 1;
    // Invariant: writing to a String does not fail.
    let _ = write!(
        out,
        "{}-{month:02}-{}T{}Z",
        &text[12..16],
        &text[5..7],
        &text[17..25]
    );
}

/// Appends the moment as web servers' logs have it, `06/Nov/1994:08:49:37 +0000`.
pub fn put_log_time(out: &mut String, unix_s: u64) {
    let date = Date::new(unix_s);
    let text = date.as_str();
    let (day, month, year, time) = (&text[5..7], &text[8..11], &text[12..16], &text[17..25]);
    // Invariant: writing to a String does not fail.
    let _ = write!(out, "{day}/{month}/{year}:{time} +0000");
}

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Reads a time stamp in any of the three forms, as seconds since the epoch. `None` for anything else, and for times
/// before 1970: who gets `None` treats the header as absent.
#[must_use]
pub fn parse(text: &[u8]) -> Option<u64> {
    let moment = httpdate::parse_http_date(str::from_utf8(text).ok()?).ok()?;
    Some(moment.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

/// `moment` in whole seconds since the epoch, rounded down; 0 for times before it.
#[must_use]
pub fn unix_s(moment: SystemTime) -> u64 {
    moment
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_example_of_the_rfc_is_written_and_read_in_three_forms() {
        assert_eq!(
            Date::new(784_111_777).as_str(),
            "Sun, 06 Nov 1994 08:49:37 GMT"
        );
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(parse(text.as_bytes()), Some(784_111_777), "{text}");
        }
        for bad in [
            "",
            "0",
            "now",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 99 Nov 1994 08:49:37 GMT",
            "\u{fc}",
        ] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn listings_and_logs_have_forms_of_their_own() {
        let (mut iso, mut log) = (String::new(), String::new());
        put_iso(&mut iso, 784_111_777);
        put_log_time(&mut log, 784_111_777);
        assert_eq!(iso, "1994-11-06T08:49:37Z");
        assert_eq!(log, "06/Nov/1994:08:49:37 +0000");
    }

    #[test]
    fn the_cache_follows_the_time_given() {
        let mut cache = DateCache::new();
        for unix_s in [0, 1, 1, 784_111_777, 5, u64::MAX] {
            assert_eq!(*cache.at(unix_s), Date::new(unix_s));
        }
        assert_eq!(cache.at(u64::MAX).as_str(), "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    #[test]
    fn times_before_the_epoch_are_the_epoch() {
        assert_eq!(unix_s(UNIX_EPOCH - Duration::from_secs(5)), 0);
        assert_eq!(unix_s(UNIX_EPOCH + Duration::from_millis(5999)), 5);
    }

    proptest! {
        #[test]
        fn reading_undoes_writing(unix_s in 0..=LAST_S) {
            prop_assert_eq!(parse(Date::new(unix_s).as_bytes()), Some(unix_s));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse(&bytes);
        }
    }
}
