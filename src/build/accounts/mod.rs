//! Users and groups: the account files of an image as one value, and the pinned ids of its recipes.
//!
//! In: the texts of `/etc/passwd`, `group`, `shadow` and `gshadow`. Out: the same texts with the pinned users and
//! groups, written as Debian's own tools would. [`Accounts::pin`] comes before any maintainer script that could make
//! users, [`Accounts::settle`] after the last one. `/etc/subuid` and `/etc/subgid` are never touched: a system user
//! gets no subordinate ids.

mod problem;
mod table;

use std::collections::BTreeMap;
use std::fmt;

pub use problem::{AccountsError, PinProblem};
use table::{Table, join_members};

use crate::model::recipe::{Group, User};
use crate::tree::{Contents, Tree, TreePath};

/// Longest account file that is read, in bytes.
const MAX_SIZE: u64 = 1 << 20;
/// What stands for the password of a user or group that nobody can log in with; as systemd-sysusers writes it.
const LOCKED: &str = "!*";
/// Says in passwd and group that the password is in the shadow file.
const SHADOWED: &str = "x";

/// The four account files of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accounts {
    passwd: Table,
    group: Table,
    shadow: Option<Table>,
    gshadow: Option<Table>,
}

/// The files that [`Accounts`] reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AccountFile {
    /// `/etc/passwd`.
    Passwd,
    /// `/etc/group`.
    Group,
    /// `/etc/shadow`.
    Shadow,
    /// `/etc/gshadow`.
    Gshadow,
}

impl AccountFile {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Passwd, Self::Group, Self::Shadow, Self::Gshadow];

    /// Absolute path in the image.
    pub fn path(self) -> &'static str {
        match self {
            Self::Passwd => "/etc/passwd",
            Self::Group => "/etc/group",
            Self::Shadow => "/etc/shadow",
            Self::Gshadow => "/etc/gshadow",
        }
    }

    /// Number of fields in a line.
    fn fields(self) -> usize {
        match self {
            Self::Passwd => 7,
            Self::Group | Self::Gshadow => 4,
            Self::Shadow => 9,
        }
    }
}

impl fmt::Display for AccountFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path())
    }
}

impl Accounts {
    /// Reads the account files, the bytes of each by file. passwd and group must be there; shadow and gshadow are
    /// made by a maintainer script of `passwd`, so before that they are not.
    ///
    /// # Errors
    /// See [`AccountsError`].
    pub fn parse(files: &BTreeMap<AccountFile, Vec<u8>>) -> Result<Self, AccountsError> {
        let table = |file| files.get(&file).map(|bytes: &Vec<u8>| Table::parse(file, bytes)).transpose();
        let needed = |file| table(file)?.ok_or(AccountsError::Missing(file));
        Ok(Self {
            passwd: needed(AccountFile::Passwd)?,
            group: needed(AccountFile::Group)?,
            shadow: table(AccountFile::Shadow)?,
            gshadow: table(AccountFile::Gshadow)?,
        })
    }

    /// Reads the account files of a tree.
    ///
    /// # Errors
    /// See [`AccountsError`].
    pub fn of_tree(tree: &Tree, contents: &dyn Contents) -> Result<Self, AccountsError> {
        let mut files = BTreeMap::new();
        for file in AccountFile::ALL {
            let unreadable = |source| AccountsError::Unreadable { file, source };
            let path =
                TreePath::new(file.path()).map_err(|error| unreadable(std::io::Error::other(error)))?;
            let Some(content) = tree.get(&path).and_then(|node| node.content()) else { continue };
            if content.size > MAX_SIZE {
                return Err(unreadable(std::io::Error::other(format!("it has {} bytes", content.size))));
            }
            files.insert(file, contents.read(content).map_err(unreadable)?);
        }
        Self::parse(&files)
    }

