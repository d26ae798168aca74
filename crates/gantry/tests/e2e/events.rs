//! Events: their order and attributes, filters, what is replayed, and readers that are slow.

use gantry_testkit::{Engine, until};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Everything that has happened, by these filters.
fn past(engine: &Engine, filters: &Value) -> Vec<Value> {
    let until = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let filters: String = filters
        .to_string()
        .bytes()
        .map(|byte| format!("%{byte:02X}"))
        .collect();
    let path = format!(
        "/events?since=0&until={}.{:09}&filters={filters}",
        until.as_secs(),
        until.subsec_nanos()
    );
    let answer = engine.api("GET", &path, None).expect(200);
    let lines = answer.text();
    let lines = lines.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn actions(events: &[Value]) -> Vec<String> {
    let text = |event: &Value, name: &str| event[name].as_str().unwrap().to_owned();
    events
        .iter()
        .map(|event| format!("{} {}", text(event, "Type"), text(event, "Action")))
        .collect()
}

#[test]
fn a_containers_life_in_order_with_its_attributes() {
    let engine = Engine::with_busybox();
    let run = [
        "run", "--rm", "--name", "one", "--label", "a=b", "busybox", "sh", "-c", "exit 3",
    ];
    engine.gantry(&run).fails_with(3);
    let mut events = Vec::new();
    until("all is told", Duration::from_secs(10), || {
        events = past(&engine, &json!({"type": ["container", "network"]}));
        actions(&events)
            .last()
            .is_some_and(|last| last.ends_with("destroy"))
    });
    assert_eq!(
        actions(&events),
        [
            "container create",
            "container attach",
            "network connect",
            "container start",
            "container die",
            "network disconnect",
            "container destroy"
        ]
    );
    let id = events[0]["Actor"]["ID"].clone();
    let mine = json!({"a": "b", "image": "busybox", "name": "one"});
    for at in [0, 1, 3, 6] {
        assert_eq!(events[at]["Actor"]["Attributes"], mine);
        assert_eq!(events[at]["Actor"]["ID"], id);
    }
    let died = json!({"a": "b", "image": "busybox", "name": "one", "exitCode": "3",
        "execDuration": events[4]["Actor"]["Attributes"]["execDuration"]});
    assert_eq!(events[4]["Actor"]["Attributes"], died);
    for at in [2, 5] {
        let network = json!({"container": id, "name": "bridge", "type": "bridge"});
        assert_eq!(events[at]["Actor"]["Attributes"], network);
    }
    let times: Vec<i64> = events
        .iter()
        .map(|e| e["timeNano"].as_i64().unwrap())
        .collect();
    assert!(times.windows(2).all(|two| two[0] < two[1]));
    for event in &events {
        assert_eq!(event["scope"], "local");
        let kind = event["Type"].as_str().unwrap();
        assert_eq!(
            event.get("status").is_some(),
            kind == "container",
            "{event}"
        );
    }
}

#[test]
fn signals_renames_images_and_prunes() {
    let engine = Engine::with_busybox();
    engine
        .gantry(&["run", "-d", "--name", "two", "busybox", "sleep", "600"])
        .ok();
    engine.gantry(&["rename", "two", "three"]).ok();
    engine.gantry(&["stop", "-t", "0", "three"]).ok();
    engine.gantry(&["tag", "busybox", "other:x"]).ok();
    engine.gantry(&["rmi", "other:x"]).ok();
    engine.api("POST", "/containers/prune", None).expect(200);
    engine.api("POST", "/images/prune", None).expect(200);
    let of = |action: &str| {
        let found = past(&engine, &json!({"event": [action]}));
        found
            .iter()
            .map(|e| e["Actor"]["Attributes"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        of("rename"),
        [json!({"image": "busybox", "name": "three", "oldName": "/two"})]
    );
    let kills = of("kill");
    assert_eq!(kills.last().unwrap()["signal"], "9", "{kills:?}");
    assert_eq!(of("stop").len(), 1);
    assert_eq!(of("tag"), [json!({"name": "other:x"})]);
    assert_eq!(of("untag").len(), 1);
    let prunes = past(&engine, &json!({"event": ["prune"]}));
    assert_eq!(actions(&prunes), ["container prune", "image prune"]);
    for prune in &prunes {
        assert_eq!(prune["Actor"]["ID"], "");
        let reclaimed = prune["Actor"]["Attributes"]["reclaimed"].as_str().unwrap();
        reclaimed.parse::<u64>().unwrap();
    }
    // By names, old and new, of things of several kinds, and by labels that nobody has.
    let count = |filters: Value| past(&engine, &filters).len();
    assert!(count(json!({"container": ["three"]})) > 4);
    assert!(count(json!({"image": ["busybox"], "type": ["container"]})) > 4);
    assert_eq!(count(json!({"type": ["container"], "label": ["a=b"]})), 0);
    assert_eq!(count(json!({"type": ["volume"]})), 0);
    assert_eq!(count(json!({"scope": ["swarm"]})), 0);
}

#[test]
fn short_containers_lose_no_event() {
    let engine = Engine::with_busybox();
    let heard = engine.folder().join("heard");
    let format = "{{.Type}} {{.Action}} {{.Actor.ID}}";
    let mut listener = engine
        .command(&["events", "--format", format])
        .stdout(std::fs::File::create(&heard).unwrap())
        .spawn()
        .unwrap();
    until("it listens", Duration::from_secs(10), || {
        engine.api("GET", "/info", None).json()["NEventsListener"] == 1
    });
    const EACH: usize = 40;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..EACH {
                    engine.gantry(&["run", "--rm", "busybox", "true"]).ok();
                }
            });
        }
    });
    until("all are gone", Duration::from_secs(20), || {
        engine.api("GET", "/containers/json?all=1", None).json() == json!([])
    });
    std::thread::sleep(Duration::from_millis(300));
    listener.kill().unwrap();
    listener.wait().unwrap();
    let said = std::fs::read_to_string(heard).unwrap();
    let mut by_id = std::collections::BTreeMap::<&str, Vec<&str>>::new();
    for line in said.lines().filter(|line| line.starts_with("container")) {
        let (what, id) = line.rsplit_once(' ').unwrap();
        by_id
            .entry(id)
            .or_default()
            .push(what.split(' ').nth(1).unwrap());
    }
    assert_eq!(by_id.len(), 4 * EACH);
    for actions in by_id.values() {
        assert_eq!(actions, &["create", "attach", "start", "die", "destroy"]);
    }
    // As many as are kept are told again.
    assert_eq!(past(&engine, &json!({})).len(), 256);
}

