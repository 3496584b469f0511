//! Points in time as text, in UTC.

use std::cell::Cell;

/// `2026-01-02T03:04:05.`
type Stamp = [u8; 20];

thread_local! {
    /// The second that was written last, and its text: lines come in the order of time, many in a second.
    static LAST: Cell<(u64, Stamp)> = const { Cell::new((u64::MAX, [0; 20])) };
}

/// Appends an ISO 8601 time with milliseconds, which is Envoy's default.
pub fn iso(unix_micros: u64, out: &mut Vec<u8>) {
    let [a, b, c] = digits(unix_micros / 1000 % 1000);
    out.extend_from_slice(&stamp(unix_micros / 1_000_000));
    out.extend_from_slice(&[a, b, c, b'Z']);
}

/// Appends a time in a format: `%s`, `%Y`, `%m`, `%d`, `%H`, `%M`, `%S`, `%f`, `%3f`, `%6f`, `%9f`, `%T`, `%F`, `%Z`
/// and `%%` are understood.
pub fn formatted(unix_micros: u64, format: &str, out: &mut Vec<u8>) {
    let stamp = stamp(unix_micros / 1_000_000);
    let fraction: [u8; 9] = digits(unix_micros % 1_000_000 * 1000);
    let mut seconds = itoa::Buffer::new();
    let mut rest = format.as_bytes();
    while !rest.is_empty() {
        let (text, length) = match rest {
            [b'%', b'Y', ..] => (&stamp[..4], 2),
            [b'%', b'm', ..] => (&stamp[5..7], 2),
            [b'%', b'd', ..] => (&stamp[8..10], 2),
            [b'%', b'H', ..] => (&stamp[11..13], 2),
            [b'%', b'M', ..] => (&stamp[14..16], 2),
            [b'%', b'S', ..] => (&stamp[17..19], 2),
            [b'%', b'T', ..] => (&stamp[11..19], 2),
            [b'%', b'F', ..] => (&stamp[..10], 2),
            [b'%', b'Z', ..] => (&b"UTC"[..], 2),
            [b'%', b's', ..] => (seconds.format(unix_micros / 1_000_000).as_bytes(), 2),
            [b'%', b'3', b'f', ..] => (&fraction[..3], 3),
            [b'%', b'6', b'f', ..] => (&fraction[..6], 3),
            [b'%', b'9', b'f', ..] => (&fraction[..], 3),
            [b'%', b'f', ..] => (&fraction[..], 2),
            [b'%', b'%', ..] => (&rest[..1], 2),
            [b'%', _, ..] => (&rest[..2], 2),
            _ => (&rest[..1], 1),
        };
        out.extend_from_slice(text);
        rest = &rest[length..];
    }
}

fn stamp(second: u64) -> Stamp {
    let (last, stamp) = LAST.get();
    if last == second {
        return stamp;
    }
    let civil = Civil::from_unix(second);
    let mut stamp = *b"0000-00-00T00:00:00.";
    stamp[..4].copy_from_slice(&digits::<4>(civil.year as u64));
    for (at, value) in [(5, civil.month), (8, civil.day), (11, civil.hour), (14, civil.minute), (17, civil.second)] {
        stamp[at..at + 2].copy_from_slice(&digits::<2>(value));
    }
    LAST.set((second, stamp));
    stamp
}

/// The last `N` decimal digits.
fn digits<const N: usize>(mut value: u64) -> [u8; N] {
    let mut digits = [b'0'; N];
    for digit in digits.iter_mut().rev() {
        *digit += (value % 10) as u8;
        value /= 10;
    }
    digits
}

/// A date and time of day in UTC.
#[derive(Debug, PartialEq, Eq)]
pub struct Civil {
    pub year: i64,
    pub month: u64,
    pub day: u64,
    pub hour: u64,
    pub minute: u64,
    pub second: u64,
    /// 0 is Sunday.
    pub weekday: u64,
}

impl Civil {
    /// From seconds since the Unix epoch, by Howard Hinnant's `civil_from_days`.
    pub fn from_unix(seconds: u64) -> Civil {
        let days = seconds / 86_400;
        let rest = seconds % 86_400;
        let shifted = days + 719_468;
        let era = shifted / 146_097;
        let day_of_era = shifted % 146_097;
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_index = (5 * day_of_year + 2) / 153;
        let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
        Civil {
            year: (year_of_era + era * 400) as i64 + i64::from(month <= 2),
            month,
            day: day_of_year - (153 * month_index + 2) / 5 + 1,
            hour: rest / 3600,
            minute: rest % 3600 / 60,
            second: rest % 60,
            weekday: (days + 4) % 7,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn civil_dates() {
        let date = |seconds| {
            let c = Civil::from_unix(seconds);
            (c.year, c.month, c.day, c.hour, c.minute, c.second, c.weekday)
        };
        assert_eq!(date(0), (1970, 1, 1, 0, 0, 0, 4));
        assert_eq!(date(951_782_400), (2000, 2, 29, 0, 0, 0, 2));
        assert_eq!(date(1_795_392_645), (2026, 11, 23, 0, 10, 45, 1));
    }

    #[test]
    fn iso_times() {
        for (micros, wanted) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_795_392_645_007_999, "2026-11-23T00:10:45.007Z"),
            (1_795_392_645_999_999, "2026-11-23T00:10:45.999Z"),
            (1_795_392_646_000_000, "2026-11-23T00:10:46.000Z"),
            // Not only forwards.
            (1_795_392_645_100_000, "2026-11-23T00:10:45.100Z"),
        ] {
            let mut out = Vec::new();
            iso(micros, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), wanted);
        }
    }

    #[test]
    fn formatted_times() {
        for (format, wanted) in [
            ("%Y-%m-%dT%H:%M:%S%Z", "2026-11-23T00:10:45UTC"),
            ("%F %T.%3f", "2026-11-23 00:10:45.007"),
            ("%s.%6f", "1795392645.007089"),
            ("%f %9f", "007089000 007089000"),
            ("é%q%%Y%3x%", "é%q%Y%3x%"),
            ("", ""),
        ] {
            let mut out = Vec::new();
            formatted(1_795_392_645_007_089, format, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), wanted, "{format}");
        }
    }
}
