//! `gantry images --tree`: what each name stands for, platform by platform.

use std::io::IsTerminal;

use gantry_api::image::{ImageSummary, ManifestSummary};
use gantry_oci::manifest::Platform;

use crate::format::{human_size_short, short_id};

/// Spaces between two columns.
const GAP: usize = 3;
/// A terminal of unknown width.
const WIDTH: usize = 80;
const NARROWEST: usize = 20;
/// Names get at least so much, or columns go.
const SHORTEST_NAME: usize = 12;

const RESET: &str = "\x1b[0m";
const TITLE: &str = "\x1b[39m\x1b[1m";
const NAME: &str = "\x1b[34m\x1b[1m";
const PLAIN: &str = "\x1b[39m";
const FAINT: &str = "\x1b[39m\x1b[2m";
const WARNING: &str =
    "WARNING: This is an experimental feature. The output may change and shouldn't be depended on.";
const UNTAGGED: &str = "<untagged>";

/// One line's figures.
struct Details {
    id: String,
    usage: i64,
    content: i64,
    in_use: bool,
}

struct Child {
    platform: String,
    available: bool,
    details: Details,
}

struct Top {
    names: Vec<String>,
    created: i64,
    details: Details,
    children: Vec<Child>,
}

fn child(of: &ManifestSummary) -> Option<Child> {
    let data = of.image_data.as_ref().filter(|_| of.kind == "image")?;
    let platform = &data.platform;
    Some(Child {
        platform: Platform::of(&platform.os, &platform.architecture, &platform.variant).to_string(),
        available: of.available,
        details: Details {
            id: of.id.clone(),
            usage: of.size.total,
            content: of.size.content,
            in_use: !data.containers.is_empty(),
        },
    })
}

fn top(of: &ImageSummary) -> Top {
    let children: Vec<Child> = of.manifests.iter().filter_map(child).collect();
    let mut names = of.repo_tags.clone().unwrap_or_default();
    names.sort();
    Top {
        names,
        created: of.created,
        details: Details {
            id: of.id.clone(),
            usage: of.size,
            content: of.manifests.iter().map(|one| one.size.content).sum(),
            in_use: of.containers > 0 || children.iter().any(|child| child.details.in_use),
        },
        children,
    }
}

/// A column behind the names.
struct Column {
    title: &'static str,
    width: usize,
    right: bool,
    value: fn(&Details) -> String,
}

const COLUMNS: [Column; 3] = [
    Column {
        title: "ID",
        width: 12,
        right: false,
        value: |of| short_id(&of.id).to_owned(),
    },
    Column {
        title: "DISK USAGE",
        width: 10,
        right: true,
        value: |of| human_size_short(of.usage as f64),
    },
    Column {
        title: "CONTENT SIZE",
        width: 12,
        right: true,
        value: |of| human_size_short(of.content as f64),
    },
];
const EXTRA: &str = "EXTRA";

/// How it is drawn.
struct View {
    color: bool,
    /// Of the first column.
    name: usize,
    /// How many of the others there is room for; with one more, that of the chips.
    columns: usize,
    /// Some image is in use.
    chips: bool,
}

impl View {
    fn painted(&self, code: &str, text: &str) -> String {
        match self.color {
            true => format!("{code}{text}{RESET}"),
            false => text.to_owned(),
        }
    }

    /// A text in a column; what is too long ends in an ellipsis.
    fn cell(&self, code: &str, text: &str, width: usize, right: bool) -> String {
        let long = text.chars().count();
        if long > width {
            let cut: String = text.chars().take(width.saturating_sub(1)).collect();
            return self.painted(code, &format!("{cut}…"));
        }
        let (shown, room) = (self.painted(code, text), " ".repeat(width - long));
        match right {
            true => room + &shown,
            false => shown + &room,
        }
    }

