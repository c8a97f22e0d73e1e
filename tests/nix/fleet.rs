//! Many machines: two builders, a client, and another client that has only a cache, in a network of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use build_images::artifact::Manifest;
use build_images::digest::Sha256;

use crate::machine::{Machine, Ran, derivation_name};
use crate::project::Project;
use crate::root::{BUILDER, copy, install_flake, root};
use crate::support::deb::Deb;
use crate::support::server::Server;
use crate::support::{require, small};

const CLIENT: &str = "\
experimental-features = nix-command flakes
build-users-group =
substituters =
flake-registry =
max-jobs = 16
system-features = benchmark
builders = @/etc/nix/machines
";

/// How a lost builder is noticed within seconds, as docs/fleet.md has it.
const SSH: &str = "ServerAliveInterval 3\nServerAliveCountMax 2\nConnectTimeout 3\n";

const HUB: &str = "10.77.0.254";
/// As `builder_address` has them.
const BUILDERS: [&str; 2] = ["10.77.0.1", "10.77.0.2"];
/// Images whose scripts take some seconds.
const LONG: [&str; 2] = ["long-1", "long-2"];

/// What the scripts of packages take.
#[derive(Clone, Copy)]
enum Work {
    /// A core, counting so far; some 700,000 in a second.
    Counting(u32),
    /// Seconds, but no core: as if each builder had its own.
    Waiting(u32),
}

impl Work {
    fn package(self, name: &str) -> Deb {
        match self {
            Self::Counting(count) => small::scripted(name, count),
            Self::Waiting(seconds) => {
                small::scripted_with(name, &format!("sleep {seconds}\n")).field("Depends", "sleep")
            }
        }
    }
}

/// What a project of images is like.
struct Shape {
    /// Bases that stand on the lowest one.
    bases: &'static [&'static str],
    /// Images, each on one of them and with a package of its own; two more are `bare` and `app`, on the lowest base.
    images: usize,
    /// What the package of each base and image takes.
    work: Work,
    /// Images that are not built with the others, and what theirs take.
    long: (&'static [&'static str], Work),
}

/// Of a test, which has seconds.
const SMALL: Shape = Shape {
    bases: &["web", "data"],
    images: 4,
    work: Work::Counting(0),
    long: (&LONG, Work::Counting(3_000_000)),
};

/// Of the table, which has minutes: 20 images.
fn large(work: Work) -> Shape {
    Shape { bases: &["web", "data", "media"], images: 18, work, long: (&[], work) }
}

/// A project of images over several bases, and the server in a machine's network that it gets its packages from.
struct Fleet {
    project: Project,
    images: Vec<String>,
    server: Server,
}

impl Fleet {
    fn new(machine: &Machine, shape: &Shape) -> Option<Self> {
        let project = Project::new();
        let mut packages = small::packages(0)?;
        packages.push(small::sleep()?);
        for (number, base) in shape.bases.iter().enumerate() {
            packages.push(shape.work.package(base));
            recipe(&project, base, 50 + number);
        }
        let mut images = vec!["app".to_owned(), "bare".to_owned()];
        let names: Vec<_> = (1..=shape.images).map(|number| format!("service-{number}")).collect();
        let (long, work) = shape.long;
        let all = names.iter().map(|name| (name.as_str(), shape.work));
        for (number, (name, work)) in all.chain(long.iter().map(|name| (*name, work))).enumerate() {
            packages.push(work.package(name));
            recipe(&project, name, number);
            let base = shape.bases[number % shape.bases.len()];
            project.image(name, &["base", base, name], 161 + u32::try_from(number).unwrap());
        }
        images.extend(names);
        // One brings a tarball too, from a host that nobody is.
        let bytes = tarball();
        let path = "recipes/service-1/recipe.toml";
        let text = format!(
            "{}\n[[tarball]]\nname = \"extras\"\nurl = \"http://127.0.0.1:1/extras.tar\"\nsha256 = \"{}\"\n\
             path = \"/opt/extras\"\n",
            project.read(path),
            Sha256::of(&bytes)
        );
        project.write(path, &text);
        let served = project.serve(packages, 48);
        served.server.put("extras/extras.tar", bytes);
        let mirror = |name: &str| format!("{name}={}{name}/", served.server.uri());
        let mirrors = ["lock", "--mirror", &mirror("test"), "--mirror", &mirror("extras")];
        project.run(&served, &mirrors).code(0);
        // What this program makes of it on one machine; the table does without.
        let arguments: Vec<_> = images.iter().map(String::as_str).collect();
        if !long.is_empty() {
            project.run(&served, &arguments).code(0);
        }
        let files = served.server.paths().into_iter().map(|path| (path.clone(), served.server.file(&path)));
        let files: BTreeMap<_, _> = files.collect();
        Some(Self { project, images, server: machine.in_network(|| Server::start(files)) })
    }

