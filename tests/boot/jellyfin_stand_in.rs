//! The Jellyfin image in use. What is proven here is proven on the stand-in of Jellyfin's packages
//! (`tests/support/jellyfin`), not on Jellyfin: of the recipe, its unit, seeds, ids, mounts and probes.

use std::fs;
use std::path::Path;

use crate::application::{self, MEDIA, on_node};
use crate::boot::{identity, is_what_was_declared, public_name, restored_from};
use crate::container::Container;
use crate::jellyfin::{DOWNLOADS, Project, STATE, USER, ask, built, make_directories, post, started};
use crate::pct::Config;
use crate::support::jellyfin::{NEW, OLD};
use crate::web::Request;
use crate::world::{World, facts, read, set_mode, set_owner};
use crate::{Site, node_for, prepared};

const GPU: &str = "gpu = \"/dev/dri/renderD128\"";

#[test]
fn a_stand_in_for_jellyfin_runs_keeps_its_state_and_is_upgraded_from_10_11_to_12() {
    let Some(_turn) = prepared() else { return };
    let (project, archive) = built();
    let service = project.service();
    let (world, config) = node_for(archive);
    make_directories(&world, &config);
    let state = on_node(&world, &config, STATE);
    let film = put_film(&world, &config);
    cut_off_seeding(&state);

    let first = restored_from(&world, archive, "first", &config);
    assert_eq!(started(&first, &service), ["Degraded", "needs setup"]);
    is_what_was_declared(&first);
    is_confined(&first);
    has_seeds(&state, &config);
    assert_eq!(read(&state.join("config/logging.json")), "{}", "what is there is nobody's to replace");
    reads_media_and_writes_none(&world, &first, &film);
    believes_the_proxy_only(&world, &first);
    let info = ask(&world, &config, "/System/Info/Public", Request::default()).1;
    assert!(info.contains(&format!("\"LocalAddress\":\"https://{}\"", public_name(&config))), "{info}");
    let facts = facts_of(&world, &config);
    for part in ["\"ffmpeg\":\"7.1.4-3-Jellyfin\"", "\"discovery\":false", "\"acceleration\":\"none\""] {
        assert!(facts.contains(part), "no `{part}` in {facts}");
    }
    set_up(&world, &config);
    let first_identity = identity(&first);
    first.stop();
    drop(first);

    // What somebody changed, a seed that was deleted on purpose, and the wizard's end outlive the image.
    let encoding = state.join("config/encoding.xml");
    let changed = read(&encoding).replace("<EncodingThreadCount>4<", "<EncodingThreadCount>2<");
    assert!(changed.contains("<EncodingThreadCount>2<"), "{changed}");
    fs::write(&encoding, &changed).unwrap();
    fs::remove_file(state.join("config/logging.json")).unwrap();

    let second = restored_from(&world, archive, "second", &config);
    assert_eq!(started(&second, &service), ["Degraded", "healthy"]);
    is_the_same_server(&world, &config, &state, &changed);
    let second_identity = identity(&second);
    for (one, other) in first_identity.iter().zip(&second_identity) {
        assert_ne!(one, other, "two restores share a part of their identity");
    }
    let segment = second.path("var/cache/jellyfin/transcodes/0123456789abcdef0.ts");
    fs::write(&segment, "left").unwrap();
    second.stop();
    second.start();
    second.wait_for_journal("jellyfin.service", "Jellyfin version");
    assert!(!segment.exists(), "what the last run transcoded is left");
    assert_eq!(identity(&second), second_identity, "an identity is made once");
    second.stop();
    drop(second);

    let newer = upgraded(project, archive);
    let upgraded_config = crate::restore::embedded_configuration(&world, &newer);
    let third = restored_from(&world, &newer, "third", &upgraded_config);
    // The new server's start-up page says that it is not set up, which is not true.
    assert_eq!(started(&third, &service), ["Degraded", "healthy"]);
    is_the_same_server(&world, &upgraded_config, &state, &changed);
    let database = read(&state.join("data/data/jellyfin.db"));
    assert!(database.contains("version=12.2\n") && database.contains("migrated=1\n"), "{database}");
    let facts = facts_of(&world, &upgraded_config);
    assert!(facts.contains("\"ffmpeg\":\"8.1.2-5-Jellyfin\""), "{facts}");
    has_its_graphics_card(&third);
    third.stop();
    drop(third);

    // An older server would destroy what the newer one has migrated.
    let fourth = restored_from(&world, archive, "fourth", &config);
    fourth.boot();
    let log = fourth.wait_for_journal("jellyfin.service", "the state was last used by Jellyfin 12.2+deb13");
    assert!(log.contains("this image has 10.11.11+deb13"), "{log}");
    assert_eq!(read(&state.join("data/data/jellyfin.db")), database);
}

