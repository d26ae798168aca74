//! One registry: how it is spoken to, and a request that brings its own authorization.

use crate::auth::{Granted, Tokens};
use crate::{Credentials, RegistryError, RegistryOptions, challenge, tls, words};
use bytes::{Bytes, BytesMut};
use gantry_oci::Reference;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, RANGE, WWW_AUTHENTICATE};
use reqwest::{Client, Method, Response, StatusCode};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What Docker Hub's names stand for.
const HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// One registry. Connections, the scheme that works and tokens are kept.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) client: Client,
    pub(crate) idle_timeout: Duration,
    /// `https://registry:5000`; more than one where HTTP may be spoken, too.
    bases: Vec<String>,
    /// The base that answered.
    chosen: Mutex<Option<String>>,
    pub(crate) tokens: Tokens,
}

/// A request to a repository.
#[derive(Debug, Clone)]
pub(crate) struct Request<'a> {
    pub(crate) reference: &'a Reference,
    /// Behind `/v2/<repository>/`.
    pub(crate) path: String,
    pub(crate) accept: Option<&'static str>,
    /// First byte that is wanted.
    pub(crate) offset: u64,
}

impl Host {
    pub(crate) fn new(domain: &str, options: &RegistryOptions) -> Result<Self, RegistryError> {
        let name = if domain == HUB.0 { HUB.1 } else { domain };
        let local = is_local(name);
        let insecure = local || options.insecure.iter().any(|i| i == domain || i == name);
        let folder = options.certificate_folder.as_ref().map(|f| f.join(domain));
        let mut builder = Client::builder()
            .user_agent(concat!("gantry/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(options.connect_timeout)
            .read_timeout(options.idle_timeout)
            .tls_backend_preconfigured(tls::config(folder.as_deref(), insecure)?);
        if local {
            // As Go's ProxyFromEnvironment: never for this machine.
            builder = builder.no_proxy();
        }
        let client = builder
            .build()
            .map_err(|e| RegistryError::Unreachable(format!("cannot speak to {name}: {e}")))?;
        let mut bases = vec![format!("https://{name}")];
        if insecure {
            bases.push(format!("http://{name}"));
        }
        Ok(Self {
            client,
            idle_timeout: options.idle_timeout,
            bases,
            chosen: Mutex::new(None),
            tokens: Tokens::default(),
        })
    }

    /// The base that answers `/v2/`, tried in order: HTTPS, then HTTP where that is allowed.
    pub(crate) async fn base(&self) -> Result<String, RegistryError> {
        if let Some(base) = self.lock_chosen().clone() {
            return Ok(base);
        }
        let mut failure = String::new();
        for base in &self.bases {
            let url = format!("{base}/v2/");
            match self.client.get(&url).send().await {
                Ok(response) => {
                    let status = response.status();
                    if status.is_server_error() {
                        failure = format!("Get {url:?}: received unexpected HTTP status: {status}");
                        continue;
                    }
                    *self.lock_chosen() = Some(base.clone());
                    return Ok(base.clone());
                }
                Err(error) => failure = words::failure("Get", &url, &error).await,
            }
        }
        Err(RegistryError::Unreachable(failure))
    }

    fn lock_chosen(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.chosen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request, and once more with what the registry's challenge asks for. The answer's status is a
    /// success, or the error is in the registry's words.
    pub(crate) async fn get(
        &self,
        request: &Request<'_>,
        credentials: Option<&Credentials>,
    ) -> Result<Response, RegistryError> {
        let base = self.base().await?;
        let url = format!("{base}/v2/{}/{}", request.reference.path, request.path);
        let repository = &request.reference.path;
        let mut granted = self.tokens.find(repository, credentials);
        let mut retried = false;
        loop {
            let response = self.send(&url, request, granted.as_ref()).await?;
            if response.status() != StatusCode::UNAUTHORIZED || retried {
                return refuse(request.reference, &url, response).await;
            }
            let Some(challenge) = challenge_of(response.headers()) else {
                return refuse(request.reference, &url, response).await;
            };
            let answer = self.grant(&challenge, repository, credentials).await;
            granted = Some(answer.map_err(|error| error.about(&url))?);
            retried = true;
        }
    }

    async fn send(
        &self,
        url: &str,
        request: &Request<'_>,
        granted: Option<&Granted>,
    ) -> Result<Response, RegistryError> {
        let mut builder = self.client.request(Method::GET, url);
        if let Some(accept) = request.accept {
            builder = builder.header(ACCEPT, accept);
        }
        if request.offset > 0 {
            builder = builder.header(RANGE, format!("bytes={}-", request.offset));
        }
        if let Some(granted) = granted {
            let mut value = HeaderValue::from_str(&granted.header())
                .map_err(|_| RegistryError::Protocol("the token is no header's text".into()))?;
            value.set_sensitive(true);
            builder = builder.header(AUTHORIZATION, value);
        }
        match builder.send().await {
            Ok(response) => Ok(response),
            Err(error) => {
                let text = words::failure("Get", url, &error).await;
                // The next try finds out anew whether and how the registry is there.
                *self.lock_chosen() = None;
                Err(if error.is_connect() {
                    RegistryError::Unreachable(text)
                } else {
                    RegistryError::Protocol(text)
                })
            }
        }
    }
}

/// Whether Docker takes a registry for one of this machine: `localhost` and 127.0.0.0/8 (and `::1`).
fn is_local(name: &str) -> bool {
    let host = match name.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => name,
    };
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn challenge_of(headers: &HeaderMap) -> Option<challenge::Challenge> {
    let values = headers.get_all(WWW_AUTHENTICATE).into_iter();
    values
        .filter_map(|value| challenge::parse(value.to_str().ok()?))
        .next()
}

/// Reads an answer's body, up to `limit` bytes.
pub(crate) async fn body(
    url: &str,
    mut response: Response,
    limit: usize,
) -> Result<Bytes, RegistryError> {
    let mut bytes = BytesMut::new();
    loop {
        let chunk = match response.chunk().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => return Ok(bytes.freeze()),
            Err(error) => {
                let text = words::failure("Get", url, &error).await;
                return Err(RegistryError::Protocol(text));
            }
        };
        if bytes.len() + chunk.len() > limit {
            return Err(RegistryError::Protocol(format!(
                "Get {url:?}: the answer is larger than {limit} bytes"
            )));
        }
        bytes.extend_from_slice(&chunk);
    }
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Errors {
    errors: Vec<Single>,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Single {
    code: String,
    message: String,
}

/// Lets a success through; makes an error of everything else, in the words of moby's `translatePullError`.
async fn refuse(
    reference: &Reference,
    url: &str,
    response: Response,
) -> Result<Response, RegistryError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let bytes = body(url, response, 64 << 10).await.unwrap_or_default();
    let errors: Errors = serde_json::from_slice(&bytes).unwrap_or_default();
    let first = errors.errors.into_iter().next().unwrap_or_default();
    let (code, message) = match (first.code.as_str(), status) {
        ("", StatusCode::UNAUTHORIZED) => ("UNAUTHORIZED", "authentication required"),
        ("", StatusCode::FORBIDDEN) => ("DENIED", "requested access to the resource is denied"),
        ("", StatusCode::NOT_FOUND) if url.contains("/manifests/") => {
            ("MANIFEST_UNKNOWN", "manifest unknown")
        }
        (code, _) => (code, first.message.as_str()),
    };
    let cause = format!("{}: {message}", code.to_lowercase().replace('_', " "));
    Err(match code {
        "DENIED" => RegistryError::Denied(format!(
            "pull access denied for {}, repository does not exist or may require 'docker login': {cause}",
            reference.familiar_name()
        )),
        "UNAUTHORIZED" => RegistryError::Denied(format!("Head {url:?}: {cause}")),
        "MANIFEST_UNKNOWN" => RegistryError::NotFound(format!(
            "manifest for {} not found: {cause}",
            reference.familiar()
        )),
        "NAME_UNKNOWN" => RegistryError::NotFound(format!(
            "repository {} not found: {cause}",
            reference.familiar_name()
        )),
        "" => RegistryError::Protocol(format!(
            "Get {url:?}: received unexpected HTTP status: {status}"
        )),
        _ => RegistryError::Protocol(cause),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_of_this_machine() {
        for name in [
            "localhost",
            "localhost:5000",
            "127.0.0.1:5000",
            "127.9.9.9",
            "[::1]:5000",
        ] {
            assert!(is_local(name), "{name}");
        }
        for name in [
            "registry-1.docker.io",
            "localhost.example:1",
            "10.0.0.1:5000",
            "[::2]",
        ] {
            assert!(!is_local(name), "{name}");
        }
    }
}
