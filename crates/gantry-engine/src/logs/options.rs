//! The options of log drivers: what `create` refuses and what a start makes of them, in Docker's words (the drivers'
//! `ValidateLogOpt` and `New` in daemon/logger of Docker Engine 28).

use gantry_api::container::Map;
use std::time::Duration;

/// Options of all drivers that are no driver's own.
const COMMON: [&str; 6] = [
    "mode",
    "max-buffer-size",
    "cache-disabled",
    "cache-max-size",
    "cache-max-file",
    "cache-compress",
];
/// Options that choose what goes with each line.
const ATTRIBUTES: [&str; 5] = ["labels", "labels-regex", "env", "env-regex", "tag"];
const SYSLOG: [&str; 7] = [
    "syslog-address",
    "syslog-facility",
    "syslog-tls-ca-cert",
    "syslog-tls-cert",
    "syslog-tls-key",
    "syslog-tls-skip-verify",
    "syslog-format",
];
const FLUENTD: [&str; 10] = [
    "fluentd-address",
    "fluentd-async",
    "fluentd-async-reconnect-interval",
    "fluentd-buffer-limit",
    "fluentd-max-retries",
    "fluentd-request-ack",
    "fluentd-retry-wait",
    "fluentd-sub-second-precision",
    "fluentd-write-timeout",
    "fluentd-read-timeout",
];
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "", "", "", "", "local0", "local1", "local2", "local3", "local4", "local5", "local6",
    "local7",
];

/// The drivers' names, as `info` lists them.
pub const DRIVERS: [&str; 6] = [
    "fluentd",
    "gelf",
    "journald",
    "json-file",
    "local",
    "syslog",
];

type Checked<T = ()> = Result<T, String>;

/// Checks a log configuration as `create` does. Some wrong values are found at the start only, as in Docker.
///
/// # Errors
/// Docker's words.
pub fn validate(driver: &str, options: &Map) -> Checked {
    if driver == "none" {
        return Ok(());
    }
    let option = |name: &str| options.get(name).map(String::as_str);
    let mode = option("mode").unwrap_or_default();
    if !matches!(mode, "" | "blocking" | "non-blocking") {
        return Err(format!("logger: logging mode not supported: {mode}"));
    }
    if let Some(size) = option("max-buffer-size") {
        if mode != "non-blocking" {
            return Err(
                "logger: max-buffer-size option is only supported with 'mode=non-blocking'".into(),
            );
        }
        size_1024(size).map_err(|e| format!("error parsing option max-buffer-size: {e}"))?;
    }
    if let Some(value) = option("cache-disabled").filter(|v| !v.is_empty())
        && boolean(value).is_none()
    {
        return Err(format!("invalid value for option cache-disabled: {value}"));
    }
    if !DRIVERS.contains(&driver) {
        return Err(format!(
            "error looking up logging plugin {driver}: plugin \"{driver}\" not found"
        ));
    }
    let own = options
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .filter(|(name, _)| !COMMON.contains(name));
    match driver {
        "json-file" => known(own, &["max-file", "max-size", "compress"], |name| {
            format!("unknown log opt '{name}' for json-file log driver")
        }),
        "local" => {
            let mut own = own;
            match own.find(|(name, _)| !["max-file", "max-size", "compress"].contains(name)) {
                Some((name, _)) => Err(format!("unknown log opt '{name}' for log driver local")),
                None => Ok(()),
            }
        }
        "journald" => known(own, &[], |name| {
            format!("unknown log opt '{name}' for journald log driver")
        }),
        "syslog" => {
            known(own, &SYSLOG, |name| {
                format!("unknown log opt '{name}' for syslog log driver")
            })?;
            syslog_address(option("syslog-address").unwrap_or_default())?;
            facility(option("syslog-facility").unwrap_or_default())?;
            match option("syslog-format").unwrap_or_default() {
                "" | "rfc3164" | "rfc5424" | "rfc5424micro" => Ok(()),
                _ => Err("Invalid syslog format".into()),
            }
        }
        "gelf" => gelf(own, option("gelf-address").unwrap_or_default()),
        _ => {
            known(own, &FLUENTD, |name| {
                format!("unknown log opt '{name}' for fluentd log driver")
            })?;
            Fluentd::of(options).map(drop)
        }
    }
}

