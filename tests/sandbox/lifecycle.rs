//! Starting and ending: workers that do not start, outer processes that die, directories on disk.

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};

use build_images::sandbox::{Cleaner, IdRange, Scratch, Worker, WorkerError};

use crate::Test;
use crate::world::{self, Order};

pub const TESTS: &[Test] = &[
    ("a program that is no worker is named", no_worker),
    ("a worker is not started by hand", by_hand),
    ("what a dead worker said is shown", worker_fails),
    ("jobs follow each other in one root", twice),
    ("a dropped worker ends with its job", dropped),
    ("a killed outer process leaves nothing", killed),
    ("a scratch directory serves as root", scratch),
    ("a full disk ends the job", full_disk),
    ("a killed build's scratch directory is removed by the next", leftover),
];

fn no_worker() {
    let range = IdRange::discover().unwrap();
    let spawn = |exe: &str| Worker::spawn(Path::new(exe), &[], Vec::new(), &range).err().unwrap();
    let missing = spawn("/no/such/program").to_string();
    assert_eq!(missing, "cannot start the worker `/no/such/program`: No such file or directory (os error 2)");
    assert_eq!(spawn("/bin/true").to_string(), "the worker ended with exit status 0");
    assert!(matches!(spawn("/bin/false"), WorkerError::Ended { .. }));
}

fn by_hand() {
    let exe = std::env::current_exe().unwrap();
    let output = Command::new(exe).arg("__worker").stdin(Stdio::null()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr, "this command is a part of a build that `build-images` starts by itself\n");
}

fn worker_fails() {
    let range = IdRange::discover().unwrap();
    // Without any descriptor the worker panics after it has entered.
    let worker = Worker::spawn(&std::env::current_exe().unwrap(), &["__worker"], Vec::new(), &range).unwrap();
    let error = worker.wait().unwrap_err().to_string();
    assert!(error.starts_with("the worker ended with exit status 101: "), "{error}");
    assert!(error.contains("panicked"), "{error}");
}

fn twice() {
    let report = world::run("fail", &[], |order| order.times = 3);
    assert_eq!(report.lines.len(), 93);
}

fn dropped() {
    let marker = world::marker();
    let order = Order::new(&["__inside", "sleep", &marker, "1000"]);
    let worker = world::spawn(&order, &tempfile::tempfile().unwrap(), None);
    wait_for(&marker);
    drop(worker);
    assert_eq!(world::processes(&marker), Vec::<String>::new());
}

/// Waits until the job itself runs, which carries the marker.
fn wait_for(marker: &str) {
    for _ in 0..2000 {
        let found = std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            let line = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
            line.starts_with("/bin/test\0") && line.contains(marker)
        });
        if found {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("the job did not start");
}

/// The outer process of [`killed`] and [`leftover`]: starts a job and waits for it.
pub fn outer(args: &[&str]) -> ! {
    let mut order = Order::new(&["__inside", "sleep", args[0], "1000"]);
    let scratch = args.get(1).map(|parent| {
        order.keep_free = Some(0);
        new_scratch(Path::new(parent))
    });
    world::start(&order, scratch.as_ref());
    std::process::exit(0)
}

fn new_scratch(parent: &Path) -> Scratch {
    let range = IdRange::discover().unwrap();
    let exe = std::env::current_exe().unwrap();
    let cleaner = Cleaner { exe: &exe, args: &["__worker"], range: &range };
    Scratch::create(parent, &cleaner, &mut |error| panic!("{error}")).unwrap()
}

fn remove(scratch: Scratch) {
    let range = IdRange::discover().unwrap();
    let exe = std::env::current_exe().unwrap();
    scratch.remove(&Cleaner { exe: &exe, args: &["__worker"], range: &range }).unwrap();
}

/// The processes below one.
fn descendants(pid: u32) -> Vec<u32> {
    let children = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children =
        children.map(|task| std::fs::read_to_string(task.path().join("children")).unwrap_or_default());
    let children: Vec<u32> = children
        .flat_map(|line| line.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>())
        .collect();
    children.into_iter().flat_map(|child| [vec![child], descendants(child)].concat()).collect()
}

/// Starts an outer process, and kills it when its job runs.
fn kill_outer(more: &[&str]) {
    let marker = world::marker();
    let mounts = world::mounts();
    let mut outer = Command::new(std::env::current_exe().unwrap());
    let mut outer = outer.arg("__outer").arg(&marker).args(more).stderr(Stdio::piped()).spawn().unwrap();
    wait_for(&marker);
    let all = descendants(outer.id());
    assert!(all.len() >= 4, "worker, starter, init and the program: {all:?}");
    outer.kill().unwrap();
    outer.wait().unwrap();
    assert_eq!(world::processes(&marker), Vec::<String>::new(), "processes are left");
    let left = || all.iter().filter(|pid| Path::new(&format!("/proc/{pid}")).exists()).count();
    let gone = (0..500).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        left() == 0
    });
    assert!(gone, "of {all:?}, {} are left", left());
    assert_eq!(world::mounts(), mounts, "mounts are left");
    let mut stderr = String::new();
    outer.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(stderr, "");
}

fn killed() {
    kill_outer(&[]);
}

/// A directory that nobody else may enter, as a build's own is.
fn closed() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn scratch() {
    let parent = closed();
    for attack in ["tree", "owners"] {
        let scratch = new_scratch(parent.path());
        let marker = world::marker();
        let mut order = Order::new(&["__inside", attack, &marker]);
        order.keep_free = Some(1);
        let report = world::start(&order, Some(&scratch));
        match attack {
            "owners" => insta::assert_snapshot!(report.files.join("\n"), @r"
                a 0:0 100644
                b 1:2 106755
                c 65535:65534 100644 0100000200040000000000000000000000000000
                "),
            _ => assert_eq!(report.success(), ["made"]),
        }
        assert_eq!(names(parent.path()).len(), 2);
        remove(scratch);
        assert_eq!(names(parent.path()), ["scratch.lock"]);
    }
}

fn full_disk() {
    let parent = closed();
    let scratch = new_scratch(parent.path());
    let marker = world::marker();
    let mut order = Order::new(&["__inside", "sleep", &marker, "1000"]);
    // No disk has that much left, so the first look ends it.
    order.keep_free = Some(u64::MAX);
    let report = world::start(&order, Some(&scratch));
    assert_eq!(report.kind, "disk", "{report:#?}");
    remove(scratch);
}

fn leftover() {
    let parent = closed();
    kill_outer(&[parent.path().to_str().unwrap()]);
    assert_eq!(names(parent.path()).len(), 2, "something to remove");
    let scratch = new_scratch(parent.path());
    assert_eq!(names(parent.path()).len(), 2, "the new one only");
    remove(scratch);
    assert_eq!(names(parent.path()), ["scratch.lock"]);
}
