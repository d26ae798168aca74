use super::*;
use crate::container::{ContainerConfig, CreateBody, HostConfig};
use serde::Deserialize;
use std::collections::BTreeMap;

fn refusal<T: DeserializeOwned + std::fmt::Debug>(text: &str) -> String {
    from_slice::<T>(text.as_bytes()).unwrap_err().0
}

#[test]
fn syntax_in_go_s_words() {
    for (text, words) in [
        ("", "EOF"),
        ("  \n", "EOF"),
        ("{", "unexpected EOF"),
        ("{\"a\":", "unexpected EOF"),
        ("\"abc", "unexpected EOF"),
        ("-", "unexpected EOF"),
        (
            "{nope",
            "invalid character 'n' looking for beginning of object key string",
        ),
        (
            "hello",
            "invalid character 'h' looking for beginning of value",
        ),
        (
            "nope",
            "invalid character 'o' in literal null (expecting 'u')",
        ),
        (
            "truly",
            "invalid character 'l' in literal true (expecting 'e')",
        ),
        ("{\"a\" 1}", "invalid character '1' after object key"),
        (
            "{\"a\":1 2}",
            "invalid character '2' after object key:value pair",
        ),
        (
            "{\"a\":1,}",
            "invalid character '}' looking for beginning of object key string",
        ),
        ("[1 2]", "invalid character '2' after array element"),
        (
            "[1,]",
            "invalid character ']' looking for beginning of value",
        ),
        ("\"\\x\"", "invalid character 'x' in string escape code"),
        (
            "\"\\u12g4\"",
            "invalid character 'g' in \\u hexadecimal character escape",
        ),
        ("\"a\nb\"", "invalid character '\\n' in string literal"),
        ("-x", "invalid character 'x' in numeric literal"),
        (
            "1.x",
            "invalid character 'x' after decimal point in numeric literal",
        ),
        (
            "1ex",
            "invalid character 'x' in exponent of numeric literal",
        ),
        (
            "'a'",
            "invalid character '\\'' looking for beginning of value",
        ),
        ("{} {}", "unexpected content after JSON"),
    ] {
        assert_eq!(parse(text.as_bytes()).unwrap_err().0, words, "{text:?}");
    }
}

#[test]
fn hostile_nesting_is_refused() {
    let deep = "[".repeat(1_000_000);
    assert!(parse(deep.as_bytes()).is_err());
    let object = "{\"a\":".repeat(100_000);
    assert!(parse(object.as_bytes()).is_err());
}

#[test]
fn types_in_go_s_words() {
    for (text, words) in [
        (
            r#"{"Image":5}"#,
            "json: cannot unmarshal number into Go struct field .Image of type string",
        ),
        (
            r#"{"Tty":"yes"}"#,
            "json: cannot unmarshal string into Go struct field .Tty of type bool",
        ),
        (
            r#"{"Env":"A=1"}"#,
            "json: cannot unmarshal string into Go struct field .Env of type []string",
        ),
        (
            r#"{"Env":[1]}"#,
            "json: cannot unmarshal number into Go struct field .Env of type string",
        ),
        (
            r#"{"Labels":[]}"#,
            "json: cannot unmarshal array into Go struct field .Labels of type map[string]string",
        ),
    ] {
        assert_eq!(refusal::<ContainerConfig>(text), words, "{text}");
    }
    assert_eq!(
        refusal::<HostConfig>(r#"{"Memory":1.5}"#),
        "json: cannot unmarshal number 1.5 into Go struct field .Memory of type int64"
    );
    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Outer {
        host_config: HostConfig,
    }
    assert_eq!(
        refusal::<Outer>(r#"{"HostConfig":{"RestartPolicy":{"Name":{}}}}"#),
        "json: cannot unmarshal object into Go struct field .HostConfig.RestartPolicy.Name of type string"
    );
    assert_eq!(
        refusal::<BTreeMap<String, String>>("[]"),
        "json: cannot unmarshal array into Go value of type map[string]string"
    );
}

#[test]
fn null_leaves_a_field_alone_and_case_does_not_matter() {
    let config: ContainerConfig = from_slice(
        br#"{"image":"a","TTY":true,"Env":null,"Hostname":null,"Unknown":[{}],"Cmd":"one"}"#,
    )
    .unwrap();
    assert_eq!(config.image, "a");
    assert!(config.tty);
    assert_eq!(config.env, None);
    assert_eq!(config.cmd, Some(vec!["one".to_owned()]));
    let host: HostConfig = from_slice(
        br#"{"PortBindings":{"80/tcp":null},"LogConfig":null,"ConsoleSize":[3,4],"Init":false,"MemorySwappiness":-1}"#,
    )
    .unwrap();
    assert_eq!(host.port_bindings.unwrap()["80/tcp"], None);
    assert_eq!(host.console_size, [3, 4]);
    assert_eq!(host.init, Some(false));
    assert_eq!(host.memory_swappiness, Some(-1));
}

#[test]
fn a_whole_body_goes_through() {
    let mut body = CreateBody::default();
    body.config.image = "i".into();
    body.config.cmd = Some(vec!["a".into(), "b".into()]);
    body.host_config.binds = Some(vec!["/a:/b".into()]);
    let text = serde_json::to_vec(&body).unwrap();
    let value = parse(&text).unwrap();
    assert_eq!(decode::<ContainerConfig>(&value).unwrap(), body.config);
    assert_eq!(
        decode::<HostConfig>(&value["HostConfig"]).unwrap(),
        body.host_config
    );
}

/// Go's scanner and serde's parser agree on what is JSON, on texts that are nearly so.
#[test]
fn what_is_taken_is_not_complained_of() {
    let seeds = [
        r#"{"Image":"a\"b","Cmd":["x","\u00e9\n"],"N":-1.5e+10,"T":true,"F":false,"Z":null,"E":{},"L":[]}"#,
        r#" [ {"a" : [1, 2.0, 0, -0] } , "x" ] "#,
    ];
    let letters = b"{}[]\",:\\ntfu0e-+. ";
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let (mut taken, mut refused) = (0, 0);
    for round in 0..50_000 {
        let mut text = seeds[round % seeds.len()].as_bytes().to_vec();
        for _ in 0..=random(3) {
            let at = random(text.len());
            match random(3) {
                0 => text[at] = letters[random(letters.len())],
                1 => text.insert(at, letters[random(letters.len())]),
                _ => text.truncate(at.max(1)),
            }
        }
        let complaint = syntax::complaint(&text);
        let shown = String::from_utf8_lossy(&text);
        match serde_json::from_slice::<serde_json::Value>(&text) {
            Ok(_) => {
                taken += 1;
                assert_eq!(complaint, None, "{shown}");
            }
            Err(error) => {
                refused += 1;
                assert!(complaint.is_some(), "{error}: {shown}");
            }
        }
    }
    assert!(
        taken > 1000 && refused > 1000,
        "{taken} taken, {refused} refused"
    );
}
