//! Docker's client configuration, `~/.docker/config.json`: the parts that mean something to us.
//!
//! Start here: [`ConfigFile::load`]; credentials are in `store`, their helper programs in `helper`, and what changes the file in
//! `edit`.

mod edit;
mod helper;
mod store;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use store::Entry;
pub(crate) use store::{ENVIRONMENT, HUB, header, hostname, key_of};

/// The file. What it does not say is at its default; a file that cannot be read is told once and ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ConfigFile {
    #[serde(skip)]
    path: PathBuf,
    auths: BTreeMap<String, Entry>,
    creds_store: String,
    cred_helpers: BTreeMap<String, String>,
    #[serde(rename = "HttpHeaders")]
    pub(crate) http_headers: BTreeMap<String, String>,
    pub(crate) ps_format: Option<String>,
    pub(crate) images_format: Option<String>,
    pub(crate) stats_format: Option<String>,
    pub(crate) networks_format: Option<String>,
    pub(crate) volumes_format: Option<String>,
    pub(crate) detach_keys: Option<String>,
    pub(crate) proxies: BTreeMap<String, Proxy>,
    prune_filters: Vec<String>,
}

/// Proxies that containers are told of by their environment.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Proxy {
    http_proxy: Option<String>,
    https_proxy: Option<String>,
    no_proxy: Option<String>,
    ftp_proxy: Option<String>,
    all_proxy: Option<String>,
}

impl ConfigFile {
    pub(crate) fn load(path: &Path) -> ConfigFile {
        let mut config = Self::read(path).unwrap_or_else(|text| {
            eprintln!("WARNING: Error {text}");
            Self::default()
        });
        path.clone_into(&mut config.path);
        config
    }

    fn read(path: &Path) -> Result<ConfigFile, String> {
        match std::fs::read(path) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|error| format!("parsing config file ({}): {error}", path.display())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(format!("loading config file: {}: {error}", path.display())),
        }
    }

    /// The filters of a `prune` with those that the file adds; a label of the command line stands before its opposite.
    pub(crate) fn with_prune_filters(
        &self,
        mut given: Vec<(String, String)>,
    ) -> Vec<(String, String)> {
        for text in &self.prune_filters {
            let Some((key, value)) = text.split_once('=') else {
                continue;
            };
            let opposite = match key {
                "label" => "label!",
                "label!" => "label",
                _ => "",
            };
            if !given.iter().any(|(k, v)| k == opposite && v == value) {
                given.push((key.to_owned(), value.to_owned()));
            }
        }
        given
    }

    /// `NAME=value` for each proxy variable, in both cases, as containers get them. `host` is the
    /// daemon's address.
    pub(crate) fn proxy_environment(&self, host: &str) -> Vec<(String, String)> {
        let Some(proxy) = self.proxies.get(host).or(self.proxies.get("default")) else {
            return Vec::new();
        };
        let named = [
            ("ALL_PROXY", &proxy.all_proxy),
            ("FTP_PROXY", &proxy.ftp_proxy),
            ("HTTPS_PROXY", &proxy.https_proxy),
            ("HTTP_PROXY", &proxy.http_proxy),
            ("NO_PROXY", &proxy.no_proxy),
        ];
        let mut list = Vec::new();
        for (name, value) in named {
            if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
                list.push((name.to_owned(), value.clone()));
                list.push((name.to_lowercase(), value.clone()));
            }
        }
        list
    }
}
