//! Containers over the machine's own files.

use gantry_testkit::Engine;

#[test]
fn the_machines_own_files_are_there_and_stay_as_they_are() {
    let engine = Engine::start();
    // Nothing of the machine's own is touched even if this fails: the test's own folder only.
    let folder = engine.folder().join("host");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("kept"), "as it was").unwrap();
    let (path, kept) = (folder.display(), folder.join("kept"));
    let script = format!(
        "set -e; rm {path}/kept; echo new > {path}/made; ls {path}; cat /etc/os-release | grep ^ID="
    );
    let said = engine
        .gantry(&["run", "--rm", "--rootfs", "/:O", "sh", "-c", &script])
        .ok();
    assert_eq!(said.lines().next(), Some("made"));
    assert!(said.contains("ID="), "{said}");
    assert_eq!(std::fs::read_to_string(kept).unwrap(), "as it was");
    assert!(!folder.join("made").exists());
}

#[test]
fn a_terminal_over_the_machines_own_files() {
    let engine = Engine::start();
    // util-linux' script gives the client a terminal.
    let inner = format!(
        "{} -H {} run -it --rm --rootfs /:O sh -c 'test -t 0 && test -t 1 && echo a terminal'",
        engine.folder().join("gantry").display(),
        engine.host()
    );
    let mut command = std::process::Command::new("script");
    command.args(["-qec", &inner, "/dev/null"]);
    let ran = gantry_testkit::ran(command, b"", std::time::Duration::from_secs(30));
    assert!(ran.ok().contains("a terminal"), "{ran}");
}

#[test]
fn a_folder_that_is_not_there_is_refused() {
    let engine = Engine::start();
    engine
        .gantry(&["run", "--rm", "--rootfs", "/no/such/folder:O", "sh"])
        .fails_with(125);
    engine.serves();
}
