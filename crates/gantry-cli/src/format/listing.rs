//! A list of things by `--format`: a table, JSON lines, or a template per thing.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::Value;

use super::table::table;
use super::template::{Template, padded};

/// A list of things with the same fields.
#[derive(Debug)]
pub(crate) struct Listing {
    /// Field and its heading, in alphabetical order of the fields (which is that of `json`).
    pub(crate) fields: &'static [(&'static str, &'static str)],
    /// What Go calls the type of a row.
    pub(crate) go: &'static str,
    /// One value a field.
    pub(crate) rows: Vec<Vec<Value>>,
}

impl Listing {
    /// `format` as the user wrote it; `default` is the template of the plain table.
    pub(crate) fn render(&self, format: Option<&str>, default: &str) -> Result<String, String> {
        let format = format
            .map(|format| format.trim_matches(' '))
            .filter(|format| !format.is_empty());
        if let Some(format) = format.filter(|_| self.go == CONTAINERS) {
            let blank: Vec<Value> = self.fields.iter().map(blank).collect();
            let text = self.parse(&unescape(format))?.render(&self.data(&blank));
            text.map_err(|why| self.wrong(&why))?;
        }
        match format {
            None | Some("table") => self.table(default),
            // COMPAT: a list's JSON is escaped for HTML, as Go does unless told otherwise.
            Some("json") => Ok(escaped(&self.lines(&Template::parse("{{json .}}")?)?)),
            Some(format) if WHOLE.contains(&format) => {
                Ok(escaped(&self.lines(&Template::parse("{{json .}}")?)?))
            }
            Some(format) => match format.strip_prefix("table ") {
                Some(template) => self.table(template),
                None => self.lines(&self.parse(&unescape(format))?),
            },
        }
    }

    /// The rows as data of a template that shows several lists.
    pub(crate) fn values(&self) -> Value {
        Value::List(self.rows.iter().map(|row| self.data(row)).collect())
    }

    fn lines(&self, template: &Template) -> Result<String, String> {
        let mut text = String::new();
        for row in &self.rows {
            let line = template.render(&self.data(row));
            text.push_str(&line.map_err(|why| self.wrong(&why))?);
            text.push('\n');
        }
        Ok(text)
    }

    fn table(&self, template: &str) -> Result<String, String> {
        let source = unescape(template.trim());
        let template = self.parse(&source)?;
        let mut lines = vec![self.heading(&source)?];
        if let Some(pieces) = self.plain(&source) {
            let rows = self.rows.iter().map(|row| filled(&pieces, row));
            lines.extend(rows.flat_map(|text| {
                let lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
                lines
            }));
            return Ok(table(&lines));
        }
        for row in &self.rows {
            let text = template.render(&self.data(row));
            let text = text.map_err(|why| self.wrong(&why))?;
            lines.extend(text.split('\n').map(str::to_owned));
        }
        Ok(table(&lines))
    }

