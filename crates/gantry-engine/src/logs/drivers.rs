//! From a container's log configuration to what its shim is to do: for each driver the files, the connection and the
//! words that go with a line.
//!
//! Names are resolved and connections made here, as the shim can do neither; a driver that cannot be reached fails the
//! start, as in Docker, but where the driver is told to go on without (`fluentd-async`).

use super::attributes::{self, DEFAULT_TAG, command, dial, extra, hostname, tag};
use super::options::{self, Fluentd, Url, boolean, host_and_port, size_1000, size_1024};
use crate::containers::record::Record;
use crate::context::Context;
use gantry_runtime::log::{
    Address, Compression, Gelf, LogFile, LogFormat, LogRequest, Protocol, RemoteLog,
    RemoteSettings, Syslog, SyslogFormat, connect,
};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

/// How long a driver may take to answer at a start.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes that wait for a remote in blocking mode before the container does.
const BLOCKING_BUFFER: u64 = 1 << 20;
/// Without `max-buffer-size`, in non-blocking mode.
const RING: u64 = 1_000_000;
const JOURNAL: &str = "/run/systemd/journal/socket";

/// Where a container's log can be read.
#[derive(Debug, Clone)]
pub(crate) struct Readable {
    pub(crate) path: PathBuf,
    pub(crate) format: LogFormat,
    pub(crate) max_files: u32,
}

/// The files of a container's log: of its driver, or the copy of a log elsewhere. None: it cannot be read.
pub(crate) fn readable(context: &Context, record: &Record) -> Option<Readable> {
    let config = &record.host_config.log_config;
    let directory = context.container_dir(&record.id);
    let number = |name: &str, default: u32| {
        let given = config.config.get(name);
        given.and_then(|n| n.parse().ok()).unwrap_or(default)
    };
    let (path, format, max_files) = match config.kind.as_str() {
        "none" => return None,
        "json-file" => (
            context.log_path(&record.id),
            LogFormat::Json,
            number("max-file", 3),
        ),
        "local" => (
            directory.join("local-logs/container.log"),
            LogFormat::Local,
            number("max-file", 5),
        ),
        _ => {
            let disabled = config.config.get("cache-disabled");
            if disabled.and_then(|v| boolean(v)).unwrap_or(false) {
                return None;
            }
            (
                directory.join("container-cached.log"),
                LogFormat::Local,
                number("cache-max-file", 5),
            )
        }
    };
    Some(Readable {
        path,
        format,
        max_files,
    })
}

/// What the shim is to do with the container's output.
///
/// # Errors
/// In Docker's words: an option's value, or a driver that cannot be reached.
pub(crate) fn request(context: &Context, record: &Record) -> Result<LogRequest, String> {
    let config = &record.host_config.log_config;
    let option = |name: &str| config.config.get(name).map(String::as_str);
    let file = match readable(context, record) {
        None => None,
        Some(readable) => Some(match config.kind.as_str() {
            "json-file" => json_file(readable, record)?,
            "local" => local(
                readable,
                [option("max-size"), option("max-file"), option("compress")],
            )?,
            _ => local(
                readable,
                [
                    option("cache-max-size"),
                    option("cache-max-file"),
                    option("cache-compress"),
                ],
            )?,
        }),
    };
    if let Some(directory) = file.as_ref().and_then(|f| f.path.parent()) {
        std::fs::create_dir_all(directory).map_err(|error| {
            format!("mkdir {}: {}", directory.display(), options::plain(&error))
        })?;
    }
    let remote = match config.kind.as_str() {
        "journald" => Some(journald(record)?),
        "syslog" => Some(syslog(record)?),
        "gelf" => Some(gelf(record)?),
        "fluentd" => Some(fluentd(record)?),
        _ => None,
    };
    Ok(LogRequest { file, remote })
}

fn json_file(readable: Readable, record: &Record) -> Result<LogFile, String> {
    let options = &record.host_config.log_config.config;
    let option = |name: &str| options.get(name).map(String::as_str);
    // COMPAT: Docker's files grow without end unless told otherwise.
    let max_size = match option("max-size") {
        None => Some(10_000_000),
        Some("-1") => None,
        Some(text) => match size_1000(text)? {
            0 => return Err("max-size must be a positive number".into()),
            size => Some(size),
        },
    };
    let max_files = match option("max-file") {
        None => readable.max_files,
        Some(text) => match atoi(text)? {
            ..1 => return Err("max-file cannot be less than 1".into()),
            number => u32::try_from(number).unwrap_or(u32::MAX),
        },
    };
    let compress = option("compress").map_or(Ok(false), truth)?;
    if compress && (max_files == 1 || max_size.is_none()) {
        return Err(
            "compress cannot be true when max-file is less than 2 or max-size is not set".into(),
        );
    }
    let mut attrs = extra(record, str::to_owned)?;
    let tag = tag(record, "")?;
    if !tag.is_empty() {
        attrs.insert("tag".into(), tag);
    }
    Ok(LogFile {
        path: readable.path,
        format: readable.format,
        max_size,
        max_files,
        compress,
        attrs: attrs.into_iter().collect(),
    })
}

