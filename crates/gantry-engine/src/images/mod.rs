//! Images: pull, push, load, import, save, list, inspect, history, tag, remove, prune.
//!
//! Reading and naming are in `list`, `inspect` and `names`. The registry and the store do not know each other: what comes from the one goes through here to the other.

mod archives;
mod builtin;
mod changes;
mod commit;
mod download;
mod inspect;
mod list;
mod manifests;
mod names;
pub(crate) mod policy;
mod pull;
mod push;
mod remote;
mod report;
pub(crate) mod resolve;
mod transfers;

pub(crate) use changes::duration;
pub use commit::CommitRequest;
pub use names::RemoveOptions;
pub use remote::SearchRequest;
pub use resolve::platform;
pub use transfers::TransferLimits;

use crate::containers::Containers;
use crate::context::Context;
use crate::error::{Error, Result};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use gantry_api::filter::Filters;
use gantry_api::image::{DeleteItem, HistoryItem, ImageInspect, ImageSummary, PruneResponse};
use gantry_api::progress::Progress;
use gantry_api::system::AuthConfig;
use gantry_oci::Reference;
use gantry_oci::manifest::Platform;
use gantry_registry::Credentials;
use gantry_store::images::Image;
use std::io::{self, Read};
use std::sync::Arc;
use tokio::sync::mpsc;
use transfers::Transfers;

/// Where work tells of its progress. An error when sending says that nobody waits any more: the work may end.
pub type ProgressSender = mpsc::Sender<Progress>;

/// An archive as it comes from a client; read it on a thread that may block. It ends with an error when the
/// client goes away in the middle.
pub type Archive = Box<dyn Read + Send>;

/// `POST /images/create?fromImage=`
#[derive(Debug, Clone, Default)]
pub struct PullRequest {
    /// Name, with tag or digest; all of its tags are pulled where it has neither.
    pub reference: String,
    /// `os/arch[/variant]`; empty: the machine's.
    pub platform: String,
    pub auth: Option<AuthConfig>,
}

/// `POST /images/{name}/push`
#[derive(Debug, Clone, Default)]
pub struct PushRequest {
    /// Name; all of its tags go where it has none.
    pub reference: String,
    /// The one that is meant of a name's images.
    pub platform: Option<Platform>,
    pub auth: Option<AuthConfig>,
}

/// `POST /images/create?fromSrc=`
#[derive(Debug, Clone, Default)]
pub struct ImportRequest {
    /// Where the archive comes from: `-` for the request itself, else a URL.
    pub source: String,
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
    /// Tell what each name stands for, platform by platform.
    pub manifests: bool,
    pub filters: Filters,
}

/// The image service.
#[derive(Debug)]
pub struct Images {
    pub(crate) context: Arc<Context>,
    pub(crate) containers: Arc<Containers>,
    puller: pull::Puller,
    pusher: push::Pusher,
    transfers: Arc<Transfers>,
    /// Held while images are pruned.
    pruning: std::sync::Mutex<()>,
}

impl Images {
    pub(crate) fn new(context: Arc<Context>, containers: Arc<Containers>) -> Arc<Self> {
        let (store, registry) = (context.store.clone(), context.registry.clone());
        let limits = context.settings.transfers;
        let transfers = Arc::new(Transfers::new(limits));
        Arc::new(Self {
            puller: pull::Puller::new(
                store.clone(),
                registry.clone(),
                transfers.clone(),
                context.policy.clone(),
            ),
            pusher: push::Pusher::new(store, registry, transfers.clone()),
            transfers,
            context,
            containers,
            pruning: std::sync::Mutex::default(),
        })
    }

    /// The image of a reference, an ID or the beginning of one.
    pub(crate) fn find(&self, text: &str) -> Result<Arc<Image>> {
        resolve::find(&self.context.store, text, None)
    }

    /// Pulls an image. Dropping the future ends the work; what was fetched and verified stays.
    pub async fn pull(
        self: &Arc<Self>,
        request: PullRequest,
        progress: ProgressSender,
    ) -> Result<()> {
        let reference = Reference::parse(&request.reference)
            .map_err(|error| Error::invalid(error.to_string()))?;
        self.puller.pull(&reference, &request, &progress).await?;
        self.tell_transfer(&reference, "pull");
        Ok(())
    }

    /// Pushes an image, or all tags of a repository. Dropping the future ends the work.
    pub async fn push(
        self: &Arc<Self>,
        request: PushRequest,
        progress: ProgressSender,
    ) -> Result<()> {
        let reference = Reference::parse(&request.reference)
            .map_err(|error| Error::invalid(error.to_string()))?;
        if request.platform.is_some() {
            self.pusher.image(&reference, request.platform.as_ref())?;
        }
        self.pusher.push(&reference, &request, &progress).await?;
        self.tell_transfer(&reference, "push");
        Ok(())
    }

