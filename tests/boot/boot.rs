//! A restored container boots, works, and keeps its state when a newer image takes its place.

use std::fs;
use std::path::Path;

use crate::application::{self, DOWNLOADS, MEDIA, STATE, USER, config_directory, on_node};
use crate::container::{Container, available_cores};
use crate::pct::Config;
use crate::restore::{self, Verb};
use crate::web::{Answer, Request, send, wait_for};
use crate::world::{World, facts, read, set_owner};
use crate::{Site, archive, node, prepared};

#[test]
fn a_restored_container_runs_and_a_second_restore_keeps_its_state() {
    let Some(_turn) = prepared() else { return };
    let (world, config) = node();
    application::make_directories(&world, &config);
    let state = on_node(&world, &config, STATE);

    let first = restored(&world, "first", &config);
    assert!(!first.path("etc/vzdump/pct.conf").exists());
    first.start();
    is_what_was_declared(&first);
    is_confined(&first);
    probe_answers(&world, &config);
    believes_the_proxy_only(&world, &first);
    has_seeds(&world, &config);
    let first_identity = identity(&first);
    first.stop();
    has_settings(&config_directory(&state).join("qBittorrent.conf"), &config);

    // State that somebody changed, and a file a newer seed would bring that was deleted on purpose.
    let settings = config_directory(&state).join("qBittorrent.conf");
    let changed = read(&settings).replace("GlobalMaxRatio=2", "GlobalMaxRatio=7");
    assert!(changed.contains("GlobalMaxRatio=7"), "{changed}");
    fs::write(&settings, changed).unwrap();
    let categories = config_directory(&state).join("categories.json");
    fs::write(&categories, r#"{"books":{"save_path":""}}"#).unwrap();
    let kept = on_node(&world, &config, DOWNLOADS).join("complete/tv/kept.mkv");
    fs::write(&kept, "kept").unwrap();
    drop(first);

    let second = restored(&world, "second", &config);
    second.start();
    probe_answers(&world, &config);
    assert!(read(&settings).contains("GlobalMaxRatio=7"), "{}", read(&settings));
    assert!(read(&categories).contains("books") && !read(&categories).contains("movies"));
    assert_eq!(read(&kept), "kept");
    let second_identity = identity(&second);
    for (one, other) in first_identity.iter().zip(&second_identity) {
        assert_ne!(one, other, "two restores share a part of their identity");
    }

    second.stop();
    second.start();
    probe_answers(&world, &config);
    assert_eq!(identity(&second), second_identity, "an identity is made once");
    second.stop();
}

#[test]
fn a_created_container_runs_and_has_no_leftovers() {
    let Some(_turn) = prepared() else { return };
    let (world, config) = node();
    application::make_directories(&world, &config);
    let state = on_node(&world, &config, STATE);

    // Somebody pulled the plug while the seeds were written: one is there, of the other a part.
    let directory = config_directory(&state);
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("categories.json"), r#"{"mine":{"save_path":""}}"#).unwrap();
    fs::write(directory.join(".qBittorrent.conf.seed"), "[BitTor").unwrap();
    for path in [directory.parent().unwrap(), &directory, &directory.join("categories.json")] {
        set_owner(path, (USER, MEDIA));
    }

    restore::unpack(&world, archive(), "/mnt/created", Verb::Create);
    let container = Container::new(&world, "created", "/mnt/created", config.clone());
    assert!(container.path("etc/vzdump/pct.conf").exists() && !container.path("etc/machine-id").exists());
    container.start();
    probe_answers(&world, &config);
    assert!(!container.path("etc/vzdump/pct.conf").exists(), "`pct create` leaves the configuration behind");
    assert_eq!(identity(&container)[0].trim().len(), 32);
    let settings = read(&directory.join("qBittorrent.conf"));
    assert!(settings.contains("WebUI\\HostHeaderValidation=true"), "{settings}");
    assert!(read(&directory.join("categories.json")).contains("mine"));
    assert!(!directory.join(".qBittorrent.conf.seed").exists());
    container.stop();

    // As `pct clone` and people who copy a container do it: not a first boot, and no host keys.
    let key = container.path("etc/ssh/ssh_host_ed25519_key");
    let before = read(&key);
    for kind in ["ed25519", "ecdsa", "rsa"] {
        fs::remove_file(container.path(&format!("etc/ssh/ssh_host_{kind}_key"))).unwrap();
    }
    container.start();
    container.run(&["systemctl", "is-active", "ssh.service"]);
    assert_ne!(read(&key), before);
    container.stop();
}

#[test]
fn without_its_mounts_it_refuses_and_says_why() {
    let Some(_turn) = prepared() else { return };
    let (world, config) = node();
    // The mistake everybody makes: directories that belong to the node's root.
    for bind in config.binds() {
        world.make_directory(&bind.source, (0, 0), 0o755);
    }
    let container = restored(&world, "foreign", &config);
    container.boot();
    let log = container.wait_for_journal("qbittorrent.service", "/var/lib/qbittorrent is not writable");
    assert!(log.contains(&format!("has to belong to {USER}:{}", application::GROUP)), "{log}");
    let state = on_node(&world, &config, STATE);
    assert_eq!(fs::read_dir(&state).unwrap().count(), 0);
}

/// A container of the archive, as `pct restore` leaves it.
fn restored<'a>(world: &'a World, name: &str, config: &Config) -> Container<'a> {
    restored_from(world, archive(), name, config)
}

