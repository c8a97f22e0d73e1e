//! Small synthetic universes.

use super::*;
use crate::apt::universe::Index;

/// An index of lines such as `a 1.0; Depends: b (>= 2); Multi-Arch: same`.
pub(super) fn index(lines: &str) -> String {
    let mut text = String::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut parts = line.split(';').map(str::trim);
        let (name, version) = parts.next().and_then(|head| head.split_once(' ')).unwrap();
        text += &format!("Package: {name}\nVersion: {version}\nArchitecture: amd64\nSize: 1\n");
        text += &format!("Filename: pool/{name}.deb\nSHA256: {}\n", "0".repeat(64));
        for field in parts {
            text += field;
            text.push('\n');
        }
        text.push('\n');
    }
    text
}

/// The chosen set as text: `name version (reason by)`.
fn solve(lines: &str, install: &[&str], recommends: bool, base: &[(&str, &str)]) -> String {
    let text = index(lines);
    let sources = [Index { archive: "debian", suite: "trixie", not_automatic: false, text: &text }];
    let universe = Universe::new("amd64", &sources).unwrap();
    let install: Vec<_> = install.iter().map(|name| (*name).to_owned()).collect();
    let base: Vec<_> = base.iter().map(|(name, version)| Chosen { name, version }).collect();
    let request = Request { install: &install, recommends, essential: false, base: &base };
    match resolve(&universe, &request) {
        Ok(solution) => {
            let show = |member: &Member| {
                let package = universe.package(member.package);
                let by = member.by.map(|id| format!(" by {}", universe.package(id).name)).unwrap_or_default();
                format!("{} {} ({:?}{by})", package.name, package.version, member.reason)
            };
            solution.members.iter().map(show).collect::<Vec<_>>().join("\n")
        }
        Err(error) => error.to_string(),
    }
}

