//! The instructions of `import --change`: a few of a Dockerfile's, applied to an image's configuration.

use crate::error::{Error, Result};
use gantry_oci::config::Config;
use serde_json::{Value, json};

/// Applies one instruction (`CMD ["sh"]`, `ENV A=1`).
pub(super) fn apply(config: &mut Config, change: &str) -> Result<()> {
    let change = change.trim();
    let (name, rest) = change
        .split_once(char::is_whitespace)
        .map_or((change, ""), |(name, rest)| (name, rest.trim()));
    let upper = name.to_ascii_uppercase();
    let needs = |count: &str| Error::invalid(format!("{upper} requires {count} argument"));
    if rest.is_empty() && !matches!(upper.as_str(), "CMD" | "ENTRYPOINT") && is_known(&upper) {
        return Err(needs("at least one"));
    }
    match upper.as_str() {
        "CMD" => config.cmd = Some(command(rest)),
        "ENTRYPOINT" => config.entrypoint = Some(command(rest)),
        "ENV" => {
            let env = config.env.get_or_insert_default();
            for (key, value) in pairs("ENV", rest)? {
                env.retain(|old| old.split('=').next() != Some(key.as_str()));
                env.push(format!("{key}={value}"));
            }
        }
        "LABEL" => config
            .labels
            .get_or_insert_default()
            .extend(pairs("LABEL", rest)?),
        "EXPOSE" => {
            for port in rest.split_whitespace() {
                let port = exposed(port)?;
                config
                    .exposed_ports
                    .get_or_insert_default()
                    .insert(port, json!({}));
            }
        }
        "VOLUME" => {
            let paths =
                list(rest).unwrap_or_else(|| rest.split_whitespace().map(str::to_owned).collect());
            for path in paths {
                config
                    .volumes
                    .get_or_insert_default()
                    .insert(path, json!({}));
            }
        }
        "USER" => rest.clone_into(&mut config.user),
        "WORKDIR" => config.working_dir = folder(&config.working_dir, rest),
        "STOPSIGNAL" => rest.clone_into(&mut config.stop_signal),
        "ONBUILD" => config
            .on_build
            .get_or_insert_default()
            .push(rest.to_owned()),
        "HEALTHCHECK" => config.healthcheck = Some(health_check(rest)?),
        _ => {
            return Err(Error::invalid(format!(
                "{name} is not a valid change command"
            )));
        }
    }
    Ok(())
}

fn is_known(name: &str) -> bool {
    matches!(
        name,
        "ENV"
            | "LABEL"
            | "EXPOSE"
            | "VOLUME"
            | "USER"
            | "WORKDIR"
            | "STOPSIGNAL"
            | "ONBUILD"
            | "HEALTHCHECK"
    )
}

/// A JSON list of strings.
fn list(text: &str) -> Option<Vec<String>> {
    text.starts_with('[')
        .then(|| serde_json::from_str(text).ok())
        .flatten()
}

/// A list, or a line for the shell.
fn command(text: &str) -> Vec<String> {
    list(text).unwrap_or_else(|| match text {
        "" => Vec::new(),
        line => ["/bin/sh", "-c", line].map(str::to_owned).to_vec(),
    })
}

/// `a=1 b="2 3"`, or the old form of one pair without a sign.
fn pairs(instruction: &str, text: &str) -> Result<Vec<(String, String)>> {
    let words = words(text);
    let first = words.first().map(String::as_str).unwrap_or_default();
    if !first.contains('=') {
        let (key, value) = text
            .split_once(char::is_whitespace)
            .ok_or_else(|| Error::invalid(format!("{instruction} must have two arguments")))?;
        return Ok(vec![(key.to_owned(), value.trim().to_owned())]);
    }
    words
        .iter()
        .map(|word| match word.split_once('=') {
            Some(("", _)) => Err(Error::invalid(format!(
                "{instruction} names can not be blank"
            ))),
            Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
            None => Err(Error::invalid(format!(
                "Syntax error - can't find = in {word:?}. Must be of the form: name=value"
            ))),
        })
        .collect()
}

/// Splits at spaces that are neither quoted nor escaped, and takes the quotes off.
fn words(text: &str) -> Vec<String> {
    let (mut out, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            ('\\', None | Some('"')) => word.get_or_insert_default().extend(letters.next()),
            ('"' | '\'', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (letter, Some(open)) if letter == open => quote = None,
            (letter, None) if letter.is_whitespace() => out.extend(word.take()),
            (letter, _) => word.get_or_insert_default().push(letter),
        }
    }
    out.extend(word);
    out
}

/// `80` or `80/udp`.
fn exposed(text: &str) -> Result<String> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let bad = || Error::invalid(format!("invalid containerPort: {text}"));
    port.parse::<u16>().map_err(|_| bad())?;
    match protocol {
        "tcp" | "udp" | "sctp" => Ok(format!("{port}/{protocol}")),
        _ => Err(bad()),
    }
}

/// A working directory, below the one before where it is relative.
fn folder(before: &str, path: &str) -> String {
    if path.starts_with('/') {
        return path.to_owned();
    }
    format!("{}/{path}", before.trim_end_matches('/'))
}

