//! Which moment is this, in words that sort? RFC 3339, and seconds since 1970.
//!
//! Written in UTC, to the second or, where there are any, to the millisecond. Read with any offset from UTC, with a space
//! for the `T`, and without a time, which is midnight in UTC. No names of time zones and no leap seconds (`:60` is the second after); that is all we need and saves
//! a dependency.

use std::time::{Duration, SystemTime};

/// A time of day.
pub(crate) type Moment = SystemTime;

const DAY_SECONDS: i64 = 86_400;

/// `2024-02-29T12:34:56Z`; `None` for years that have more or fewer than four digits.
pub(crate) fn rfc3339(time: SystemTime) -> Option<String> {
    let seconds = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).ok()?,
        Err(before) => {
            let before = before.duration();
            i64::try_from(before.as_secs()).ok()?.checked_neg()? - i64::from(before.subsec_nanos() > 0)
        }
    };
    let (year, month, day) = date_of_day(seconds.div_euclid(DAY_SECONDS))?;
    let second = seconds.rem_euclid(DAY_SECONDS);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    Some(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"))
}

/// When a file was changed, in nanoseconds from 1970; 0 where the system does not say. Only compared with itself.
#[cfg(feature = "parquet")]
pub(crate) fn changed_at(metadata: &std::fs::Metadata) -> u64 {
    let changed = metadata.modified().ok().and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    changed.and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or(0)
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar; `None` outside of the years 0 to 9999 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms":
/// years begin in March, so that the leap day comes last, and repeat every 146,097 days).
pub(crate) fn date_of_day(day: i64) -> Option<(i64, i64, i64)> {
    let day = day.checked_add(719_468)?;
    let (era, day) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year + i64::from(month <= 2);
    (0..=9999).contains(&year).then_some((year, month, day_of_month))
}

/// The day, counted from 1970-01-01, of a date of the Gregorian calendar; the same source.
fn day(year: i64, month: i64, day_of_month: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day_of_month - 1;
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// `2024-02-29` of a day counted from 1970-01-01.
#[cfg(feature = "documents")]
pub(crate) fn day_of(day: i64) -> Option<String> {
    date_of_day(day).map(|(year, month, day)| format!("{year:04}-{month:02}-{day:02}"))
}

/// As [`rfc3339`], of milliseconds since 1970, which are told where there are any.
pub(crate) fn rfc3339_of_millis(millis: u64) -> Option<String> {
    let seconds = rfc3339(of_millis(millis)?)?;
    Some(match millis % 1_000 {
        0 => seconds,
        rest => format!("{}.{rest:03}Z", seconds.trim_end_matches('Z')),
    })
}

/// The moment so many milliseconds after 1970; `None` where the system cannot tell it.
pub(crate) fn of_millis(millis: u64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis))
}

/// The milliseconds since 1970; 0 before.
pub(crate) fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Reads RFC 3339, to the millisecond, or the date alone, which is its first moment in UTC; `None` where it is something else.
pub(crate) fn parse(text: &str) -> Option<SystemTime> {
    let (date, rest) = text.trim().split_at_checked(10)?;
    let [year, month, day_of_month] = numbers(date, '-', [4, 2, 2])?;
    let rest = if rest.is_empty() { "T00:00:00Z" } else { rest };
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (time, rest) = rest.split_at_checked(8)?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let (fraction, zone) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(rest.find(|character: char| !character.is_ascii_digit())?),
        None => ("0", rest),
    };
    if fraction.is_empty() || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let number = day(year, month, day_of_month);
    if date_of_day(number) != Some((year, month, day_of_month)) {
        return None;
    }
    let thousandths: u64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    let seconds = number * DAY_SECONDS + hour * 3600 + minute * 60 + second - offset(zone)?;
    let moment = match u64::try_from(seconds) {
        Ok(after) => SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(after))?,
        Err(_) => SystemTime::UNIX_EPOCH.checked_sub(Duration::from_secs(seconds.unsigned_abs()))?,
    };
    moment.checked_add(Duration::from_millis(thousandths))
}

/// Seconds that a zone is ahead of UTC.
fn offset(zone: &str) -> Option<i64> {
    let sign = match zone.chars().next()? {
        'Z' | 'z' if zone.len() == 1 => return Some(0),
        '+' => 1,
        '-' => -1,
        _ => return None,
    };
    let [hours, minutes] = numbers(&zone[1..], ':', [2, 2])?;
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

/// Numbers of so many digits each.
fn numbers<const N: usize>(text: &str, between: char, digits: [usize; N]) -> Option<[i64; N]> {
    let mut found = [0; N];
    let mut parts = text.split(between);
    for (number, digits) in found.iter_mut().zip(digits) {
        let part = parts.next()?;
        let is_right = part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit());
        *number = part.parse().ok().filter(|_| is_right)?;
    }
    parts.next().is_none().then_some(found)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Option<String> {
        rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(at(0).as_deref(), Some("1970-01-01T00:00:00Z"));
        assert_eq!(at(951_782_400).as_deref(), Some("2000-02-29T00:00:00Z"));
        assert_eq!(at(1_709_210_096).as_deref(), Some("2024-02-29T12:34:56Z"));
        assert_eq!(at(4_102_444_799).as_deref(), Some("2099-12-31T23:59:59Z"));
        assert_eq!(at(253_402_300_800), None, "the year 10000");
    }

    #[test]
    fn what_is_written_is_read() {
        for millis in [0, 1, 999, 951_782_400_000, 1_709_210_096_789, 4_102_444_799_000] {
            let text = rfc3339_of_millis(millis).unwrap();
            assert_eq!(parse(&text).map(super::millis), Some(millis), "{text}");
        }
        assert_eq!(rfc3339_of_millis(1_709_210_096_007).as_deref(), Some("2024-02-29T12:34:56.007Z"));
    }

    #[test]
    fn other_ways_to_write_it_are_read_and_what_is_none_is_not() {
        let seconds = |text: &str| parse(text).map(|moment| millis(moment) / 1_000);
        for same in ["2024-02-29T12:34:56Z", "2024-02-29 14:34:56+02:00", "2024-02-29t02:04:56.9-10:30"] {
            assert_eq!(seconds(same), Some(1_709_210_096), "{same}");
        }
        assert_eq!(seconds("1969-12-31T23:59:59Z"), Some(0), "long gone");
        assert_eq!((seconds("2024-02-29"), seconds(" 1970-01-02 ")), (Some(1_709_164_800), Some(86_400)), "midnight");
        for none in [
            "",
            "2024",
            "2024-02-30",
            "2024-02-29Z",
            "2024-02-29T",
            "2024-02-30T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:00:00",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00+2",
            "2024-1-1T00:00:00Z",
            "2024-01-01T00:00:00Zulu",
            "+024-01-01T00:00:00Z",
            "2024-01-01T00:00:00é",
        ] {
            assert_eq!(seconds(none), None, "{none}");
        }
    }

    #[test]
    fn times_before_1970_are_right_too() {
        let before = SystemTime::UNIX_EPOCH - Duration::from_millis(500);
        assert_eq!(rfc3339(before).as_deref(), Some("1969-12-31T23:59:59Z"));
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(86_400);
        assert_eq!(rfc3339(before).as_deref(), Some("1969-12-31T00:00:00Z"));
    }
}
