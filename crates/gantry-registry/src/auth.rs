//! Basic and token authentication (distribution specification, "Token Authentication").

use crate::challenge::Challenge;
use crate::host::{Host, body};
use crate::{Credentials, RegistryError, words};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::StatusCode;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a request shows to the registry.
#[derive(Clone)]
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

/// Why nothing was granted.
#[derive(Debug)]
pub(crate) enum Ungranted {
    /// The request's own address belongs before the text.
    Refused(String),
    Other(RegistryError),
}

impl Ungranted {
    pub(crate) fn about(self, url: &str) -> RegistryError {
        match self {
            Self::Refused(text) => RegistryError::Denied(format!("Head {url:?}: {text}")),
            Self::Other(error) => error,
        }
    }
}

type Key = (String, Option<Credentials>);

/// Grants that are still good, by repository and who asks.
#[derive(Debug, Default)]
pub(crate) struct Tokens(Mutex<HashMap<Key, (Granted, Option<Instant>)>>);

impl Tokens {
    pub(crate) fn find(
        &self,
        repository: &str,
        credentials: Option<&Credentials>,
    ) -> Option<Granted> {
        let key = (repository.to_owned(), credentials.cloned());
        let tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (granted, until) = tokens.get(&key)?;
        until
            .is_none_or(|until| until > Instant::now())
            .then(|| granted.clone())
    }

    fn keep(&self, key: Key, granted: Granted, lifetime: Option<Duration>) {
        let now = Instant::now();
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.retain(|_, (_, until)| until.is_none_or(|until| until > now));
        tokens.insert(key, (granted, lifetime.map(|lifetime| now + lifetime)));
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

impl Host {
    /// Answers a challenge.
    pub(crate) async fn grant(
        &self,
        challenge: &Challenge,
        repository: &str,
        credentials: Option<&Credentials>,
    ) -> Result<Granted, Ungranted> {
        let key = (repository.to_owned(), credentials.cloned());
        let (granted, lifetime) = match challenge {
            Challenge::Basic => {
                let given = credentials.filter(|c| !c.username.is_empty());
                let given = given
                    .ok_or_else(|| Ungranted::Refused("no basic auth credentials".to_owned()))?;
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
            } => {
                let scope = match scope {
                    Some(scope) => scope.clone(),
                    None => format!("repository:{repository}:pull"),
                };
                let service = service.as_deref().unwrap_or_default();
                self.token(realm, service, &scope, credentials).await?
            }
        };
        self.tokens.keep(key, granted.clone(), lifetime);
        Ok(granted)
    }

    async fn token(
        &self,
        realm: &str,
        service: &str,
        scope: &str,
        credentials: Option<&Credentials>,
    ) -> Result<(Granted, Option<Duration>), Ungranted> {
        let other = |text: String| Ungranted::Other(RegistryError::Protocol(text));
        let mut url = reqwest::Url::parse(realm).map_err(|e| {
            other(format!(
                "the token server's address {realm:?} is broken: {e}"
            ))
        })?;
        let identity = credentials
            .map(|c| c.identity_token.as_str())
            .unwrap_or_default();
        let request = if identity.is_empty() {
            let mut pairs = url.query_pairs_mut();
            if let Some(named) = credentials.filter(|c| !c.username.is_empty()) {
                pairs.append_pair("account", &named.username);
            }
            pairs
                .append_pair("scope", scope)
                .append_pair("service", service);
            drop(pairs);
            let request = self.client.get(url.clone());
            match credentials.filter(|c| !c.username.is_empty()) {
                Some(c) => request.basic_auth(&c.username, Some(&c.password)),
                None => request,
            }
        } else {
            let mut form = reqwest::Url::parse("form:").map_err(|e| other(e.to_string()))?;
            form.query_pairs_mut()
                .append_pair("grant_type", "refresh_token")
                .append_pair("refresh_token", identity)
                .append_pair("service", service)
                .append_pair("scope", scope)
                .append_pair("client_id", "docker");
            self.client
                .post(url.clone())
                .header("content-type", "application/x-www-form-urlencoded")
                .body(form.query().unwrap_or_default().to_owned())
        };
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => {
                let text = words::failure("Get", url.as_str(), &error).await;
                return Err(Ungranted::Other(RegistryError::Unreachable(text)));
            }
        };
        match response.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(Ungranted::Refused(
                    "unauthorized: incorrect username or password".to_owned(),
                ));
            }
            status if !status.is_success() => {
                return Err(other(format!(
                    "Get {:?}: token request failed with status: {status}",
                    url.as_str()
                )));
            }
            _ => {}
        }
        let bytes = body(url.as_str(), response, 1 << 20).await;
        let bytes = bytes.map_err(Ungranted::Other)?;
        let answer: Answer = serde_json::from_slice(&bytes)
            .map_err(|e| other(format!("unable to decode token response: {e}")))?;
        let token = if answer.token.is_empty() {
            answer.access_token
        } else {
            answer.token
        };
        if token.is_empty() {
            return Err(other(
                "authorization server did not include a token in the response".into(),
            ));
        }
        // 60 seconds unless said otherwise, and never on the edge of the last ones.
        let lifetime = Duration::from_secs(answer.expires_in.max(60) - 10);
        Ok((Granted::Bearer(token), Some(lifetime)))
    }
}
