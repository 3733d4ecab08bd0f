//! Times as Kubernetes writes them.

/// Unix time in ms of an RFC 3339 time; `None` if it is none. Leap seconds count as the second before.
pub(crate) fn parse_rfc3339_ms(text: &str) -> Option<i64> {
    let (date, rest) = (text.get(..10)?, text.get(10..)?);
    let (clock, rest) = (rest.strip_prefix(['T', 't'])?.get(..8)?, rest.get(9..)?);
    let (fraction, zone) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(rest.bytes().position(|b| !b.is_ascii_digit())?),
        None => ("000", rest),
    };
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(clock, ':')?;
    let in_range = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    if !in_range || fraction.is_empty() {
        return None;
    }
    let ms = fraction.bytes().chain(*b"000").take(3).fold(0, |ms, digit| ms * 10 + i64::from(digit - b'0'));
    let seconds = days_since_epoch(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second.min(59);
    Some((seconds - offset_s(zone)?) * 1_000 + ms)
}

/// Three numbers of digits only.
fn numbers(text: &str, separator: char) -> Option<[i64; 3]> {
    let mut parts = text.split(separator).map(|part| {
        let is_number = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| part.parse().ok()).flatten()
    });
    let numbers = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(numbers)
}

fn offset_s(zone: &str) -> Option<i64> {
    if zone == "Z" || zone == "z" {
        return Some(0);
    }
    let (sign, clock) = match zone.split_at_checked(1)? {
        ("+", clock) => (1, clock),
        ("-", clock) => (-1, clock),
        _ => return None,
    };
    let [hours, minutes, _] = numbers(&format!("{clock}:00"), ':')?;
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar. Years run from March, so that the leap day comes last.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + day_of_year - DAYS_TO_EPOCH
}

/// Days from March 1st of year 0 to 1970-01-01.
const DAYS_TO_EPOCH: i64 = 719_468;

#[cfg(test)]
mod tests {
    use super::parse_rfc3339_ms;

    #[test]
    fn times_are_read() {
        let times = [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T23:59:59Z", 951_868_799_000),
            ("2026-11-21T10:06:29Z", 1_795_255_589_000),
            ("2026-11-21T10:06:29.4547831Z", 1_795_255_589_454),
            ("2026-11-21T12:06:29+02:00", 1_795_255_589_000),
            ("2026-11-21T07:36:29.5-02:30", 1_795_255_589_500),
            ("1969-12-31T23:59:59Z", -1_000),
        ];
        for (text, expected) in times {
            assert_eq!(parse_rfc3339_ms(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        let others = [
            "",
            "2026",
            "2026-11-21",
            "2026-11-21 10:06:29Z",
            "2026-11-21T10:06:29",
            "2026-13-01T00:00:00Z",
            "2026-11-21T24:00:00Z",
            "2026-11-21T10:06:29.Z",
            "2026-11-21T10:06:29+2",
            "+026-11-21T10:06:29Z",
            "2026-11-21T10:06:2éZ",
            "é026-11-21T10:06:29Z",
        ];
        for text in others {
            assert_eq!(parse_rfc3339_ms(text), None, "{text}");
        }
    }
}
