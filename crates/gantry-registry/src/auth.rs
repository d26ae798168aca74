//! Basic and token authentication (distribution specification, "Token Authentication").

use crate::answer::{Refusal, Unanswered, body};
use crate::challenge::Challenge;
use crate::host::Host;
use crate::{Credentials, RegistryError, words};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::CONTENT_TYPE;
use reqwest::{RequestBuilder, Url};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Seconds that a token is good for where nothing, or less, is said.
const SHORTEST: u64 = 60;
/// A token is not used on the edge of its last seconds.
const EDGE: u64 = 10;
/// Largest answer of a token server that is read, bytes.
const LARGEST_ANSWER: usize = 1 << 20;

/// What a request shows to the registry.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Granted {
    Basic { username: String, password: String },
    Bearer(String),
}

impl std::fmt::Debug for Granted {
    /// Without the secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Basic { .. } => "Basic",
            Self::Bearer(_) => "Bearer",
        })
    }
}

impl Granted {
    /// The value of `Authorization`.
    pub(crate) fn header(&self) -> String {
        match self {
            Self::Basic { username, password } => {
                format!(
                    "Basic {}",
                    STANDARD.encode(format!("{username}:{password}"))
                )
            }
            Self::Bearer(token) => format!("Bearer {token}"),
        }
    }
}

type Key = (Vec<String>, Option<Credentials>);

/// Grants that are still good, by what they allow and who asks.
#[derive(Debug, Default)]
pub(crate) struct Tokens(Mutex<HashMap<Key, (Granted, Option<Instant>)>>);

impl Tokens {
    pub(crate) fn find(
        &self,
        scopes: &[String],
        credentials: Option<&Credentials>,
    ) -> Option<Granted> {
        let key = (scopes.to_vec(), credentials.cloned());
        let tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (granted, until) = tokens.get(&key)?;
        until
            .is_none_or(|until| until > Instant::now())
            .then(|| granted.clone())
    }

    fn keep(&self, key: Key, granted: Granted, lifetime: Option<Duration>) {
        let now = Instant::now();
        // A lifetime beyond what a clock can tell is for ever.
        let until = lifetime.and_then(|lifetime| now.checked_add(lifetime));
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.retain(|_, (_, until)| until.is_none_or(|until| until > now));
        tokens.insert(key, (granted, until));
    }
}

/// A token server's answer.
#[derive(serde::Deserialize)]
struct Answer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    /// Seconds.
    #[serde(default)]
    expires_in: u64,
}

fn protocol(text: impl Into<String>) -> RegistryError {
    RegistryError::Protocol(text.into())
}

impl Host {
    /// Answers a challenge.
    pub(crate) async fn grant(
        &self,
        challenge: &Challenge,
        scopes: &[String],
        credentials: Option<&Credentials>,
    ) -> Result<Granted, Unanswered> {
        let key = (scopes.to_vec(), credentials.cloned());
        let (granted, lifetime) = match challenge {
            Challenge::Basic => {
                let given = credentials.filter(|c| !c.username.is_empty());
                let given = given.ok_or_else(|| {
                    Unanswered::Ungranted(Refusal::of(
                        String::new(),
                        "no basic auth credentials".to_owned(),
                    ))
                })?;
                let granted = Granted::Basic {
                    username: given.username.clone(),
                    password: given.password.clone(),
                };
                (granted, None)
            }
            Challenge::Bearer {
                realm,
                service,
                scope,
            } => match credentials.filter(|c| !c.registry_token.is_empty()) {
                // COMPAT: a token that the client brings is used as it is.
                Some(given) => (Granted::Bearer(given.registry_token.clone()), None),
                None => {
                    let asked: Vec<&str> = match scope {
                        Some(scope) if scopes.is_empty() => scope.split(' ').collect(),
                        _ => scopes.iter().map(String::as_str).collect(),
                    };
                    let service = service.as_deref().unwrap_or_default();
                    self.token(realm, service, &asked, credentials).await?
                }
            },
        };
        self.tokens.keep(key, granted.clone(), lifetime);
        Ok(granted)
    }

