//! The filters of `ps` and `prune`.

use super::Containers;
use super::record::{Record, Status};
use crate::error::{Error, Result};
use gantry_api::filter::Filters;
use jiff::Timestamp;
use regex::Regex;

const NAMES: [&str; 17] = [
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
    "until",
    "label!",
];

/// The filters of a list, checked and resolved.
#[derive(Debug)]
pub(super) struct ListFilters<'a> {
    filters: &'a Filters,
    names: Vec<Regex>,
    exited: Vec<i32>,
    statuses: Vec<Status>,
    health: Vec<&'a str>,
    ancestors: Option<Vec<String>>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    /// Whether tasks of a swarm are wanted, of which there are none.
    tasks: Option<bool>,
}

/// `until`: a Unix time, a date, or a duration before now.
pub(crate) fn until(filters: &Filters) -> Result<Option<Timestamp>> {
    let Some(text) = filters.get("until").next() else {
        return Ok(None);
    };
    let bad = || Error::invalid(format!("invalid filter 'until={text}'"));
    if let Ok(seconds) = text.parse::<i64>() {
        return Timestamp::from_second(seconds).map(Some).map_err(|_| bad());
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(Some(time));
    }
    let span: jiff::SignedDuration = text.parse().map_err(|_| bad())?;
    Timestamp::now()
        .checked_sub(span)
        .map(Some)
        .map_err(|_| bad())
}

impl<'a> ListFilters<'a> {
    pub(super) fn new(filters: &'a Filters, containers: &Containers) -> Result<Self> {
        filters.validate(&NAMES).map_err(|e| Error::invalid(e.0))?;
        let pattern = |text: &str| {
            Regex::new(text)
                .map_err(|e| Error::invalid(format!("invalid filter 'name={text}': {e}")))
        };
        let created = |name: &str| -> Result<Option<Timestamp>> {
            let given = filters.get(name).last();
            given
                .map(|text| Ok(containers.find(text)?.record().created))
                .transpose()
        };
        let tasks = truth(filters, "is-task")?;
        let ancestors = filters.contains("ancestor").then(|| {
            let found = filters
                .get("ancestor")
                .filter_map(|text| containers.context.store.images.find(text).ok().flatten());
            found.map(|image| image.id.to_string()).collect()
        });
        Ok(Self {
            names: filters.get("name").map(pattern).collect::<Result<_>>()?,
            exited: filters
                .get("exited")
                .map(exit_code)
                .collect::<Result<_>>()?,
            statuses: filters.get("status").map(status).collect::<Result<_>>()?,
            health: filters.get("health").map(health).collect::<Result<_>>()?,
            before: created("before")?,
            since: created("since")?,
            ancestors,
            tasks,
            filters,
        })
    }

    /// Whether the list is of every state without `all`: a filter on state or exit asks for it.
    pub(super) fn wants_all(&self) -> bool {
        ["status", "exited", "before", "since"]
            .iter()
            .any(|name| self.filters.contains(name))
    }

    pub(super) fn matches(&self, record: &Record) -> bool {
        let state = &record.state;
        let labels = record.config.labels.clone().unwrap_or_default();
        let name = |pattern: &Regex| {
            pattern.is_match(&record.name) || pattern.is_match(&format!("/{}", record.name))
        };
        self.tasks != Some(true)
            && self.filters.matches_prefix("id", &record.id)
            && (self.names.is_empty() || self.names.iter().any(name))
            && (self.exited.is_empty()
                || (state.status == Status::Exited && self.exited.contains(&state.exit_code)))
            && (self.statuses.is_empty() || self.statuses.contains(&state.status))
            && (self.health.is_empty() || self.health.contains(&super::health::word(record)))
            && self
                .ancestors
                .as_ref()
                .is_none_or(|ids| ids.contains(&record.image_id))
            && self.before.is_none_or(|time| record.created < time)
            && self.since.is_none_or(|time| record.created > time)
            && self.filters.matches_all_labels("label", &labels)
            && self.matches_places(record)
    }

    fn matches_places(&self, record: &Record) -> bool {
        let volume = |wanted: &str| {
            record
                .mounts
                .iter()
                .any(|m| m.destination == wanted || m.source == wanted)
                || record.volumes().any(|name| name == wanted)
        };
        let network = |wanted: &str| {
            wanted == record.network_mode() || (wanted == "bridge" && record.endpoint.is_some())
        };
        let exposed = |wanted: &str| {
            let published = record
                .host_config
                .port_bindings
                .iter()
                .flatten()
                .map(|(port, _)| port);
            let exposed = record
                .config
                .exposed_ports
                .iter()
                .flatten()
                .map(|(port, _)| port);
            published.chain(exposed).any(|port| is_port(port, wanted))
        };
        let published = |wanted: &str| {
            let ports = record.endpoint.iter().flat_map(|e| &e.ports);
            ports
                .clone()
                .any(|p| is_port(&format!("{}/{}", p.host_port, p.protocol), wanted))
        };
        let any = |name: &str, test: &dyn Fn(&str) -> bool| {
            !self.filters.contains(name) || self.filters.get(name).any(test)
        };
        any("volume", &volume)
            && any("network", &network)
            && any("expose", &exposed)
            && any("publish", &published)
    }
}

/// Whether `80/tcp` is meant by `80`, `80/tcp` or `79-81/tcp`.
fn is_port(port: &str, wanted: &str) -> bool {
    let (range, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
    let (number, own) = port.split_once('/').unwrap_or((port, "tcp"));
    let (from, to) = range.split_once('-').unwrap_or((range, range));
    let bounds = (
        from.parse::<u16>(),
        to.parse::<u16>(),
        number.parse::<u16>(),
    );
    protocol == own && matches!(bounds, (Ok(from), Ok(to), Ok(n)) if (from..=to).contains(&n))
}

/// A filter that is true or false; both at once, or anything else, is none.
fn truth(filters: &Filters, name: &str) -> Result<Option<bool>> {
    if !filters.contains(name) {
        return Ok(None);
    }
    let given: Vec<&str> = filters.get(name).collect();
    let is = |words: [&str; 2]| given.iter().any(|value| words.contains(value));
    match (is(["0", "false"]), is(["1", "true"])) {
        (true, false) => Ok(Some(false)),
        (false, true) => Ok(Some(true)),
        _ => Err(Error::invalid(format!(
            "invalid filter '{name}=[{}]'",
            given.join(" ")
        ))),
    }
}

fn exit_code(text: &str) -> Result<i32> {
    text.parse().map_err(|_| {
        Error::invalid(format!(
            "invalid filter 'exited={text}': strconv.Atoi: parsing \"{text}\": invalid syntax"
        ))
    })
}

fn status(text: &str) -> Result<Status> {
    Status::ALL.into_iter().find(|s| s.word() == text).ok_or_else(|| {
        let words: Vec<&str> = Status::ALL.iter().map(|s| s.word()).collect();
        Error::invalid(format!(
            "invalid filter 'status={text}': invalid value for state ({text}): must be one of {}",
            words.join(", ")
        ))
    })
}

fn health(text: &str) -> Result<&str> {
    if ["none", "starting", "healthy", "unhealthy"].contains(&text) {
        return Ok(text);
    }
    Err(Error::invalid(format!(
        "invalid filter 'health={text}': invalid value for health ({text}): must be one of none, starting, healthy, unhealthy"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_by_number_protocol_and_range() {
        assert!(is_port("80/tcp", "80"));
        assert!(is_port("80/tcp", "79-81/tcp"));
        assert!(!is_port("80/udp", "80"));
        assert!(!is_port("80/tcp", "81"));
    }
}