#[test]
fn a_stand_in_for_jellyfin_without_room_or_its_own_directory_refuses_and_says_why() {
    let Some(_turn) = prepared() else { return };
    let (_, archive) = built();
    let (world, config) = node_for(archive);
    make_directories(&world, &config);
    let source = config.binds().into_iter().find(|bind| bind.target == STATE).unwrap().source;
    let state = on_node(&world, &config, STATE);
    world.run("mount", &["-t", "tmpfs", "-o", "size=1g", "tmpfs", &source]);
    set_mode(&state, 0o755);
    // The mistake everybody makes: a directory that belongs to the node's root.
    let container = restored_from(&world, archive, "foreign", &config);
    container.boot();
    let log = container.wait_for_journal("jellyfin.service", "/var/lib/jellyfin is not writable");
    assert!(log.contains(&format!("has to belong to {USER}:{USER}")), "{log}");

    set_owner(&state, (USER, USER));
    container.shell("systemctl reset-failed jellyfin.service; systemctl start jellyfin.service || true");
    let log = container.wait_for_journal("jellyfin.service", "Jellyfin needs 2048 MiB to start");
    assert!(log.contains("/var/lib/jellyfin has 1024 MiB free"), "{log}");
    assert!(log.contains("Make room on the node, in the directory mounted there"), "{log}");
    assert_eq!(fs::read_dir(&state).unwrap().count(), 0, "nothing is seeded where it cannot start");
}

/// Somebody pulled the plug while the seeds were written: of one there is a part, another was changed since.
fn cut_off_seeding(state: &Path) {
    let directory = state.join("config");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("logging.json"), "{}").unwrap();
    fs::write(directory.join(".encoding.xml.seed"), "<Enc").unwrap();
    for path in [&directory, &directory.join("logging.json"), &directory.join(".encoding.xml.seed")] {
        set_owner(path, (USER, USER));
    }
    set_mode(&directory.join("logging.json"), 0o640);
}

/// A film as a qBittorrent container leaves it (`transfer` and `proxy` show that it does); gives its path there.
fn put_film(world: &World, config: &Config) -> String {
    let directory = on_node(world, config, DOWNLOADS).join("movies/film");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("film.mkv"), "a film").unwrap();
    for path in [directory.parent().unwrap(), &directory] {
        set_owner(path, (application::USER, MEDIA));
        set_mode(path, 0o2775);
    }
    set_owner(&directory.join("film.mkv"), (application::USER, MEDIA));
    set_mode(&directory.join("film.mkv"), 0o664);
    format!("{DOWNLOADS}/movies/film/film.mkv")
}

/// The service can read what qBittorrent writes, and change nothing of it.
pub fn reads_media_and_writes_none(world: &World, container: &Container<'_>, film: &str) {
    let config = &container.config;
    let read = ask(world, config, &format!("/stand-in/read?{film}"), Request::default());
    assert_eq!(read, (200, "a film".to_owned()));
    for path in [film.to_owned(), format!("{DOWNLOADS}/movies/film.nfo"), "/media/movies/new".to_owned()] {
        let (status, said) = ask(world, config, &format!("/stand-in/write?{path}"), Request::default());
        assert_eq!((status, said.as_str()), (500, "Read-only file system"), "{path}");
    }
    // Not only the unit keeps it from writing: nobody in the container can.
    for bind in config.binds().iter().filter(|bind| bind.target.starts_with("/media/")) {
        let script = format!("! touch {}/new 2>&1", bind.target);
        assert!(container.shell(&script).contains("Read-only file system"), "{}", bind.target);
    }
}

