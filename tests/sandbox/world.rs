//! Runs one job in a worker of its own and looks whether anything of it is left.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use build_images::sandbox::{self, IdRange, Job, JobError, Medium, Scratch, Worker};
use serde::{Deserialize, Serialize};

/// What the worker is to do.
#[derive(Serialize, Deserialize, Clone)]
pub struct Order {
    pub program: String,
    pub directory: String,
    pub args: Vec<String>,
    pub timeout: Duration,
    pub max_processes: u64,
    pub memory: u64,
    pub max_output: u64,
    pub max_file: u64,
    pub root_bytes: u64,
    pub root_files: u64,
    pub keep_free: Option<u64>,
    pub libraries: Vec<String>,
    /// How many bytes the worker itself uses meanwhile.
    pub ballast: usize,
    /// How often the same job is run in the same root.
    pub times: u32,
}

impl Order {
    pub fn new(args: &[&str]) -> Self {
        Self {
            program: "/bin/test".to_owned(),
            directory: "/tmp".to_owned(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            timeout: Duration::from_secs(60),
            max_processes: 64,
            memory: 1 << 30,
            max_output: 1 << 20,
            max_file: 1 << 30,
            root_bytes: 256 << 20,
            root_files: 10_000,
            keep_free: None,
            libraries: libraries().iter().map(|path| path.display().to_string()).collect(),
            ballast: 0,
            times: 1,
        }
    }
}

/// What came of it.
#[derive(Serialize, Deserialize, Debug)]
pub struct Report {
    /// All lines that the job wrote.
    pub lines: Vec<String>,
    /// How the program ended, as text, when it ended by itself.
    pub status: Option<String>,
    /// The variant of the error.
    pub kind: String,
    /// The error's message.
    pub error: String,
    pub tail: Vec<String>,
    /// `path uid gid mode xattr` of the files in the root's `/tmp`.
    pub files: Vec<String>,
}

impl Report {
    /// The job's lines, when it ended with exit status 0.
    pub fn success(self) -> Vec<String> {
        assert_eq!(self.status.as_deref(), Some("exit status 0"), "{self:#?}");
        self.lines
    }
}

/// The argument that every process of a test's job carries, so that none can hide.
pub fn marker() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("marker-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Runs `__inside attack marker…` and checks that the host is as before.
pub fn run(attack: &str, more: &[&str], change: impl FnOnce(&mut Order)) -> Report {
    let marker = marker();
    let mut order = Order::new(&[&["__inside", attack, &marker], more].concat());
    change(&mut order);
    let mounts = mounts();
    let report = start(&order, None);
    assert_eq!(processes(&marker), Vec::<String>::new(), "processes are left");
    assert_eq!(self::mounts(), mounts, "mounts are left");
    report
}

/// Starts a worker for the order, waits for it and reads what it reports.
pub fn start(order: &Order, scratch: Option<&Scratch>) -> Report {
    let mut report = tempfile::tempfile().unwrap();
    let worker = spawn(order, &report, scratch);
    worker.wait().unwrap_or_else(|error| panic!("{error}"));
    let mut text = String::new();
    report.rewind().unwrap();
    report.read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap()
}

pub fn spawn(order: &Order, report: &File, scratch: Option<&Scratch>) -> Worker {
    let mut text = tempfile::tempfile().unwrap();
    text.write_all(serde_json::to_string(order).unwrap().as_bytes()).unwrap();
    text.rewind().unwrap();
    let exe = File::open("/proc/self/exe").unwrap();
    let mut fds: Vec<OwnedFd> = vec![text.into(), exe.into(), report.try_clone().unwrap().into()];
    for library in &order.libraries {
        fds.push(File::open(library).unwrap().into());
    }
    let range = IdRange::discover().unwrap();
    let exe = std::env::current_exe().unwrap();
    let args = &["__worker"];
    match scratch {
        None => Worker::spawn(&exe, args, fds, &range),
        Some(scratch) => Worker::spawn_with_scratch(&exe, args, fds, &range, scratch),
    }
    .unwrap_or_else(|error| panic!("{error}"))
}

/// The worker: makes a root that holds this binary, and runs it there.
pub fn worker() -> ! {
    let mut inside = sandbox::enter().unwrap_or_else(|error| {
        eprintln!("{error}");
        std::process::exit(1)
    });
    let mut files = inside.take_descriptors().into_iter().map(File::from);
    let order: Order = serde_json::from_reader(files.next().unwrap()).unwrap();
    let (exe, mut report_file) = (files.next().unwrap(), files.next().unwrap());
    let root = inside
        .mount_root(match order.keep_free {
            None => Medium::Memory { bytes: order.root_bytes, files: order.root_files },
            Some(keep_free) => Medium::Scratch { keep_free },
        })
        .unwrap_or_else(|error| panic!("{error}"));
    for directory in ["proc", "dev", "tmp", "bin", "lib64", "etc"] {
        std::fs::create_dir(root.join(directory)).unwrap();
    }
    let place = |mut from: File, to: PathBuf| {
        std::io::copy(&mut from, &mut File::create(&to).unwrap()).unwrap();
        std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    place(exe, root.join("bin/test"));
    for (path, file) in order.libraries.iter().zip(files) {
        place(file, root.join("lib64").join(Path::new(path).file_name().unwrap()));
    }
    let args: Vec<&str> = order.args.iter().map(String::as_str).collect();
    let job = Job {
        program: &order.program,
        args: &args,
        env: &[("LD_LIBRARY_PATH", "/lib64"), ("RUST_BACKTRACE", "0")],
        cwd: &order.directory,
        timeout: order.timeout,
        max_processes: order.max_processes,
        memory: order.memory,
        max_output: order.max_output,
        max_file: order.max_file,
        one_processor: true,
        calls: None,
    };
    let ballast = vec![1u8; order.ballast];
    let mut lines = Vec::new();
    let mut result = None;
    for _ in 0..order.times {
        result = Some(root.run(&job, &mut |line| {
            // Enough for any test, and bounded for the one that writes without end.
            if lines.len() < 10_000 {
                lines.push(line.to_owned());
            }
        }));
    }
    drop(ballast);
    let mut report = Report {
        lines,
        status: None,
        kind: String::new(),
        error: String::new(),
        tail: Vec::new(),
        files: listing(&root.join("tmp")),
    };
    match result.unwrap() {
        Ok(outcome) => {
            report.status = Some(outcome.status.to_string());
            report.tail = outcome.tail;
        }
        Err(error) => {
            report.kind = match error {
                JobError::Setup { .. } => "setup",
                JobError::TimedOut { .. } => "timeout",
                JobError::Memory { .. } => "memory",
                JobError::Disk { .. } => "disk",
                JobError::Output { .. } => "output",
                JobError::LeftBehind { .. } => "left",
            }
            .to_owned();
            report.error = error.to_string();
            report.tail = error.tail().to_vec();
        }
    }
    report_file.write_all(serde_json::to_string(&report).unwrap().as_bytes()).unwrap();
    std::process::exit(0)
}

fn listing(directory: &Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt as _;
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let meta = entry.path().symlink_metadata().unwrap();
        let mut value = [0; 64];
        let length = rustix::fs::lgetxattr(entry.path(), "security.capability", &mut value).unwrap_or(0);
        let capability: String = value[..length].iter().map(|byte| format!("{byte:02x}")).collect();
        let name = entry.file_name().into_string().unwrap();
        let capability = if capability.is_empty() { String::new() } else { format!(" {capability}") };
        files.push(format!("{name} {}:{} {:o}{capability}", meta.uid(), meta.gid(), meta.mode()));
    }
    files.sort();
    files
}

/// The shared libraries that this binary needs.
fn libraries() -> BTreeSet<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let paths = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
    paths.filter(|path| path.starts_with('/') && path.contains(".so")).map(PathBuf::from).collect()
}

/// The command lines of processes anywhere on the host that carry the marker, after a moment for the kernel.
pub fn processes(marker: &str) -> Vec<String> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let line = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
            if line.contains(marker) && entry.file_name() != std::process::id().to_string().as_str() {
                found.push(line.replace('\0', " "));
            }
        }
        if found.is_empty() || Instant::now() > deadline {
            return found;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The host's mounts.
pub fn mounts() -> String {
    std::fs::read_to_string("/proc/self/mountinfo").unwrap()
}
