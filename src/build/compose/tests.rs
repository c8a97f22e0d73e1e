use std::collections::BTreeMap;

use super::*;
use crate::build::units::tests::image;
use crate::model::recipe::{Group, State, User};

const EPOCH: i64 = 1_700_000_000;

fn path(text: &str) -> TreePath {
    TreePath::new(text).unwrap()
}

/// A system with one package, `tool`, that has a binary, a conffile, a link and an empty state directory.
fn system() -> (Tree, BTreeMap<crate::digest::Sha256, Vec<u8>>) {
    image(&[
        ("bin -> usr/bin", ""),
        ("lib -> usr/lib", ""),
        ("var/run -> /run", ""),
        ("etc/passwd", "root:x:0:0:root:/root:/bin/bash\n"),
        ("etc/group", "root:x:0:\n"),
        ("etc/shadow", "root:*:1::::::\n"),
        ("etc/gshadow", "root:*::\n"),
        ("etc/tool.conf", "packaged"),
        ("etc/made-by-script", "x"),
        ("usr/bin/tool", "binary"),
        ("usr/bin/alias -> tool", ""),
        ("usr/lib/systemd/system/tool.service", "[Install]\nWantedBy=multi-user.target\n"),
        ("usr/lib/systemd/system/extra.service", "[Install]\nWantedBy=multi-user.target\n"),
        (
            "etc/systemd/system/multi-user.target.wants/extra.service -> /usr/lib/systemd/system/extra.service",
            "",
        ),
        ("var/lib/full/packaged", "x"),
        ("var/lib/dpkg/info/tool.list", "/.\n/etc\n/etc/tool.conf\n/bin\n/bin/tool\n/usr/bin/alias\n"),
        ("var/lib/dpkg/info/tool.conffiles", "/etc/tool.conf\n"),
    ])
}

fn recipe() -> Recipe {
    Recipe {
        name: "app".into(),
        description: String::new(),
        release: None,
        archives: BTreeMap::new(),
        packages: Default::default(),
        groups: vec![],
        users: vec![],
        directories: vec![],
        tarballs: vec![],
        files: vec![],
        links: vec![],
        units: Default::default(),
        state: vec![],
        space: vec![],
        service: None,
        ports: Vec::new(),
        secrets: Vec::new(),
    }
}

fn file(at: &str, replace: bool) -> RenderedFile {
    let (owner, group) = ("root".into(), "root".into());
    RenderedFile { path: path(at), owner, group, mode: 0o644, replace, bytes: b"new".to_vec() }
}

fn link(at: &str, target: &str, replace: bool) -> Link {
    Link { path: path(at), target: target.into(), replace }
}

fn state(at: &str) -> State {
    State {
        path: path(at),
        owner: "app".into(),
        group: "media".into(),
        mode: 0o2750,
        backup: true,
        migrates: None,
    }
}

/// The lines of what differs between two trees.
fn changes(before: &Tree, after: &Tree) -> String {
    let mut lines = String::new();
    for (path, _) in before.iter().filter(|(path, _)| !after.contains_key(*path)) {
        lines += &format!("- {path}\n");
    }
    for (path, node) in after.iter().filter(|(path, node)| before.get(*path) != Some(*node)) {
        let Node { mode, uid, gid, mtime, .. } = node;
        let kind = match &node.kind {
            Kind::Symlink { target } => format!("-> {target:?}"),
            Kind::File { content } => format!("{} bytes", content.size),
            kind => format!("{kind:?}"),
        };
        lines += &format!("+ {path} {mode:o} {uid}:{gid} @{mtime} {kind}\n");
    }
    lines
}

