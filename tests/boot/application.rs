//! qBittorrent, seen from outside its container and from the node.

use std::fs;
use std::path::{Path, PathBuf};

use crate::container::Container;
use crate::pct::Config;
use crate::site_file;
use crate::web::{Answer, Request, send, wait_for};
use crate::world::{World, facts};

/// Its user as the node sees it.
pub const USER: u32 = 100_959;
/// Its own group as the node sees it.
pub const GROUP: u32 = 100_959;
/// The group of everything that reads media, as the node sees it.
pub const MEDIA: u32 = 100_950;

/// Where the state is mounted.
pub const STATE: &str = "/var/lib/qbittorrent";
/// Where the downloads are mounted.
pub const DOWNLOADS: &str = "/srv/downloads";

/// Makes the node's directories with the site's storage script, and those of a container that the site does not know as
/// that script would.
pub fn make_directories(world: &World, config: &Config) {
    make_storage(world);
    for bind in config.binds() {
        let (owner, mode) = match bind.target.as_str() {
            STATE => ((USER, GROUP), 0o750),
            DOWNLOADS => ((USER, MEDIA), 0o2775),
            other => panic!("no test knows a mount on {other}"),
        };
        if !world.path(&bind.source).exists() {
            world.make_directory(&bind.source, owner, mode);
        }
        assert_eq!(facts(&world.path(&bind.source)), (owner.0, owner.1, mode), "{}", bind.source);
    }
}

/// Runs the site's storage script.
pub fn make_storage(world: &World) {
    let script = world.path("/mnt/storage.sh");
    fs::write(&script, site_file("storage.sh")).unwrap();
    world.run("sh", &["/mnt/storage.sh"]);
}

/// How this process reaches the directory of the node that is mounted there.
pub fn on_node(world: &World, config: &Config, target: &str) -> PathBuf {
    let binds = config.binds();
    let bind = binds.iter().find(|bind| bind.target == target);
    world.path(&bind.unwrap_or_else(|| panic!("nothing is mounted on {target}")).source)
}

/// Its configuration directory below the state.
pub fn config_directory(state: &Path) -> PathBuf {
    state.join("qBittorrent/config")
}

/// A qBittorrent somebody is logged in to.
pub struct Session<'a> {
    world: &'a World,
    base: String,
    cookie: String,
}

/// The address its web interface has.
pub fn base(config: &Config) -> String {
    format!("http://{}:8080", config.card().address)
}

impl<'a> Session<'a> {
    /// Logs in with the password that it wrote to the journal.
    pub fn log_in(world: &'a World, container: &Container<'_>) -> Session<'a> {
        let base = base(&container.config);
        world.in_network(|| wait_for(&base));
        let password = temporary_password(container);
        let body = format!("username=admin&password={password}");
        let answer = post(world, &base, "auth/login", &[], FORM, body.as_bytes());
        assert!(
            matches!((answer.status, answer.body.as_str()), (200, "Ok.") | (204, "")),
            "the temporary password of the journal is refused: {answer:?}"
        );
        Session { world, base, cookie: answer.cookie.expect("a login sets a cookie") }
    }

    /// Sends a form to one of its methods.
    pub fn post(&self, method: &str, form: &str) -> Answer {
        self.post_as(method, FORM, form.as_bytes())
    }

    /// Sends a body of any type to one of its methods.
    pub fn post_as(&self, method: &str, kind: &str, body: &[u8]) -> Answer {
        post(self.world, &self.base, method, &[("Cookie", &self.cookie)], kind, body)
    }

    /// Asks one of its methods.
    pub fn get(&self, method: &str) -> Answer {
        let url = format!("{}/api/v2/{method}", self.base);
        let headers = [("Cookie", self.cookie.as_str())];
        self.world
            .in_network(|| send(&url, Request { headers: &headers, body: None }))
            .unwrap_or_else(|| panic!("no answer from {url}"))
    }
}

const FORM: &str = "application/x-www-form-urlencoded";

fn post(
    world: &World,
    base: &str,
    method: &str,
    headers: &[(&str, &str)],
    kind: &str,
    body: &[u8],
) -> Answer {
    let url = format!("{base}/api/v2/{method}");
    world
        .in_network(|| send(&url, Request { headers, body: Some((kind, body)) }))
        .unwrap_or_else(|| panic!("no answer from {url}"))
}

/// The password of this run, which nobody but the journal knows.
fn temporary_password(container: &Container<'_>) -> String {
    const BEFORE: &str = "A temporary password is provided for this session: ";
    let journal = container.wait_for_journal("qbittorrent.service", BEFORE);
    let (_, after) = journal.rsplit_once(BEFORE).unwrap();
    after.lines().next().unwrap_or_default().trim().to_owned()
}