#[test]
fn a_reader_that_stops_is_cut_off_and_nobody_else() {
    let engine = Engine::with_busybox();
    engine
        .gantry(&["run", "-dt", "--name", "term", "busybox", "sleep", "600"])
        .ok();
    let request = b"GET /v1.51/events HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut stuck = UnixStream::connect(engine.socket()).unwrap();
    stuck.write_all(request).unwrap();
    let mut reads = UnixStream::connect(engine.socket()).unwrap();
    reads.write_all(request).unwrap();
    let listening = || engine.api("GET", "/info", None).json()["NEventsListener"].clone();
    until("both listen", Duration::from_secs(10), || listening() == 2);
    const ROUNDS: usize = 30;
    const EACH: usize = 100;
    let (mut seen, mut buffer) = (0, vec![0; 1 << 16]);
    reads.set_nonblocking(true).unwrap();
    let mut resizes_in = |socket: &mut UnixStream| {
        // A word may be cut by the end of a read: what is counted is close, not exact.
        while let Ok(count) = socket.read(&mut buffer) {
            assert!(count > 0, "the reader that reads was cut off");
            seen += buffer[..count]
                .windows(6)
                .filter(|w| *w == b"resize")
                .count();
        }
        seen
    };
    for _ in 0..ROUNDS {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for width in 0..EACH {
                        let path = format!("/containers/term/resize?h=10&w={}", width + 1);
                        engine.api("POST", &path, None).expect(200);
                    }
                });
            }
        });
        resizes_in(&mut reads);
    }
    let sent = ROUNDS * 4 * EACH;
    // Each event names its action twice, as `status` and as `Action`.
    until("the other reader has all", Duration::from_secs(10), || {
        resizes_in(&mut reads) + 500 > 2 * sent
    });
    // The one that stopped finds less, and then an end without the mark of a whole answer.
    let mut rest = Vec::new();
    stuck
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let _ = stuck.read_to_end(&mut rest);
    let got = rest.windows(6).filter(|w| *w == b"resize").count();
    assert!(got < 2 * sent, "{got} of {sent}");
    assert!(!rest.ends_with(b"0\r\n\r\n"));
    until("it is gone", Duration::from_secs(10), || listening() == 1);
    engine.serves();
}