#[test]
fn a_recipe_is_put_into_the_tree() {
    let (before, below) = system();
    let mut contents = NewContents::over(&below);
    let mut recipe = recipe();
    recipe.groups = vec![Group { name: "media".into(), gid: 950 }];
    recipe.users = vec![User {
        name: "app".into(),
        uid: 960,
        group: "app".into(),
        groups: vec!["media".into()],
        home: "/var/lib/app".into(),
        shell: "/usr/sbin/nologin".into(),
        comment: "An application".into(),
    }];
    let shared =
        Directory { path: path("srv/a/b"), owner: "app".into(), group: "media".into(), mode: 0o2775 };
    recipe.directories = vec![shared];
    recipe.links = vec![link("lib/new", "tool", false), link("bin/alias", "/bin/other", true)];
    recipe.state = vec![state("var/lib/app")];
    recipe.units.enable = vec!["tool.service".into(), "own@one.service".into()];
    recipe.units.disable = vec!["extra.service".into()];
    recipe.units.mask = vec!["systemd-firstboot.service".into()];
    let unit = RenderedFile {
        bytes: b"[Install]\nRequiredBy=tool.service\n".to_vec(),
        ..file("lib/systemd/system/own@.service", false)
    };
    let files = vec![unit, file("etc/tool.conf", true), file("etc/made-by-script", true)];
    let after = apply(
        before.clone(),
        &mut contents,
        &EvaluatedRecipe { recipe: recipe.clone(), files },
        &BTreeMap::new(),
        EPOCH,
    )
    .unwrap();
    insta::assert_snapshot!(changes(&before, &after), @"
    - /etc/systemd/system/multi-user.target.wants/extra.service
    + /etc/group 644 0:0 @1700000000 37 bytes
    + /etc/gshadow 644 0:0 @1700000000 32 bytes
    + /etc/made-by-script 644 0:0 @1700000000 3 bytes
    + /etc/passwd 644 0:0 @1700000000 92 bytes
    + /etc/shadow 644 0:0 @1700000000 34 bytes
    + /etc/systemd/system/multi-user.target.wants/tool.service 777 0:0 @1700000000 -> /usr/lib/systemd/system/tool.service
    + /etc/systemd/system/systemd-firstboot.service 777 0:0 @1700000000 -> /dev/null
    + /etc/systemd/system/tool.service.requires 755 0:0 @1700000000 Directory
    + /etc/systemd/system/tool.service.requires/own@one.service 777 0:0 @1700000000 -> /usr/lib/systemd/system/own@.service
    + /etc/tool.conf 644 0:0 @1700000000 3 bytes
    + /srv 755 0:0 @1700000000 Directory
    + /srv/a 755 0:0 @1700000000 Directory
    + /srv/a/b 2775 960:950 @1700000000 Directory
    + /usr/bin/alias 777 0:0 @1700000000 -> /bin/other
    + /usr/lib/new 777 0:0 @1700000000 -> tool
    + /usr/lib/systemd/system/own@.service 644 0:0 @1700000000 34 bytes
    + /var/lib/app 2750 960:950 @1700000000 Directory
    ");

    // Once more changes nothing even with what is there already.
    let again = EvaluatedRecipe { recipe: Recipe { ..recipe }, files: vec![] };
    assert_eq!(
        changes(&after, &apply(after.clone(), &mut contents, &again, &BTreeMap::new(), EPOCH + 1).unwrap()),
        ""
    );
}

#[test]
fn everything_wrong_is_told_at_once() {
    let (before, below) = system();
    let mut contents = NewContents::over(&below);
    let mut recipe = recipe();
    let directory =
        |at: &str| Directory { path: path(at), owner: "root".into(), group: "root".into(), mode: 0o755 };
    recipe.directories =
        vec![directory("run/app"), directory("var/lib/app/cache"), directory("usr/bin/tool")];
    recipe.state = vec![state("var/lib/app"), state("var/run/app"), state("var/lib/full"), state("tmp/x")];
    recipe.links = vec![link("bin/tool", "x", true), link("bin/alias", "x", false), link("etc", "x", true)];
    recipe.users = vec![User {
        name: "thief".into(),
        uid: 0,
        group: "thief".into(),
        groups: vec![],
        home: "/".into(),
        shell: "/bin/sh".into(),
        comment: String::new(),
    }];
    recipe.units.enable = vec!["typo.service".into()];
    recipe.units.disable = vec!["typo.timer".into()];
    recipe.units.mask = vec!["typo".into()];
    let files = vec![
        file("bin/tool", true),
        file("etc/tool.conf", false),
        file("etc/made-by-script", false),
        file("etc/tool.conf/below", false),
        file("var/run/x", false),
        file("etc/vzdump/pct.conf", false),
    ];
    let error = apply(before, &mut contents, &EvaluatedRecipe { recipe, files }, &BTreeMap::new(), EPOCH)
        .unwrap_err();
    insta::assert_snapshot!(error, @"
    recipe `app` cannot be applied:
      group id 0 is pinned for `thief`, but the image gives it to `root`: pin another id
      user id 0 is pinned for `thief`, but the image gives it to `root`: pin another id
      user `thief` has the group `thief`, which does not exist: declare it with a `gid`
      `/run/app`: nothing of an image can be below `/run`, which is empty at each start: use a file in `/usr/lib/tmpfiles.d`
      `/usr/bin/tool` is not a directory in the image
      `/var/lib/app/cache`: nothing of an image can be below `/var/lib/app`, which is state: the mount hides it
      `/var/lib/app`: there is no user `app` in the image: declare it in the recipe
      `/var/run/app` leads through a symbolic link to `/run/app`: write that
      `/var/lib/full` becomes a mount, which would hide what the image has there: `/var/lib/full/packaged`
      `/tmp/x`: nothing of an image can be below `/tmp`, which is empty at each start
      `/usr/bin/tool` belongs to package `tool`, which does not have it as a configuration file: put the file elsewhere
      `/etc/tool.conf` exists already from package `tool`: add `replace = true` if that is meant
      `/etc/made-by-script` exists already: add `replace = true` if that is meant
      `/etc/tool.conf/below`: `/etc/tool.conf` is not a directory
      `/var/run/x`: nothing of an image can be below `/run`, which is empty at each start: use a file in `/usr/lib/tmpfiles.d`
      `/etc/vzdump/pct.conf`: nothing of an image can be below `/etc/vzdump`, where the container's configuration is
      `/usr/bin/tool` belongs to package `tool`, which does not have it as a configuration file: put the file elsewhere
      `/usr/bin/alias` exists already from package `tool`: add `replace = true` if that is meant
      `/etc` is a directory in the image
      there is no unit `typo.service` in the image: no package or file of the recipes brings it
      there is no unit `typo.timer` in the image: no package or file of the recipes brings it
      `typo` is not a unit name: write it in full, such as `typo.service`
    ");
}

#[test]
fn mounts_get_an_empty_directory() {
    let (before, below) = system();
    let mut contents = NewContents::over(&below);
    let mount = |target: &str| Mount {
        source: "/srv".into(),
        target: path(target),
        read_only: false,
        state: None,
        owner: None,
    };
    let after = apply_mounts(before.clone(), &mut contents, &[mount("srv/downloads")], EPOCH).unwrap();
    insta::assert_snapshot!(changes(&before, &after), @"
    + /srv 755 0:0 @1700000000 Directory
    + /srv/downloads 755 0:0 @1700000000 Directory
    ");
    let wrong = [mount("var/lib/full"), mount("lib/x"), mount("etc/passwd/x")];
    insta::assert_snapshot!(apply_mounts(before, &mut contents, &wrong, EPOCH).unwrap_err(), @"
    the mounts of the image cannot be applied:
      `/var/lib/full` becomes a mount, which would hide what the image has there: `/var/lib/full/packaged`
      `/lib/x` leads through a symbolic link to `/usr/lib/x`: write that
      `/etc/passwd/x`: `/etc/passwd` is not a directory
    ");
}

#[test]
fn a_tarball_is_put_below_its_directory_and_over_nothing() {
    use crate::model::recipe::TarballEntry;
    let (before, below) = system();
    let mut contents = NewContents::over(&below);
    let x = contents.add("x");
    let members: Tree = [
        ("t/bin/run", Node::file(x, 0o700, 0)),
        ("t/bin/again", Node::symlink("run", 0)),
        ("t/data", Node::directory(0o700, 0)),
        ("t/data/x", Node::file(x, 0o600, 0)),
    ]
    .into_iter()
    .map(|(at, node)| (path(at), node))
    .collect();
    let mut recipe = recipe();
    recipe.state = vec![];
    let tarball = |at: &str| Tarball {
        name: "t".into(),
        url: "https://example.org/t.tar".into(),
        sha256: crate::digest::Sha256::of(""),
        path: path(at),
        strip: 1,
        only: vec![],
        owner: "root".into(),
        group: "root".into(),
        set: vec![TarballEntry {
            path: path("data/x"),
            owner: "root".into(),
            group: "root".into(),
            mode: Some(0o440),
        }],
    };
    // A directory that a package made stays as it is, and links above are followed.
    recipe.tarballs = vec![tarball("usr")];
    let tarballs = BTreeMap::from([("t".to_owned(), members)]);
    let evaluated = |recipe: &Recipe, files| EvaluatedRecipe { recipe: recipe.clone(), files };
    let after = apply(before.clone(), &mut contents, &evaluated(&recipe, vec![]), &tarballs, EPOCH).unwrap();
    insta::assert_snapshot!(changes(&before, &after), @"
    + /usr/bin/again 777 0:0 @1700000000 -> run
    + /usr/bin/run 755 0:0 @1700000000 1 bytes
    + /usr/data 755 0:0 @1700000000 Directory
    + /usr/data/x 440 0:0 @1700000000 1 bytes
    ");
    // Files of the recipe come after it, and say so when they mean it.
    let over = |replace| vec![file("usr/data/x", replace)];
    let after =
        apply(before.clone(), &mut contents, &evaluated(&recipe, over(true)), &tarballs, EPOCH).unwrap();
    assert_eq!(after[&path("usr/data/x")].mode, 0o644);
    let error = apply(before.clone(), &mut contents, &evaluated(&recipe, over(false)), &tarballs, EPOCH);
    insta::assert_snapshot!(error.unwrap_err(), @"
    recipe `app` cannot be applied:
      `/usr/data/x` exists already: add `replace = true` if that is meant
    ");

    let mut occupied = tarballs["t"].clone();
    occupied.insert(path("t/bin/tool"), Node::file(x, 0o755, 0));
    occupied.insert(path("t/bin/alias"), Node::symlink("run", 0));
    occupied.insert(path("t/lib"), Node::file(x, 0o644, 0));
    for name in ["a", "b", "c", "d"] {
        occupied.insert(path(&format!("t/bin/tool/{name}")), Node::file(x, 0o755, 0));
    }
    let owner = |owner: &str| Tarball { owner: owner.into(), ..tarball("usr") };
    recipe.tarballs = vec![
        owner("nobody-known"),
        tarball("usr"),
        Tarball { only: vec![path("data/y")], ..tarball("opt") },
        tarball("etc/tool.conf"),
        tarball("tmp/x"),
        Tarball { name: "u".into(), ..tarball("opt") },
    ];
    let tarballs = BTreeMap::from([("t".to_owned(), occupied)]);
    let error = apply(before, &mut contents, &evaluated(&recipe, vec![]), &tarballs, EPOCH).unwrap_err();
    insta::assert_snapshot!(error, @"
    recipe `app` cannot be applied:
      `/usr`: there is no user `nobody-known` in the image: declare it in the recipe
      tarball `t` has `/usr/bin/alias`, which exists already from package `tool`: leave it out with `only`, or unpack elsewhere
      tarball `t` has `/usr/bin/tool`, which exists already from package `tool`: leave it out with `only`, or unpack elsewhere
      `/usr/bin/tool/a`: `/usr/bin/tool` is not a directory
      `/usr/bin/tool/b`: `/usr/bin/tool` is not a directory
      `/usr/bin/tool/c`: `/usr/bin/tool` is not a directory
      tarball `t`: 2 more entries cannot be put into the image
      tarball `t`: `only` names `data/y`, which it does not have; is it `data/x`?
      `/etc/tool.conf` is not a directory in the image
      `/tmp/x`: nothing of an image can be below `/tmp`, which is empty at each start
      tarball `u` is not there
    ");
}
