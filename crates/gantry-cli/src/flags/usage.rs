//! The options part of a help text, laid out as pflag's `FlagUsagesWrapped` does.

use super::Spec;

const NARROWEST: usize = 24;
const SLOP: usize = 5;

/// One line a flag, names to the left, help wrapped to `width` columns at the right.
pub(crate) fn options_text(specs: &[Spec], width: usize) -> String {
    let mut specs: Vec<&Spec> = specs.iter().filter(|spec| !spec.help.is_empty()).collect();
    specs.sort_by_key(|spec| spec.long);
    let names: Vec<String> = specs.iter().map(|spec| names(spec)).collect();
    let column = names.iter().map(String::len).max().unwrap_or(0) + 3;
    let mut text = String::new();
    for (name, spec) in names.iter().zip(&specs) {
        text.push_str(name);
        text.push_str(&" ".repeat(column - name.len()));
        let room = width.saturating_sub(column).max(NARROWEST);
        let mut help = paragraphs(spec.help);
        if !spec.default.is_empty() {
            let quote = if spec.kind == "string" { "\"" } else { "" };
            help.push_str(&format!(" (default {quote}{}{quote})", spec.default));
        }
        let lines = wrap(&help, room);
        text.push_str(&lines.join(&format!("\n{}", " ".repeat(column))));
        text.push('\n');
    }
    text
}

fn names(spec: &Spec) -> String {
    let mut name = if spec.short.is_empty() {
        format!("      --{}", spec.long)
    } else {
        format!("  -{}, --{}", spec.short, spec.long)
    };
    if !spec.kind.is_empty() {
        name.push(' ');
        name.push_str(spec.kind);
    }
    name
}

/// Doc comment lines to paragraphs: lines run on, an empty line breaks.
fn paragraphs(help: &str) -> String {
    let mut text = String::new();
    let mut fresh = true;
    for line in help
        .lines()
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
    {
        if line.is_empty() {
            text.push('\n');
            fresh = true;
            continue;
        }
        if !fresh {
            text.push(' ');
        }
        text.push_str(line);
        fresh = false;
    }
    text
}

/// Breaks `text` at spaces so that lines stay within `room`; up to [`SLOP`] columns are kept free for a
/// last word that would else stand alone.
fn wrap(text: &str, room: usize) -> Vec<String> {
    let room = room - SLOP;
    let mut lines = Vec::new();
    let mut rest = text;
    while rest.len() >= room + SLOP {
        let head = &rest[..rest.floor_char_boundary(room)];
        let Some(space) = head.rfind([' ', '\n']).filter(|at| *at > 0) else {
            break;
        };
        // A break of the text's own comes first.
        let at = head.rfind('\n').filter(|at| *at > 0).unwrap_or(space);
        lines.extend(head[..at].split('\n').map(str::to_owned));
        rest = &rest[at + 1..];
    }
    if !rest.is_empty() {
        lines.extend(rest.split('\n').map(str::to_owned));
    }
    lines
}
