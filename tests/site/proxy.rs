//! The proxy's file in a real Traefik, in front of stand-ins that answer as each test wants. `tests/boot` has it in front
//! of containers.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use build_images::model::Project;

use crate::support::require;
use crate::traefik::{self, Got, Traefik};
use crate::world::{World, has_program};
use crate::{files, project};

pub const JELLYFIN: &str = "jellyfin.viljo.se";
pub const QBITTORRENT: &str = "qbittorrent.viljo.se";
pub const PROXY: &str = "172.16.10.102";
/// Two addresses of clients.
const ALICE: &str = "203.0.113.7";
const MALLORY: &str = "203.0.113.8";

/// A node with the addresses of proxy and containers, and those of clients.
pub fn node() -> Option<(World, PathBuf)> {
    let ready = require("root", rustix::process::geteuid().is_root())
        && require("ip (package iproute2)", has_program("ip"));
    let program = if ready { traefik::prepared() } else { None }?;
    let addresses = [PROXY, "172.16.10.56", "172.16.10.59", "172.16.10.103"].map(|one| format!("{one}/24"));
    let clients = [ALICE, MALLORY].map(|one| format!("{one}/32"));
    Some((World::new("vmbr3", &[&addresses[..], &clients[..]].concat()), program))
}

type Answers = Box<dyn FnMut(&str) -> (u16, String) + Send>;

