//! A daemon killed hundreds of times under load: what it said stays true, and nothing is left behind.

use gantry_testkit::{Answer, Dice, Engine, call, hijack, read_frames, until};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);
/// How often the daemon is killed.
const KILLS: u32 = 200;
const CLIENTS: u64 = 4;

/// What a client knows of a container that it has asked for.
#[derive(Debug, Clone, Default)]
struct Known {
    lines: u64,
    code: i64,
    /// The create, the start, the removal was answered.
    created: bool,
    started: bool,
    removed: bool,
    /// The start, the removal was asked for.
    start_asked: bool,
    removal_asked: bool,
    auto_remove: bool,
}

type Book = Arc<Mutex<BTreeMap<String, Known>>>;

/// One of those who load the daemon; an error of the connection is its daily bread.
struct Client {
    socket: PathBuf,
    dice: Dice,
    number: u64,
    made: u64,
    book: Book,
}

impl Client {
    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Option<Answer> {
        match call(&self.socket, method, path, body) {
            Ok(answer) => {
                assert!(answer.status < 500, "{method} {path}: {}", answer.text());
                Some(answer)
            }
            Err(_) => {
                std::thread::sleep(Duration::from_millis(2));
                None
            }
        }
    }

    fn note(&self, name: &str, change: impl FnOnce(&mut Known)) {
        change(
            self.book
                .lock()
                .unwrap()
                .entry(name.to_owned())
                .or_default(),
        );
    }

    fn one_of_mine(&mut self) -> Option<(String, Known)> {
        let prefix = format!("c{}-", self.number);
        let book = self.book.lock().unwrap();
        let mine: Vec<_> = book
            .iter()
            .filter(|(name, known)| {
                name.starts_with(&prefix) && known.created && !known.removal_asked
            })
            .collect();
        if mine.is_empty() {
            return None;
        }
        let at = self.dice.below(mine.len() as u64) as usize;
        Some((mine[at].0.clone(), mine[at].1.clone()))
    }

    fn run(&mut self) {
        let name = format!("c{}-{}", self.number, self.made);
        self.made += 1;
        let known = Known {
            lines: self.dice.below(40),
            code: self.dice.below(100) as i64,
            auto_remove: self.dice.below(6) == 0,
            ..Known::default()
        };
        let script = format!(
            "i=0; while [ $i -lt {} ]; do echo line $i; i=$((i+1)); done; sleep 0.{}; exit {}",
            known.lines,
            self.dice.below(4),
            known.code
        );
        let network = if self.dice.below(2) == 0 {
            "bridge"
        } else {
            "none"
        };
        let body = json!({"Image": "busybox", "Cmd": ["sh", "-c", script],
            "HostConfig": {"AutoRemove": known.auto_remove, "NetworkMode": network}});
        self.note(&name, |entry| *entry = known);
        let path = format!("/containers/create?name={name}");
        match self.ask("POST", &path, Some(&body)) {
            Some(answer) if answer.status == 201 => self.note(&name, |known| known.created = true),
            _ => return,
        }
        self.start(&name);
    }

    fn start(&self, name: &str) {
        self.note(name, |known| known.start_asked = true);
        if let Some(answer) = self.ask("POST", &format!("/containers/{name}/start"), None) {
            // 304, 404: a start whose answer was lost ran it; with --rm it may have gone by now.
            if matches!(answer.status, 204 | 304) {
                self.note(name, |known| known.started = true);
            }
        }
    }

