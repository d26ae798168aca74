//! Go templates with the functions that Docker adds.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use super::shape::{self, Shape};
use gotmpl::{MissingKey, TemplateError, Value};
use serde_json::Value as Json;

/// A parsed template.
pub(crate) struct Template {
    parsed: gotmpl::Template,
    source: String,
    /// As errors call it.
    name: &'static str,
}

/// `null` of the daemon. Go shows the nil slice or map that stands behind it as an empty one, but `json`
/// still says `null`: so it is a list or map of its own, known by its address.
static NULL_LIST: LazyLock<Arc<[Value]>> = LazyLock::new(|| Arc::from(Vec::new()));
static NULL_MAP: LazyLock<Arc<BTreeMap<Arc<str>, Value>>> = LazyLock::new(Arc::default);

/// Keys whose `null` is a nil map of Go's.
const MAPS: &[&str] = &[
    "Annotations",
    "Config",
    "DriverOpts",
    "EndpointsConfig",
    "ExposedPorts",
    "Labels",
    "Networks",
    "Options",
    "PortBindings",
    "Ports",
    "Storage",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
    "Volumes",
];
/// Keys whose `null` is a nil pointer.
const POINTERS: &[&str] = &[
    "ContainerIDFile",
    "Data",
    "Health",
    "Healthcheck",
    "SizeRw",
    "SizeRootFs",
    "IPAMConfig",
    "ImageManifestDescriptor",
    "Init",
    "MemorySwappiness",
    "OomKillDisable",
    "PidsLimit",
    "StopTimeout",
];