    /// The text of each file that exists.
    pub fn texts(&self) -> BTreeMap<AccountFile, String> {
        let tables = [
            (AccountFile::Passwd, Some(&self.passwd)),
            (AccountFile::Group, Some(&self.group)),
            (AccountFile::Shadow, self.shadow.as_ref()),
            (AccountFile::Gshadow, self.gshadow.as_ref()),
        ];
        tables.into_iter().filter_map(|(file, table)| Some((file, table?.text()))).collect()
    }

    /// The id of a user.
    pub fn user_id(&self, name: &str) -> Option<u32> {
        self.passwd.id(name)
    }

    /// The id of a group.
    pub fn group_id(&self, name: &str) -> Option<u32> {
        self.group.id(name)
    }

    /// Adds the pinned groups and users, locked for login. A user whose primary group has its own name and is
    /// nowhere declared gets that group with its own id. Other groups that do not exist yet (packages may make them)
    /// are left to [`settle`](Self::settle). What is there already as declared stays as it is, so pinning twice
    /// changes nothing.
    ///
    /// `day` is the day of the last password change, counted from 1970-01-01.
    ///
    /// # Errors
    /// All pins that cannot be had, each with who is in the way; nothing is changed then.
    pub fn pin(&mut self, users: &[User], groups: &[Group], day: i64) -> Result<(), AccountsError> {
        let mut next = self.clone();
        let mut problems = Vec::new();
        for Group { name, gid } in groups {
            next.pin_group(name, *gid, &mut problems);
        }
        for user in users {
            if user.group == user.name && next.group_id(&user.group).is_none() {
                next.pin_group(&user.group, user.uid, &mut problems);
            }
            next.pin_user(user, day, &mut problems);
        }
        if !problems.is_empty() {
            return Err(AccountsError::Pins(problems));
        }
        *self = next;
        Ok(())
    }

    fn pin_group(&mut self, name: &str, gid: u32, problems: &mut Vec<PinProblem>) {
        if bad(name) || name.contains(',') {
            return problems.push(PinProblem::BadField { name: name.into(), value: name.into() });
        }
        let holders = self.group.others_with_id(name, gid);
        let holders: Vec<_> = holders
            .map(|holder| PinProblem::GroupIdTaken { name: name.into(), gid, holder: holder.into() })
            .collect();
        if !holders.is_empty() {
            return problems.extend(holders);
        }
        match self.group_id(name) {
            Some(found) if found == gid => {}
            Some(found) => {
                problems.push(PinProblem::GroupHasOtherId { name: name.into(), pinned: gid, found });
            }
            None => {
                // Without a gshadow file the lock stands in group itself; grpconv moves it over later.
                let password = if self.gshadow.is_some() { SHADOWED } else { LOCKED };
                self.group.push([name, password, &gid.to_string(), ""]);
                if let Some(gshadow) = &mut self.gshadow {
                    gshadow.push([name, LOCKED, "", ""]);
                }
            }
        }
    }

    fn pin_user(&mut self, user: &User, day: i64, problems: &mut Vec<PinProblem>) {
        let name = &user.name;
        let values = [name, &user.comment, &user.home, &user.shell];
        if let Some(value) = values.into_iter().find(|value| bad(value)) {
            return problems.push(PinProblem::BadField { name: name.clone(), value: value.clone() });
        }
        let before = problems.len();
        problems.extend(self.passwd.others_with_id(name, user.uid).map(|holder| PinProblem::UserIdTaken {
            name: name.clone(),
            uid: user.uid,
            holder: holder.into(),
        }));
        if let Some(found) = self.user_id(name).filter(|found| *found != user.uid) {
            problems.push(PinProblem::UserHasOtherId { name: name.clone(), pinned: user.uid, found });
        }
        let gid = self.group_id(&user.group);
        if gid.is_none() {
            problems.push(PinProblem::UnknownGroup { user: name.clone(), group: user.group.clone() });
        }
        let (Some(gid), true) = (gid, problems.len() == before) else { return };

        let (uid, gid) = (user.uid.to_string(), gid.to_string());
        let tail = [uid.as_str(), gid.as_str(), &user.comment, &user.home, &user.shell];
        match self.passwd.entry_mut(name) {
            Some(entry) => entry.splice(2.., tail.map(str::to_owned)).for_each(drop),
            None => {
                let password = if self.shadow.is_some() { SHADOWED } else { LOCKED };
                let [uid, gid, comment, home, shell] = tail;
                self.passwd.push([name, password, uid, gid, comment, home, shell]);
                if let Some(shadow) = &mut self.shadow {
                    shadow.push([name, LOCKED, &day.to_string(), "", "", "", "", "", ""]);
                }
            }
        }
        self.join_groups(user);
    }

