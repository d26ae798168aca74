//! A list of things by `--format`: a table, JSON lines, or a template per thing.

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
        match format {
            None | Some("table") => self.table(default),
            // COMPAT: a list's JSON is escaped for HTML, as Go does unless told otherwise.
            Some("json") => Ok(escaped(&self.lines(&Template::parse("{{json .}}")?)?)),
            Some(format) if WHOLE.contains(&format) => {
                Ok(escaped(&self.lines(&Template::parse("{{json .}}")?)?))
            }
            Some(format) => match format.strip_prefix("table ") {
                Some(template) => self.table(template),
                None => self.lines(&parse(&unescape(format))?),
            },
        }
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
        let mut lines = vec![self.heading(&source)?];
        let template = parse(&source)?;
        for row in &self.rows {
            let text = template.render(&self.data(row));
            let text = text.map_err(|why| self.wrong(&why))?;
            lines.extend(text.split('\n').map(str::to_owned));
        }
        Ok(table(&lines))
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
        let mut data: std::collections::BTreeMap<Arc<str>, Value> = headings.collect();
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
        format!("failed to execute template: {why}")
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

/// Templates that show a thing whole.
const WHOLE: [&str; 2] = ["{{json .}}", "{{ json . }}"];

/// `\t` and `\n` as people type them in a shell.
fn unescape(format: &str) -> String {
    format.replace("\\t", "\t").replace("\\n", "\n")
}

fn parse(source: &str) -> Result<Template, String> {
    Template::parse(source).map_err(|why| format!("failed to parse template: {why}"))
}

fn escaped(json: &str) -> String {
    json.replace('&', "\\u0026")
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
}