fn local(
    readable: Readable,
    [size, files, compress]: [Option<&str>; 3],
) -> Result<LogFile, String> {
    let max_size = match size {
        None => 20 << 20,
        Some(text) => {
            size_1000(text).map_err(|why| format!("invalid value for max-size: {text}: {why}"))?
        }
    };
    let max_files = match files {
        None => i64::from(readable.max_files),
        Some(text) => {
            atoi(text).map_err(|why| format!("invalid value for max-file: {text}: {why}"))?
        }
    };
    if max_files < 0 {
        return Err("max-file must not be negative".into());
    }
    let compress = compress
        .map_or(Ok(true), truth)
        .map_err(|why| format!("invalid boolean value for compress: {why}"))?;
    if compress && max_files <= 1 {
        return Err("compression cannot be enabled when max file count is 1".into());
    }
    Ok(LogFile {
        path: readable.path,
        format: readable.format,
        max_size: (max_size > 0).then_some(max_size),
        max_files: u32::try_from(max_files).unwrap_or(u32::MAX).max(1),
        compress,
        attrs: Vec::new(),
    })
}

fn atoi(text: &str) -> Result<i64, String> {
    text.parse()
        .map_err(|_| format!("strconv.Atoi: parsing \"{text}\": invalid syntax"))
}

fn truth(text: &str) -> Result<bool, String> {
    boolean(text).ok_or_else(|| format!("strconv.ParseBool: parsing \"{text}\": invalid syntax"))
}

/// The settings that `mode` decides.
fn settings(
    record: &Record,
    protocol: Protocol,
    address: Address,
) -> Result<RemoteSettings, String> {
    let options = &record.host_config.log_config.config;
    let blocking = options
        .get("mode")
        .is_none_or(|mode| mode != "non-blocking");
    let buffer = match options.get("max-buffer-size") {
        Some(text) if !blocking => size_1024(text)?,
        _ if blocking => BLOCKING_BUFFER,
        _ => RING,
    };
    Ok(RemoteSettings {
        protocol,
        address,
        blocking,
        buffer,
        attempts: Some(1),
        pause: Duration::from_secs(1),
    })
}

fn resolve(network: &str, text: &str) -> Result<SocketAddr, String> {
    let bad = || format!("dial {network}: address {text}: invalid port");
    let (host, port) = host_and_port(text).ok_or_else(bad)?;
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    let port: u16 = port.parse().map_err(|_| bad())?;
    let mut found: Vec<SocketAddr> = (host, port)
        .to_socket_addrs()
        .map_err(|_| format!("dial {network}: lookup {host}: no such host"))?
        .collect();
    // IPv4 first, as Go's dialer tries it where IPv6 leads nowhere.
    found.sort_by_key(SocketAddr::is_ipv6);
    found
        .first()
        .copied()
        .ok_or_else(|| format!("dial {network}: lookup {host}: no such host"))
}

/// An address as it is dialled: which network, and what an error calls it.
fn dialled(url: &Url) -> Result<(Address, &'static str, String), String> {
    Ok(match url.scheme.as_str() {
        "unix" => (Address::Stream(url.path.clone()), "unix", url.path.clone()),
        "unixgram" => (
            Address::Datagram(url.path.clone()),
            "unixgram",
            url.path.clone(),
        ),
        "udp" => {
            let to = resolve("udp", &url.host)?;
            (Address::Udp(to), "udp", to.to_string())
        }
        _ => {
            let to = resolve("tcp", &url.host)?;
            (Address::Tcp(to), "tcp", to.to_string())
        }
    })
}

