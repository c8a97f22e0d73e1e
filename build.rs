//! Compiles the relay, a program without libraries that runs inside images. See `src/sandbox/relay.rs`.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    let source = "src/sandbox/relay/program.rs";
    println!("cargo::rerun-if-changed={source}");
    println!("cargo::rerun-if-changed=build.rs");
    let variable = |name: &str| env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let output = PathBuf::from(variable("OUT_DIR")).join("relay");
    let mut rustc = Command::new(variable("RUSTC"));
    rustc.args(["--edition=2024", "--crate-type=bin", "--crate-name=relay", "--target", &variable("TARGET")]);
    rustc.args(["-Copt-level=s", "-Cpanic=abort", "-Crelocation-model=static", "-Cstrip=symbols"]);
    rustc.args(["-Clink-arg=-nostartfiles", "-Clink-arg=-nostdlib", "-Clink-arg=-static"]);
    // Neither a stack protector nor unwinding tables: there is nobody to use them.
    rustc.args(["-Clink-arg=-Wl,--build-id=none", "-Cforce-unwind-tables=no"]);
    // What cargo passes on to other compilations may not fit a program without libraries.
    rustc.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        rustc.arg(format!("-Clinker={linker}"));
    }
    rustc.arg(source).arg("-o").arg(&output);
    let status = rustc.status().unwrap_or_else(|error| panic!("cannot start rustc: {error}"));
    assert!(status.success(), "rustc could not compile {source}");
}