#[test]
fn takes_the_first_alternative_and_recommendations_only_when_asked() {
    let lines = "
        a 1; Depends: b | c, d (>= 2); Recommends: e
        b 1
        c 1
        d 2; Pre-Depends: f
        e 1
        f 1";
    insta::assert_snapshot!(solve(lines, &["a"], false, &[]), @r#"
    a 1 (Requested)
    b 1 (Depends by a)
    d 2 (Depends by a)
    f 1 (PreDepends by d)
    "#);
    insta::assert_snapshot!(solve(lines, &["a"], true, &[]), @r#"
    a 1 (Requested)
    b 1 (Depends by a)
    d 2 (Depends by a)
    e 1 (Recommends by a)
    f 1 (PreDepends by d)
    "#);
}

#[test]
fn the_highest_version_is_the_candidate_and_order_does_not_matter() {
    let lines = "
        a 1
        a 3~rc1
        a 2; Depends: b
        b 1; Depends: x | y
        x 1; Conflicts: z
        y 1
        z 1";
    assert_eq!(solve(lines, &["a"], false, &[]), "a 3~rc1 (Requested)");
    assert_eq!(solve(lines, &["b", "z"], false, &[]), solve(lines, &["z", "b"], false, &[]));
    insta::assert_snapshot!(solve(lines, &["b", "z"], false, &[]), @r#"
    b 1 (Requested)
    y 1 (Depends by b)
    z 1 (Requested)
    "#);
}

#[test]
fn virtual_packages_need_a_version_for_a_bound() {
    let lines = "
        a 1; Depends: v (>= 2)
        b 1; Depends: v
        p 1; Provides: v
        q 1; Provides: v (= 2)
        r 1; Provides: v (= 1); Priority: required";
    insta::assert_snapshot!(solve(lines, &["a"], false, &[]), @r#"
    a 1 (Requested)
    q 1 (Depends by a)
    "#);
    insta::assert_snapshot!(solve(lines, &["b"], false, &[]), @r#"
    b 1 (Requested)
    r 1 (Depends by b)
    "#);
    insta::assert_snapshot!(solve(lines, &["v"], false, &[]), @"`v` is a virtual package, provided by `p`, `q`, `r`: name one of them");
}

#[test]
fn qualifiers_match_only_what_they_name() {
    let lines = "
        a 1; Depends: python:any; Conflicts: lib:i386
        b 1; Depends: lib:any
        c 1; Depends: lib:native, lib:amd64
        python 3; Multi-Arch: allowed; Depends: lib
        lib 1; Multi-Arch: same";
    insta::assert_snapshot!(solve(lines, &["a"], false, &[]), @r#"
    a 1 (Requested)
    lib 1 (Depends by python)
    python 3 (Depends by a)
    "#);
    insta::assert_snapshot!(solve(lines, &["b"], false, &[]), @r#"
    nothing fits:
      `b` is asked for
      `b` 1 depends on `lib:any`
      only `lib` 1 is available
    "#);
    insta::assert_snapshot!(solve(lines, &["c"], false, &[]), @r#"
    c 1 (Requested)
    lib 1 (Depends by c)
    "#);
}

#[test]
fn a_package_does_not_conflict_with_what_it_provides_itself() {
    let lines = "
        mta 1; Provides: mail; Conflicts: mail
        other 1; Provides: mail; Conflicts: mail
        a 1; Recommends: other; Depends: mta";
    assert_eq!(solve(lines, &["mta"], false, &[]), "mta 1 (Requested)");
    insta::assert_snapshot!(solve(lines, &["a"], true, &[]), @r#"
    a 1 (Requested)
    mta 1 (Depends by a)
    "#);
    insta::assert_snapshot!(solve(lines, &["mta", "other"], true, &[]), @r#"
    nothing fits:
      `mta` is asked for
      `mta` 1 conflicts with `mail`, which `other` provides
      `other` is asked for
    "#);
}

#[test]
fn goes_back_when_the_preferred_alternative_leads_nowhere() {
    let lines = "
        a 1; Depends: b | c, d
        b 1; Depends: e
        c 1
        d 1; Conflicts: e
        e 1";
    insta::assert_snapshot!(solve(lines, &["a"], false, &[]), @r#"
    a 1 (Requested)
    c 1 (Depends by a)
    d 1 (Depends by a)
    "#);
}

#[test]
fn the_base_is_frozen_and_preferred() {
    let lines = "
        a 1; Depends: v | w; Recommends: r
        v 1
        w 1
        r 1; Conflicts: w
        b 1; Conflicts: w
        n 2
        n 1
        c 1; Depends: n (>= 2)";
    insta::assert_snapshot!(solve(lines, &["a"], true, &[("w", "1")]), @"a 1 (Requested)");
    insta::assert_snapshot!(solve(lines, &["b"], true, &[("w", "1")]), @r#"
    nothing fits:
      `b` is asked for
      `b` 1 conflicts with `w`
      `w` 1 is there from the recipes before
    "#);
    insta::assert_snapshot!(solve(lines, &["c"], true, &[("n", "1")]), @r#"
    nothing fits:
      `c` is asked for
      `c` 1 depends on `n (>= 2)`
      `n` 2 would do, but `n` 1 is what is taken of that name
    "#);
    insta::assert_snapshot!(solve(lines, &["c"], true, &[("n", "0")]), @"`n` 0 of the recipes before is not in the archives any more; update it");
}

#[test]
fn the_shortest_chain_is_told() {
    let lines = "
        a 1; Depends: b (>= 2)
        b 1.0
        long 1; Depends: long2
        long2 1; Depends: a
        x 1; Depends: m
        m 1; Breaks: n (<< 3)
        y 1; Depends: n
        n 2
        choice 1; Depends: p | q
        p 1; Depends: nowhere
        q 1; Depends: v (>= 3)
        w 1; Provides: v";
    insta::assert_snapshot!(solve(lines, &["a", "long"], false, &[]), @r#"
    nothing fits:
      `a` is asked for
      `a` 1 depends on `b (>= 2)`
      only `b` 1.0 is available
    "#);
    insta::assert_snapshot!(solve(lines, &["x", "y"], false, &[]), @r#"
    nothing fits:
      `y` is asked for
      `y` 1 depends on `n`
      `x` is asked for
      `x` 1 depends on `m`
      `m` 1 breaks `n (<< 3)`
    "#);
    insta::assert_snapshot!(solve(lines, &["choice"], false, &[]), @r#"
    nothing fits:
      `choice` is asked for
      `choice` 1 depends on `p` or `q`
      `p` does not do:
        `p` 1 depends on `nowhere`
        there is no package `nowhere`
      `q` does not do:
        `q` 1 depends on `v (>= 3)`
        `v` is provided only by `w`, without that version
    "#);
    insta::assert_snapshot!(solve(lines, &["longg", "zzz", "v"], false, &[]), @r#"
    no such package: `longg`; did you mean `long`, `long2`?
    no such package: `zzz`
    `v` is a virtual package, provided by `w`: name one of them
    "#);
}

#[test]
fn an_alternative_ruled_out_by_another_chain_is_told_with_it() {
    let lines = "
        a 1; Depends: b | c
        b 1; Depends: e
        c 1
        d 1; Depends: g
        g 1; Conflicts: e, c
        e 1";
    insta::assert_snapshot!(solve(lines, &["a", "d"], false, &[]), @r#"
    nothing fits:
      `a` is asked for
      `a` 1 depends on `b` or `c`
      `d` is asked for
      `d` 1 depends on `g`
      `g` 1 conflicts with `c`
      `b` 1 depends on `e`
      `g` 1 conflicts with `e`
    "#);
}

#[test]
fn what_needs_something_taken_back_goes_too() {
    let lines = "
        a 1; Depends: cron; Recommends: postfix
        cron 1; Recommends: exim
        exim 1; Depends: exim-base; Provides: mta; Conflicts: mta
        exim-base 1; Depends: exim
        postfix 1; Provides: mta; Conflicts: mta";
    insta::assert_snapshot!(solve(lines, &["a"], true, &[]), @r#"
    a 1 (Requested)
    cron 1 (Depends by a)
    postfix 1 (Recommends by a)
    "#);
}
