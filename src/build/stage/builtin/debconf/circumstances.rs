//! Whether a call is one of those that are understood, and what of its circumstances matters.

use rustix::fs::{Mode, OFlags};
use sha2::{Digest as _, Sha256};

use crate::build::stage::builtin::Call;
use crate::build::stage::root::{RESOLVE, Root};

/// The parts of debconf that are done here.
const PARTS: &[&str] = &[
    "usr/share/debconf/confmodule",
    "usr/share/debconf/frontend",
    "usr/share/perl5/Debconf/AutoSelect.pm",
    "usr/share/perl5/Debconf/Base.pm",
    "usr/share/perl5/Debconf/ConfModule.pm",
    "usr/share/perl5/Debconf/Config.pm",
    "usr/share/perl5/Debconf/Db.pm",
    "usr/share/perl5/Debconf/DbDriver.pm",
    "usr/share/perl5/Debconf/DbDriver/Cache.pm",
    "usr/share/perl5/Debconf/DbDriver/File.pm",
    "usr/share/perl5/Debconf/DbDriver/Stack.pm",
    "usr/share/perl5/Debconf/Element.pm",
    "usr/share/perl5/Debconf/Element/Noninteractive.pm",
    "usr/share/perl5/Debconf/Element/Noninteractive/Boolean.pm",
    "usr/share/perl5/Debconf/Element/Noninteractive/Error.pm",
    "usr/share/perl5/Debconf/Element/Noninteractive/Multiselect.pm",
    "usr/share/perl5/Debconf/Element/Noninteractive/Note.pm",
    "usr/share/perl5/Debconf/Element/Noninteractive/Password.pm",
    "usr/share/perl5/Debconf/Element/Noninteractive/Progress.pm",
    "usr/share/perl5/Debconf/Element/Noninteractive/Select.pm",
    "usr/share/perl5/Debconf/Element/Noninteractive/String.pm",
    "usr/share/perl5/Debconf/Element/Noninteractive/Text.pm",
    "usr/share/perl5/Debconf/Encoding.pm",
    "usr/share/perl5/Debconf/Format/822.pm",
    "usr/share/perl5/Debconf/FrontEnd.pm",
    "usr/share/perl5/Debconf/FrontEnd/Noninteractive.pm",
    "usr/share/perl5/Debconf/Gettext.pm",
    "usr/share/perl5/Debconf/Iterator.pm",
    "usr/share/perl5/Debconf/Log.pm",
    "usr/share/perl5/Debconf/Path.pm",
    "usr/share/perl5/Debconf/Priority.pm",
    "usr/share/perl5/Debconf/Question.pm",
    "usr/share/perl5/Debconf/Template.pm",
];

/// SHA-256 over path, length and content of each part, as debconf 1.5.91 ships them.
const PARTS_SHA256: &str = "eda13d13525b7d3297dfc4a0a728aa7788b43c683676a1722eedc8790b07f88c";

/// What /etc/debconf.conf says as shipped: its stanzas without comments.
const CONFIGURATION: &[&[&str]] = &[
    &["Config: configdb", "Templates: templatedb"],
    &[
        "Name: config",
        "Driver: File",
        "Mode: 644",
        "Reject-Type: password",
        "Filename: /var/cache/debconf/config.dat",
    ],
    &[
        "Name: passwords",
        "Driver: File",
        "Mode: 600",
        "Backup: false",
        "Required: false",
        "Accept-Type: password",
        "Filename: /var/cache/debconf/passwords.dat",
    ],
    &["Name: configdb", "Driver: Stack", "Stack: config, passwords"],
    &["Name: templatedb", "Driver: File", "Mode: 644", "Filename: /var/cache/debconf/templates.dat"],
];

/// Variables of debconf's that only scripts look at, or that are done here.
const HARMLESS: &[&str] = &[
    "DEBCONF_NONINTERACTIVE_SEEN",
    "DEBCONF_OLD_FD_BASE",
    "DEBCONF_PACKAGE",
    "DEBCONF_RECONFIGURE",
    "DEBCONF_REDIR",
    "PERL_DL_NONLAZY",
];

