//! A real Traefik in a world, with TLS in front of whatever listens there, and clients of it.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use crate::support;
use crate::world::{World, expect_success, has_program, read};

/// Where its files are in the world.
const PLACE: &str = "/mnt/traefik";

/// A running Traefik; it ends with the world at the latest.
pub struct Traefik<'world> {
    world: &'world World,
    /// Its address.
    address: String,
    child: Child,
}

/// What a client got.
#[derive(Debug, PartialEq, Eq)]
pub struct Got {
    pub status: u16,
    pub body: String,
}

/// Whether this machine has what is needed here, and where Traefik is.
pub fn prepared() -> Option<std::path::PathBuf> {
    let ready = support::require("curl (package curl)", has_program("curl"))
        && support::require("openssl (package openssl)", has_program("openssl"));
    if ready { support::traefik::program() } else { None }
}

impl<'world> Traefik<'world> {
    /// Starts `program` on `address` with the dynamic configuration `dynamic` and a certificate for `names`.
    pub fn start(world: &'world World, program: &Path, address: &str, dynamic: &str, names: &[&str]) -> Self {
        let directory = world.path(PLACE).join("dynamic");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("build-images.yml"), dynamic).unwrap();
        let names: Vec<_> = names.iter().map(|name| format!("DNS:{name}")).collect();
        let output = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
            .args(["-days", "2", "-subj", "/CN=test", "-addext"])
            .arg(format!("subjectAltName={}", names.join(",")))
            .arg("-keyout")
            .arg(world.path(PLACE).join("key.pem"))
            .arg("-out")
            .arg(world.path(PLACE).join("cert.pem"))
            .output()
            .unwrap();
        expect_success("openssl req", &output);
        let tls = format!(
            "tls:\n  certificates:\n    - certFile: {PLACE}/cert.pem\n      keyFile: {PLACE}/key.pem\n"
        );
        fs::write(directory.join("tls.yml"), tls).unwrap();
        let log = File::create(world.path(PLACE).join("log")).unwrap();
        let child = world
            .command(300, program.to_str().unwrap())
            .args(["--global.checkNewVersion=false", "--global.sendAnonymousUsage=false"])
            .args(["--log.level=INFO", "--log.format=json", "--providers.file.watch=false"])
            .arg(format!("--providers.file.directory={PLACE}/dynamic"))
            .arg(format!("--entryPoints.websecure.address={address}:443"))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let traefik = Self { world, address: address.to_owned(), child };
        let target = format!("{address}:443").parse().unwrap();
        for _ in 0..200 {
            let connected =
                || std::net::TcpStream::connect_timeout(&target, Duration::from_millis(200)).is_ok();
            if world.in_network(connected) {
                return traefik;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("it does not listen:\n{}", traefik.log());
    }

    /// All that it has said.
    pub fn log(&self) -> String {
        read(&self.world.path(PLACE).join("log"))
    }

    /// What it complains of in its configuration.
    pub fn errors(&self) -> Vec<String> {
        self.log().lines().filter(|line| line.contains("\"level\":\"error\"")).map(str::to_owned).collect()
    }

    /// Its certificate, for clients, as a path of the world.
    pub fn certificate(&self) -> String {
        format!("{PLACE}/cert.pem")
    }

    /// What a client with the address `client` gets; nothing when no answer comes in ten seconds.
    pub fn ask(&self, client: &str, name: &str, path: &str, more: &[&str]) -> Option<Got> {
        let output = self
            .world
            .command(20, "curl")
            .args(["--silent", "--noproxy", "*", "--max-time", "10", "--path-as-is", "--interface", client])
            .args(["--cacert", &self.certificate(), "--resolve", &format!("{name}:443:{}", self.address)])
            .args(["--write-out", "\n%{http_code}"])
            .args(more)
            .arg(format!("https://{name}{path}"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n')?;
        let status = status.parse().ok().filter(|status| *status != 0)?;
        Some(Got { status, body: body.to_owned() })
    }

    /// The same, again and again until it is as `wanted`.
    pub fn wait_for(&self, client: &str, name: &str, path: &str, wanted: impl Fn(&Got) -> bool) -> Got {
        let mut last = None;
        for _ in 0..120 {
            last = self.ask(client, name, path, &[]);
            if let Some(got) = last.take() {
                if wanted(&got) {
                    return got;
                }
                last = Some(got);
            }
            std::thread::sleep(Duration::from_millis(250));
        }
        panic!("https://{name}{path} stays {last:?}\n{}", self.log());
    }
}

impl Drop for Traefik<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            use std::io::Write as _;
            let _ = writeln!(std::io::stderr(), "{}", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
