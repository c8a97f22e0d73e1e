//! `recipes/<name>/recipe.toml` as written.

use super::{List, Mode, Named, Optional, Required, Size, Time, table};

table! {
    /// A recipe: what goes into a root file system.
    RawRecipe {
        /// One line for people.
        description: Required<String> = "description",
        /// Debian's code name of the release, only in a recipe that is the first of an image (`trixie`).
        release: Optional<String> = "release",
        /// apt archives, by name. The lock uses the name; no two recipes of a project may share one.
        archive: Named<RawArchive> = "archive",
        /// What to install.
        packages: Optional<RawPackages> = "packages",
        /// Groups with a pinned id.
        group: List<RawGroup> = "group",
        /// Users with a pinned id.
        user: List<RawUser> = "user",
        /// Directories to make.
        directory: List<RawDirectory> = "directory",
        /// Tarballs to unpack, pinned by URL and hash.
        tarball: List<RawTarball> = "tarball",
        /// Files to write.
        file: List<RawFile> = "file",
        /// Symbolic links to make.
        link: List<RawLink> = "link",
        /// systemd units to enable, disable or mask.
        units: Optional<RawUnits> = "units",
        /// Directories whose contents outlive the image; each becomes a mount below the site's state directory.
        state: List<RawState> = "state",
        /// Space that has to be free before the application starts.
        space: List<RawSpace> = "space",
        /// What the container offers over the network.
        service: Optional<RawService> = "service",
        /// Ports it listens on beside the web interface.
        port: List<RawPort> = "port",
        /// Secrets that are handed over when the image is deployed.
        secret: List<RawSecret> = "secret",
    }
}

table! {
    /// One apt archive.
    RawArchive {
        /// URI of record, http or https. `{timestamp}` stands for the lock's time as YYYYMMDDTHHMMSSZ.
        uri: Required<String> = "uri" ; { "pattern": "^https?://" },
        /// Suites below `dists/`: of the base's release (`trixie`, `trixie-…`), or with a name that is of no release.
        suites: Required<TextList> = "suites",
        /// Components of each suite.
        components: Required<TextList> = "components",
        /// Files below the recipe's `keys/` with OpenPGP certificates, armored or binary.
        keys: Required<TextList> = "keys",
        /// Fingerprints of the primary keys that may sign, 40 or 64 hex digits; blanks between them are ignored.
        fingerprints: Required<TextList> = "fingerprints",
        /// Further places of .debs that the archive itself may have dropped: URIs with `{name}`, `{version}`, `{upstream}`, `{architecture}` and `{file}`.
        places: List<String> = "places" ; { "uniqueItems": true },
    }
}

table! {
    /// A tarball to unpack: plain, or compressed with gzip, xz or zstd.
    RawTarball {
        /// The name that the lock and mirrors use; no two tarballs and archives of a project may share one.
        name: Required<String> = "name",
        /// URL of record, http or https.
        url: Required<String> = "url" ; { "pattern": "^https?://" },
        /// SHA-256 of the file as it is downloaded.
        sha256: Required<String> = "sha256" ; { "pattern": "^[0-9a-fA-F]{64}$" },
        /// Directory to unpack into; made when it is not there.
        path: Required<String> = "path" ; { "pattern": "^/" },
        /// Leading components that each member's name loses; members with no more than that are left out. Default: 0.
        strip: Optional<i64> = "strip" ; { "default": 0, "minimum": 0, "maximum": 64 },
        /// What to take, by names after `strip`: files, or directories with everything below. Default: everything.
        only: List<String> = "only" ; { "uniqueItems": true },
        /// Owner of everything, by name. Default: root.
        owner: Optional<String> = "owner" ; { "default": "root" },
        /// Group of everything, by name. Default: the owner's primary group.
        group: Optional<String> = "group",
        /// Entries with an owner, group or mode of their own.
        set: List<RawTarballEntry> = "set",
    }
}

table! {
    /// One entry of a tarball that is not as the others.
    RawTarballEntry {
        /// Its name after `strip`.
        path: Required<String> = "path",
        /// Owner by name. Default: the tarball's.
        owner: Optional<String> = "owner",
        /// Group by name. Default: the owner's primary group, or the tarball's group.
        group: Optional<String> = "group",
        /// Permission bits as a string of octal digits. Default: `"0755"` for directories and for files that somebody may run, `"0644"` for others.
        mode: Optional<Mode> = "mode",
    }
}

table! {
    /// Packages to install.
    RawPackages {
        /// Debian package names.
        install: List<String> = "install" ; { "uniqueItems": true },
        /// Whether the packages that they recommend come too. Default: false.
        recommends: Optional<bool> = "recommends" ; { "default": false },
    }
}

table! {
    /// A group with a pinned id.
    RawGroup {
        /// Its name.
        name: Required<String> = "name" ; { "pattern": "^[a-z_][a-z0-9_-]{0,31}$" },
        /// Its id inside the container; on the node it is 100000 more.
        gid: Required<i64> = "gid" ; { "minimum": 101, "maximum": 59999 },
    }
}

