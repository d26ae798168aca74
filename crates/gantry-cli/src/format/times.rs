//! Points in time and spans, in Docker's words.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Unix seconds of now.
pub(crate) fn now() -> i64 {
    Timestamp::now().as_second()
}

fn many(count: i64, unit: &str) -> String {
    format!("{count} {unit}")
}

/// `About a minute`, `3 hours`: a span of seconds.
pub(crate) fn human_duration(seconds: i64) -> String {
    let minutes = seconds / 60;
    // Hours are rounded, all else is cut off.
    let hours = (seconds + 1800) / 3600;
    match seconds {
        ..1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => many(seconds, "seconds"),
        _ if minutes == 1 => "About a minute".to_owned(),
        _ if minutes < 60 => many(minutes, "minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => many(hours, "hours"),
        _ if hours < 24 * 7 * 2 => many(hours / 24, "days"),
        _ if hours < 24 * 30 * 2 => many(hours / 24 / 7, "weeks"),
        _ if hours < 24 * 365 * 2 => many(hours / 24 / 30, "months"),
        _ => many(seconds / 3600 / 24 / 365, "years"),
    }
}

/// `3 hours ago`
pub(crate) fn ago(unix: i64) -> String {
    format!("{} ago", human_duration(now() - unix))
}

/// As Go prints a time: `2025-01-02 03:04:05 +0000 UTC`, in the local zone.
pub(crate) fn date(unix: i64) -> String {
    let Ok(stamp) = Timestamp::from_second(unix) else {
        return unix.to_string();
    };
    let zoned = stamp.to_zoned(TimeZone::system());
    zoned.strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string()
}

/// `2025-01-02T03:04:05Z`, in the local zone.
pub(crate) fn rfc3339(unix: i64) -> String {
    let Ok(stamp) = Timestamp::from_second(unix) else {
        return unix.to_string();
    };
    let zoned = stamp.to_zoned(TimeZone::system());
    match zoned.offset().is_zero() {
        true => zoned.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        false => zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
    }
}

/// A time in the daemon's JSON as Go prints it: `2025-01-02 03:04:05.6 +0100 CET`, in the zone that it came with, which
/// has a name where it is the local one.
pub(crate) fn go_time(text: &str) -> String {
    let pieces = jiff::fmt::temporal::Pieces::parse(text);
    let parts = pieces.ok().and_then(|pieces| {
        let offset = pieces.to_numeric_offset()?;
        Some((pieces.date().to_datetime(pieces.time()?), offset))
    });
    let Some((civil, offset)) = parts else {
        return text.to_owned();
    };
    let local = TimeZone::system();
    let fixed = TimeZone::fixed(offset);
    let Ok(zoned) = civil.to_zoned(fixed) else {
        return text.to_owned();
    };
    let name = match local.to_offset_info(zoned.timestamp()) {
        _ if offset.is_zero() => "UTC".to_owned(),
        here if here.offset() == offset => here.abbreviation().to_owned(),
        _ => zoned.strftime("%z").to_string(),
    };
    zoned
        .strftime(&format!("%Y-%m-%d %H:%M:%S%.f %z {name}"))
        .to_string()
}

/// Unix nanoseconds as `2025-01-02T03:04:05.000000000Z` in the local zone.
pub(crate) fn text_of(nanoseconds: i64) -> String {
    let Ok(stamp) = Timestamp::from_nanosecond(nanoseconds.into()) else {
        return nanoseconds.to_string();
    };
    let zoned = stamp.to_zoned(TimeZone::system());
    match zoned.offset().is_zero() {
        true => zoned.strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string(),
        false => zoned.strftime("%Y-%m-%dT%H:%M:%S.%9f%:z").to_string(),
    }
}

/// What `--since` and `--until` take: a span before now (`10m`), Unix seconds, or a date and time; gives
/// Unix seconds with nine digits behind the point where there is a fraction.
pub(crate) fn parse_when(text: &str) -> Result<String, String> {
    if let Ok(span) = crate::request::duration(text)
        && text != "0"
    {
        let then = Timestamp::now().as_nanosecond() - i128::from(span);
        return Ok(seconds(then));
    }
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if digits(whole.trim_start_matches('-')) && digits(fraction) {
        return Ok(text.to_owned());
    }
    let wrong = || format!("failed to parse value as time or duration: \"{text}\"");
    if let Ok(stamp) = text.parse::<Timestamp>() {
        return Ok(seconds(stamp.as_nanosecond()));
    }
    // Without a zone: the local one. Parts may be missing at the end.
    let full = match text.len() {
        10 => format!("{text}T00:00:00"),
        13 => format!("{text}:00:00"),
        16 => format!("{text}:00"),
        _ => text.to_owned(),
    };
    let civil: jiff::civil::DateTime = full.trim_end_matches('Z').parse().map_err(|_| wrong())?;
    let zone = if full.ends_with('Z') {
        TimeZone::UTC
    } else {
        TimeZone::system()
    };
    let zoned = civil.to_zoned(zone).map_err(|_| wrong())?;
    Ok(seconds(zoned.timestamp().as_nanosecond()))
}

fn seconds(nanoseconds: i128) -> String {
    format!(
        "{}.{:09}",
        nanoseconds.div_euclid(1_000_000_000),
        nanoseconds.rem_euclid(1_000_000_000)
    )
}