    /// Puts the project with a flake of its own into `machine`.
    fn install(&self, machine: &Machine) {
        for part in ["images", "recipes"] {
            copy(&self.project.path(part), &machine.path("/fleet").join(part));
        }
        let flake = format!(
            r#"{{
  inputs.build-images.url = "path:/src";
  outputs = {{ self, build-images }}:
    let made = build-images.lib.mkImages {{ src = ./.; mirrors.test = "{0}test/"; mirrors.extras = "{0}extras"; }}; in
    {{ packages.x86_64-linux = made.packages; checks.x86_64-linux = made.checks; }};
}}
"#,
            self.server.uri()
        );
        machine.write("/fleet/flake.nix", flake);
        // Once, and not again for each image.
        machine.nix(&["flake", "lock", "path:/fleet"]).good();
    }

    fn expected(&self, image: &str) -> Manifest {
        manifest(&self.project.path("result").join(image))
    }
}

/// A recipe with its package, and a user of its own whose group and directories are left to their defaults.
fn recipe(project: &Project, name: &str, number: usize) {
    let uid = 900 + number;
    let text = format!(
        "description = \"{name}\"\n\n[packages]\ninstall = [\"{name}\"]\n\n[[user]]\nname = \"{name}\"\nuid = {uid}\n"
    );
    project.write(&format!("recipes/{name}/recipe.toml"), &text);
}

/// A tarball of one file.
fn tarball() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let text = "what no package brings\n";
    let mut header = tar::Header::new_ustar();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(1_700_000_000);
    header.set_cksum();
    builder.append_data(&mut header, "extras/text", text.as_bytes()).unwrap();
    builder.into_inner().unwrap()
}

fn manifest(directory: &Path) -> Manifest {
    Manifest::parse(&fs::read_to_string(directory.join("manifest.json")).unwrap()).unwrap()
}

/// `nix build` of images of the fleet's flake.
fn arguments(images: &[String]) -> Vec<String> {
    let common = ["build", "--no-link", "--print-out-paths", "--keep-going", "-v"];
    let images = images.iter().map(|image| format!("path:/fleet#image-{image}"));
    common.map(str::to_owned).into_iter().chain(images).collect()
}

fn build(machine: &Machine, images: &[String], more: &[&str]) -> Ran {
    let arguments = arguments(images);
    let arguments: Vec<_> = arguments.iter().map(String::as_str).chain(more.iter().copied()).collect();
    machine.nix(&arguments)
}

/// Which derivations went to which builder: `building '/nix/store/…-NAME.drv' on 'ssh-ng://root@ADDRESS'...`.
fn spread(log: &str) -> Vec<(String, String)> {
    let line = |line: &str| {
        let (drv, rest) = line.trim().strip_prefix("building '")?.split_once("' on 'ssh-ng://root@")?;
        Some((derivation_name(drv), rest.split('\'').next()?.to_owned()))
    };
    log.lines().filter_map(line).collect()
}

/// Makes `builder` one that `client` may use, and gives its line for the client's list of machines.
fn make_builder(builder: &Machine, client: &Machine, address: &str, jobs: usize) -> String {
    builder.write("/etc/nix/nix.conf", BUILDER.replace("max-jobs = 2", &format!("max-jobs = {jobs}")));
    let key = client.read("/root/.ssh/id_ed25519.pub");
    builder.write("/root/.ssh/authorized_keys", key);
    // Those of the shared root would be the same on every machine.
    builder.run("sh", &["-c", "rm -f /etc/ssh/ssh_host_*; ssh-keygen -q -A; mkdir -p /run/sshd"]).good();
    builder.run("/usr/sbin/sshd", &[]).good();
    let encoded = builder.run("base64", &["-w0", "/etc/ssh/ssh_host_ed25519_key.pub"]).good().out;
    format!("ssh-ng://root@{address} x86_64-linux /root/.ssh/id_ed25519 {jobs} 1 uid-range - {encoded}\n")
}

/// A `nix build` under way, whose messages go to a file.
struct Running {
    child: Child,
    log: tempfile::NamedTempFile,
}

