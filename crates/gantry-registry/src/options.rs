//! Settings of the client: daemon.json's keys about registries.

use crate::Proxies;
use ipnet::IpNet;
use reqwest::Url;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Settings of the client (daemon.json).
#[derive(Debug, Clone)]
pub struct RegistryOptions {
    /// Registries that are spoken to by HTTP or with any certificate, beside those of this machine: names
    /// (`host[:port]`) and networks, see [`insecure`].
    pub insecure: Vec<Insecure>,
    /// Addresses that are asked before Docker Hub, see [`mirror`].
    pub mirrors: Vec<String>,
    pub proxies: Proxies,
    /// Certificate authorities and client certificates: `<folder>/<host[:port]>/{*.crt,*.cert,*.key}`.
    pub certificate_folder: Option<PathBuf>,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long a registry may be silent in the middle of an answer.
    pub idle_timeout: Duration,
    /// How long a manifest, a configuration or a list may take to come.
    pub document_timeout: Duration,
    /// How long a registry may think about a blob that it has been sent.
    pub commit_timeout: Duration,
    /// Wait before the first new try; each further one in a row waits twice as long.
    pub pause: Duration,
    /// Tries of a blob in a row without a byte in between (`max-download-attempts`).
    pub attempts: u32,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            insecure: Vec::new(),
            mirrors: Vec::new(),
            proxies: Proxies::from_environment(),
            certificate_folder: Some(PathBuf::from("/etc/docker/certs.d")),
            connect_timeout: Duration::from_secs(8),
            idle_timeout: Duration::from_secs(30),
            document_timeout: Duration::from_secs(120),
            commit_timeout: Duration::from_secs(600),
            pause: Duration::from_millis(500),
            attempts: 5,
        }
    }
}

/// Registries that need no certificate of a known authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Insecure {
    /// `host[:port]`
    Host(String),
    /// All whose address is in a network.
    Network(IpNet),
}

/// Reads an entry of `insecure-registries`; the error is Docker's text.
pub fn insecure(text: &str) -> Result<Insecure, String> {
    // COMPAT: moby's loadInsecureRegistries (registry/config.go).
    if text.starts_with('-') || text.ends_with('-') {
        return Err(format!(
            "invalid index name ({text}). Cannot begin or end with a hyphen"
        ));
    }
    let host = match text.split_once("://") {
        Some((scheme, host)) if ["http", "https"].contains(&scheme.to_lowercase().as_str()) => {
            tracing::warn!(
                registry = text,
                scheme,
                "an insecure registry is written without the scheme"
            );
            host
        }
        Some(_) => {
            return Err(format!("insecure registry {text} should not contain '://'"));
        }
        None => text,
    };
    if let Ok(network) = host.parse::<IpNet>() {
        return Ok(Insecure::Network(network.trunc()));
    }
    if host.parse::<IpAddr>().is_ok() || is_host(host) {
        return Ok(Insecure::Host(host.to_owned()));
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    Err(format!(
        "insecure registry {host} is not valid: invalid host {name:?}"
    ))
}

fn is_host(host: &str) -> bool {
    gantry_oci::Reference::parse(&format!("{host}/x")).is_ok() || {
        // A single word is a host here.
        !host.is_empty()
            && host
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
    }
}

/// The normal form of an entry of `registry-mirrors` (it ends with a slash); the error is Docker's text.
pub fn mirror(text: &str) -> Result<String, String> {
    // COMPAT: moby's ValidateMirror (registry/config.go).
    let schemes = "must use either 'https://' or 'http://'";
    match text.split_once("://") {
        None | Some(("", _)) => {
            return Err(format!(
                "invalid mirror: no scheme specified for {text:?}: {schemes}"
            ));
        }
        Some(_) => {}
    }
    let url = Url::parse(text)
        .map_err(|error| format!("invalid mirror: {text:?} is not a valid URI: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        let scheme = url.scheme();
        return Err(format!(
            "invalid mirror: unsupported scheme {scheme:?} in {text:?}: {schemes}"
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!(
            "invalid mirror: query or fragment at end of the URI {text:?}"
        ));
    }
    if !url.username().is_empty() || url.password().is_some() {
        let mut shown = url.clone();
        let _ = shown.set_password(Some("xxxxx"));
        return Err(format!(
            "invalid mirror: username/password not allowed in URI {:?}",
            shown.as_str()
        ));
    }
    Ok(format!("{}/", text.strip_suffix('/').unwrap_or(text)))
}

impl RegistryOptions {
    /// Whether a registry is named as insecure, without a look at its addresses.
    pub(crate) fn names_insecure(&self, host: &str) -> bool {
        let entry = Insecure::Host(host.to_owned());
        self.insecure.contains(&entry)
    }

    /// How long to wait before a try, by the failures in a row before it.
    pub(crate) fn pause_before(&self, failures: u32) -> Duration {
        let factor = 1 << failures.saturating_sub(1).min(5);
        self.pause * factor
    }

    /// Whether an address lies in a network of insecure registries; this machine's own always do.
    pub(crate) fn is_insecure_address(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_loopback()
            || self.insecure.iter().any(
                |entry| matches!(entry, Insecure::Network(network) if network.contains(&address)),
            )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn insecure_registries() {
        let host = |name: &str| Ok(Insecure::Host(name.to_owned()));
        assert_eq!(insecure("a.b:5000"), host("a.b:5000"));
        assert_eq!(insecure("myhost"), host("myhost"));
        assert_eq!(insecure("http://a.b"), host("a.b"));
        assert_eq!(
            insecure("10.1.2.3/8"),
            Ok(Insecure::Network("10.0.0.0/8".parse().unwrap()))
        );
        assert_eq!(
            insecure("ftp://a.b").unwrap_err(),
            "insecure registry ftp://a.b should not contain '://'"
        );
        assert_eq!(
            insecure("a b:1").unwrap_err(),
            "insecure registry a b:1 is not valid: invalid host \"a b\""
        );
        assert!(insecure("-a").is_err());
    }

    #[test]
    fn mirrors() {
        assert_eq!(mirror("https://m.x").unwrap(), "https://m.x/");
        assert_eq!(mirror("http://m.x:5/p/").unwrap(), "http://m.x:5/p/");
        assert_eq!(
            mirror("m.x:5000").unwrap_err(),
            "invalid mirror: no scheme specified for \"m.x:5000\": must use either 'https://' or 'http://'"
        );
        assert!(
            mirror("ftp://m.x")
                .unwrap_err()
                .contains("unsupported scheme \"ftp\"")
        );
        assert!(
            mirror("https://m.x/?a")
                .unwrap_err()
                .contains("query or fragment")
        );
        let text = mirror("https://me:secret@m.x").unwrap_err();
        assert!(
            text.contains("not allowed") && !text.contains("secret"),
            "{text}"
        );
    }

    #[test]
    fn networks() {
        let options = RegistryOptions {
            insecure: vec![insecure("10.0.0.0/8").unwrap(), insecure("a.b:5").unwrap()],
            ..RegistryOptions::default()
        };
        let at = |text: &str| options.is_insecure_address(text.parse().unwrap());
        assert!(at("10.9.9.9") && at("127.0.0.9") && at("::1") && at("::ffff:10.0.0.1"));
        assert!(!at("11.0.0.1") && !at("::2"));
        assert!(options.names_insecure("a.b:5") && !options.names_insecure("a.b"));
    }
}
