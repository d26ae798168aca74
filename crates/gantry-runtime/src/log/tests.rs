use super::format::timestamp;
use super::*;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("gantry-log-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
    fn open(&self, max_size: Option<u64>, max_files: u32) -> Log {
        self.open_with(max_size, max_files, &[])
    }
    fn open_with(&self, max_size: Option<u64>, max_files: u32, attrs: &[(&str, &str)]) -> Log {
        let directory: OwnedFd = std::fs::File::open(&self.0).unwrap().into();
        let plan = LogFilePlan {
            dir: 0,
            format: LogFormat::Json,
            compress: false,
            name: "log".to_owned(),
            max_size,
            max_files,
            attrs: attrs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        };
        let plan = LogPlan {
            file: Some(plan),
            remote: None,
        };
        let mut directory = Some(directory);
        Log::open(&plan, |_| {
            Ok::<_, std::io::Error>(directory.take().unwrap())
        })
        .unwrap()
    }
    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap()
    }
    fn texts_of(&self, name: &str) -> Vec<String> {
        let text = self.text(name);
        text.lines()
            .map(|line| {
                let value: serde_json::Value = serde_json::from_str(line).unwrap();
                value["log"].as_str().unwrap().to_owned()
            })
            .collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn at(nanoseconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanoseconds)
}

#[test]
fn a_line_as_docker_writes_it() {
    let folder = Folder::new("line");
    let mut log = folder.open_with(None, 1, &[("a", "x<y"), ("tag", "t")]);
    log.write(
        2,
        b"a\tb\"c\\<>&\xff\xe2\x80\xa8\x7f\r\x1b[0m \xc3\xa9\n",
        at(1_700_000_000_120_000_000),
    );
    assert_eq!(
        folder.text("log"),
        "{\"log\":\"a\\u0009b\\\"c\\\\\\u003c\\u003e\\u0026\\ufffd\\u2028\x7f\\r\\u001b[0m é\\n\",\"stream\":\"stderr\",\
         \"attrs\":{\"a\":\"x\\u003cy\",\"tag\":\"t\"},\"time\":\"2023-11-14T22:13:20.12Z\"}\n"
    );
}

#[test]
fn times_are_the_calendars() {
    for (seconds, nanoseconds) in [
        (0, 0),
        (951_782_400, 1),
        (1_709_164_799, 999_999_999),
        (4_107_542_400, 500),
        (1_700_000_000, 100_000_000),
    ] {
        let mut out = Vec::new();
        timestamp(&mut out, Duration::new(seconds, nanoseconds));
        let expected = jiff::Timestamp::new(seconds as i64, nanoseconds as i32).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected.to_string());
    }
}

#[test]
fn long_lines_are_parts_and_the_last_one_needs_no_newline() {
    let folder = Folder::new("parts");
    let mut log = folder.open(None, 1);
    let mut long = vec![b'x'; 40_000];
    long.push(b'\n');
    // In pieces that fit nothing.
    for piece in long.chunks(7_777) {
        log.write(1, piece, SystemTime::now());
    }
    log.write(2, b"between", SystemTime::now());
    log.write(1, b"end", SystemTime::now());
    drop(log);
    let texts = folder.texts_of("log");
    assert_eq!(
        texts.iter().map(String::len).collect::<Vec<_>>(),
        [16_384, 16_384, 7_233, 3, 7]
    );
    assert!(texts[2].ends_with('\n') && texts[3] == "end" && texts[4] == "between");
}

#[test]
fn a_character_is_not_cut() {
    let folder = Folder::new("character");
    let mut log = folder.open(None, 1);
    let text = format!("{}é€\u{10348}\n", "x".repeat(PART - 1));
    log.write(1, text.as_bytes(), SystemTime::now());
    drop(log);
    assert_eq!(folder.texts_of("log").concat(), text);
    assert_eq!(format::whole_characters(b"\x80\x80\x80\x80"), 4);
}

#[test]
fn rotation_loses_no_line() {
    let folder = Folder::new("rotation");
    let mut log = folder.open(Some(10_000), 400);
    let all: String = (0..20_000).map(|n| format!("line {n}\n")).collect();
    for piece in all.as_bytes().chunks(1_000) {
        log.write(1, piece, SystemTime::now());
    }
    drop(log);
    let mut read = Vec::new();
    let mut files = 0;
    for number in (1..400).rev() {
        let name = format!("log.{number}");
        if Path::new(&folder.0).join(&name).exists() {
            files += 1;
            assert!(folder.text(&name).len() < 10_100);
            read.extend(folder.texts_of(&name));
        }
    }
    read.extend(folder.texts_of("log"));
    assert!(files > 100);
    assert_eq!(read.concat(), all);
}

#[test]
fn no_more_files_than_asked_for() {
    for max_files in [1, 3] {
        let folder = Folder::new(&format!("files{max_files}"));
        let mut log = folder.open(Some(1_000), max_files);
        for n in 0..1_000 {
            log.write(1, format!("{n}\n").as_bytes(), SystemTime::now());
        }
        drop(log);
        assert_eq!(
            std::fs::read_dir(&folder.0).unwrap().count(),
            max_files as usize
        );
        assert_eq!(folder.texts_of("log").last().unwrap(), "999\n");
    }
}