impl Running {
    fn start(machine: &Machine, images: &[String]) -> Self {
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut command = machine.command(240, "nix");
        command.args(arguments(images)).stdout(Stdio::null()).stderr(log.reopen().unwrap());
        Self { child: command.spawn().unwrap(), log }
    }

    fn said(&self) -> String {
        fs::read_to_string(self.log.path()).unwrap()
    }

    /// Waits until the messages show what `found` looks for.
    fn wait_for(&mut self, found: impl Fn(&str) -> bool) {
        let end = Instant::now() + Duration::from_secs(120);
        while !found(&self.said()) {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < end, "{ended:?}: {}", self.said());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn finish(mut self) -> (bool, String) {
        let status = self.child.wait().unwrap();
        (status.success(), self.said())
    }
}

/// A client, and builders that it may use.
struct Network {
    client: Machine,
    builders: Vec<Machine>,
}

impl Network {
    /// Machines that are plugged together, the client with `fleet`'s flake once that is installed.
    fn new(root: &Path, builders: usize, jobs: usize) -> Self {
        let client = Machine::new(root, "client");
        client.make_switch(&format!("{HUB}/24"));
        client.write("/root/.ssh/config", SSH);
        let key = ["-q", "-t", "ed25519", "-N", "", "-f", "/root/.ssh/id_ed25519"];
        client.run("ssh-keygen", &key).good();
        let mut network = Self { client, builders: Vec::new() };
        let mut machines = String::new();
        for number in 0..builders {
            let builder = Machine::new(root, &format!("builder-{number}"));
            let address = builder_address(number);
            builder.plug_into(&network.client, &format!("port-{number}"), &format!("{address}/24"));
            machines += &make_builder(&builder, &network.client, &address, jobs);
            network.builders.push(builder);
        }
        network.client.write("/etc/nix/machines", machines);
        install_flake(root, &network.client, CLIENT);
        network
    }
}

fn builder_address(number: usize) -> String {
    format!("10.77.0.{}", number + 1)
}

/// One test, since every step goes on from what the one before built.
#[test]
fn builders_share_the_work_survive_a_loss_and_fill_a_cache() {
    let Some(root) = root() else { return };
    let Network { client, builders } = Network::new(root, BUILDERS.len(), 2);
    let fleet = Fleet::new(&client, &SMALL);
    if !require("this host's own dpkg and shell", fleet.is_some()) {
        return;
    }
    let fleet = fleet.unwrap();
    fleet.install(&client);

    // The work is spread, each layer is built once, results come back with the bytes that one machine makes.
    let built = build(&client, &fleet.images, &[]).good();
    let spread_over = spread(&built.err);
    let by_builder = |address: &str| spread_over.iter().filter(|(_, place)| place == address).count();
    assert!(BUILDERS.iter().all(|address| by_builder(address) >= 3), "{spread_over:?}");
    let names: Vec<_> = spread_over.iter().map(|(name, _)| name.clone()).collect();
    let unique: BTreeSet<_> = names.iter().cloned().collect();
    assert_eq!(names.len(), unique.len(), "{names:?}");
    let layers = names.iter().filter(|name| name.starts_with("layer-")).count();
    // base; app, web and data on it; one for each service.
    assert_eq!(layers, 2 + SMALL.bases.len() + SMALL.images, "{names:?}");
    let outputs = built.lines();
    for (image, output) in fleet.images.iter().zip(&outputs) {
        assert_eq!(manifest(&client.path(format!("{output}/{image}"))), fleet.expected(image), "{image}");
    }

    cache(root, &client, &fleet, &outputs);
    loss(&client);
    drop(builders);
}

/// A builder that disappears costs what it was building; the same command once more does that elsewhere.
fn loss(client: &Machine) {
    let long = LONG.map(str::to_owned);
    let mut running = Running::start(client, &long);
    // Both are under way, one on each builder.
    let begun = |log: &str| {
        let long =
            |place: &str| spread(log).iter().any(|(name, other)| name.contains("long-") && other == place);
        BUILDERS.into_iter().all(long)
    };
    running.wait_for(begun);
    client.ip(&["link", "set", "port-1", "down"]);
    let (ok, log) = running.finish();
    assert!(!ok, "{log}");
    let lost: BTreeSet<_> =
        spread(&log).into_iter().filter(|(_, place)| place == BUILDERS[1]).map(|(name, _)| name).collect();
    // Only what was on the lost one, and what needs that, is left to do.
    let left = build(client, &long, &["--dry-run"]).good().to_build();
    let lost_image = left.iter().find(|name| name.starts_with("image-")).cloned();
    let lost_image = lost_image.unwrap_or_else(|| panic!("{left:?}"));
    assert!(lost.iter().all(|name| left.contains(name)), "{lost:?} {left:?}");
    assert_eq!(left.len(), 2, "{left:?}");
    let again = build(client, &long, &[]).good();
    let spread_over = spread(&again.err);
    assert!(spread_over.iter().all(|(_, place)| place == BUILDERS[0]), "{spread_over:?}");
    assert!(spread_over.iter().any(|(name, _)| *name == lost_image), "{spread_over:?}");
    client.ip(&["link", "set", "port-1", "up"]);
}

/// A client without builders gets everything from a cache whose key it trusts, and nothing with another key.
fn cache(root: &Path, client: &Machine, fleet: &Fleet, outputs: &[String]) {
    let key = |name: &str, file: &str| {
        let script = format!(
            "nix key generate-secret --key-name {name} > /root/{file}.sec && \
             nix key convert-secret-to-public < /root/{file}.sec"
        );
        client.run("sh", &["-c", &script]).good().out
    };
    let (good, other) = (key("fleet-1", "good"), key("fleet-1", "other"));
    let paths: Vec<_> = outputs.iter().map(String::as_str).collect();
    client.nix(&[&["store", "sign", "--key-file", "/root/good.sec"], &paths[..]].concat()).good();
    let to = "file:///srv/cache?compression=none";
    client.nix(&[&["copy", "--to", to], &paths[..]].concat()).good();
    let mut files = BTreeMap::new();
    read_all(&client.path("/srv/cache"), "", &mut files);
    let server = client.in_network(|| Server::start_at(HUB, files));

    let second = Machine::new(root, "second");
    second.plug_into(client, "port-2", "10.77.0.4/24");
    let configuration = |key: &str| {
        format!(
            "experimental-features = nix-command flakes\nbuild-users-group =\nflake-registry =\nmax-jobs = 0\n\
             substituters = {}\ntrusted-public-keys = {}\nconnect-timeout = 2\ndownload-attempts = 1\n",
            server.uri(),
            key.trim()
        )
    };
    install_flake(root, &second, &configuration(&other));
    fleet.install(&second);
    let refused = build(&second, &fleet.images[..1], &[]).bad();
    assert!(
        refused.err.contains("not signed by any of the keys in 'trusted-public-keys'"),
        "{}",
        refused.err
    );
    assert!(!second.path(outputs[0].as_str()).exists());
    second.write("/etc/nix/nix.conf", configuration(&good));
    let fetched = build(&second, &fleet.images, &[]).good();
    assert_eq!(fetched.lines(), outputs);
    for (image, output) in fleet.images.iter().zip(outputs) {
        assert_eq!(manifest(&second.path(format!("{output}/{image}"))), fleet.expected(image), "{image}");
    }
}

fn read_all(directory: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            read_all(&entry.path(), &format!("{name}/"), files);
        } else {
            files.insert(name, fs::read(entry.path()).unwrap());
        }
    }
}

