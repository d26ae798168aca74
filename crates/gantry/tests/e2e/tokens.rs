//! A registry with a token server: who may do what, and how it is told.

use crate::push::statuses;
use gantry_testkit::{Answer, Engine, Registry, TokenServer};
use serde_json::{Value, json};

struct Setting {
    engine: Engine,
    registry: Registry,
    tokens: TokenServer,
}

fn with_tokens() -> Setting {
    let engine = Engine::with_busybox();
    let (registry, tokens) = Registry::start_with_tokens(&engine.folder().join("registry"));
    Setting {
        engine,
        registry,
        tokens,
    }
}

impl Setting {
    fn tag(&self, path: &str) -> String {
        let name = format!("{}/{path}", self.registry.address());
        let tag = format!("/images/busybox/tag?repo={name}&tag=1");
        self.engine.api("POST", &tag, None).expect(201);
        name
    }

    fn push(&self, name: &str, who: &Value) -> Vec<Value> {
        let path = format!("/images/{name}/push?tag=1");
        lines(&self.engine.api_as("POST", &path, who))
    }

    fn pull(&self, name: &str, who: &Value) -> Answer {
        let path = format!("/images/create?fromImage={name}&tag=1");
        self.engine.api_as("POST", &path, who)
    }
}

fn lines(answer: &Answer) -> Vec<Value> {
    let text = answer.text();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn me() -> Value {
    json!({"username": "me", "password": "secret"})
}

#[test]
fn a_token_for_each_purpose() {
    let setting = with_tokens();
    let name = setting.tag("team/box");
    let pushed = setting.push(&name, &me());
    let digest = &pushed.last().unwrap()["aux"]["Digest"];
    assert!(digest.is_string(), "{pushed:?}");
    assert_eq!(setting.tokens.asked(), [["repository:team/box:pull,push"]]);

    // Another repository of the registry takes it over; the token is for both.
    let moved = setting.tag("other/box");
    let pushed = setting.push(&moved, &me());
    assert!(
        statuses(&pushed).contains(&"Mounted from team/box".to_owned()),
        "{pushed:?}"
    );
    let asked = setting.tokens.asked();
    let both = ["repository:other/box:pull,push", "repository:team/box:pull"];
    assert!(asked.iter().any(|scopes| scopes == &both), "{asked:?}");

    // An identity token serves as well.
    let identity = json!({"identitytoken": "identity-of-me"});
    let pulled = setting.pull(&name, &identity).expect(200).text();
    assert!(pulled.contains("Image is up to date"), "{pulled}");
    let pushed = setting.push(&name, &identity);
    assert_eq!(&pushed.last().unwrap()["aux"]["Digest"], digest);
}

#[test]
fn who_may_not_is_told_so() {
    let setting = with_tokens();
    let private = setting.tag("team/box");
    let public = setting.tag("public/box");
    let nobody = json!({});
    let failure = |lines: Vec<Value>| lines.last().unwrap()["error"].as_str().unwrap().to_owned();
    let denied = "denied: requested access to the resource is denied";
    assert_eq!(failure(setting.push(&private, &nobody)), denied);
    let reader = json!({"username": "reader", "password": "secret"});
    assert_eq!(failure(setting.push(&private, &reader)), denied);
    let wrong = json!({"username": "me", "password": "wrong"});
    assert_eq!(
        failure(setting.push(&private, &wrong)),
        "unauthorized: incorrect username or password"
    );
    for name in [&private, &public] {
        setting.push(name, &me());
    }

    let message = |answer: Answer| answer.json()["message"].as_str().unwrap().to_owned();
    assert_eq!(
        message(setting.pull(&private, &nobody).expect(404)),
        format!(
            "pull access denied for {private}, repository does not exist or may require 'docker login': {denied}"
        )
    );
    assert_eq!(
        message(setting.pull(&private, &wrong).expect(500)),
        format!(
            "Head \"http://{}/v2/team/box/manifests/1\": unauthorized: incorrect username or password",
            setting.registry.address()
        )
    );
    setting.pull(&private, &reader).expect(200);
    setting.pull(&public, &nobody).expect(200);
}