/// The process has the pinned ids and groups and no more rights than it needs.
fn is_confined(container: &Container<'_>) {
    let process = "$(systemctl show -P MainPID jellyfin)";
    let status = container.shell(&format!("cat /proc/{process}/status"));
    for line in [
        "Uid:\t956\t956\t956\t956",
        "Gid:\t956\t956\t956\t956",
        "Groups:\t44 944 950 956 ",
        "CapBnd:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        assert!(status.lines().any(|found| found == line), "no `{line}` in:\n{status}");
    }
    let maps = container.shell(&format!("cat /proc/{process}/maps"));
    assert!(maps.contains("/libjemalloc.so.2"), "the package's own environment is gone:\n{maps}");
    let groups = container.run(&["getent", "group", "render", "media", "video"]);
    assert_eq!(groups, "render:x:944:jellyfin\nmedia:x:950:jellyfin\nvideo:x:44:jellyfin\n");
    assert!(!container.path("dev/dri").exists());
    container.shell("ss -lun | grep -q ':7359 ' && exit 1 || true");
}

/// Seeds are there, with owner and mode; nothing says that the wizard is done.
fn has_seeds(state: &Path, config: &Config) {
    assert_eq!(facts(state), (USER, USER, 0o750));
    for directory in ["config", "data"] {
        assert_eq!(facts(&state.join(directory)).0, USER, "{directory}");
    }
    for file in ["network.xml", "encoding.xml", "logging.json"] {
        assert_eq!(facts(&state.join("config").join(file)), (USER, USER, 0o640), "{file}");
    }
    let network = read(&state.join("config/network.xml"));
    for line in [
        "<AutoDiscovery>false</AutoDiscovery>",
        "<EnableUPnP>false</EnableUPnP>",
        &format!("<string>{}</string>", Site::read().proxy),
    ] {
        assert!(network.lines().any(|found| found.trim() == line), "no `{line}` in:\n{network}");
    }
    let encoding = read(&state.join("config/encoding.xml"));
    for line in [
        &format!("<EncodingThreadCount>{}</EncodingThreadCount>", config.need("cores")),
        "<TranscodingTempPath>/var/cache/jellyfin/transcodes</TranscodingTempPath>",
        "<EnableThrottling>true</EnableThrottling>",
        "<EnableSegmentDeletion>true</EnableSegmentDeletion>",
    ] {
        assert!(encoding.lines().any(|found| found.trim() == line), "no `{line}` in:\n{encoding}");
    }
    let system = read(&state.join("config/system.xml"));
    assert!(system.contains("<IsStartupWizardCompleted>false<"), "{system}");
    assert_eq!(read(&state.join("version")), format!("{}\n", OLD.server));
    assert!(state.join("data/.jellyfin-data").exists() && state.join("config/.jellyfin-config").exists());
}

/// What a client says about where it comes from counts only when the proxy passes it on.
fn believes_the_proxy_only(world: &World, container: &Container<'_>) {
    let card = container.config.card();
    let address = format!("{}/32", card.address);
    let site = Site::read();
    for (source, expected) in [(&site.proxy, "203.0.113.7"), (&site.gateway, &site.gateway)] {
        world.run("ip", &["route", "replace", &address, "dev", &card.bridge, "src", source]);
        let json = format!("{{\"Username\":\"from-{source}\",\"Pw\":\"wrong\"}}");
        let body = Some(("application/json", json.as_bytes()));
        let headers = [("X-Forwarded-For", "203.0.113.7")];
        let request = Request { headers: &headers, body };
        assert_eq!(ask(world, &container.config, "/Users/AuthenticateByName", request).0, 401);
        let line = format!("Authentication request for from-{source} has been denied (IP: {expected}).");
        container.wait_for_journal("jellyfin.service", &line);
    }
    world.run("ip", &["route", "del", &address, "dev", &card.bridge]);
}

