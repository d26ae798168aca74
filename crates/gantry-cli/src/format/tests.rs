use std::sync::{Arc, Mutex};

use super::*;
use gotmpl::Value;

#[test]
fn sizes_have_as_many_digits_as_dockers() {
    for (bytes, long, short) in [
        (0.0, "0B", "0B"),
        (999.0, "999B", "999B"),
        (1000.0, "1kB", "1kB"),
        (1_984_296.0, "1.984MB", "1.98MB"),
        (123_456_789.0, "123.5MB", "123MB"),
        (999_999.0, "1000kB", "1e+03kB"),
        (4_000_000_000.0, "4GB", "4GB"),
    ] {
        assert_eq!(
            (human_size(bytes), human_size_short(bytes)),
            (long.into(), short.into()),
            "{bytes}"
        );
    }
    assert_eq!(binary_size(25_275_000_000.0), "23.54GiB");
}

#[test]
fn spans_are_told_in_dockers_words() {
    const HOUR: i64 = 3600;
    const DAY: i64 = 24 * HOUR;
    for (seconds, words) in [
        (0, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (120, "2 minutes"),
        (46 * 60, "46 minutes"),
        (HOUR, "About an hour"),
        (HOUR + 1799, "About an hour"),
        (HOUR + 1800, "2 hours"),
        (47 * HOUR, "47 hours"),
        (2 * DAY, "2 days"),
        (13 * DAY, "13 days"),
        (14 * DAY, "2 weeks"),
        (60 * DAY, "2 months"),
        (729 * DAY, "24 months"),
        (730 * DAY, "2 years"),
    ] {
        assert_eq!(times::human_duration(seconds), words, "{seconds}");
    }
}

#[test]
fn points_in_time_are_read_in_many_forms() {
    assert_eq!(parse_when("1700000000").unwrap(), "1700000000");
    assert_eq!(parse_when("1700000000.5").unwrap(), "1700000000.5");
    assert_eq!(
        parse_when("2013-01-02T13:23:37Z").unwrap(),
        "1357133017.000000000"
    );
    assert_eq!(
        parse_when("2013-01-02T13:23:37.5+01:00").unwrap(),
        "1357129417.500000000"
    );
    let ten = parse_when("10m").unwrap();
    let seconds: i64 = ten.split('.').next().unwrap().parse().unwrap();
    assert!((times::now() - seconds - 600).abs() <= 1);
    assert!(parse_when("2013-01-02").is_ok());
    assert!(parse_when("bogus").is_err());
}

#[test]
fn columns_are_set_as_by_gos_tabwriter() {
    let lines = ["A\tBB\tC", "long cell here\tx\ty", "…\tz\t"].map(str::to_owned);
    assert_eq!(
        table::table(&lines),
        "A                BB        C\nlong cell here   x         y\n…                z         \n"
    );
}

#[test]
fn ids_and_commands_are_cut() {
    assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
    assert_eq!(short_id("0123456789abcdef"), "0123456789ab");
    assert_eq!(ellipsis("abc", 3), "abc");
    assert_eq!(ellipsis("abcd", 3), "ab…");
}

fn rendered(template: &str, json: &str) -> Result<String, String> {
    let json: serde_json::Value = serde_json::from_str(json).unwrap();
    Template::parse(template)?.render(&from_json(&json, ""))
}

#[test]
fn templates_have_dockers_functions() {
    let json = r#"{"A":"x y","L":["a","b"],"N":null,"Labels":null,"O":{"k":1,"b":true},"S":"a.b"}"#;
    for (template, text) in [
        (
            "{{.A}} {{upper .A}} {{title .A}} {{lower \"Q\"}}",
            "x y X Y X Y q",
        ),
        (
            "{{json .L}} {{join .L \"-\"}} {{len .L}} {{index .L 1}}",
            r#"["a","b"] a-b 2 b"#,
        ),
        (
            "{{.N}} {{json .N}} {{.Labels}} {{json .Labels}}",
            "[] null map[] null",
        ),
        ("{{range .L}}{{println .}}{{end}}", "a\nb\n"),
        ("{{range split .S \".\"}}<{{.}}>{{end}}", "<a><b>"),
        (
            "{{json .O}} {{.O.k}} {{truncate .A 1}}|{{pad .A 1 2}}|",
            r#"{"b":true,"k":1} 1 x| x y  |"#,
        ),
    ] {
        assert_eq!(rendered(template, json).unwrap(), text, "{template}");
    }
    assert_eq!(
        rendered("{{.O.Foo}}", json).unwrap_err(),
        "template: :1:4: executing \"\" at <.O.Foo>: map has no entry for key \"Foo\""
    );
    assert!(rendered("{{.A", json).is_err());
}

#[test]
fn json_is_indented_as_it_stands() {
    let json = r#"[{"b":1.50,"a":"x: {y}\"","e":{},"l":[ ],"n":[1,{"z":null}]}]"#;
    let expected = [
        "[",
        "  {",
        "    \"b\": 1.50,",
        "    \"a\": \"x: {y}\\\"\",",
        "    \"e\": {},",
        "    \"l\": [],",
        "    \"n\": [",
        "      1,",
        "      {",
        "        \"z\": null",
        "      }",
        "    ]",
        "  }",
        "]",
    ];
    assert_eq!(indented(json, "  ").lines().collect::<Vec<_>>(), expected);
    assert_eq!(indented("[]", "  "), "[]");
}

fn listing() -> Listing {
    let text = |text: &str| Value::String(text.into());
    Listing {
        go: "*formatter.X",
        fields: &[("ID", "IMAGE ID"), ("Name", "NAME")],
        rows: vec![vec![text("1"), text("<a>")], vec![text("2"), text("b")]],
    }
}

#[test]
fn lists_are_tables_or_json_or_templates() {
    let show = |format| listing().render(format, "{{.Name}}\t{{.ID}}").unwrap();
    let table = "NAME      IMAGE ID\n<a>       1\nb         2\n";
    assert_eq!(show(None), table);
    assert_eq!(show(Some("table")), table);
    assert_eq!(
        show(Some(r"table {{.ID}}\t{{upper .Name}}")),
        "IMAGE ID   NAME\n1          <A>\n2          B\n"
    );
    assert_eq!(show(Some(r"{{.ID}}\t{{.Name}}")), "1\t<a>\n2\tb\n");
    assert_eq!(
        show(Some("json")),
        "{\"ID\":\"1\",\"Name\":\"\\u003ca\\u003e\"}\n{\"ID\":\"2\",\"Name\":\"b\"}\n"
    );
    assert!(listing().render(Some("{{.Foo}}"), "").is_err());
}

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);
impl std::io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stream_of_progress_is_shown_plain_where_there_is_no_terminal() {
    let messages = concat!(
        "{\"status\":\"Pulling\",\"id\":\"latest\"}\r\n",
        "{\"status\":\"Downloading\",\"progressDetail\":{\"current\":5,\"total\":10},\"id\":\"aa\"}\r\n",
        "{\"status\":\"Pull complete\",\"progressDetail\":{},\"id\":\"aa\"}\r\n",
        "{\"stream\":\"Loaded image: x\\n\"}\r\n",
    );
    for (terminal, expected) in [
        (
            false,
            "latest: Pulling\naa: Pull complete\nLoaded image: x\n",
        ),
        (
            true,
            "latest: Pulling\n\n\u{1b}[1A\u{1b}[2K\raa: Downloading [=========================>                         ]       5B/10B\r\u{1b}[1B\u{1b}[1A\u{1b}[2K\raa: Pull complete \r\u{1b}[1BLoaded image: x\n",
        ),
    ] {
        let sink = Sink::default();
        let mut display = Display::new(Some(Box::new(sink.clone())), terminal);
        display.width = 200;
        // In the smallest pieces: a message may come apart anywhere.
        for byte in messages.as_bytes().chunks(1) {
            display.feed(byte).unwrap();
        }
        assert_eq!(
            String::from_utf8(sink.0.lock().unwrap().clone()).unwrap(),
            expected
        );
    }
    let mut display = Display::none();
    let failed =
        display.feed(b"{\"errorDetail\":{\"message\":\"no space\"},\"error\":\"no space\"}\r\n");
    assert_eq!(failed.unwrap_err(), "no space");
}

