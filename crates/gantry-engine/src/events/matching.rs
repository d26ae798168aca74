//! Which events a reader's filters let through.
//!
//! Filters of different names must all hold; values of one name, one of them (labels: all of them).

use gantry_api::event::Event;
use gantry_api::filter::Filters;

/// Kinds whose filter takes the beginning of the ID or of the name.
const KINDS: [&str; 9] = [
    "container",
    "network",
    "volume",
    "plugin",
    "daemon",
    "service",
    "node",
    "secret",
    "config",
];

/// Whether the event is asked for.
pub(super) fn matches(filters: &Filters, event: &Event) -> bool {
    if filters.is_empty() {
        return true;
    }
    let attribute = |name: &str| event.actor.attributes.get(name).map(String::as_str);
    filters.matches_exactly("type", &event.kind)
        && filters.matches_exactly("scope", &event.scope)
        && matches_action(filters, &event.action)
        && (!filters.contains("label")
            || filters.matches_all_labels("label", &event.actor.attributes))
        && KINDS.iter().all(|kind| {
            // COMPAT: the kind of the event itself is not looked at: `container=web` shows a network named
            // web, too, as it does with Docker.
            filters.matches_prefix(kind, &event.actor.id)
                || filters.matches_prefix(kind, attribute("name").unwrap_or_default())
        })
        && matches_image(filters, event)
}

/// `exec_create: sh -c x` is shown by `event=exec_create`, and `health_status: healthy` by `event=health_status`.
fn matches_action(filters: &Filters, action: &str) -> bool {
    filters.matches_exactly("event", action)
        || action
            .split_once(':')
            .is_some_and(|(head, _)| filters.get("event").any(|wanted| wanted == head))
}

fn matches_image(filters: &Filters, event: &Event) -> bool {
    if !filters.contains("image") {
        return true;
    }
    let of_image = event.kind == "image";
    let name = event
        .actor
        .attributes
        .get(if of_image { "name" } else { "image" })
        .map(String::as_str)
        .unwrap_or_default();
    let id = event.actor.id.as_str();
    [id, name, without_tag(id), without_tag(name)]
        .iter()
        .any(|text| filters.matches_exactly("image", text))
}

/// The name of an image reference.
fn without_tag(reference: &str) -> &str {
    let name = reference.split('@').next().unwrap_or(reference);
    match name.rsplit_once(':') {
        // A colon before a slash belongs to a port.
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    }
}
