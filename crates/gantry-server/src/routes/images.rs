//! Images: pull, push and import, load and save, list, inspect, history, tag, remove, prune.

use super::Call;
use super::registry::credentials;
use crate::error::{ApiError, Result};
use crate::progress;
use crate::reply::{self, Response};
use crate::router::{Route, route};
use crate::upload;
use gantry_api::go::json;
use gantry_api::image::ImageSummary;
use gantry_api::version::ApiVersion;
use gantry_engine::Engine;
use gantry_engine::images::{ImportRequest, ListOptions, PullRequest, PushRequest, RemoveOptions};
use gantry_oci::manifest::Platform;
use http::{Method, StatusCode};
use serde::Deserialize;
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
        route(Method::POST, "/images/{name..}/push", push).for_client(),
        route(Method::DELETE, "/images/{name..}", remove),
    ]
}

async fn list(call: Call) -> Result<Response> {
    let since = |minor| call.version >= ApiVersion::new(1, minor);
    let mut filters = call.query.filters()?;
    // COMPAT: the parameter that came before the filter.
    if let Some(reference) = call.query.given("filter")
        && !since(25)
        && !filters.contains("reference")
    {
        filters.add("reference", reference);
    }
    let options = ListOptions {
        all: call.query.truth("all"),
        shared_size: since(42) && call.query.truth("shared-size"),
        manifests: since(47) && call.query.truth("manifests"),
        filters,
    };
    let mut images = call.state.images.list(options).await?;
    for image in &mut images {
        if call.version.has_virtual_size() {
            image.virtual_size = Some(image.size);
        }
        if !since(43) {
            name_the_nameless(image);
        }
        if !since(51) {
            image.containers = -1;
        }
    }
    Ok(reply::ok(&images))
}

/// What clients before 1.43 expect of an image without a name.
fn name_the_nameless(image: &mut ImageSummary) {
    let none = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
    if none(&image.repo_tags) && none(&image.repo_digests) {
        image.repo_tags = Some(vec!["<none>:<none>".to_owned()]);
        image.repo_digests = Some(vec!["<none>@<none>".to_owned()]);
    }
}

/// The platform of a parameter: a JSON document, as clients of this version and newer ones send it.
fn platform(call: &Call, since: ApiVersion, name: &str) -> Result<Option<Platform>> {
    let Some(text) = call.query.given(name).filter(|_| call.version >= since) else {
        return Ok(None);
    };
    if call.query.all(name).count() > 1 {
        let words = match name {
            "platforms" => "multiple platforms are not supported",
            _ => {
                "multiple platform parameters are not supported in this API version; use API version 1.52 or later"
            }
        };
        return Err(ApiError::invalid(words));
    }
    decode_platform(text).map(Some).map_err(ApiError::invalid)
}

// COMPAT: moby's words (daemon/server/httputils/form.go).
fn decode_platform(text: &str) -> std::result::Result<Platform, String> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Asked {
        os: String,
        architecture: String,
        variant: String,
        #[serde(rename = "os.version")]
        os_version: String,
    }
    let asked: Asked = json::from_slice(text.as_bytes())
        .map_err(|error| format!("failed to parse platform: {error}"))?;
    let optional = !asked.variant.is_empty() || !asked.os_version.is_empty();
    match (asked.os.as_str(), asked.architecture.as_str()) {
        ("", "") if optional => {
            Err("optional platform fields provided, but OS and Architecture are missing".to_owned())
        }
        ("", _) | (_, "") => Err("both OS and Architecture must be provided".to_owned()),
        (os, architecture) => Ok(Platform {
            os_version: Some(asked.os_version).filter(|text| !text.is_empty()),
            ..Platform::of(os, architecture, &asked.variant)
        }),
    }
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
    let request = ImportRequest {
        source: text("fromSrc"),
        repository: text("repo"),
        tag: text("tag"),
        message: text("message"),
        changes: call.query.all("changes").map(str::to_owned).collect(),
        platform: text("platform"),
    };
    if request.source != "-" {
        let work = async move { images.import_url(request, sender).await };
        return progress::respond(lines, work).await;
    }
    let (archive, mut feeder) = upload::start(call.into_stream());
    let work = async move {
        let import = images.import(request, Box::new(archive), sender);
        feeder.while_working(import).await
    };
    progress::respond(lines, work).await
}

