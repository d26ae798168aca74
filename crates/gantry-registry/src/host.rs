//! One registry: how it is spoken to, and a request that brings its own authorization.

use crate::answer::{Patience, Refusal, Unanswered};
use crate::auth::{Granted, Tokens};
use crate::challenge::{self, Challenge};
use crate::upload::Part;
use crate::{Credentials, RegistryError, RegistryOptions, redirect, tls, words};
use bytes::Bytes;
use gantry_oci::Reference;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Client, Method, Proxy, Response, StatusCode, Url};
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::lookup_host;

/// What Docker Hub's names stand for.
pub(crate) const HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");
/// Tries of a first request that could not be sent.
const PINGS: u32 = 5;
/// How long a mirror that did not answer is passed over.
const DOWN: Duration = Duration::from_secs(30);

/// One registry. Connections, the scheme that works and tokens are kept.
#[derive(Debug)]
pub(crate) struct Host {
    /// For requests that have an answer soon.
    pub(crate) client: Client,
    /// For requests with large bodies: silence is looked after by who sends.
    pub(crate) sender: Client,
    /// For token servers: these get passwords, and a redirect takes them nowhere else.
    pub(crate) authorizer: Client,
    pub(crate) options: RegistryOptions,
    /// `https://registry:5000`; more than one where HTTP may be spoken, too.
    pub(crate) bases: Vec<String>,
    /// The base that answered.
    chosen: Mutex<Option<String>>,
    /// One that is asked instead of Docker Hub.
    pub(crate) mirror: bool,
    down: Mutex<Option<Instant>>,
    pub(crate) tokens: Tokens,
    /// Held while a token is asked for.
    granting: tokio::sync::Mutex<()>,
}

/// `repository:x:pull`
pub(crate) fn pull_scope(repository: &str) -> String {
    format!("repository:{repository}:pull")
}

/// A request to a repository.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) target: Target,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Payload,
    /// The answer may take long; who asks watches over it.
    pub(crate) patient: bool,
    pub(crate) scopes: &'a [String],
    pub(crate) credentials: Option<&'a Credentials>,
}

/// A request's body, which can be sent again.
#[derive(Debug, Clone)]
pub(crate) enum Payload {
    Nothing,
    Bytes(Bytes),
    File(Part),
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// Behind `/v2/`.
    Path(String),
    /// As the registry named it (`Location`); only its own addresses get the authorization.
    Url(Url),
}

impl<'a> Request<'a> {
    /// A GET behind `/v2/<repository>/`.
    pub(crate) fn get(
        reference: &Reference,
        path: &str,
        scopes: &'a [String],
        credentials: Option<&'a Credentials>,
    ) -> Self {
        Self {
            method: Method::GET,
            target: Target::Path(format!("{}/{path}", reference.path)),
            headers: HeaderMap::new(),
            payload: Payload::Nothing,
            patient: false,
            scopes,
            credentials,
        }
    }
}

/// How a registry is addressed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Name {
    /// `host[:port]`
    pub(crate) host: String,
    /// The whole address, for a mirror: `https://host[:port]/path/`.
    pub(crate) mirror: Option<String>,
}

