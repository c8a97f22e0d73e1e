//! Small packages on top of a real base: scripts that misbehave, triggers, pins, what a second layer holds.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;

use build_images::build::stage::{Failure, Limits, StageError, StageJob, StagePackage};
use build_images::digest::Sha256;
use build_images::layer::Layer;
use build_images::model::recipe::{Group, User};
use build_images::store::{Kind, Store};
use build_images::tree::{Contents as _, Tree, TreePath};

use crate::machine::{self, EPOCH, Watch, import, job, run, run_all, run_until};
use crate::packages;
use crate::support::deb::Deb;
use crate::support::require;

/// The store of this test process and the key of its base layer; nothing without root or mirror.
fn base() -> Option<&'static (Store, Sha256)> {
    static BASE: OnceLock<Option<(Store, Sha256)>> = OnceLock::new();
    let base = BASE.get_or_init(|| {
        let fetched = if machine::ready() { packages::base()? } else { return None };
        let store = Store::open(own_directory()).unwrap();
        let packages = fetched.debs.iter().map(|path| import(&store, path)).collect();
        let layer = run(&store, &job(packages, &[]), &Limits::default(), &Watch::new());
        let key = layer.unwrap_or_else(|error| panic!("{error}")).key;
        Some((store, key))
    });
    require("a Debian mirror in the host's apt configuration", base.is_some()).then_some(base.as_ref()?)
}

/// A directory for this process; those of processes that are gone are removed.
fn own_directory() -> PathBuf {
    for entry in fs::read_dir(packages::cache()).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix("store-");
        if pid.is_some_and(|pid| !fs::exists(format!("/proc/{pid}")).unwrap()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    packages::cache().join(format!("store-{}", std::process::id()))
}

fn store_deb(store: &Store, package: &Deb) -> StagePackage {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deb");
    fs::write(&path, package.build().bytes).unwrap();
    import(store, &path)
}

fn on_top(store: &Store, parent: Sha256, packages: &[Deb]) -> StageJob {
    let packages = packages.iter().map(|package| store_deb(store, package)).collect();
    StageJob { parent: Some(parent), ..job(packages, &[]) }
}

fn quick() -> Limits {
    Limits { script_seconds: 2, ..Limits::default() }
}

/// The failure of a stage that has to fail, and has to leave nothing.
fn failure(store: &Store, job: &StageJob) -> Failure {
    let error = run(store, job, &quick(), &Watch::new()).expect_err("the stage has to fail");
    assert!(!store.contains(Kind::Layer, job.key()));
    match error {
        StageError::Failed(failure) => failure,
        error => panic!("{error}"),
    }
}

fn text(layer: &Layer, path: &str) -> String {
    let node = layer.tree.get(&TreePath::new(path).unwrap()).unwrap_or_else(|| panic!("no {path}"));
    String::from_utf8(layer.read(node.content().unwrap()).unwrap()).unwrap()
}

#[test]
fn a_second_layer_holds_only_what_is_new_and_leaves_the_rest_alone() {
    let Some((store, base)) = base() else { return };
    let package =
        Deb::new("added", "1").file("/usr/share/added/file", "new").conffile("/etc/added.conf", "x");
    let job = on_top(store, *base, &[package]);
    let below = Layer::open(store, *base).unwrap();
    let layer = run(store, &job, &quick(), &Watch::new()).unwrap_or_else(|error| panic!("{error}"));
    let changed: Vec<_> = layer
        .tree
        .iter()
        .filter(|(path, node)| below.tree.get(*path) != Some(*node))
        .map(|(path, _)| path.to_string())
        .collect();
    insta::assert_snapshot!(changed.join("\n"), @r"
    /etc/added.conf
    /usr/share/added
    /usr/share/added/file
    /var/lib/apt/extended_states
    /var/lib/dpkg/info/added.conffiles
    /var/lib/dpkg/info/added.list
    /var/lib/dpkg/info/added.md5sums
    /var/lib/dpkg/status
    /var/lib/dpkg/status-old
    /var/log/dpkg.log
    ");
    assert!(below.tree.keys().all(|path| layer.tree.contains_key(path)));
    let pack = fs::metadata(store.path(Kind::Layer, layer.key).join("pack")).unwrap().len();
    assert!(pack < 2 << 20, "{pack}");
    assert!(text(&layer, "var/lib/dpkg/status").contains("Package: added\nStatus: install ok installed\n"));
    // The same inputs give the same bytes, but for dpkg's log, whose times the finishing step removes.
    let again = tempfile::tempdir().unwrap();
    let again = Store::open(again.path()).unwrap();
    for (kind, name) in [(Kind::Layer, base), (Kind::Deb, &job.packages[0].sha256)] {
        let (from, to) = (store.path(kind, name), again.path(kind, name));
        assert!(std::process::Command::new("cp").arg("-r").args([from, to]).status().unwrap().success());
    }
    let mut second = run(&again, &job, &quick(), &Watch::new()).unwrap().tree;
    let mut first = layer.tree;
    let log = TreePath::new("var/log/dpkg.log").unwrap();
    assert!(first.remove(&log).is_some());
    second.remove(&log);
    assert_eq!(first, second);
}

/// Leaves what no layer has: a socket, attributes, parts of seconds, another mode of the root.
const UNTIDY: &str = r#"#!/bin/sh
set -e
mkdir -p /var/lib/untidy/directory
cd /var/lib/untidy
echo x >file
echo y >capable
ln -s file link
mkfifo fifo
touch -h -d '2001-01-01 00:00:00.5' file link fifo /etc/untidy.conf
chmod 2750 directory
chmod 0711 /
perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Local => "socket", Listen => 1) or die'
perl -e 'for (["file", "user.kept"], ["directory", "user.lost"]) {
  my ($path, $name, $value) = (@$_, "1");
  syscall(SETXATTR, $path, $name, $value, 1, 0) == 0 or die "$path: $!";
}'
"#;

