//! The daemon's flags, spelled as dockerd's; the help text is the doc comment.

use super::networks::NetworkFlags;
use std::path::PathBuf;

/// A container engine: serves the Docker Engine API and runs containers
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "gantryd", version, disable_help_subcommand = true)]
pub(crate) struct Flags {
    /// Daemon socket to listen on: unix://PATH, tcp://ADDRESS:PORT, fd:// (repeatable)
    #[arg(short = 'H', long = "host", value_name = "ADDRESS")]
    pub(crate) hosts: Vec<String>,
    /// Folder of the persistent state (default: /var/lib/gantry)
    #[arg(short = 'g', long, value_name = "DIR")]
    pub(crate) data_root: Option<PathBuf>,
    /// Folder of the state of running containers (default: /run/gantry)
    #[arg(long, value_name = "DIR")]
    pub(crate) exec_root: Option<PathBuf>,
    /// File that the daemon's PID is written to (default: gantry.pid in the exec root)
    #[arg(short = 'p', long, value_name = "FILE")]
    pub(crate) pidfile: Option<PathBuf>,
    /// Configuration file (default: /etc/gantry/daemon.json, where it exists)
    #[arg(long, value_name = "FILE")]
    pub(crate) config_file: Option<PathBuf>,
    /// Parent of the containers' cgroups (default: /gantry)
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup_parent: Option<String>,
    /// Logging level: debug, info, warn, error, fatal
    #[arg(short = 'l', long, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
    /// Logging format: text or json
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<String>,
    /// Same as --log-level debug
    #[arg(short = 'D', long)]
    pub(crate) debug: bool,
    /// Group that may use the unix sockets (default: docker, where it exists)
    #[arg(short = 'G', long, value_name = "GROUP")]
    pub(crate) group: Option<String>,
    /// Default log driver of containers (json-file unless given)
    #[arg(long, value_name = "DRIVER")]
    pub(crate) log_driver: Option<String>,
    /// Default log options of containers, KEY=VALUE (repeatable)
    #[arg(long = "log-opt", value_name = "OPTION")]
    pub(crate) log_opts: Vec<String>,
    /// Runtime options: native.cgroupdriver=cgroupfs is the only one
    #[arg(long = "exec-opt", value_name = "OPTION")]
    pub(crate) exec_opts: Vec<String>,
    /// Name servers of containers (repeatable)
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) dns: Vec<String>,
    /// Resolver options of containers (repeatable)
    #[arg(long = "dns-opt", value_name = "OPTION")]
    pub(crate) dns_opts: Vec<String>,
    /// Search domains of containers (repeatable)
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) dns_search: Vec<String>,
    #[command(flatten)]
    pub(crate) networks: NetworkFlags,
    #[command(flatten)]
    pub(crate) registries: RegistryFlags,
    /// Storage driver to use: overlay2, btrfs or vfs (default: what works best here)
    #[arg(short = 's', long, value_name = "DRIVER")]
    pub(crate) storage_driver: Option<String>,
    /// Keep the compressed blobs of layers, so that DATA-ROOT/image is a whole OCI layout
    #[arg(long)]
    pub(crate) keep_blobs: bool,
    /// Store files that several layers have once, by hard links (where the file system has reflinks they are shared anyway)
    #[arg(long)]
    pub(crate) dedupe: bool,
    /// Use TLS on TCP sockets
    #[arg(long)]
    pub(crate) tls: bool,
    /// Use TLS on TCP sockets and ask clients for certificates
    #[arg(long)]
    pub(crate) tlsverify: bool,
    /// Authorities of the clients' certificates
    #[arg(long, value_name = "FILE")]
    pub(crate) tlscacert: Option<PathBuf>,
    /// The daemon's certificate
    #[arg(long, value_name = "FILE")]
    pub(crate) tlscert: Option<PathBuf>,
    /// The key of the daemon's certificate
    #[arg(long, value_name = "FILE")]
    pub(crate) tlskey: Option<PathBuf>,
    /// Write one byte to this descriptor when the daemon listens
    #[arg(long, value_name = "NUMBER", hide = true)]
    pub(crate) ready_fd: Option<i32>,
    /// Write how long each step of a start takes into the log
    #[arg(long)]
    pub(crate) trace_starts: bool,
}

/// How registries are reached.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct RegistryFlags {
    /// Registries spoken to by HTTP, or with any certificate: HOST[:PORT] or a network (repeatable)
    #[arg(long = "insecure-registry", value_name = "REGISTRY")]
    pub(crate) insecure: Vec<String>,
    /// Addresses that are asked before Docker Hub (repeatable)
    #[arg(long = "registry-mirror", value_name = "URL")]
    pub(crate) mirrors: Vec<String>,
    /// HTTP proxy URL to use for outgoing traffic
    #[arg(long, value_name = "URL")]
    pub(crate) http_proxy: Option<String>,
    /// HTTPS proxy URL to use for outgoing traffic
    #[arg(long, value_name = "URL")]
    pub(crate) https_proxy: Option<String>,
    /// Comma-separated list of hosts or IP addresses for which the proxy is skipped
    #[arg(long, value_name = "LIST")]
    pub(crate) no_proxy: Option<String>,
    /// Set the max concurrent downloads (3 unless given)
    #[arg(long, value_name = "NUMBER")]
    pub(crate) max_concurrent_downloads: Option<i64>,
    /// Set the max concurrent uploads (5 unless given)
    #[arg(long, value_name = "NUMBER")]
    pub(crate) max_concurrent_uploads: Option<i64>,
    /// Set the max download attempts for each pull (5 unless given)
    #[arg(long, value_name = "NUMBER")]
    pub(crate) max_download_attempts: Option<i64>,
    /// Folder of certificates for registries: HOST[:PORT]/{*.crt,*.cert,*.key}
    #[arg(long, value_name = "FOLDER", hide = true)]
    pub(crate) registry_certificates: Option<PathBuf>,
    /// Of no effect, as in Docker
    #[arg(long, value_name = "REGISTRY", hide = true)]
    pub(crate) allow_nondistributable_artifacts: Vec<String>,
}