fn known<'a>(
    options: impl Iterator<Item = (&'a str, &'a str)>,
    names: &[&str],
    words: impl Fn(&str) -> String,
) -> Checked {
    let mut options = options.map(|(name, _)| name);
    match options.find(|name| !ATTRIBUTES.contains(name) && !names.contains(name)) {
        Some(name) => Err(words(name)),
        None => Ok(()),
    }
}

fn gelf<'a>(options: impl Iterator<Item = (&'a str, &'a str)>, address: &str) -> Checked {
    let udp = gelf_address(address)?.scheme == "udp";
    for (name, value) in options {
        match name {
            "gelf-address" => {}
            _ if ATTRIBUTES.contains(&name) => {}
            "gelf-compression-level" | "gelf-compression-type" if !udp => {
                return Err("compression is only supported on UDP".into());
            }
            "gelf-compression-level" | "gelf-compression-type" => {
                let good = if name == "gelf-compression-type" {
                    matches!(value, "gzip" | "zlib" | "none")
                } else {
                    value.parse().is_ok_and(|level| (-1..=9).contains(&level))
                };
                if !good {
                    return Err(format!(
                        "unknown value \"{value}\" for log opt \"{name}\" for gelf log driver"
                    ));
                }
            }
            "gelf-tcp-max-reconnect" | "gelf-tcp-reconnect-delay" => {
                if udp {
                    return Err(format!("\"{name}\" is only valid for TCP"));
                }
                if value.parse::<i64>().map_or(true, |n| n < 0) {
                    return Err(format!("\"{name}\" must be a positive integer"));
                }
            }
            _ => {
                return Err(format!("unknown log opt \"{name}\" for gelf log driver"));
            }
        }
    }
    Ok(())
}

/// The parts of a URL that drivers look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) scheme: String,
    /// `host` or `host:port`.
    pub(super) host: String,
    pub(super) path: String,
}

/// Go's url.Parse, as far as addresses go.
fn url(text: &str) -> Checked<Url> {
    let bad = |why: &str| Err(format!("parse \"{text}\": {why}"));
    if text.contains(|c: char| c.is_ascii_control()) {
        return bad("net/url: invalid control character in URL");
    }
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c));
    let (scheme, rest) = match end {
        Some(0) if text.starts_with(':') => return bad("missing protocol scheme"),
        Some(end)
            if text[end..].starts_with(':')
                && text.starts_with(|c: char| c.is_ascii_alphabetic()) =>
        {
            (text[..end].to_ascii_lowercase(), &text[end + 1..])
        }
        _ => (String::new(), text),
    };
    if scheme.is_empty()
        && rest
            .split('/')
            .next()
            .is_some_and(|first| first.contains(':'))
    {
        return bad("first path segment in URL cannot contain colon");
    }
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (host, path) = match rest.strip_prefix("//") {
        Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
        None if scheme.is_empty() || rest.starts_with('/') => ("", rest),
        // Opaque: `localhost:514`.
        None => ("", ""),
    };
    let host = host.rsplit('@').next().unwrap_or_default();
    let port = host.rsplit_once(':').map(|(_, port)| port);
    if let Some(port) =
        port.filter(|p| !host.ends_with(']') && p.bytes().any(|b| !b.is_ascii_digit()))
    {
        return bad(&format!("invalid port \":{port}\" after host"));
    }
    Ok(Url {
        scheme,
        host: host.to_owned(),
        path: path.to_owned(),
    })
}

/// Host and port of `host:port` or `[host]:port`.
pub(super) fn host_and_port(text: &str) -> Option<(&str, &str)> {
    let (host, port) = text.rsplit_once(':')?;
    match host.strip_prefix('[') {
        Some(host) => Some((host.strip_suffix(']')?, port)),
        None if host.contains(':') => None,
        None => Some((host, port)),
    }
}

