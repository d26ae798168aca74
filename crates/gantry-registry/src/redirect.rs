//! Where a registry may send its client: to http(s) addresses, and from https to https alone.
//!
//! The authorization goes to the registry's own host: reqwest drops it where host, port or scheme change. But it compares
//! with the last step alone, and has the authorization again for a second step at somebody else's. There its way ends, and
//! [`beyond`] goes on with requests that never had any.

use crate::host::named;
use crate::{RegistryError, words};
use reqwest::header::{AUTHORIZATION, HeaderMap, LOCATION};
use reqwest::redirect::{Action, Attempt, Policy};
use reqwest::{Client, Method, Response, Url};

/// Redirects of one request.
const MOST: usize = 10;

#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("stopped after {MOST} redirects")]
    TooMany,
    #[error("unsupported protocol scheme {0:?}")]
    Scheme(String),
    #[error("the registry redirects from https to http, which is refused")]
    Downgrade,
    #[error("the token server redirects to another host ({0}), which would get the credentials")]
    Elsewhere(String),
}

/// For what a registry serves. `insecure`: plain HTTP is allowed.
pub(crate) fn bounded(insecure: bool) -> Policy {
    Policy::custom(move |attempt| match check(&attempt, insecure) {
        Ok(()) if has_left(attempt.previous()) => attempt.stop(),
        Ok(()) => attempt.follow(),
        Err(why) => attempt.error(why),
    })
}

/// Whether a way has left the host where it began.
fn has_left(previous: &[Url]) -> bool {
    let first = previous.first().map(Url::origin);
    previous.iter().any(|url| Some(url.origin()) != first)
}

/// Goes on where [`bounded`] has ended the way of a request without a body.
pub(crate) async fn beyond(
    client: &Client,
    method: &Method,
    headers: &HeaderMap,
    mut response: Response,
) -> Result<Response, RegistryError> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Ok(response);
    }
    let mut headers = headers.clone();
    headers.remove(AUTHORIZATION);
    for _ in 0..MOST {
        let next = response.headers().get(LOCATION);
        let next = next.and_then(|next| next.to_str().ok());
        let Some(next) = next.filter(|_| response.status().is_redirection()) else {
            return Ok(response);
        };
        let next = named(response.url(), next)?;
        let request = client.request(method.clone(), next.clone());
        response = match request.headers(headers.clone()).send().await {
            Ok(response) => response,
            Err(error) => {
                let method = words::method(method);
                let text = words::failure(&method, next.as_str(), &error).await;
                return Err(RegistryError::Protocol(text));
            }
        };
    }
    Err(RegistryError::Protocol(Refused::TooMany.to_string()))
}

/// For token servers, which get passwords in the request itself.
pub(crate) fn at_home() -> Policy {
    Policy::custom(|attempt: Attempt<'_>| -> Action {
        let first = attempt.previous().first().map(|url| url.origin());
        if let Err(why) = check(&attempt, true) {
            return attempt.error(why);
        }
        if first.is_some_and(|first| first != attempt.url().origin()) {
            let host = attempt.url().host_str().unwrap_or_default().to_owned();
            return attempt.error(Refused::Elsewhere(host));
        }
        attempt.follow()
    })
}

fn check(attempt: &Attempt<'_>, insecure: bool) -> Result<(), Refused> {
    let scheme = attempt.url().scheme();
    if !matches!(scheme, "http" | "https") {
        return Err(Refused::Scheme(scheme.to_owned()));
    }
    if attempt.previous().len() > MOST {
        return Err(Refused::TooMany);
    }
    let before = attempt.previous().last().map(|url| url.scheme());
    if before == Some("https") && scheme == "http" && !insecure {
        return Err(Refused::Downgrade);
    }
    Ok(())
}