fn journald(record: &Record) -> Result<RemoteLog, String> {
    let tag = tag(record, DEFAULT_TAG)?;
    let mut fields = std::collections::BTreeMap::from(
        [
            ("CONTAINER_ID", record.id[..12].to_owned()),
            ("CONTAINER_ID_FULL", record.id.clone()),
            ("CONTAINER_NAME", record.name.clone()),
            ("CONTAINER_TAG", tag.clone()),
            ("IMAGE_NAME", record.config.image.clone()),
            ("SYSLOG_IDENTIFIER", tag),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    let own = extra(record, journal_name)?;
    fields.extend(own.into_iter().filter(|(name, _)| !name.is_empty()));
    let address = Address::Datagram(JOURNAL.into());
    let socket = connect(&address, PATIENCE)
        .map_err(|_| "journald is not enabled on this host".to_owned())?;
    let protocol = Protocol::Journald {
        fields: fields.into_iter().collect(),
    };
    Ok(RemoteLog {
        settings: settings(record, protocol, address)?,
        socket: Some(socket),
    })
}

/// A name as journald takes it: capital letters, digits and underscores, of which none at the beginning.
fn journal_name(name: &str) -> String {
    let valid = name.chars().map(|c| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' => c.to_ascii_uppercase(),
        _ => '_',
    });
    valid.skip_while(|c| *c == '_').collect()
}

fn syslog(record: &Record) -> Result<RemoteLog, String> {
    let options = &record.host_config.log_config.config;
    let option = |name: &str| options.get(name).map_or("", String::as_str);
    let tag = tag(record, DEFAULT_TAG)?;
    let url = options::syslog_address(option("syslog-address"))?;
    let facility = options::facility(option("syslog-facility"))?;
    let (address, socket) = match &url {
        None => local_syslog()?,
        Some(url) => {
            let (address, network, name) = dialled(url)?;
            let socket = connect(&address, PATIENCE).map_err(|e| dial(network, &name, &e))?;
            (address, socket)
        }
    };
    let protocol = Protocol::Syslog(Syslog {
        facility,
        format: match option("syslog-format") {
            "rfc3164" => SyslogFormat::Rfc3164,
            "rfc5424" => SyslogFormat::Rfc5424,
            "rfc5424micro" => SyslogFormat::Rfc5424Micro,
            _ => SyslogFormat::Unix,
        },
        hostname: hostname(),
        tag,
        // COMPAT: the offset of the container's start, also after the clock has changed.
        offset: jiff::Zoned::now().offset().seconds(),
    });
    Ok(RemoteLog {
        settings: settings(record, protocol, address)?,
        socket: Some(socket),
    })
}

/// The machine's own syslog.
fn local_syslog() -> Result<(Address, std::os::fd::OwnedFd), String> {
    let paths = ["/dev/log", "/var/run/syslog", "/var/run/log"];
    let addresses = paths
        .iter()
        .map(|path| Address::Datagram((*path).into()))
        .chain(paths.iter().map(|path| Address::Stream((*path).into())));
    for address in addresses {
        if let Ok(socket) = connect(&address, PATIENCE) {
            return Ok((address, socket));
        }
    }
    Err("Unix syslog delivery error".into())
}

fn gelf(record: &Record) -> Result<RemoteLog, String> {
    let options = &record.host_config.log_config.config;
    let option = |name: &str| options.get(name).map_or("", String::as_str);
    let url = options::gelf_address(option("gelf-address"))?;
    let tag = tag(record, DEFAULT_TAG)?;
    let mut fields = std::collections::BTreeMap::from(
        [
            ("_container_id", record.id.clone()),
            ("_container_name", record.name.clone()),
            ("_image_id", record.image_id.clone()),
            ("_image_name", record.config.image.clone()),
            ("_command", command(record)),
            ("_tag", tag),
            ("_created", record.created.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    fields.extend(attributes::extra(record, |name| {
        format!("_{}", name.strip_prefix('_').unwrap_or(name))
    })?);
    let json = serde_json::to_string(&fields).map_err(|e| e.to_string())?;
    let unreachable =
        |why: String| format!("gelf: cannot connect to GELF endpoint: {} {why}", url.host);
    let (address, network, name) = dialled(&url).map_err(unreachable)?;
    let socket = connect(&address, PATIENCE).map_err(|e| unreachable(dial(network, &name, &e)))?;
    let protocol = Protocol::Gelf(Gelf {
        hostname: hostname(),
        extra: json[1..json.len() - 1].to_owned(),
        compression: match option("gelf-compression-type") {
            "zlib" => Compression::Zlib,
            "none" => Compression::None,
            _ => Compression::Gzip,
        },
        // The library's default is the fastest.
        level: option("gelf-compression-level").parse().unwrap_or(1),
    });
    let mut settings = settings(record, protocol, address)?;
    settings.attempts = Some(option("gelf-tcp-max-reconnect").parse().unwrap_or(3).max(1));
    let delay = option("gelf-tcp-reconnect-delay").parse().unwrap_or(1);
    settings.pause = Duration::from_secs(delay);
    Ok(RemoteLog {
        settings,
        socket: Some(socket),
    })
}

fn fluentd(record: &Record) -> Result<RemoteLog, String> {
    let given = Fluentd::of(&record.host_config.log_config.config)?;
    let tag = tag(record, DEFAULT_TAG)?;
    let mut fields = std::collections::BTreeMap::from([
        ("container_id".to_owned(), record.id.clone()),
        ("container_name".to_owned(), format!("/{}", record.name)),
    ]);
    fields.extend(extra(record, str::to_owned)?);
    let (address, network, name) = match &given.address {
        Ok((host, port)) => {
            let host = if host.contains(':') {
                format!("[{host}]")
            } else {
                host.clone()
            };
            let to = resolve("tcp", &format!("{host}:{port}"))?;
            (Address::Tcp(to), "tcp", to.to_string())
        }
        Err(path) => (Address::Stream(path.clone()), "unix", path.clone()),
    };
    let socket = match connect(&address, PATIENCE) {
        Ok(socket) => Some(socket),
        Err(_) if given.asynchronous => None,
        Err(error) => return Err(dial(network, &name, &error)),
    };
    let protocol = Protocol::Fluentd {
        tag,
        record: fields.into_iter().collect(),
        sub_second: given.sub_second,
    };
    let mut settings = settings(record, protocol, address)?;
    if given.asynchronous {
        settings.blocking = false;
        settings.buffer = given.buffer;
    }
    settings.attempts = (given.retries < i32::MAX as u32).then_some(given.retries.max(1));
    settings.pause = given.wait;
    Ok(RemoteLog { settings, socket })
}
