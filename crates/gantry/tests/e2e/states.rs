//! The state machine: a real daemon against the table of gantry-engine, by one client that knows what must come, and
//! by several at once of which each only knows what must never come.

use gantry_engine::containers::record::Status;
use gantry_engine::containers::transition::{Operation, Outcome, outcome};
use gantry_testkit::{Engine, until};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);
/// No answer may take longer: a stop that waits out its timeout and a few turns before it.
const SLOWEST: Duration = Duration::from_secs(30);

/// xorshift: the seed is printed, so that a walk can be walked again (`$GANTRY_SEED`).
struct Random(u64);

impl Random {
    fn new() -> Self {
        let given = std::env::var("GANTRY_SEED").ok();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let seed = given.map_or_else(
            || now.unwrap().as_nanos() as u64 | 1,
            |text| text.parse().unwrap(),
        );
        println!("GANTRY_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % count as u64) as usize
    }
}

const ASKED: [Operation; 16] = [
    Operation::Start,
    Operation::Restart,
    Operation::Stop,
    Operation::Kill,
    Operation::Signal,
    Operation::Pause,
    Operation::Unpause,
    Operation::Rename,
    Operation::Remove,
    Operation::RemoveByForce,
    Operation::Attach,
    Operation::Resize,
    Operation::Exec,
    Operation::Update,
    Operation::Top,
    Operation::Stats,
];

/// Asks for an operation; the status and the words that came.
fn ask(engine: &Engine, name: &str, operation: Operation) -> (u16, String) {
    let path = |rest: &str| format!("/containers/{name}{rest}");
    let (method, path) = match operation {
        Operation::Start => ("POST", path("/start")),
        Operation::Restart => ("POST", path("/restart?t=1")),
        Operation::Stop => ("POST", path("/stop?t=1")),
        Operation::Kill => ("POST", path("/kill")),
        Operation::Signal => ("POST", path("/kill?signal=WINCH")),
        Operation::Pause => ("POST", path("/pause")),
        Operation::Unpause => ("POST", path("/unpause")),
        Operation::Rename => ("POST", path(&format!("/rename?name={name}-other"))),
        Operation::Remove => ("DELETE", path("")),
        Operation::RemoveByForce => ("DELETE", path("?force=1")),
        Operation::Resize => ("POST", path("/resize?h=10&w=20")),
        Operation::Attach => {
            // Attached and gone again.
            let path = path("/attach?stream=1&stdout=1");
            let hijacked = engine.hijack(&path, b"");
            let text = String::from_utf8_lossy(&hijacked.early).into_owned();
            return (hijacked.status, text);
        }
        Operation::Exec => {
            let body = json!({"Cmd": ["true"]});
            let answer = engine.api("POST", &path("/exec"), Some(&body));
            return (answer.status, answer.text());
        }
        Operation::Update => {
            let body = json!({"CpuShares": 512, "PidsLimit": 100});
            let answer = engine.api("POST", &path("/update"), Some(&body));
            return (answer.status, answer.text());
        }
        Operation::Top => ("GET", path("/top")),
        Operation::Stats => ("GET", path("/stats?stream=0&one-shot=1")),
        other => panic!("{other:?} is not asked by clients"),
    };
    let start = Instant::now();
    let answer = engine.api(method, &path, None);
    let took = start.elapsed();
    assert!(took < SLOWEST, "{method} {path} took {took:?}");
    let text = answer.text();
    if operation == Operation::Rename && answer.status == 204 {
        let back = format!("/containers/{name}-other/rename?name={name}");
        engine.api("POST", &back, None);
    }
    (answer.status, text)
}

/// A container that goes on until it is killed; its stop signal is SIGKILL, so that nothing has to be waited for.
fn body() -> Value {
    json!({
        "Image": "busybox",
        "Cmd": ["sleep", "1000"],
        "StopSignal": "SIGKILL",
        "Tty": true,
    })
}

fn create(engine: &Engine, name: &str, body: &Value) {
    let path = format!("/containers/create?name={name}");
    let status = engine.api("POST", &path, Some(body)).status;
    // 409: somebody else was faster.
    assert!(matches!(status, 201 | 409), "create: {status}");
}

fn status_of(inspected: &Value) -> Status {
    let word = inspected["State"]["Status"].as_str().unwrap();
    Status::ALL
        .into_iter()
        .find(|status| status.word() == word)
        .unwrap()
}

/// The flags and the PID fit the state.
fn check(inspected: &Value) -> Status {
    let state = &inspected["State"];
    let status = status_of(inspected);
    let alive = matches!(status, Status::Running | Status::Paused);
    assert_eq!(
        state["Running"],
        alive || status == Status::Restarting,
        "{state}"
    );
    assert_eq!(state["Paused"], status == Status::Paused, "{state}");
    assert_eq!(state["Restarting"], status == Status::Restarting, "{state}");
    assert_eq!(state["Dead"], status == Status::Dead, "{state}");
    assert_eq!(state["Pid"] != 0, alive, "{state}");
    status
}

/// One client: each answer and each next state is what the table says.
#[test]
fn a_random_walk_follows_the_table() {
    let engine = Engine::with_busybox();
    let mut random = Random::new();
    let mut seen: HashMap<(&str, String), u32> = HashMap::new();
    let end = Instant::now() + Duration::from_secs(8);
    create(&engine, "walk", &body());
    let mut status = Status::Created;
    while Instant::now() < end {
        let operation = ASKED[random.below(ASKED.len())];
        let expected = outcome(status, operation);
        let (code, words) = ask(&engine, "walk", operation);
        let what = format!(
            "{operation:?} of a {} container: {code} {words}",
            status.word()
        );
        *seen
            .entry((status.word(), format!("{operation:?}")))
            .or_default() += 1;
        match expected {
            Outcome::Becomes(Status::Removing) => {
                assert_eq!(code, 204, "{what}");
                create(&engine, "walk", &body());
                status = Status::Created;
            }
            Outcome::Becomes(next) => {
                assert_eq!(code, 204, "{what}");
                status = next;
            }
            Outcome::Stays => assert!((200..300).contains(&code) || code == 101, "{what}"),
            // A rename that leads to nothing is none of the table's.
            Outcome::Nothing => assert_eq!(code, 304, "{what}"),
            Outcome::Refused(refusal) => {
                assert!(matches!(code, 409 | 500), "{what}");
                let id = engine.inspect("walk")["Id"].as_str().unwrap().to_owned();
                let error = refusal.error(&id, "walk").message;
                let shown = words.contains(&error.replace('"', "\\\""));
                assert!(shown, "{what}; expected {error}");
            }
        }
        // A killed container has ended when the answer is there.
        if operation == Operation::Kill && code == 204 {
            status = Status::Exited;
        }
        assert_eq!(check(&engine.inspect("walk")), status, "{what}");
    }
    assert!(seen.len() > 25, "too few steps: {seen:?}");
    engine.clean();
}

/// Of the Unix epoch.
fn seconds() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap().as_secs()
}

