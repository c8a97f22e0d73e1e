//! Both containers behind a real Traefik with the site's own file, and the site's other files beside them: names, TLS,
//! who the client is, health, fail2ban on what the applications log, and state saved and put back. Jellyfin is the
//! stand-in of its packages.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::application::{self, make_storage};
use crate::boot::{public_name, restored_from};
use crate::container::Container;
use crate::jellyfin::{DOWNLOADS, built};
use crate::jellyfin_stand_in::reads_media_and_writes_none;
use crate::pct::Config;
use crate::traefik::{self, Traefik};
use crate::world::{World, expect_success, facts, has_program, read, set_mode};
use crate::{Site, archive, node_for, prepared, restore, site_file, support};

/// A client somewhere on the internet.
const CLIENT: &str = "203.0.113.7";

/// `pct` as far as scripts of the site use it, for containers that LXC runs here under names of their own.
const PCT: &str = r#"#!/bin/sh
set -eu
case $2 in
@NAMES@
*) exit 2 ;;
esac
case $1 in
status)
    if lxc-info -P /mnt/lxc -n "$name" -s | grep -q RUNNING; then echo "status: running"; else echo "status: stopped"; fi
    ;;
shutdown) lxc-stop -P /mnt/lxc -n "$name" --nokill -t 120 ;;
start) lxc-start -P /mnt/lxc -n "$name" -f "/mnt/lxc/$name.conf" -d ;;
*) exit 2 ;;
esac
"#;

