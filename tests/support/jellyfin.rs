//! Stands in for repo.jellyfin.org: packages with the names, versions, dependencies, files, maintainer scripts, unit and
//! accounts of the real ones, written from what is known of them, with a small server in the place of Jellyfin.
//!
//! Whatever a test shows with this, it shows of the recipe and this program, not of Jellyfin.

use jiff::{SignedDuration, Timestamp};

use super::deb::Deb;
use super::keys::Key;
use super::repository::{Repository, Served};

/// A state of the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generation {
    /// Version of the server's packages.
    pub server: &'static str,
    /// Package and version of its ffmpeg.
    pub ffmpeg: (&'static str, &'static str),
}

/// The last of 10.11.
pub const OLD: Generation =
    Generation { server: "10.11.11+deb13", ffmpeg: ("jellyfin-ffmpeg7", "7.1.4-3-trixie") };
/// A 12, with another package for ffmpeg.
pub const NEW: Generation =
    Generation { server: "12.2+deb13", ffmpeg: ("jellyfin-ffmpeg8", "8.1.2-5-trixie") };

impl Generation {
    /// The version without the packaging's part.
    pub fn upstream(&self) -> &'static str {
        self.server.split('+').next().unwrap()
    }

    /// The four packages.
    pub fn packages(&self) -> Vec<Deb> {
        let (ffmpeg, ffmpeg_version) = self.ffmpeg;
        let field = |deb: Deb| {
            deb.field("Maintainer", "Nobody <nobody@example.org>")
                .field("Priority", "optional")
                .field("Section", "video")
        };
        let other =
            if ffmpeg.ends_with('7') { "jellyfin-ffmpeg6" } else { "jellyfin-ffmpeg6, jellyfin-ffmpeg7" };
        let script = include_str!("jellyfin/server.pl").replace("@VERSION@", self.upstream());
        let short = ffmpeg_version.trim_end_matches("-trixie");
        vec![
            field(Deb::new("jellyfin", self.server).architecture("all"))
                .field("Depends", &format!("jellyfin-server, jellyfin-web, {ffmpeg}")),
            field(Deb::new("jellyfin-server", self.server))
                .field("Depends", "libfontconfig1, libjemalloc2, adduser, libicu76")
                .field("Recommends", &format!("jellyfin-web, sudo, {ffmpeg} | ffmpeg"))
                .file_with("/usr/lib/jellyfin/bin/jellyfin", script, 0o755, (0, 0))
                .file_with("/etc/init.d/jellyfin", include_str!("jellyfin/init"), 0o755, (0, 0))
                .conffile("/etc/default/jellyfin", include_str!("jellyfin/default"))
                .conffile("/etc/jellyfin/logging.json", "{}\n")
                .conffile("/etc/systemd/system/jellyfin.service.d/jellyfin.service.conf", "# [Service]\n")
                .file("/lib/systemd/system/jellyfin.service", include_str!("jellyfin/jellyfin.service"))
                .script("postinst", include_str!("jellyfin/postinst")),
            field(Deb::new("jellyfin-web", self.server).architecture("all"))
                .field("Recommends", "jellyfin-server")
                .file("/usr/share/jellyfin/web/index.html", format!("<title>{}</title>\n", self.server))
                .conffile("/usr/share/jellyfin/web/config.json", "{}\n"),
            field(Deb::new(ffmpeg, ffmpeg_version))
                .field("Depends", "libc6 (>= 2.38), libfontconfig1 (>= 2.12.6), zlib1g (>= 1:1.2.3.3)")
                .field("Conflicts", other)
                .field("Replaces", other)
                .file_with(
                    "/usr/lib/jellyfin-ffmpeg/ffmpeg",
                    include_str!("jellyfin/ffmpeg").replace("@VERSION@", short),
                    0o755,
                    (0, 0),
                )
                .file_with("/usr/lib/jellyfin-ffmpeg/ffprobe", "#!/bin/sh\nexit 1\n", 0o755, (0, 0))
                .file_with("/usr/lib/jellyfin-ffmpeg/vainfo", "#!/bin/sh\nexit 1\n", 0o755, (0, 0))
                .file("/usr/lib/jellyfin-ffmpeg/lib/dri/iHD_drv_video.so", "no driver"),
        ]
    }

    /// Its archive, signed by `key` `hours` ago.
    pub fn serve(&self, key: &Key, hours: i64) -> Served {
        let date = Timestamp::now() - SignedDuration::from_hours(hours);
        let date = Timestamp::from_second(date.as_second()).unwrap();
        let repository =
            Repository::new().name("jellyfin").date(&date.to_string()).valid_until(None).signer(key.clone());
        self.packages().into_iter().fold(repository, Repository::package).serve()
    }
}
