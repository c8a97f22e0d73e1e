//! Every secret here is put together at run time and opens nothing: the repository has none, not even samples.

use super::*;
use crate::tree::Node;

fn path(text: &str) -> TreePath {
    TreePath::new(text).unwrap()
}

/// Letters and digits that look random and are the same at each run.
fn noise(alphabet: &str, length: usize) -> String {
    let alphabet: Vec<char> = alphabet.chars().collect();
    let mut state = 7_u64;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        alphabet[(state >> 33) as usize % alphabet.len()]
    };
    (0..length).map(next).collect()
}

fn alphanumeric(length: usize) -> String {
    noise("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", length)
}

/// 32 bytes in base 64.
fn wireguard_key() -> String {
    alphanumeric(42) + "Q="
}

fn pem(label: &str) -> String {
    let dashes = "-".repeat(5);
    let body = [alphanumeric(64), alphanumeric(40)].join("\n");
    format!("{dashes}BEGIN {label}{dashes}\n{body}\n{dashes}END {label}{dashes}\n")
}

fn private(kind: &str) -> String {
    format!("{kind}PRIVATE {}", "KEY")
}

/// `path:line: kind: why` of everything found.
fn shown(at: &str, bytes: impl AsRef<[u8]>) -> String {
    let path = path(at);
    let findings = scan_content(&path, bytes.as_ref()).into_iter();
    let lines = findings.map(|finding| Located { path: path.clone(), finding }.to_string());
    lines.collect::<Vec<_>>().join("\n")
}

/// An element of DER.
fn der(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = u16::try_from(contents.len()).unwrap().to_be_bytes();
    [&[tag, 0x82], &length[..], contents].concat()
}