    fn exec(&mut self) {
        let code = self.dice.below(200);
        let body = json!({"AttachStdout": true,
            "Cmd": ["sh", "-c", format!("echo said {code}; exit {code}")]});
        let Some(made) = self.ask("POST", "/containers/steady/exec", Some(&body)) else {
            return;
        };
        let id = made.expect(201).json()["Id"].as_str().unwrap().to_owned();
        let Ok(mut session) = hijack(&self.socket, &format!("/exec/{id}/start"), b"{}") else {
            return;
        };
        let mut out = session.early.clone();
        let whole = session.stream.read_to_end(&mut out).is_ok();
        let Some(told) = self.ask("GET", &format!("/exec/{id}/json"), None) else {
            return;
        };
        let told = told.expect(200).json();
        // The stream may have ended with the daemon; the code is never a wrong one.
        if told["Running"] == false && told["ExitCode"] != Value::Null {
            assert_eq!(told["ExitCode"], code, "{told}");
            let (frames, rest) = read_frames(&out);
            let said: Vec<u8> = frames.into_iter().flat_map(|(_, bytes)| bytes).collect();
            if whole && rest.is_empty() && !said.is_empty() {
                assert_eq!(said, format!("said {code}\n").into_bytes());
            }
        }
    }

    fn attach(&self) {
        let path = "/containers/steady/attach?stream=1&stdout=1";
        let Ok(mut session) = hijack(&self.socket, path, b"") else {
            return;
        };
        let mut piece = [0; 512];
        let _ = session.stream.read(&mut piece);
    }

    fn remove(&mut self) {
        let Some((name, _)) = self.one_of_mine() else {
            return;
        };
        self.note(&name, |known| known.removal_asked = true);
        let path = format!("/containers/{name}?force=1");
        if let Some(answer) = self.ask("DELETE", &path, None) {
            // 409: it is being removed already, for its --rm.
            assert!(
                matches!(answer.status, 204 | 404 | 409),
                "{}",
                answer.text()
            );
            self.note(&name, |known| known.removed = answer.status != 409);
        }
    }

    fn act(&mut self) {
        match self.dice.below(10) {
            0..=3 => self.run(),
            4 | 5 => self.exec(),
            6 => self.attach(),
            7 => {
                let _ = self.ask("GET", "/containers/json?all=1", None);
            }
            8 => {
                if let Some((name, _)) = self.one_of_mine() {
                    let path = format!("/containers/{name}/logs?stdout=1&tail=3");
                    let _ = self.ask("GET", &path, None);
                }
            }
            _ => self.remove(),
        }
    }
}

/// The whole log of a container, without frames.
fn log_of(engine: &Engine, name: &str) -> String {
    let path = format!("/containers/{name}/logs?stdout=1&stderr=1");
    let answer = engine.api("GET", &path, None).expect(200);
    let (frames, rest) = read_frames(&answer.body);
    assert!(rest.is_empty());
    let bytes: Vec<u8> = frames.into_iter().flat_map(|(_, bytes)| bytes).collect();
    String::from_utf8(bytes).unwrap()
}

fn numbered(count: u64) -> String {
    (0..count).map(|at| format!("line {at}\n")).collect()
}

fn is_as_known(engine: &Engine, name: &str, known: &Known) {
    let found = engine.api("GET", &format!("/containers/{name}/json"), None);
    if found.status == 404 {
        let may_be_gone =
            !known.created || known.removal_asked || known.auto_remove && known.start_asked;
        assert!(may_be_gone, "{name} is lost: {known:?}\n{}", engine.log());
        return;
    }
    assert!(!known.removed, "{name} has come back: {known:?}");
    let state = found.expect(200).json()["State"].clone();
    if known.removal_asked {
        return;
    }
    let ran = state["StartedAt"] != "0001-01-01T00:00:00Z";
    assert!(
        ran || !known.started,
        "{name} was started: {known:?}, {state}\n{}",
        engine.log()
    );
    if !ran {
        assert_eq!(state["Status"], "created", "{name}: {state}");
        return;
    }
    assert_eq!(
        (&state["Status"], &state["ExitCode"]),
        (&"exited".into(), &known.code.into()),
        "{name}: {known:?}, {state}\n{}",
        engine.log()
    );
    assert_eq!(log_of(engine, name), numbered(known.lines), "{name}");
}

