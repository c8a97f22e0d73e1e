//! What several builtins need to know of texts: locales and patterns.

use super::answer::Call;

/// Whether messages and sorting are those of no language.
pub(super) fn is_plain_locale(call: &Call) -> bool {
    let plain = |name: &&str| matches!(call.variable(name), "" | "C" | "POSIX" | "C.UTF-8" | "C.utf8");
    match call.variable("LC_ALL") {
        "" => ["LC_CTYPE", "LC_COLLATE", "LC_MESSAGES", "LANG"].iter().all(plain),
        _ => plain(&"LC_ALL"),
    }
}

/// Whether a name fits a pattern with `*` and `?`, which also fit `/`.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    match (pattern.chars().next(), name.chars().next()) {
        (None, None) => true,
        (Some('*'), _) => {
            let rest = &pattern[1..];
            name.char_indices().map(|(at, _)| at).chain([name.len()]).any(|at| matches(rest, &name[at..]))
        }
        (Some('?'), Some(c)) => matches(&pattern[1..], &name[c.len_utf8()..]),
        (Some(a), Some(b)) if a == b => matches(&pattern[a.len_utf8()..], &name[b.len_utf8()..]),
        _ => false,
    }
}

/// Whether a pattern has nothing but `*` and `?` of what a shell takes for more than itself.
pub(super) fn is_simple_pattern(pattern: &str) -> bool {
    // Every star doubles the work in the worst case.
    pattern.matches('*').count() <= 4 && !pattern.contains(['[', ']', '\\'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_a_shell() {
        assert!(matches("systemd-*.*", "systemd-a.service") && matches("*", "") && matches("a?c", "a/c"));
        assert!(!matches("a?c", "ac") && !matches("a*", "ba") && !matches("", "a"));
    }
}
