//! Which proxy a registry is reached through, by the rules of Go's `httpproxy`, which Docker's users know.

use ipnet::IpNet;
use reqwest::Url;
use std::net::IpAddr;

/// Proxies of the daemon: `proxies` of daemon.json, the flags, or the environment.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For `http://` registries.
    pub http: String,
    /// For `https://` registries.
    pub https: String,
    /// Names, `.suffixes`, addresses and networks, each with a port or without, that are reached without; `*`: all.
    pub none: String,
}

impl std::fmt::Debug for Proxies {
    /// Without the passwords that a proxy's address may have.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxies")
            .field("http", &masked(&self.http))
            .field("https", &masked(&self.https))
            .field("none", &self.none)
            .finish()
    }
}

/// An address for logs and `docker info`: its user and password are hidden.
pub fn masked(address: &str) -> String {
    match Url::parse(address) {
        Ok(mut url) if !url.username().is_empty() || url.password().is_some() => {
            // COMPAT: moby's config.MaskedProxies.
            let _ = url.set_username("xxxxx");
            let _ = url.set_password(Some("xxxxx"));
            url.to_string()
        }
        _ => address.to_owned(),
    }
}

impl Proxies {
    /// What the environment says (`HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`, or in lower case).
    pub fn from_environment() -> Self {
        let text = |name: &str| {
            let given = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
            given(name)
                .or_else(|| given(&name.to_lowercase()))
                .unwrap_or_default()
        };
        Self {
            http: text("HTTP_PROXY"),
            https: text("HTTPS_PROXY"),
            none: text("NO_PROXY"),
        }
    }

    /// The proxy for an address.
    pub(crate) fn of(&self, url: &Url) -> Option<Url> {
        let proxy = match url.scheme() {
            "https" => &self.https,
            _ => &self.http,
        };
        if proxy.is_empty() || !self.is_used(url) {
            return None;
        }
        // Without a scheme it is a host and a port.
        match Url::parse(proxy) {
            Ok(url) if url.has_host() => Some(url),
            _ => Url::parse(&format!("http://{proxy}")).ok(),
        }
    }

    fn is_used(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default().to_lowercase();
        let host = host.trim_matches(['[', ']']).trim_end_matches('.');
        let port = url.port_or_known_default().unwrap_or_default();
        let address: Option<IpAddr> = host.parse().ok();
        if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
            return false;
        }
        !self
            .none
            .split(',')
            .any(|entry| excludes(entry.trim(), host, address, port))
    }
}

/// Whether an entry of `NO_PROXY` is about a host.
fn excludes(entry: &str, host: &str, address: Option<IpAddr>, port: u16) -> bool {
    if entry.is_empty() {
        return false;
    }
    if entry == "*" {
        return true;
    }
    if let Ok(network) = entry.parse::<IpNet>() {
        return address.is_some_and(|address| network.contains(&address));
    }
    let (name, only) = match entry.rsplit_once(':') {
        Some((name, number)) if !name.contains(':') || name.ends_with(']') => {
            (name, number.parse::<u16>().ok())
        }
        _ => (entry, None),
    };
    if only.is_some_and(|only| only != port) {
        return false;
    }
    let name = name.trim_matches(['[', ']']).to_lowercase();
    if let Ok(named) = name.parse::<IpAddr>() {
        return address == Some(named);
    }
    let name = name.strip_prefix('*').unwrap_or(&name);
    match name.strip_prefix('.') {
        Some(_) => host.ends_with(name),
        None => {
            host == name
                || host
                    .strip_suffix(name)
                    .is_some_and(|rest| rest.ends_with('.'))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(none: &str, url: &str) -> bool {
        let proxies = Proxies {
            http: "http://proxy:1".into(),
            https: "http://me:secret@proxy:2".into(),
            none: none.into(),
        };
        proxies.of(&Url::parse(url).unwrap()).is_some()
    }

    #[test]
    fn each_scheme_has_its_own() {
        let proxies = Proxies {
            https: "proxy:2".into(),
            ..Proxies::default()
        };
        let of = |url: &str| proxies.of(&Url::parse(url).unwrap());
        assert_eq!(of("https://a.b/").unwrap().as_str(), "http://proxy:2/");
        assert_eq!(of("http://a.b/"), None);
    }

    #[test]
    fn what_goes_without() {
        for (none, url, expected) in [
            ("", "https://a.b/", true),
            ("", "https://localhost:5000/", false),
            ("", "http://127.8.8.8/", false),
            ("", "http://[::1]:1/", false),
            ("*", "https://a.b/", false),
            ("a.b", "https://a.b/", false),
            ("a.b", "https://x.a.b/", false),
            ("a.b", "https://xa.b/", true),
            (".a.b", "https://a.b/", true),
            (".a.b", "https://x.a.b/", false),
            ("*.a.b", "https://x.a.b/", false),
            ("x, A.B:5000", "https://a.b:5000/", false),
            ("a.b:5000", "https://a.b/", true),
            ("10.0.0.0/8", "https://10.1.2.3/", false),
            ("10.0.0.0/8", "https://11.1.2.3/", true),
            ("10.1.2.3", "https://10.1.2.3:1/", false),
            ("[fd00::1]:7", "https://[fd00::1]:7/", false),
            ("fd00::1", "https://[fd00::1]:7/", false),
        ] {
            assert_eq!(used(none, url), expected, "{none:?} {url}");
        }
    }

    #[test]
    fn passwords_are_hidden() {
        assert_eq!(
            masked("http://me:secret@proxy:2/"),
            "http://xxxxx:xxxxx@proxy:2/"
        );
        assert_eq!(masked("http://proxy:2"), "http://proxy:2");
        let proxies = Proxies {
            http: "http://me:secret@proxy".into(),
            ..Proxies::default()
        };
        assert!(!format!("{proxies:?}").contains("secret"));
    }
}