/// Every container is as its client knows it, and there are no others.
fn all_is_as_known(engine: &Engine, known: &BTreeMap<String, Known>) {
    until("what was started ends", PATIENCE, || {
        let listed = engine
            .api("GET", "/containers/json", None)
            .expect(200)
            .json();
        let listed = listed.as_array().unwrap();
        listed.iter().all(|c| {
            let name = c["Names"][0].as_str().unwrap();
            name == "/steady" || name == "/again"
        })
    });
    for (name, known) in known {
        is_as_known(engine, name, known);
    }
    let count = |what: fn(&Known) -> bool| known.values().filter(|k| what(k)).count();
    let (created, started) = (count(|k| k.created), count(|k| k.started));
    let removed = count(|k| k.removed);
    println!("{created} containers created, {started} started, {removed} removed");
    assert!(
        created > 200 && started > 100 && removed > 10,
        "too little load"
    );
    // None that nobody asked for.
    let all = engine
        .api("GET", "/containers/json?all=1", None)
        .expect(200)
        .json();
    for container in all.as_array().unwrap() {
        let name = container["Names"][0]
            .as_str()
            .unwrap()
            .trim_start_matches('/');
        assert!(
            known.contains_key(name) || ["steady", "again"].contains(&name),
            "{name} is nobody's"
        );
    }
}

fn load(socket: &Path, book: &Book, seed: u64, stop: &AtomicBool) {
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let mut client = Client {
                socket: socket.to_owned(),
                dice: Dice(seed.wrapping_mul(number * 2 + 3) | 1),
                number,
                made: 0,
                book: book.clone(),
            };
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    client.act();
                }
            });
        }
    });
}

#[test]
fn a_daemon_killed_hundreds_of_times_under_load_loses_nothing() {
    let seed = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_nanos() as u64;
    println!("seed {seed}");
    let mut engine = Engine::with_busybox();
    let steady = "i=0; while :; do echo line $i; i=$((i+1)); sleep 0.02; done";
    engine
        .gantry(&[
            "run",
            "-d",
            "--name",
            "steady",
            "--log-opt",
            "max-size=-1",
            "busybox",
            "sh",
            "-c",
            steady,
        ])
        .ok();
    engine
        .gantry(&[
            "run",
            "-d",
            "--name",
            "again",
            "--restart",
            "always",
            "busybox",
            "sleep",
            "0.5",
        ])
        .ok();
    let before = engine.inspect("steady")["State"].clone();
    let book = Book::default();
    let stop = AtomicBool::new(false);
    let socket = engine.socket();
    std::thread::scope(|scope| {
        let loaders = scope.spawn(|| load(&socket, &book, seed, &stop));
        let mut dice = Dice(seed | 1);
        for kill in 0..KILLS {
            std::thread::sleep(Duration::from_millis(dice.below(180)));
            if loaders.is_finished() {
                break;
            }
            engine.kill_daemon();
            if kill % 20 == 19 {
                // An upgrade under running containers.
                engine.replace_binary();
            }
            engine.launch();
        }
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = loaders.join() {
            std::panic::resume_unwind(panic);
        }
    });
    all_is_as_known(&engine, &book.lock().unwrap());
    // The one that ran all the time has not noticed anything, and every line of it is there.
    let after = engine.inspect("steady")["State"].clone();
    for key in ["Pid", "StartedAt", "Status"] {
        assert_eq!(before[key], after[key], "{key}");
    }
    let log = log_of(&engine, "steady");
    let lines = log.lines().count() as u64;
    assert!(lines > 100);
    assert!(log == numbered(lines), "lines are lost or twice there");
    let mut attached = engine.hijack("/containers/steady/attach?stream=1&stdout=1", b"");
    let mut piece = [0; 8];
    attached.stream.read_exact(&mut piece).unwrap();
    let restarts = engine.inspect("again")["RestartCount"].as_i64().unwrap();
    assert!(restarts > 1, "it was restarted {restarts} times");
    drop(attached);
    engine.clean();
}