table! {
    /// A user with a pinned id.
    RawUser {
        /// Its name.
        name: Required<String> = "name" ; { "pattern": "^[a-z_][a-z0-9_-]{0,31}$" },
        /// Its id inside the container; on the node it is 100000 more.
        uid: Required<i64> = "uid" ; { "minimum": 100, "maximum": 59999 },
        /// Its primary group. Default: a group of its own name, made with the same id when no recipe declares it.
        group: Optional<String> = "group",
        /// Its other groups.
        groups: List<String> = "groups" ; { "uniqueItems": true },
        /// Its home directory. Default: `/nonexistent`.
        home: Optional<String> = "home" ; { "default": "/nonexistent" },
        /// Its login shell. Default: `/usr/sbin/nologin`.
        shell: Optional<String> = "shell" ; { "default": "/usr/sbin/nologin" },
        /// The comment field of /etc/passwd. Default: empty.
        comment: Optional<String> = "comment" ; { "default": "" },
    }
}

table! {
    /// A directory to make.
    RawDirectory {
        /// Where.
        path: Required<String> = "path" ; { "pattern": "^/" },
        /// Owner by name. Default: root.
        owner: Optional<String> = "owner" ; { "default": "root" },
        /// Group by name. Default: the owner's primary group.
        group: Optional<String> = "group",
        /// Permission bits as a string of octal digits. Default: `"0755"`.
        mode: Optional<Mode> = "mode" ; { "default": "0755" },
    }
}

table! {
    /// A file to write, with exactly one of `source`, `template` and `content`.
    RawFile {
        /// Where.
        path: Required<String> = "path" ; { "pattern": "^/" },
        /// A file below the recipe's `files/`, taken as it is.
        source: Optional<String> = "source",
        /// A Tera template below the recipe's `files/`.
        template: Optional<String> = "template",
        /// The text itself, taken as it is.
        content: Optional<String> = "content",
        /// Owner by name. Default: root.
        owner: Optional<String> = "owner" ; { "default": "root" },
        /// Group by name. Default: the owner's primary group.
        group: Optional<String> = "group",
        /// Permission bits as a string of octal digits. Default: `"0644"`.
        mode: Optional<Mode> = "mode" ; { "default": "0644" },
        /// Whether it may take the place of a file that a package ships. Default: false.
        replace: Optional<bool> = "replace" ; { "default": false },
    }
}

table! {
    /// A symbolic link to make.
    RawLink {
        /// Where.
        path: Required<String> = "path" ; { "pattern": "^/" },
        /// What it points to, written into the link as it is.
        target: Required<String> = "target",
        /// Whether it may take the place of something a package ships. Default: false.
        replace: Optional<bool> = "replace" ; { "default": false },
    }
}

table! {
    /// systemd units, by full name.
    RawUnits {
        /// Started at boot.
        enable: List<String> = "enable" ; { "uniqueItems": true },
        /// Not started at boot.
        disable: List<String> = "disable" ; { "uniqueItems": true },
        /// Cannot be started at all.
        mask: List<String> = "mask" ; { "uniqueItems": true },
    }
}

table! {
    /// A directory whose contents outlive the image.
    RawState {
        /// Where the application keeps it.
        path: Required<String> = "path" ; { "pattern": "^/" },
        /// Owner by name. Default: root.
        owner: Optional<String> = "owner" ; { "default": "root" },
        /// Group by name. Default: the owner's primary group.
        group: Optional<String> = "group",
        /// Permission bits as a string of octal digits. Default: `"0750"`.
        mode: Optional<Mode> = "mode" ; { "default": "0750" },
        /// Whether it belongs into a backup. Default: true.
        backup: Optional<bool> = "backup" ; { "default": true },
        /// Where what a newer version wrote is lost on an older one: how to tell which version wrote it.
        migrates: Optional<RawMigrates> = "migrates",
    }
}

table! {
    /// State whose migrations go one way.
    RawMigrates {
        /// The package whose version counts.
        package: Required<String> = "package",
        /// The file in the state that has the version that last wrote it. Default: `version`.
        file: Optional<String> = "file" ; { "default": "version" },
    }
}

table! {
    /// Something that no image may hold, handed over at deployment, with exactly one of `hash` and `run`.
    RawSecret {
        /// Its name.
        name: Required<String> = "name",
        /// A file in the state that gets its PBKDF2 hash, as long as the state is empty.
        hash: Optional<String> = "hash" ; { "pattern": "^/" },
        /// A program of the image that gets it on standard input when the application waits to be set up.
        run: Optional<String> = "run" ; { "pattern": "^/" },
    }
}

table! {
    /// Space that has to be free where the application writes.
    RawSpace {
        /// A directory it writes to, in the root file system or on a mount.
        path: Required<String> = "path" ; { "pattern": "^/" },
        /// How much has to be free there, as `"2 GiB"`.
        free: Required<Size> = "free",
    }
}

