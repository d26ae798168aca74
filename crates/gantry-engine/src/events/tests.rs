use super::*;

fn attributes(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

fn tell(events: &Events, n: usize) {
    events.publish(
        "container",
        "start",
        &format!("id{n}"),
        attributes(&[("name", &format!("name{n}")), ("image", "busybox:1")]),
    );
}

async fn ids(mut subscription: Subscription, count: usize) -> Vec<String> {
    let mut out = Vec::new();
    while out.len() < count {
        match subscription.next().await {
            Some(event) => out.push(event.actor.id.clone()),
            None => break,
        }
    }
    out
}

#[tokio::test]
async fn live_events_come_in_order_and_once() {
    let events = Events::new();
    tell(&events, 0);
    let plain = events.subscribe(EventQuery::default()).unwrap();
    let replay = events
        .subscribe(EventQuery {
            since: Some(0),
            ..EventQuery::default()
        })
        .unwrap();
    assert_eq!(events.listeners(), 2);
    tell(&events, 1);
    tell(&events, 2);
    assert_eq!(ids(plain, 2).await, ["id1", "id2"]);
    assert_eq!(ids(replay, 3).await, ["id0", "id1", "id2"]);
    assert_eq!(events.listeners(), 0);
}

#[tokio::test]
async fn times_differ_and_grow() {
    let events = Events::new();
    for n in 0..1000 {
        tell(&events, n);
    }
    let past = events.past();
    assert_eq!(past.events.len(), KEPT);
    assert!(
        past.events
            .iter()
            .zip(past.events.iter().skip(1))
            .all(|(a, b)| a.time_nano < b.time_nano)
    );
    assert_eq!(past.events.back().unwrap().actor.id, "id999");
}

#[tokio::test]
async fn until_in_the_past_ends_at_once_and_until_soon_ends_then() {
    let events = Events::new();
    tell(&events, 0);
    let query = |since, until| EventQuery {
        since,
        until,
        ..EventQuery::default()
    };
    let over = events.subscribe(query(Some(1), Some(2))).unwrap();
    assert!(ids(over, 1).await.is_empty());
    let all = events.subscribe(query(None, Some(now()))).unwrap();
    assert_eq!(ids(all, 9).await, ["id0"]);
    let soon = events
        .subscribe(query(None, Some(now() + 50_000_000)))
        .unwrap();
    tell(&events, 1);
    assert_eq!(ids(soon, 9).await, ["id0", "id1"]);
    let error = events
        .subscribe(query(Some(5_000_000_000), Some(2_000_000_000)))
        .unwrap_err();
    assert_eq!(
        error.message,
        "`since` time (5) cannot be after `until` time (2)"
    );
}

#[tokio::test]
async fn a_slow_reader_is_dropped_and_others_are_not() {
    let events = Events::new();
    let slow = events.subscribe(EventQuery::default()).unwrap();
    for n in 0..=CAPACITY {
        tell(&events, n);
    }
    assert!(ids(slow, 1).await.is_empty());
    let fresh = events.subscribe(EventQuery::default()).unwrap();
    tell(&events, 7);
    assert_eq!(ids(fresh, 1).await, ["id7"]);
}

#[tokio::test]
async fn filters() {
    let events = Events::new();
    events.publish(
        "image",
        "pull",
        "busybox:1",
        attributes(&[("name", "busybox")]),
    );
    events.publish(
        "container",
        "exec_create: sh -c x",
        "abcdef",
        attributes(&[
            ("name", "web"),
            ("image", "host:5000/busybox:1"),
            ("tier", "front"),
        ]),
    );
    events.publish(
        "network",
        "connect",
        "n1",
        attributes(&[("name", "bridge"), ("container", "abcdef")]),
    );
    let shown = async |filters: &str| {
        let query = EventQuery {
            until: Some(now()),
            filters: Filters::parse(filters).unwrap(),
            ..EventQuery::default()
        };
        ids(events.subscribe(query).unwrap(), 9).await
    };
    assert_eq!(
        shown(r#"{"type":["image","network"]}"#).await,
        ["busybox:1", "n1"]
    );
    assert_eq!(shown(r#"{"event":["exec_create"]}"#).await, ["abcdef"]);
    assert_eq!(
        shown(r#"{"event":["exec_create: sh -c x"]}"#).await,
        ["abcdef"]
    );
    assert_eq!(shown(r#"{"event":["exec"]}"#).await, Vec::<String>::new());
    assert_eq!(shown(r#"{"container":["abc"]}"#).await, ["abcdef"]);
    assert_eq!(shown(r#"{"container":["web"]}"#).await, ["abcdef"]);
    assert_eq!(shown(r#"{"network":["bridge"]}"#).await, ["n1"]);
    assert_eq!(shown(r#"{"image":["busybox"]}"#).await, ["busybox:1"]);
    assert_eq!(
        shown(r#"{"image":["host:5000/busybox"]}"#).await,
        ["abcdef"]
    );
    assert_eq!(shown(r#"{"label":["tier=front"]}"#).await, ["abcdef"]);
    assert_eq!(
        shown(r#"{"label":["tier=back"]}"#).await,
        Vec::<String>::new()
    );
    assert_eq!(shown(r#"{"scope":["swarm"]}"#).await, Vec::<String>::new());
    assert_eq!(
        shown(r#"{"type":["container"],"event":["start"]}"#).await,
        Vec::<String>::new()
    );
}