    /// Adds a user to those of its groups that exist.
    fn join_groups(&mut self, user: &User) {
        for group in &user.groups {
            let tables = [Some(&mut self.group), self.gshadow.as_mut()];
            for entry in tables.into_iter().flatten().filter_map(|table| table.entry_mut(group)) {
                join_members(entry, &user.name);
            }
        }
    }

    /// After the last maintainer script: joins users to groups that packages have made, then checks that every pin
    /// still holds and that nobody else has a pinned id.
    ///
    /// # Errors
    /// All pins that do not hold, each with what was found instead.
    pub fn settle(&mut self, users: &[User], groups: &[Group]) -> Result<(), AccountsError> {
        let mut problems = Vec::new();
        let own_groups = users.iter().filter(|user| user.group == user.name);
        let own_groups = own_groups.filter(|user| !groups.iter().any(|group| group.name == user.name));
        let own_groups = own_groups.map(|user| Group { name: user.name.clone(), gid: user.uid });
        // An undeclared group of the user's name may have been in the image before, with an id of its own.
        let own_groups =
            own_groups.filter(|group| self.group_id(&group.name).is_none_or(|gid| gid == group.gid));
        for Group { name, gid } in groups.iter().cloned().chain(own_groups.collect::<Vec<_>>()) {
            match self.group_id(&name) {
                Some(found) if found == gid => {}
                Some(found) => {
                    problems.push(PinProblem::GroupHasOtherId { name: name.clone(), pinned: gid, found });
                }
                None => problems.push(PinProblem::Gone { what: "group", name: name.clone(), id: gid }),
            }
            problems.extend(self.group.others_with_id(&name, gid).map(|holder| PinProblem::GroupIdTaken {
                name: name.clone(),
                gid,
                holder: holder.into(),
            }));
        }
        for user in users {
            self.join_groups(user);
            self.check_user(user, &mut problems);
        }
        if problems.is_empty() { Ok(()) } else { Err(AccountsError::Pins(problems)) }
    }

    fn check_user(&self, user: &User, problems: &mut Vec<PinProblem>) {
        let name = user.name.clone();
        problems.extend(self.passwd.others_with_id(&user.name, user.uid).map(|holder| {
            PinProblem::UserIdTaken { name: user.name.clone(), uid: user.uid, holder: holder.into() }
        }));
        let Some(entry) = self.passwd.entry(&name) else {
            return problems.push(PinProblem::Gone { what: "user", name, id: user.uid });
        };
        if let Some(found) = self.user_id(&name).filter(|found| *found != user.uid) {
            problems.push(PinProblem::UserHasOtherId { name: name.clone(), pinned: user.uid, found });
        }
        match self.group_id(&user.group) {
            None => problems.push(PinProblem::UnknownGroup { user: name.clone(), group: user.group.clone() }),
            Some(gid) if entry[3] != gid.to_string() => problems.push(PinProblem::Changed {
                name: name.clone(),
                field: "group",
                declared: user.group.clone(),
                found: entry[3].clone(),
            }),
            Some(_) => {}
        }
        for (field, declared, found) in [("home", &user.home, &entry[5]), ("shell", &user.shell, &entry[6])] {
            if declared != found {
                let (name, declared, found) = (name.clone(), declared.clone(), found.clone());
                problems.push(PinProblem::Changed { name, field, declared, found });
            }
        }
        for group in user.groups.iter().filter(|group| self.group_id(group).is_none()) {
            problems.push(PinProblem::UnknownGroup { user: name.clone(), group: group.clone() });
        }
    }
}