table! {
    /// What the container offers over the network.
    RawService {
        /// TCP port of the web interface.
        port: Required<i64> = "port" ; { "minimum": 1, "maximum": 65535 },
        /// How to tell that it works. Default: `/` answers 200.
        probe: Optional<RawProbe> = "probe",
        /// How to tell that it works, but waits for somebody to set it up. Asked once the probe is good.
        setup: Optional<RawSetup> = "setup",
        /// What tells by its status alone that it is ready, for a reverse proxy. Default: the probe's request.
        ready: Optional<RawReady> = "ready",
        /// Where people log in, so that the reverse proxy and fail2ban can slow down whoever guesses passwords.
        login: Optional<RawLogin> = "login",
        /// Requests a second that one client may make through the reverse proxy, on average. Default: 100.
        rate: Optional<i64> = "rate" ; { "default": 100, "minimum": 1, "maximum": 100_000 },
    }
}

table! {
    /// A request whose status alone tells a reverse proxy that the application is ready.
    RawReady {
        /// Path and query.
        path: Required<String> = "path" ; { "pattern": "^/" },
        /// The one status that is good. Default: any from 200 to 399.
        status: Optional<i64> = "status" ; { "minimum": 100, "maximum": 599 },
    }
}

table! {
    /// Where people log in.
    RawLogin {
        /// Paths that take names and passwords, as a whole and without query.
        paths: Required<TextList> = "paths" ; { "uniqueItems": true },
        /// Whether the application takes these paths in any mixture of upper and lower case. Default: false.
        any_case: Optional<bool> = "any-case" ; { "default": false },
        /// Requests to these paths that one client may make in a minute. Default: 10.
        attempts: Optional<i64> = "attempts" ; { "default": 10, "minimum": 1, "maximum": 6000 },
        /// Log that has a line for each failure, on a mount; the file's name may have `*` in it.
        log: Optional<String> = "log" ; { "pattern": "^/" },
        /// What such a line has, as fail2ban's `failregex`: a regular expression with `<ADDR>` for the client's address.
        failure: Optional<String> = "failure",
    }
}

table! {
    /// A port that the container listens on beside the web interface.
    RawPort {
        /// What it is for, in one word; no two of an image may share one.
        name: Required<String> = "name",
        /// Its number.
        number: Required<i64> = "number" ; { "minimum": 1, "maximum": 65535 },
        /// `"tcp"`, `"udp"`, or both. Default: `["tcp"]`.
        protocols: List<String> = "protocols" ; { "default": ["tcp"], "uniqueItems": true },
        /// Whether the site's router forwards it from the internet. Default: false.
        public: Optional<bool> = "public" ; { "default": false },
    }
}

table! {
    /// An HTTP request whose answer shows that the application works.
    RawProbe {
        /// Path and query.
        path: Required<String> = "path" ; { "pattern": "^/" },
        /// Status codes that are good. Default: `[200]`.
        status: List<i64> = "status" ; { "default": [200], "uniqueItems": true },
        /// The body must be exactly this, when given; line breaks at its end do not count.
        body: Optional<String> = "body",
        /// The body must contain this, when given. Not together with `body`.
        contains: Optional<String> = "contains" ; { "minLength": 1 },
        /// Answers that mean: it is still starting.
        starting: List<RawStarting> = "starting",
        /// How long to wait while nobody answers, as `"90 s"`, `"5 min"` or `"2 h"`. Default: `"2 min"`.
        patience: Optional<Time> = "patience" ; { "default": "2 min" },
    }
}

table! {
    /// An answer that means that the application is still starting, with at least one of `status`, `body` and
    /// `contains`.
    RawStarting {
        /// Status codes. Default: any.
        status: List<i64> = "status" ; { "uniqueItems": true },
        /// The body is exactly this.
        body: Optional<String> = "body",
        /// The body contains this. Not together with `body`.
        contains: Optional<String> = "contains" ; { "minLength": 1 },
        /// How long to wait while it answers so. Default: that of the probe.
        patience: Optional<Time> = "patience",
    }
}

table! {
    /// An HTTP request whose answer shows that nobody has set the application up yet, with one of `body` and
    /// `contains`.
    RawSetup {
        /// Path and query.
        path: Required<String> = "path" ; { "pattern": "^/" },
        /// Status codes that it answers with, set up or not. Default: `[200]`.
        status: List<i64> = "status" ; { "default": [200], "uniqueItems": true },
        /// The body is exactly this until it is set up.
        body: Optional<String> = "body",
        /// The body contains this until it is set up.
        contains: Optional<String> = "contains" ; { "minLength": 1 },
        /// Paths that serve the set-up alone, with everything below, in any case: the reverse proxy passes them to nobody.
        private: List<String> = "private" ; { "uniqueItems": true },
    }
}

/// A list that must be there.
pub type TextList = Vec<super::At<String>>;
