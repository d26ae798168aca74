//! A request as a handler sees it.

use crate::body::{self, RequestBody};
use crate::error::Result;
use crate::query::Query;
use crate::router::Parameters;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use gantry_api::version::ApiVersion;
use http::HeaderMap;
use http_body_util::BodyStream;
use serde::de::DeserializeOwned;
use std::io;
use std::sync::Arc;

/// One request.
pub(crate) struct Call<S> {
    pub(crate) state: Arc<S>,
    pub(crate) version: ApiVersion,
    pub(crate) parameters: Parameters,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) body: RequestBody,
}

impl<S> Call<S> {
    /// A value of the route's pattern.
    pub(crate) fn name(&self, name: &str) -> &str {
        self.parameters.get(name)
    }

    /// A header's text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The JSON body, which must be there.
    pub(crate) async fn json_value(self) -> Result<serde_json::Value> {
        body::value(&self.headers, self.body).await
    }

    /// The JSON body; an empty one is the default.
    pub(crate) async fn json<T: DeserializeOwned + Default>(self) -> Result<T> {
        body::optional(&self.headers, self.body).await
    }

    /// The body piece by piece (an archive).
    pub(crate) fn into_stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send + use<S> {
        BodyStream::new(self.body).filter_map(async |frame| match frame {
            Ok(frame) => frame.into_data().ok().map(Ok),
            Err(error) => Some(Err(io::Error::other(error))),
        })
    }
}
