//! The words `table` and `raw`, `--quiet` and the configuration in lists, as Docker's client (28.5.2) takes them.

use super::client;
use super::daemon::{Daemon, json};

const VOLUMES: &str = r#"{"Volumes":[{"Name":"vb","Driver":"local","Mountpoint":"/b","Scope":"local","Labels":null,"Options":null},
    {"Name":"va","Driver":"nfs","Mountpoint":"/a","Scope":"local","Labels":null,"Options":null}],"Warnings":null}"#;
const IMAGES: &str = r#"[{"Id":"sha256:0123456789abcdef","ParentId":"","RepoTags":["one:1"],"RepoDigests":[],"Created":0,
    "Size":2500000,"SharedSize":-1,"Labels":null,"Containers":-1}]"#;

#[test]
fn words_quiet_and_configuration() {
    let daemon = Daemon::start(|_, request, stream| {
        let path = request.line();
        match path {
            path if path.contains("/volumes") => json(stream, "200 OK", VOLUMES),
            path if path.contains("/images/json") => json(stream, "200 OK", IMAGES),
            _ => json(stream, "404 Not Found", "{\"message\":\"nothing\"}"),
        }
    });
    let folder = std::env::temp_dir().join(format!("gantry-lists-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let config = r#"{"volumesFormat":"V {{.Name}}","imagesFormat":"I {{.Tag}}"}"#;
    std::fs::write(folder.join("config.json"), config).unwrap();
    let shows = |line: &str, configured: bool, expected: &str| {
        let mut command = client(&daemon.host());
        if configured {
            command.arg("--config").arg(&folder);
        }
        let ran = command
            .env("TZ", "UTC")
            .args(line.split(' '))
            .output()
            .unwrap();
        assert!(ran.status.success(), "{line}: {ran:?}");
        assert_eq!(String::from_utf8_lossy(&ran.stdout), expected, "{line}");
    };
    let table = "DRIVER    VOLUME NAME\nnfs       va\nlocal     vb\n";
    shows("volume ls", false, table);
    shows("volume ls --format table", true, table);
    shows("volume ls", true, "V va\nV vb\n");
    shows("volume ls -q", true, "va\nvb\n");
    shows("volume ls -q --format table", false, "va\nvb\n");
    shows("volume ls -q --format {{.Driver}}", false, "nfs\nlocal\n");
    shows("volume ls -q --format raw", false, "name: va\nname: vb\n");
    shows(
        "volume ls --format raw",
        false,
        "name: va\ndriver: nfs\n\nname: vb\ndriver: local\n\n",
    );
    shows("images", true, "I 1\n");
    shows("images -q", true, "0123456789ab\n");
    shows("images -q --format table", true, "0123456789ab\n");
    shows("images -q --format raw", false, "image_id: 0123456789ab\n");
    shows("images -q --format {{.Tag}}", false, "1\n");
    let raw = "repository: one\ntag: 1\nimage_id: 0123456789ab\ncreated_at: 1970-01-01 00:00:00 +0000 UTC\nvirtual_size: 2.5MB\n\n";
    shows("images --format raw", true, raw);
    let digests = raw.replace("image_id", "digest: <none>\nimage_id");
    shows("images --digests --format raw", false, &digests);
    std::fs::remove_dir_all(&folder).unwrap();
}
