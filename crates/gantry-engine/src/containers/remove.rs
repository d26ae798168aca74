//! `rm`: first the record says that the container goes, then its files go, then the record. A daemon that dies in
//! between finishes the removal at its next start.

use super::transition::{Operation, Refusal};
use super::{Container, Containers, lock};
use crate::error::{Error, Result};
use gantry_api::container::PruneResponse;
use gantry_api::filter::Filters;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Containers {
    /// Removes a container; `force` kills it first, `volumes` takes its anonymous volumes along.
    pub async fn remove(self: &Arc<Self>, name: &str, force: bool, volumes: bool) -> Result<()> {
        let container = self.find(name)?;
        let going = container.begin_removal(name)?;
        let (this, name) = (self.clone(), name.to_owned());
        crate::to_the_end(async move {
            let _going = going;
            let _turn = container.turn.lock().await;
            if container.phase.borrow().removed {
                return Err(Error::not_found(format!("No such container: {name}")));
            }
            let operation = if force {
                Operation::RemoveByForce
            } else {
                Operation::Remove
            };
            let asked = container
                .record()
                .state
                .ask(operation, &container.id, &name);
            asked?;
            container.record().state.remove_volumes = volumes;
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
            record.state.enter(Operation::RemoveByForce);
            // As with `docker run --rm`.
            record.state.remove_volumes |= record.host_config.auto_remove;
            record.clone()
        };
        container.supervisor_ended().await;
        container.views.close();
        lock(&container.live).waiting.clear();
        let this = self.clone();
        let removed = {
            let (record, container) = (record.clone(), container.clone());
            crate::blocking(move || {
                // A container with `--rm` goes whatever its record says; and on a full disk the removal itself makes the
                // room that the record lacks.
                if !record.host_config.auto_remove
                    && let Err(error) = this.save_state(&container)
                {
                    tracing::warn!(container = %record.id, %error, "cannot record that the container is being removed");
                }
                this.remove_files(&record.id, record.state.remove_volumes)
            })
            .await?
        };
        if let Err(error) = removed {
            container.record().state.enter(Operation::RemovalFailed);
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
    pub(super) fn remove_files(&self, id: &str, volumes: bool) -> Result<()> {
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
        if !volumes {
            self.context.volumes.keep_without(id);
        }
        let kinds = [super::CONTAINER, super::STATE];
        self.context.store.database.delete_both(kinds, id)?;
        // After the record: what an interruption leaves is found to be nobody's.
        self.context.volumes.release(id, volumes);
        Ok(())
    }

    /// Removes every container that is not alive and that the filters let through.
    pub async fn prune(self: &Arc<Self>, filters: &Filters) -> Result<PruneResponse> {
        filters
            .validate(&["label", "label!", "until"])
            .map_err(|e| Error::invalid(e.0))?;
        let until = super::filters::until_for_prune(filters)?;
        let mut response = PruneResponse::default();
        for container in self.all() {
            let record = container.snapshot();
            let labels = record.config.labels.clone().unwrap_or_default();
            let asked = record.state.ask(Operation::Remove, &record.id, "");
            let wanted = filters.matches_all_labels("label", &labels)
                && !(filters.contains("label!") && filters.matches_all_labels("label!", &labels))
                && until.is_none_or(|until| record.created < until);
            if asked.is_err() || !wanted {
                continue;
            }
            let (this, id) = (self.clone(), record.id.clone());
            let size = crate::blocking(move || this.context.container_disk(&id))
                .await?
                .unwrap_or(0);
            if self.remove(&record.id, false, false).await.is_ok() {
                response
                    .containers_deleted
                    .get_or_insert_default()
                    .push(record.id);
                response.space_reclaimed += size;
            }
        }
        let attributes = [("reclaimed".to_owned(), response.space_reclaimed.to_string())];
        self.context
            .events
            .publish("container", "prune", "", attributes.into());
        Ok(response)
    }
}

/// A removal under way; dropped at its end, whatever that is.
#[derive(Debug)]
pub(super) struct Removal(Arc<Container>);

impl Drop for Removal {
    fn drop(&mut self) {
        self.0.going.store(false, Ordering::Release);
    }
}

impl Container {
    /// Notes that a removal begins; refused while there is another.
    pub(super) fn begin_removal(self: &Arc<Self>, name: &str) -> Result<Removal> {
        if self.going.swap(true, Ordering::AcqRel) {
            return Err(Refusal::RemovalGoesOn.error(&self.id, name));
        }
        Ok(Removal(self.clone()))
    }
}
