//! `verify.sh` in front of stand-ins: it is content with what is good, and with nothing else.

use std::fs;
use std::path::Path;

use build_images::model::Project;

use crate::proxy::{JELLYFIN, PROXY, QBITTORRENT, Server, degraded, healthy, logged_out, node, path, start};
use crate::traefik::Traefik;
use crate::world::{World, set_mode, set_owner};
use crate::{files, outcome, project};

/// Puts the site's files, a `pct` that says of each container what a file says, and names into the world.
fn prepare(world: &World, project: &Project) {
    for file in files(project) {
        let path = world.path("/mnt/site").join(&file.path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &file.contents).unwrap();
        set_mode(&path, if file.executable { 0o755 } else { 0o644 });
    }
    fs::create_dir(world.path("/mnt/bin")).unwrap();
    let pct = world.path("/mnt/bin/pct");
    fs::write(&pct, "#!/bin/sh\n[ \"$1\" = status ] && cat \"/mnt/bin/$2\"\n").unwrap();
    set_mode(&pct, 0o755);
    for vmid in [156, 159] {
        status(world, vmid, "running");
    }
    fs::write(world.path("/mnt/hosts"), format!("{PROXY} {JELLYFIN} {QBITTORRENT}\n")).unwrap();
    world.run("mount", &["--bind", "/mnt/hosts", "/etc/hosts"]);
    world.run("/mnt/site/storage.sh", &[]);
}

fn status(world: &World, vmid: u32, is: &str) {
    fs::write(world.path(format!("/mnt/bin/{vmid}")), format!("status: {is}\n")).unwrap();
}

fn verify(world: &World, traefik: &Traefik<'_>, arguments: &[&str]) -> (Option<i32>, String) {
    let path = format!("PATH=/mnt/bin:{}", std::env::var("PATH").unwrap());
    let certificate = format!("CURL_CA_BUNDLE={}", traefik.certificate());
    let output = world
        .command(200, "env")
        .args([path.as_str(), &certificate, "/mnt/site/verify.sh"])
        .args(arguments)
        .output()
        .unwrap();
    outcome(&output)
}