/// The address of syslog; none: the machine's own.
pub(super) fn syslog_address(text: &str) -> Checked<Option<Url>> {
    if text.is_empty() {
        return Ok(None);
    }
    let mut url = url(text)?;
    match url.scheme.as_str() {
        "unix" | "unixgram" => match std::fs::metadata(&url.path) {
            Ok(_) => Ok(Some(url)),
            Err(error) => Err(format!("stat {}: {}", url.path, plain(&error))),
        },
        "tcp+tls" => {
            // COMPAT: Docker sends over TLS.
            Err("syslog over TLS (tcp+tls) is not supported by this engine".into())
        }
        "udp" | "tcp" => {
            if host_and_port(&url.host).is_none() {
                url.host = format!("{}:514", url.host);
            }
            Ok(Some(url))
        }
        other => Err(format!("unsupported scheme: '{other}'")),
    }
}

/// A facility's number.
pub(super) fn facility(text: &str) -> Checked<u8> {
    if text.is_empty() {
        return Ok(3);
    }
    if let Some(number) = FACILITIES.iter().position(|name| *name == text) {
        return Ok(number as u8);
    }
    match text.parse() {
        Ok(number @ 0..=23) => Ok(number),
        _ => Err("invalid syslog facility".into()),
    }
}

pub(super) fn gelf_address(text: &str) -> Checked<Url> {
    if text.is_empty() {
        return Err("gelf-address is a required parameter".into());
    }
    let url = url(text)?;
    if !matches!(url.scheme.as_str(), "udp" | "tcp") {
        return Err("gelf: endpoint needs to be TCP or UDP".into());
    }
    if host_and_port(&url.host).is_none() {
        return Err("gelf: please provide gelf-address as proto://host:port".into());
    }
    Ok(url)
}

/// The options of fluentd, read.
#[derive(Debug)]
pub(super) struct Fluentd {
    /// Host and port, or the path of a unix socket.
    pub(super) address: Result<(String, u16), String>,
    pub(super) asynchronous: bool,
    pub(super) buffer: u64,
    pub(super) retries: u32,
    pub(super) wait: Duration,
    pub(super) sub_second: bool,
}

impl Fluentd {
    pub(super) fn of(options: &Map) -> Checked<Self> {
        let option = |name: &str| {
            options
                .get(name)
                .map(String::as_str)
                .filter(|v| !v.is_empty())
        };
        let truth = |name: &str| {
            option(name).map_or(Ok(false), |text| {
                boolean(text)
                    .ok_or_else(|| format!("strconv.ParseBool: parsing \"{text}\": invalid syntax"))
            })
        };
        let given = option("fluentd-address").unwrap_or_default();
        let address = fluentd_address(given)
            .map_err(|why| format!("invalid fluentd-address ({given}): {why}"))?;
        let buffer = option("fluentd-buffer-limit").map_or(Ok(1 << 20), size_1024)?;
        let wait = option("fluentd-retry-wait").map_or(Ok(1_000_000_000), duration)?;
        let retries = option("fluentd-max-retries").map_or(Ok(u32::MAX), |text| {
            text.parse::<u32>()
                .map_err(|_| format!("strconv.ParseUint: parsing \"{text}\": invalid syntax"))
        })?;
        let asynchronous = truth("fluentd-async")?;
        if let Some(text) = option("fluentd-async-reconnect-interval") {
            let bad =
                |why: String| format!("invalid value for fluentd-async-reconnect-interval: {why}");
            let interval = duration(text).map_err(bad)?;
            if interval != 0 && !(100_000_000..=10_000_000_000).contains(&interval) {
                return Err(bad(format!(
                    "value (\"{text}\") must be between 100ms and 10s"
                )));
            }
        }
        let sub_second = truth("fluentd-sub-second-precision")?;
        if truth("fluentd-request-ack")? {
            // COMPAT: Docker waits for the other side's word on each message.
            return Err("fluentd-request-ack is not supported by this engine".into());
        }
        for name in ["fluentd-write-timeout", "fluentd-read-timeout"] {
            if let Some(text) = option(name) {
                let value = duration(text).map_err(|why| {
                    format!("invalid value for {name}: value must be a duration: {why}")
                })?;
                if value < 0 {
                    return Err(format!(
                        "invalid value for {name}: value must be a duration that is non-negative"
                    ));
                }
            }
        }
        Ok(Self {
            address,
            asynchronous,
            buffer,
            retries,
            wait: Duration::from_nanos(wait.max(0).unsigned_abs()),
            sub_second,
        })
    }
}

