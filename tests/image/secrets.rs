//! Secrets that a recipe plants fail the build with file and line, and are not repeated.
//! Each is put together here from pieces, so that this file holds none.

use crate::support::deb::Deb;
use crate::world::World;

/// 32 bytes in base 64 that are nobody's key.
fn key_of_32_bytes() -> String {
    format!("{}{}=", "aB3dE5gH7jK9mN1pQ3sT5vW7", "yZ9bC1eF3hJ5kL7nP9s")
}

fn letters(count: usize) -> String {
    "kX7dQ2mZ9vR4tB6nW1cY8sH3".chars().cycle().take(count).collect()
}

/// File, contents, the line with the secret, what the message calls it, and the secret.
fn planted() -> Vec<(&'static str, String, u64, &'static str, String)> {
    let hash = format!("${}$rounds=5000${}${}", 6, letters(12), letters(86));
    let pem = |kind: &str| {
        let [begin, end] = ["BEGIN", "END"].map(|word| format!("-----{word} {kind}PRIVATE KEY-----"));
        let body: Vec<_> = (0..8).map(|_| letters(64)).collect();
        format!("# for the proxy\n{begin}\nMIIE{}\n{}\n{end}\n", letters(60), body.join("\n"))
    };
    let pbkdf2 = format!("{}==:{}Q==", "ARQ77eY1NUZaQsuDHbIMCA", letters(85));
    vec![
        ("/etc/ssl/private/web.key", pem("RSA "), 2, "private key", letters(64)),
        ("/etc/app/any.name", pem("EC "), 2, "private key", letters(64)),
        ("/etc/app/shadow", format!("root:*:1::::::\nadmin:{hash}:1::::::\n"), 2, "password hash", hash),
        (
            "/etc/wireguard/wg0.conf",
            format!("[Interface]\nPrivateKey = {}\n", key_of_32_bytes()),
            2,
            "WireGuard key",
            key_of_32_bytes(),
        ),
        (
            "/etc/app/app.env",
            format!("# settings\nMODE=a\nAPI_{} = {}\n", "TOKEN", letters(40)).replace(" = ", "="),
            3,
            "token",
            letters(40),
        ),
        (
            "/etc/qbt/qBittorrent.conf",
            format!("[Preferences]\nWebUI\\Password_{}=\"@ByteArray({pbkdf2})\"\n", "PBKDF2"),
            2,
            "password hash",
            pbkdf2,
        ),
        (
            "/etc/wpa_supplicant/home.conf",
            format!("network={{\n  ssid=\"home\"\n  p{}=\"{}\"\n}}\n", "sk", letters(12)),
            3,
            "Wi-Fi password",
            letters(12),
        ),
        ("/root/.pgpass", format!("db:5432:app:app:{}\n", letters(14)), 1, "password", letters(14)),
        (
            "/etc/app/database.ini",
            format!("[db]\nurl=postgresql://app:{}@db.example.org/app\n", letters(14)),
            2,
            "password",
            letters(14),
        ),
        (
            "/usr/share/app/notes.txt",
            format!("aws\n{}{}\n", "AKIA", "QX7DZ2MR9VT4B6NW"),
            2,
            "token",
            "QX7DZ2".to_owned(),
        ),
    ]
}

#[test]
fn every_planted_secret_is_told_with_file_and_line() {
    let mut recipe = String::new();
    for (index, (path, ..)) in planted().iter().enumerate() {
        recipe += &format!("[[file]]\npath = {path:?}\nsource = \"secret-{index}\"\nmode = \"0600\"\n");
    }
    recipe += "[[file]]\npath = \"/etc/app/harmless\"\ncontent = \"nothing of interest\\n\"\n";
    let Some(world) = World::new(Vec::new(), "") else { return };
    for (index, (_, text, ..)) in planted().iter().enumerate() {
        world.file(&format!("secret-{index}"), text);
    }
    world.recipe(&recipe);
    let before = world.layers();
    let run = world.build();
    let error = run.error();
    for (path, _, line, kind, secret) in planted() {
        let told = error.lines().any(|found| found.trim().starts_with(&format!("{path}:{line}: {kind}: ")));
        assert!(told, "`{path}:{line}: {kind}` is missing in\n{error}");
        assert!(!run.stderr.contains(&secret), "the secret of {path} is repeated in\n{error}");
    }
    assert!(!error.contains("harmless"), "{error}");
    world.expect_nothing_left(&before);
}

#[test]
fn secrets_of_packages_and_scripts_are_found_too() {
    let token = format!("gh{}_{}", "p", letters(36));
    let script =
        format!("#!/bin/sh\nset -e\numask 077\nprintf 'one\\ntoken %s\\n' {token} >/etc/app-login\n");
    let packages = vec![
        Deb::new("shipper", "1.0").file("/usr/share/shipper/data", format!("x\ny\n{token}\n")),
        Deb::new("maker", "1.0").script("postinst", &script),
    ];
    let Some(world) = World::new(packages, "") else { return };
    let error = world.build().error().to_owned();
    for place in ["/usr/share/shipper/data:3: token: ", "/etc/app-login:2: token: "] {
        assert!(error.contains(place), "{error}");
    }
    // The copy of the script in dpkg's database holds it as well.
    assert!(error.contains("/var/lib/dpkg/info/maker.postinst:4: token: "), "{error}");
    assert!(!error.contains(&token), "{error}");
    // What was found once is found again: only clean contents are remembered.
    assert_eq!(world.build().error(), error);
}
