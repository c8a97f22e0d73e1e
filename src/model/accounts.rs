//! The users and groups that every Debian system has from the start.
//!
//! Copied by hand from `base-passwd` 3.6 (trixie), whose ids never change: Debian policy 9.2.2 fixes 0 to 99.

/// Users of `base-passwd`: name, id, id of the primary group.
pub const USERS: [(&str, u32, u32); 18] = [
    ("root", 0, 0),
    ("daemon", 1, 1),
    ("bin", 2, 2),
    ("sys", 3, 3),
    ("sync", 4, 65534),
    ("games", 5, 60),
    ("man", 6, 12),
    ("lp", 7, 7),
    ("mail", 8, 8),
    ("news", 9, 9),
    ("uucp", 10, 10),
    ("proxy", 13, 13),
    ("www-data", 33, 33),
    ("backup", 34, 34),
    ("list", 38, 38),
    ("irc", 39, 39),
    ("_apt", 42, 65534),
    ("nobody", 65534, 65534),
];

/// Groups of `base-passwd`: name, id.
pub const GROUPS: [(&str, u32); 38] = [
    ("root", 0),
    ("daemon", 1),
    ("bin", 2),
    ("sys", 3),
    ("adm", 4),
    ("tty", 5),
    ("disk", 6),
    ("lp", 7),
    ("mail", 8),
    ("news", 9),
    ("uucp", 10),
    ("man", 12),
    ("proxy", 13),
    ("kmem", 15),
    ("dialout", 20),
    ("fax", 21),
    ("voice", 22),
    ("cdrom", 24),
    ("floppy", 25),
    ("tape", 26),
    ("sudo", 27),
    ("audio", 29),
    ("dip", 30),
    ("www-data", 33),
    ("backup", 34),
    ("operator", 37),
    ("list", 38),
    ("irc", 39),
    ("src", 40),
    ("shadow", 42),
    ("utmp", 43),
    ("video", 44),
    ("sasl", 45),
    ("plugdev", 46),
    ("staff", 50),
    ("games", 60),
    ("users", 100),
    ("nogroup", 65534),
];

/// The id of a user that every system has.
pub fn user(name: &str) -> Option<u32> {
    USERS.iter().find(|(known, ..)| *known == name).map(|(_, uid, _)| *uid)
}

/// The id of a group that every system has.
pub fn group(name: &str) -> Option<u32> {
    GROUPS.iter().find(|(known, _)| *known == name).map(|(_, gid)| *gid)
}

/// The primary group of a user that every system has.
pub fn primary_group(user: &str) -> Option<&'static str> {
    let (.., gid) = USERS.iter().find(|(known, ..)| *known == user)?;
    GROUPS.iter().find(|(_, known)| known == gid).map(|(name, _)| *name)
}