/// `NONE`, or options and `CMD` with a list or a line.
fn health_check(text: &str) -> Result<Value> {
    let (options, text) = health_options(text)?;
    if text.eq_ignore_ascii_case("NONE") {
        return Ok(json!({"Test": ["NONE"]}));
    }
    let (kind, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    if !kind.eq_ignore_ascii_case("CMD") || rest.trim().is_empty() {
        return Err(Error::invalid(format!(
            "Unknown type {kind:?} in HEALTHCHECK (try CMD)"
        )));
    }
    let rest = rest.trim();
    let test: Vec<String> = match list(rest) {
        Some(list) => std::iter::once("CMD".to_owned()).chain(list).collect(),
        None => vec!["CMD-SHELL".to_owned(), rest.to_owned()],
    };
    let mut health = options;
    health.insert("Test".to_owned(), json!(test));
    Ok(Value::Object(health))
}

/// `--interval=5s` and the like, and what follows them.
fn health_options(mut text: &str) -> Result<(serde_json::Map<String, Value>, &str)> {
    let mut options = serde_json::Map::new();
    while let Some(option) = text.strip_prefix("--") {
        let (option, rest) = option
            .split_once(char::is_whitespace)
            .unwrap_or((option, ""));
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let key = match name {
            "interval" => "Interval",
            "timeout" => "Timeout",
            "start-period" => "StartPeriod",
            "start-interval" => "StartInterval",
            "retries" => "Retries",
            _ => return Err(Error::invalid(format!("unknown flag: --{name}"))),
        };
        let number = if name == "retries" {
            value.parse().ok().filter(|n: &i64| *n > 0).ok_or_else(|| {
                Error::invalid(format!("--retries must be at least 1 (not {value:?})"))
            })?
        } else {
            duration(value)
                .ok_or_else(|| Error::invalid(format!("time: invalid duration {value:?}")))?
        };
        options.insert(key.to_owned(), json!(number));
        text = rest.trim_start();
    }
    Ok((options, text))
}

/// Nanoseconds of `1m30s`, `500ms`, `1.5h` (Go's time.ParseDuration).
pub(crate) fn duration(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut total = 0.0;
    if rest == "0" {
        return Some(0);
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let unit_end = rest[end..]
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .map_or(rest.len(), |at| end + at);
        total += number
            * match &rest[end..unit_end] {
                "ns" => 1.0,
                "us" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                _ => return None,
            };
        rest = &rest[unit_end..];
    }
    (!text.is_empty() && total < i64::MAX as f64).then_some(total as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(changes: &[&str]) -> Value {
        let mut config = Config::default();
        for change in changes {
            apply(&mut config, change).unwrap();
        }
        serde_json::to_value(config).unwrap()
    }

    #[test]
    fn instructions() {
        let config = applied(&[
            r#"CMD ["sh", "-l"]"#,
            "entrypoint exec top -b",
            r#"ENV A=1 B="two words" C=three\ words"#,
            "ENV A 2 and 3",
            "LABEL k=v",
            "EXPOSE 80 53/udp",
            "VOLUME /a /b",
            "WORKDIR /w",
            "WORKDIR sub",
            "USER 1:2",
            "STOPSIGNAL SIGINT",
            "HEALTHCHECK CMD true",
            "ONBUILD RUN x",
        ]);
        assert_eq!(
            config,
            json!({
                "Cmd": ["sh", "-l"],
                "Entrypoint": ["/bin/sh", "-c", "exec top -b"],
                "Env": ["B=two words", "C=three words", "A=2 and 3"],
                "Labels": {"k": "v"},
                "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
                "Volumes": {"/a": {}, "/b": {}},
                "WorkingDir": "/w/sub",
                "User": "1:2",
                "StopSignal": "SIGINT",
                "Healthcheck": {"Test": ["CMD-SHELL", "true"]},
                "OnBuild": ["RUN x"],
            })
        );
    }

    #[test]
    fn health_checks_with_options() {
        let config =
            applied(&["HEALTHCHECK --interval=1m30s --retries=3 --timeout=500ms CMD [\"a\"]"]);
        assert_eq!(
            config["Healthcheck"],
            json!({"Test": ["CMD", "a"], "Interval": 90_000_000_000_i64, "Retries": 3, "Timeout": 500_000_000})
        );
        for bad in [
            "--interval=x CMD a",
            "--retries=0 CMD a",
            "--nonsense=1 CMD a",
            "--interval= CMD a",
        ] {
            assert!(health_check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn refusals() {
        let refused = |change| apply(&mut Config::default(), change).unwrap_err().message;
        assert_eq!(
            refused("NONSENSE x"),
            "NONSENSE is not a valid change command"
        );
        assert_eq!(refused("RUN x"), "RUN is not a valid change command");
        assert_eq!(refused("EXPOSE x"), "invalid containerPort: x");
        assert_eq!(refused("ENV"), "ENV requires at least one argument");
        assert!(refused("ENV A=1 b").contains("can't find ="));
        assert!(refused("HEALTHCHECK SHELL x").contains("Unknown type"));
    }
}