/// Measures; `benches/fleet` runs it and keeps what it prints.
#[test]
#[ignore = "takes minutes; benches/fleet runs it"]
fn table() {
    let root = root().expect("a root for machines");
    println!(
        "| each layer takes | builders, one slot each | time | derivations on each | lowest layer built |"
    );
    println!("|---|---|---|---|---|");
    let works = [("3 s without a core", Work::Waiting(3)), ("1 s of a core", Work::Counting(700_000))];
    for (what, work) in works {
        for builders in [1, 2, 4] {
            let network = Network::new(root, builders, 1);
            let fleet = Fleet::new(&network.client, &large(work)).expect("this host's own dpkg and shell");
            fleet.install(&network.client);
            // The program itself is the same work for any number of builders.
            network.client.nix(&["build", "--no-link", "--builders", "", "path:/src#build-images"]).good();
            let begun = Instant::now();
            let mut command = network.client.command(900, "nix");
            let output = command.args(arguments(&fleet.images)).output().unwrap();
            let seconds = begun.elapsed().as_secs_f64();
            let log = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{log}");
            let spread_over = spread(&log);
            let count = |number: usize| {
                let address = builder_address(number);
                spread_over.iter().filter(|(_, place)| *place == address).count().to_string()
            };
            let counts: Vec<_> = (0..builders).map(count).collect();
            let lowest = spread_over.iter().filter(|(name, _)| name == "layer-base").count();
            println!("| {what} | {builders} | {seconds:.0} s | {} | {lowest} time |", counts.join(", "));
        }
    }
}