/// The daemon's JSON as template data. `key` is the name that the value has in its object.
pub(crate) fn from_json(json: &Json, key: &str) -> Value {
    match json {
        Json::Null if POINTERS.contains(&key) => Value::Nil,
        Json::Null if MAPS.contains(&key) => Value::Map(NULL_MAP.clone()),
        Json::Null => Value::List(NULL_LIST.clone()),
        Json::Bool(truth) => Value::Bool(*truth),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::Int(number),
            (None, Some(number)) => Value::Uint(number),
            _ => Value::Float(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => Value::String(text.as_str().into()),
        Json::Array(items) => Value::List(items.iter().map(|item| from_json(item, "")).collect()),
        Json::Object(fields) => Value::Map(Arc::new(
            fields
                .iter()
                .map(|(key, value)| (Arc::from(key.as_str()), from_json(value, key)))
                .collect(),
        )),
    }
}

pub(super) fn null_list() -> Value {
    Value::List(NULL_LIST.clone())
}

pub(super) fn null_map() -> Value {
    Value::Map(NULL_MAP.clone())
}

fn to_json(value: &Value) -> Json {
    if let Some(json) = shape::original(value) {
        return json;
    }
    match value {
        Value::List(items) if Arc::ptr_eq(items, &NULL_LIST) => Json::Null,
        Value::Map(fields) if Arc::ptr_eq(fields, &NULL_MAP) => Json::Null,
        Value::Bool(truth) => (*truth).into(),
        Value::Int(number) => (*number).into(),
        Value::Uint(number) => (*number).into(),
        Value::Float(number) => (*number).into(),
        Value::String(text) => Json::String(text.to_string()),
        Value::List(items) => items.iter().map(to_json).collect(),
        Value::Map(fields) => Json::Object(
            fields
                .iter()
                .filter(|(_, value)| !value.is_function())
                .map(|(key, value)| (key.to_string(), to_json(value)))
                .collect(),
        ),
        _ => Json::Null,
    }
}

/// Go's words for a field that is not there: where it stands, and the chain it belongs to.
fn missing(source: &str, name: &str, key: &str, shape: Option<&'static Shape>) -> String {
    let at = source.find(&format!(".{key}")).unwrap_or(0);
    let start = source[..at]
        .rfind(|letter: char| !letter.is_alphanumeric() && letter != '.')
        .map_or(0, |before| before + 1);
    let chain = &source[start..at];
    let what = match shape.and_then(|shape| shape::type_at(shape, chain)) {
        Some(go) => format!("can't evaluate field {key} in type {go}"),
        None => format!("map has no entry for key \"{key}\""),
    };
    format!("template: {name}:1:{at}: executing \"{name}\" at <{chain}.{key}>: {what}")
}

/// Whether an error is of a key that a map does not have: `... at <.Actor.Attributes.x>: map has no entry ...`.
fn asks_a_map(why: &str, data: &Value) -> bool {
    let chain = why
        .split_once(" at <")
        .and_then(|(_, rest)| rest.split_once(">: map has no entry"))
        .and_then(|(chain, _)| chain.rsplit_once('.'));
    let Some((chain, _)) = chain else {
        return false;
    };
    let mut value = data.clone();
    for name in chain.split('.').filter(|name| !name.is_empty()) {
        let Value::Map(fields) = &value else {
            return false;
        };
        let Some(next) = fields.get(name).cloned() else {
            return false;
        };
        value = next;
    }
    matches!(value, Value::Map(_)) && !shape::is_struct(&value)
}

/// Actions that print nothing.
const SILENT: [&str; 11] = [
    "if", "else", "end", "range", "with", "define", "template", "block", "break", "continue", "/*",
];

/// The source with what prints a value printing it as Go does.
fn with_printer(source: &str) -> String {
    let mut out = String::with_capacity(source.len() + 64);
    let mut rest = source;
    while let Some(begin) = rest.find("{{") {
        let (before, action) = rest.split_at(begin + 2);
        out.push_str(before);
        let Some(end) = end_of_action(action) else {
            rest = action;
            break;
        };
        let inner = &action[..end];
        let words = inner.trim_start_matches('-').trim_start();
        let silent = SILENT.iter().any(|word| {
            words.strip_prefix(word).is_some_and(|after| {
                *word == "/*" || !after.starts_with(|c: char| c.is_alphanumeric() || c == '_')
            })
        });
        let assigns = words.starts_with('$')
            && words
                .trim_start_matches(|c: char| c == '$' || c == '_' || c.is_alphanumeric())
                .trim_start()
                .trim_start_matches(':')
                .starts_with('=');
        let body = inner.trim_end_matches('-').trim_end();
        out.push_str(body);
        if !silent && !assigns && !body.trim_start_matches('-').trim().is_empty() {
            out.push_str(" | goprint");
        }
        out.push_str(&inner[body.len()..]);
        rest = &action[end..];
    }
    out.push_str(rest);
    out
}

/// Where an action's `}}` stands, outside of its strings.
fn end_of_action(action: &str) -> Option<usize> {
    let bytes = action.as_bytes();
    let (mut at, mut quote) = (0, None);
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (Some(b'"'), b'\\') => at += 1,
            (Some(open), byte) if byte == open => quote = None,
            (Some(_), _) => {}
            (None, byte @ (b'"' | b'`')) => quote = Some(byte),
            (None, b'}') if bytes.get(at + 1) == Some(&b'}') => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

/// Go names the line only.
fn parse_error(error: &TemplateError) -> String {
    let text = error.to_string();
    let place = text
        .strip_prefix("template: ")
        .and_then(|rest| rest.split_once(": "))
        .and_then(|(place, why)| Some((place.split_once(':')?.0, why)));
    match place {
        Some((line, why)) => format!("template: :{line}: {why}"),
        None => text,
    }
}

type Result<T> = std::result::Result<T, TemplateError>;

fn text(args: &[Value], at: usize) -> Result<String> {
    match args.get(at) {
        Some(Value::String(text)) => Ok(text.to_string()),
        Some(other) => Err(TemplateError::Exec(format!(
            "wrong type for value; expected string; got {}",
            other.type_name()
        ))),
        None => Err(TemplateError::Exec("wrong number of args".to_owned())),
    }
}

fn number(args: &[Value], at: usize) -> usize {
    let number = args.get(at).and_then(Value::as_int).unwrap_or(0);
    usize::try_from(number).unwrap_or(0)
}

fn string(text: impl AsRef<str>) -> Result<Value> {
    Ok(Value::String(text.as_ref().into()))
}

fn join(args: &[Value]) -> Result<Value> {
    let separator = text(args, 1)?;
    let Some(Value::List(items)) = args.first() else {
        return Err(TemplateError::Exec("join needs a list".to_owned()));
    };
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    string(items.join(&separator))
}

/// A text between spaces; an empty one stays empty.
pub(super) fn padded(args: &[Value]) -> Value {
    let inner = args.first().and_then(Value::as_str).unwrap_or_default();
    if inner.is_empty() {
        return Value::String("".into());
    }
    let (before, after) = (" ".repeat(number(args, 1)), " ".repeat(number(args, 2)));
    Value::String(format!("{before}{inner}{after}").into())
}

/// The first letter of each word made large.
fn title(text: &str) -> String {
    let mut after_letter = false;
    text.chars()
        .map(|letter| {
            let start = !after_letter;
            after_letter = letter.is_alphanumeric() || letter == '_' || letter == '\'';
            if start {
                letter.to_ascii_uppercase()
            } else {
                letter
            }
        })
        .collect()
}

impl Template {
    /// Docker's words where the text is no template.
    pub(crate) fn parse(source: &str) -> std::result::Result<Template, String> {
        Template::named("", source)
    }

    /// A template whose errors name it.
    pub(crate) fn named(name: &'static str, source: &str) -> std::result::Result<Template, String> {
        gotmpl_functions()
            .parse(&source.replace(".Label \"", "call .Label \""))
            .map_err(|error| parse_error(&error))?;
        let printing = with_printer(source);
        // `.Label "x"` is a method in Go; here it is a function value.
        let printing = printing.replace(".Label \"", "call .Label \"");
        gotmpl_functions()
            .parse(&printing)
            .map(|parsed| Template {
                parsed,
                source: source.to_owned(),
                name,
            })
            .map_err(|error| parse_error(&error))
    }

    pub(crate) fn render(&self, data: &Value) -> std::result::Result<String, String> {
        self.execute(data, None)
    }

    /// Renders the daemon's JSON as a value of a Go type.
    pub(crate) fn render_typed(
        &self,
        json: &Json,
        shape: &'static Shape,
    ) -> std::result::Result<String, String> {
        let text = self.execute(&shape::typed(json, shape), Some(shape));
        shape::forget();
        text
    }

    fn execute(
        &self,
        data: &Value,
        shape: Option<&'static Shape>,
    ) -> std::result::Result<String, String> {
        let why = match self.parsed.execute_to_string(data) {
            Ok(text) => return Ok(text),
            Err(TemplateError::MissingKey { key }) => missing(&self.source, self.name, &key, shape),
            Err(error) => error.to_string(),
        };
        // Of a map, unlike a struct, anything may be asked for.
        if shape.is_none() || !asks_a_map(&why, data) {
            return Err(why);
        }
        gotmpl_functions()
            .missing_key(MissingKey::default())
            .func("goprint", |args| {
                string(match args.first() {
                    None | Some(Value::Nil) => "<no value>".to_owned(),
                    Some(value) => shape::printed(value),
                })
            })
            .parse(&with_printer(&self.source))
            .and_then(|lenient| lenient.execute_to_string(data))
            .map_err(|error| error.to_string())
    }
}

/// An empty template with Docker's functions.
fn gotmpl_functions() -> gotmpl::Template {
    gotmpl::Template::new("")
        .missing_key(MissingKey::Error)
        .func("json", |args| {
            string(to_json(args.first().unwrap_or(&Value::Nil)).to_string())
        })
        .func("split", |args| {
            let (whole, separator) = (text(args, 0)?, text(args, 1)?);
            let parts = whole.split(separator.as_str());
            Ok(Value::List(
                parts.map(|part| Value::String(part.into())).collect(),
            ))
        })
        .func("join", join)
        .func("title", |args| string(title(&text(args, 0)?)))
        .func("lower", |args| string(text(args, 0)?.to_lowercase()))
        .func("upper", |args| string(text(args, 0)?.to_uppercase()))
        .func("pad", |args| text(args, 0).map(|_| padded(args)))
        .func("truncate", |args| {
            let whole = text(args, 0)?;
            string(whole.get(..number(args, 1)).unwrap_or(&whole))
        })
        .func("goprint", |args| {
            string(shape::printed(args.first().unwrap_or(&Value::Nil)))
        })
}

/// JSON with `indent` per level, members in their order, numbers and escapes as they were.
pub(crate) fn indented(json: &str, indent: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let mut depth = 0;
    let mut letters = json.chars().peekable();
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.push_str(&indent.repeat(depth));
    };
    while let Some(letter) = letters.next() {
        match letter {
            '"' => {
                out.push('"');
                while let Some(inner) = letters.next() {
                    out.push(inner);
                    match inner {
                        '\\' => out.extend(letters.next()),
                        '"' => break,
                        _ => {}
                    }
                }
            }
            '{' | '[' => {
                out.push(letter);
                while letters.next_if(|next| next.is_ascii_whitespace()).is_some() {}
                if let Some(end) = letters.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(end);
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(letter);
            }
            ',' => {
                out.push(',');
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            letter if letter.is_ascii_whitespace() => {}
            letter => out.push(letter),
        }
    }
    out
}
