//! Debian 13's own apt, asked in a Debian 13 root.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use build_images::digest::Sha256;

/// What apt is configured to in the root: nothing installed, whatever the root itself has.
const OPTIONS: [&str; 4] = [
    "Dir::State::status=/dev/null",
    "Acquire::Languages=none",
    "APT::Get::Show-User-Simulation-Note=0",
    "Dir::Log=/tmp",
];

/// A Debian 13 root with package lists, kept in the system's temporary directory from run to run.
pub struct Debian {
    root: PathBuf,
    /// Answers already given for exactly these lists and this apt.
    answers: PathBuf,
    /// The `Packages` files, in the order of the sources: name of the suite, text.
    pub indices: Vec<(String, String)>,
}

/// What apt says: the packages it would install with their versions, or nothing when it refuses.
pub type Answer = Option<BTreeMap<String, String>>;

/// One question: the packages named, and whether recommendations come too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question {
    pub names: Vec<String>,
    pub recommends: bool,
}

impl Debian {
    /// Makes the root, or takes the one that is there.
    pub fn open() -> Self {
        let home = std::env::temp_dir().join("build-images-oracle-trixie");
        fs::create_dir_all(&home).unwrap();
        let lock = fs::File::create(home.join("lock")).unwrap();
        lock.lock().unwrap();
        let root = home.join("root");
        if !root.exists() {
            let fresh = tempfile::tempdir_in(&home).unwrap();
            let made = fresh.path().join("root");
            let (main, security) = host_mirrors();
            run(Command::new("mmdebstrap")
                .args(["--quiet", "--variant=apt", "trixie"])
                .arg(&made)
                .arg(&main));
            let sources = format!(
                "deb {main} trixie main\ndeb {main} trixie-updates main\ndeb {security} trixie-security main\n"
            );
            fs::write(made.join("etc/apt/sources.list"), sources).unwrap();
            fs::copy("/etc/resolv.conf", made.join("etc/resolv.conf")).unwrap();
            for file in ["/etc/apt/apt.conf", "/etc/apt/auth.conf"] {
                if Path::new(file).exists() {
                    fs::copy(file, made.join(&file[1..])).unwrap();
                }
            }
            run(chroot(&made).args(["apt-get", "-qq", "-o", "Acquire::Languages=none", "update"]));
            fs::rename(&made, &root).unwrap();
        }
        let lists = root.join("var/lib/apt/lists");
        let mut files: Vec<_> = fs::read_dir(&lists).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let mut identity = output(chroot(&root).args(["apt-get", "--version"]));
        let mut indices = Vec::new();
        for suite in ["trixie", "trixie-updates", "trixie-security"] {
            let ending = format!("_dists_{suite}_main_binary-amd64_Packages");
            let file = files.iter().find(|file| file.to_string_lossy().ends_with(&ending)).unwrap();
            let text = fs::read_to_string(file).unwrap();
            identity += &Sha256::of(&text).to_string();
            indices.push((suite.to_owned(), text));
        }
        let answers = home.join("answers").join(Sha256::of(identity).to_string());
        fs::create_dir_all(&answers).unwrap();
        Debian { root, answers, indices }
    }

    /// Asks apt, two questions at a time.
    pub fn ask(&self, questions: &[Question]) -> Vec<Answer> {
        let answers = Mutex::new(BTreeMap::new());
        let next = Mutex::new(0..questions.len());
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    loop {
                        let Some(place) = next.lock().unwrap().next() else { break };
                        let answer = self.answer(&questions[place]);
                        answers.lock().unwrap().insert(place, answer);
                    }
                });
            }
        });
        answers.into_inner().unwrap().into_values().collect()
    }

    fn answer(&self, question: &Question) -> Answer {
        let mode = if question.recommends { "with" } else { "without" };
        let key = match &question.names[..] {
            [only] => only.clone(),
            names => Sha256::of(names.join(" ")).to_string(),
        };
        let file = self.answers.join(format!("{mode}-{key}"));
        let said = fs::read_to_string(&file).unwrap_or_else(|_| {
            let recommends = format!("APT::Install-Recommends={}", u8::from(question.recommends));
            let mut command = chroot(&self.root);
            command.args(["apt-get", "-s", "-q"]);
            for option in OPTIONS.into_iter().chain([recommends.as_str()]) {
                command.args(["-o", option]);
            }
            let out = command.arg("install").args(&question.names).output().unwrap();
            let text = String::from_utf8(out.stdout).unwrap();
            // `Inst name (version origin [architecture]) …`
            let line = |line: &str| {
                let mut words = line.strip_prefix("Inst ")?.split(' ');
                let (name, version) = (words.next()?, words.next()?.strip_prefix('(')?);
                Some(format!("{name} {version}\n"))
            };
            let said: String = text.lines().filter_map(line).collect();
            let said = format!("{said}rc {}\n", out.status.code().unwrap());
            fs::write(&file, &said).unwrap();
            said
        });
        let (packages, code) = said.trim_end().rsplit_once("rc ").unwrap();
        let pair =
            |line: &str| line.split_once(' ').map(|(name, version)| (name.to_owned(), version.to_owned()));
        (code == "0").then(|| packages.lines().filter_map(pair).collect())
    }
}

/// Where the host's apt gets Debian and its security updates from.
fn host_mirrors() -> (String, String) {
    let said = output(Command::new("apt-get").args(["indextargets", "--format", "$(REPO_URI)"]));
    let find = |ending: &str| {
        let found = said.lines().find(|line| line.trim_end_matches('/').ends_with(ending));
        found.unwrap_or_else(|| panic!("the host's apt has no source ending in {ending}")).to_owned()
    };
    (find("/debian"), find("/debian-security"))
}

fn chroot(root: &Path) -> Command {
    let mut command = Command::new("chroot");
    command
        .arg(root)
        .stdin(Stdio::null())
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C");
    command
}

fn run(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?} ended with {status}");
}

fn output(command: &mut Command) -> String {
    let out = command.output().unwrap();
    assert!(
        out.status.success(),
        "{command:?} ended with {}: {}",
        out.status,
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8(out.stdout).unwrap()
}
