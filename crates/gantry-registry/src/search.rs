//! Search in the protocol of Docker's first registry: `GET /v1/search?q=TERM&n=LIMIT`, as Docker Hub still speaks it.

use crate::answer::body;
use crate::challenge::Challenge;
use crate::host::{Host, challenge_of};
use crate::login::Asked;
use crate::{Credentials, Registry, RegistryError, redirect, words};
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde::{Deserialize, Deserializer};

/// Where Docker Hub answers searches.
const HUB: &str = "index.docker.io";
/// Results where no limit is given.
const USUAL_LIMIT: i64 = 25;
const LARGEST_LIMIT: i64 = 100;
/// Largest answer that is read, bytes.
const LARGEST: usize = 4 << 20;
/// What an identity token must allow.
const SCOPE: &str = "registry:catalog:search";

/// One repository that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Found {
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    #[serde(deserialize_with = "or_default")]
    pub description: String,
    #[serde(rename = "star_count", deserialize_with = "or_default")]
    pub stars: i64,
    #[serde(rename = "is_official", deserialize_with = "or_default")]
    pub official: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Results {
    #[serde(deserialize_with = "or_default")]
    results: Vec<Found>,
}

/// Takes `null` for nothing, as Go does.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

impl Registry {
    /// Searches the registry that the term names (`host:port/term`), else Docker Hub. A limit of 0 is the usual one.
    pub async fn search(
        &self,
        term: &str,
        limit: i64,
        credentials: Option<&Credentials>,
    ) -> Result<Vec<Found>, RegistryError> {
        if term.contains("://") {
            return Err(RegistryError::Invalid(format!(
                "invalid repository name: repository name ({term}) should not have a scheme"
            )));
        }
        let (domain, term) = split(term);
        let host = self.host(domain).await?;
        let base = base(&host, domain).await?;
        let limit = if limit == 0 { USUAL_LIMIT } else { limit };
        if !(1..=LARGEST_LIMIT).contains(&limit) {
            return Err(RegistryError::Invalid(format!(
                "limit {limit} is outside the range of [1, {LARGEST_LIMIT}]"
            )));
        }
        let address = address(&base, term, limit);
        let mut request = host
            .client
            .get(&address)
            // Asks Docker Hub to take the credentials into account.
            .header("x-docker-token", "true");
        if let Some(given) = credentials.filter(|given| !given.username.is_empty()) {
            request = if given.identity_token.is_empty() {
                request.basic_auth(&given.username, Some(&given.password))
            } else {
                match token(&host, &base, given).await? {
                    Some(token) => request.bearer_auth(token),
                    None => request,
                }
            };
        }
        let response = match request.send().await {
            Ok(response) => {
                let (method, headers) = (Method::GET, HeaderMap::new());
                redirect::beyond(&host.client, &method, &headers, response).await?
            }
            Err(error) => {
                let text = words::failure("Get", &address, &error).await;
                return Err(RegistryError::Unreachable(text));
            }
        };
        if response.status() != reqwest::StatusCode::OK {
            return Err(RegistryError::Protocol(format!(
                "Unexpected status code {}",
                response.status().as_u16()
            )));
        }
        let bytes = body(&address, response, LARGEST).await?;
        let results: Results = serde_json::from_slice(&bytes).map_err(|error| {
            RegistryError::Protocol(format!("error decoding registry search results: {error}"))
        })?;
        Ok(results.results)
    }
}

/// The registry and what to look for there.
fn split(term: &str) -> (&str, &str) {
    match term.split_once('/') {
        Some((domain, rest)) if domain.contains(['.', ':']) || domain == "localhost" => {
            match domain {
                "docker.io" | HUB => (HUB, rest.strip_prefix("library/").unwrap_or(rest)),
                other => (other, rest),
            }
        }
        _ => (HUB, term.strip_prefix("library/").unwrap_or(term)),
    }
}

fn address(base: &str, term: &str, limit: i64) -> String {
    let mut out = String::new();
    for byte in term.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            b' ' => out.push('+'),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    format!("{base}/v1/search?q={out}&n={limit}")
}

/// The base of the registry's search: HTTPS where that answers, HTTP only for registries that may speak it.
async fn base(host: &Host, domain: &str) -> Result<String, RegistryError> {
    if domain == HUB {
        return Ok(format!("https://{HUB}"));
    }
    let mut failures = Vec::new();
    for base in &host.bases {
        let ping = format!("{base}/v1/_ping");
        match host.client.get(&ping).send().await {
            Ok(_) => return Ok(base.clone()),
            Err(error) => failures.push((base, words::failure("Get", &ping, &error).await)),
        }
    }
    Err(RegistryError::Invalid(match &failures[..] {
        [(_, https), (base, http)] => format!(
            "invalid registry endpoint \"{base}/v1/\". HTTPS attempt: {https}. HTTP attempt: {http}"
        ),
        [(base, https), ..] => format!(
            "invalid registry endpoint {base}/v1/: {https}. If this private registry supports only HTTP or HTTPS with an \
             unknown CA certificate, please add `--insecure-registry {domain}` to the daemon's arguments. In the case of \
             HTTPS, if you have access to the registry's CA certificate, no need for the flag; simply place the CA \
             certificate at /etc/docker/certs.d/{domain}/ca.crt"
        ),
        [] => format!("no address of {domain} is known"),
    }))
}

/// A token for an identity token, where the registry asks for one.
async fn token(
    host: &Host,
    base: &str,
    credentials: &Credentials,
) -> Result<Option<String>, RegistryError> {
    let url = format!("{base}/v2/");
    let challenge = match host.client.get(&url).send().await {
        Ok(response) => challenge_of(response.headers()),
        Err(error) => {
            let text = words::failure("Get", &url, &error).await;
            return Err(RegistryError::Unreachable(text));
        }
    };
    let Some(Challenge::Bearer { realm, service, .. }) = challenge else {
        return Ok(None);
    };
    let asked = Asked {
        host,
        url: &url,
        realm: &realm,
        service: service.as_deref().unwrap_or_default(),
        scope: Some(SCOPE),
    };
    Ok(Some(asked.token(credentials).await?.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms() {
        assert_eq!(split("busybox"), (HUB, "busybox"));
        assert_eq!(split("library/busybox"), (HUB, "busybox"));
        assert_eq!(split("docker.io/library/busybox"), (HUB, "busybox"));
        assert_eq!(split("me/app"), (HUB, "me/app"));
        assert_eq!(split("localhost/app"), ("localhost", "app"));
        assert_eq!(split("r.example/a/b"), ("r.example", "a/b"));
        assert_eq!(split("r:5000/"), ("r:5000", ""));
        assert_eq!(split("r.example"), (HUB, "r.example"));
    }

    #[test]
    fn addresses() {
        assert_eq!(
            address("https://index.docker.io", "a b/ü&", 25),
            "https://index.docker.io/v1/search?q=a+b%2F%C3%BC%26&n=25"
        );
    }
}
