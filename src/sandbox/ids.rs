//! Which of the host's ids stand for an image's ids 0 to 65535.
//!
//! An ordinary user may use what `/etc/subuid` and `/etc/subgid` grant. Root takes its entry there, if it has one, or
//! else a fixed range that neither people, subordinate ids (`SUB_UID_MAX` is 600,100,000) nor systemd's containers use.
//! Where that range does not exist, as for root in a container with 65,536 ids, the container's own ids stand for
//! themselves.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::IDS;

/// Where root's range begins without an entry: 0x70000000, the first that systemd's list of id ranges leaves free above
/// the containers.
const ROOT_START: u32 = 0x7000_0000;
/// More than any such file has.
const LARGEST_FILE: u64 = 16 << 20;

/// 65,536 user ids and as many group ids of the host that become an image's ids 0 to 65535.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// The host's user id that is an image's root.
    pub uid_start: u32,
    /// The host's group id that is an image's group root.
    pub gid_start: u32,
    /// Whether this process may write id maps itself; otherwise `newuidmap` and `newgidmap` do.
    pub privileged: bool,
}

/// The files that say who has which subordinate ids.
#[derive(Debug, Clone)]
pub struct AccountFiles {
    /// Names of users; usually `/etc/passwd`.
    pub passwd: PathBuf,
    /// Ranges of user ids; usually `/etc/subuid`.
    pub subuid: PathBuf,
    /// Ranges of group ids; usually `/etc/subgid`.
    pub subgid: PathBuf,
    /// Which ids exist here; usually `/proc/self/uid_map`.
    pub uid_map: PathBuf,
}

impl Default for AccountFiles {
    fn default() -> Self {
        Self {
            passwd: "/etc/passwd".into(),
            subuid: "/etc/subuid".into(),
            subgid: "/etc/subgid".into(),
            uid_map: "/proc/self/uid_map".into(),
        }
    }
}

/// There are no ids to build with.
#[derive(Debug, thiserror::Error)]
pub enum IdRangeError {
    /// A file of accounts cannot be read.
    #[error("cannot read `{path}`: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The user has no range, or none that is large enough.
    #[error(
        "`{path}` gives `{user}` {found}, but building needs one range of 65536; \
         add the line `{user}:{start}:65536` to it{} (as root)",
        also.as_ref().map(|(path, start)| format!(", and `{user}:{start}:65536` to `{}`", path.display())).unwrap_or_default()
    )]
    Missing {
        /// The file that lacks the line.
        path: PathBuf,
        /// The user's name, or the number where there is no name.
        user: String,
        /// What was found instead.
        found: String,
        /// Where a free range begins.
        start: u32,
        /// The other file and where a free range begins in it, when it lacks the line too.
        also: Option<(PathBuf, u32)>,
    },
    /// Root in a container that has too few ids.
    #[error(
        "this process is root with too few ids: `{path}` maps neither 65536 ids from {ROOT_START} nor 0 to 65535"
    )]
    TooFewForRoot {
        /// The map that was looked at.
        path: PathBuf,
    },
}

impl IdRange {
    /// The range for the user who runs this process.
    ///
    /// # Errors
    /// When there is none; the message says what to add where.
    pub fn discover() -> Result<Self, IdRangeError> {
        Self::discover_in(&AccountFiles::default(), rustix::process::geteuid().as_raw())
    }

    /// The range that `files` give the user with the id `uid`.
    ///
    /// # Errors
    /// As [`IdRange::discover`].
    pub fn discover_in(files: &AccountFiles, uid: u32) -> Result<Self, IdRangeError> {
        let passwd = read(&files.passwd)?;
        let name = user_name(&passwd, uid);
        let subuid = read(&files.subuid)?;
        let subgid = read(&files.subgid)?;
        let uids = largest_range(&subuid, name, uid);
        let gids = largest_range(&subgid, name, uid);
        let privileged = uid == 0;
        if let (Ok(uid_start), Ok(gid_start)) = (&uids, &gids) {
            let range = Self { uid_start: *uid_start, gid_start: *gid_start, privileged };
            // Root's entry may name ids that do not exist in the container it is root of.
            if !privileged || maps(&read(&files.uid_map)?, range.uid_start) {
                return Ok(range);
            }
        }
        if privileged {
            let map = read(&files.uid_map)?;
            for start in [ROOT_START, 0] {
                // Range 0 only where ids are few: on a whole host it would make root inside root outside.
                if maps(&map, start) && (start != 0 || !maps(&map, IDS)) {
                    return Ok(Self { uid_start: start, gid_start: start, privileged });
                }
            }
            return Err(IdRangeError::TooFewForRoot { path: files.uid_map.clone() });
        }
        let user = name.map_or_else(|| uid.to_string(), str::to_owned);
        let (path, found, text, also) = match (uids, gids) {
            (Err(found), Err(_)) => {
                let also = (files.subgid.clone(), first_free(&subgid));
                (&files.subuid, found, &subuid, Some(also))
            }
            (Err(found), Ok(_)) => (&files.subuid, found, &subuid, None),
            (Ok(_), gids) => (&files.subgid, gids.err().unwrap_or(0), &subgid, None),
        };
        let found = match found {
            0 => "no range of ids".to_owned(),
            count => format!("no range of more than {count} ids"),
        };
        Err(IdRangeError::Missing { path: path.clone(), user, found, start: first_free(text), also })
    }
}

