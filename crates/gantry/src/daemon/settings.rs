//! What the daemon runs with: flags over daemon.json over defaults. A key given in both places is an error, as dockerd
//! has it.

use super::flags::Flags;
use super::networks::{NetworkFile, Networks};
use super::registries::{self, Registries};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// daemon.json, Docker's keys.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct File {
    hosts: Vec<String>,
    data_root: Option<PathBuf>,
    exec_root: Option<PathBuf>,
    pidfile: Option<PathBuf>,
    #[serde(flatten)]
    networks: NetworkFile,
    cgroup_parent: Option<String>,
    log_level: Option<String>,
    log_format: Option<String>,
    debug: Option<bool>,
    group: Option<String>,
    log_driver: Option<String>,
    log_opts: BTreeMap<String, String>,
    exec_opts: Vec<String>,
    dns: Vec<String>,
    dns_opts: Vec<String>,
    dns_search: Vec<String>,
    insecure_registries: Vec<String>,
    registry_mirrors: Vec<String>,
    proxies: registries::FileProxies,
    max_concurrent_downloads: Option<i64>,
    max_concurrent_uploads: Option<i64>,
    max_download_attempts: Option<i64>,
    /// Of no effect since Docker 25, as here.
    #[serde(rename = "allow-nondistributable-artifacts")]
    _allow_nondistributable_artifacts: Vec<String>,
    storage_driver: Option<String>,
    keep_blobs: Option<bool>,
    dedupe: Option<bool>,
    default_shm_size: Option<String>,
    /// Beyond Docker.
    max_unpack_ratio: Option<u64>,
    image_policy: Option<PathBuf>,
    tls: Option<bool>,
    tlsverify: Option<bool>,
    tlscacert: Option<PathBuf>,
    tlscert: Option<PathBuf>,
    tlskey: Option<PathBuf>,
    /// How Gantry always works; `true` is accepted.
    live_restore: Option<bool>,
    /// Keys that are none of these.
    #[serde(flatten)]
    unknown: BTreeMap<String, serde_json::Value>,
}

/// The resolved settings.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) hosts: Vec<String>,
    pub(crate) data_root: PathBuf,
    pub(crate) exec_root: PathBuf,
    pub(crate) pidfile: PathBuf,
    pub(crate) networks: Networks,
    pub(crate) cgroup_parent: String,
    pub(crate) log_level: String,
    pub(crate) log_json: bool,
    pub(crate) group: Option<String>,
    pub(crate) log_driver: String,
    pub(crate) log_opts: BTreeMap<String, String>,
    pub(crate) dns: Vec<String>,
    pub(crate) dns_opts: Vec<String>,
    pub(crate) dns_search: Vec<String>,
    pub(crate) registries: Registries,
    pub(crate) storage_driver: Option<String>,
    pub(crate) keep_blobs: bool,
    pub(crate) dedupe: bool,
    pub(crate) max_unpack_ratio: Option<u64>,
    pub(crate) image_policy: Option<PathBuf>,
    pub(crate) shm_size: i64,
    pub(crate) tls: Option<Tls>,
    pub(crate) ready_fd: Option<i32>,
    pub(crate) trace_starts: bool,
}

/// Certificates for TCP.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) client_authorities: Option<PathBuf>,
}

/// A key from one of the two places.
pub(super) fn one<T>(key: &str, flag: Option<T>, file: Option<T>) -> Result<Option<T>> {
    match (flag, file) {
        (Some(_), Some(_)) => bail!(
            "unable to configure the Docker daemon with file: the following directives are specified both as a flag and in the configuration file: {key}"
        ),
        (flag, file) => Ok(flag.or(file)),
    }
}

pub(super) fn many<T>(key: &str, flag: Vec<T>, file: Vec<T>) -> Result<Vec<T>> {
    let some = |list: Vec<T>| if list.is_empty() { None } else { Some(list) };
    Ok(one(key, some(flag), some(file))?.unwrap_or_default())
}

fn flag(on: bool) -> Option<bool> {
    on.then_some(true)
}