    fn details(&self, code: &str, of: &Details) -> String {
        let gap = " ".repeat(GAP);
        let mut text = String::new();
        for column in COLUMNS.iter().take(self.columns) {
            let value = (column.value)(of);
            text.push_str(&gap);
            text.push_str(&self.cell(code, &value, column.width, column.right));
        }
        if self.columns > COLUMNS.len() {
            let chip = match (self.chips, of.in_use) {
                (false, _) => (String::new(), 0),
                (true, true) => (chip(self.color), if self.color { 3 } else { 1 }),
                (true, false) => (
                    " ".repeat(if self.color { 3 } else { 1 }),
                    if self.color { 3 } else { 1 },
                ),
            };
            text.push_str(&format!(
                "{gap}{}{}",
                chip.0,
                " ".repeat(EXTRA.len() - chip.1)
            ));
        }
        text
    }

    fn titles(&self) -> String {
        // COMPAT: titles are bold wherever they go.
        let title = |text: &str, width: usize, right: bool| {
            let room = " ".repeat(width - text.len());
            match right {
                true => format!("{room}{TITLE}{text}{RESET}"),
                false => format!("{TITLE}{text}{RESET}{room}"),
            }
        };
        let mut text = title("IMAGE", self.name, false);
        for column in COLUMNS.iter().take(self.columns) {
            text.push_str(&" ".repeat(GAP));
            text.push_str(&title(column.title, column.width, column.right));
        }
        if self.columns > COLUMNS.len() {
            text.push_str(&" ".repeat(GAP));
            text.push_str(&title(EXTRA, EXTRA.len(), false));
        }
        text
    }

    fn image(&self, of: &Top, spaced: bool) -> String {
        let mut text = String::new();
        match of.names.split_last() {
            None => text.push_str(&self.cell(FAINT, UNTAGGED, self.name, false)),
            Some((last, before)) => {
                for name in before {
                    text.push_str(&self.painted(NAME, name));
                    text.push('\n');
                }
                text.push_str(&self.cell(NAME, last, self.name, false));
            }
        }
        text.push_str(&self.details(PLAIN, &of.details));
        if spaced {
            text.push('\n');
        }
        for (at, child) in of.children.iter().enumerate() {
            let code = if child.available { PLAIN } else { FAINT };
            let branch = match at + 1 == of.children.len() {
                true => "└─ ",
                false => "├─ ",
            };
            let shown = format!("{branch}{}", child.platform);
            text.push_str(&self.cell(code, &shown, self.name, false));
            text.push_str(&self.details(code, &child.details));
            text.push('\n');
        }
        text + "\n"
    }
}

/// The sign of an image in use.
fn chip(color: bool) -> String {
    match color {
        true => format!("\x1b[38;5;0m\x1b[48;5;14m U {RESET}"),
        false => "U".to_owned(),
    }
}

/// What the signs mean, at the right.
fn legend(color: bool, width: usize) -> String {
    let (head, long) = match color {
        true => (
            format!("\x1b[1m\x1b[106m\x1b[30mi{RESET}{RESET} \x1b[96mInfo → {RESET}{RESET}"),
            "i Info →  U  In Use ".len() - "→".len() + 1,
        ),
        false => (" Info -> ".to_owned(), " Info ->  U In Use".len()),
    };
    let room = " ".repeat(width.saturating_sub(long));
    format!("{room}{head} {} In Use", chip(color))
}

/// Draws the images for standard output. `all`: those without a name, too.
pub(super) fn drawn(images: &[ImageSummary], all: bool) -> String {
    let terminal = std::io::stdout().is_terminal();
    let color = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let columns = crate::stream::columns().filter(|_| terminal);
    draw(images, all, color, columns)
}

