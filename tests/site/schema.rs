//! The proxy's file against the published JSON Schema of such files, in the form of the types that are made from it.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::require;
use crate::world::has_program;
use crate::{outcome, project, written};

/// Where `.ci/run` puts the Node packages.
const PACKAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/npm/node_modules");

/// What is wrong with a file; nothing when it is as the schema says.
fn checked(file: &Path) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/site/schema.cjs");
    let (code, text) = outcome(&Command::new("node").arg(script).arg(file).arg(PACKAGES).output().unwrap());
    assert_eq!(code == Some(0), text.is_empty(), "{text}");
    text
}

#[test]
fn the_proxys_file_is_as_the_published_schema_says() {
    let ready = require("node (package nodejs)", has_program("node"))
        && require(
            "the schema of Traefik's files (Node packages; .ci/run gets them)",
            Path::new(PACKAGES).join("@schemastore/traefik-v3-file-provider/index.d.ts").exists(),
        );
    if !ready {
        return;
    }
    // With everything that a site can have, and as it is shipped.
    let mut all = project();
    all.site.proxy.resolver = Some("dns".to_owned());
    all.site.proxy.forward_auth = Some("http://172.16.10.103:4180/oauth2/auth".to_owned());
    all.images.get_mut("qbittorrent").unwrap().forward_auth = true;
    let directories = [written(&all), written(&project())];
    let files = directories.each_ref().map(|at| at.path().join("site/traefik/build-images.yml"));
    for file in &files {
        assert_eq!(checked(file), "", "{}", fs::read_to_string(file).unwrap());
    }

    // The check can fail.
    let text = fs::read_to_string(&files[0]).unwrap();
    for (old, new) in [
        ("loadBalancer:", "loadBalancers:"),
        ("- url:", "- uri:"),
        ("    burst:", "    bursts:"),
        ("average: 200", "average: [200]"),
        ("forwardAuth:", "forwardAuths:"),
    ] {
        assert!(text.contains(old), "no `{old}` in\n{text}");
        fs::write(&files[1], text.replacen(old, new, 1)).unwrap();
        assert_ne!(checked(&files[1]), "", "{new}");
    }
}
