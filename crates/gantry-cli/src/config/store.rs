//! Credentials of registries: in the file itself, with a helper program, or in the environment.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use gantry_api::system::AuthConfig;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::helper::{self, Secret};
use super::{ConfigFile, edit};

/// The key under which Docker keeps its own registry's credentials.
pub(crate) const HUB: &str = "https://index.docker.io/v1/";
/// Credentials that go before all others: `{"auths": {"HOST": {"auth": "..."}}}`.
pub(crate) const ENVIRONMENT: &str = "DOCKER_AUTH_CONFIG";
/// The user name that says that a helper's secret is an identity token.
const TOKEN_USER: &str = "<token>";

/// One entry of `auths`, as the file has it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase", default)]
pub(super) struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

/// The value of `X-Registry-Auth`.
pub(crate) fn header(auth: &AuthConfig) -> String {
    URL_SAFE.encode(serde_json::to_string(auth).unwrap_or_default())
}

impl Entry {
    fn of(&self, server: &str) -> AuthConfig {
        let mut auth = AuthConfig {
            username: self.username.clone(),
            password: self.password.clone(),
            serveraddress: server.to_owned(),
            identitytoken: self.identitytoken.clone(),
            registrytoken: self.registrytoken.clone(),
            ..AuthConfig::default()
        };
        if let Some((username, password)) = decoded(&self.auth) {
            (auth.username, auth.password) = (username, password);
        }
        auth
    }
}

/// `user:password` in base64.
fn decoded(text: &str) -> Option<(String, String)> {
    let text = String::from_utf8(STANDARD.decode(text).ok()?).ok()?;
    let (username, password) = text.split_once(':')?;
    let password = password.trim_matches('\0');
    (!username.is_empty()).then(|| (username.to_owned(), password.to_owned()))
}

/// The host and port of a registry's address, which may be a URL.
pub(crate) fn hostname(address: &str) -> String {
    let bare = address.split_once("://").map_or(address, |(_, rest)| rest);
    let host = bare.split('/').next().unwrap_or_default();
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    host.to_owned()
}

/// The key of a reference's registry.
pub(crate) fn key_of(domain: &str) -> &str {
    match domain {
        "docker.io" | "index.docker.io" => HUB,
        other => other,
    }
}

impl ConfigFile {
    /// The `X-Registry-Auth` header for a registry (`docker.io`, `host:port`); `{}` without credentials.
    pub(crate) fn registry_auth(&self, domain: &str) -> Result<String, String> {
        Ok(header(&self.credentials(key_of(domain))?))
    }

    /// What is kept for a server; empty where nothing is.
    pub(crate) fn credentials(&self, server: &str) -> Result<AuthConfig, String> {
        if let Some(auth) = from_environment().remove(server) {
            return Ok(auth);
        }
        let Some(name) = self.helper_of(server) else {
            return Ok(self.in_file(server));
        };
        let Some(secret) = helper::get(&name, server)? else {
            return Ok(AuthConfig::default());
        };
        let mut auth = AuthConfig {
            serveraddress: server.to_owned(),
            ..AuthConfig::default()
        };
        if secret.username == TOKEN_USER {
            auth.identitytoken = secret.secret;
        } else {
            (auth.username, auth.password) = (secret.username, secret.secret);
        }
        Ok(auth)
    }

    /// Keeps credentials of `auth.serveraddress`.
    pub(crate) fn store(&self, auth: &AuthConfig) -> Result<(), String> {
        let Some(name) = self.helper_of(&auth.serveraddress) else {
            if self.auths.contains_key(&auth.serveraddress)
                && self.in_file(&auth.serveraddress) == *auth
            {
                return Ok(());
            }
            self.put_entry(&auth.serveraddress, Some(auth))?;
            if !auth.password.is_empty() {
                eprintln!(
                    "\nWARNING! Your credentials are stored unencrypted in '{}'.\n\
                     Configure a credential helper to remove this warning. See\n\
                     https://docs.docker.com/go/credential-store/\n",
                    self.path.display()
                );
            }
            return Ok(());
        };
        let (username, secret) = match auth.identitytoken.as_str() {
            "" => (auth.username.as_str(), auth.password.as_str()),
            token => (TOKEN_USER, token),
        };
        let secret = Secret {
            server: auth.serveraddress.clone(),
            username: username.to_owned(),
            secret: secret.to_owned(),
        };
        helper::store(&name, &secret)?;
        // The entry says that there are credentials, and that they are not here.
        self.put_entry(&auth.serveraddress, Some(&AuthConfig::default()))
    }

