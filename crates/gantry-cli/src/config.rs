//! Docker's client configuration, `~/.docker/config.json`: the parts that mean something to us.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use serde::Deserialize;

/// The file. What it does not say is at its default; a file that cannot be read is told once and ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ConfigFile {
    auths: BTreeMap<String, Auth>,
    #[serde(rename = "HttpHeaders")]
    pub(crate) http_headers: BTreeMap<String, String>,
    pub(crate) ps_format: Option<String>,
    pub(crate) images_format: Option<String>,
    pub(crate) stats_format: Option<String>,
    pub(crate) detach_keys: Option<String>,
    pub(crate) proxies: BTreeMap<String, Proxy>,
    prune_filters: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase", default)]
struct Auth {
    auth: String,
    username: String,
    password: String,
    email: String,
    identitytoken: String,
    registrytoken: String,
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

/// The key under which Docker keeps its own registry's credentials.
const HUB: &str = "https://index.docker.io/v1/";

impl ConfigFile {
    pub(crate) fn load(path: &Path) -> ConfigFile {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Self::default(),
            Err(error) => {
                eprintln!(
                    "WARNING: Error loading config file: {}: {error}",
                    path.display()
                );
                return Self::default();
            }
        };
        serde_json::from_slice(&text).unwrap_or_else(|error| {
            eprintln!(
                "WARNING: Error parsing config file ({}): {error}",
                path.display()
            );
            Self::default()
        })
    }

    /// The `X-Registry-Auth` header for a registry (`docker.io`, `host:port`); `{}` without credentials.
    pub(crate) fn registry_auth(&self, registry: &str) -> String {
        let engine = base64::engine::general_purpose::URL_SAFE;
        let Some((key, auth)) = self.auth_of(registry) else {
            return engine.encode("{}");
        };
        let (mut user, mut password) = (auth.username.clone(), auth.password.clone());
        let decoded = base64::engine::general_purpose::STANDARD.decode(&auth.auth);
        if let Some((name, secret)) = decoded
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .as_deref()
            .and_then(|pair| pair.split_once(':'))
        {
            user = name.to_owned();
            password = secret.trim_end_matches('\0').to_owned();
        }
        let mut fields = serde_json::Map::new();
        for (name, value) in [
            ("username", user),
            ("password", password),
            ("email", auth.email.clone()),
            ("serveraddress", key.to_owned()),
            ("identitytoken", auth.identitytoken.clone()),
            ("registrytoken", auth.registrytoken.clone()),
        ] {
            if !value.is_empty() {
                fields.insert(name.to_owned(), value.into());
            }
        }
        engine.encode(serde_json::Value::Object(fields).to_string())
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

    fn auth_of(&self, registry: &str) -> Option<(&str, &Auth)> {
        if registry == "docker.io" {
            return self.auths.get(HUB).map(|auth| (HUB, auth));
        }
        let bare = |key: &str| {
            let key = key
                .strip_prefix("https://")
                .or(key.strip_prefix("http://"))
                .unwrap_or(key);
            key.split('/').next().unwrap_or_default().to_owned()
        };
        let exact = self.auths.get_key_value(registry);
        let found = exact.or_else(|| self.auths.iter().find(|(key, _)| bare(key) == registry));
        found.map(|(key, auth)| (key.as_str(), auth))
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
