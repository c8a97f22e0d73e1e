//! Why accounts cannot be read or pinned.

use super::AccountFile;

/// Why accounts cannot be read, or all the reasons why pins do not hold.
#[derive(Debug, thiserror::Error)]
pub enum AccountsError {
    /// A file that every Debian system has is not there.
    #[error("the image has no `{0}`: its first recipe has to bring `base-passwd`")]
    Missing(AccountFile),
    /// A file cannot be read.
    #[error("cannot read `{file}` of the image: {source}")]
    Unreadable {
        /// Which one.
        file: AccountFile,
        /// Why.
        source: std::io::Error,
    },
    /// A line is not what the format asks for.
    #[error("`{file}` of the image, line {line}: {reason}")]
    Malformed {
        /// Which file.
        file: AccountFile,
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// Pins that cannot be given, or no longer hold.
    #[error("{}", PinProblem::list(.0))]
    Pins(Vec<PinProblem>),
}

/// One pinned user or group that cannot be had as declared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PinProblem {
    /// The user id belongs to somebody else.
    #[error("user id {uid} is pinned for `{name}`, but the image gives it to `{holder}`: pin another id")]
    UserIdTaken {
        /// The pinned user.
        name: String,
        /// The id.
        uid: u32,
        /// Who has it.
        holder: String,
    },
    /// The group id belongs to another group.
    #[error("group id {gid} is pinned for `{name}`, but the image gives it to `{holder}`: pin another id")]
    GroupIdTaken {
        /// The pinned group.
        name: String,
        /// The id.
        gid: u32,
        /// Who has it.
        holder: String,
    },
    /// The user exists and has another id.
    #[error("user `{name}` is pinned to id {pinned}, but the image has it with id {found}: pin that one")]
    UserHasOtherId {
        /// The user.
        name: String,
        /// The declared id.
        pinned: u32,
        /// The id in the image.
        found: u32,
    },
    /// The group exists and has another id.
    #[error("group `{name}` is pinned to id {pinned}, but the image has it with id {found}: pin that one")]
    GroupHasOtherId {
        /// The group.
        name: String,
        /// The declared id.
        pinned: u32,
        /// The id in the image.
        found: u32,
    },
    /// The user's primary group is not declared and not in the image.
    #[error("user `{user}` has the group `{group}`, which does not exist: declare it with a `gid`")]
    UnknownGroup {
        /// The user.
        user: String,
        /// The group.
        group: String,
    },
    /// After all scripts the user or group is no longer there.
    #[error("{what} `{name}` was pinned to id {id}, but a package's script removed it")]
    Gone {
        /// `user` or `group`.
        what: &'static str,
        /// Its name.
        name: String,
        /// The pinned id.
        id: u32,
    },
    /// After all scripts a field of the user is not what the recipe says.
    #[error(
        "user `{name}`: `{field}` is `{declared}` in the recipe, but a package's script made it `{found}`"
    )]
    Changed {
        /// The user.
        name: String,
        /// Name of the field in a recipe.
        field: &'static str,
        /// What the recipe says.
        declared: String,
        /// What the image has.
        found: String,
    },
    /// A declared value has a character that would end its field or line.
    #[error("`{name}`: `{value}` must not contain `:`, `,` in a name, or a line break")]
    BadField {
        /// The user or group.
        name: String,
        /// The value.
        value: String,
    },
}

impl PinProblem {
    fn list(problems: &[Self]) -> String {
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }
}
