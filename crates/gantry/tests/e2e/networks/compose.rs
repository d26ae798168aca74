//! Docker Compose: three networks, aliases, an address of one's own, a published port.

use super::{PATIENCE, Site};
use gantry_testkit::{Machine, compose_cli, ran};
use std::process::Command;
use std::time::Duration;

const FILE: &str = r#"
name: town
services:
  web:
    image: busybox
    command: sh -c "mkdir /w; echo web > /w/index.html; exec httpd -f -h /w -p 80"
    ports: ["8080:80", "127.0.0.1:8081:80"]
    networks:
      front: {}
      back: {ipv4_address: 172.28.5.10}
    depends_on: [db]
  db:
    image: busybox
    command: sh -c "mkdir /w; echo db > /w/index.html; exec httpd -f -h /w -p 80"
    networks:
      back: {aliases: [data, store]}
      inner: {}
  cron:
    image: busybox
    command: sleep 10000
    networks: [inner]
networks:
  front: {}
  back:
    driver_opts: {com.docker.network.driver.mtu: "1400"}
    ipam: {config: [{subnet: 172.28.5.0/24, gateway: 172.28.5.1}]}
  inner: {internal: true}
"#;

#[test]
fn a_compose_file_with_three_networks() {
    let site = Site::new();
    let file = site.engine.folder().join("compose.yaml");
    std::fs::write(&file, FILE).unwrap();
    let compose = |words: &[&str]| {
        let mut command = Command::new(compose_cli());
        command
            .arg("-f")
            .arg(&file)
            .args(words)
            .env("DOCKER_HOST", site.engine.host())
            .env("HOME", site.engine.folder());
        ran(command, b"", Duration::from_secs(120))
    };
    compose(&["up", "-d"]).ok();
    // A second time there is nothing to do.
    let again = compose(&["up", "-d"]);
    assert_eq!(again.code, 0, "{again}");
    assert!(!again.stderr.contains("Recreate"), "{again}");
    let address = format!("{}:8080/", Machine::ADDRESS);
    gantry_testkit::until("the web answers", PATIENCE, || {
        site.outside_fetch(&address) == "web"
    });
    assert_eq!(site.host_fetch("127.0.0.1:8081/"), "web");
    assert_eq!(site.address("town-web-1", "town_back"), "172.28.5.10");
    for name in ["db", "data", "store"] {
        assert_eq!(
            site.fetch("town-web-1", &format!("{name}/")),
            "db",
            "{name}"
        );
    }
    assert_eq!(site.fetch("town-cron-1", "db/"), "db");
    assert_eq!(site.fetch("town-cron-1", "web/"), "");
    assert_eq!(site.fetch("town-cron-1", "172.28.5.10/"), "");
    let link = site.shell("town-web-1", "ip link").ok();
    assert!(link.contains("mtu 1400"), "{link}");
    let ping = format!("ping -c 1 -W 1 {}", Machine::OUTSIDE);
    assert_eq!(site.shell("town-web-1", &ping).code, 0);
    assert_ne!(site.shell("town-cron-1", &ping).code, 0);
    let listed =
        site.ok("network ls --filter label=com.docker.compose.project=town --format {{.Name}}");
    assert_eq!(listed, "town_back\ntown_front\ntown_inner");
    // A service with other networks is made anew; the rest stays.
    std::fs::write(
        &file,
        FILE.replace("networks: [inner]", "networks: [inner, front]"),
    )
    .unwrap();
    compose(&["up", "-d"]).ok();
    assert_eq!(site.fetch("town-cron-1", "web/"), "web");
    compose(&["down", "-t", "0"]).ok();
    assert_eq!(site.ok("ps -aq"), "");
    assert_eq!(site.ok("network ls -q").lines().count(), 3);
    assert_eq!(site.engine.links(), Vec::<String>::new());
}
