//! What integration tests share.
//!
//! [`repository`] is an apt repository on the loopback interface, signed with keys made at run time:
//!
//! ```ignore
//! mod support;
//! use support::{deb::Deb, repository::{NOW, Repository}};
//!
//! let served = Repository::new()
//!     .package(Deb::new("a", "1.0").field("Depends", "b").file("/usr/bin/a", "#!/bin/sh\n"))
//!     .package(Deb::new("b", "2-1").script("postinst", "#!/bin/sh\nset -e\n"))
//!     .serve();
//! let archive = served.archive();        // as a recipe declares it: URI, suites, components, keys
//! let locked = served.locked_packages(); // as a lock names its packages
//! served.server.fault("pool/a_1.0_amd64.deb", Fault::CutOff(100)).once();
//! ```
//!
//! Everything is dated so that it is good at [`repository::NOW`], whatever the clock says.
#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "each test binary uses its own part, and a test that cannot be set up has to fail"
)]

pub mod deb;
pub mod jellyfin;
pub mod keys;
pub mod repository;
pub mod server;
pub mod shipped;
pub mod small;
pub mod traefik;
pub mod updates;

/// Whether a test can run that needs `what`. Says so when it cannot, and fails when every test has to run.
pub fn require(what: &str, available: bool) -> bool {
    if !available {
        let all = std::env::var("BUILD_IMAGES_TEST_REQUIRE_ALL").is_ok_and(|value| value == "1");
        assert!(!all, "skipped, because {what} is missing, but every test has to run");
        eprintln!("skipped, because {what} is missing");
    }
    available
}