#[test]
fn private_keys_of_every_text_format_are_found_anywhere() {
    let mut found = String::new();
    for kind in ["", "RSA ", "EC ", "DSA ", "ENCRYPTED ", "OPENSSH "] {
        found += &(shown("usr/lib/app/data", format!("# one\n\n{}", pem(&private(kind)))) + "\n");
    }
    let headers =
        pem(&private("RSA ")).replacen('\n', "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n", 1);
    found += &(shown("etc/x", headers) + "\n");
    found +=
        &(shown("etc/x", pem(&(private("PGP ") + " BLOCK")).replacen('\n', "\nComment: x\n\n", 1)) + "\n");
    found += &(shown("etc/x.json", format!("{{\n\"key\": \"{}\"}}", pem(&private("")).replace('\n', "\\n")))
        + "\n");
    found += &(shown("etc/x.yml", format!("key: |\n{}", pem(&private("")).replace('\n', "\n  "))) + "\n");
    found += &(shown("etc/openvpn/tls.key", pem("OpenVPN Static key V1")) + "\n");
    let putty = format!(
        "PuTTY-User-Key-{}-3: ssh-rsa\nEncryption: none\nPrivate-Lines: 1\n{}\n",
        "File",
        alphanumeric(64)
    );
    found += &(shown("root/key.ppk", putty) + "\n");
    let age = format!("# created\nAGE-SECRET-{}-1{}\n", "KEY", noise("QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58));
    found += &(shown("root/age.txt", age) + "\n");
    let minisign = format!(
        "untrusted comment: minisign encrypted secret key\n{}{}\n",
        "RWRTY0".to_owned() + "Iy",
        alphanumeric(200)
    );
    found += &(shown("root/.minisign/x.key", minisign) + "\n");
    let agent = format!(
        "Created: 20260101T000000\nKey: ({} (rsa\n (n #{}#)))\n",
        "private-key",
        noise("0123456789ABCDEF", 64)
    );
    found += &(shown("root/.gnupg/private-keys-v1.d/x.key", agent) + "\n");
    let kubernetes = format!("users:\n- user:\n    client-key-{}: {}\n", "data", alphanumeric(80));
    found += &shown("root/.kube/config", kubernetes);
    insta::assert_snapshot!(found, @"
    /usr/lib/app/data:3: private key: `PRIVATE KEY` in PEM or its like
    /usr/lib/app/data:3: private key: `RSA PRIVATE KEY` in PEM or its like
    /usr/lib/app/data:3: private key: `EC PRIVATE KEY` in PEM or its like
    /usr/lib/app/data:3: private key: `DSA PRIVATE KEY` in PEM or its like
    /usr/lib/app/data:3: private key: `ENCRYPTED PRIVATE KEY` in PEM or its like
    /usr/lib/app/data:3: private key: `OPENSSH PRIVATE KEY` in PEM or its like
    /etc/x:1: private key: `RSA PRIVATE KEY` in PEM or its like
    /etc/x:1: private key: `PGP PRIVATE KEY BLOCK` in PEM or its like
    /etc/x.json:2: private key: `PRIVATE KEY` in PEM or its like
    /etc/x.yml:2: private key: `PRIVATE KEY` in PEM or its like
    /etc/openvpn/tls.key:1: private key: `OpenVPN Static key V1` in PEM or its like
    /root/key.ppk:1: private key: PuTTY's format
    /root/age.txt:2: private key: an identity of age
    /root/.minisign/x.key:2: private key: minisign's or signify's format
    /root/.gnupg/private-keys-v1.d/x.key:2: private key: gpg-agent's format
    /root/.kube/config:3: private key: `client-key-data` of Kubernetes
    ");
}

#[test]
fn private_keys_of_binary_formats_are_found_by_structure() {
    let number = |length| der(0x02, &vec![0x55; length]);
    let small = |value| vec![0x02, 1, value];
    let object = |bytes: &[u8]| [&[0x06, bytes.len() as u8], bytes].concat();
    let rsa = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
    let pbes2 = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0d];
    let data = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
    let octets = der(0x04, &[7; 100]);
    let samples = [
        der(0x30, &[small(0), der(0x30, &object(&rsa)), octets.clone()].concat()),
        der(0x30, &[der(0x30, &object(&pbes2)), octets.clone()].concat()),
        der(0x30, &[vec![small(0)], vec![number(128); 8]].concat().concat()),
        der(0x30, &[small(1), der(0x04, &[7; 32]), der(0xa0, &object(&rsa))].concat()),
        der(0x30, &[small(3), der(0x30, &object(&data)), octets.clone()].concat()),
        // A key store of Java: one certificate, then a key.
        [
            &0xfeed_feed_u32.to_be_bytes()[..],
            &2_u32.to_be_bytes(),
            &2_u32.to_be_bytes(),
            &2_u32.to_be_bytes(),
            &[0, 1, b'a'],
            &[0; 8],
            &[0, 1, b'X'],
            &3_u32.to_be_bytes(),
            &[1, 2, 3],
            &1_u32.to_be_bytes(),
            &[0, 1, b'b'],
        ]
        .concat(),
        // A secret key packet of OpenPGP in the old form, and a user id.
        [&[0x95, 0, 60, 4, 0, 0, 0, 0, 22][..], &[9; 54], &[0xb4, 1, b'x']].concat(),
    ];
    let found: Vec<_> = samples.iter().map(|sample| shown("opt/app/key.bin", sample)).collect();
    insta::assert_snapshot!(found.join("\n"), @"
    /opt/app/key.bin:1: private key: a key in PKCS #8
    /opt/app/key.bin:1: private key: an encrypted key in PKCS #8
    /opt/app/key.bin:1: private key: an RSA or DSA key in PKCS #1
    /opt/app/key.bin:1: private key: an elliptic key in SEC 1
    /opt/app/key.bin:1: private key: a key store in PKCS #12
    /opt/app/key.bin:1: private key: a Java key store with a private key
    /opt/app/key.bin:1: private key: a secret key in OpenPGP's binary form
    ");

    // A certificate: signed part, algorithm, signature. A public key. A trust store. A public OpenPGP key.
    let public = der(0x30, &[der(0x30, &object(&rsa)), der(0x03, &[0; 100])].concat());
    let certificate =
        der(0x30, &[der(0x30, &public), der(0x30, &object(&rsa)), der(0x03, &[0; 100])].concat());
    let trust = [&samples[5][..8], &1_u32.to_be_bytes(), &samples[5][12..33]].concat();
    let openpgp = [&[0x99, 0, 60, 4, 0, 0, 0, 0, 22][..], &[9; 54], &[0xb4, 1, b'x']].concat();
    for harmless in [public, certificate, trust, openpgp] {
        assert_eq!(shown("etc/ssl/x", harmless), "");
    }
}

#[test]
fn password_hashes_are_found_in_account_files_and_elsewhere() {
    let sha512 = format!("$6$rounds=5000$saltsalt${}", alphanumeric(86));
    let yescrypt = format!("$y$j9T$saltsalt${}", alphanumeric(43));
    let shadow = format!(
        "root:{yescrypt}:1::::::\ndaemon:*:1::::::\nlocked:!{sha512}:1::::::\nopen::1::::::\nok:!*:1::::::\n"
    );
    let mut found = shown("etc/shadow", shadow) + "\n";
    found += &(shown("etc/gshadow", "a:*::\nb:!::x\nc::y:\nd:ab01FAX.bQRSU::\n") + "\n");
    found += &(shown("etc/passwd", "root:x:0:0::/:/bin/sh\nold:ab01FAX.bQRSU:1:1::/:/bin/sh\n") + "\n");
    for hash in [
        sha512,
        yescrypt,
        format!("$5$salt${}", alphanumeric(43)),
        format!("$1$salt${}", alphanumeric(22)),
        format!("$apr1$salt${}", alphanumeric(22)),
        format!("$2y$10${}", alphanumeric(53)),
        format!("$argon2id$v=19$m=65536,t=3,p=4${}${}", alphanumeric(22), alphanumeric(43)),
        format!("pbkdf2_sha256$600000${}${}=", alphanumeric(22), alphanumeric(43)),
        format!("{{SSHA}}{}", alphanumeric(32)),
    ] {
        found += &(shown("usr/share/app/users", format!("first\nadmin:{hash}\n")) + "\n");
    }
    let value = format!("@ByteArray({}==:{}==)", alphanumeric(22), alphanumeric(86));
    let qbittorrent =
        format!("[Preferences]\nWebUI\\Username=admin\nWebUI\\Password_{}=\"{value}\"\n", "PBKDF2");
    found += &shown("usr/share/qbittorrent/seed.conf", qbittorrent);
    insta::assert_snapshot!(found, @"
    /etc/shadow:1: password hash: the password field of `root`
    /etc/shadow:3: password hash: the password field of `locked`
    /etc/shadow:4: account without password: `open` needs no password to log in
    /etc/gshadow:4: password hash: the password field of `d`
    /etc/passwd:2: password hash: the password field of `old`
    /usr/share/app/users:2: password hash: the form of SHA-512 crypt
    /usr/share/app/users:2: password hash: the form of yescrypt
    /usr/share/app/users:2: password hash: the form of SHA-256 crypt
    /usr/share/app/users:2: password hash: the form of MD5 crypt
    /usr/share/app/users:2: password hash: the form of Apache's MD5
    /usr/share/app/users:2: password hash: the form of bcrypt
    /usr/share/app/users:2: password hash: the form of Argon2
    /usr/share/app/users:2: password hash: the form of PBKDF2
    /usr/share/app/users:2: password hash: the form of an LDAP password
    /usr/share/qbittorrent/seed.conf:3: password hash: the form of qBittorrent's PBKDF2
    ");
}

#[test]
fn keys_and_passwords_of_networks_are_found() {
    let key = wireguard_key();
    let samples = [
        (
            "etc/wireguard/wg0.conf",
            format!("[Interface]\nPrivateKey = {key}\n[Peer]\nPublicKey = {key}\nPresharedKey={key}\n"),
        ),
        ("etc/systemd/network/wg0.netdev", format!("[WireGuard]\nPrivateKey={key}\n")),
        ("etc/wireguard/private", format!("{key}\n")),
        (
            "etc/wpa_supplicant/wpa_supplicant.conf",
            "network={\n  ssid=\"x\"\n  psk=\"correct horse\"\n}\n".into(),
        ),
        (
            "etc/NetworkManager/system-connections/x.nmconnection",
            "[wifi-security]\npsk=correcthorse\n".into(),
        ),
        ("var/lib/iwd/home.psk", "[Security]\nPassphrase=correct horse\n".into()),
        ("etc/network/interfaces", "iface wlan0 inet dhcp\n  wpa-psk correcthorse\n".into()),
        ("etc/hostapd/hostapd.conf", "wpa_passphrase=correcthorse\n".into()),
        ("etc/ppp/chap-secrets", "# client server secret\nme * correcthorse *\n".into()),
    ];
    let found: Vec<_> = samples.iter().map(|(path, text)| shown(path, text)).collect();
    insta::assert_snapshot!(found.join("\n"), @"
    /etc/wireguard/wg0.conf:2: WireGuard key: `PrivateKey` with 32 bytes in base 64
    /etc/wireguard/wg0.conf:5: WireGuard key: `PresharedKey` with 32 bytes in base 64
    /etc/systemd/network/wg0.netdev:2: WireGuard key: `PrivateKey` with 32 bytes in base 64
    /etc/wireguard/private:1: WireGuard key: 32 bytes in base 64
    /etc/wpa_supplicant/wpa_supplicant.conf:3: Wi-Fi password: a network's password in wpa_supplicant's configuration
    /etc/NetworkManager/system-connections/x.nmconnection:2: Wi-Fi password: a network's password in a connection of NetworkManager
    /var/lib/iwd/home.psk:2: Wi-Fi password: a network's password in a network of iwd
    /etc/network/interfaces:2: Wi-Fi password: a network's password in the network's configuration
    /etc/hostapd/hostapd.conf:1: Wi-Fi password: a network's password in hostapd's configuration
    /etc/ppp/chap-secrets:2: password: a password in PPP's secrets
    ");
    assert_eq!(shown("etc/wireguard/public", format!("{key}\n")), "");
}

#[test]
fn tokens_are_found_by_their_form_and_by_their_name() {
    let text = alphanumeric(70);
    let url = "eyJ".to_owned() + &text[..30];
    let forms = [
        format!("AK{}{}", "IA", noise("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16)),
        format!("gh{}{}", "p_", &text[..36]),
        format!("github_{}{}", "pat_", &text[..60]),
        format!("gl{}{}", "pat-", &text[..20]),
        format!("xo{}123456789012-{}", "xb-", &text[..24]),
        format!("AI{}{}", "za", &text[..35]),
        format!("sk_{}{}", "live_", &text[..24]),
        format!("{url}.{url}.{}", &text[..43]),
        format!("Account{}{}==", "Key=", alphanumeric(86)),
    ];
    let mut found = String::new();
    for form in &forms {
        found += &(shown("usr/share/app/x.js", format!("line\nlet a = \"{form}\"\n")) + "\n");
    }
    let named = "A=1\nAPP_TOKEN=abcdef\nAPP_SECRET='abcdef'\nexport DB_PASSWORD=abcdef\n#OLD_PASSWORD=abcdef\nAPI_KEY=abcdef\n";
    found += &(shown("etc/default/app", named) + "\n");
    found += &(shown("usr/share/app/.env", "APP_TOKEN=abcdef\n") + "\n");
    found += &shown("usr/lib/systemd/system/app.service", "[Service]\nEnvironment=A=b APP_TOKEN=abcdef\n");
    insta::assert_snapshot!(found, @"
    /usr/share/app/x.js:2: token: the form of a token of AWS
    /usr/share/app/x.js:2: token: the form of a token of GitHub
    /usr/share/app/x.js:2: token: the form of a token of GitHub
    /usr/share/app/x.js:2: token: the form of a token of GitLab
    /usr/share/app/x.js:2: token: the form of a token of Slack
    /usr/share/app/x.js:2: token: the form of a token of Google
    /usr/share/app/x.js:2: token: the form of a token of Stripe
    /usr/share/app/x.js:2: token: the form of a JSON web token
    /usr/share/app/x.js:2: token: the form of a token of Azure
    /etc/default/app:2: token: `APP_TOKEN` has a value
    /etc/default/app:3: token: `APP_SECRET` has a value
    /etc/default/app:4: password: `DB_PASSWORD` has a value
    /etc/default/app:6: token: `API_KEY` has a value
    /usr/share/app/.env:1: token: `APP_TOKEN` has a value
    /usr/lib/systemd/system/app.service:2: token: `APP_TOKEN` has a value
    ");
    assert_eq!(shown("usr/share/app/settings", "APP_TOKEN=abcdef\n"), "");
    assert_eq!(shown("etc/default/app", "APP_TOKEN=\nAPP_TOKEN=$OTHER\nAPP_TOKEN_FILE=/run/token\n"), "");
    assert_eq!(shown("usr/share/x", format!("a{}", forms[0])), "", "a token begins where a word does");
}

#[test]
fn passwords_in_known_files_are_found() {
    let docker = format!("{{\n \"auths\": {{\n  \"r\": {{ \"auth\": \"{}\" }} }} }}\n", alphanumeric(20));
    let samples = [
        ("root/.pgpass", "host:5432:db:user:correcthorse\n"),
        ("root/.my.cnf", "[client]\npassword = correcthorse\n"),
        ("root/.netrc", "machine example.org login me password correcthorse\n"),
        ("etc/mysql/debian.cnf", "user = x\npassword = correcthorse\n"),
        ("etc/app.conf", "database = postgresql://me:correcthorse@db.example.org/app\n"),
        ("root/.docker/config.json", &docker),
        ("var/cache/debconf/passwords.dat", "Name: a/password\nTemplate: a\nValue: correcthorse\n"),
        ("opt/app/settings.json", "{\n  \"password\": \"correcthorse\"\n}\n"),
        ("etc/ipsec.secrets", "%any : PSK \"correcthorse\"\n"),
    ];
    let found: Vec<_> = samples.iter().map(|(path, text)| shown(path, text)).collect();
    insta::assert_snapshot!(found.join("\n"), @"
    /root/.pgpass:1: password: a password in PostgreSQL's password file
    /root/.my.cnf:2: password: `password` has a value
    /root/.netrc:1: password: a password in a file of logins
    /etc/mysql/debian.cnf:2: password: `password` has a value
    /etc/app.conf:1: password: a login in an address
    /root/.docker/config.json:3: token: a login to a container registry
    /var/cache/debconf/passwords.dat:3: password: a password in debconf's database
    /opt/app/settings.json:2: password: `password` has a value
    /etc/ipsec.secrets:1: password: a password in the secrets of IPsec
    ");
}

#[test]
fn names_of_forms_without_a_secret_are_nothing() {
    let dashes = "-".repeat(5);
    let label = private("RSA ");
    let harmless = [
        format!("{dashes}BEGIN {label}{dashes}\n"),
        format!("{dashes}BEGIN {label}{dashes}\n...\n{dashes}END {label}{dashes}\n"),
        format!("\0{dashes}BEGIN {label}{dashes}\0{dashes}END {label}{dashes}\0{}", alphanumeric(100)),
        pem("CERTIFICATE"),
        pem("PUBLIC KEY"),
        pem("PGP PUBLIC KEY BLOCK"),
        "$6$salt$short $2y$10$ $1$ $y$j9T$ {SSHA} PrivateKey=%s AKIA eyJ.eyJ.x".into(),
        "AGE-SECRET-KEY-1 PuTTY-User-Key-File-2: %s client-key-data: x".into(),
        "https://user:password@example.org http://$USER:$PASS@host mailto://a:b@".into(),
    ];
    for text in harmless {
        assert_eq!(shown("etc/app.conf", &text), "", "{text}");
    }
    let key = pem(&label);
    assert_ne!(shown("etc/x", &key), "");
    assert_eq!(shown("usr/share/doc/app/examples/key.pem", &key), "");
    assert_eq!(shown("usr/lib/python3.13/test/key.pem", &key), "");
    assert_eq!(shown("usr/lib/libgnutls.so.30", format!("\x7fELF{key}")), "");
}

#[test]
fn a_scan_reads_each_content_once_and_tells_every_path() {
    let mut contents = BTreeMap::new();
    let mut tree = Tree::new();
    let key = pem(&private(""));
    let files =
        [("etc/a.key", key.as_str()), ("opt/b.key", &key), ("etc/plain", "x\n"), ("usr/share/plain", "y\n")];
    for (at, text) in files {
        let content = Content::of(text.as_bytes());
        contents.insert(content.sha256, text.as_bytes().to_vec());
        tree.insert(path(at), Node::file(content, 0o644, 0));
    }
    let report = scan(&tree, &contents, &BTreeSet::new()).unwrap();
    insta::assert_snapshot!(report.clone().into_clean().unwrap_err(), @"
    there are secrets in the image; make them at the first boot or hand them over when deploying:
      /etc/a.key:1: private key: `PRIVATE KEY` in PEM or its like
      /opt/b.key:1: private key: `PRIVATE KEY` in PEM or its like
    ");
    assert_eq!(report.clean, BTreeSet::from([Sha256::of("x\n"), Sha256::of("y\n")]));

    // What was clean and has no rules of its path is not read again.
    contents.remove(&Sha256::of("y\n"));
    assert_eq!(scan(&tree, &contents, &report.clean).unwrap(), report);
    assert!(scan(&tree, &contents, &BTreeSet::new()).is_err());
    assert_eq!(scan(&Tree::new(), &contents, &BTreeSet::new()).unwrap().into_clean(), Ok(BTreeSet::new()));
}