/// Goes through the setup wizard, as a person would.
fn set_up(world: &World, config: &Config) {
    let user = ask(world, config, "/Startup/User", Request::default());
    assert_eq!(user.0, 200);
    let json = "{\"Name\":\"somebody\",\"Password\":\"of-the-test\"}";
    assert_eq!(post(world, config, "/Startup/User", json), 204);
    assert_eq!(post(world, config, "/Startup/Complete", "{}"), 204);
}

/// The user of the wizard is there, changed configuration as it was changed, what was deleted still gone.
fn is_the_same_server(world: &World, config: &Config, state: &Path, encoding: &str) {
    let json = "{\"Username\":\"somebody\",\"Pw\":\"of-the-test\"}";
    assert_eq!(post(world, config, "/Users/AuthenticateByName", json), 200);
    assert_eq!(post(world, config, "/Startup/Complete", "{}"), 401);
    assert_eq!(read(&state.join("config/encoding.xml")), encoding);
    assert!(!state.join("config/logging.json").exists());
}

fn facts_of(world: &World, config: &Config) -> String {
    ask(world, config, "/stand-in/facts", Request::default()).1
}

/// Moves the archive's pins to the next generation, which has another ffmpeg package, and gives the image a graphics
/// card; looks at what the lock, both images and the manifest say of it.
fn upgraded(project: &Project, old: &Path) -> std::path::PathBuf {
    let _alone = project.alone();
    let served = NEW.serve(&project.key, 1);
    let before = read(&project.path("images/images.lock"));
    let said = project.run(&served, &["update", "jellyfin"]);
    for name in ["jellyfin-server", "jellyfin-web"] {
        let line = said.lines().find(|line| line.contains(name)).unwrap_or_default();
        assert!(line.contains(OLD.server) && line.contains(NEW.server), "{said}");
    }
    for (name, version) in [OLD.ffmpeg, NEW.ffmpeg] {
        assert!(said.lines().any(|line| line.contains(name) && line.contains(version)), "{said}");
    }
    let after = read(&project.path("images/images.lock"));
    let debian = |lock: &str| -> Vec<String> {
        let lines = lock.lines().filter(|line| line.contains("archive = \"debian"));
        lines.map(str::to_owned).collect()
    };
    assert!(debian(&before).len() > 100);
    assert_eq!(debian(&before), debian(&after), "a pin of Debian moved");

    project.change("images/jellyfin.toml", &format!("# {GPU}"), GPU);
    let archive = project.build(&served, "new");
    let difference = project.run(
        &served,
        &["diff", old.parent().unwrap().to_str().unwrap(), archive.parent().unwrap().to_str().unwrap()],
    );
    for text in [OLD.ffmpeg.0, NEW.ffmpeg.0, NEW.server, "dev0: /dev/dri/renderD128,gid=944,mode=0660"] {
        assert!(difference.contains(text), "no `{text}` in:\n{difference}");
    }
    let manifest = read(&archive.parent().unwrap().join("manifest.json"));
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(
        manifest["space"],
        serde_json::json!([
            { "path": "/var/lib/jellyfin", "source": "/srv/appdata/jellyfin", "free": 2048 },
            { "path": "/var/cache/jellyfin", "free": 2048 },
        ])
    );
    archive
}

/// The device is there for the pinned group, and the configuration that was kept is said not to use it.
fn has_its_graphics_card(container: &Container<'_>) {
    let device = container.run(&["stat", "-c", "%G %a %t:%T", "/dev/dri/renderD128"]);
    assert_eq!(device, "render 660 e2:80\n");
    container.run(&["runuser", "-u", "jellyfin", "--", "test", "-w", "/dev/dri/renderD128"]);
    let log =
        container.wait_for_journal("jellyfin.service", "<VaapiDevice>/dev/dri/renderD128</VaapiDevice>");
    assert!(log.contains("Hardware transcoding stays off"), "{log}");
}
