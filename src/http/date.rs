//! Time stamps: `Sun, 06 Nov 1994 08:49:37 GMT` and its two obsolete forms.
//!
//! RFC 9110 section 5.6.7.
//!
//! Rules:
//! 1. Times are whole seconds since the Unix epoch, negative before it, handed in by the caller.
//!    There is no clock here.
//! 2. One form is written in heads (IMF-fixdate); all three are read. Listings and logs have their
//!    own.
//! 3. What is shown for one second is printed once: [`DateCache`] belongs to the caller and lives
//!    as long as its listener.
//!
//! Not here: time zones (HTTP has GMT only), fractions, and the age arithmetic of caches.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long an IMF-fixdate is.
pub const DATE_BYTES: usize = 29;

/// The first second of the year 0 and the last of the year 9999: what lies beyond does not fit the
/// format and is shown as these.
const FIRST_S: i64 = -62_167_219_200;
const LAST_S: i64 = 253_402_300_799;

/// After so many years the calendar repeats, weekdays and all: five times the 146,097 days of the
/// Gregorian cycle. The library below knows no time before 1970, so earlier ones pass through it by
/// so much later.
const SHIFT_YEARS: u16 = 2000;
const SHIFT_S: i64 = 5 * 146_097 * 86_400;

/// A time stamp as it is written on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Date {
    text: [u8; DATE_BYTES],
}

impl Date {
    /// The time stamp of the moment `unix_s` seconds after the epoch.
    #[must_use]
    pub fn new(unix_s: i64) -> Self {
        if unix_s < 0 {
            let mut date = Self::new(unix_s.max(FIRST_S) + SHIFT_S);
            shift_year(&mut date.text[YEAR], |year| year.checked_sub(SHIFT_YEARS));
            return date;
        }
        // Invariant: it is not negative.
        let moment = UNIX_EPOCH + Duration::from_secs(unix_s.min(LAST_S).unsigned_abs());
        let mut cursor = Cursor {
            text: [b' '; DATE_BYTES],
            len: 0,
        };
        // Invariant: httpdate writes exactly DATE_BYTES bytes for any year up to 9999; the cursor
        // refuses more.
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

/// Where the year stands in an IMF-fixdate.
const YEAR: std::ops::Range<usize> = 12..16;

/// Changes a year of four digits as `shift` says. Whether there was one, and `shift` had another
/// for it.
fn shift_year(digits: &mut [u8], shift: impl FnOnce(u16) -> Option<u16>) -> bool {
    let year = super::parse_decimal(digits).and_then(|year| u16::try_from(year).ok());
    let Some(mut year) = year.and_then(shift) else {
        return false;
    };
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (year % 10) as u8;
        year /= 10;
    }
    true
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
    unix_s: i64,
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
    pub fn at(&mut self, unix_s: i64) -> &Date {
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
pub fn put_iso(out: &mut String, unix_s: i64) {
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
pub fn put_log_time(out: &mut String, unix_s: i64) {
    let date = Date::new(unix_s);
    let text = date.as_str();
    let (day, month, year, time) = (&text[5..7], &text[8..11], &text[12..16], &text[17..25]);
    // Invariant: writing to a String does not fail.
    let _ = write!(out, "{day}/{month}/{year}:{time} +0000");
}

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Reads a time stamp in any of the three forms, as seconds since the epoch. `None` for anything
/// else: the header is then to be treated as absent.
#[must_use]
pub fn parse(text: &[u8]) -> Option<i64> {
    let read = |text: &[u8]| {
        let moment = httpdate::parse_http_date(str::from_utf8(text).ok()?).ok()?;
        Some(unix_s(moment))
    };
    // An IMF-fixdate has its year in the middle, what asctime writes has it at the end, and the
    // third form has no century.
    let year = match text.len() {
        DATE_BYTES => YEAR,
        ASCTIME_BYTES => 20..24,
        _ => return read(text),
    };
    let mut later = [0; DATE_BYTES];
    let later = &mut later[..text.len()];
    later.copy_from_slice(text);
    let is_early = shift_year(&mut later[year], |year| {
        (year < 1970).then_some(year + SHIFT_YEARS)
    });
    match is_early {
        true => Some(read(later)? - SHIFT_S),
        false => read(text),
    }
}

/// How long `Sun Nov  6 08:49:37 1994` is.
const ASCTIME_BYTES: usize = 24;

/// `moment` in whole seconds since the epoch, rounded down.
#[must_use]
pub fn unix_s(moment: SystemTime) -> i64 {
    match moment.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(error) => {
            let before = error.duration();
            let begun = u64::from(before.subsec_nanos() > 0);
            0i64.saturating_sub_unsigned(before.as_secs() + begun)
        }
    }
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
        for unix_s in [0, 1, 1, 784_111_777, 5, -1, i64::MAX, i64::MIN] {
            assert_eq!(*cache.at(unix_s), Date::new(unix_s));
        }
        assert_eq!(cache.at(i64::MAX).as_str(), "Fri, 31 Dec 9999 23:59:59 GMT");
        assert_eq!(cache.at(i64::MIN).as_str(), "Sat, 01 Jan 0000 00:00:00 GMT");
    }

    #[test]
    fn seconds_are_rounded_down_on_both_sides_of_the_epoch() {
        let after = |millis| unix_s(UNIX_EPOCH + Duration::from_millis(millis));
        let before = |millis| unix_s(UNIX_EPOCH - Duration::from_millis(millis));
        assert_eq!([after(5999), after(0)], [5, 0]);
        assert_eq!([before(1), before(1000), before(1001)], [-1, -1, -2]);
        let first = UNIX_EPOCH - Duration::from_secs(1 << 63);
        assert_eq!(unix_s(first), i64::MIN);
    }

    #[test]
    fn times_before_the_epoch_are_written_and_read() {
        // As `date -u -d` has them.
        for (second, text, short) in [
            (
                -1,
                "Wed, 31 Dec 1969 23:59:59 GMT",
                "Wed Dec 31 23:59:59 1969",
            ),
            (
                -86_400 * 365,
                "Wed, 01 Jan 1969 00:00:00 GMT",
                "Wed Jan  1 00:00:00 1969",
            ),
            (
                -315_619_200,
                "Fri, 01 Jan 1960 00:00:00 GMT",
                "Fri Jan  1 00:00:00 1960",
            ),
            (
                -2_147_483_648,
                "Fri, 13 Dec 1901 20:45:52 GMT",
                "Fri Dec 13 20:45:52 1901",
            ),
            (
                -2_203_891_201,
                "Wed, 28 Feb 1900 23:59:59 GMT",
                "Wed Feb 28 23:59:59 1900",
            ),
        ] {
            assert_eq!(Date::new(second).as_str(), text);
            assert_eq!(parse(text.as_bytes()), Some(second), "{text}");
            assert_eq!(parse(short.as_bytes()), Some(second), "{short}");
        }
        let mut iso = String::new();
        put_iso(&mut iso, -1);
        assert_eq!(iso, "1969-12-31T23:59:59Z");
    }

    proptest! {
        #[test]
        fn reading_undoes_writing(unix_s in FIRST_S..=LAST_S) {
            prop_assert_eq!(parse(Date::new(unix_s).as_bytes()), Some(unix_s));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse(&bytes);
        }
    }
}
