//! The filters of `ps` and `prune`.

use super::Containers;
use super::record::{Record, Status};
use crate::error::{Error, Result};
use crate::moment;
use gantry_api::filter::Filters;
use jiff::Timestamp;
use regex::Regex;
use std::collections::HashMap;

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
    containers: &'a Containers,
    /// Containers that the `id` filters name.
    ids: Vec<String>,
    exited: Vec<i32>,
    statuses: Vec<Status>,
    health: Vec<&'a str>,
    ancestors: Option<Vec<String>>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    /// Whether tasks of a swarm are wanted, of which there are none.
    tasks: bool,
    published: Vec<Ports<'a>>,
    exposed: Vec<Ports<'a>>,
    /// What containers are called by others' links, by their IDs; looked up where names are asked for.
    names_by_links: HashMap<String, Vec<String>>,
}

/// `until`: a point in time, the earliest of several.
pub(crate) fn until(filters: &Filters) -> Result<Option<Timestamp>> {
    let now = Timestamp::now();
    let times = filters.get("until").map(|text| moment::parse(text, now));
    let times = times.collect::<std::result::Result<Vec<_>, _>>();
    Ok(times.map_err(Error::invalid)?.into_iter().min())
}

/// The same for a prune, which takes one alone.
pub(crate) fn until_for_prune(filters: &Filters) -> Result<Option<Timestamp>> {
    match filters.get("until").count() {
        0 | 1 => until(filters),
        _ => Err(Error::invalid("more than one until filter specified")),
    }
}

impl<'a> ListFilters<'a> {
    pub(super) fn new(filters: &'a Filters, containers: &'a Containers) -> Result<Self> {
        filters.validate(&NAMES).map_err(|e| Error::invalid(e.0))?;
        let created = |name: &str| -> Result<Option<Timestamp>> {
            let given = filters.get(name).last();
            given
                .map(|text| Ok(containers.find(text)?.record().created))
                .transpose()
        };
        let tasks = filters.boolean("is-task", false);
        let ports = |name: &str| -> Result<Vec<Ports<'a>>> {
            let given = filters.get(name);
            given.map(|text| Ports::parse(name, text)).collect()
        };
        Ok(Self {
            // One that names several containers, or none, is passed over.
            ids: filters
                .get("id")
                .filter_map(|id| {
                    Some(containers.find(id).ok()?.id.clone()).filter(|full| full.starts_with(id))
                })
                .collect(),
            exited: filters
                .get("exited")
                .map(exit_code)
                .collect::<Result<_>>()?,
            statuses: filters.get("status").map(status).collect::<Result<_>>()?,
            health: filters.get("health").map(health).collect::<Result<_>>()?,
            before: created("before")?,
            since: created("since")?,
            ancestors: ancestors(filters, containers)?,
            tasks: tasks.map_err(|e| Error::invalid(e.0))?,
            published: ports("publish")?,
            exposed: ports("expose")?,
            names_by_links: match filters.contains("name") {
                true => containers.names_by_links(),
                false => HashMap::new(),
            },
            containers,
            filters,
        })
    }

    /// Whether the list is of every state without `all`: a filter on the state asks for it.
    pub(super) fn wants_all(&self) -> bool {
        self.filters.contains("status")
    }

    pub(super) fn matches(&self, record: &Record) -> bool {
        let state = &record.state;
        let labels = record.config.labels.clone().unwrap_or_default();
        !self.tasks
            && (!self.filters.contains("id") || self.ids.contains(&record.id))
            && self.matches_names(record)
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

    /// A name is its own match, or matches as a regular expression, with a slash before it or without.
    fn matches_names(&self, record: &Record) -> bool {
        let links = self.names_by_links.get(&record.id);
        let links = links.into_iter().flatten();
        let mut links = links.map(|name| name.trim_start_matches('/'));
        !self.filters.contains("name")
            || self.matches_name(&record.name)
            || links.any(|name| self.matches_name(name))
    }

    fn matches_name(&self, name: &str) -> bool {
        let with_slash = format!("/{name}");
        self.filters.get("name").any(|wanted| {
            wanted == name
                || wanted == with_slash
                // One that is no regular expression matches nothing.
                || Regex::new(wanted)
                    .is_ok_and(|wanted| wanted.is_match(name) || wanted.is_match(&with_slash))
        })
    }

    fn matches_places(&self, record: &Record) -> bool {
        let any = |name: &str, test: &dyn Fn(&str) -> bool| {
            !self.filters.contains(name) || self.filters.get(name).any(test)
        };
        let volume = |wanted: &str| {
            record
                .mounts
                .iter()
                .any(|m| m.destination == wanted || m.source == wanted)
                || record.volumes().any(|name| name == wanted)
        };
        let network = |wanted: &str| {
            let networks = self.containers.endpoints(record);
            networks.contains_key(wanted)
                || networks.values().any(|network| {
                    !network.network_id.is_empty() && network.network_id.starts_with(wanted)
                })
        };
        any("volume", &volume) && any("network", &network) && self.matches_ports(record)
    }

    /// Ports of the running container; one of both filters is enough.
    fn matches_ports(&self, record: &Record) -> bool {
        if self.published.is_empty() && self.exposed.is_empty() {
            return true;
        }
        super::list::ports(record).iter().any(|port| {
            let public = port.public_port.unwrap_or(0);
            let holds = |wanted: &[Ports<'_>], number| {
                wanted.iter().any(|ports| ports.hold(number, &port.kind))
            };
            holds(&self.published, public) || holds(&self.exposed, port.private_port)
        })
    }
}

