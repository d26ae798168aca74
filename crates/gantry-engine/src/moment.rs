//! Points in time as filters name them: a span before now, a date with or without a time, or Unix seconds.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// Reads a point in time (moby's `timestamp.GetTimestamp`); the error is Docker's words.
pub(crate) fn parse(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let wrong = || format!("failed to parse value as time or duration: {text:?}");
    if text.trim().is_empty() {
        return Err("failed to parse value as time or duration: value is empty".to_owned());
    }
    if text != "0"
        && let Some(span) = crate::images::duration(text)
    {
        let span = SignedDuration::from_nanos(span);
        return now.checked_sub(span).map_err(|_| wrong());
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Some(time) = unix(text) {
        return time.ok_or_else(wrong);
    }
    // Without a zone: the machine's. Parts may be missing at the end.
    let (civil, zone) = match text.strip_suffix(['Z', 'z']) {
        Some(civil) => (civil, TimeZone::UTC),
        None => (text, TimeZone::system()),
    };
    let civil = match civil.len() {
        10 => format!("{civil}T00:00:00"),
        13 => format!("{civil}:00:00"),
        16 => format!("{civil}:00"),
        _ => civil.to_owned(),
    };
    let civil: jiff::civil::DateTime = civil.parse().map_err(|_| wrong())?;
    let zoned = civil.to_zoned(zone).map_err(|_| wrong())?;
    Ok(zoned.timestamp())
}

/// `seconds` or `seconds.fraction`; none where it is no such text.
fn unix(text: &str) -> Option<Option<Timestamp>> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = seconds.parse().ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanoseconds = format!("{:0<9}", &fraction[..fraction.len().min(9)]);
    Some(Timestamp::new(seconds, nanoseconds.parse().ok()?).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms() {
        let now: Timestamp = "2024-05-06T07:08:09Z".parse().unwrap();
        let parsed = |text: &str| parse(text, now).map(|time| time.to_string());
        for (text, time) in [
            ("1h30m", "2024-05-06T05:38:09Z"),
            ("1.5h", "2024-05-06T05:38:09Z"),
            ("10s", "2024-05-06T07:07:59Z"),
            ("0", "1970-01-01T00:00:00Z"),
            ("1700000000", "2023-11-14T22:13:20Z"),
            ("1700000000.5", "2023-11-14T22:13:20.5Z"),
            ("2024-01-02Z", "2024-01-02T00:00:00Z"),
            ("2024-01-02T03Z", "2024-01-02T03:00:00Z"),
            ("2024-01-02T03:04Z", "2024-01-02T03:04:00Z"),
            ("2024-01-02T03:04:05+02:00", "2024-01-02T01:04:05Z"),
            ("2024-01-02T03:04:05.25Z", "2024-01-02T03:04:05.25Z"),
        ] {
            assert_eq!(parsed(text).as_deref(), Ok(time), "{text}");
        }
        assert!(parsed("2024-01-02").is_ok() && parsed("2024-01-02T03:04").is_ok());
        for bad in ["nope", "1x", "2024-13-01", "1.2.3", "99999999999999999"] {
            let words = format!("failed to parse value as time or duration: {bad:?}");
            assert_eq!(parsed(bad), Err(words));
        }
        assert!(parsed(" ").is_err());
    }
}
