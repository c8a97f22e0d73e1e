//! Both images of this project, deployed to a node that boots them: qBittorrent from Debian's packages, Jellyfin from the
//! stand-in of its archive (`tests/support/jellyfin`), and what crosses the wire when one of them changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::node::{Node, expect_success, has_program};
use crate::project::Run;
use crate::support::jellyfin::{NEW, OLD};
use crate::support::keys::Key;
use crate::support::repository::Served;
use crate::{prepared, support};

/// The archive's real fingerprint and URI, which a key made here and a place where nobody listens stand in for.
const FINGERPRINT: &str = "4918AABC486CA052358D778D49023CD01DE21A7B";
const RECORD: &str = "https://repo.jellyfin.org/debian/";
const PASSWORD: &str = "hunter-secret-3";

struct Project {
    root: PathBuf,
    key: Key,
    _turn: fs::File,
}

impl Project {
    fn new() -> Self {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("deploy-real");
        fs::create_dir_all(&place).unwrap();
        let turn = fs::File::create(place.join("turn")).unwrap();
        turn.lock().unwrap();
        let root = place.join("project");
        if root.exists() {
            fs::remove_dir_all(&root).unwrap();
        }
        let _ = fs::remove_file(place.join("tour.txt"));
        for part in ["recipes", "images"] {
            let from = Path::new(env!("CARGO_MANIFEST_DIR")).join(part);
            for entry in walkdir::WalkDir::new(&from) {
                let entry = entry.unwrap();
                let to = root.join(part).join(entry.path().strip_prefix(&from).unwrap());
                match entry.file_type().is_dir() {
                    true => fs::create_dir_all(to).unwrap(),
                    false => fs::write(to, fs::read(entry.path()).unwrap()).unwrap(),
                }
            }
        }
        let project = Self { root, key: Key::generate(), _turn: turn };
        project.change("recipes/jellyfin/recipe.toml", FINGERPRINT, &project.key.fingerprint());
        project.change("recipes/jellyfin/recipe.toml", RECORD, "http://127.0.0.1:1/jellyfin/");
        project.change("images/site.toml", "root@192.168.1.3", "root@node.test");
        // Smaller than the node's storage here.
        project.change("images/jellyfin.toml", "64 GiB", "8 GiB");
        fs::write(project.root.join("recipes/jellyfin/keys/jellyfin-team.asc"), project.key.certificate())
            .unwrap();
        project
    }

    fn change(&self, file: &str, old: &str, new: &str) {
        let path = self.root.join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(old), "no `{old}` in {file}");
        fs::write(path, text.replace(old, new)).unwrap();
    }

    fn output(&self, served: &Served, node: &Node, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_build-images"))
            .arg("--root")
            .arg(&self.root)
            .args(["--mirror", &format!("jellyfin={}jellyfin/", served.server.uri())])
            .args(arguments)
            .env("BUILD_IMAGES_SSH", node.ssh())
            .output()
            .unwrap()
    }

    /// The same; what people see of it is noted beside the project, for the tour in README.md.
    fn run(&self, served: &Served, node: &Node, arguments: &[&str]) -> Run {
        let run = Run::of(self.output(served, node, arguments));
        let text = format!("$ build-images {}\n{}{}\n", arguments.join(" "), run.out, run.err);
        let tour = self.root.with_file_name("tour.txt");
        let mut file = fs::OpenOptions::new().create(true).append(true).open(tour).unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        run
    }
}

