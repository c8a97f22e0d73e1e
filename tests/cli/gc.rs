//! `gc`: what nobody refers to goes, what somebody may want stays.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use build_images::store::{Kind, Store};

use crate::project::{Project, later};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn old(path: &Path, days: u32) {
    let file = File::open(path).unwrap();
    file.set_modified(SystemTime::now() - DAY * days).unwrap();
}

#[test]
fn what_nobody_refers_to_goes() {
    let (project, served) = Project::locked();
    let store = Store::open(project.store()).unwrap();
    let wanted = served.locked_packages()[1].sha256;
    let unwanted = "0".repeat(64);
    for name in [wanted.to_string(), unwanted.clone()] {
        fs::write(store.path(Kind::Deb, &name), "12345").unwrap();
    }
    fs::create_dir(store.path(Kind::Layer, &unwanted)).unwrap();
    fs::write(store.path(Kind::Layer, &unwanted).join("pack"), "123").unwrap();
    fs::write(store.path(Kind::Frame, &unwanted), "1").unwrap();
    for directory in ["scans", "notes", "results"] {
        fs::create_dir_all(store.root().join(directory)).unwrap();
        fs::write(store.root().join(directory).join(&unwanted), "1").unwrap();
    }
    fs::write(store.root().join("tmp/fresh"), "1").unwrap();
    fs::write(store.root().join("tmp/old"), "1").unwrap();
    fs::create_dir(store.root().join("tmp/old-directory")).unwrap();
    old(&store.root().join("tmp/old"), 2);
    old(&store.root().join("tmp/old-directory"), 2);

    let dry = project.run(&served, &["gc", "--dry-run"]).code(0);
    assert!(dry.out.starts_with("would drop 8 objects, "), "{}", dry.out);
    assert!(store.contains(Kind::Deb, &unwanted));
    // Everything is young but what stands in tmp.
    let json = project.run(&served, &["gc", "--keep-days", "1", "--json"]).code(0).json();
    assert_eq!(json["objects"], 2);
    let run = project.run(&served, &["gc"]).code(0);
    assert!(run.out.starts_with("dropped 6 objects, "), "{}", run.out);
    for kind in [Kind::Deb, Kind::Layer, Kind::Frame] {
        assert!(!store.contains(kind, &unwanted));
    }
    assert!(store.contains(Kind::Deb, wanted));
    assert!(store.root().join("tmp/fresh").exists());
    assert!(!store.root().join("tmp/old-directory").exists());
    assert!(project.run(&served, &["gc"]).code(0).out.starts_with("dropped 0 objects, 0 B; "));
}

#[test]
fn what_the_lock_was_made_from_stays_so_that_more_can_be_locked_without_network() {
    let (project, served) = Project::locked();
    project.run(&served, &["gc"]).code(0);
    project.app(&["app", "more"]);
    drop(served);
    let nobody = project.serve(later(), 24);
    let asked = nobody.server.requests().len();
    project.run(&nobody, &["lock"]).code(0);
    assert!(project.pins().contains(&"more 1".to_owned()));
    assert_eq!(nobody.server.requests().len(), asked);
}

#[test]
fn it_waits_until_no_build_uses_the_store() {
    let (project, served) = Project::locked();
    let store = Store::open(project.store()).unwrap();
    fs::write(store.path(Kind::Deb, "0"), "1").unwrap();
    let used = store.use_objects().unwrap();
    let mut command = project.command(&served, &["gc"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut err = std::io::BufReader::new(child.stderr.take().unwrap());
    std::io::BufRead::read_line(&mut err, &mut line).unwrap();
    assert_eq!(line, "gc: waiting until no build uses the store\n");
    assert!(store.contains(Kind::Deb, "0"));
    // Others that use the store need not wait for it.
    project.run(&served, &["lock"]).code(0);
    // A wait can be interrupted.
    let mut stopped = project.command(&served, &["gc", "-q"]).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let signal = rustix::process::Signal::INT;
    rustix::process::kill_process(rustix::process::Pid::from_child(&stopped), signal).unwrap();
    assert_eq!(stopped.wait().unwrap().code(), Some(130));
    drop(used);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(!store.contains(Kind::Deb, "0"));
}