#[test]
fn both_containers_behind_a_real_traefik() {
    let Some(_turn) = prepared() else { return };
    let Some(program) = traefik::prepared() else { return };
    if !support::require("fail2ban-regex (package fail2ban)", has_program("fail2ban-regex")) {
        return;
    }
    let site = Site::read();
    let (_, old) = built();
    let (world, jellyfin) = node_for(old);
    let qbittorrent = restore::embedded_configuration(&world, archive());
    let names = [public_name(&jellyfin), public_name(&qbittorrent)];
    prepare(&world, &site, &names, [&jellyfin, &qbittorrent]);

    let traefik = Traefik::start(
        &world,
        &program,
        &site.proxy,
        &site_file("traefik/build-images.yml"),
        &[&names[0], &names[1]],
    );
    // Nothing runs yet: a clean answer, soon.
    for name in &names {
        let got = traefik.wait_for(CLIENT, name, "/", |got| got.status == 503);
        assert_eq!(got.body.trim(), "no available server");
    }
    assert_eq!(verify(&world, &traefik, &[]).0, Some(1));

    let first = restored_from(&world, old, "jellyfin", &jellyfin);
    let second = restored_from(&world, archive(), "qbittorrent", &qbittorrent);
    first.boot();
    second.start();
    // Each in its own words.
    let info = traefik.wait_for(CLIENT, &names[0], "/System/Info/Public", |got| got.status == 200);
    assert!(info.body.contains("\"ProductName\":\"Jellyfin Server\""), "{info:?}");
    assert!(info.body.contains(&format!("\"LocalAddress\":\"https://{}\"", names[0])), "{info:?}");
    let page = traefik.wait_for(CLIENT, &names[1], "/", |got| got.status == 200);
    assert!(page.body.contains("qBittorrent"), "{page:?}");
    let film = written_by_qbittorrent(&second);
    reads_media_and_writes_none(&world, &first, &film);
    // qBittorrent compares where a request says it comes from with the name that the proxy tells it.
    for (origin, expected) in
        [(format!("https://{}", names[1]), 403), ("https://evil.example".to_owned(), 401)]
    {
        let header = format!("Origin: {origin}");
        let got = traefik.ask(CLIENT, &names[1], "/api/v2/app/version", &["-H", &header]);
        assert_eq!(got.map(|got| got.status), Some(expected), "{origin}");
    }
    // Nobody sets up from the internet what nobody has set up yet.
    assert_eq!(traefik.ask(CLIENT, &names[0], "/Startup/User", &[]).map(|got| got.status), Some(403));

    let (code, text) = verify(&world, &traefik, &["--wait", "60"]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(text.matches("nobody has set it up yet").count(), 2, "{text}");
    assert_eq!(text.matches("ok      qbittorrent: ").count(), 4, "{text}");

    logins_are_told_with_the_clients_address(&world, &traefik, &names);
    let saved = saved_state(&world, &traefik);

    traefik.wait_for(CLIENT, &names[1], "/", |got| got.status == 200);

    // A container that stops is a clean error, and said.
    second.stop();
    let got = traefik.ask(CLIENT, &names[1], "/", &[]).expect("an answer, whatever it is");
    assert!(matches!(got.status, 502..=504), "{got:?}");
    let (code, text) = verify(&world, &traefik, &["qbittorrent"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("WRONG   qbittorrent: container 159 does not run"), "{text}");
    assert!(text.contains("WRONG   qbittorrent: no answer, asked at http://172.16.10.59:8080"), "{text}");

    put_back(&world, &traefik, &qbittorrent, &saved);
    second.boot();
    traefik.wait_for(CLIENT, &names[1], "/", |got| got.status == 200 && got.body.contains("qBittorrent"));
    assert_eq!(traefik.errors(), Vec::<String>::new());
}

/// A file that the service's user made among what is complete; gives its path in Jellyfin's container.
fn written_by_qbittorrent(container: &Container<'_>) -> String {
    let process = "$(systemctl show -P MainPID qbittorrent)";
    let umask = container.shell(&format!("grep ^Umask: /proc/{process}/status"));
    assert_eq!(umask.split_whitespace().last(), Some("0002"), "{umask}");
    // As the process does: with its ids, groups, umask and view of the file system.
    let script = "umask 0002; cd /srv/downloads/complete; mkdir -p movies/film; printf 'a film' >movies/film/film.mkv; \
                  stat -c '%u:%g %a' movies/film movies/film/film.mkv";
    let said = container.shell(&format!(
        "nsenter --target {process} --mount setpriv --reuid qbittorrent --regid qbittorrent --init-groups sh -c \"{script}\""
    ));
    assert_eq!(said, "959:950 2775\n959:950 664\n");
    // There, what is complete is what is mounted.
    format!("{DOWNLOADS}/movies/film/film.mkv")
}

/// Directories, names, scripts, and the way that what the proxy sends takes.
fn prepare(world: &World, site: &Site, names: &[String; 2], configs: [&Config; 2]) {
    make_storage(world);
    for script in ["storage.sh", "verify.sh", "backup.sh"] {
        let path = world.path("/mnt/site").join(script);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, site_file(script)).unwrap();
        set_mode(&path, 0o755);
    }
    let lines = [(156, "jellyfin"), (159, "qbittorrent")]
        .map(|(vmid, name)| format!("{vmid}) name={} ;;", world.container_name(name)));
    fs::create_dir(world.path("/mnt/bin")).unwrap();
    fs::write(world.path("/mnt/bin/pct"), PCT.replace("@NAMES@", &lines.join("\n"))).unwrap();
    set_mode(&world.path("/mnt/bin/pct"), 0o755);
    fs::write(world.path("/mnt/hosts"), format!("{} {} {}\n", site.proxy, names[0], names[1])).unwrap();
    world.run("mount", &["--bind", "/mnt/hosts", "/etc/hosts"]);
    world.run("ip", &["address", "add", &format!("{CLIENT}/32"), "dev", &site.bridge]);
    for config in configs {
        let address = format!("{}/32", config.card().address);
        world.run("ip", &["route", "replace", &address, "dev", &site.bridge, "src", &site.proxy]);
    }
}

fn script(world: &World, traefik: &Traefik<'_>, name: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let path = format!("PATH=/mnt/bin:{}", std::env::var("PATH").unwrap());
    let certificate = format!("CURL_CA_BUNDLE={}", traefik.certificate());
    let program = format!("/mnt/site/{name}");
    let output = world
        .command(200, "env")
        .args([path.as_str(), &certificate, &program])
        .args(arguments)
        .output()
        .unwrap();
    let text =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    (output.status.code(), text)
}

fn verify(world: &World, traefik: &Traefik<'_>, arguments: &[&str]) -> (Option<i32>, String) {
    script(world, traefik, "verify.sh", arguments)
}

/// Whatever a client claims, the applications log the address that it has, and fail2ban finds it there.
fn logins_are_told_with_the_clients_address(world: &World, traefik: &Traefik<'_>, names: &[String; 2]) {
    let claims = ["-H", "X-Forwarded-For: 198.51.100.1", "-H", "X-Real-Ip: 198.51.100.1"];
    let json = ["-H", "Content-Type: application/json", "--data", r#"{"Username":"mallory","Pw":"wrong"}"#];
    let form = ["--data", "username=mallory&password=wrong"];
    let denied = traefik.ask(CLIENT, &names[0], "/Users/AuthenticateByName", &[&claims[..], &json].concat());
    assert_eq!(denied.map(|got| got.status), Some(401));
    let denied =
        traefik.ask(CLIENT, &names[1], "/api/v2/auth/login", &[&claims[..], &form].concat()).unwrap();
    assert!(denied.status == 401 || denied.body == "Fails.", "{denied:?}");
    let logs = world.path("/srv/appdata/jellyfin/log");
    let jellyfin = fs::read_dir(logs)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some());
    let qbittorrent = world.path("/srv/appdata/qbittorrent/qBittorrent/data/logs/qbittorrent.log");
    for (recipe, log) in [("jellyfin", jellyfin.unwrap()), ("qbittorrent", qbittorrent)] {
        assert!(read(&log).contains("mallory"), "{}", read(&log));
        assert_eq!(banned(recipe, &log), [CLIENT], "{}", read(&log));
    }
}

/// The addresses that fail2ban's filter of a recipe finds in a log.
fn banned(recipe: &str, log: &Path) -> Vec<String> {
    let place = tempfile::tempdir().unwrap();
    let filter = place.path().join("filter.conf");
    fs::write(&filter, site_file(&format!("fail2ban/filter.d/image-{recipe}.conf"))).unwrap();
    let copy = place.path().join("log");
    fs::copy(log, &copy).unwrap();
    let output =
        Command::new("fail2ban-regex").args(["--out", "ip"]).arg(&copy).arg(&filter).output().unwrap();
    expect_success("fail2ban-regex", &output).lines().map(str::to_owned).collect()
}

/// Saves qBittorrent's state, for which its container stops and starts; gives the archive.
fn saved_state(world: &World, traefik: &Traefik<'_>) -> String {
    fs::create_dir(world.path("/mnt/backup")).unwrap();
    let (code, text) = script(world, traefik, "backup.sh", &["save", "/mnt/backup", "qbittorrent"]);
    assert_eq!(code, Some(0), "{text}");
    text.trim().to_owned()
}

/// qBittorrent's settings come back as they were.
fn put_back(world: &World, traefik: &Traefik<'_>, config: &Config, archive: &str) {
    let state = application::on_node(world, config, application::STATE);
    let settings = application::config_directory(&state).join("qBittorrent.conf");
    fs::write(&settings, "ruined").unwrap();
    let (code, text) = script(world, traefik, "backup.sh", &["restore", archive]);
    assert_eq!(code, Some(0), "{text}");
    assert!(read(&settings).contains("GlobalMaxRatio=2"), "{}", read(&settings));
    assert_eq!(facts(&settings).0, application::USER);
}
