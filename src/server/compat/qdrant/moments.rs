//! Which moment does this string of a payload mean? Microseconds since 1970, or none.
//!
//! RFC 3339 and what Qdrant reads besides: a space for the `T`, no offset (that is UTC), hours alone as an offset, no seconds, a
//! date alone. `crate::moment` reads RFC 3339 to the millisecond, which is too coarse to compare with.

/// Microseconds since 1970; `None` where the text is no moment.
pub(super) fn micros(text: &str) -> Option<i64> {
    let text = text.trim_start();
    let (date, rest) = text.split_at_checked(10)?;
    let days = days(date)?;
    if rest.is_empty() {
        return Some(days * 86_400_000_000);
    }
    let rest = rest.strip_prefix(['T', ' '])?;
    let (time, offset) = offset(rest)?;
    Some(days * 86_400_000_000 + of_day(time)? - offset * 60_000_000)
}

fn number(digits: &str, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = plain.then(|| digits.parse().ok())??;
    range.contains(&number).then_some(number)
}

/// Days since 1970 of `2024-02-29` (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days(date: &str) -> Option<i64> {
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || (year.len(), month.len(), day.len()) != (4, 2, 2) {
        return None;
    }
    let (year, month) = (number(year, 0..=9999)?, number(month, 1..=12)?);
    let leap = i64::from(year % 4 == 0 && (year % 100 != 0 || year % 400 == 0));
    let longest = match month {
        2 => 28 + leap,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let day = number(day, 1..=longest)?;
    let from_march = if month > 2 { month - 3 } else { month + 9 };
    let year = if month > 2 { year } else { year - 1 };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

/// Splits the offset off, in minutes.
fn offset(text: &str) -> Option<(&str, i64)> {
    if let Some(time) = text.strip_suffix(['Z', 'z']).or_else(|| text.strip_suffix(" UTC")) {
        return Some((time, 0));
    }
    let Some(sign) = text.rfind(['+', '-']) else { return Some((text, 0)) };
    let (time, offset) = text.split_at(sign);
    let (negative, offset) = (offset.starts_with('-'), &offset[1..]);
    let (hours, minutes) = match (offset.split_once(':'), offset.len()) {
        (Some(parts), 5) => parts,
        (None, 4) => offset.split_at_checked(2)?,
        (None, 2) => (offset, "00"),
        _ => return None,
    };
    let minutes = number(hours, 0..=23)? * 60 + number(minutes, 0..=59)?;
    Some((time.strip_suffix(' ').unwrap_or(time), if negative { -minutes } else { minutes }))
}

/// Microseconds of `12:34`, `12:34:56` or `12:34:56.789`.
fn of_day(time: &str) -> Option<i64> {
    let mut parts = time.splitn(3, ':');
    let (hour, minute) = (number(parts.next()?, 0..=23)?, number(parts.next()?, 0..=59)?);
    let mut micros = 0;
    if let Some(second) = parts.next() {
        let (second, fraction) = second.split_once('.').unwrap_or((second, "0"));
        number(fraction, 0..=i64::MAX)?;
        let six: String = fraction.chars().chain("000000".chars()).take(6).collect();
        micros = number(second, 0..=59)? * 1_000_000 + number(&six, 0..=999_999)?;
    }
    Some((hour * 60 + minute) * 60_000_000 + micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_qdrant_reads_them() {
        for (text, expected) in [
            ("1970-01-01", Some(0)),
            ("1970-01-01T00:00:01Z", Some(1_000_000)),
            ("1970-01-01 00:01", Some(60_000_000)),
            ("2024-02-29T12:00:00.5+01:00", Some(1_709_204_400_500_000)),
            ("2024-02-29 12:00:00.5+01", Some(1_709_204_400_500_000)),
            ("2024-02-29 11:00:00.500000 UTC", Some(1_709_204_400_500_000)),
            ("1969-12-31T23:59:59.999999z", Some(-1)),
            ("2023-02-29", None),
            ("2024-06-15 12", None),
            ("2024-06-15T12:30+1", None),
            ("2024-06-15T24:00", None),
            ("yesterday", None),
            ("2024-06-1é", None),
            ("", None),
        ] {
            assert_eq!(micros(text), expected, "{text}");
        }
    }
}
