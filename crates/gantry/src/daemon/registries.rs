//! The settings about registries, as flags and daemon.json have them.

use super::flags::RegistryFlags;
use super::settings::{many, one};
use anyhow::{Result, bail};
use gantry_engine::images::TransferLimits;
use gantry_registry::{Proxies, RegistryOptions};
use serde::Deserialize;

/// `proxies` of daemon.json.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct FileProxies {
    http_proxy: Option<String>,
    https_proxy: Option<String>,
    no_proxy: Option<String>,
}

/// What daemon.json says.
#[derive(Debug, Default)]
pub(crate) struct File {
    pub(crate) insecure: Vec<String>,
    pub(crate) mirrors: Vec<String>,
    pub(crate) proxies: FileProxies,
    pub(crate) downloads: Option<i64>,
    pub(crate) uploads: Option<i64>,
    pub(crate) attempts: Option<i64>,
}

/// What flags and file say together.
#[derive(Debug, Clone)]
pub(crate) struct Registries {
    pub(crate) options: RegistryOptions,
    pub(crate) transfers: TransferLimits,
}

impl Registries {
    pub(crate) fn merge(flags: RegistryFlags, file: File) -> Result<Self> {
        let mut options = RegistryOptions::default();
        if let Some(folder) = flags.registry_certificates {
            options.certificate_folder = Some(folder);
        }
        for text in many("insecure-registries", flags.insecure, file.insecure)? {
            let entry = gantry_registry::insecure(&text).map_err(anyhow::Error::msg)?;
            if !options.insecure.contains(&entry) {
                options.insecure.push(entry);
            }
        }
        for text in many("registry-mirrors", flags.mirrors, file.mirrors)? {
            let mirror = gantry_registry::mirror(&text).map_err(anyhow::Error::msg)?;
            if !options.mirrors.contains(&mirror) {
                options.mirrors.push(mirror);
            }
        }
        let environment = options.proxies;
        let proxy = |key: &str, flag, file, environment| {
            let given = one(key, flag, file)?.filter(|text: &String| !text.is_empty());
            anyhow::Ok(given.unwrap_or(environment))
        };
        let (file_proxies, own) = (file.proxies, environment);
        options.proxies = Proxies {
            http: proxy(
                "http-proxy",
                flags.http_proxy,
                file_proxies.http_proxy,
                own.http,
            )?,
            https: proxy(
                "https-proxy",
                flags.https_proxy,
                file_proxies.https_proxy,
                own.https,
            )?,
            none: proxy("no-proxy", flags.no_proxy, file_proxies.no_proxy, own.none)?,
        };
        let usual = TransferLimits::default();
        let downloads = one(
            "max-concurrent-downloads",
            flags.max_concurrent_downloads,
            file.downloads,
        )?;
        let uploads = one(
            "max-concurrent-uploads",
            flags.max_concurrent_uploads,
            file.uploads,
        )?;
        let attempts = one(
            "max-download-attempts",
            flags.max_download_attempts,
            file.attempts,
        )?;
        let attempts = number("max download attempts", attempts, options.attempts as usize)?;
        options.attempts = u32::try_from(attempts).unwrap_or(u32::MAX / 8);
        Ok(Self {
            options,
            transfers: TransferLimits {
                downloads: number("max concurrent downloads", downloads, usual.downloads)?,
                uploads: number("max concurrent uploads", uploads, usual.uploads)?,
            },
        })
    }
}

/// A count; 0 is the usual one.
// COMPAT: moby's words (daemon/config/config.go, Validate).
fn number(what: &str, given: Option<i64>, usual: usize) -> Result<usize> {
    match given {
        None | Some(0) => Ok(usual),
        Some(number) => match usize::try_from(number) {
            Ok(number) => Ok(number),
            Err(_) => bail!("invalid {what}: {number}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(flags: RegistryFlags, file: File) -> std::result::Result<Registries, String> {
        Registries::merge(flags, file).map_err(|error| error.to_string())
    }

    #[test]
    fn counts() {
        let of = |downloads| {
            let file = File {
                downloads: Some(downloads),
                ..File::default()
            };
            merged(RegistryFlags::default(), file).map(|r| r.transfers.downloads)
        };
        assert_eq!(of(0), Ok(3));
        assert_eq!(of(7), Ok(7));
        assert_eq!(
            of(-1),
            Err("invalid max concurrent downloads: -1".to_owned())
        );
    }

    #[test]
    fn mirrors_and_insecure_registries_are_checked() {
        let file = |mirror: &str, insecure: &str| File {
            mirrors: vec![mirror.to_owned(), mirror.to_owned()],
            insecure: vec![insecure.to_owned()],
            ..File::default()
        };
        let good = merged(RegistryFlags::default(), file("https://m.x", "10.0.0.0/8")).unwrap();
        assert_eq!(good.options.mirrors, ["https://m.x/"]);
        let text = merged(RegistryFlags::default(), file("m.x", "a")).unwrap_err();
        assert!(text.starts_with("invalid mirror: no scheme"), "{text}");
        let text = merged(RegistryFlags::default(), file("https://m.x", "a://b")).unwrap_err();
        assert!(text.contains("should not contain '://'"), "{text}");
    }

    #[test]
    fn a_proxy_in_both_places_is_refused() {
        let flags = RegistryFlags {
            http_proxy: Some("http://a".into()),
            ..RegistryFlags::default()
        };
        let file = |address: Option<&str>| File {
            proxies: FileProxies {
                http_proxy: address.map(str::to_owned),
                ..FileProxies::default()
            },
            ..File::default()
        };
        let text = merged(flags.clone(), file(Some("http://b"))).unwrap_err();
        assert!(text.ends_with("configuration file: http-proxy"), "{text}");
        let good = merged(flags, file(None)).unwrap();
        assert_eq!(good.options.proxies.http, "http://a");
    }
}