async fn push(call: Call) -> Result<Response> {
    let images = call.state.images.clone();
    let platform = platform(&call, ApiVersion::new(1, 46), "platform");
    let (auth, reference) = (
        credentials(&call),
        reference(call.name("name"), call.query.text("tag")),
    );
    let request = PushRequest {
        reference,
        platform: platform?,
        auth,
    };
    let (sender, lines) = mpsc::channel(LINES);
    progress::respond(lines, async move { images.push(request, sender).await }).await
}

async fn load(call: Call) -> Result<Response> {
    let images = call.state.images.clone();
    let platform = platform(&call, ApiVersion::new(1, 48), "platform")?;
    let quiet = call.query.truth_or("quiet", true);
    let (sender, lines) = mpsc::channel(LINES);
    let (archive, mut feeder) = upload::start(call.into_stream());
    let work = async move {
        let load = images.load(Box::new(archive), platform, quiet, sender);
        feeder.while_working(load).await
    };
    progress::respond(lines, work).await
}

/// A pull's reference: the tag parameter may be a digest.
fn reference(image: &str, tag: &str) -> String {
    // COMPAT: old clients ask for all tags with a colon behind the name.
    let image = image.strip_suffix(':').unwrap_or(image);
    let image = match (tag, gantry_oci::Reference::parse(image)) {
        ("", _) | (_, Err(_)) => image.to_owned(),
        // The parameter counts before what the name says.
        (_, Ok(named)) => named.name(),
    };
    match tag {
        "" => image,
        digest if digest.contains(':') => format!("{image}@{digest}"),
        tag => format!("{image}:{tag}"),
    }
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
    let platform = platform(call, ApiVersion::new(1, 48), "platform")?;
    let pieces = call.state.images.save(names, platform).await?;
    Ok(reply::stream("application/x-tar", pieces))
}

async fn inspect(call: Call) -> Result<Response> {
    let platform = platform(&call, ApiVersion::new(1, 49), "platform")?;
    let manifests = call.version >= ApiVersion::new(1, 48) && call.query.truth("manifests");
    if manifests && platform.is_some() {
        let words = "conflicting options: manifests and platform options cannot both be set";
        return Err(ApiError::invalid(words));
    }
    let images = &call.state.images;
    let inspected = images.inspect(call.name("name"), platform, manifests);
    let mut image = inspected.await?;
    if call.version.has_virtual_size() {
        image.virtual_size = Some(image.size);
    }
    Ok(reply::ok(&image))
}

async fn history(call: Call) -> Result<Response> {
    let platform = platform(&call, ApiVersion::new(1, 48), "platform")?;
    let images = &call.state.images;
    let history = images.history(call.name("name"), platform).await?;
    Ok(reply::ok(&history))
}

async fn tag(call: Call) -> Result<Response> {
    let (repository, tag) = (call.query.text("repo"), call.query.text("tag"));
    let images = &call.state.images;
    images.tag(call.name("name"), repository, tag).await?;
    Ok(reply::empty(StatusCode::CREATED))
}

async fn remove(call: Call) -> Result<Response> {
    let options = RemoveOptions {
        force: call.query.truth("force"),
        prune: !call.query.truth("noprune"),
        platform: platform(&call, ApiVersion::new(1, 50), "platforms")?,
    };
    let images = &call.state.images;
    let removed = images.remove(call.name("name"), options).await?;
    Ok(reply::ok(&removed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_documents() {
        let decoded = decode_platform(r#"{"os":"linux","architecture":"arm","variant":"v7"}"#);
        assert_eq!(decoded.unwrap().to_string(), "linux/arm/v7");
        for (text, words) in [
            (
                r#"{"os":"linux"}"#,
                "both OS and Architecture must be provided",
            ),
            ("{}", "both OS and Architecture must be provided"),
            (
                r#"{"variant":"v7"}"#,
                "optional platform fields provided, but OS and Architecture are missing",
            ),
        ] {
            assert_eq!(decode_platform(text).unwrap_err(), words);
        }
        assert!(
            decode_platform("linux/arm")
                .unwrap_err()
                .starts_with("failed to parse platform: ")
        );
    }

    #[test]
    fn references_of_a_pull() {
        assert_eq!(reference("a/b", ""), "a/b");
        assert_eq!(reference("a/b:", ""), "a/b");
        assert_eq!(reference("a/b", "1"), "docker.io/a/b:1");
        assert_eq!(reference("a/b:2", "1"), "docker.io/a/b:1");
        assert_eq!(reference("UPPER", "1"), "UPPER:1");
        assert_eq!(reference("a", "sha256:00"), "docker.io/library/a@sha256:00");
    }
}