/// The images that `ancestor` filters name, and those that were made from them.
fn ancestors(filters: &Filters, containers: &Containers) -> Result<Option<Vec<String>>> {
    if !filters.contains("ancestor") {
        return Ok(None);
    }
    let images = &containers.context.store.images;
    let found = filters
        .get("ancestor")
        .flat_map(|text| images.find_all(text).unwrap_or_default());
    let mut ids: Vec<String> = found.map(|image| image.id.to_string()).collect();
    if ids.is_empty() {
        return Ok(Some(ids));
    }
    let all = images.all()?;
    loop {
        let known = ids.len();
        for image in &all {
            let parent = image.parent.as_ref().map(ToString::to_string);
            let id = image.id.to_string();
            if parent.is_some_and(|parent| ids.contains(&parent)) && !ids.contains(&id) {
                ids.push(id);
            }
        }
        if ids.len() == known {
            return Ok(Some(ids));
        }
    }
}

/// A range of ports, as `80`, `80/tcp` or `79-81/tcp`.
#[derive(Debug)]
struct Ports<'a> {
    range: std::ops::RangeInclusive<u16>,
    protocol: &'a str,
}

impl<'a> Ports<'a> {
    fn parse(filter: &str, text: &'a str) -> Result<Self> {
        if text.contains(':') {
            return Err(Error::system(format!(
                "filter for '{filter}' should not contain ':': {text}"
            )));
        }
        let wrong = |why: String| {
            Error::system(format!("error while looking up for {filter} {text}: {why}"))
        };
        let (range, protocol) = match text.split_once('/') {
            Some((range, "")) => (range, "tcp"),
            Some(parts) => parts,
            None => (text, "tcp"),
        };
        if range.is_empty() {
            return Err(wrong("empty string specified for ports".into()));
        }
        let number = |text: &str| {
            text.parse::<u16>().map_err(|_| {
                let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
                let why = if digits {
                    "value out of range"
                } else {
                    "invalid syntax"
                };
                wrong(format!("strconv.ParseUint: parsing \"{text}\": {why}"))
            })
        };
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        let (from, to) = (number(from)?, number(to)?);
        if to < from {
            return Err(wrong(format!("invalid range specified for port: {range}")));
        }
        Ok(Self {
            range: from..=to,
            protocol,
        })
    }

    fn hold(&self, port: u16, protocol: &str) -> bool {
        self.range.contains(&port) && self.protocol == protocol
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
        let holds =
            |text, port, protocol| Ports::parse("expose", text).unwrap().hold(port, protocol);
        assert!(holds("80", 80, "tcp"));
        assert!(holds("79-81/tcp", 80, "tcp"));
        assert!(!holds("80", 80, "udp"));
        assert!(!holds("81", 80, "tcp"));
        for (text, why) in [
            ("x", "strconv.ParseUint: parsing \"x\": invalid syntax"),
            (
                "70000",
                "strconv.ParseUint: parsing \"70000\": value out of range",
            ),
            ("9-8", "invalid range specified for port: 9-8"),
        ] {
            assert_eq!(
                Ports::parse("expose", text).unwrap_err().message,
                format!("error while looking up for expose {text}: {why}")
            );
        }
    }
}
