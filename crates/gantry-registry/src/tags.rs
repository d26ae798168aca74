//! The tags of a repository (distribution specification, "Listing Tags").

use crate::answer::{Unanswered, body};
use crate::host::{self, Host, Request, Target, pull_scope};
use crate::{Credentials, RegistryError};
use gantry_oci::Reference;
use reqwest::Url;
use reqwest::header::LINK;

/// Largest page that is read, bytes.
const LARGEST_PAGE: usize = 4 << 20;
/// Pages and tags beyond which a list is a trap.
const MOST_PAGES: usize = 1000;
const MOST_TAGS: usize = 100_000;

#[derive(serde::Deserialize)]
struct Page {
    /// Registries write `null` for none.
    tags: Option<Vec<String>>,
}

/// All tags, in the registry's order.
pub(crate) async fn list(
    host: &Host,
    reference: &Reference,
    credentials: Option<&Credentials>,
) -> Result<Vec<String>, Unanswered> {
    let scopes = [pull_scope(&reference.path)];
    let mut request = Request::get(reference, "tags/list", &scopes, credentials);
    let mut tags = Vec::new();
    for _ in 0..MOST_PAGES {
        let response = host.ask(&request).await?;
        let url = response.url().clone();
        let next = next_page(&url, &response)?;
        let bytes = body(url.as_str(), response, LARGEST_PAGE).await?;
        let page: Page = serde_json::from_slice(&bytes).map_err(|e| {
            RegistryError::Protocol(format!("the registry's list of tags is broken: {e}"))
        })?;
        // What is no tag cannot be pulled, either.
        let found = page.tags.unwrap_or_default().into_iter();
        tags.extend(found.filter(|tag| gantry_oci::reference::is_tag(tag)));
        let Some(next) = next else {
            return Ok(tags);
        };
        if tags.len() > MOST_TAGS || Target::Url(next.clone()) == request.target {
            break;
        }
        request.target = Target::Url(next);
    }
    let text = format!(
        "the list of tags of {} has no end",
        reference.familiar_name()
    );
    Err(RegistryError::Protocol(text).into())
}

/// `Link: </v2/x/tags/list?last=b>; rel="next"`, on the same registry.
fn next_page(url: &Url, response: &reqwest::Response) -> Result<Option<Url>, RegistryError> {
    let link = response.headers().get(LINK);
    let link = link.and_then(|link| {
        link.to_str()
            .ok()?
            .trim()
            .strip_prefix('<')?
            .split_once('>')
    });
    let Some((address, _)) = link.filter(|(_, rest)| rest.contains("next")) else {
        return Ok(None);
    };
    let next = host::named(url, address)?;
    if next.origin() != url.origin() {
        return Err(RegistryError::Protocol(format!(
            "the registry's list of tags goes on at another host ({next})"
        )));
    }
    Ok(Some(next))
}
