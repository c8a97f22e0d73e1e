//! Secrets that only the file they are in makes recognisable, line by line.

use super::assignment::{self, Sensitive};
use super::forms::{is_wireguard_key, run};
use super::{Hit, SecretKind};
use crate::tree::TreePath;

/// Where configuration and data of programs are.
const CONFIGURATION: [&str; 9] =
    ["etc/", "home/", "opt/", "root/", "srv/", "usr/lib/systemd/", "usr/local/", "var/lib/", "var/spool/"];
/// Parts of those that only Debian's own tools write.
const DATABASES: [&str; 5] = [
    "var/lib/apt/",
    "var/lib/dpkg/",
    "var/lib/systemd/catalog/",
    "var/lib/systemd/deb-systemd-helper-enabled/",
    "var/lib/ucf/",
];
/// Endings of programs, whose assignments mean something else.
const PROGRAMS: [&str; 12] =
    [".py", ".pl", ".pm", ".rb", ".js", ".mjs", ".ts", ".lua", ".c", ".h", ".php", ".html"];
/// Longest file that is read line by line, in bytes.
const MAX_SIZE: usize = 1 << 20;

/// Whether there are rules for a file of this path.
pub fn has_rules(path: &TreePath) -> bool {
    let path = path.as_bytes();
    let within = |places: &[&str]| places.iter().any(|place| path.starts_with(place.as_bytes()));
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    (within(&CONFIGURATION) && !within(&DATABASES))
        || path.starts_with(b"var/backups/")
        || path.starts_with(b"var/cache/debconf/passwords.dat")
        || name.starts_with(b".env")
        || name.ends_with(b".env")
}

/// Adds what the rules for this path find.
pub fn search(path: &TreePath, bytes: &[u8], hits: &mut Vec<Hit>) {
    if !has_rules(path) {
        return;
    }
    let path = path.to_string();
    if path.ends_with(".keytab") && bytes.starts_with(&[5, 2]) {
        hits.push(Hit::new(0, SecretKind::PrivateKey, "a key table of Kerberos"));
    }
    if bytes.len() > MAX_SIZE || bytes.iter().take(8192).any(|byte| *byte == 0) {
        return;
    }
    let text = String::from_utf8_lossy(bytes);
    let file = File::of(&path, &text);
    let mut offset = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let line_text = String::from_utf8_lossy(line);
        if let Some((kind, why)) = file.line(line_text.trim_end()) {
            hits.push(Hit::new(offset, kind, why));
        }
        offset += line.len();
    }
}

/// What is known of a file from its path and its whole text.
struct File<'a> {
    path: &'a str,
    name: &'a str,
    /// Its format assigns with `:`.
    colon: bool,
    /// It is a program, not configuration.
    program: bool,
    /// It has an object `auths`, as Docker's and Podman's have.
    docker: bool,
}

type Found = Option<(SecretKind, String)>;

impl<'a> File<'a> {
    fn of(path: &'a str, text: &str) -> Self {
        let name = path.rsplit('/').next().unwrap_or(path);
        let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
        Self {
            path,
            name,
            colon: ends(&[".yml", ".yaml", ".json"]),
            program: ends(&PROGRAMS) || text.starts_with("#!"),
            docker: text.contains("\"auths\""),
        }
    }

    fn line(&self, line: &str) -> Found {
        self.account(line)
            .or_else(|| self.known(line))
            .or_else(|| url(line))
            .or_else(|| self.assignment(line))
    }

    /// A field of an account file that is a hash, or lets anybody in.
    fn account(&self, line: &str) -> Found {
        let name = self.name.trim_end_matches(['-', '~']).trim_end_matches(".bak");
        let shadow = matches!(name, "shadow" | "gshadow");
        if !shadow && !matches!(name, "passwd" | "group") || self.path.matches('/').count() > 3 {
            return None;
        }
        let mut fields = line.split(':');
        let (account, password) = (fields.next()?, fields.next()?);
        let hash = password.trim_start_matches(['!', '*']);
        if hash.len() > 1 {
            return Some((SecretKind::PasswordHash, format!("the password field of `{account}`")));
        }
        if password.is_empty() && matches!(name, "shadow" | "passwd") && !account.starts_with('+') {
            return Some((SecretKind::EmptyPassword, format!("`{account}` needs no password to log in")));
        }
        None
    }