/// Writes down what it finds.
const LOOKER: &str = r#"#!/bin/sh
set -e
cd /var/lib/untidy
find . ! -type d -printf '%p %y %m %U:%G %T@\n' | sort >/var/lib/seen
find . -type d -printf '%p %y %m %U:%G\n' | sort >>/var/lib/seen
stat -c 'root %a' / >>/var/lib/seen
for path in file directory; do
  perl -e '$b = "\0" x 99; $n = syscall(LISTXATTR, $ARGV[0], $b, 99); print "$ARGV[0] ", substr($b, 0, $n), "\n"' $path |
    tr '\0' ' ' | sed 's/ *$//' >>/var/lib/seen
done
"#;

#[test]
fn layers_made_on_one_root_are_those_made_one_by_one() {
    let Some((store, base)) = base() else { return };
    let (set, list) = if cfg!(target_arch = "x86_64") { ("188", "194") } else { ("5", "11") };
    let script = |text: &str| text.replace("SETXATTR", set).replace("LISTXATTR", list);
    let untidy = Deb::new("untidy", "1").conffile("/etc/untidy.conf", "x");
    let untidy = on_top(store, *base, &[untidy.script("postinst", &script(UNTIDY))]);
    let looker = Deb::new("looker", "1").script("postinst", &script(LOOKER));
    let looker = on_top(store, untidy.key(), &[looker]);

    let alone = run(store, &untidy, &quick(), &Watch::new()).unwrap_or_else(|error| panic!("{error}"));
    let alone = (alone, run(store, &looker, &quick(), &Watch::new()).unwrap());
    insta::assert_snapshot!(text(&alone.1, "var/lib/seen"), @r"
    ./capable f 644 0:0 1767225600.0000000000
    ./fifo p 644 0:0 1767225600.0000000000
    ./file f 644 0:0 1767225600.0000000000
    ./link l 777 0:0 1767225600.0000000000
    . d 755 0:0
    ./directory d 2750 0:0
    root 755
    file user.kept
    directory
    ");
    for key in [untidy.key(), looker.key()] {
        store.remove(Kind::Layer, key).unwrap();
    }
    let jobs = [untidy, looker];
    assert_eq!(run_all(store, &jobs, &quick()).unwrap_or_else(|error| panic!("{error}")), [0, 1]);
    let together = [0, 1].map(|number: usize| Layer::open(store, jobs[number].key()).unwrap());
    let log = TreePath::new("var/log/dpkg.log").unwrap();
    for (one, other) in [(alone.0, &together[0]), (alone.1, &together[1])] {
        let without = |layer: &Layer| {
            let mut tree = layer.tree.clone();
            tree.remove(&log);
            tree
        };
        assert_eq!(without(&one), without(other));
    }
    // Of two layers that are there already nothing is made again, of one only the other.
    let made = |key| fs::metadata(store.path(Kind::Layer, key).join("pack")).unwrap().modified().unwrap();
    let before = made(jobs[0].key());
    store.remove(Kind::Layer, jobs[1].key()).unwrap();
    assert_eq!(run_all(store, &jobs, &quick()).unwrap(), [0, 1]);
    assert_eq!(made(jobs[0].key()), before);
}

/// Changes files that were read before it ran, in all the ways there are, with size and time as they were.
const CHANGER: &str = r#"#!/bin/sh
set -e
cd /usr/share/changed
change() {
  stamp=$(stat -c %y "$1")
  "$2" "$1"
  touch -d "$stamp" "$1"
}
in_place() { printf new | dd of="$1" conv=notrunc status=none; }
renamed() { printf new >"$1.tmp"; chmod --reference="$1" "$1.tmp"; mv "$1.tmp" "$1"; }
linked() { mkdir other; ln "$1" other/name; printf new | dd of=other/name conv=notrunc status=none; rm -r other; }
mapped() {
  printf new >/tmp/bytes
  perl -e '
    open my $file, "+<", $ARGV[0] or die;
    my $at = syscall(MMAP, 0, 3, 3, 1, fileno $file, 0);
    die $! if $at == -1;
    open my $bytes, "<", "/tmp/bytes" or die;
    syscall(READ, fileno $bytes, $at, 3) == 3 or die $!;' "$1"
  rm /tmp/bytes
}
change written in_place
change replaced renamed
change linked linked
mapped mapped
mapped /usr/share/below
chmod 600 private
"#;

/// The last scripts run when most files have been read already.
#[test]
fn what_the_last_scripts_change_is_in_the_layer() {
    let Some((store, base)) = base() else { return };
    let (map, read) = if cfg!(target_arch = "x86_64") { ("9", "0") } else { ("222", "63") };
    let script = CHANGER.replace("MMAP", map).replace("READ", read);
    let below = on_top(store, *base, &[Deb::new("below", "1").file("/usr/share/below", "old")]);
    let names = ["written", "replaced", "linked", "mapped", "private", "left"];
    let files = names.iter().fold(Deb::new("changed", "1"), |package, name| {
        package.file(&format!("/usr/share/changed/{name}"), "old")
    });
    let jobs = [below.clone(), on_top(store, below.key(), &[files.script("postinst", &script)])];
    let check = |layer: &Layer| {
        let found = names.map(|name| text(layer, &format!("usr/share/changed/{name}")));
        assert_eq!(found, ["new", "new", "new", "new", "old", "old"]);
        assert_eq!(text(layer, "usr/share/below"), "new");
        let private = &layer.tree[&TreePath::new("usr/share/changed/private").unwrap()];
        assert_eq!(private.mode, 0o600);
        // What files held before is in the pack, and counts.
        build_images::layer::check(store, layer.key).unwrap();
    };
    // On one root, and on one that was restored.
    let mut foreseen = Vec::new();
    let made = machine::run_all_with(store, &jobs, &quick(), &mut |layer| foreseen.push(layer));
    assert_eq!(made.unwrap_or_else(|error| panic!("{error}")), [0, 1]);
    check(&Layer::open(store, jobs[1].key()).unwrap());
    store.remove(Kind::Layer, jobs[1].key()).unwrap();
    check(&run(store, &jobs[1], &quick(), &Watch::new()).unwrap());

    // What was foreseen is what the layers would have been without the last script.
    let [first, second] = foreseen.as_slice() else { panic!("{}", foreseen.len()) };
    assert_eq!(text(first, "usr/share/below"), "old");
    assert_eq!(text(second, "usr/share/changed/mapped"), "old");
    let dpkg = |path: &TreePath| !path.as_bytes().starts_with(b"var/");
    let finished = Layer::open(store, jobs[0].key()).unwrap();
    let without = |layer: &Layer| layer.tree.clone().into_iter().filter(|(path, _)| dpkg(path)).collect();
    let (foreseen, finished): (Tree, Tree) = (without(first), without(&finished));
    assert_eq!(foreseen, finished);
}

#[test]
fn what_was_finished_before_a_failure_stays() {
    let Some((store, base)) = base() else { return };
    let good = on_top(store, *base, &[Deb::new("first-is-good", "1").file("/srv/good", "x")]);
    let bad = Deb::new("second-is-bad", "1").script("postinst", "#!/bin/sh\nexit 1\n");
    let bad = on_top(store, good.key(), &[bad]);
    let jobs = [good, bad];
    match run_all(store, &jobs, &quick()) {
        Err(StageError::Failed(Failure::Script { package, .. })) => assert_eq!(package, "second-is-bad"),
        other => panic!("{other:?}"),
    }
    assert!(Layer::open(store, jobs[0].key()).is_ok());
    assert!(!store.contains(Kind::Layer, jobs[1].key()));
}

#[test]
fn new_paths_activate_the_file_triggers_of_configured_packages() {
    let Some((store, base)) = base() else { return };
    let script = "#!/bin/sh\nset -e\nif [ \"$1\" = triggered ]; then echo \"$2\" >>/var/lib/watched; fi\n";
    let watcher = Deb::new("watcher", "1")
        .control_file(
            "triggers",
            "interest-noawait /usr/share/noawait\ninterest /usr/share/await\ninterest named\n",
        )
        .script("postinst", script);
    let first = run(store, &on_top(store, *base, &[watcher]), &quick(), &Watch::new()).unwrap();
    assert!(!first.tree.contains_key(&TreePath::new("var/lib/watched").unwrap()));
    let actor = Deb::new("actor", "1")
        .file("/usr/share/noawait/deep/file", "")
        .file("/usr/share/await/file", "")
        .control_file("triggers", "activate named\n");
    let second = run(store, &on_top(store, first.key, &[actor]), &quick(), &Watch::new());
    let second = second.unwrap_or_else(|error| panic!("{error}"));
    let watched = text(&second, "var/lib/watched");
    let mut activated: Vec<_> = watched.split_whitespace().collect();
    activated.sort();
    activated.dedup();
    assert_eq!(activated, ["/usr/share/await", "/usr/share/noawait", "named"]);
    let status = text(&second, "var/lib/dpkg/status");
    assert!(status.contains("Package: actor\nStatus: install ok installed\n"), "{status}");
    assert_eq!(text(&second, "var/lib/dpkg/triggers/Unincorp"), "");
}

#[test]
fn scripts_find_the_same_environment_everywhere() {
    let Some((store, base)) = base() else { return };
    let script =
        "#!/bin/sh\nset -e\nenv | grep -v ^DPKG_ | sort >/etc/env\nhostname >>/etc/env\npwd >>/etc/env\n";
    let layer = run(
        store,
        &on_top(store, *base, &[Deb::new("environment", "1").script("postinst", script)]),
        &quick(),
        &Watch::new(),
    );
    insta::assert_snapshot!(text(&layer.unwrap(), "etc/env"), @r"
    DEBCONF_NONINTERACTIVE_SEEN=true
    DEBIAN_FRONTEND=noninteractive
    HOME=/root
    LC_ALL=C.UTF-8
    PATH=/dev/build-images:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    PWD=/
    SOURCE_DATE_EPOCH=1767225600
    TERM=dumb
    TZ=UTC
    localhost
    /
    ");
}

#[test]
fn a_failing_script_is_named_with_its_last_lines() {
    let Some((store, base)) = base() else { return };
    let script = "#!/bin/sh\nfor i in $(seq 30); do echo line $i; done\nexit 3\n";
    for name in ["preinst", "postinst"] {
        let job = on_top(store, *base, &[Deb::new("bad", "1").script(name, script), Deb::new("good", "1")]);
        match failure(store, &job) {
            Failure::Script { package, script, tail, .. } => {
                assert_eq!((package.as_str(), script.as_str(), tail.len()), ("bad", name, 20));
                assert!(tail.contains(&"line 30".to_owned()), "{tail:?}");
            }
            failure => panic!("{failure}"),
        }
    }
}

#[test]
fn a_script_that_hangs_is_ended_and_named() {
    let Some((store, base)) = base() else { return };
    let script = "#!/bin/sh\necho waiting\nexec sleep 1000\n";
    for name in ["preinst", "postinst"] {
        let job = on_top(store, *base, &[Deb::new("slow", "1").script(name, script)]);
        match failure(store, &job) {
            Failure::Script { package, script, outcome, tail } => {
                assert_eq!((package.as_str(), script.as_str()), ("slow", name));
                assert!(outcome.starts_with("did not end within"), "{outcome}");
                assert!(tail.contains(&"waiting".to_owned()), "{tail:?}");
            }
            failure => panic!("{failure}"),
        }
    }
}

#[test]
fn paths_of_the_layer_below_are_kept_from_others() {
    let Some((store, base)) = base() else { return };
    let thief = Deb::new("thief", "1").file("/usr/bin/dpkg", "mine");
    insta::assert_snapshot!(failure(store, &on_top(store, *base, &[thief])), @"package `thief` cannot write `/usr/bin/dpkg`: it belongs to package `dpkg`, and neither `Replaces` the other");
    let alias = Deb::new("thief", "1").file("/bin/dpkg", "mine");
    insta::assert_snapshot!(failure(store, &on_top(store, *base, &[alias])), @"package `thief` cannot write `/bin/dpkg`: it belongs to package `dpkg`, and neither `Replaces` the other");
    let again = failure(store, &on_top(store, *base, &[Deb::new("dpkg", "99")])).to_string();
    assert!(again.starts_with("package `dpkg` 99 is already in the layer below, as 1."), "{again}");
}

#[test]
fn packages_that_are_not_what_the_lock_says_are_refused() {
    let Some((store, base)) = base() else { return };
    let mut wrong = on_top(store, *base, &[Deb::new("a", "1")]);
    wrong.packages[0].version = "2".into();
    assert!(matches!(failure(store, &wrong), Failure::Mismatch { field, .. } if field == "Version"));
    let good = on_top(store, *base, &[Deb::new("changed", "1").file("/srv/x", "y")]);
    let path = store.path(Kind::Deb, good.packages[0].sha256);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert!(matches!(failure(store, &good), Failure::Mismatch { field, .. } if field == "SHA-256"));
    // Whoever builds fetches it again.
    let noted = store.take_damaged();
    assert!(noted.iter().any(|damage| damage.name == good.packages[0].sha256.to_string()), "{noted:?}");
    let bomb = on_top(store, *base, &[Deb::new("bomb", "1").file("/srv/zeros", vec![0; 64 << 20])]);
    insta::assert_snapshot!(failure(store, &bomb), @"package `bomb`: `data.tar`, member `srv/zeros`: `data.tar.xz` unpacks to more than 16777216 bytes");
}

fn pinned(job: StageJob) -> StageJob {
    let user = User {
        name: "media".into(),
        uid: 959,
        group: "media".into(),
        groups: vec!["late".into()],
        home: "/var/lib/media".into(),
        shell: "/usr/sbin/nologin".into(),
        comment: String::new(),
    };
    StageJob { users: vec![user], groups: vec![Group { name: "media".into(), gid: 950 }], ..job }
}

#[test]
fn pinned_users_are_there_before_scripts_and_hold_afterwards() {
    let Some((store, base)) = base() else { return };
    let script = "#!/bin/sh\nset -e\nid media >/etc/seen\ngroupadd --system late\n";
    let job = pinned(on_top(store, *base, &[Deb::new("uses", "1").script("postinst", script)]));
    let layer = run(store, &job, &quick(), &Watch::new()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(text(&layer, "etc/seen"), "uid=959(media) gid=950(media) groups=950(media)\n");
    assert!(text(&layer, "etc/passwd").contains("media:x:959:950::/var/lib/media:/usr/sbin/nologin\n"));
    assert!(
        text(&layer, "etc/group").lines().any(|line| line.starts_with("late:x:") && line.ends_with(":media"))
    );

    let script = "#!/bin/sh\nset -e\ngroupadd -o -g 950 thief\n";
    // It comes after the other, so that on a busy machine too it is not configured while that one's doing is looked for.
    let late = Deb::new("zz", "1").field("Depends", "thief").script("postinst", "#!/bin/sh\nsleep 0.2\n");
    let thief = Deb::new("thief", "1").script("postinst", script);
    match failure(store, &pinned(on_top(store, *base, &[thief, late]))) {
        Failure::Pins { package, reason } => {
            assert_eq!(package.as_deref(), Some("thief"), "{reason}");
            assert!(reason.contains("`thief`") && reason.contains("950"), "{reason}");
        }
        failure => panic!("{failure}"),
    }
}

#[test]
fn a_cancelled_stage_ends_soon_and_leaves_nothing() {
    let Some((store, base)) = base() else { return };
    let job = on_top(store, *base, &[Deb::new("slow", "1").script("postinst", "#!/bin/sh\nsleep 1000\n")]);
    let cancel = AtomicBool::new(false);
    let begin = std::time::Instant::now();
    let limits = Limits::default();
    let error = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(std::time::Duration::from_secs(2));
            cancel.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        run_until(store, &job, &limits, &Watch::new(), &cancel).unwrap_err()
    });
    assert!(matches!(error, StageError::Cancelled), "{error}");
    assert!(begin.elapsed().as_secs() < 60);
    assert!(!store.contains(Kind::Layer, job.key()));
    assert_eq!(EPOCH, job.epoch);
}
