//! A container's files: changes, archive, export, commit.

use super::Call;
use crate::error::{ApiError, Result};
use crate::reply::{self, Response};
use crate::router::{Route, route};
use crate::upload;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gantry_api::container::ContainerConfig;
use gantry_api::files::{CommitResponse, PathStat};
use gantry_api::go::number;
use gantry_engine::Engine;
use gantry_engine::containers::files::Extract;
use gantry_engine::images::CommitRequest;
use http::{HeaderName, HeaderValue, Method, StatusCode};

pub(super) fn routes() -> Vec<Route<Engine>> {
    vec![
        route(Method::GET, "/containers/{id..}/changes", changes).for_client(),
        route(Method::HEAD, "/containers/{id..}/archive", stat).for_client(),
        route(Method::GET, "/containers/{id..}/archive", archive).for_client(),
        route(Method::PUT, "/containers/{id..}/archive", extract),
        route(Method::GET, "/containers/{id..}/export", export).for_client(),
        route(Method::POST, "/commit", commit),
    ]
}

async fn changes(call: Call) -> Result<Response> {
    // What Docker does not have: against another container, or an image.
    if let Some(against) = call.query.given("against") {
        let containers = &call.state.containers;
        let compared = containers.compare(call.name("id"), against).await?;
        return Ok(reply::ok(&compared));
    }
    Ok(reply::ok(
        &call.state.containers.changes(call.name("id")).await?,
    ))
}

/// The path of an archive request.
fn path(call: &Call) -> Result<String> {
    // COMPAT: Docker's words, the missing space among them.
    let given = call.query.given("path");
    let path = given.ok_or_else(|| ApiError::invalid("bad parameter: pathcannot be empty"))?;
    Ok(path.to_owned())
}

fn add_stat(response: &mut Response, stat: &PathStat) {
    let json = serde_json::to_vec(stat).unwrap_or_default();
    if let Ok(value) = HeaderValue::from_str(&STANDARD.encode(json)) {
        let name = HeaderName::from_static("x-docker-container-path-stat");
        response.headers_mut().insert(name, value);
    }
}

async fn stat(call: Call) -> Result<Response> {
    let containers = &call.state.containers;
    let stat = containers.path_stat(call.name("id"), &path(&call)?).await?;
    let mut response = reply::empty(StatusCode::OK);
    add_stat(&mut response, &stat);
    Ok(response)
}

async fn archive(call: Call) -> Result<Response> {
    let containers = &call.state.containers;
    let (stat, pieces) = containers.archive(call.name("id"), &path(&call)?).await?;
    let mut response = reply::stream("application/x-tar", pieces);
    add_stat(&mut response, &stat);
    Ok(response)
}

async fn extract(call: Call) -> Result<Response> {
    let path = path(&call)?;
    let options = Extract {
        keep_kind: call.query.truth("noOverwriteDirNonDir"),
        chown: call.query.truth("copyUIDGID"),
    };
    let (containers, name) = (call.state.containers.clone(), call.name("id").to_owned());
    let (reader, mut feeder) = upload::start(call.into_stream());
    let work = containers.extract(&name, &path, options, Box::new(reader));
    feeder.while_working(work).await?;
    Ok(reply::empty(StatusCode::OK))
}

async fn export(call: Call) -> Result<Response> {
    let pieces = call.state.containers.export(call.name("id")).await?;
    Ok(reply::stream("application/octet-stream", pieces))
}

async fn commit(call: Call) -> Result<Response> {
    let text = |name: &str| call.query.text(name).to_owned();
    let mut request = CommitRequest {
        container: text("container"),
        repository: text("repo"),
        tag: text("tag"),
        author: text("author"),
        comment: text("comment"),
        changes: call.query.all("changes").map(str::to_owned).collect(),
        // COMPAT: given but empty is as not given at all.
        pause: call.query.given("pause").is_none_or(number::truth),
        config: None,
    };
    let images = call.state.images.clone();
    let config = call.json::<Option<ContainerConfig>>().await?;
    request.config = config.filter(|config| *config != ContainerConfig::default());
    let id = images.commit(request).await?;
    Ok(reply::json(StatusCode::CREATED, &CommitResponse { id }))
}
