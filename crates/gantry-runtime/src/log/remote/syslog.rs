//! Messages of RFC 3164 and RFC 5424, each ending in a newline.

use super::{Entry, Stream};
use crate::log::format::civil;
use crate::log::settings::{Syslog, SyslogFormat};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// A message, at the time of now as Docker has it.
pub(super) fn message(settings: &Syslog, entry: &Entry<'_>) -> Vec<u8> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mut out = head(settings, entry.stream, now).into_bytes();
    out.extend_from_slice(entry.text);
    out.push(b'\n');
    out
}

fn head(settings: &Syslog, stream: Stream, now: Duration) -> String {
    let severity = match stream {
        Stream::Stdout => 6,
        Stream::Stderr => 3,
    };
    let priority = u32::from(settings.facility) * 8 + severity;
    let local = now.as_secs().saturating_add_signed(settings.offset.into());
    let (year, month, day, [hour, minute, second]) = civil(local);
    let (host, tag, pid) = (&settings.hostname, &settings.tag, std::process::id());
    let month_name = MONTHS[(month as usize + 11) % 12];
    let stamp = format!("{month_name} {day:>2} {hour:02}:{minute:02}:{second:02}");
    let iso = |fraction: &str| {
        let zone = match (settings.offset, settings.offset.unsigned_abs() / 60) {
            (0, _) => "Z".to_owned(),
            (offset, minutes) => {
                let sign = if offset < 0 { '-' } else { '+' };
                format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
            }
        };
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}{zone}")
    };
    // COMPAT: the tag is also the application's name, as in Docker.
    let rfc5424 = |time: String| format!("<{priority}>1 {time} {host} {tag} {pid} {tag} - ");
    match settings.format {
        SyslogFormat::Unix => format!("<{priority}>{stamp} {tag}[{pid}]: "),
        SyslogFormat::Rfc3164 => format!("<{priority}>{stamp} {host} {tag}[{pid}]: "),
        SyslogFormat::Rfc5424 => rfc5424(iso("")),
        SyslogFormat::Rfc5424Micro => rfc5424(iso(&format!(".{:06}", now.subsec_micros()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_of_all_formats() {
        let mut settings = Syslog {
            facility: 3,
            format: SyslogFormat::Unix,
            hostname: "h".into(),
            tag: "t".into(),
            offset: 0,
        };
        let now = Duration::new(1_700_000_000, 12_345_678);
        let pid = std::process::id();
        let mut all = Vec::new();
        for (format, offset) in [
            (SyslogFormat::Unix, 0),
            (SyslogFormat::Rfc3164, 3600),
            (SyslogFormat::Rfc5424, -5400),
            (SyslogFormat::Rfc5424Micro, 0),
        ] {
            (settings.format, settings.offset) = (format, offset);
            all.push(head(&settings, Stream::Stdout, now));
        }
        assert_eq!(
            all,
            [
                format!("<30>Nov 14 22:13:20 t[{pid}]: "),
                format!("<30>Nov 14 23:13:20 h t[{pid}]: "),
                format!("<30>1 2023-11-14T20:43:20-01:30 h t {pid} t - "),
                format!("<30>1 2023-11-14T22:13:20.012345Z h t {pid} t - "),
            ]
        );
    }
}
