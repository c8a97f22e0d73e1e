//! Assignments in configuration: `NAME=value` and its like, where the name says that the value is a secret.

/// Last words of names whose values are passwords.
const PASSWORDS: [&str; 9] =
    ["password", "passwd", "passphrase", "pass", "pwd", "pw", "passwort", "requirepass", "masterauth"];
/// Last words of names whose values are tokens.
const TOKENS: [&str; 5] = ["token", "secret", "apikey", "credentials", "authtoken"];
/// Words that make a secret of the word `key` behind them.
const KEYS: [&str; 13] = [
    "api",
    "access",
    "secret",
    "private",
    "auth",
    "encryption",
    "signing",
    "account",
    "master",
    "license",
    "session",
    "shared",
    "service",
];
/// Values that say how a secret is got, or that there is none.
const WORDS: [&str; 20] = [
    "yes",
    "no",
    "true",
    "false",
    "none",
    "null",
    "nil",
    "on",
    "off",
    "required",
    "optional",
    "sufficient",
    "prompt",
    "ask",
    "file",
    "files",
    "disabled",
    "enabled",
    "default",
    "undefined",
];
/// Endings of file names, which are no secrets themselves.
const FILES: [&str; 7] = [".pem", ".key", ".crt", ".cert", ".txt", ".conf", ".json"];

/// What a name says about its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sensitive {
    /// A password.
    Password,
    /// A token or key.
    Token,
}

/// Finds an assignment of a secret in a line. `colon` says whether the file's format assigns with `:` too.
/// Gives the name as written.
pub fn secret(line: &str, colon: bool) -> Option<(&str, Sensitive)> {
    let line = line.trim_start().trim_start_matches("- ");
    // npm's settings begin with the address of a registry, which is no comment.
    if line.starts_with(['#', ';', '!']) || line.starts_with("//") && !line.contains("/:_") {
        return None;
    }
    let line = line.strip_prefix("export ").or(line.strip_prefix("set ")).unwrap_or(line);
    // systemd: one or more assignments behind the name of the setting.
    for setting in ["Environment=", "SetCredential="] {
        if let Some(rest) = line.strip_prefix(setting) {
            return rest.split_whitespace().find_map(|part| assigned(part.trim_matches(['"', '\'']), true));
        }
    }
    assigned(line, colon)
}

fn assigned(line: &str, colon: bool) -> Option<(&str, Sensitive)> {
    let (name, value) = line.split_once(|c| c == '=' || colon && c == ':')?;
    let name = name.trim().trim_matches(['"', '\'']);
    let sensitive = sensitive(name)?;
    is_secret(value).then_some((name, sensitive))
}

fn sensitive(name: &str) -> Option<Sensitive> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-./\\@:".contains(c);
    if name.len() > 100 || !name.chars().all(allowed) {
        return None;
    }
    let words = words(name);
    let (last, before) = words.split_last()?;
    if PASSWORDS.contains(&last.as_str()) && !(words.len() == 1 && matches!(&**last, "pwd" | "pw")) {
        return Some(Sensitive::Password);
    }
    let key = last == "key" && before.last().is_some_and(|word| KEYS.contains(&word.as_str()));
    (key || TOKENS.contains(&last.as_str())).then_some(Sensitive::Token)
}

/// The words of a name, in lower case: `DB_PASSWORD`, `db-password` and `dbPassword` are the same.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut lower_before = false;
    for character in name.chars() {
        if !character.is_ascii_alphanumeric() || character.is_ascii_uppercase() && lower_before {
            words.push(String::new());
        }
        if let (true, Some(word)) = (character.is_ascii_alphanumeric(), words.last_mut()) {
            word.push(character.to_ascii_lowercase());
        }
        lower_before = character.is_ascii_lowercase();
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Whether a value is a secret itself, and not a place to find one, a reference, a word of the format, or nothing.
pub fn is_secret(value: &str) -> bool {
    let value = value.trim().trim_end_matches([',', ';']);
    let quoted = value.len() >= 2 && value.starts_with(['"', '\'']) && value.ends_with(['"', '\'']);
    let value = value.trim_matches(['"', '\'']);
    // An unquoted comment behind the value.
    let value = if quoted { value } else { value.split(" #").next().unwrap_or(value).trim_end() };
    let lower = value.to_ascii_lowercase();
    let reference = value.starts_with(['$', '`', '%', '<', '{', '/', '@', '&', '(', '~', '[', '|', '>']);
    let uniform = value.bytes().all(|byte| Some(&byte) == value.as_bytes().first());
    value.len() >= 4
        && !reference
        && !uniform
        && (quoted || !value.contains(char::is_whitespace))
        && !WORDS.contains(&lower.as_str())
        && !FILES.iter().any(|ending| lower.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_decide_together() {
        let secrets = [
            "DB_PASSWORD=hunter22",
            "export API_KEY='abcd1234'",
            "  clientSecret = \"x y z 1\"",
            "- TOKEN=abcdef",
            "Environment=\"A=b\" \"SMTP_PASS=abcdef\"",
            "//registry/:_authToken=abcdef",
            "AWS_SECRET_ACCESS_KEY=abcd",
            "requirepass=abcdef",
            "SetCredential=app.token:abcdef",
            "PASSWORD=abcd # comment",
        ];
        for line in secrets {
            assert!(secret(line, false).is_some(), "{line}");
        }
        let harmless = [
            "PASSWORD=",
            "PASSWORD=\"\"",
            "PASSWORD=$OTHER",
            "PASSWORD_FILE=/run/secret",
            "TOKEN_TTL=3600",
            "# PASSWORD=abcdef",
            "challengePassword = A challenge password",
            "password required pam_unix.so",
            "PASSWORD=/run/secret",
            "KEY=abcdef",
            "API_KEY=xxxxxxxx",
            "PRIVATE_KEY=host.key",
            "COMPASS=north",
            "passwd: files systemd",
            "PWD=abcdef",
            "ImportCredential=tty.virtual",
            "password=prompt",
        ];
        for line in harmless {
            assert_eq!(secret(line, false), None, "{line}");
        }
        assert_eq!(secret("\"password\": \"abcdef\",", true), Some(("password", Sensitive::Password)));
        assert_eq!(secret("\"password\": \"abcdef\",", false), None);
    }
}