#[test]
fn a_log_is_continued_after_a_torn_entry() {
    let folder = Folder::new("torn");
    std::fs::write(folder.0.join("log"), "{\"log\":\"half").unwrap();
    folder.open(None, 1).write(1, b"whole\n", SystemTime::now());
    let text = folder.text("log");
    assert!(
        text.starts_with("{\"log\":\"half\n{\"log\":\"whole\\n\""),
        "{text}"
    );
}

#[test]
fn a_full_disk_drops_entries_and_counts_them() {
    let folder = Folder::new("full");
    let options = ["-t", "tmpfs", "-o", "size=16k", "gantry-log-test"];
    assert!(
        std::process::Command::new("mount")
            .args(options)
            .arg(&folder.0)
            .status()
            .unwrap()
            .success()
    );
    let mut log = folder.open(None, 1);
    let many: String = (0..1_000).map(|n| format!("line {n}\n")).collect();
    log.write(1, many.as_bytes(), SystemTime::now());
    let dropped = log.dropped();
    let texts = folder.texts_of("log");
    std::fs::File::options()
        .write(true)
        .open(folder.0.join("log"))
        .unwrap()
        .set_len(0)
        .unwrap();
    log.file.as_mut().unwrap().files.set_size(0);
    log.write(1, b"there is room again\n", SystemTime::now());
    let after = folder.texts_of("log");
    drop(log);
    assert!(
        std::process::Command::new("umount")
            .arg(&folder.0)
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(dropped + texts.len() as u64, 1_000);
    assert!(dropped > 100 && texts.len() > 10);
    assert_eq!(after, ["there is room again\n"]);
}

#[test]
fn how_fast() {
    let folder = Folder::new("fast");
    let mut log = folder.open(Some(10_000_000), 3);
    let chunk =
        "a line of some eighty characters, as a program that talks a lot would write it to us\n"
            .repeat(700);
    let start = Instant::now();
    for _ in 0..300 {
        log.write(1, chunk.as_bytes(), SystemTime::now());
    }
    let seconds = start.elapsed().as_secs_f64();
    eprintln!(
        "{:.0} MB/s of output",
        (chunk.len() * 300) as f64 / 1e6 / seconds
    );
}

fn plan(format: LogFormat, max_size: u64, max_files: u32, compress: bool) -> LogFilePlan {
    LogFilePlan {
        dir: 0,
        name: "log".into(),
        format,
        max_size: Some(max_size),
        max_files,
        compress,
        attrs: Vec::new(),
    }
}

fn open_plan(folder: &Folder, file: LogFilePlan) -> Log {
    let plan = LogPlan {
        file: Some(file),
        remote: None,
    };
    let directory: OwnedFd = std::fs::File::open(&folder.0).unwrap().into();
    let mut directory = Some(directory);
    Log::open(&plan, |_| {
        Ok::<_, std::io::Error>(directory.take().unwrap())
    })
    .unwrap()
}

#[test]
fn the_compact_format() {
    let folder = Folder::new("local");
    let mut log = open_plan(&folder, plan(LogFormat::Local, 1 << 20, 1, false));
    log.write(2, b"err\xff\n\n", at(31));
    log.write(1, b"no end", at(1 << 60));
    log.close();
    let bytes = std::fs::read(folder.0.join("log")).unwrap();
    let lines: Vec<&[u8]> = bytes.split(|b| *b == b'\n').collect();
    assert_eq!(lines[0], b"e000000000000verr\xff");
    assert_eq!(lines[1], b"e000000000000v");
    assert!(lines[2].starts_with(b"O") && lines[2].ends_with(b"no end"));
    assert_eq!(lines.len(), 4);
}

#[test]
fn rotated_files_are_compressed_bit_by_bit() {
    use std::io::Read as _;
    let folder = Folder::new("compress");
    let mut log = open_plan(&folder, plan(LogFormat::Local, 200_000, 3, true));
    for n in 0..60_000 {
        log.write(1, format!("line {n}\n").as_bytes(), SystemTime::now());
        while log.deadline().is_some() && n % 7 == 0 {
            log.step();
        }
    }
    log.close();
    let mut names: Vec<String> = std::fs::read_dir(&folder.0)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["log", "log.1.gz", "log.2.gz"]);
    let mut whole = String::new();
    for name in ["log.2.gz", "log.1.gz"] {
        let file = std::fs::File::open(folder.0.join(name)).unwrap();
        flate2::read::GzDecoder::new(file)
            .read_to_string(&mut whole)
            .unwrap();
    }
    whole.push_str(&folder.text("log"));
    let numbers: Vec<u32> = whole.lines().map(|l| l[19..].parse().unwrap()).collect();
    assert!(numbers.windows(2).all(|two| two[0] + 1 == two[1]));
    assert_eq!(numbers.last(), Some(&59_999));
}
