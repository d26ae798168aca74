//! Streams: both outputs whole, input and its end, the terminal, the log.

use crate::kit::Place;
use gantry_runtime::spawn::Streams;
use libtest_mimic::Trial;
use std::io::{Read, Write};
use std::net::Shutdown;

pub(crate) fn all() -> Vec<Trial> {
    vec![
        Trial::test("ten_megabytes_on_both_streams", both),
        Trial::test("the_end_of_input", end_of_input),
        Trial::test("a_terminal_of_the_right_size", terminal),
    ]
}

type Outcome = Result<(), libtest_mimic::Failed>;
const ALL: Streams = Streams {
    stdin: true,
    stdout: true,
    stderr: true,
};

/// Splits frames into the two streams.
fn split(bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut out, mut err, mut rest) = (Vec::new(), Vec::new(), bytes);
    while !rest.is_empty() {
        let size = u32::from_be_bytes([rest[4], rest[5], rest[6], rest[7]]) as usize;
        let target = if rest[0] == 1 { &mut out } else { &mut err };
        target.extend_from_slice(&rest[8..8 + size]);
        rest = &rest[8 + size..];
    }
    (out, err)
}

fn both() -> Outcome {
    let script = "dd if=/dev/zero bs=65536 count=160 2>/dev/null & dd if=/dev/zero bs=65536 count=160 >&2 2>/dev/null; wait";
    let mut place = Place::new(&["sh", "-c", script]);
    place.log = false;
    let mut client = place.attach(ALL);
    let started = place.start()?;
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes)?;
    let (out, err) = split(&bytes);
    assert_eq!((out.len(), err.len()), (10 << 20, 10 << 20));
    assert!(out.iter().chain(&err).all(|b| *b == 0));
    assert_eq!(started.watch.wait()?.map(|e| e.code), Some(0));
    Ok(())
}

fn end_of_input() -> Outcome {
    let mut place = Place::new(&["sh", "-c", "cat; echo end"]);
    place.stdio.open_stdin = true;
    place.stdio.stdin_once = true;
    let mut client = place.attach(ALL);
    let started = place.start()?;
    let data: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let mut writer = client.try_clone()?;
    let sent = data.clone();
    let thread = std::thread::spawn(move || {
        writer.write_all(&sent).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes)?;
    thread.join().unwrap();
    let (out, _) = split(&bytes);
    assert_eq!(out.len(), data.len() + 4);
    assert!(out.starts_with(&data) && out.ends_with(b"end\n"));
    assert_eq!(started.watch.wait()?.map(|e| e.code), Some(0));
    place.assert_gone();
    Ok(())
}

fn terminal() -> Outcome {
    let mut place = Place::new(&[
        "sh",
        "-c",
        "stty size; test -t 0 && echo tty; read x; stty size; echo got $x",
    ]);
    place.stdio.tty = true;
    place.stdio.open_stdin = true;
    place.stdio.console_size = Some((11, 22));
    let mut client = place.attach(ALL);
    let started = place.start()?;
    let mut text = String::new();
    let mut chunk = [0_u8; 256];
    while !text.contains("tty") {
        let n = client.read(&mut chunk)?;
        text.push_str(&String::from_utf8_lossy(&chunk[..n]));
    }
    assert!(text.starts_with("11 22\r\n"), "{text}");
    gantry_runtime::shim_client::resize(&place.run_dir(), 33, 44)?;
    client.write_all(b"hello\n")?;
    let mut rest = Vec::new();
    client.read_to_end(&mut rest)?;
    let rest = String::from_utf8_lossy(&rest).into_owned();
    assert!(
        rest.contains("33 44\r\n") && rest.contains("got hello\r\n"),
        "{rest}"
    );
    assert_eq!(started.watch.wait()?.map(|e| e.code), Some(0));
    place.assert_gone();
    Ok(())
}