/// What may follow what among a container's events.
#[derive(Default)]
struct Witness {
    running: bool,
    paused: bool,
    gone: bool,
}

impl Witness {
    fn sees(&mut self, action: &str) -> Result<(), String> {
        let fits = match action {
            "start" => !self.running && !self.gone,
            "pause" => self.running && !self.paused,
            "unpause" => self.running && self.paused,
            "die" => self.running,
            "destroy" => !self.running && !self.gone,
            _ => true,
        };
        match action {
            "start" => (self.running, self.paused) = (true, false),
            "pause" => self.paused = true,
            "unpause" => self.paused = false,
            "die" => (self.running, self.paused) = (false, false),
            "destroy" => self.gone = true,
            _ => {}
        }
        fits.then_some(())
            .ok_or_else(|| format!("{action} does not fit here"))
    }
}

/// Several clients at once: every answer is one of the table's, nothing hangs, and the events tell of no forbidden step.
#[test]
fn clients_that_disagree_never_break_it() {
    let engine = Engine::with_busybox();
    let mut random = Random::new();
    let mut fickle = body();
    fickle["Cmd"] = json!(["sh", "-c", "sleep 0.3; exit 1"]);
    fickle["HostConfig"] = json!({"RestartPolicy": {"Name": "always"}});
    let mut fleeting = body();
    fleeting["HostConfig"] = json!({"AutoRemove": true});
    let kinds = [
        ("plain", body()),
        ("fickle", fickle),
        ("fleeting", fleeting),
    ];
    let since = seconds();
    let end = Instant::now() + Duration::from_secs(10);
    std::thread::scope(|scope| {
        for _ in 0..5 {
            let mut random = Random(random.below(usize::MAX) as u64 | 1);
            let (engine, kinds) = (&engine, &kinds);
            scope.spawn(move || {
                while Instant::now() < end {
                    let (name, body) = &kinds[random.below(kinds.len())];
                    let operation = ASKED[random.below(ASKED.len())];
                    if operation == Operation::Rename {
                        create(engine, name, body);
                        continue;
                    }
                    let (code, words) = ask(engine, name, operation);
                    let known =
                        Status::ALL
                            .into_iter()
                            .any(|status| match outcome(status, operation) {
                                Outcome::Becomes(_) | Outcome::Stays => {
                                    matches!(code, 101 | 200 | 201 | 204)
                                }
                                Outcome::Nothing => matches!(code, 204 | 304),
                                Outcome::Refused(refusal) => {
                                    let error = refusal.error("ID", name).message;
                                    let around = error.replace('"', "\\\"");
                                    matches!(code, 409 | 500)
                                        && around.split("ID").all(|part| words.contains(part))
                                }
                            });
                    let missing = words.contains("No such container");
                    assert!(known || missing, "{operation:?} of {name}: {code} {words}");
                }
            });
        }
        // And one that only looks.
        scope.spawn(|| {
            while Instant::now() < end {
                for (name, _) in &kinds {
                    let answer = engine.api("GET", &format!("/containers/{name}/json"), None);
                    if answer.status == 200 {
                        check(&answer.json());
                    }
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        });
    });
    let path = format!("/events?since={since}&until={}", seconds() + 1);
    let mut witnesses: HashMap<String, (Witness, Vec<String>)> = HashMap::new();
    for line in engine.api("GET", &path, None).expect(200).text().lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        if event["Type"] != "container" {
            continue;
        }
        let id = event["Actor"]["ID"].as_str().unwrap().to_owned();
        let action = event["Action"].as_str().unwrap().to_owned();
        let (witness, story) = witnesses.entry(id).or_default();
        story.push(action.clone());
        // The first events may have left the daemon's memory already.
        if story[0] == "create" {
            witness
                .sees(&action)
                .unwrap_or_else(|error| panic!("{error}: {story:?}\n{}", engine.log()));
        }
    }
    assert!(witnesses.len() > 3, "nothing happened");
    engine.clean();
}

#[test]
fn paused_containers_survive_the_daemon() {
    let mut engine = Engine::with_busybox();
    let script = "i=0; while :; do i=$((i+1)); echo $i >/count; done";
    for name in ["paused", "running"] {
        engine
            .gantry(&["run", "-d", "--name", name, "busybox", "sh", "-c", script])
            .ok();
    }
    engine.gantry(&["pause", "paused"]).ok();
    engine.kill_daemon();
    engine.launch();
    let state = engine.inspect("paused")["State"].clone();
    assert_eq!(
        (&state["Status"], &state["Paused"]),
        (&json!("paused"), &json!(true))
    );
    assert_eq!(engine.inspect("running")["State"]["Status"], "running");
    // Someone thaws it while no daemon looks: the kernel is right.
    let id = engine.inspect("paused")["Id"].as_str().unwrap().to_owned();
    engine.kill_daemon();
    let v1 = format!(
        "/sys/fs/cgroup/freezer/{}/{id}/freezer.state",
        engine.cgroup()
    );
    let v2 = format!("/sys/fs/cgroup/{}/{id}/cgroup.freeze", engine.cgroup());
    if std::path::Path::new(&v1).exists() {
        std::fs::write(&v1, "THAWED").unwrap();
    } else {
        std::fs::write(&v2, "0").unwrap();
    }
    engine.launch();
    assert_eq!(engine.inspect("paused")["State"]["Status"], "running");
    engine.gantry(&["rm", "-f", "paused", "running"]).ok();
    engine.clean();
}

/// As when a daemon dies in a `commit`: it had paused the container for a while, nobody has asked for it.
#[test]
fn what_the_daemon_paused_for_itself_goes_on() {
    let mut engine = Engine::with_busybox();
    engine
        .gantry(&["run", "-d", "--name", "con", "busybox", "sleep", "1000"])
        .ok();
    let id = engine.inspect("con")["Id"].as_str().unwrap().to_owned();
    let mark = engine.exec_root().join("c").join(&id);
    let mark = mark.join("paused-for-a-while");
    engine.gantry(&["pause", "con"]).ok();
    std::fs::write(&mark, "").unwrap();
    engine.kill_daemon();
    engine.launch();
    assert_eq!(engine.inspect("con")["State"]["Status"], "running");
    assert!(!mark.exists());
    assert_eq!(engine.gantry(&["exec", "con", "echo", "up"]).ok(), "up");
    engine.clean();
}

#[test]
fn paused_containers_are_stopped_killed_and_removed() {
    let engine = Engine::with_busybox();
    let script = "trap 'exit 7' TERM; while :; do sleep 0.05; done";
    let run = |name: &str| {
        engine
            .gantry(&["run", "-d", "--name", name, "busybox", "sh", "-c", script])
            .ok();
        engine.gantry(&["pause", name]).ok();
    };
    run("stopped");
    let listed = engine.gantry(&["ps", "--filter", "status=paused", "--format", "{{.Status}}"]);
    assert!(listed.ok().contains("(Paused)"), "{listed}");
    // It hears the stop signal.
    engine.gantry(&["stop", "stopped"]).ok();
    assert_eq!(engine.inspect("stopped")["State"]["ExitCode"], 7);
    run("killed");
    engine.gantry(&["kill", "killed"]).ok();
    assert_eq!(engine.inspect("killed")["State"]["ExitCode"], 137);
    run("removed");
    let refused = engine.gantry(&["rm", "removed"]).fails_with(1);
    assert!(
        refused.contains("container is paused and must be unpaused first"),
        "{refused}"
    );
    engine.gantry(&["rm", "-f", "removed"]).ok();
    run("started");
    let refused = engine.gantry(&["start", "started"]).fails_with(1);
    assert!(
        refused.contains("cannot start a paused container, try unpause instead"),
        "{refused}"
    );
    engine.gantry(&["restart", "-t", "1", "started"]).ok();
    assert_eq!(engine.inspect("started")["State"]["Status"], "running");
    let twice = engine.gantry(&["unpause", "started"]).fails_with(1);
    assert!(twice.contains("is not paused"), "{twice}");
    engine.clean();
}

#[test]
fn wait_and_rm_while_a_policy_restarts() {
    let engine = Engine::with_busybox();
    let run = [
        "run",
        "-d",
        "--name",
        "again",
        "--restart",
        "always",
        "busybox",
    ];
    engine
        .gantry(&[&run[..], &["sh", "-c", "sleep 0.1; exit 3"]].concat())
        .ok();
    // COMPAT: as with Docker an exit ends the wait, though the container comes back.
    assert_eq!(engine.gantry(&["wait", "again"]).ok(), "3");
    until("it restarts", PATIENCE, || {
        engine.inspect("again")["State"]["Status"] == "restarting"
            && engine.inspect("again")["RestartCount"].as_i64() > Some(3)
    });
    let refused = engine.gantry(&["rm", "again"]);
    if refused.code != 0 {
        assert!(
            refused
                .stderr
                .contains("stop the container before removing or force remove"),
            "{refused}"
        );
    }
    engine.gantry(&["stop", "again"]).ok();
    let state = engine.inspect("again");
    assert_eq!(state["State"]["Status"], "exited");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(engine.inspect("again")["State"]["Status"], "exited");
    // A start by hand counts from the beginning.
    engine.gantry(&["start", "again"]).ok();
    assert!(engine.inspect("again")["RestartCount"].as_i64() < Some(3));
    engine.gantry(&["rm", "-f", "again"]).ok();
    engine.clean();
}