/// What of the environment and of the image matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Circumstances<'a> {
    /// Whether questions that nobody is shown count as seen.
    pub mark_seen: bool,
    /// `DEBIAN_PRIORITY`, when it is set.
    pub priority: Option<&'a str>,
    /// Suffixes of fields of templates in the language of the locale.
    pub languages: &'static [&'static str],
    /// Whether Text::WrapI18N breaks lines.
    pub international: bool,
}

impl<'a> Circumstances<'a> {
    /// Nothing when something would have an effect that is not known here.
    pub fn of(call: &'a Call, root: &Root) -> Option<Self> {
        let strange = |name: &String| {
            let debconf = name.starts_with("DEBCONF_") || name.starts_with("PERL") || name == "LANGUAGE";
            debconf && !HARMLESS.contains(&name.as_str())
        };
        let variables =
            call.environment.iter().filter(|(name, value)| *name != "LANGUAGE" || !value.is_empty());
        if call.variable("DEBIAN_FRONTEND") != "noninteractive"
            || !call.variable("DPKG_ROOT").is_empty()
            || variables.map(|(name, _)| name).any(strange)
            || !is_configured_as_shipped(root)?
            || has_mail(call.variable("PATH"), root)?
            || is_installed("libtext-iconv-perl", root)
        {
            return None;
        }
        Some(Self {
            mark_seen: call.variable("DEBCONF_NONINTERACTIVE_SEEN") == "true",
            priority: call.environment.get("DEBIAN_PRIORITY").map(String::as_str),
            languages: languages(call)?,
            international: is_installed("libtext-wrapi18n-perl", root)
                && is_installed("libtext-charwidth-perl", root),
        })
    }
}

/// Whether debconf is the version that is done here, and nothing of it was changed.
pub(super) fn is_known_version(root: &Root) -> bool {
    parts_sha256(root).is_some_and(|found| found == PARTS_SHA256)
}

fn parts_sha256(root: &Root) -> Option<String> {
    let mut hash = Sha256::new();
    for part in PARTS {
        let text = root.read(part).ok()??;
        hash.update(format!("{part}\n{}\n", text.len()));
        hash.update(text);
    }
    Some(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn languages(call: &Call) -> Option<&'static [&'static str]> {
    let locale = match (call.variable("LC_ALL"), call.variable("LANG")) {
        ("", lang) => {
            let other = |(name, value): (&String, &String)| name.starts_with("LC_") && !value.is_empty();
            if call.environment.iter().any(other) {
                return None;
            }
            lang
        }
        (all, _) => all,
    };
    match locale {
        "C.UTF-8" => Some(&["c.utf-8", "en"]),
        "" | "C" | "POSIX" => Some(&["en"]),
        _ => None,
    }
}

fn is_configured_as_shipped(root: &Root) -> Option<bool> {
    let passwd = root.read_text("etc/passwd").ok()?.unwrap_or_default();
    let mut accounts = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let home =
        accounts.find(|account| account.get(2) == Some(&"0")).and_then(|account| account.get(5).copied());
    if exists(root, &format!("{}/.debconfrc", home.unwrap_or_default())) {
        return Some(false);
    }
    let text = match root.read_text("etc/debconf.conf").ok()? {
        Some(text) => text,
        None => root.read_text("usr/share/debconf/debconf.conf").ok()??,
    };
    let stanzas = text.split("\n\n").map(|stanza| {
        let lines = stanza.lines().map(str::trim);
        lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect::<Vec<_>>()
    });
    let stanzas: Vec<_> = stanzas.filter(|stanza| !stanza.is_empty()).collect();
    Some(stanzas.iter().map(Vec::as_slice).eq(CONFIGURATION.iter().copied()))
}

/// Whether there is a program that debconf mails errors with. Nothing when that depends on the working directory.
fn has_mail(path: &str, root: &Root) -> Option<bool> {
    let mut directories = path.split(':');
    if !directories.clone().all(|directory| directory.starts_with('/')) {
        return None;
    }
    Some(directories.any(|directory| exists(root, &format!("{directory}/mail"))))
}

fn is_installed(package: &str, root: &Root) -> bool {
    ["", ":amd64"].iter().any(|suffix| exists(root, &format!("var/lib/dpkg/info/{package}{suffix}.list")))
}

/// Whether there is something at a path, links followed.
pub(super) fn exists(root: &Root, path: &str) -> bool {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    rustix::fs::openat2(root.fd(), path.trim_start_matches('/'), flags, Mode::empty(), RESOLVE).is_ok()
}