/// The file's text; nothing for a file that does not exist.
fn read(path: &Path) -> Result<String, IdRangeError> {
    let read = || {
        let mut text = Vec::new();
        match File::open(path) {
            Ok(file) => file.take(LARGEST_FILE).read_to_end(&mut text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        Ok(String::from_utf8_lossy(&text).into_owned())
    };
    read().map_err(|source| IdRangeError::Read { path: path.to_owned(), source })
}

fn user_name(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

/// The first range of at least 65,536 that is the user's, or the size of the largest smaller one.
///
/// The first, not the largest: it is the one that `newuidmap` users expect, and stays when a line is added.
fn largest_range(text: &str, name: Option<&str>, uid: u32) -> Result<u32, u64> {
    let mut largest = 0;
    for (owner, start, count) in ranges(text) {
        if Some(owner) != name && owner.parse() != Ok(uid) {
            continue;
        }
        let fits = start != 0 && u64::from(start) + count <= u64::from(u32::MAX);
        match count {
            count if count >= u64::from(IDS) && fits => return Ok(start),
            count if fits => largest = largest.max(count),
            _ => {}
        }
    }
    Err(largest)
}

fn ranges(text: &str) -> impl Iterator<Item = (&str, u32, u64)> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        Some((fields.next()?, fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}

/// Where a line to add would not overlap another user's range.
fn first_free(text: &str) -> u32 {
    let end = ranges(text).map(|(_, start, count)| u64::from(start) + count).max().unwrap_or(0);
    // On multiples of 65,536 from 100,000 on, as `adduser` does.
    let steps = end.saturating_sub(100_000).div_ceil(u64::from(IDS));
    u32::try_from(100_000 + steps * u64::from(IDS)).unwrap_or(100_000)
}

/// Whether all 65,536 ids from `start` exist according to a kernel's id map.
fn maps(map: &str, start: u32) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        let (Some(Ok(inside)), Some(Ok(_)), Some(Ok(count))) =
            (numbers.next(), numbers.next(), numbers.next())
        else {
            return false;
        };
        inside <= u64::from(start) && u64::from(start) + u64::from(IDS) <= inside + count
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "         0          0 4294967295\n";

    fn discover(uid: u32, subuid: &str, subgid: &str, map: &str) -> Result<IdRange, String> {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let files = AccountFiles {
            passwd: file("passwd", "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n"),
            subuid: file("subuid", subuid),
            subgid: file("subgid", subgid),
            uid_map: file("uid_map", map),
        };
        let place = directory.path().display().to_string();
        IdRange::discover_in(&files, uid).map_err(|error| error.to_string().replace(&place, "/etc"))
    }

    fn range(uid_start: u32, gid_start: u32, privileged: bool) -> Result<IdRange, String> {
        Ok(IdRange { uid_start, gid_start, privileged })
    }

    #[test]
    fn ranges_are_found_by_name_and_by_number() {
        let by_name = "bob:100000:65536\nalice:165536:65536\n";
        assert_eq!(discover(1000, by_name, "1000:300000:70000\n", WHOLE), range(165_536, 300_000, false));
        let small_first = "alice:1:1\nalice:231072:65536\n";
        assert_eq!(discover(1000, small_first, by_name, WHOLE), range(231_072, 165_536, false));
    }

    #[test]
    fn what_is_missing_is_named_with_the_line_to_add() {
        let bob = "bob:100000:65536\n";
        insta::assert_snapshot!(discover(1000, "", "", WHOLE).unwrap_err(), @"`/etc/subuid` gives `alice` no range of ids, but building needs one range of 65536; add the line `alice:100000:65536` to it, and `alice:100000:65536` to `/etc/subgid` (as root)");
        insta::assert_snapshot!(discover(1000, "alice:165536:65536\n", bob, WHOLE).unwrap_err(), @"`/etc/subgid` gives `alice` no range of ids, but building needs one range of 65536; add the line `alice:165536:65536` to it (as root)");
        insta::assert_snapshot!(discover(1000, "alice:100000:1000\n", bob, WHOLE).unwrap_err(), @"`/etc/subuid` gives `alice` no range of more than 1000 ids, but building needs one range of 65536; add the line `alice:165536:65536` to it, and `alice:165536:65536` to `/etc/subgid` (as root)");
        insta::assert_snapshot!(discover(1234, "", bob, WHOLE).unwrap_err(), @"`/etc/subuid` gives `1234` no range of ids, but building needs one range of 65536; add the line `1234:100000:65536` to it, and `1234:165536:65536` to `/etc/subgid` (as root)");
    }

    #[test]
    fn ranges_that_would_be_root_or_do_not_exist_are_not_taken() {
        assert!(discover(1000, "alice:0:65536\n", "alice:0:65536\n", WHOLE).is_err());
        assert!(discover(1000, "alice:4294967000:65536\n", "alice:100000:65536\n", WHOLE).is_err());
        assert!(discover(1000, "alice:99999999999:65536\n", "alice:100000:65536\n", WHOLE).is_err());
    }

    #[test]
    fn root_needs_no_entry() {
        assert_eq!(discover(0, "", "", WHOLE), range(ROOT_START, ROOT_START, true));
        let entry = "root:500000:65536\n";
        assert_eq!(discover(0, entry, entry, WHOLE), range(500_000, 500_000, true));
    }

    #[test]
    fn root_of_a_container_uses_what_the_container_has() {
        let container = "0 100000 65536\n";
        assert_eq!(discover(0, "", "", container), range(0, 0, true));
        assert_eq!(discover(0, "root:500000:65536\n", "root:500000:65536\n", container), range(0, 0, true));
        insta::assert_snapshot!(discover(0, "", "", "0 1000 1\n").unwrap_err(), @"this process is root with too few ids: `/etc/uid_map` maps neither 65536 ids from 1879048192 nor 0 to 65535");
    }
}