impl Settings {
    /// Flags and file together.
    pub(crate) fn resolve(flags: Flags) -> Result<Self> {
        let default = Path::new("/etc/gantry/daemon.json");
        let config_file = flags
            .config_file
            .clone()
            .or_else(|| default.exists().then(|| default.to_owned()));
        let file = config_file
            .as_deref()
            .map(read)
            .transpose()?
            .unwrap_or_default();
        Self::merge(flags, file)
    }

    fn merge(flags: Flags, file: File) -> Result<Self> {
        if !file.unknown.is_empty() {
            let keys: Vec<&str> = file.unknown.keys().map(String::as_str).collect();
            bail!(
                "unable to configure the Docker daemon with file: the following directives don't match any configuration option: {}",
                keys.join(", ")
            );
        }
        let log_opts = pairs(&flags.log_opts)?;
        if !log_opts.is_empty() && !file.log_opts.is_empty() {
            one("log-opts", Some(()), Some(()))?;
        }
        let driver = one("log-driver", flags.log_driver, file.log_driver)?;
        let log_driver = driver.unwrap_or_else(|| "json-file".into());
        let log_opts = if log_opts.is_empty() {
            file.log_opts
        } else {
            log_opts
        };
        gantry_engine::logs::validate(&log_driver, &log_opts)
            .map_err(|why| anyhow::anyhow!("failed to set log opts: {why}"))?;
        for option in many("exec-opts", flags.exec_opts, file.exec_opts)? {
            if option != "native.cgroupdriver=cgroupfs" {
                bail!(
                    "exec option {option:?}: native.cgroupdriver=cgroupfs is the one that this version has"
                );
            }
        }
        if file.live_restore == Some(false) {
            bail!("live-restore: false: containers always survive the daemon; remove the key");
        }
        let registries = Registries::merge(
            flags.registries,
            registries::File {
                insecure: file.insecure_registries,
                mirrors: file.registry_mirrors,
                proxies: file.proxies,
                downloads: file.max_concurrent_downloads,
                uploads: file.max_concurrent_uploads,
                attempts: file.max_download_attempts,
            },
        )?;
        let tls = tls(
            one("tls", flag(flags.tls), file.tls)? == Some(true),
            one("tlsverify", flag(flags.tlsverify), file.tlsverify)? == Some(true),
            one("tlscacert", flags.tlscacert, file.tlscacert)?,
            one("tlscert", flags.tlscert, file.tlscert)?,
            one("tlskey", flags.tlskey, file.tlskey)?,
        )?;
        let exec_root = one("exec-root", flags.exec_root, file.exec_root)?
            .unwrap_or_else(|| "/run/gantry".into());
        let debug = one("debug", flag(flags.debug), file.debug)? == Some(true);
        let level = one("log-level", flags.log_level, file.log_level)?;
        let mut hosts = many("hosts", flags.hosts, file.hosts)?;
        if hosts.is_empty() {
            hosts.push(format!("unix://{}/gantry.sock", exec_root.display()));
        }
        let shm_size = file.default_shm_size.as_deref().map(|text| {
            gantry_engine::containers::create::size_in_bytes(text)
                .with_context(|| format!("default-shm-size {text:?} is no size"))
        });
        Ok(Self {
            hosts,
            data_root: one("data-root", flags.data_root, file.data_root)?
                .unwrap_or_else(|| "/var/lib/gantry".into()),
            pidfile: one("pidfile", flags.pidfile, file.pidfile)?
                .unwrap_or_else(|| exec_root.join("gantry.pid")),
            exec_root,
            networks: Networks::merge(flags.networks, file.networks)?,
            cgroup_parent: one("cgroup-parent", flags.cgroup_parent, file.cgroup_parent)?
                .unwrap_or_else(|| "/gantry".into()),
            log_level: if debug {
                "debug".into()
            } else {
                level.unwrap_or_else(|| "info".into())
            },
            log_json: match one("log-format", flags.log_format, file.log_format)?.as_deref() {
                None | Some("text") => false,
                Some("json") => true,
                Some(other) => bail!("log format {other:?}: text or json is expected"),
            },
            group: one("group", flags.group, file.group)?,
            log_driver,
            log_opts,
            dns: many("dns", flags.dns, file.dns)?,
            dns_opts: many("dns-opts", flags.dns_opts, file.dns_opts)?,
            dns_search: many("dns-search", flags.dns_search, file.dns_search)?,
            registries,
            storage_driver: one("storage-driver", flags.storage_driver, file.storage_driver)?,
            dedupe: one("dedupe", flag(flags.dedupe), file.dedupe)? == Some(true),
            keep_blobs: one("keep-blobs", flag(flags.keep_blobs), file.keep_blobs)? == Some(true),
            max_unpack_ratio: file.max_unpack_ratio,
            image_policy: file.image_policy,
            shm_size: shm_size.transpose()?.map_or(64 << 20, |n| n as i64),
            tls,
            ready_fd: flags.ready_fd,
            trace_starts: flags.trace_starts,
        })
    }
}

