//! The node's probe judges as the recipe's rules are judged everywhere else.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use build_images::deploy::scripts::rules;
use build_images::model::offer::Ready;
use build_images::model::probe::{Answer, Body, Health, Probe, Service, Setup, Starting};

fn service(setup: bool) -> Service {
    let starting = |status: &[u16], body| Starting { status: status.to_vec(), body, patience: 0 };
    Service {
        port: 0,
        probe: Probe {
            path: "/health".to_owned(),
            status: vec![200, 204],
            body: Body::Exactly("Healthy\n".to_owned()),
            starting: vec![
                starting(&[200, 503], Body::Exactly("Degraded".to_owned())),
                starting(&[], Body::Contains("it's $starting; `x`".to_owned())),
                starting(&[502], Body::Any),
            ],
            patience: 0,
        },
        setup: setup.then(|| Setup {
            path: "/info".to_owned(),
            status: vec![200],
            body: Body::Contains("\"Completed\":false".to_owned()),
            private: Vec::new(),
        }),
        ready: Ready { path: "/ready".to_owned(), status: Some(200) },
        login: None,
        rate: 0,
    }
}

/// What the node's probe says to these two answers.
fn asked(service: &Service, health: &Answer, info: &Answer) -> (i32, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answers = [("/health", health.clone()), ("/info", info.clone())];
    std::thread::spawn(move || {
        for stream in listener.incoming().take(8) {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let answer = answers.iter().find(|(path, _)| request.starts_with(&format!("GET {path} ")));
            let answer = answer
                .map(|(_, answer)| answer.clone())
                .unwrap_or(Answer { status: 404, body: String::new() });
            let _ =
                write!(stream, "HTTP/1.1 {} x\r\nConnection: close\r\n\r\n{}", answer.status, answer.body);
        }
    });
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/deploy/node/probe.pl");
    let arguments = rules(&Service { port, ..service.clone() });
    let output = Command::new("perl").arg(program).arg("address=127.0.0.1").args(arguments).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn the_nodes_probe_judges_by_the_same_rules() {
    let bodies = [
        "Healthy",
        "Healthy\r\n",
        "Degraded",
        "Degraded\n",
        " Healthy",
        "",
        "say it's $starting; `x`!",
        "<html>",
    ];
    let infos = ["{\"Completed\":false}", "{\"Completed\":true}"];
    for setup in [false, true] {
        let service = service(setup);
        for (number, body) in bodies.iter().enumerate() {
            for status in [200, 204, 404, 502, 503] {
                let health = Answer { status, body: (*body).to_owned() };
                let info_status = if number == 1 { 503 } else { 200 };
                let info = Answer { status: info_status, body: infos[number % 2].to_owned() };
                let expected =
                    service.judge(|path| Some(if path == "/info" { info.clone() } else { health.clone() }));
                let (code, said) = asked(&service, &health, &info);
                let found = match code {
                    0 => "healthy",
                    3 => "needs setup",
                    _ if said.starts_with("it answers ") => "failed",
                    _ => "starting",
                };
                let expected = match expected {
                    Health::Healthy => "healthy",
                    Health::NeedsSetup => "needs setup",
                    Health::Failed(_) => "failed",
                    Health::Starting { .. } => "starting",
                };
                assert_eq!(found, expected, "{health:?}, {info:?}: {said}");
            }
        }
    }
}

#[test]
fn silence_is_failure_in_the_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/deploy/node/probe.pl");
    let arguments = rules(&Service { port, ..service(false) });
    let output = Command::new("perl").arg(program).arg("address=127.0.0.1").args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "nobody answered for 0 s\n");
}