    async fn token(
        &self,
        realm: &str,
        service: &str,
        scopes: &[&str],
        credentials: Option<&Credentials>,
    ) -> Result<(Granted, Option<Duration>), Unanswered> {
        // No other try would end better.
        let no = |why: RegistryError| Refusal::of(String::new(), why.to_string());
        let url = self
            .realm(realm)
            .map_err(|why| Unanswered::Ungranted(no(why)))?;
        let method = match credentials {
            Some(given) if !given.identity_token.is_empty() => "Post",
            _ => "Get",
        };
        let request = self.token_request(url.clone(), service, scopes, credentials)?;
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_redirect() => {
                let text = words::failure(method, url.as_str(), &error).await;
                return Err(Unanswered::Ungranted(Refusal::of(String::new(), text)));
            }
            Err(error) => {
                let text = words::failure(method, url.as_str(), &error).await;
                return Err(RegistryError::Unreachable(text).into());
            }
        };
        if !response.status().is_success() {
            return Err(Unanswered::Ungranted(Refusal::read(response).await));
        }
        let bytes = body(url.as_str(), response, LARGEST_ANSWER).await?;
        let answer: Answer = serde_json::from_slice(&bytes)
            .map_err(|e| protocol(format!("unable to decode token response: {e}")))?;
        let token = match answer.access_token {
            token if token.is_empty() => answer.token,
            token => token,
        };
        if token.is_empty() {
            let text = "authorization server did not include a token in the response";
            return Err(protocol(text).into());
        }
        let lifetime = Duration::from_secs(answer.expires_in.max(SHORTEST) - EDGE);
        Ok((Granted::Bearer(token), Some(lifetime)))
    }

    /// The token server's address: https where the registry has it, as passwords go there.
    pub(crate) fn realm(&self, realm: &str) -> Result<Url, RegistryError> {
        let url = Url::parse(realm).map_err(|e| {
            protocol(format!(
                "invalid token auth challenge realm: {realm:?}: {e}"
            ))
        })?;
        match url.scheme() {
            "https" => Ok(url),
            "http" if self.is_plain() => Ok(url),
            // COMPAT: Docker sends passwords in the clear there.
            "http" => Err(protocol(format!(
                "the token server {realm:?} is not https: no credentials are sent there (insecure-registries in daemon.json allows it)"
            ))),
            scheme => Err(protocol(format!(
                "Get {realm:?}: unsupported protocol scheme {scheme:?}"
            ))),
        }
    }

    /// A GET with name and password, or a POST of the identity token (OAuth 2).
    fn token_request(
        &self,
        mut url: Url,
        service: &str,
        scopes: &[&str],
        credentials: Option<&Credentials>,
    ) -> Result<RequestBuilder, RegistryError> {
        if let Some(given) = credentials.filter(|c| !c.identity_token.is_empty()) {
            let mut form = Url::parse("form:").map_err(|e| protocol(e.to_string()))?;
            form.query_pairs_mut()
                .append_pair("grant_type", "refresh_token")
                .append_pair("refresh_token", &given.identity_token)
                .append_pair("service", service)
                .append_pair("scope", &scopes.join(" "))
                .append_pair("client_id", "docker");
            return Ok(self
                .authorizer
                .post(url)
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form.query().unwrap_or_default().to_owned()));
        }
        let named = credentials.filter(|c| !c.username.is_empty());
        let mut pairs = url.query_pairs_mut();
        if let Some(named) = named {
            pairs.append_pair("account", &named.username);
        }
        for scope in scopes {
            pairs.append_pair("scope", scope);
        }
        if !service.is_empty() {
            pairs.append_pair("service", service);
        }
        drop(pairs);
        let request = self.authorizer.get(url);
        Ok(match named {
            Some(named) => request.basic_auth(&named.username, Some(&named.password)),
            None => request,
        })
    }
}