/// TLS of the API's TCP sockets.
fn tls(
    tls: bool,
    verify: bool,
    authorities: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
) -> Result<Option<Tls>> {
    match (tls || verify, certificate, key) {
        (false, ..) => Ok(None),
        (true, Some(certificate), Some(key)) => Ok(Some(Tls {
            certificate,
            key,
            client_authorities: match verify {
                true => Some(authorities.context("--tlsverify needs --tlscacert")?),
                false => None,
            },
        })),
        (true, ..) => bail!("TLS needs --tlscert and --tlskey"),
    }
}

/// The words of `--log-opt`.
fn pairs(options: &[String]) -> Result<BTreeMap<String, String>> {
    options
        .iter()
        .map(|option| {
            let (key, value) = option
                .split_once('=')
                .with_context(|| format!("--log-opt {option}: KEY=VALUE is expected"))?;
            Ok((key.to_owned(), value.to_owned()))
        })
        .collect()
}

fn read(path: &Path) -> Result<File> {
    let text = std::fs::read_to_string(path).with_context(|| {
        format!(
            "unable to configure the Docker daemon with file {}",
            path.display()
        )
    })?;
    if text.trim().is_empty() {
        return Ok(File::default());
    }
    serde_json::from_str(&text).with_context(|| {
        format!(
            "unable to configure the Docker daemon with file {}",
            path.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn merged(flags: &[&str], file: &str) -> Result<Settings> {
        let flags = Flags::parse_from([&["gantryd"], flags].concat());
        Settings::merge(flags, serde_json::from_str(file)?)
    }

    #[test]
    fn a_key_in_both_places_is_refused() {
        let error = merged(&["--mtu", "1400"], r#"{"mtu":1300}"#)
            .unwrap_err()
            .to_string();
        assert!(
            error.ends_with("specified both as a flag and in the configuration file: mtu"),
            "{error}"
        );
        let settings = merged(&[], r#"{"mtu":1300}"#).unwrap();
        assert_eq!(settings.networks.options.bridge.unwrap().mtu, 1300);
    }

    #[test]
    fn an_unknown_key_is_refused_and_defaults_stand() {
        let error = merged(&[], r#"{"nonsense":1,"bip":"10.1.0.1/16"}"#).unwrap_err();
        let words = "directives don't match any configuration option: nonsense";
        assert!(error.to_string().ends_with(words), "{error}");
        let settings = merged(&["--exec-root", "/x"], "{}").unwrap();
        assert_eq!(settings.hosts, ["unix:///x/gantry.sock"]);
        assert_eq!(settings.pidfile, Path::new("/x/gantry.pid"));
        assert_eq!(settings.shm_size, 64 << 20);
    }

    #[test]
    fn tls_needs_its_files() {
        assert!(merged(&["--tlsverify"], "{}").is_err());
        assert!(merged(&["--tlsverify", "--tlscert", "a", "--tlskey", "b"], "{}").is_err());
        let tls = merged(
            &[
                "--tlsverify",
                "--tlscert",
                "a",
                "--tlskey",
                "b",
                "--tlscacert",
                "c",
            ],
            "{}",
        )
        .unwrap()
        .tls;
        assert_eq!(
            tls.unwrap().client_authorities.as_deref(),
            Some(Path::new("c"))
        );
    }
}
