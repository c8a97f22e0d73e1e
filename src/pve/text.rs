//! The canonical text of a configuration, and the encoding of descriptions.

use std::fmt;

use super::settings::Config;

/// The key of the lines that hold the environment.
pub(super) const ENVIRONMENT: &str = "lxc.environment.runtime";

impl Config {
    /// The text as Proxmox writes it: description, keys in byte order, environment, settings of LXC in their order.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        if !self.description.is_empty() {
            for line in self.description.split('\n') {
                text.push_str(&format!("#{}\n", encode(line)));
            }
        }
        for (key, value) in self.lines() {
            text.push_str(&format!("{key}: {value}\n"));
        }
        for (name, value) in &self.environment {
            text.push_str(&format!("{ENVIRONMENT}: {name}={value}\n"));
        }
        for (key, value) in &self.lxc {
            text.push_str(&format!("{key}: {value}\n"));
        }
        text
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

/// Encodes one line: `%`, `:`, controls and everything beyond ASCII as `%XX`.
fn encode(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    for byte in line.bytes() {
        match byte {
            0x20..=0x24 | 0x26..=0x39 | 0x3b..=0x7e => text.push(char::from(byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// Decodes what [`encode`] makes; a `%` that no two hex digits follow stands for itself, as in Proxmox.
/// Nothing when the bytes are not UTF-8.
pub(super) fn decode(line: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(line.len());
    let mut rest = line.as_bytes();
    while let [first, after @ ..] = rest {
        let code = after.get(..2).filter(|code| code.iter().all(u8::is_ascii_hexdigit));
        let code = code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        match code.filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_are_encoded_as_proxmox_does() {
        assert_eq!(encode(" 100 %: å\t~"), " 100 %25%3A %C3%A5%09~");
        assert_eq!(decode(" 100 %25%3A %C3%A5%09~").as_deref(), Some(" 100 %: å\t~"));
        assert_eq!(decode("5 % off, %zz").as_deref(), Some("5 % off, %zz"));
        assert_eq!(decode("%ff"), None);
    }
}
