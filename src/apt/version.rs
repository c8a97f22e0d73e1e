//! Debian version order (policy 5.6.12).

use std::cmp::Ordering;

/// A Debian version, ordered as dpkg orders it.
///
/// Two texts may be the same version (`1.0` and `0:1.0-0`), so equality is that of the order, not of the text.
#[derive(Debug, Clone, Copy)]
pub struct Version<'a>(pub &'a str);

impl PartialEq for Version<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Version<'_> {}

impl PartialOrd for Version<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(self.0, other.0)
    }
}

/// Whether `text` has the form of a version: an optional numeric epoch, then characters that versions may have.
pub fn is_valid(text: &str) -> bool {
    let (epoch, upstream, revision) = parts(text);
    let allowed = |part: &str, extra: &[u8]| {
        part.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".+~".contains(&byte) || extra.contains(&byte))
    };
    let has_epoch = text.contains(':');
    (!has_epoch || (!epoch.is_empty() && epoch.len() <= 9 && epoch.bytes().all(|byte| byte.is_ascii_digit())))
        && !upstream.is_empty()
        && allowed(upstream, if has_epoch { b"-:" } else { b"-" })
        && allowed(revision, b"")
        && !text.ends_with('-')
}

/// Which of two versions is the later one.
///
/// Total on any text: what is no version gets some place in the order, always the same.
pub fn compare(left: &str, right: &str) -> Ordering {
    if left == right {
        return Ordering::Equal;
    }
    let (left_epoch, left_upstream, left_revision) = parts(left);
    let (right_epoch, right_upstream, right_revision) = parts(right);
    // The epoch is a number, so the order of digit runs is the right one for it too.
    compare_part(left_epoch, right_epoch)
        .then_with(|| compare_part(left_upstream, right_upstream))
        .then_with(|| compare_part(left_revision, right_revision))
}

/// Epoch, upstream version and revision; a missing one is empty, which orders as `0` does.
fn parts(text: &str) -> (&str, &str, &str) {
    let (epoch, rest) = text.split_once(':').unwrap_or(("", text));
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
    (epoch, upstream, revision)
}

/// Compares runs of non-digits and of digits in turn.
fn compare_part(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left.as_bytes(), right.as_bytes());
    while !left.is_empty() || !right.is_empty() {
        loop {
            let (a, b) = (weight(left), weight(right));
            if a != b {
                return a.cmp(&b);
            }
            if a == 0 {
                break;
            }
            left = &left[1..];
            right = &right[1..];
        }
        let order = compare_digits(&mut left, &mut right);
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
}

/// The place of the first byte among non-digits: `~`, then the end or a digit, then letters, then the rest.
fn weight(text: &[u8]) -> i32 {
    match text.first() {
        Some(b'~') => -1,
        None | Some(b'0'..=b'9') => 0,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(*byte),
        Some(byte) => i32::from(*byte) + 256,
    }
}

/// Compares the digits at the front by value, however many there are, and steps over them.
fn compare_digits(left: &mut &[u8], right: &mut &[u8]) -> Ordering {
    let (a, b) = (take_number(left), take_number(right));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// Cuts the digits off the front; leading zeros are left out of the result.
fn take_number<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at(length);
    *text = rest;
    let zeros = digits.iter().take_while(|byte| **byte == b'0').count();
    &digits[zeros..]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn orders_as_policy_says() {
        let ascending = [
            "~~",
            "~~a",
            "~",
            "1.0~beta1~svn1245",
            "1.0~beta1",
            "1.0",
            "1.0-0.1",
            "1.0-1~bpo1",
            "1.0-1",
            "1.0-1+b1",
            "1.0a",
            "1.0+dfsg",
            "1.0.1",
            "1.2",
            "1.10",
            "2-1",
            "1:0.1",
            "1:1",
            "10:0",
        ];
        for (place, left) in ascending.iter().enumerate() {
            for (other, right) in ascending.iter().enumerate() {
                assert_eq!(compare(left, right), place.cmp(&other), "{left} against {right}");
            }
        }
        for (left, right) in [("1.0", "1.0-0"), ("0:1", "1"), ("1.00", "1.0"), ("00001", "1"), ("1.", "1.0")]
        {
            assert_eq!(Version(left), Version(right));
        }
        let long = "9".repeat(60);
        assert_eq!(compare(&long, &format!("1{long}")), Ordering::Less);
    }

    #[test]
    fn knows_a_version_by_its_form() {
        for good in ["1", "1.0-1", "2:1.0~rc1+dfsg-1+deb13u1", "1:2:3-4", "1-2-3", "0"] {
            assert!(is_valid(good), "{good}");
        }
        for bad in ["", ":1", "a:1", "1:", "1.0-", "1 0", "1_0", "é", "1.0:2"] {
            assert!(!is_valid(bad), "{bad}");
        }
    }

    fn version() -> impl Strategy<Value = String> {
        proptest::string::string_regex("([0-9]{1,2}:)?[0-9][0-9a-cA~+.]{0,6}(-[0-9a-c~+.]{1,4})?").unwrap()
    }

    proptest! {
        #[test]
        fn is_a_total_order(a in version(), b in version(), c in version()) {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            prop_assert_eq!(compare(&a, &a), Ordering::Equal);
            let mut sorted = [a.as_str(), b.as_str(), c.as_str()];
            sorted.sort_by(|left, right| compare(left, right));
            prop_assert_ne!(compare(sorted[0], sorted[2]), Ordering::Greater);
        }

        #[test]
        fn any_text_has_a_place(a in ".{0,12}", b in ".{0,12}") {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
        }

        #[test]
        fn a_tilde_comes_before_and_a_letter_after(a in "[0-9][0-9.]{0,6}") {
            prop_assert_eq!(compare(&format!("{a}~"), &a), Ordering::Less);
            prop_assert_eq!(compare(&format!("{a}a"), &a), Ordering::Greater);
        }
    }
}
