//! When was this file changed, in words that sort? RFC 3339 in UTC, to the second.
//!
//! No time zones, no parsing, no leap seconds; that is all we need and saves a dependency.

use std::time::SystemTime;

const DAY_SECONDS: i64 = 86_400;

/// `2024-02-29T12:34:56Z`; `None` for years that have more or fewer than four digits.
pub(super) fn rfc3339(time: SystemTime) -> Option<String> {
    let seconds = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).ok()?,
        Err(before) => {
            let before = before.duration();
            i64::try_from(before.as_secs()).ok()?.checked_neg()? - i64::from(before.subsec_nanos() > 0)
        }
    };
    let (year, month, day) = date(seconds.div_euclid(DAY_SECONDS))?;
    let second = seconds.rem_euclid(DAY_SECONDS);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    Some(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"))
}

/// The Gregorian date of a day counted from 1970-01-01 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms":
/// years begin in March, so that the leap day comes last, and repeat every 146,097 days).
fn date(day: i64) -> Option<(i64, i64, i64)> {
    let day = day + 719_468;
    let (era, day) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year + i64::from(month <= 2);
    (0..=9999).contains(&year).then_some((year, month, day_of_month))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
    fn times_before_1970_are_right_too() {
        let before = SystemTime::UNIX_EPOCH - Duration::from_millis(500);
        assert_eq!(rfc3339(before).as_deref(), Some("1969-12-31T23:59:59Z"));
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(86_400);
        assert_eq!(rfc3339(before).as_deref(), Some("1969-12-31T00:00:00Z"));
    }
}
