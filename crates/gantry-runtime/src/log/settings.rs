//! What a log is to be: the daemon decides it at a container's start, the shim acts on it.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

/// Where a container's output goes; nothing given: nowhere (`--log-driver none`).
#[derive(Debug, Default)]
pub struct LogRequest {
    /// The log itself, or a remote log's local copy.
    pub file: Option<LogFile>,
    pub remote: Option<RemoteLog>,
}

/// A log in files.
#[derive(Debug, Clone)]
pub struct LogFile {
    pub path: PathBuf,
    pub format: LogFormat,
    /// Bytes after which the file is rotated; none: never.
    pub max_size: Option<u64>,
    /// Files kept, the current one included (at least 1).
    pub max_files: u32,
    /// Rotated files are compressed (gzip).
    pub compress: bool,
    /// `attrs` of each line (labels, env, tag), sorted by key; empty: none. For [`LogFormat::Json`] alone.
    pub attrs: Vec<(String, String)>,
}

/// How a log's files are written; see the module's documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogFormat {
    Json,
    Local,
}

/// A log elsewhere.
#[derive(Debug)]
pub struct RemoteLog {
    pub settings: RemoteSettings,
    /// A connection made ahead; none: the shim makes it when there is something to send.
    pub socket: Option<OwnedFd>,
}

/// What the shim knows of a log elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteSettings {
    pub protocol: Protocol,
    pub address: Address,
    /// Output waits while `buffer` is full; else what comes then is dropped.
    pub blocking: bool,
    /// Bytes of messages that wait to be sent.
    pub buffer: u64,
    /// Connections tried in a row before the messages that wait are dropped; none: forever.
    pub attempts: Option<u32>,
    /// The first pause between two attempts; it grows to a minute.
    pub pause: Duration,
}

/// Whom to send to. Names are resolved by the daemon: the shim has no resolver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Address {
    Udp(SocketAddr),
    Tcp(SocketAddr),
    /// A unix socket by its absolute path.
    Stream(String),
    /// A unix datagram socket by its absolute path.
    Datagram(String),
}

/// What is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// The native protocol of systemd-journald, with these fields beside a message's own.
    Journald {
        fields: Vec<(String, String)>,
    },
    Syslog(Syslog),
    /// Graylog's format 1.1.
    Gelf(Gelf),
    /// Fluentd's forward protocol, message mode; `record` has the pairs beside a message's own.
    Fluentd {
        tag: String,
        record: Vec<(String, String)>,
        /// Times as EventTime, not whole seconds.
        sub_second: bool,
    },
}

/// Settings of syslog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Syslog {
    /// Facility, 0 to 23.
    pub facility: u8,
    pub format: SyslogFormat,
    pub hostname: String,
    pub tag: String,
    /// The local time's distance from UTC, seconds.
    pub offset: i32,
}

/// How a syslog message looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyslogFormat {
    /// RFC 3164 without a host name.
    Unix,
    Rfc3164,
    Rfc5424,
    /// RFC 5424 with microseconds.
    Rfc5424Micro,
}

/// Settings of GELF.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gelf {
    pub hostname: String,
    /// Further fields as JSON, `"_a":"b","_c":"d"`.
    pub extra: String,
    pub compression: Compression,
    /// -1 (the library's choice) to 9.
    pub level: i32,
}

/// How GELF datagrams are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compression {
    None,
    Gzip,
    Zlib,
}