/// Set up, and healthy.
fn set_up(head: &str) -> (u16, String) {
    match path(head) {
        "/System/Info/Public" => (200, r#"{"StartupWizardCompleted":true}"#.to_owned()),
        _ => healthy(head),
    }
}

#[test]
fn it_is_content_with_what_is_good_and_with_nothing_else() {
    let Some((world, program)) = node() else { return };
    prepare(&world, &project());
    let jellyfin = Server::new(&world, "172.16.10.56:8096", set_up);
    let qbittorrent = Server::new(&world, "172.16.10.59:8080", logged_out);
    let traefik = start(&world, &program, &project());
    traefik.wait_for(PROXY, JELLYFIN, "/", |got| got.status == 200);
    traefik.wait_for(PROXY, QBITTORRENT, "/", |got| got.status == 200);
    let (code, good) = verify(&world, &traefik, &["--wait", "20"]);
    assert_eq!(code, Some(0), "{good}");
    insta::assert_snapshot!("verify_good", good);

    // Each of these alone makes it fail, and says of what.
    let wrong = |arguments: &[&str], expected: &[&str]| {
        let (code, text) = verify(&world, &traefik, arguments);
        assert_eq!(code, Some(1), "{text}");
        let lines: Vec<_> = text.lines().filter(|line| line.starts_with("WRONG")).collect();
        assert_eq!(lines, expected, "{text}");
    };
    status(&world, 159, "stopped");
    wrong(&["qbittorrent"], &["WRONG   qbittorrent: container 159 does not run"]);
    status(&world, 159, "running");
    set_owner(&world.path("/srv/media/movies"), (0, 0));
    wrong(
        &["qbittorrent"],
        &["WRONG   node: directories: chown 100000:100950 /srv/media/movies; see storage.sh --dry-run"],
    );
    world.run("/mnt/site/storage.sh", &[]);
    fs::write(world.path("/mnt/hosts"), "127.0.0.1 localhost\n").unwrap();
    wrong(&["qbittorrent"], &["WRONG   qbittorrent: qbittorrent.viljo.se has no address; see dns/"]);
    fs::write(world.path("/mnt/hosts"), format!("{PROXY} {JELLYFIN} {QBITTORRENT}\n")).unwrap();

    let direct = |what: &str, image: &str, port: &str| {
        format!("WRONG   {image}: {what}, asked at http://172.16.10.{port}")
    };
    // A good status with another body, what is said while it migrates, and a page of something else.
    jellyfin.set(|head| match path(head) {
        "/health" => (200, "Healthy, or so they say".to_owned()),
        _ => set_up(head),
    });
    let odd = "answers something that it should not";
    let proxied = "asked at https://jellyfin.viljo.se through 172.16.10.102";
    wrong(
        &["jellyfin"],
        &[&direct(odd, "jellyfin", "56:8096"), &format!("WRONG   jellyfin: {odd}, {proxied}")],
    );
    jellyfin.set(|head| match path(head) {
        "/System/Ping" => (200, "x".to_owned()),
        _ => degraded(head),
    });
    let starting = "still starting";
    wrong(
        &["jellyfin"],
        &[&direct(starting, "jellyfin", "56:8096"), &format!("WRONG   jellyfin: {starting}, {proxied}")],
    );
    qbittorrent.set(|head| match path(head) {
        "/api/v2/app/version" => (500, "oops".to_owned()),
        _ => logged_out(head),
    });
    let (code, text) = verify(&world, &traefik, &["qbittorrent"]);
    assert!(code == Some(1) && text.contains(&direct(odd, "qbittorrent", "59:8080")), "{text}");
    drop(qbittorrent);
    let (code, text) = verify(&world, &traefik, &["qbittorrent"]);
    assert!(code == Some(1) && text.contains(&direct("no answer", "qbittorrent", "59:8080")), "{text}");
    let unready =
        "WRONG   qbittorrent: the proxy finds nothing that is ready, asked at https://qbittorrent.viljo.se";
    assert!(text.contains(unready), "{text}");

    // It works, but nobody has set it up: said, and no failure.
    jellyfin.set(|head| match path(head) {
        "/System/Info/Public" => (200, r#"{"StartupWizardCompleted":false}"#.to_owned()),
        _ => healthy(head),
    });
    let (code, text) = verify(&world, &traefik, &["jellyfin"]);
    assert_eq!((code, text.matches("works, asked at").count()), (Some(0), 2), "{text}");
    assert!(text.contains(
        "todo    jellyfin: works, asked at http://172.16.10.56:8096, but nobody has set it up yet\n"
    ));

    // A proxy without the rule lets everybody set it up; one with another certificate is not this site's.
    let (code, text) = verify(&world, &traefik, &["plex"]);
    assert_eq!(
        (code, text.as_str()),
        (Some(2), "verify.sh: no image `plex`; there are: jellyfin qbittorrent\n")
    );
    let output = world.command(200, "/mnt/site/verify.sh").arg("jellyfin").output().unwrap();
    let (code, text) = outcome(&output);
    assert!(code == Some(1) && text.contains(&format!("WRONG   jellyfin: no answer, {proxied}")), "{text}");
    assert!(text.contains("todo    jellyfin: not looked at: there is no pct here"), "{text}");
    assert!(Path::new("/usr/sbin/pct").exists() || !text.contains("container 156 runs"));
}

#[test]
fn a_proxy_that_hides_nothing_is_found() {
    let Some((world, program)) = node() else { return };
    prepare(&world, &project());
    let _jellyfin = Server::new(&world, "172.16.10.56:8096", set_up);
    let mut open = project();
    let recipe = open.recipes.get_mut("jellyfin").unwrap();
    recipe.service.as_mut().unwrap().setup.as_mut().unwrap().private.clear();
    let traefik = start(&world, &program, &open);
    traefik.wait_for(PROXY, JELLYFIN, "/", |got| got.status == 200);
    let (code, text) = verify(&world, &traefik, &["jellyfin"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("WRONG   jellyfin: https://jellyfin.viljo.se/Startup answers 200, not 403"),
        "{text}"
    );
}

#[test]
fn with_forward_auth_it_asks_whether_somebody_who_is_not_signed_in_stays_outside() {
    let Some((world, program)) = node() else { return };
    let mut guarded = project();
    guarded.site.proxy.forward_auth = Some("http://172.16.10.103:4180/".to_owned());
    guarded.images.get_mut("qbittorrent").unwrap().forward_auth = true;
    prepare(&world, &guarded);
    let _qbittorrent = Server::new(&world, "172.16.10.59:8080", logged_out);
    let auth = Server::new(&world, "172.16.10.103:4180", |_| (401, "who are you".to_owned()));
    let traefik = start(&world, &program, &guarded);
    traefik.wait_for(PROXY, QBITTORRENT, "/", |got| got.status == 401);
    let (code, text) = verify(&world, &traefik, &["qbittorrent"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("ok      qbittorrent: https://qbittorrent.viljo.se asks who it is\n"), "{text}");
    auth.set(|_| (202, String::new()));
    let (code, text) = verify(&world, &traefik, &["qbittorrent"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("answers 200 to somebody who is not signed in"), "{text}");
}