/// Whether a value would break its field or line.
fn bad(value: &str) -> bool {
    value.contains([':', '\n', '\r', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/bash\nmessagebus:x:997:997::/nonexistent:/usr/sbin/nologin\n";
    const GROUP: &str = "root:x:0:\nvideo:x:44:\nmessagebus:x:997:\n";

    fn accounts(shadowed: bool) -> Accounts {
        let mut files = BTreeMap::from([
            (AccountFile::Passwd, PASSWD.as_bytes().to_vec()),
            (AccountFile::Group, GROUP.as_bytes().to_vec()),
        ]);
        if shadowed {
            files.insert(
                AccountFile::Shadow,
                b"root:*:20000:0:99999:7:::\nmessagebus:!:20000::::::\n".to_vec(),
            );
            files.insert(AccountFile::Gshadow, b"root:*::\nvideo:*::\nmessagebus:!::\n".to_vec());
        }
        Accounts::parse(&files).unwrap()
    }

    fn user(name: &str, uid: u32, group: &str, groups: &[&str]) -> User {
        User {
            name: name.into(),
            uid,
            group: group.into(),
            groups: groups.iter().map(ToString::to_string).collect(),
            home: format!("/var/lib/{name}"),
            shell: "/usr/sbin/nologin".into(),
            comment: String::new(),
        }
    }

    fn group(name: &str, gid: u32) -> Group {
        Group { name: name.into(), gid }
    }

    fn all(accounts: &Accounts) -> String {
        accounts.texts().into_iter().map(|(file, text)| format!("# {file}\n{text}")).collect()
    }

    #[test]
    fn pinned_accounts_look_as_debians_tools_write_them() {
        let mut accounts = accounts(true);
        let users = [user("qbittorrent", 959, "qbittorrent", &["media", "video", "render"])];
        let groups = [group("media", 950)];
        accounts.pin(&users, &groups, 20454).unwrap();
        insta::assert_snapshot!(all(&accounts), @"
        # /etc/passwd
        root:x:0:0:root:/root:/bin/bash
        messagebus:x:997:997::/nonexistent:/usr/sbin/nologin
        qbittorrent:x:959:959::/var/lib/qbittorrent:/usr/sbin/nologin
        # /etc/group
        root:x:0:
        video:x:44:qbittorrent
        messagebus:x:997:
        media:x:950:qbittorrent
        qbittorrent:x:959:
        # /etc/shadow
        root:*:20000:0:99999:7:::
        messagebus:!:20000::::::
        qbittorrent:!*:20454::::::
        # /etc/gshadow
        root:*::
        video:*::qbittorrent
        messagebus:!::
        media:!*::qbittorrent
        qbittorrent:!*::
        ");
        let before = accounts.clone();
        accounts.pin(&users, &groups, 20999).unwrap();
        assert_eq!(accounts, before, "pinning again must change nothing");
        assert_eq!((accounts.user_id("qbittorrent"), accounts.group_id("media")), (Some(959), Some(950)));
    }

    #[test]
    fn without_shadow_files_the_lock_stands_where_pwconv_takes_it_from() {
        let mut accounts = accounts(false);
        accounts.pin(&[user("app", 960, "app", &[])], &[], 20454).unwrap();
        insta::assert_snapshot!(all(&accounts), @"
        # /etc/passwd
        root:x:0:0:root:/root:/bin/bash
        messagebus:x:997:997::/nonexistent:/usr/sbin/nologin
        app:!*:960:960::/var/lib/app:/usr/sbin/nologin
        # /etc/group
        root:x:0:
        video:x:44:
        messagebus:x:997:
        app:!*:960:
        ");
    }

    #[test]
    fn every_collision_is_named_and_nothing_is_changed() {
        let mut accounts = accounts(true);
        let before = accounts.clone();
        let users = [
            user("app", 997, "nogroup", &[]),
            user("messagebus", 998, "messagebus", &[]),
            User { home: "/a:b".into(), ..user("colon", 961, "video", &[]) },
        ];
        let error = accounts.pin(&users, &[group("media", 44), group("video", 45)], 0).unwrap_err();
        insta::assert_snapshot!(error, @"
        group id 44 is pinned for `media`, but the image gives it to `video`: pin another id
        group `video` is pinned to id 45, but the image has it with id 44: pin that one
        user id 997 is pinned for `app`, but the image gives it to `messagebus`: pin another id
        user `app` has the group `nogroup`, which does not exist: declare it with a `gid`
        user `messagebus` is pinned to id 998, but the image has it with id 997: pin that one
        `colon`: `/a:b` must not contain `:`, `,` in a name, or a line break
        ");
        assert_eq!(accounts, before);
    }

    #[test]
    fn groups_that_packages_make_are_joined_afterwards() {
        let mut accounts = accounts(true);
        let users = [user("app", 960, "app", &["render"])];
        accounts.pin(&users, &[], 0).unwrap();
        insta::assert_snapshot!(accounts.clone().settle(&users, &[]).unwrap_err(), @"user `app` has the group `render`, which does not exist: declare it with a `gid`");
        accounts.group.push(["render", "x", "944", ""]);
        accounts.gshadow.as_mut().unwrap().push(["render", "!*", "", "other"]);
        accounts.settle(&users, &[]).unwrap();
        let texts = accounts.texts();
        assert!(texts[&AccountFile::Group].ends_with("\nrender:x:944:app\n"));
        assert!(texts[&AccountFile::Gshadow].ends_with("\nrender:!*::other,app\n"));
    }

    #[test]
    fn what_scripts_did_to_pins_is_told() {
        let users = [user("app", 960, "app", &[]), user("gone", 961, "video", &[])];
        let groups = [group("media", 950)];
        let mut accounts = accounts(true);
        accounts.pin(&users, &groups, 0).unwrap();
        accounts.settle(&users, &groups).unwrap();

        accounts.passwd.entry_mut("app").unwrap()[6] = "/bin/sh".into();
        accounts.passwd.0.retain(|fields| fields[0] != "gone");
        accounts.passwd.push(["twin", "x", "960", "0", "", "/", "/bin/sh"]);
        accounts.group.push(["thief", "x", "950", ""]);
        accounts.group.entry_mut("app").unwrap()[2] = "12".into();
        insta::assert_snapshot!(accounts.settle(&users, &groups).unwrap_err(), @"
        group id 950 is pinned for `media`, but the image gives it to `thief`: pin another id
        user id 960 is pinned for `app`, but the image gives it to `twin`: pin another id
        user `app`: `group` is `app` in the recipe, but a package's script made it `960`
        user `app`: `shell` is `/usr/sbin/nologin` in the recipe, but a package's script made it `/bin/sh`
        user `gone` was pinned to id 961, but a package's script removed it
        ");
    }

    #[test]
    fn broken_files_are_refused_with_their_line() {
        let parse = |passwd: &[u8]| {
            let group = (AccountFile::Group, GROUP.as_bytes().to_vec());
            Accounts::parse(&BTreeMap::from([(AccountFile::Passwd, passwd.to_vec()), group]))
        };
        insta::assert_snapshot!(parse(b"root:x:0\n").unwrap_err(), @"`/etc/passwd` of the image, line 1: expected 7 fields, found 3");
        insta::assert_snapshot!(parse(b"root:x:a:0::/:/\n").unwrap_err(), @"`/etc/passwd` of the image, line 1: `a` is not an id");
        insta::assert_snapshot!(parse(b"root:x:0:0::/:/\n\xff").unwrap_err(), @"`/etc/passwd` of the image, line 2: it is not UTF-8");
        insta::assert_snapshot!(Accounts::parse(&BTreeMap::new()).unwrap_err(), @"the image has no `/etc/passwd`: its first recipe has to bring `base-passwd`");
        let compatible = parse(b"root:x:0:0::/:/\n+::::::\n\n+\n").unwrap();
        assert_eq!(compatible.texts()[&AccountFile::Passwd], "root:x:0:0::/:/\n+::::::\n\n+\n");
    }
}
