//! `commit`: an image out of a container.

use super::names::new_name;
use super::{Images, archives, changes};
use crate::containers::record::{Record, Status};
use crate::containers::{Container, defaults};
use crate::error::{Error, Result};
use gantry_api::container::ContainerConfig;
use gantry_oci::config::{Config, History, ImageConfig};
use gantry_oci::{Digest, Reference};
use gantry_store::commit::Commit;
use gantry_store::images::Image;
use gantry_store::snapshots::Base;
use jiff::Timestamp;
use std::sync::Arc;

/// `POST /commit`
#[derive(Debug, Clone, Default)]
pub struct CommitRequest {
    pub container: String,
    /// Name, with or without tag; empty: the image gets none.
    pub repository: String,
    pub tag: String,
    pub author: String,
    pub comment: String,
    /// Dockerfile instructions (`CMD ["sh"]`).
    pub changes: Vec<String>,
    /// Hold the container's processes meanwhile.
    pub pause: bool,
    /// Stands in the place of the container's configuration, which fills what it leaves open.
    pub config: Option<ContainerConfig>,
}

impl Images {
    /// Makes an image of a container's files and configuration; the answer is its ID.
    pub async fn commit(self: &Arc<Self>, request: CommitRequest) -> Result<String> {
        let name = match request.repository.as_str() {
            "" => None,
            repository => Some(new_name(repository, &request.tag)?),
        };
        let container = self.containers.find(&request.container)?;
        let record = container.snapshot();
        refuse(&record)?;
        let config = configuration(&record, &request)?;
        let this = self.clone();
        // To its end: a container that is held must go on, whether the client waits or not.
        crate::to_the_end(async move {
            let held = match request.pause {
                true => this.containers.pause_for_a_while(&container).await,
                false => Ok(None),
            };
            // COMPAT: Docker goes on, too, when the container cannot be held.
            let held = held.unwrap_or_else(|error| {
                tracing::warn!(container = %container.id, %error, "not held for its commit");
                None
            });
            let id = this
                .store_commit(&container, record, config, &request)
                .await;
            if let Some(held) = held {
                held.release().await;
            }
            this.tell_commit(&container, &id?, name.as_ref(), &request.comment)
        })
        .await?
    }

    async fn store_commit(
        self: &Arc<Self>,
        container: &Arc<Container>,
        record: Record,
        config: Config,
        request: &CommitRequest,
    ) -> Result<Digest> {
        let Base::Layers(base) = record.base.clone() else {
            return Err(Error::conflict(format!(
                "container {} stands on a folder of the host, which is no layer of an image: export it instead",
                container.id
            )));
        };
        let store = self.context.store.clone();
        let parent = Digest::parse(&record.image_id).ok();
        let image = match &parent {
            Some(id) => store.images.get(id)?,
            None => None,
        };
        let commit = Commit {
            config: image_config(image.as_deref(), config, request)?,
            step: History {
                created: Some(Timestamp::now().to_string()),
                created_by: record.config.cmd.clone().unwrap_or_default().join(" "),
                author: request.author.clone(),
                comment: request.comment.clone(),
                empty_layer: false,
            },
            base,
            parent,
        };
        let id = record.id.clone();
        let made = crate::blocking(move || gantry_store::commit::commit(&store, &id, commit));
        Ok(made.await??)
    }

    fn tell_commit(
        &self,
        container: &Container,
        id: &Digest,
        name: Option<&Reference>,
        comment: &str,
    ) -> Result<String> {
        let store = &self.context.store;
        let image = store.images.get(id)?;
        let image = image.ok_or_else(|| Error::system("the image was removed meanwhile"))?;
        self.tell(&image, "create", id.as_str());
        let mut shown = String::new();
        if let Some(name) = name {
            store.images.tag(name, id)?;
            shown = name.familiar();
            self.tell(&image, "tag", &shown);
        }
        let attributes = [
            ("comment", comment),
            ("imageID", id.as_str()),
            ("imageRef", &shown),
        ];
        self.context
            .tell(&container.snapshot(), "commit", &attributes);
        Ok(id.to_string())
    }
}

fn refuse(record: &Record) -> Result<()> {
    let why = match record.state.status {
        Status::Dead => "Dead",
        Status::Removing => "being removed",
        _ => return Ok(()),
    };
    Err(Error::conflict(format!(
        "You cannot commit container {} which is {why}",
        record.id
    )))
}

/// The new image's configuration: what is asked for with the changes, then the container's own.
fn configuration(record: &Record, request: &CommitRequest) -> Result<Config> {
    let given = request.config.as_ref().unwrap_or(&record.config);
    let mut config: Config = converted(given)?;
    for change in &request.changes {
        changes::apply(&mut config, change)?;
    }
    let mut whole: ContainerConfig = converted(&config)?;
    defaults::merge_image(&mut whole, record.config.clone());
    let mut config: Config = converted(&whole)?;
    // COMPAT: Docker keeps the container's host name, which nobody reads; two commits of the same are one image here.
    config.hostname.clear();
    // What is empty is not there, as in Go's documents.
    config.env = config.env.filter(|list| !list.is_empty());
    config.labels = config.labels.filter(|map| !map.is_empty());
    config.volumes = config.volumes.filter(|map| !map.is_empty());
    config.exposed_ports = config.exposed_ports.filter(|map| !map.is_empty());
    Ok(config)
}

/// From the API's type to the image's, or back: they have one JSON.
fn converted<T: serde::de::DeserializeOwned>(from: &impl serde::Serialize) -> Result<T> {
    serde_json::to_value(from)
        .and_then(serde_json::from_value)
        .map_err(|e| Error::caused("the container's configuration is broken", e))
}

/// The document: the parent's platform and history, the rest anew.
fn image_config(
    parent: Option<&Image>,
    config: Config,
    request: &CommitRequest,
) -> Result<ImageConfig> {
    let (os, architecture, variant) = archives::platform("")?;
    let parent = parent.map(|image| image.config.clone());
    let parent = parent.unwrap_or_else(|| ImageConfig {
        os,
        architecture,
        variant,
        ..ImageConfig::default()
    });
    Ok(ImageConfig {
        created: Some(Timestamp::now().to_string()),
        author: request.author.clone(),
        comment: String::new(),
        docker_version: gantry_api::version::server_version(),
        config,
        ..parent
    })
}
