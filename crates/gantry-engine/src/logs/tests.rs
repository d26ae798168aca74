use super::*;
use gantry_runtime::log::LogFormat;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("gantry-logs-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
    fn log(&self) -> PathBuf {
        self.0.join("x-json.log")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn line(text: &str, stream: &str, second: i64) -> String {
    let time = jiff::Timestamp::from_second(second).unwrap();
    format!(
        "{{\"log\":{},\"stream\":\"{stream}\",\"time\":\"{time}\"}}\n",
        serde_json::to_string(text).unwrap()
    )
}

fn all() -> LogOptions {
    LogOptions {
        stdout: true,
        stderr: true,
        ..LogOptions::default()
    }
}

async fn read(
    path: &Path,
    options: LogOptions,
    alive: Option<watch::Receiver<Phase>>,
) -> Vec<Frame> {
    let tail = options.tail;
    let reader = Reader::open(
        path,
        Wanted {
            options,
            most_files: 10,
            format: LogFormat::Json,
        },
        tail,
    )
    .unwrap();
    stream(reader, path.to_owned(), alive).collect().await
}

fn text(frames: &[Frame]) -> String {
    frames
        .iter()
        .map(|f| String::from_utf8_lossy(&f.bytes).into_owned())
        .collect()
}

/// Three files with the numbers 0 to 29.
fn three_files(folder: &Folder) -> PathBuf {
    let log = folder.log();
    for (name, from) in [
        ("x-json.log.2", 0),
        ("x-json.log.1", 10),
        ("x-json.log", 20),
    ] {
        let lines: String = (from..from + 10)
            .map(|n| line(&format!("{n}\n"), "stdout", n))
            .collect();
        std::fs::write(folder.0.join(name), lines).unwrap();
    }
    log
}

#[tokio::test]
async fn all_files_from_the_oldest_on() {
    let folder = Folder::new("all");
    let log = three_files(&folder);
    let expected: String = (0..30).map(|n| format!("{n}\n")).collect();
    assert_eq!(text(&read(&log, all(), None).await), expected);
    assert!(read(Path::new("/nowhere/x"), all(), None).await.is_empty());
}

#[tokio::test]
async fn tail_goes_back_over_files() {
    let folder = Folder::new("tail");
    let log = three_files(&folder);
    for tail in [0, 1, 5, 9, 10, 11, 15, 20, 21, 29, 30, 31, 1000] {
        let options = LogOptions {
            tail: Some(tail),
            ..all()
        };
        let from = 30 - i64::try_from(tail.min(30)).unwrap();
        let expected: String = (from..30).map(|n| format!("{n}\n")).collect();
        assert_eq!(
            text(&read(&log, options, None).await),
            expected,
            "tail {tail}"
        );
    }
}

#[tokio::test]
async fn since_until_and_streams() {
    let folder = Folder::new("since");
    let log = three_files(&folder);
    let mut file = std::fs::File::options().append(true).open(&log).unwrap();
    file.write_all(b"{\"log\":\"torn\n").unwrap();
    file.write_all(line("error\n", "stderr", 30).as_bytes())
        .unwrap();
    let second = 1_000_000_000;
    let options = LogOptions {
        since: Some(8 * second),
        until: Some(11 * second),
        ..all()
    };
    assert_eq!(text(&read(&log, options, None).await), "8\n9\n10\n11\n");
    let options = LogOptions {
        stdout: false,
        ..all()
    };
    let frames = read(&log, options, None).await;
    assert_eq!(
        (frames.len(), frames[0].stream, text(&frames)),
        (1, 2, "error\n".to_owned())
    );
}

#[tokio::test]
async fn times_details_and_parts() {
    let folder = Folder::new("parts");
    let log = folder.log();
    let entry = "{\"log\":\"a\\u003cb \",\"stream\":\"stdout\",\"attrs\":{\"k\":\"v w\",\"l\":\"\"},\"time\":\"2025-01-02T03:04:05.12Z\"}\n";
    std::fs::write(&log, format!("{entry}{}", entry.replace("b ", "c\\n"))).unwrap();
    let options = LogOptions {
        timestamps: true,
        details: true,
        ..all()
    };
    assert_eq!(
        text(&read(&log, options, None).await),
        "2025-01-02T03:04:05.120000000Z k=v+w,l= a<b a<c\n"
    );
}

/// A writer that rotates as the shim does, with a pause now and then so that a follower can keep up with one file.
fn write_numbers(
    log: PathBuf,
    count: u64,
    max_size: u64,
    max_files: u32,
    mut pace: impl FnMut(u64),
) {
    let open = || {
        std::fs::File::options()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap()
    };
    let numbered = |n: u32| PathBuf::from(format!("{}.{n}", log.display()));
    let (mut file, mut size) = (open(), 0);
    for n in 0..count {
        if size >= max_size {
            pace(n);
            for number in (1..max_files.saturating_sub(1)).rev() {
                let _ = std::fs::rename(numbered(number), numbered(number + 1));
            }
            if max_files == 1 {
                std::fs::remove_file(&log).unwrap();
            } else {
                std::fs::rename(&log, numbered(1)).unwrap();
            }
            (file, size) = (open(), 0);
        }
        let text = line(&format!("{n}\n"), "stdout", 0);
        file.write_all(text.as_bytes()).unwrap();
        size += text.len() as u64;
    }
}

async fn follow(max_size: u64, max_files: u32) -> Vec<u64> {
    const COUNT: u64 = 200_000;
    let folder = Folder::new(&format!("follow-{max_size}-{max_files}"));
    let log = folder.log();
    std::fs::write(&log, "").unwrap();
    let (alive, watch) = watch::channel(Phase {
        alive: true,
        ..Phase::default()
    });
    let path = log.clone();
    let reader = tokio::spawn(async move {
        read(
            &path,
            LogOptions {
                follow: true,
                ..all()
            },
            Some(watch),
        )
        .await
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    tokio::task::spawn_blocking(move || write_numbers(log, COUNT, max_size, max_files, |_| {}))
        .await
        .unwrap();
    alive.send_modify(|phase| phase.alive = false);
    let frames = tokio::time::timeout(Duration::from_secs(60), reader)
        .await
        .expect("the stream ends")
        .unwrap();
    let numbers: Vec<u64> = frames
        .iter()
        .map(|f| text(std::slice::from_ref(f)).trim().parse().unwrap())
        .collect();
    assert_eq!(numbers.last(), Some(&(COUNT - 1)));
    assert!(
        numbers.windows(2).all(|pair| pair[0] < pair[1]),
        "lines come once and in order"
    );
    numbers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_loses_nothing_while_the_files_are_there() {
    assert_eq!(follow(100_000, 1_000).await.len(), 200_000);
}

// With one file of a kilobyte what a slow follower has not read is gone, by the user's own wish; it must come to the
// end all the same, in order and without doubles.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_comes_to_the_end_whatever_is_rotated_away() {
    follow(1_000, 1).await;
    follow(1_000, 3).await;
}

#[tokio::test]
async fn a_follower_ends_with_the_last_line_without_a_newline() {
    let folder = Folder::new("end");
    let log = folder.log();
    std::fs::write(&log, line("first\n", "stdout", 1)).unwrap();
    let (alive, watch) = watch::channel(Phase {
        alive: true,
        ..Phase::default()
    });
    let path = log.clone();
    let reader = tokio::spawn(async move { read(&path, all(), Some(watch)).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut file = std::fs::File::options().append(true).open(&log).unwrap();
    file.write_all(line("last", "stdout", 2).as_bytes())
        .unwrap();
    alive.send_modify(|phase| phase.alive = false);
    let frames = tokio::time::timeout(Duration::from_secs(5), reader)
        .await
        .expect("the stream ends")
        .unwrap();
    assert_eq!(text(&frames), "first\nlast");
}