    /// Files of which it is known what their lines mean.
    fn known(&self, line: &str) -> Found {
        let password = |of: &str| Some((SecretKind::Password, format!("a password in {of}")));
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            return None;
        }
        let value = |names: &[&str]| {
            let (name, value) = trimmed.split_once(|c: char| c == '=' || c.is_whitespace())?;
            let value = value.trim().trim_matches('"');
            (names.contains(&name.trim()) && !value.is_empty()).then_some(())
        };
        let words: Vec<&str> = trimmed.split_whitespace().collect();
        let wifi = |of: &str| Some((SecretKind::WifiPassword, format!("a network's password in {of}")));
        match self.name {
            ".pgpass" | "pgpass" if trimmed.split(':').count() >= 5 => {
                return password("PostgreSQL's password file");
            }
            ".netrc" | "_netrc" | "netrc" => {
                let at = words.iter().position(|word| matches!(*word, "password" | "passwd"));
                return at.and_then(|at| words.get(at + 1)).and_then(|_| password("a file of logins"));
            }
            "chap-secrets" | "pap-secrets" if words.len() >= 3 => return password("PPP's secrets"),
            "ipsec.secrets" | "swanctl.conf" if trimmed.contains(" PSK \"") => {
                return password("the secrets of IPsec");
            }
            "passwords.dat" if trimmed.starts_with("Value: ") => return password("debconf's database"),
            "interfaces"
                if value(&["wpa-psk", "wpa-password", "wireless-key", "wireless-key1"]).is_some() =>
            {
                return wifi("the network's configuration");
            }
            _ => {}
        }
        if self.path.contains("wpa_supplicant")
            && value(&["psk", "password", "sae_password", "wep_key0", "private_key_passwd"]).is_some()
        {
            return wifi("wpa_supplicant's configuration");
        }
        if self.path.contains("/system-connections/") || self.path.ends_with(".nmconnection") {
            let found = value(&["psk", "password", "wep-key0", "leap-password", "pin"]);
            return found.and_then(|()| wifi("a connection of NetworkManager"));
        }
        if self.path.starts_with("/var/lib/iwd/") && value(&["Passphrase", "PreSharedKey"]).is_some() {
            return wifi("a network of iwd");
        }
        if self.path.contains("hostapd") && value(&["wpa_passphrase", "wpa_psk"]).is_some() {
            return wifi("hostapd's configuration");
        }
        if self.path.contains("wireguard")
            && !self.name.contains("pub")
            && is_wireguard_key(trimmed.as_bytes())
        {
            return Some((SecretKind::WireguardKey, "32 bytes in base 64".into()));
        }
        if self.docker
            && let Some((_, value)) = trimmed.split_once("\"auth\":")
            && assignment::is_secret(value.trim_end_matches(['}', ' ']))
        {
            return Some((SecretKind::Token, "a login to a container registry".into()));
        }
        None
    }

    fn assignment(&self, line: &str) -> Found {
        if self.program {
            return None;
        }
        let (name, sensitive) = assignment::secret(line, self.colon)?;
        let name: String = name.chars().take(60).collect();
        Some(match sensitive {
            Sensitive::Password => (SecretKind::Password, format!("`{name}` has a value")),
            Sensitive::Token => (SecretKind::Token, format!("`{name}` has a value")),
        })
    }
}

/// A login inside an address: `scheme://user:password@host`.
fn url(line: &str) -> Found {
    if line.trim_start().starts_with(['#', ';']) {
        return None;
    }
    for (at, _) in line.match_indices("://") {
        let rest = &line.as_bytes()[at + 3..];
        let end = run(rest, 0, |byte| {
            byte.is_ascii_graphic() && !matches!(byte, b'/' | b'"' | b'\'' | b'<' | b'>')
        });
        let authority = &line[at + 3..at + 3 + end];
        let Some((login, host)) = authority.rsplit_once('@') else { continue };
        let Some((user, password)) = login.split_once(':') else { continue };
        let sample = matches!(
            password.to_ascii_lowercase().as_str(),
            "password" | "pass" | "passwd" | "secret" | "pw"
        );
        if !host.is_empty() && !user.is_empty() && !sample && assignment::is_secret(password) {
            return Some((SecretKind::Password, "a login in an address".into()));
        }
    }
    None
}
