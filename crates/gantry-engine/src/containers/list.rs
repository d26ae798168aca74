//! `ps`: the table as the API lists it, newest first.

use super::Containers;
use super::filters::ListFilters;
use super::record::{Record, Status};
use crate::error::Result;
use gantry_api::container::{ContainerSummary, PortSummary, SummaryHostConfig, SummaryNetworks};
use gantry_api::filter::Filters;
use gantry_store::snapshots::Base;
use jiff::Timestamp;
use std::collections::HashMap;
use std::sync::Arc;

/// What is listed.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Not only the running ones.
    pub all: bool,
    /// The newest so many; 0: no limit.
    pub limit: i64,
    pub size: bool,
    pub filters: Filters,
}

/// What images the names stand for, looked up once a list.
#[derive(Debug, Default)]
struct ImageNames(HashMap<String, Vec<String>>);

impl Containers {
    /// Lists containers.
    pub async fn list(self: &Arc<Self>, options: ListOptions) -> Result<Vec<ContainerSummary>> {
        let this = self.clone();
        crate::blocking(move || this.list_blocking(&options)).await?
    }

    fn list_blocking(&self, options: &ListOptions) -> Result<Vec<ContainerSummary>> {
        let filters = ListFilters::new(&options.filters, self)?;
        let every = options.all || options.limit > 0 || filters.wants_all();
        let mut containers: Vec<_> = self
            .all()
            .into_iter()
            .map(|container| {
                let created = container.record().created;
                (created, container)
            })
            .collect();
        containers.sort_by_key(|(created, _)| std::cmp::Reverse(*created));
        let limit = usize::try_from(options.limit)
            .ok()
            .filter(|n| *n > 0)
            .unwrap_or(usize::MAX);
        let mut names = ImageNames::default();
        let mut by_links = self.names_by_links();
        let mut list = Vec::new();
        for (_, container) in &containers {
            if list.len() == limit {
                break;
            }
            // Not a copy, unless its files are looked through: hundreds of records are large.
            let record = container.record();
            let alive = matches!(
                record.state.status,
                Status::Running | Status::Paused | Status::Restarting
            );
            if !(every || alive) || !filters.matches(&record) {
                continue;
            }
            let mut summary = self.summary(&record, &mut names);
            summary
                .names
                .extend(by_links.remove(&record.id).into_iter().flatten());
            if options.size {
                let copy = record.clone();
                drop(record);
                let (writable, all) = self.sizes(&copy);
                summary.size_rw = Some(writable).filter(|n| *n != 0);
                summary.size_root_fs = Some(all);
            }
            list.push(summary);
        }
        Ok(list)
    }

    fn summary(&self, record: &Record, names: &mut ImageNames) -> ContainerSummary {
        ContainerSummary {
            id: record.id.clone(),
            names: vec![format!("/{}", record.name)],
            image: self.image_name(record, names),
            image_id: record.image_id.clone(),
            command: command_line(&record.command()),
            created: record.created.as_second(),
            ports: ports(record),
            size_rw: None,
            size_root_fs: None,
            labels: record.config.labels.clone().unwrap_or_default(),
            state: record.state.status.word().to_owned(),
            status: status_line(record, Timestamp::now()),
            host_config: SummaryHostConfig {
                network_mode: record.network_mode().to_owned(),
                annotations: record.host_config.annotations.clone(),
            },
            network_settings: SummaryNetworks {
                networks: self.endpoints(record),
            },
            mounts: super::inspect::mount_points(record),
        }
    }

    /// The name that the image was asked for by, or its ID where that name is another image's by now.
    fn image_name(&self, record: &Record, names: &mut ImageNames) -> String {
        let asked = &record.config.image;
        if asked.is_empty() {
            return record.host_config.gantry_rootfs.clone();
        }
        let found = names.0.entry(asked.clone()).or_insert_with(|| {
            let found = self.context.store.images.find_all(asked);
            let ids = found.unwrap_or_default().into_iter();
            ids.map(|image| image.id.to_string()).collect()
        });
        match found.contains(&record.image_id) {
            true => asked.clone(),
            false => record.image_id.clone(),
        }
    }

