//! Images: pull and import, load and save, list, inspect, history, tag, remove, prune.

use super::Call;
use crate::error::{ApiError, Result};
use crate::progress;
use crate::reply::{self, Response};
use crate::router::{Route, route};
use crate::upload;
use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use gantry_api::go::json;
use gantry_api::system::AuthConfig;
use gantry_engine::Engine;
use gantry_engine::images::{ImportRequest, ListOptions, PullRequest};
use http::{Method, StatusCode};
use tokio::sync::mpsc;

/// Lines of progress that wait for a slow client.
const LINES: usize = 64;

pub(super) fn routes() -> Vec<Route<Engine>> {
    vec![
        route(Method::GET, "/images/json", list),
        route(Method::POST, "/images/create", create).for_client(),
        route(Method::POST, "/images/load", load).for_client(),
        route(Method::POST, "/images/prune", prune),
        route(Method::GET, "/images/get", save_several).for_client(),
        route(Method::GET, "/images/{name..}/get", save).for_client(),
        route(Method::GET, "/images/{name..}/json", inspect),
        route(Method::GET, "/images/{name..}/history", history),
        route(Method::POST, "/images/{name..}/tag", tag),
        route(Method::DELETE, "/images/{name..}", remove),
    ]
}

async fn list(call: Call) -> Result<Response> {
    let mut filters = call.query.filters()?;
    // COMPAT: the parameter that came before the filter.
    if let Some(reference) = call.query.given("filter") {
        filters.add("reference", reference);
    }
    let options = ListOptions {
        all: call.query.truth("all"),
        shared_size: call.query.truth("shared-size"),
        filters,
    };
    let mut images = call.state.images.list(options).await?;
    if call.version.has_virtual_size() {
        for image in &mut images {
            image.virtual_size = Some(image.size);
        }
    }
    Ok(reply::ok(&images))
}

async fn create(call: Call) -> Result<Response> {
    let images = call.state.images.clone();
    let (sender, lines) = mpsc::channel(LINES);
    let text = |name: &str| call.query.text(name).to_owned();
    if let Some(image) = call.query.given("fromImage") {
        let request = PullRequest {
            reference: reference(image, call.query.text("tag")),
            platform: text("platform"),
            auth: credentials(&call),
        };
        return progress::respond(lines, async move { images.pull(request, sender).await }).await;
    }
    let source = text("fromSrc");
    if source != "-" {
        // COMPAT: Docker fetches an archive from a URL here; the client can do that and send it.
        return Err(ApiError::invalid(format!(
            "cannot import from {source:?}: only an archive in the request (fromSrc=-) is taken"
        )));
    }
    let request = ImportRequest {
        repository: text("repo"),
        tag: text("tag"),
        message: text("message"),
        changes: call.query.all("changes").map(str::to_owned).collect(),
        platform: text("platform"),
    };
    let (archive, mut feeder) = upload::start(call.into_stream());
    let work = async move {
        let import = images.import(request, Box::new(archive), sender);
        let done = feeder.while_working(import).await;
        if done.is_err() {
            feeder.drain().await;
        }
        done
    };
    progress::respond(lines, work).await
}

async fn load(call: Call) -> Result<Response> {
    let images = call.state.images.clone();
    let quiet = call.query.truth_or("quiet", true);
    let (sender, lines) = mpsc::channel(LINES);
    let (archive, mut feeder) = upload::start(call.into_stream());
    let work = async move {
        let load = images.load(Box::new(archive), quiet, sender);
        let done = feeder.while_working(load).await;
        if done.is_err() {
            feeder.drain().await;
        }
        done
    };
    progress::respond(lines, work).await
}

/// A pull's reference: the tag parameter may be a digest.
fn reference(image: &str, tag: &str) -> String {
    match tag {
        "" => image.to_owned(),
        digest if digest.contains(':') => format!("{image}@{digest}"),
        tag => format!("{image}:{tag}"),
    }
}

/// `X-Registry-Auth`: JSON in base64url, padded or not. What is broken is passed over, as Docker does.
fn credentials(call: &Call) -> Option<AuthConfig> {
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let url_safe = GeneralPurpose::new(&base64::alphabet::URL_SAFE, config);
    let text = call.header("x-registry-auth")?;
    let bytes = url_safe.decode(text.trim()).ok()?;
    json::from_slice(&bytes).ok()
}

async fn prune(call: Call) -> Result<Response> {
    let filters = call.query.filters()?;
    Ok(reply::ok(&call.state.images.prune(&filters).await?))
}

async fn save_several(call: Call) -> Result<Response> {
    let names: Vec<String> = call.query.all("names").map(str::to_owned).collect();
    send_archive(&call, names).await
}

async fn save(call: Call) -> Result<Response> {
    let names = vec![call.name("name").to_owned()];
    send_archive(&call, names).await
}

async fn send_archive(call: &Call, names: Vec<String>) -> Result<Response> {
    let pieces = call.state.images.save(names).await?;
    Ok(reply::stream("application/x-tar", pieces))
}

async fn inspect(call: Call) -> Result<Response> {
    let mut image = call.state.images.inspect(call.name("name")).await?;
    if call.version.has_virtual_size() {
        image.virtual_size = Some(image.size);
    }
    Ok(reply::ok(&image))
}

async fn history(call: Call) -> Result<Response> {
    let history = call.state.images.history(call.name("name")).await?;
    Ok(reply::ok(&history))
}

async fn tag(call: Call) -> Result<Response> {
    let (repository, tag) = (call.query.text("repo"), call.query.text("tag"));
    let images = &call.state.images;
    images.tag(call.name("name"), repository, tag).await?;
    Ok(reply::empty(StatusCode::CREATED))
}

async fn remove(call: Call) -> Result<Response> {
    let force = call.query.truth("force");
    let prune = !call.query.truth("noprune");
    let images = &call.state.images;
    let removed = images.remove(call.name("name"), force, prune).await?;
    Ok(reply::ok(&removed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_of_a_pull() {
        assert_eq!(reference("a/b", ""), "a/b");
        assert_eq!(reference("a/b", "1"), "a/b:1");
        assert_eq!(reference("a", "sha256:00"), "a@sha256:00");
    }
}