/// A container of any archive, as `pct restore` leaves it.
pub fn restored_from<'a>(world: &'a World, archive: &Path, name: &str, config: &Config) -> Container<'a> {
    let root = format!("/mnt/{name}");
    restore::unpack(world, archive, &root, Verb::Restore);
    Container::new(world, name, &root, config.clone())
}

/// Network, limits and mounts are those of the configuration.
pub fn is_what_was_declared(container: &Container<'_>) {
    let config = &container.config;
    let card = config.card();
    let address = container.run(&["ip", "-4", "-oneline", "address", "show", "dev", &card.name]);
    assert!(address.contains(&format!("inet {}/{} ", card.address, card.prefix)), "{address}");
    let link = container.run(&["ip", "-oneline", "link", "show", "dev", &card.name]);
    assert!(link.to_lowercase().contains(&card.mac.to_lowercase()), "{link}");
    let route = container.run(&["ip", "-4", "route", "show", "default"]);
    assert!(route.contains(&format!("via {} ", card.gateway)), "{route}");
    assert_eq!(container.run(&["hostname"]).trim(), config.need("hostname"));
    assert_eq!(container.run(&["nproc"]).trim(), config.number("cores").min(available_cores()).to_string());
    let memory = container.shell(
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2> /dev/null || cat /sys/fs/cgroup/memory.max",
    );
    assert_eq!(memory.trim(), (config.number("memory") << 20).to_string());
    for bind in config.binds() {
        let options = container.run(&["findmnt", "-n", "-o", "OPTIONS", "--mountpoint", &bind.target]);
        let read_only = options.trim().split(',').any(|option| option == "ro");
        assert_eq!(read_only, bind.read_only, "{}: {options}", bind.target);
    }
    let failed = container.run(&["systemctl", "--failed", "--no-legend", "--plain"]);
    assert_eq!(failed, "");
}

/// The application has no more rights than it needs, and nobody gets in with a password.
fn is_confined(container: &Container<'_>) {
    let status = container.shell("cat /proc/$(systemctl show -P MainPID qbittorrent)/status");
    for line in [
        "Umask:\t0002",
        "Uid:\t959\t959\t959\t959",
        "Gid:\t950\t950\t950\t950",
        "CapBnd:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        assert!(status.lines().any(|found| found == line), "no `{line}` in:\n{status}");
    }
    container.run(&["systemctl", "is-active", "ssh.service"]);
    let ssh = container.run(&["sshd", "-T"]);
    for line in ["passwordauthentication no", "permitrootlogin without-password"] {
        assert!(ssh.lines().any(|found| found == line), "no `{line}` in:\n{ssh}");
    }
    for line in container.run(&["cat", "/etc/shadow"]).lines() {
        let password = line.split(':').nth(1).unwrap_or_default();
        assert!(["*", "!", "!*"].contains(&password), "an account with a password: {line}");
    }
}

/// The recipe's probe, and the answer to a name that is not the site's.
fn probe_answers(world: &World, config: &Config) {
    let url = application::base(config) + "/api/v2/app/version";
    let answer = world.in_network(|| wait_for(&url));
    assert!([200, 403].contains(&answer.status), "{answer:?}");
    let as_host = |name: &str| -> Answer {
        let headers = [("Host", name)];
        world.in_network(|| send(&url, Request { headers: &headers, body: None })).unwrap()
    };
    assert_eq!(as_host(&public_name(config)).status, 403, "the site's name is let in, to the login");
    assert_eq!(as_host("evil.example").status, 401, "a foreign name is not");
}

