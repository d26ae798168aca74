//! Whether a registry takes credentials: what `login` wants to know.

use crate::answer::{Refusal, body};
use crate::challenge::Challenge;
use crate::host::{Host, challenge_of};
use crate::{Credentials, Registry, RegistryError, words};
use reqwest::header::CONTENT_TYPE;
use reqwest::{RequestBuilder, Response, StatusCode};
use std::time::Duration;

/// How long each question may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// Largest answer of a token server that is read, bytes.
const LARGEST: usize = 1 << 20;

/// A token server's answer; `refresh_token` stands for the password from now on.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Tokens {
    token: String,
    access_token: String,
    refresh_token: String,
}

impl Registry {
    /// Shows credentials to a registry (`host[:port]` or a URL; empty: Docker Hub), never to a mirror of it. The answer is
    /// a token to keep instead of the password, where the registry gives one.
    pub async fn login(
        &self,
        server: &str,
        credentials: &Credentials,
    ) -> Result<Option<String>, RegistryError> {
        let host = self.host(domain_of(server)).await?;
        let url = format!("{}/v2/", host.base().await?);
        let response = send(&url, host.client.get(&url)).await?;
        let challenge = match response.status() {
            StatusCode::UNAUTHORIZED => challenge_of(response.headers()),
            _ => None,
        };
        let Some(challenge) = challenge else {
            return accepted(&url, &response).map(|()| None);
        };
        let again = host.client.get(&url);
        let (again, kept) = match challenge {
            Challenge::Basic => match named(credentials) {
                Some((username, password)) => (again.basic_auth(username, Some(password)), None),
                None => {
                    let text = format!("Get {url:?}: no basic auth credentials");
                    return Err(RegistryError::Protocol(text));
                }
            },
            Challenge::Bearer { realm, service, .. } => {
                let asked = Asked {
                    host: &host,
                    url: &url,
                    realm: &realm,
                    service: service.as_deref().unwrap_or_default(),
                    scope: None,
                };
                let (token, kept) = asked.token(credentials).await?;
                (again.bearer_auth(token), kept)
            }
        };
        let response = send(&url, again).await?;
        accepted(&url, &response).map(|()| kept)
    }
}

/// Which registry a server's address means.
fn domain_of(server: &str) -> &str {
    let bare = server.split_once("://").map_or(server, |(_, rest)| rest);
    match bare.split('/').next().unwrap_or_default() {
        "" | "index.docker.io" | "registry-1.docker.io" => "docker.io",
        domain => domain,
    }
}

/// User name and password, where there are both.
fn named(credentials: &Credentials) -> Option<(&str, &str)> {
    let (username, password) = (&credentials.username, &credentials.password);
    (!username.is_empty() && !password.is_empty()).then_some((username, password))
}

async fn send(url: &str, request: RequestBuilder) -> Result<Response, RegistryError> {
    match request.timeout(PATIENCE).send().await {
        Ok(response) => Ok(response),
        Err(error) => {
            let text = words::failure("Get", url, &error).await;
            Err(RegistryError::Unreachable(text))
        }
    }
}

fn accepted(url: &str, response: &Response) -> Result<(), RegistryError> {
    match response.status() {
        StatusCode::OK => Ok(()),
        // COMPAT: Docker's words, and no 401, where basic authentication fails (moby's registry/auth.go, loginV2).
        status => Err(RegistryError::Protocol(format!(
            "login attempt to {url} failed with status: {status}"
        ))),
    }
}

/// A token that is asked for once, beside the tokens of repositories.
pub(crate) struct Asked<'a> {
    pub(crate) host: &'a Host,
    /// What it is for, as errors tell it.
    pub(crate) url: &'a str,
    pub(crate) realm: &'a str,
    pub(crate) service: &'a str,
    pub(crate) scope: Option<&'a str>,
}

impl Asked<'_> {
    /// The token, and the one that may be kept instead of a password.
    pub(crate) async fn token(
        &self,
        credentials: &Credentials,
    ) -> Result<(String, Option<String>), RegistryError> {
        let about = |why: String| RegistryError::Protocol(format!("Get {:?}: {why}", self.url));
        let request = self.request(credentials)?;
        let response = send(self.realm, request).await?;
        if !response.status().is_success() {
            let refusal = Refusal::read(response).await;
            let text = format!("Get {:?}: {}", self.url, refusal.cause());
            return Err(match refusal.code.as_str() {
                "UNAUTHORIZED" => RegistryError::Unauthorized(text),
                "TOOMANYREQUESTS" => RegistryError::TooMany(text),
                _ => RegistryError::Protocol(text),
            });
        }
        let bytes = body(self.realm, response, LARGEST).await?;
        let tokens: Tokens = serde_json::from_slice(&bytes)
            .map_err(|error| about(format!("unable to decode token response: {error}")))?;
        let token = match tokens.access_token {
            none if none.is_empty() => tokens.token,
            token => token,
        };
        if token.is_empty() {
            let text = "authorization server did not include a token in the response";
            return Err(about(text.to_owned()));
        }
        let kept = Some(tokens.refresh_token).filter(|token| !token.is_empty());
        Ok((token, kept))
    }

    fn request(&self, credentials: &Credentials) -> Result<RequestBuilder, RegistryError> {
        let mut address = self.host.realm(self.realm)?;
        let client = &self.host.authorizer;
        if !credentials.identity_token.is_empty() {
            let mut form = address.clone();
            form.set_query(None);
            form.query_pairs_mut()
                .append_pair("grant_type", "refresh_token")
                .append_pair("refresh_token", &credentials.identity_token)
                .append_pair("service", self.service)
                .append_pair("scope", self.scope.unwrap_or_default())
                .append_pair("client_id", "docker");
            return Ok(client
                .post(address)
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form.query().unwrap_or_default().to_owned()));
        }
        let named = named(credentials);
        {
            let mut pairs = address.query_pairs_mut();
            if let Some((username, _)) = named {
                pairs.append_pair("account", username);
            }
            pairs
                .append_pair("client_id", "docker")
                .append_pair("offline_token", "true");
            if let Some(scope) = self.scope {
                pairs.append_pair("scope", scope);
            }
            if !self.service.is_empty() {
                pairs.append_pair("service", self.service);
            }
        }
        let request = client.get(address);
        Ok(match named {
            Some((username, password)) => request.basic_auth(username, Some(password)),
            None => request,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::domain_of;

    #[test]
    fn addresses_of_servers() {
        for hub in [
            "",
            "https://index.docker.io/v1/",
            "index.docker.io",
            "docker.io",
        ] {
            assert_eq!(domain_of(hub), "docker.io", "{hub}");
        }
        assert_eq!(domain_of("http://127.0.0.1:5000/v2/"), "127.0.0.1:5000");
        assert_eq!(domain_of("registry.example"), "registry.example");
    }
}