fn draw(images: &[ImageSummary], all: bool, color: bool, columns: Option<usize>) -> String {
    let width = columns.unwrap_or(WIDTH).max(NARROWEST);
    let mut tops: Vec<Top> = images.iter().map(top).collect();
    tops.retain(|top| all || !top.names.is_empty());
    tops.sort_by_key(|top| std::cmp::Reverse(top.created));
    let spaced = tops.iter().any(|top| !top.children.is_empty());
    let (name, columns) = room(&tops, width);
    let view = View {
        color,
        name,
        columns,
        chips: tops.iter().any(|top| top.details.in_use),
    };
    let mut text = match color {
        true => format!("\x1b[93m{WARNING}{RESET}\n"),
        false => format!("{WARNING}\n"),
    };
    text.push_str(&format!(
        "{} \n\n{}\n",
        legend(color, width - 1),
        view.titles()
    ));
    for top in &tops {
        text.push_str(&view.image(top, spaced));
    }
    text
}

/// The width of the names, and how many columns there is room for beside them.
fn room(tops: &[Top], width: usize) -> (usize, usize) {
    let widths = COLUMNS
        .iter()
        .map(|column| column.width)
        .chain([EXTRA.len()]);
    let (mut left, mut columns) = (width, 0);
    for column in widths {
        match left.checked_sub(column + GAP) {
            Some(rest) if rest >= SHORTEST_NAME => left = rest,
            _ => break,
        }
        columns += 1;
    }
    // COMPAT: the lines of a branch count as they are encoded, and who has no name does not count.
    let branches = tops.iter().flat_map(|top| &top.children);
    let branches = branches.map(|child| child.platform.len() + "└─ ".len());
    let names = tops.iter().flat_map(|top| &top.names).map(String::len);
    let widest = branches.chain(names).max().unwrap_or(0).max("IMAGE".len());
    (left.min(widest), columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images() -> Vec<ImageSummary> {
        serde_json::from_str(
            r#"[{"Containers":0,"Created":2,"Id":"sha256:aaaaaaaaaaaaaaaa","RepoTags":["multi:1","a/name:latest"],"Size":12345678,
            "Manifests":[
              {"ID":"sha256:1111111111111111","Available":true,"Size":{"Content":3000,"Total":10003000},"Kind":"image",
               "ImageData":{"Platform":{"architecture":"amd64","os":"linux"},"Containers":["abc"]}},
              {"ID":"sha256:2222222222222222","Kind":"image",
               "ImageData":{"Platform":{"architecture":"arm64","os":"linux","variant":"v8"},"Containers":[]}},
              {"ID":"sha256:3333","Size":{"Content":500,"Total":500},"Kind":"attestation","AttestationData":{"For":"x"}}]},
            {"Created":1,"Id":"sha256:bbbbbbbbbbbbbbbb","RepoTags":[],"Size":999}]"#,
        )
        .unwrap()
    }

    /// What Docker's client shows for the same answer.
    #[test]
    fn platforms_hang_below_their_names() {
        let text = draw(&images(), false, false, None);
        let text = text.replace(TITLE, "").replace(RESET, "");
        let lines: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(lines[0], format!("{} Info ->  U In Use ", " ".repeat(61)));
        assert_eq!(
            lines[2..],
            [
                "IMAGE                   ID             DISK USAGE   CONTENT SIZE   EXTRA",
                "a/name:latest",
                "multi:1                 aaaaaaaaaaaa       12.3MB          3.5kB   U    ",
                "├─ linux/amd64          111111111111         10MB            3kB   U    ",
                "└─ linux/arm64/v8       222222222222           0B             0B        ",
                ""
            ]
        );
        let all = draw(&images(), true, false, None);
        assert!(
            all.contains("\n<untagged>              bbbbbbbbbbbb         999B"),
            "{all}"
        );
    }

    #[test]
    fn a_narrow_terminal_has_fewer_columns() {
        let text = draw(&images(), false, true, Some(45));
        assert!(
            text.contains("DISK USAGE") && !text.contains("CONTENT SIZE"),
            "{text}"
        );
        let narrow = draw(&images(), false, true, Some(25));
        assert!(!narrow.contains("\x1b[1mID"), "{narrow}");
    }
}
