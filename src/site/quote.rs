//! Texts inside other languages.

/// A word of a shell script.
pub fn shell(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A string of YAML. Nothing that the model lets through has line breaks.
pub fn yaml(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A text for which a regular expression stands that finds it alone (Go's RE2, of paths).
pub fn pattern(text: &str) -> String {
    text.replace('.', "\\.")
}

/// A value of fail2ban's configuration, where `%` fills something in.
pub fn ini(text: &str) -> String {
    text.replace('%', "%%")
}

/// A cell of a Markdown table.
pub fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_those_of_each_language() {
        assert_eq!(shell("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(yaml("it's: `x`"), "'it''s: `x`'");
        assert_eq!(pattern("/a.b"), r"/a\.b");
        assert_eq!(ini("100% <ADDR>"), "100%% <ADDR>");
        assert_eq!(cell("a|b"), r"a\|b");
    }
}