/// What a terminal shows in the end: each line as it was last written.
fn screen(text: &str) -> Vec<String> {
    let (mut lines, mut row) = (vec![String::new()], 0_usize);
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        rest = &rest[letter.len_utf8()..];
        match letter {
            '\n' => {
                row += 1;
                lines.resize(lines.len().max(row + 1), String::new());
            }
            '\r' => {}
            '\u{1b}' => {
                let end = rest.find(|c: char| c.is_ascii_alphabetic()).unwrap();
                let count = rest[1..end].parse().unwrap_or(1);
                match &rest[end..=end] {
                    "A" => row -= count,
                    "B" => row += count,
                    "K" => lines[row].clear(),
                    other => panic!("{other}"),
                }
                rest = &rest[end + 1..];
            }
            letter => lines[row].push(letter),
        }
    }
    lines
}

#[test]
fn many_layers_move_each_on_its_line() {
    let mut messages = "{\"status\":\"Pulling from x\",\"id\":\"1\"}\n".to_owned();
    let line = |id: usize, status: &str, detail: &str| {
        format!("{{\"status\":\"{status}\",\"progressDetail\":{detail},\"id\":\"layer{id}\"}}\n")
    };
    for id in 0..40 {
        messages.push_str(&line(id, "Pulling fs layer", "{}"));
    }
    for id in (0..40).rev() {
        messages.push_str(&line(id, "Downloading", "{\"current\":30,\"total\":60}"));
        messages.push_str(&line(id, "Extracting", "{\"current\":2,\"units\":\"s\"}"));
    }
    messages.push_str(&line(3, "Pull complete", "{}"));
    messages.push_str(&line(
        4,
        "Extracting",
        "{\"current\":1,\"total\":4,\"units\":\"files\"}",
    ));
    messages.push_str(&line(
        5,
        "Extracting",
        "{\"current\":1,\"total\":4,\"hidecounts\":true}",
    ));
    messages.push_str("{\"status\":\"Digest: d\"}\n");
    messages.push_str("{\"aux\":{\"Tag\":\"1\"}}\n");
    let sink = Sink::default();
    let mut display = Display::new(Some(Box::new(sink.clone())), true);
    display.width = 80;
    display.feed(messages.as_bytes()).unwrap();
    let shown = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
    let shown = screen(&shown);
    assert_eq!(shown.len(), 43, "{shown:?}");
    assert_eq!(shown[0], "1: Pulling from x");
    for (row, line) in shown[1..41].iter().enumerate() {
        let expected = match row {
            3 => "layer3: Pull complete ".to_owned(),
            4 => "layer4: Extracting 1/4 files".to_owned(),
            5 => "layer5: Extracting ".to_owned(),
            row => format!("layer{row}: Extracting 2 s"),
        };
        assert_eq!(*line, expected);
    }
    assert_eq!(shown[41], "Digest: d");
    assert_eq!(shown[42], "");
}