#[test]
fn both_images_are_deployed_upgraded_and_taken_back() {
    let ready = prepared()
        && support::require("LXC (package lxc)", has_program("lxc-start"))
        && support::require(
            "debian.common.conf (package lxc-templates)",
            Path::new("/usr/share/lxc/config/debian.common.conf").exists(),
        );
    if !ready {
        return;
    }
    let (project, node) = (Project::new(), Node::new("3g"));
    let served = OLD.serve(&project.key, 48);
    if !project.output(&served, &node, &["lock"]).status.success() {
        expect_success("update", &project.output(&served, &node, &["update"]));
    }
    // What is printed makes the directories; there are none yet.
    let run = project.run(&served, &node, &["deploy"]).code(1);
    let help: Vec<_> =
        run.err.lines().filter_map(|line| line.strip_prefix("  = help: on the node: ")).collect();
    assert!(help.len() >= 4 && help.iter().all(|line| line.starts_with("install -d ")), "{}", run.err);
    // The owners are those of `storage.sh`, also of what no recipe makes.
    assert!(help.contains(&"install -d -o 100000 -g 100950 -m 2775 /srv/media/movies"), "{}", run.err);
    for line in help {
        node.run(line);
    }
    let admin = node.directory.path().join("admin");
    fs::write(&admin, format!("chief\n{PASSWORD}\n")).unwrap();
    let secret = format!("jellyfin.administrator={}", admin.display());
    let run = project.run(&served, &node, &["deploy", "--secret", &secret]).code(0);
    assert!(!run.out.contains("waits to be set up"), "{}", run.out);
    let line = run.out.lines().find(|line| line.starts_with("qbittorrent: the first password is ")).unwrap();
    logs_in(&node, line.split(' ').nth(5).unwrap());
    let signed_in = node.run(&format!(
        "perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(\"172.16.10.56:8096\") or die; \
         $b = q({{\"Username\":\"chief\",\"Pw\":\"{PASSWORD}\"}}); print $s \"POST /Users/AuthenticateByName HTTP/1.0\\r\\n\
         Content-Length: \", length $b, \"\\r\\n\\r\\n$b\"; print <$s>'"
    ));
    assert!(signed_in.contains("200 x"), "{signed_in}");
    let again = project.run(&served, &node, &["deploy"]).code(0);
    assert_eq!(again.out.matches("nothing changed").count(), 2, "{}", again.out);

    // One template changes: less than a hundredth of the image crosses the wire, everything counted.
    project.change("recipes/qbittorrent/files/qBittorrent.conf.tera", "GlobalMaxRatio=2", "GlobalMaxRatio=3");
    project.run(&served, &node, &["qbittorrent"]).code(0);
    let size = fs::metadata(archive(&project.root.join("result/qbittorrent"))).unwrap().len();
    let before = node.wire();
    project.run(&served, &node, &["deploy", "qbittorrent"]).code(0);
    let crossed = node.wire() - before;
    assert!(crossed * 100 < size, "{crossed} of {size} bytes crossed the wire");

    // Jellyfin's migration goes one way: its state is copied, and comes back with the older image.
    drop(served);
    let newer = NEW.serve(&project.key, 1);
    project.run(&newer, &node, &["update", "jellyfin"]).code(0);
    let run = project.run(&newer, &node, &["deploy", "jellyfin"]).code(0);
    assert!(run.err.contains("copying the state"), "{}", run.err);
    let version = "/srv/appdata/jellyfin/version";
    assert_eq!(node.read(version).trim(), NEW.server);
    let run = project.run(&newer, &node, &["deploy", "--rollback", "jellyfin"]).code(0);
    assert!(run.out.contains("its state is that of before the upgrade"), "{}", run.out);
    assert_eq!(node.read(version).trim(), OLD.server);
    let kept = node.run("cat /srv/appdata/.jellyfin.*/version");
    assert!(kept.contains(NEW.server), "the newer state is kept: {kept}");

    project.run(&newer, &node, &["deploy", "--rollback", "qbittorrent"]).code(0);
}

/// The newest archive in a result's directory.
fn archive(result: &Path) -> PathBuf {
    let entries = fs::read_dir(result).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "zst")).max().unwrap()
}

fn logs_in(node: &Node, password: &str) {
    let body = format!("username=admin&password={password}");
    let answer = node.run(&format!(
        "perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(\"172.16.10.59:8080\") or die; print $s \
         \"POST /api/v2/auth/login HTTP/1.0\\r\\nHost: 172.16.10.59:8080\\r\\nContent-Type: application/x-www-form-urlencoded\\r\\n\
         Content-Length: {}\\r\\n\\r\\n{body}\"; print <$s>'",
        body.len()
    ));
    assert!(answer.contains("Ok.") || answer.contains(" 204 "), "{answer}");
}