/// What a client says about where it comes from counts only when the proxy passes it on.
fn believes_the_proxy_only(world: &World, container: &Container<'_>) {
    let card = container.config.card();
    let url = application::base(&container.config);
    let container_address = format!("{}/32", card.address);
    let (site, name) = (Site::read(), public_name(&container.config));
    for (source, expected) in [(&site.proxy, "203.0.113.7"), (&site.gateway, &site.gateway)] {
        world.run("ip", &["route", "replace", &container_address, "dev", &card.bridge, "src", source]);
        let headers = [("X-Forwarded-For", "203.0.113.7"), ("Host", name.as_str())];
        let body = format!("username=from-{source}&password=wrong");
        let body = Some(("application/x-www-form-urlencoded", body.as_bytes()));
        let login = format!("{url}/api/v2/auth/login");
        world.in_network(|| send(&login, Request { headers: &headers, body })).unwrap();
        // No client may pass for the container itself.
        let headers = [("X-Forwarded-For", "127.0.0.1"), ("Host", name.as_str())];
        let version = format!("{url}/api/v2/app/version");
        let answer = world.in_network(|| send(&version, Request { headers: &headers, body: None })).unwrap();
        assert_eq!(answer.status, 403, "from {source}");
        let log = container.shell("cat /var/lib/qbittorrent/qBittorrent/data/logs/qbittorrent.log");
        let line = log.lines().find(|line| line.ends_with(&format!("username: from-{source}")));
        let line = line.unwrap_or_else(|| panic!("no login failure of {source}:\n{log}"));
        // An address may be shown as one of IPv6 (`::ffff:…`).
        assert!(line.contains(&format!("{expected},")), "from {source}: {line}");
    }
    world.run("ip", &["route", "del", &container_address, "dev", &card.bridge]);
}

/// The name under which the proxy offers it.
pub fn public_name(config: &Config) -> String {
    format!("{}.{}", config.need("hostname"), Site::read().domain)
}

/// Seeds and directories are there, with the owners and modes that let others read and nobody else write.
fn has_seeds(world: &World, config: &Config) {
    let state = on_node(world, config, STATE);
    let downloads = on_node(world, config, DOWNLOADS);
    let directory = config_directory(&state);
    assert_eq!(facts(&state), (USER, application::GROUP, 0o750));
    assert_eq!(facts(&directory), (USER, MEDIA, 0o700));
    assert_eq!(facts(&directory.join("categories.json")), (USER, MEDIA, 0o640));
    assert_eq!(facts(&directory.join("qBittorrent.conf")).0, USER);
    for path in ["", "incomplete", "complete", "complete/movies", "complete/tv", "complete/music"] {
        assert_eq!(facts(&downloads.join(path)), (USER, MEDIA, 0o2775), "{path}");
    }
}

/// What no two containers may have in common: the machine id and every ssh host key.
pub fn identity(container: &Container<'_>) -> Vec<String> {
    ["machine-id", "ssh/ssh_host_ed25519_key.pub", "ssh/ssh_host_ecdsa_key.pub", "ssh/ssh_host_rsa_key.pub"]
        .map(|file| container.run(&["cat", &format!("/etc/{file}")]))
        .to_vec()
}

/// The settings that matter. qBittorrent has stopped and written the file anew: what its parser did not take is gone.
fn has_settings(path: &Path, config: &Config) {
    let settings = read(path);
    for line in [
        &format!("WebUI\\ServerDomains=\"{};{}\"", public_name(config), config.card().address),
        &format!("WebUI\\TrustedReverseProxiesList={}", Site::read().proxy),
        r"WebUI\HostHeaderValidation=true",
        r"WebUI\CSRFProtection=true",
        r"WebUI\UseUPnP=false",
        r"PortForwardingEnabled=false",
        r"Session\Port=6881",
        r"Session\TempPath=/srv/downloads/incomplete",
        r"Session\DefaultSavePath=/srv/downloads/complete",
    ] {
        assert!(settings.lines().any(|found| found == line), "no `{line}` in:\n{settings}");
    }
    assert!(!settings.contains("PBKDF2"), "no password is shared by all who use this image:\n{settings}");
}