    /// Changes how many blobs move at a time, for what begins from now on.
    pub fn limit_transfers(&self, limits: TransferLimits) {
        self.transfers.limit(limits);
    }

    /// Makes an image of a root file system's tar. Request errors come before the archive is read.
    pub async fn import(
        self: &Arc<Self>,
        request: ImportRequest,
        archive: Archive,
        progress: ProgressSender,
    ) -> Result<()> {
        let import = archives::Import::check(&request)?;
        let this = self.clone();
        crate::blocking(move || this.import_blocking(import, archive, &progress)).await?
    }

    /// The same with an archive that the engine fetches itself. Dropping the future ends the work.
    pub async fn import_url(
        self: &Arc<Self>,
        request: ImportRequest,
        progress: ProgressSender,
    ) -> Result<()> {
        let import = archives::Import::check(&request)?;
        download::import(self, import, &request.source, progress).await
    }

    /// Loads the images of an archive, or those for a platform. `quiet`: no progress but the names.
    // COMPAT: an archive that is broken is a line of the stream with status 200, even if it is the first one.
    pub async fn load(
        self: &Arc<Self>,
        archive: Archive,
        platform: Option<Platform>,
        quiet: bool,
        progress: ProgressSender,
    ) -> Result<()> {
        let this = self.clone();
        let load = move || this.load_blocking(archive, platform.as_ref(), quiet, &progress);
        crate::blocking(load).await?
    }

    /// One archive of images, piece by piece. Names that are not there are an error at once.
    pub async fn save(
        self: &Arc<Self>,
        names: Vec<String>,
        platform: Option<Platform>,
    ) -> Result<BoxStream<'static, io::Result<Bytes>>> {
        let this = self.clone();
        let images = crate::blocking(move || this.to_save(&names, platform.as_ref())).await??;
        let (sender, receiver) = mpsc::channel(4);
        let this = self.clone();
        tokio::task::spawn_blocking(move || this.save_blocking(&images, sender));
        let pieces = stream::unfold(receiver, async |mut receiver| {
            Some((receiver.recv().await?, receiver))
        });
        Ok(pieces.boxed())
    }

    /// Lists images, newest first.
    pub async fn list(self: &Arc<Self>, options: ListOptions) -> Result<Vec<ImageSummary>> {
        let this = self.clone();
        crate::blocking(move || this.list_blocking(&options)).await?
    }

    /// All that is known of an image.
    pub async fn inspect(
        self: &Arc<Self>,
        name: &str,
        platform: Option<Platform>,
        manifests: bool,
    ) -> Result<ImageInspect> {
        let this = self.clone();
        let name = name.to_owned();
        let inspect = move || this.inspect_blocking(&name, platform.as_ref(), manifests);
        crate::blocking(inspect).await?
    }

    /// How an image was made, newest step first.
    pub async fn history(
        self: &Arc<Self>,
        name: &str,
        platform: Option<Platform>,
    ) -> Result<Vec<HistoryItem>> {
        let this = self.clone();
        let name = name.to_owned();
        crate::blocking(move || this.history_blocking(&name, platform.as_ref())).await?
    }

    /// Gives an image one more name. `tag` is empty for `latest`.
    pub async fn tag(self: &Arc<Self>, name: &str, repository: &str, tag: &str) -> Result<()> {
        let this = self.clone();
        let (name, repository, tag) = (name.to_owned(), repository.to_owned(), tag.to_owned());
        crate::blocking(move || this.tag_blocking(&name, &repository, &tag)).await?
    }

    /// Removes a name, and the image with its last one.
    pub async fn remove(
        self: &Arc<Self>,
        name: &str,
        options: RemoveOptions,
    ) -> Result<Vec<DeleteItem>> {
        let this = self.clone();
        let name = name.to_owned();
        crate::blocking(move || this.remove_blocking(&name, &options)).await?
    }

    /// Removes images that nothing uses: untagged ones, or all with `dangling=false`.
    pub async fn prune(self: &Arc<Self>, filters: &Filters) -> Result<PruneResponse> {
        let this = self.clone();
        let filters = filters.clone();
        crate::blocking(move || this.prune_blocking(&filters)).await?
    }
}

/// What a client says of itself, as the registry's client has it.
fn credentials(auth: &AuthConfig) -> Credentials {
    Credentials {
        username: auth.username.clone(),
        password: auth.password.clone(),
        identity_token: auth.identitytoken.clone(),
        registry_token: auth.registrytoken.clone(),
    }
}
