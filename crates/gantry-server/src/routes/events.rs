//! `events`: one JSON object a line, until the client goes away or `until` comes.

use super::Call;
use crate::error::{ApiError, Result};
use crate::reply::{self, Response};
use crate::router::{Route, route};
use bytes::Bytes;
use futures_util::stream;
use gantry_api::event::Event;
use gantry_api::go::number;
use gantry_api::version::ApiVersion;
use gantry_engine::Engine;
use gantry_engine::events::EventQuery;
use http::Method;

pub(super) fn routes() -> Vec<Route<Engine>> {
    vec![route(Method::GET, "/events", events).for_client()]
}

async fn events(call: Call) -> Result<Response> {
    let time = |name| {
        let text = call.query.given(name);
        text.map(number::timestamp)
            .transpose()
            .map_err(ApiError::system)
    };
    let query = EventQuery {
        since: time("since")?,
        until: time("until")?,
        filters: call.query.filters()?,
    };
    let subscription = call.state.events.subscribe(query)?;
    let version = call.version;
    let lines = stream::unfold(Some(subscription), move |subscription| async move {
        let mut subscription = subscription?;
        match subscription.next().await {
            Some(event) => Some((Ok(line(&event, version)), Some(subscription))),
            // The stream breaks off: the client sees that it is not all.
            None if subscription.was_dropped() => {
                let why = "the reader of events was too slow";
                Some((Err(std::io::Error::other(why)), None))
            }
            None => None,
        }
    });
    Ok(reply::stream(reply::JSON, lines))
}

fn line(event: &Event, version: ApiVersion) -> Bytes {
    let written = if version.has_old_event_fields() {
        serde_json::to_vec(event)
    } else {
        serde_json::to_vec(&event.clone().without_old_fields())
    };
    // A struct of strings and numbers always has a JSON form.
    let mut line = written.unwrap_or_default();
    line.push(b'\n');
    line.into()
}
