//! Where a registry may send its client: to http(s) addresses, and from https to https alone.
//!
//! The authorization goes to the registry's own host: reqwest drops it where host, port or scheme change.

use reqwest::redirect::{Action, Attempt, Policy};

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
        Ok(()) => attempt.follow(),
        Err(why) => attempt.error(why),
    })
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