fn fluentd_address(text: &str) -> Checked<Result<(String, u16), String>> {
    let given = match text {
        "" => return Ok(Ok(("127.0.0.1".into(), 24224))),
        text if text.contains("://") => url(text)?,
        text => url(&format!("tcp://{text}"))?,
    };
    match given.scheme.as_str() {
        "unix" if given.path.trim_start_matches('/').is_empty() => Err("path is empty".into()),
        "unix" => Ok(Err(given.path)),
        // COMPAT: Docker sends over TLS.
        "tls" => Err("tls is not supported by this engine".into()),
        "tcp" if !given.path.is_empty() => Err("should not contain a path element".into()),
        "tcp" => {
            let (host, port) = host_and_port(&given.host).unwrap_or((&given.host, ""));
            let port = match port {
                "" => 24224,
                port => port.parse().map_err(|_| {
                    format!(
                        "invalid port: strconv.ParseUint: parsing \"{port}\": value out of range"
                    )
                })?,
            };
            let host = if host.is_empty() { "127.0.0.1" } else { host };
            Ok(Ok((host.to_owned(), port)))
        }
        other => Err(format!("unsupported scheme: '{other}'")),
    }
}

/// Go's strconv.ParseBool.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Go's time.ParseDuration, nanoseconds.
fn duration(text: &str) -> Checked<i64> {
    let bad = || format!("time: invalid duration \"{text}\"");
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    let mut total = 0.0;
    loop {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().map_err(|_| bad())?;
        rest = &rest[digits..];
        let unit = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        total += number
            * match &rest[..unit] {
                "ns" => 1.0,
                "us" | "µs" | "μs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 6e10,
                "h" => 3.6e12,
                "" => return Err(format!("time: missing unit in duration \"{text}\"")),
                unit => {
                    return Err(format!(
                        "time: unknown unit \"{unit}\" in duration \"{text}\""
                    ));
                }
            };
        rest = &rest[unit..];
        if rest.is_empty() {
            return Ok((sign * total) as i64);
        }
    }
}

/// go-units' RAMInBytes: units of 1,024.
pub(super) fn size_1024(text: &str) -> Checked<u64> {
    size(text, 1024)
}

/// go-units' FromHumanSize: units of 1,000.
pub(super) fn size_1000(text: &str) -> Checked<u64> {
    size(text, 1000)
}

fn size(text: &str, base: u64) -> Checked<u64> {
    let bad = || format!("invalid size: '{text}'");
    let at = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ');
    let (number, suffix) = text.split_at(at.ok_or_else(bad)? + 1);
    let number: f64 = number
        .strip_suffix(' ')
        .unwrap_or(number)
        .parse()
        .map_err(|_| bad())?;
    if number.is_nan() || number < 0.0 {
        return Err(bad());
    }
    let lower = suffix.to_lowercase();
    let unit = match lower.as_str() {
        "" | "b" => return Ok(number as u64),
        lower => "kmgtp"
            .find(&lower[..1])
            .filter(|_| matches!(&lower[1..], "" | "b" | "ib")),
    };
    let power = unit.ok_or_else(|| format!("invalid suffix: '{lower}'"))?;
    Ok((number * base.pow(power as u32 + 1) as f64) as u64)
}

/// An error of the system in Go's words: the plain text in small letters.
pub(super) fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.to_lowercase()
}
