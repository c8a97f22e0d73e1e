//! Rules for users and groups of a recipe, and for who owns what.

use super::Scope;
use super::recipe::RecipeDraft;
use crate::model::recipe::{Group, User};
use crate::model::source::Place;
use crate::model::syntax::recipe::{RawGroup, RawUser};
use crate::model::syntax::{At, Optional};
use crate::model::{accounts, words};

/// `user` or `group`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A user.
    User,
    /// A group.
    Group,
}

impl Kind {
    /// The word for messages.
    pub fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Group => "group",
        }
    }
}

/// A declared user or group; its id is absent when it is wrong.
#[derive(Debug)]
pub struct Account {
    /// Which of the two.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Where the name stands.
    pub place: Place,
    /// Its id and where it stands.
    pub id: Option<(u32, Place)>,
    /// Whether this is a user's own group, which nobody wrote.
    pub implicit: bool,
}

/// A user or group that must exist.
#[derive(Debug)]
pub struct Mention {
    /// Which of the two.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub place: Place,
}

/// Checks one `[[group]]`.
pub fn group(scope: &mut Scope<'_>, raw: &RawGroup, draft: &mut RecipeDraft) {
    let id = raw.gid.0.as_ref().and_then(|at| id(scope, at, Kind::Group));
    let Some(name) = raw.name.0.as_ref() else { return };
    let good = account_name(scope, name, Kind::Group);
    let place = id.and_then(|id| Some((id, scope.place(raw.gid.0.as_ref()?))));
    draft.accounts.push(Account {
        kind: Kind::Group,
        name: name.value.clone(),
        place: scope.place(name),
        id: place,
        implicit: false,
    });
    if let (Some(gid), true) = (id, good) {
        draft.recipe.groups.push(Group { name: name.value.clone(), gid });
    }
}

fn account_name(scope: &mut Scope<'_>, at: &At<String>, kind: Kind) -> bool {
    if scope.take(&at.span, words::account(&at.value)).is_none() {
        return false;
    }
    let known = match kind {
        Kind::User => accounts::user(&at.value),
        Kind::Group => accounts::group(&at.value),
    };
    if let Some(id) = known {
        scope
            .error(
                &at.span,
                format!("every Debian system has the {} `{}`, with id {id}", kind.word(), at.value),
            )
            .help("leave this out and use it by its name, or choose another name");
    }
    known.is_none()
}

fn id(scope: &mut Scope<'_>, at: &At<i64>, kind: Kind) -> Option<u32> {
    let what = match kind {
        Kind::User => "uid",
        Kind::Group => "gid",
    };
    let reason = match at.value {
        0 => "0 is root",
        1..=99 => "Debian gives 0 to 99 to its base system",
        100 if kind == Kind::Group => "100 is Debian's group `users`",
        60000..=64999 => "Debian and systemd keep 60000 to 64999 for themselves",
        65000..=65533 => "Debian and systemd keep 65000 to 65533 for themselves",
        65534 => "65534 is `nobody` and `nogroup`",
        100..=59999 => return u32::try_from(at.value).ok(),
        _ => "an unprivileged container has the ids 0 to 65535",
    };
    scope
        .error(&at.span, format!("the {what} {} cannot be pinned: {reason}", at.value))
        .help("write a number from 101 to 59999; 900 to 979 collides least with what packages take");
    None
}

/// Checks one `[[user]]`.
pub fn user(scope: &mut Scope<'_>, raw: &RawUser, draft: &mut RecipeDraft) {
    let id = raw.uid.0.as_ref().and_then(|at| id(scope, at, Kind::User));
    let mut good = true;
    let path = |scope: &mut Scope<'_>, field: &Optional<String>, default: &str| {
        let Some(at) = &field.0 else { return Some(default.to_owned()) };
        scope.take(&at.span, words::absolute(&at.value))?;
        if at.value.contains(':') {
            scope
                .error(&at.span, "the path has a `:`")
                .help("/etc/passwd cannot hold it; choose another path");
        }
        Some(at.value.clone())
    };
    let home = path(scope, &raw.home, "/nonexistent");
    let shell = path(scope, &raw.shell, "/usr/sbin/nologin");
    let comment = raw.comment.0.as_ref().map(|at| at.value.clone()).unwrap_or_default();
    if let Some(at) = &raw.comment.0
        && at.value.chars().any(|c| c.is_control() || c == ':')
    {
        scope
            .error(&at.span, "the comment has a `:` or a line break")
            .help("/etc/passwd cannot hold it; leave it out");
        good = false;
    }
    scope.unique(&raw.groups.0);
    let Some(name) = raw.name.0.as_ref() else { return };
    good &= account_name(scope, name, Kind::User);
    let place = id.and_then(|id| Some((id, scope.place(raw.uid.0.as_ref()?))));
    draft.accounts.push(Account {
        kind: Kind::User,
        name: name.value.clone(),
        place: scope.place(name),
        id: place.clone(),
        implicit: false,
    });
    let primary = raw.group.0.as_ref().unwrap_or(name);
    let declared = |draft: &RecipeDraft, name: &str| {
        draft.accounts.iter().any(|known| known.kind == Kind::Group && known.name == name)
    };
    if primary.value == name.value && !declared(draft, &name.value) && accounts::group(&name.value).is_none()
    {
        // The user's own group, as `adduser --system --group` makes it.
        draft.accounts.push(Account {
            kind: Kind::Group,
            name: name.value.clone(),
            place: scope.place(name),
            id: place,
            implicit: true,
        });
        draft.recipe.groups.extend(id.map(|gid| Group { name: name.value.clone(), gid }));
    }
    for at in std::iter::once(primary).chain(&raw.groups.0) {
        draft.mentions.push(Mention { kind: Kind::Group, name: at.value.clone(), place: scope.place(at) });
        if at.value == primary.value && at.span != primary.span {
            let first = scope.place(primary);
            scope
                .error(&at.span, format!("`{}` is the user's primary group already", at.value))
                .related(&first, "the primary group")
                .help("`groups` lists the others only");
        }
    }
    if let (Some(uid), Some(home), Some(shell), true) = (id, home, shell, good) {
        draft.recipe.users.push(User {
            name: name.value.clone(),
            uid,
            group: primary.value.clone(),
            groups: raw.groups.0.iter().map(|at| at.value.clone()).collect(),
            home,
            shell,
            comment,
        });
    }
}

/// Owner and group with their defaults; both must exist in the end.
pub fn owners(
    scope: &mut Scope<'_>,
    draft: &mut RecipeDraft,
    owner: &Optional<String>,
    group: &Optional<String>,
) -> (String, String) {
    let owner_name = owner.0.as_ref().map_or_else(|| "root".to_owned(), |at| at.value.clone());
    if let Some(at) = &owner.0 {
        draft.mentions.push(Mention { kind: Kind::User, name: at.value.clone(), place: scope.place(at) });
    }
    if let Some(at) = &group.0 {
        draft.mentions.push(Mention { kind: Kind::Group, name: at.value.clone(), place: scope.place(at) });
        return (owner_name, at.value.clone());
    }
    let declared =
        draft.recipe.users.iter().find(|user| user.name == owner_name).map(|user| user.group.clone());
    let primary = declared
        .or_else(|| accounts::primary_group(&owner_name).map(str::to_owned))
        .unwrap_or_else(|| owner_name.clone());
    (owner_name, primary)
}
