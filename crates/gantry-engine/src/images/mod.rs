//! Images: pull, load, import, save, list, inspect, history, tag, remove, prune.
//!
//! The registry and the store do not know each other: what comes from the one goes through here to the other.

use crate::context::Context;
use crate::error::Result;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use gantry_api::filter::Filters;
use gantry_api::image::{DeleteItem, HistoryItem, ImageInspect, ImageSummary, PruneResponse};
use gantry_api::progress::Progress;
use gantry_api::system::AuthConfig;
use std::io::{self, Read};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Where work tells of its progress. An error when sending says that nobody waits any more: the work may end.
pub type ProgressSender = mpsc::Sender<Progress>;

/// An archive as it comes from a client; read it on a thread that may block. It ends with an error when the
/// client goes away in the middle.
pub type Archive = Box<dyn Read + Send>;

/// `POST /images/create?fromImage=`
#[derive(Debug, Clone, Default)]
pub struct PullRequest {
    /// Name, with tag or digest where given.
    pub reference: String,
    /// `os/arch[/variant]`; empty: the machine's.
    pub platform: String,
    pub auth: Option<AuthConfig>,
}

/// `POST /images/create?fromSrc=-`
#[derive(Debug, Clone, Default)]
pub struct ImportRequest {
    /// Name, with or without tag; empty: the image gets none.
    pub repository: String,
    pub tag: String,
    pub message: String,
    /// Dockerfile instructions (`CMD ["sh"]`).
    pub changes: Vec<String>,
    /// `os/arch[/variant]`; empty: the machine's.
    pub platform: String,
}

/// What is listed.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Intermediate images, too.
    pub all: bool,
    /// Count the bytes that are shared with other images.
    pub shared_size: bool,
    pub filters: Filters,
}

/// The image service.
#[derive(Debug)]
pub struct Images {
    pub(crate) context: Arc<Context>,
}

impl Images {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// Pulls an image. Dropping the future ends the work; what was fetched and verified stays.
    pub async fn pull(&self, _request: PullRequest, _progress: ProgressSender) -> Result<()> {
        todo!()
    }

    /// Makes an image of a root file system's tar. Request errors come before the archive is read.
    pub async fn import(
        &self,
        _request: ImportRequest,
        _archive: Archive,
        _progress: ProgressSender,
    ) -> Result<()> {
        todo!()
    }

    /// Loads the images of an archive. `quiet`: no progress but the names.
    // COMPAT: an archive that is broken is a line of the stream with status 200, even if it is the first one.
    pub async fn load(
        &self,
        _archive: Archive,
        _quiet: bool,
        _progress: ProgressSender,
    ) -> Result<()> {
        todo!()
    }

    /// One archive of images, piece by piece. Names that are not there are an error at once.
    pub async fn save(&self, _names: Vec<String>) -> Result<BoxStream<'static, io::Result<Bytes>>> {
        todo!()
    }

    /// Lists images, newest first.
    pub async fn list(&self, _options: ListOptions) -> Result<Vec<ImageSummary>> {
        todo!()
    }

    /// All that is known of an image.
    pub async fn inspect(&self, _name: &str) -> Result<ImageInspect> {
        todo!()
    }

    /// How an image was made, newest step first.
    pub async fn history(&self, _name: &str) -> Result<Vec<HistoryItem>> {
        todo!()
    }

    /// Gives an image one more name. `tag` is empty for `latest`.
    pub async fn tag(&self, _name: &str, _repository: &str, _tag: &str) -> Result<()> {
        todo!()
    }

    /// Removes a name, and the image with its last one (and untagged parents, where `prune`).
    pub async fn remove(&self, _name: &str, _force: bool, _prune: bool) -> Result<Vec<DeleteItem>> {
        todo!()
    }

    /// Removes images that nothing uses: untagged ones, or all with `dangling=false`.
    pub async fn prune(&self, _filters: &Filters) -> Result<PruneResponse> {
        todo!()
    }
}