/// Something that speaks HTTP; it ends when it goes out of scope.
pub struct Server {
    seen: Arc<Mutex<Vec<String>>>,
    answers: Arc<Mutex<Answers>>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    /// Listens at `address` in the world; `answers` gives status and body for the head of a request.
    pub fn new(
        world: &World,
        address: &str,
        answers: impl FnMut(&str) -> (u16, String) + Send + 'static,
    ) -> Self {
        let listener = world.in_network(|| TcpListener::bind(address).unwrap());
        listener.set_nonblocking(true).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let answers: Arc<Mutex<Answers>> = Arc::new(Mutex::new(Box::new(answers)));
        let stop = Arc::new(AtomicBool::new(false));
        let (log, rule, end) = (Arc::clone(&seen), Arc::clone(&answers), Arc::clone(&stop));
        let begun = Instant::now();
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) && begun.elapsed() < Duration::from_secs(300) {
                let Ok((mut client, _)) = listener.accept() else {
                    std::thread::sleep(Duration::from_millis(5));
                    continue;
                };
                client.set_nonblocking(false).unwrap();
                client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                let mut head = Vec::new();
                let mut byte = [0];
                while head.len() < 1 << 16
                    && !head.ends_with(b"\r\n\r\n")
                    && client.read_exact(&mut byte).is_ok()
                {
                    head.push(byte[0]);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let (status, body) = (rule.lock().unwrap())(&head);
                log.lock().unwrap().push(head);
                let answer = format!(
                    "HTTP/1.1 {status} x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
                let _ = client.write_all(answer.as_bytes());
            }
        });
        Self { seen, answers, stop, thread: Some(thread) }
    }

    pub fn set(&self, answers: impl FnMut(&str) -> (u16, String) + Send + 'static) {
        *self.answers.lock().unwrap() = Box::new(answers);
    }

    /// The head of the last request that has this in it.
    fn last(&self, part: &str) -> String {
        let seen = self.seen.lock().unwrap();
        seen.iter()
            .rev()
            .find(|head| head.contains(part))
            .cloned()
            .unwrap_or_else(|| panic!("no `{part}`: {seen:?}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The first line's path, and the rest as headers in lower case.
pub fn path(head: &str) -> &str {
    head.split(' ').nth(1).unwrap_or_default()
}

/// As Jellyfin answers while it starts or migrates (SetupServer.cs).
pub fn degraded(head: &str) -> (u16, String) {
    match path(head) {
        "/health" => (200, "Degraded".to_owned()),
        _ => (503, "starting".to_owned()),
    }
}

pub fn healthy(head: &str) -> (u16, String) {
    match path(head) {
        "/health" => (200, "Healthy".to_owned()),
        other => (200, format!("jellyfin {other}")),
    }
}

/// As qBittorrent answers to somebody who is not logged in.
pub fn logged_out(head: &str) -> (u16, String) {
    match path(head) {
        "/api/v2/app/version" => (403, "Forbidden".to_owned()),
        other => (200, format!("qbittorrent {other}")),
    }
}

fn dynamic(project: &Project) -> String {
    let files = files(project);
    files.into_iter().find(|file| file.path == "traefik/build-images.yml").unwrap().contents
}

pub fn start<'w>(world: &'w World, program: &std::path::Path, project: &Project) -> Traefik<'w> {
    Traefik::start(world, program, PROXY, &dynamic(project), &[JELLYFIN, QBITTORRENT])
}

#[test]
fn it_offers_what_is_ready_limits_what_is_much_and_hides_what_is_private() {
    let Some((world, program)) = node() else { return };
    let jellyfin = Server::new(&world, "172.16.10.56:8096", degraded);
    let qbittorrent = Server::new(&world, "172.16.10.59:8080", logged_out);
    let traefik = start(&world, &program, &project());

    // Not to be had at all, though `/health` says 200 all the time; the other one is not held up.
    let starts = traefik.wait_for(ALICE, JELLYFIN, "/health", |got| got.status == 503);
    assert_ne!(starts.body, "Degraded");
    assert_eq!(traefik.ask(ALICE, QBITTORRENT, "/", &[]), got(200, "qbittorrent /"));
    jellyfin.set(healthy);
    traefik.wait_for(ALICE, JELLYFIN, "/health", |got| got.status == 200 && got.body == "Healthy");

    // Who the client is, is what Traefik says and nobody else.
    let forged = [
        "-H",
        "X-Forwarded-For: 127.0.0.1",
        "-H",
        "X-Real-Ip: 127.0.0.1",
        "-H",
        "X-Forwarded-Host: evil.example",
    ];
    assert_eq!(traefik.ask(ALICE, QBITTORRENT, "/forged", &forged), got(200, "qbittorrent /forged"));
    let head = qbittorrent.last("/forged").to_lowercase();
    for line in [
        format!("x-forwarded-for: {ALICE}\r\n"),
        format!("x-real-ip: {ALICE}\r\n"),
        "x-forwarded-proto: https\r\n".to_owned(),
        format!("x-forwarded-host: {QBITTORRENT}\r\n"),
        format!("host: {QBITTORRENT}\r\n"),
    ] {
        assert!(head.contains(&line), "no `{line}` in:\n{head}");
    }
    // Web sockets need nothing.
    let socket = ["--http1.1", "-H", "Connection: Upgrade", "-H", "Upgrade: websocket"];
    assert_eq!(traefik.ask(ALICE, JELLYFIN, "/socket", &socket), got(200, "jellyfin /socket"));
    let head = jellyfin.last("/socket").to_lowercase();
    assert!(head.contains("connection: upgrade\r\n") && head.contains("upgrade: websocket\r\n"), "{head}");
    // It asks for the name that the application knows.
    assert!(qbittorrent.last("/api/v2/app/version").contains(&format!("Host: {QBITTORRENT}\r\n")));

    // However it is written.
    for path in [
        "/Startup/User",
        "/startup",
        "/STARTUP/Configuration",
        "/%53tartup/User",
        "//Startup/User",
        "/emby/Startup/User",
        "/x/../Startup/User",
    ] {
        let status = traefik.ask(ALICE, JELLYFIN, path, &[]).map(|got| got.status);
        assert_eq!(status, Some(403), "{path}");
    }
    assert_eq!(traefik.ask(ALICE, JELLYFIN, "/StartupWizard", &[]), got(200, "jellyfin /StartupWizard"));
    assert!(jellyfin.seen.lock().unwrap().iter().all(|head| !path(head).to_lowercase().contains("startup/")));

    // Five at once, then one in six seconds, in any spelling; other clients and other pages are not held up.
    let spellings = ["/Users/AuthenticateByName", "/users/authenticatebyname", "/USERS/AuthenticateByName/"];
    let statuses: Vec<_> = (0..9)
        .map(|attempt| {
            traefik.ask(MALLORY, JELLYFIN, spellings[attempt % 3], &["--data", "x"]).unwrap().status
        })
        .collect();
    assert_eq!(statuses[..5], [200; 5]);
    assert!(statuses[5..].iter().filter(|status| **status == 429).count() >= 3, "{statuses:?}");
    assert_eq!(traefik.ask(MALLORY, JELLYFIN, "/", &[]), got(200, "jellyfin /"));
    assert_eq!(
        traefik.ask(ALICE, JELLYFIN, "/Users/AuthenticateByName", &["--data", "x"]).unwrap().status,
        200
    );
    assert_eq!(traefik.errors(), Vec::<String>::new());

    // Nobody listens any more.
    drop(qbittorrent);
    let begun = traefik.ask(ALICE, QBITTORRENT, "/", &[]).unwrap();
    assert!(matches!(begun.status, 502 | 503), "{begun:?}");
    let gone = traefik.wait_for(ALICE, QBITTORRENT, "/", |got| got.status == 503);
    assert_eq!(gone.body.trim(), "no available server");
    assert_eq!(traefik.ask(ALICE, JELLYFIN, "/", &[]), got(200, "jellyfin /"));
}

fn got(status: u16, body: &str) -> Option<Got> {
    Some(Got { status, body: body.to_owned() })
}

#[test]
fn with_forward_auth_nobody_gets_in_who_is_not_signed_in() {
    let Some((world, program)) = node() else { return };
    let mut project = project();
    project.site.proxy.forward_auth = Some("http://172.16.10.103:4180/".to_owned());
    project.images.get_mut("qbittorrent").unwrap().forward_auth = true;
    let jellyfin = Server::new(&world, "172.16.10.56:8096", healthy);
    let qbittorrent = Server::new(&world, "172.16.10.59:8080", logged_out);
    // As oauth2-proxy with a static upstream: 202 for who is signed in, else a page to do that.
    let _auth = Server::new(&world, "172.16.10.103:4180", |head| match path(head) {
        "/oauth2/sign_in" => (200, "sign in here".to_owned()),
        _ if head.contains("Cookie: signed=in") => (202, String::new()),
        _ => (401, "who are you".to_owned()),
    });
    let traefik = start(&world, &program, &project);
    traefik
        .wait_for(ALICE, QBITTORRENT, "/", |got| *got == Got { status: 401, body: "who are you".to_owned() });
    for path in ["/api/v2/auth/login", "/api/v2/torrents/info"] {
        assert_eq!(traefik.ask(ALICE, QBITTORRENT, path, &[]), got(401, "who are you"), "{path}");
    }
    assert!(qbittorrent.seen.lock().unwrap().iter().all(|head| path(head) == "/api/v2/app/version"));
    assert_eq!(traefik.ask(ALICE, QBITTORRENT, "/oauth2/sign_in", &[]), got(200, "sign in here"));
    assert_eq!(traefik.ask(ALICE, QBITTORRENT, "/", &["-H", "Cookie: signed=in"]), got(200, "qbittorrent /"));
    assert_eq!(traefik.ask(ALICE, JELLYFIN, "/", &[]), got(200, "jellyfin /"), "nobody asked for it there");
    assert_eq!(traefik.errors(), Vec::<String>::new());
    drop(jellyfin);
}

/// What makes the tests above worth something: Traefik takes no key that it does not know.
#[test]
fn a_typing_error_in_the_file_is_one_that_traefik_says() {
    let Some((world, program)) = node() else { return };
    let text = dynamic(&project());
    let wrong = text.replace("healthCheck:", "healthCheckk:");
    assert_ne!(wrong, text);
    let traefik = Traefik::start(&world, &program, PROXY, &wrong, &[JELLYFIN, QBITTORRENT]);
    let mut errors = Vec::new();
    for _ in 0..100 {
        errors = traefik.errors();
        if !errors.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(errors.iter().any(|error| error.contains("field not found, node: healthCheckk")), "{errors:?}");
}