    /// Forgets the credentials of a server.
    pub(crate) fn erase(&self, server: &str) -> Result<(), String> {
        if let Some(name) = self.helper_of(server) {
            helper::erase(&name, server)?;
        }
        if !self.auths.contains_key(server) {
            return Ok(());
        }
        self.put_entry(server, None)
    }

    /// The helper that keeps a server's credentials.
    fn helper_of(&self, server: &str) -> Option<String> {
        let own = self.cred_helpers.get(server).or(Some(&self.creds_store));
        let named = own.filter(|name| !name.is_empty()).cloned();
        named.or_else(|| self.detected())
    }

    /// The helper that is used without being named, where the file says nothing of credentials.
    fn detected(&self) -> Option<String> {
        let untouched =
            self.creds_store.is_empty() && self.cred_helpers.is_empty() && self.auths.is_empty();
        untouched.then(helper::of_this_machine).flatten()
    }

    fn in_file(&self, server: &str) -> AuthConfig {
        let found = self.auths.get_key_value(server).or_else(|| {
            let mut entries = self.auths.iter();
            entries.find(|(key, _)| hostname(key) == server)
        });
        found.map_or_else(AuthConfig::default, |(key, entry)| entry.of(key))
    }

    /// Writes or removes an entry of the file.
    fn put_entry(&self, server: &str, auth: Option<&AuthConfig>) -> Result<(), String> {
        let detected = self.detected();
        edit::change(&self.path, |settings| {
            if !settings.get("auths").is_some_and(Value::is_object) {
                settings.shift_insert(0, "auths".to_owned(), Value::Object(Map::new()));
            }
            let Some(Value::Object(auths)) = settings.get_mut("auths") else {
                return false;
            };
            let before = auths.get(server).cloned();
            match auth {
                Some(auth) => {
                    let entry = entry(before.as_ref(), auth);
                    auths.insert(server.to_owned(), entry);
                    auths.sort_keys();
                }
                None => drop(auths.shift_remove(server)),
            }
            let changed = auths.get(server) != before.as_ref();
            if let Some(name) = detected.filter(|_| changed) {
                settings.insert("credsStore".to_owned(), name.into());
            }
            changed
        })
    }
}

/// An entry's JSON; what else was in it stays.
fn entry(before: Option<&Value>, auth: &AuthConfig) -> Value {
    let mut entry = before
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    for known in [
        "auth",
        "username",
        "password",
        "identitytoken",
        "registrytoken",
    ] {
        entry.shift_remove(known);
    }
    if !auth.username.is_empty() || !auth.password.is_empty() {
        let pair = format!("{}:{}", auth.username, auth.password);
        entry.insert("auth".to_owned(), STANDARD.encode(pair).into());
    }
    for (name, token) in [
        ("identitytoken", &auth.identitytoken),
        ("registrytoken", &auth.registrytoken),
    ] {
        if !token.is_empty() {
            entry.insert(name.to_owned(), token.clone().into());
        }
    }
    Value::Object(entry)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Environment {
    #[serde(default)]
    auths: BTreeMap<String, OnlyAuth>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OnlyAuth {
    #[serde(default)]
    auth: String,
}

/// The credentials of the environment.
fn from_environment() -> BTreeMap<String, AuthConfig> {
    let text = std::env::var(ENVIRONMENT).unwrap_or_default();
    if text.is_empty() {
        return BTreeMap::new();
    }
    parse_environment(&text).unwrap_or_else(|why| {
        eprintln!("Failed to create credential store from {ENVIRONMENT}:  {why}");
        BTreeMap::new()
    })
}

pub(super) fn parse_environment(text: &str) -> Result<BTreeMap<String, AuthConfig>, String> {
    let given: Environment = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let entries = given.auths.into_iter().map(|(server, entry)| {
        if entry.auth.is_empty() {
            return Err(format!(
                "{ENVIRONMENT} environment variable is missing key `auth` for {server}"
            ));
        }
        let (username, password) =
            decoded(&entry.auth).ok_or("Invalid auth configuration file".to_owned())?;
        let auth = AuthConfig {
            username,
            password,
            serveraddress: server.clone(),
            ..AuthConfig::default()
        };
        Ok((server, auth))
    });
    entries.collect()
}