    /// The pieces of a template that only puts texts of a row side by side, as the usual tables do: hundreds of rows are
    /// filled in without the template engine.
    fn plain<'a>(&self, source: &'a str) -> Option<Vec<Piece<'a>>> {
        let mut pieces = Vec::new();
        let mut rest = source;
        while let Some((before, after)) = rest.split_once("{{") {
            let (name, behind) = after.strip_prefix('.')?.split_once("}}")?;
            let column = self.fields.iter().position(|(field, _)| *field == name)?;
            let texts = |row: &Vec<Value>| matches!(row.get(column), Some(Value::String(_)));
            if !self.rows.iter().all(texts) {
                return None;
            }
            pieces.push(Piece::Text(before));
            pieces.push(Piece::Column(column));
            rest = behind;
        }
        pieces.push(Piece::Text(rest));
        Some(pieces)
    }

    /// The template run over the headings; functions leave a heading alone.
    fn heading(&self, source: &str) -> Result<String, String> {
        let headings = self
            .fields
            .iter()
            .map(|(field, heading)| (Arc::from(*field), Value::String((*heading).into())));
        let mut plain = gotmpl::Template::new("");
        for name in [
            "json", "split", "join", "title", "lower", "upper", "truncate",
        ] {
            plain = plain.func(name, |args| Ok(args.first().cloned().unwrap_or(Value::Nil)));
        }
        // So that columns stay aligned.
        plain = plain.func("pad", |args| Ok(padded(args)));
        // The heading of a label is its name.
        let mut data: BTreeMap<Arc<str>, Value> = headings.collect();
        data.insert(
            "Label".into(),
            Value::Function(Arc::new(|args| {
                let name = args.first().and_then(Value::as_str).unwrap_or_default();
                let last = name.rsplit('.').next().unwrap_or_default();
                Ok(Value::String(last.replace(['-', '_'], " ").into()))
            })),
        );
        plain
            .parse(&source.replace(".Label \"", "call .Label \""))
            .map_err(|error| format!("failed to parse template: {error}"))?
            .execute_to_string(&Value::Map(Arc::new(data)))
            .map_err(|error| error.to_string())
    }

    /// Docker's words for what a template asks for in vain.
    fn wrong(&self, why: &str) -> String {
        let why = match why.split_once(": map has no entry for key \"") {
            Some((place, key)) => {
                let (key, go) = (key.trim_end_matches('"'), self.go);
                format!("{place}: can't evaluate field {key} in type {go}")
            }
            None => why.to_owned(),
        };
        format!("{}: {why}", self.failed("failed to execute template"))
    }

    /// COMPAT: of containers the client runs a template once more ahead, with words of its own where that fails.
    fn failed(&self, words: &'static str) -> &'static str {
        if self.go == CONTAINERS {
            words
        } else {
            "template parsing error"
        }
    }

    fn parse(&self, source: &str) -> Result<Template, String> {
        Template::parse(source)
            .map_err(|why| format!("{}: {why}", self.failed("failed to parse template")))
    }

    fn data(&self, row: &[Value]) -> Value {
        Value::Map(Arc::new(
            self.fields
                .iter()
                .zip(row)
                .map(|((field, _), value)| (Arc::from(*field), value.clone()))
                .collect(),
        ))
    }
}

/// What `.Label "name"` calls.
pub(crate) fn by_label(labels: BTreeMap<String, String>) -> Value {
    Value::Function(Arc::new(move |args| {
        let key = args.first().and_then(Value::as_str).unwrap_or_default();
        Ok(Value::String(
            labels.get(key).map_or("", String::as_str).into(),
        ))
    }))
}

/// A part of a template without functions.
#[derive(Debug)]
enum Piece<'a> {
    Text(&'a str),
    Column(usize),
}

fn filled(pieces: &[Piece<'_>], row: &[Value]) -> String {
    let texts = pieces.iter().map(|piece| match piece {
        Piece::Text(text) => text,
        Piece::Column(at) => row.get(*at).and_then(Value::as_str).unwrap_or_default(),
    });
    texts.collect()
}

/// Rows of this type have their template run once ahead.
const CONTAINERS: &str = "*formatter.ContainerContext";

/// A value to run a template with ahead of the true ones.
fn blank((field, _): &(&str, &str)) -> Value {
    match *field {
        "Label" => Value::Function(Arc::new(|_| Ok(Value::String("".into())))),
        _ => Value::String("".into()),
    }
}

/// Templates that show a thing whole.
const WHOLE: [&str; 2] = ["{{json .}}", "{{ json . }}"];

/// `\t` and `\n` as people type them in a shell.
fn unescape(format: &str) -> String {
    format.replace("\\t", "\t").replace("\\n", "\n")
}

/// With the letters that mean something in HTML as Go writes them.
pub(crate) fn escaped(json: &str) -> String {
    json.replace('&', "\\u0026")
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
}
