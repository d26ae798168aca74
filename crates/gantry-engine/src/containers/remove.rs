//! `rm`: first the record says that the container goes, then its files go, then the record. A daemon that dies in
//! between finishes the removal at its next start.

use super::record::Status;
use super::{Container, Containers, lock};
use crate::error::{Error, Result};
use gantry_api::container::PruneResponse;
use gantry_api::filter::Filters;
use std::sync::Arc;

impl Containers {
    /// Removes a container; `force` kills it first.
    pub async fn remove(self: &Arc<Self>, name: &str, force: bool) -> Result<()> {
        let container = self.find(name)?;
        let (this, name) = (self.clone(), name.to_owned());
        crate::to_the_end(async move {
            let _turn = container.turn.lock().await;
            let status = container.record().state.status;
            let refuse = |why: &str| Err(Error::conflict(format!("cannot remove container \"{name}\": {why}")));
            match status {
                Status::Paused if !force => {
                    return refuse("container is paused and must be unpaused first");
                }
                Status::Running if !force => {
                    return refuse("container is running: stop the container before removing or force remove");
                }
                Status::Restarting if !force => {
                    return refuse("container is restarting: stop the container before removing or force remove");
                }
                _ => {}
            }
            this.kill_in_turn(&container).await?;
            this.remove_in_turn(&container, false).await
        })
        .await?
    }

    /// Removes a container that is not alive; the caller holds its turn. `by_itself`: nobody asked (`--rm`), and
    /// finding it gone is fine.
    pub(super) async fn remove_in_turn(
        self: &Arc<Self>,
        container: &Arc<Container>,
        by_itself: bool,
    ) -> Result<()> {
        if container.phase.borrow().removed {
            return if by_itself {
                Ok(())
            } else {
                Err(Error::not_found(format!(
                    "No such container: {}",
                    container.id
                )))
            };
        }
        let record = {
            let mut record = container.record();
            record.state.status = Status::Removing;
            record.clone()
        };
        container.supervisor_ended().await;
        lock(&container.live).waiting.clear();
        let this = self.clone();
        let removed = {
            let record = record.clone();
            crate::blocking(move || {
                // A container with `--rm` goes whatever its record says; and on a full disk the removal itself makes the
                // room that the record lacks.
                if !record.host_config.auto_remove
                    && let Err(error) = this.save_state(&record)
                {
                    tracing::warn!(container = %record.id, %error, "cannot record that the container is being removed");
                }
                this.remove_files(&record.id)
            })
            .await?
        };
        if let Err(error) = removed {
            container.record().state.status = Status::Dead;
            container.record().state.error.clone_from(&error.message);
            container
                .phase
                .send_modify(|phase| phase.error.clone_from(&error.message));
            return Err(error);
        }
        self.forget(container);
        self.context.tell(&record, "destroy", &[]);
        container.phase.send_modify(|phase| phase.removed = true);
        Ok(())
    }

    /// Everything that a container has on disk, the record last.
    pub(super) fn remove_files(&self, id: &str) -> Result<()> {
        self.context.store.snapshots.remove(id)?;
        for dir in [self.context.run_dir(id), self.context.container_dir(id)] {
            match std::fs::remove_dir_all(&dir) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::caused(
                        &format!("cannot remove {}", dir.display()),
                        error,
                    ));
                }
                _ => {}
            }
        }
        let kinds = [super::CONTAINER, super::STATE];
        Ok(self.context.store.database.delete_both(kinds, id)?)
    }

    /// Removes every container that is not alive and that the filters let through.
    pub async fn prune(self: &Arc<Self>, filters: &Filters) -> Result<PruneResponse> {
        filters
            .validate(&["label", "label!", "until"])
            .map_err(|e| Error::invalid(e.0))?;
        let until = super::filters::until(filters)?;
        let mut response = PruneResponse::default();
        for container in self.all() {
            let record = container.snapshot();
            let labels = record.config.labels.clone().unwrap_or_default();
            let stopped = matches!(
                record.state.status,
                Status::Created | Status::Exited | Status::Dead
            );
            let wanted = filters.matches_all_labels("label", &labels)
                && !(filters.contains("label!") && filters.matches_all_labels("label!", &labels))
                && until.is_none_or(|until| record.created < until);
            if !stopped || !wanted {
                continue;
            }
            let (this, id) = (self.clone(), record.id.clone());
            let size = crate::blocking(move || this.context.store.snapshots.size(&id))
                .await?
                .unwrap_or(0);
            if self.remove(&record.id, false).await.is_ok() {
                response
                    .containers_deleted
                    .get_or_insert_default()
                    .push(record.id);
                response.space_reclaimed += size;
            }
        }
        Ok(response)
    }
}