    /// Bytes in the writable layer, which alone is looked through, and with the layers below it.
    pub(super) fn sizes(&self, record: &Record) -> (i64, i64) {
        let store = &self.context.store;
        let writable = store.snapshots.size(&record.id).unwrap_or(0);
        let id = gantry_oci::Digest::parse(&record.image_id).ok();
        let image = id.and_then(|id| store.images.get(&id).ok().flatten());
        let below = match (image, &record.base) {
            (Some(image), _) => image.size,
            // The image was removed by force; its layers are still there.
            (None, Base::Layers(layers)) => {
                let sizes = layers
                    .iter()
                    .filter_map(|layer| store.layers.get(layer).ok().flatten());
                sizes.map(|layer| layer.size).sum()
            }
            (None, Base::Directory(_)) => 0,
        };
        (writable as i64, (writable + below) as i64)
    }
}

/// The command as Go's list shows it: an argument with a space in it in single quotes.
fn command_line(command: &[String]) -> String {
    let quoted = command.iter().enumerate().map(|(i, word)| {
        if i > 0 && word.contains(' ') {
            format!("'{word}'")
        } else {
            word.clone()
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

pub(super) fn ports(record: &Record) -> Vec<PortSummary> {
    let published = record.endpoints.iter().flat_map(|e| &e.ports);
    let mut ports: Vec<PortSummary> = published
        .map(|port| PortSummary {
            ip: port.host_ip.to_string(),
            private_port: port.container_port,
            public_port: Some(port.host_port),
            kind: port.protocol.clone(),
        })
        .collect();
    if !record.endpoints.is_empty() {
        for port in record
            .config
            .exposed_ports
            .iter()
            .flatten()
            .map(|(port, _)| port)
        {
            let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
            let Ok(number) = number.parse() else { continue };
            if !ports
                .iter()
                .any(|p| p.private_port == number && p.kind == protocol)
            {
                ports.push(PortSummary {
                    private_port: number,
                    kind: protocol.into(),
                    ..PortSummary::default()
                });
            }
        }
    }
    ports
}

/// `Up 5 minutes`, `Exited (0) 2 hours ago`, `Created`.
pub(crate) fn status_line(record: &Record, now: Timestamp) -> String {
    let state = &record.state;
    let ago =
        |time: Option<Timestamp>| human_duration(now.duration_since(time.unwrap_or(now)).as_secs());
    match state.status {
        Status::Created => "Created".into(),
        Status::Running => {
            let health = match super::health::word(record) {
                "none" => String::new(),
                "starting" => " (health: starting)".into(),
                other => format!(" ({other})"),
            };
            format!("Up {}{health}", ago(state.started_at))
        }
        Status::Paused => format!("Up {} (Paused)", ago(state.started_at)),
        Status::Restarting => format!(
            "Restarting ({}) {} ago",
            state.exit_code,
            ago(state.finished_at)
        ),
        Status::Removing => "Removal In Progress".into(),
        Status::Dead => "Dead".into(),
        Status::Exited => format!(
            "Exited ({}) {} ago",
            state.exit_code,
            ago(state.finished_at)
        ),
    }
}

/// A duration in words (Go's units.HumanDuration).
fn human_duration(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds as f64 / 3600.0).round() as i64);
    match seconds {
        ..1 => "Less than a second".into(),
        1 => "1 second".into(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".into(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".into(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_in_words() {
        for (seconds, words) in [
            (0, "Less than a second"),
            (59, "59 seconds"),
            (61, "About a minute"),
            (150, "2 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (48 * 3600, "2 days"),
            (30 * 86400, "4 weeks"),
        ] {
            assert_eq!(human_duration(seconds), words);
        }
    }

    #[test]
    fn arguments_with_spaces_are_quoted() {
        let command = ["sh", "-c", "echo a"].map(str::to_owned);
        assert_eq!(command_line(&command), "sh -c 'echo a'");
    }
}
