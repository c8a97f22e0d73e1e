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
use crate::support::shipped;
use crate::support::updates::{changed, lock_the_point_release, packages};
use crate::{prepared, support};

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
        shipped::project(&root);
        let project = Self { root, key: Key::generate(), _turn: turn };
        shipped::jellyfin_signed_by(&project.root, &project.key);
        project.change("images/site.toml", "root@192.168.1.3", "root@node.test");
        // Smaller than the node's storage here.
        project.change("images/jellyfin.toml", "64 GiB", "8 GiB");
        project
    }

    fn change(&self, file: &str, old: &str, new: &str) {
        shipped::change(&self.root, file, old, new);
    }

    fn store(&self) -> PathBuf {
        self.root.with_file_name("store")
    }

    fn output(&self, served: &Served, node: &Node, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_build-images"))
            .arg("--root")
            .arg(&self.root)
            .args(["--mirror", &format!("jellyfin={}jellyfin/", served.server.uri())])
            .args(arguments)
            .env("BUILD_IMAGES_SSH", node.ssh())
            .env("BUILD_IMAGES_STORE", self.store())
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
        )
        && support::require(
            "Perl's IO::Socket::SSL (package libio-socket-ssl-perl), which a node has",
            Command::new("perl")
                .args(["-MIO::Socket::SSL", "-e1"])
                .status()
                .is_ok_and(|status| status.success()),
        );
    let Some(program) = ready.then(support::traefik::program).flatten() else { return };
    let (project, node) = (Project::new(), Node::new("3g"));
    let served = OLD.serve(&project.key, 48);
    // Older than what there is, so that there is something to update to.
    lock_the_point_release(&project.root, || {
        expect_success("lock", &project.output(&served, &node, &["lock"]));
    });
    let point_release = fs::read(project.root.join("images/images.lock")).unwrap();
    // Containers with these ids that were made by other means: neither is touched.
    let others = [(156, "172.16.10.56"), (159, "172.16.10.59")].map(|(vmid, address)| {
        let text = format!(
            "hostname: by-hand\nnet0: name=eth0,bridge=vmbr3,ip={address}/24,type=veth\nrootfs: local-lvm:vm-{vmid}-disk-0,size=8G\n"
        );
        (vmid, format!("/etc/pve/lxc/{vmid}.conf"), text)
    });
    others.iter().for_each(|(_, path, text)| node.write(path, text));
    let run = Run::of(project.output(&served, &node, &["deploy"])).code(1);
    for (vmid, path, text) in &others {
        let said = format!("container {vmid} was not made by `build-images deploy`, and is not overwritten");
        assert!(run.err.contains(&said), "{}", run.err);
        assert_eq!((node.read(path).as_str(), node.calls().len()), (text.as_str(), 0));
        fs::remove_file(node.path(path)).unwrap();
    }
    assert!(!node.exists("/var/lib/build-images/156") && !node.exists("/var/lib/build-images/159"));
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

    // Behind a real proxy with the site's own file it answers under its name, once that has found out that it works.
    let proxy = Proxy::start(&node, &program, &project.root.join("result/site/traefik/build-images.yml"));

    // One template changes: less than a hundredth of the image crosses the wire, everything counted.
    project.change("recipes/qbittorrent/files/qBittorrent.conf.tera", "GlobalMaxRatio=2", "GlobalMaxRatio=3");
    project.run(&served, &node, &["qbittorrent"]).code(0);
    let size = fs::metadata(archive(&project.root.join("result/qbittorrent"))).unwrap().len();
    let before = node.wire();
    let run = project.run(&served, &node, &["deploy", "qbittorrent"]).code(0);
    let crossed = node.wire() - before;
    assert!(
        run.out.contains("qbittorrent: it works through the proxy, over https\n"),
        "{}\n{}",
        run.out,
        proxy.log()
    );
    drop(proxy);
    assert!(crossed * 100 < size, "{crossed} of {size} bytes crossed the wire");

    a_security_update_costs_what_it_brings(&project, &served, &node, &point_release);

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

/// Of an update of Debian's, the changed packages' own bytes cross the wire, and at most 2 % of the image beside them.
#[expect(clippy::print_stdout, reason = "the measured figures")]
fn a_security_update_costs_what_it_brings(project: &Project, served: &Served, node: &Node, before: &[u8]) {
    let packages = || {
        let output = project.output(served, node, &["show", "qbittorrent", "--json"]);
        packages(&serde_json::from_slice(&output.stdout).unwrap())
    };
    let had = packages();
    expect_success("update", &project.output(served, node, &["update"]));
    let newest = packages();
    fs::write(project.root.join("images/images.lock"), before).unwrap();
    // Right after a point release there is none.
    let Some((name, _)) = newest.iter().find(|(name, hash)| had.get(*name) != Some(hash)) else { return };
    project.run(served, node, &["update", name]).code(0);
    project.run(served, node, &["qbittorrent"]).code(0);
    let own = changed(&had, &packages(), &project.store().join("debs"));
    let size = fs::metadata(archive(&project.root.join("result/qbittorrent"))).unwrap().len();
    let begun = node.wire();
    let run = project.run(served, node, &["deploy", "qbittorrent"]).code(0);
    let crossed = node.wire() - begun;
    assert!(run.out.contains("upgraded"), "{}", run.out);
    let beyond = crossed.saturating_sub(own.iter().sum());
    println!(
        "update {name}: {} packages; {crossed} bytes crossed the wire, beyond theirs {:.2} % of the image",
        own.len(),
        beyond as f64 * 100.0 / size as f64
    );
    assert!(!own.is_empty() && crossed > 0);
    assert!(
        beyond * 50 <= size,
        "{name}: {crossed} of {size} bytes crossed the wire, {own:?} are the packages'"
    );
}

/// A real Traefik at the site's address of the proxy, with a certificate of its own.
struct Proxy<'node> {
    node: &'node Node,
    child: std::process::Child,
}

impl<'node> Proxy<'node> {
    fn start(node: &'node Node, program: &Path, dynamic: &Path) -> Self {
        let place = node.path("/mnt/traefik");
        fs::create_dir(&place).unwrap();
        fs::copy(dynamic, place.join("build-images.yml")).unwrap();
        let log = fs::File::create(node.directory.path().join("traefik.log")).unwrap();
        let child = node
            .long(program)
            .args(["--global.checkNewVersion=false", "--global.sendAnonymousUsage=false"])
            .args(["--providers.file.directory=/mnt/traefik", "--providers.file.watch=false"])
            .arg("--entryPoints.websecure.address=172.16.10.102:443")
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let proxy = Self { node, child };
        for _ in 0..200 {
            if node.try_run("ss -Htln | grep -q 172.16.10.102:443").0 {
                return proxy;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        panic!("no proxy: {}", proxy.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.node.directory.path().join("traefik.log")).unwrap()
    }
}

impl Drop for Proxy<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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
