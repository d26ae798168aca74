//! Remarks beside a command's output: a marked first line, the others below its text.

/// What sort of remark.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Note {
    Info,
    Warn,
}

/// The mark's columns, plain and in colours.
const WIDTH: usize = 9;

/// The remark as text; in colours for a terminal.
pub(crate) fn note(kind: Note, text: &str, terminal: bool) -> String {
    // Letter, its background, colour and word.
    let (letter, background, colour, word) = match kind {
        Note::Info => ('i', 106, 96, "Info"),
        Note::Warn => ('w', 103, 93, "Warn"),
    };
    let mark = if terminal {
        let badge = format!("\x1b[{background}m\x1b[30m{letter}\x1b[0m\x1b[0m");
        format!("\x1b[1m{badge} \x1b[{colour}m{word} → \x1b[0m\x1b[0m")
    } else {
        format!(" {word} -> ")
    };
    let text = match terminal {
        true => text.replace("--platform", "\x1b[1m--platform\x1b[0m"),
        false => text.to_owned(),
    };
    let mut out = format!("\n{mark}");
    for (number, line) in text.split('\n').enumerate() {
        if number > 0 {
            out.push_str(&" ".repeat(WIDTH));
        }
        match terminal {
            true => out.push_str(&format!("\x1b[3m{line}\x1b[0m\n")),
            false => out.push_str(&format!("{line}\n")),
        }
    }
    out
}