impl Host {
    /// `folder`: certificates for this registry.
    pub(crate) async fn new(
        name: &Name,
        folder: Option<&Path>,
        options: &RegistryOptions,
    ) -> Result<Self, RegistryError> {
        let domain = name.host.as_str();
        let host = if domain == HUB.0 { HUB.1 } else { domain };
        let insecure = is_insecure(host, options).await;
        let tls = tls::config(folder, insecure)?;
        let builder = || {
            let proxies = options.proxies.clone();
            Client::builder()
                .user_agent(concat!("gantry/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(options.connect_timeout)
                .redirect(redirect::bounded(insecure))
                // Not the environment's: the options have them already.
                .no_proxy()
                .proxy(Proxy::custom(move |url| proxies.of(url)))
                .tls_backend_preconfigured(tls.clone())
        };
        let built = |builder: reqwest::ClientBuilder| {
            let failed = |e| RegistryError::Unreachable(format!("cannot speak to {host}: {e}"));
            builder.build().map_err(failed)
        };
        let patient = || builder().read_timeout(options.idle_timeout);
        let bases = match &name.mirror {
            Some(address) => vec![address.trim_end_matches('/').to_owned()],
            None if insecure => vec![format!("https://{host}"), format!("http://{host}")],
            None => vec![format!("https://{host}")],
        };
        Ok(Self {
            client: built(patient())?,
            sender: built(builder())?,
            authorizer: built(patient().redirect(redirect::at_home()))?,
            options: options.clone(),
            bases,
            chosen: Mutex::new(None),
            mirror: name.mirror.is_some(),
            down: Mutex::new(None),
            tokens: Tokens::default(),
            granting: tokio::sync::Mutex::default(),
        })
    }

    /// Whether it may be spoken to without TLS.
    pub(crate) fn is_plain(&self) -> bool {
        self.bases.iter().any(|base| base.starts_with("http://"))
    }

    /// Whether it did not answer a moment ago.
    pub(crate) fn is_down(&self) -> bool {
        let down = self.down.lock().unwrap_or_else(PoisonError::into_inner);
        down.is_some_and(|since| since.elapsed() < DOWN)
    }

    /// The base that answers `/v2/`, tried in order: HTTPS, then HTTP where that is allowed.
    pub(crate) async fn base(&self) -> Result<String, RegistryError> {
        if let Some(base) = self.lock_chosen().clone() {
            return Ok(base);
        }
        let mut failure = String::new();
        for base in &self.bases {
            let url = format!("{base}/v2/");
            match self.ping(&url).await {
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
        *self.down.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        Err(RegistryError::Unreachable(failure))
    }

    /// A first request. With TLS 1.3 a server may end the connection for want of a certificate when the handshake is over
    /// on our side; that the connection ended before the request went out says nothing, so it is tried again for the reason.
    async fn ping(&self, url: &str) -> reqwest::Result<reqwest::Response> {
        let mut tries = 0;
        loop {
            let answer = self.client.get(url).send().await;
            tries += 1;
            match &answer {
                Err(error) if tries < PINGS && words::never_sent(error) => {}
                _ => return answer,
            }
        }
    }

    fn lock_chosen(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.chosen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request, and once more with what the registry's challenge asks for: also where a token that was
    /// good before is not any more. The answer's status is a success.
    pub(crate) async fn ask(&self, request: &Request<'_>) -> Result<Response, Unanswered> {
        let base = self.base().await?;
        let url = match &request.target {
            Target::Path(path) => format!("{base}/v2/{path}"),
            Target::Url(url) => url.to_string(),
        };
        // COMPAT: Docker sends what it has for Docker Hub to the mirrors, too.
        let credentials = request.credentials.filter(|_| !self.mirror);
        let home = is_home(&base, &url);
        let mut granted = match home {
            true => self.tokens.find(request.scopes, credentials),
            false => None,
        };
        let mut retried = false;
        loop {
            let response = self.send(request, &url, granted.as_ref()).await?;
            if response.status().is_success() {
                return Ok(response);
            }
            // What somebody else says behind a redirect is no reason to show passwords.
            let own = home && is_home(&base, response.url().as_str());
            let asked = response.status() == StatusCode::UNAUTHORIZED && own && !retried;
            let challenge = asked.then(|| challenge_of(response.headers())).flatten();
            let Some(challenge) = challenge else {
                return Err(Unanswered::Refused(Refusal::read(response).await));
            };
            let answer = self.granted_anew(&challenge, request, granted.as_ref());
            granted = Some(answer.await.map_err(|why| match why {
                Unanswered::Ungranted(refusal) => Unanswered::Ungranted(Refusal {
                    url: url.clone(),
                    ..refusal
                }),
                other => other,
            })?);
            retried = true;
        }
    }

    /// Answers a challenge; one at a time, so that requests side by side do not all ask for the same token.
    async fn granted_anew(
        &self,
        challenge: &Challenge,
        request: &Request<'_>,
        old: Option<&Granted>,
    ) -> Result<Granted, Unanswered> {
        let credentials = request.credentials.filter(|_| !self.mirror);
        let _turn = self.granting.lock().await;
        match self.tokens.find(request.scopes, credentials) {
            Some(newer) if Some(&newer) != old => Ok(newer),
            _ => self.grant(challenge, request.scopes, credentials).await,
        }
    }

    async fn send(
        &self,
        request: &Request<'_>,
        url: &str,
        granted: Option<&Granted>,
    ) -> Result<Response, Unanswered> {
        let client = match request.patient {
            true => &self.sender,
            false => &self.client,
        };
        let mut builder = client
            .request(request.method.clone(), url)
            .headers(request.headers.clone());
        builder = match &request.payload {
            Payload::Nothing => builder,
            Payload::Bytes(bytes) => builder.body(bytes.clone()),
            Payload::File(part) => builder
                .header(CONTENT_LENGTH, part.length())
                .body(part.body()),
        };
        if let Some(granted) = granted {
            let mut value = HeaderValue::from_str(&granted.header())
                .map_err(|_| RegistryError::Protocol("the token is no header's text".into()))?;
            value.set_sensitive(true);
            builder = builder.header(AUTHORIZATION, value);
        }
        match builder.send().await {
            Ok(response) => {
                let (method, headers) = (&request.method, &request.headers);
                let mut response = redirect::beyond(client, method, headers, response).await?;
                let patience = Patience(self.options.document_timeout);
                response.extensions_mut().insert(patience);
                Ok(response)
            }
            Err(error) => {
                let method = words::method(&request.method);
                let text = words::failure(&method, url, &error).await;
                // The next try finds out anew whether and how the registry is there.
                *self.lock_chosen() = None;
                Err(if error.is_redirect() {
                    // No other try would end better.
                    let text = words::innermost(&error);
                    Unanswered::Refused(Refusal::of(url.to_owned(), text))
                } else if error.is_connect() {
                    RegistryError::Unreachable(text).into()
                } else {
                    RegistryError::Protocol(text).into()
                })
            }
        }
    }
}

/// An address that a registry's answer names, in full.
pub(crate) fn named(asked: &Url, text: &str) -> Result<Url, RegistryError> {
    let broken = |why: String| {
        RegistryError::Protocol(format!(
            "the registry names an address ({text:?}) that cannot be used: {why}"
        ))
    };
    let mut url = asked.join(text).map_err(|e| broken(e.to_string()))?;
    if url.scheme() == "http" && asked.scheme() == "https" && url.host() == asked.host() {
        // A registry behind a proxy that does TLS for it does not know better.
        let _ = url.set_scheme("https");
    }
    match url.scheme() {
        "http" if asked.scheme() == "https" => Err(broken("it goes from https to http".to_owned())),
        "http" | "https" => Ok(url),
        scheme => Err(broken(format!("unsupported protocol scheme {scheme:?}"))),
    }
}

/// Whether an address is the registry's own: the same scheme, host and port.
fn is_home(base: &str, url: &str) -> bool {
    match (Url::parse(base), Url::parse(url)) {
        (Ok(base), Ok(url)) => base.origin() == url.origin(),
        _ => false,
    }
}

/// Whether any certificate, or none, will do: the registry is named so, or lies in such a network.
// COMPAT: moby's isSecureIndex (registry/config.go); Docker Hub is never one of them.
async fn is_insecure(host: &str, options: &RegistryOptions) -> bool {
    if host == HUB.1 {
        return false;
    }
    if options.names_insecure(host) {
        return true;
    }
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_matches(['[', ']']);
    if let Ok(address) = name.parse::<IpAddr>() {
        return options.is_insecure_address(address);
    }
    if name == "localhost" {
        return true;
    }
    let found = tokio::time::timeout(options.connect_timeout, lookup_host((name, 0))).await;
    found.is_ok_and(|found| {
        found.is_ok_and(|mut addresses| addresses.any(|at| options.is_insecure_address(at.ip())))
    })
}

/// What an answer's headers ask for, as far as it is known: for a token before a password.
pub(crate) fn challenge_of(headers: &HeaderMap) -> Option<Challenge> {
    let values = headers.get_all(WWW_AUTHENTICATE).into_iter();
    let mut known: Vec<_> = values
        .filter_map(|value| challenge::parse(value.to_str().ok()?))
        .collect();
    known.sort_by_key(|challenge| *challenge == Challenge::Basic);
    known.into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn insecure_registries() {
        let options = RegistryOptions {
            insecure: ["10.0.0.0/8", "a.invalid:5"]
                .map(|i| crate::insecure(i).unwrap())
                .to_vec(),
            ..RegistryOptions::default()
        };
        for name in [
            "localhost",
            "localhost:5000",
            "127.0.0.1:5000",
            "127.9.9.9",
            "[::1]:5000",
            "10.0.0.1:5000",
            "a.invalid:5",
        ] {
            assert!(is_insecure(name, &options).await, "{name}");
        }
        for name in [
            HUB.1,
            "no-such.invalid:1",
            "11.0.0.1:5000",
            "[::2]",
            "a.invalid",
        ] {
            assert!(!is_insecure(name, &options).await, "{name}");
        }
    }

    #[test]
    fn named_addresses() {
        let asked = Url::parse("https://a.b:5/v2/x/blobs/uploads/").unwrap();
        let at = |text: &str| named(&asked, text).map(|url| url.to_string()).ok();
        assert_eq!(at("/v2/y?a=1").as_deref(), Some("https://a.b:5/v2/y?a=1"));
        assert_eq!(
            at("http://a.b:5/v2/y").as_deref(),
            Some("https://a.b:5/v2/y")
        );
        assert_eq!(at("https://c.d/y").as_deref(), Some("https://c.d/y"));
        assert_eq!(at("http://c.d/y"), None);
        assert_eq!(at("file:///etc/passwd"), None);
    }

    #[test]
    fn the_own_addresses() {
        assert!(is_home("https://a.b", "https://a.b:443/v2/"));
        assert!(!is_home("https://a.b", "http://a.b/v2/"));
        assert!(!is_home("http://a.b:1", "http://a.b:2/v2/"));
        assert!(!is_home("https://a.b", "https://a.c/v2/"));
    }
}
