//! What an administrator can change when the host refuses something.

use std::io;
use std::path::Path;

/// Steps that fail because of a host's settings.
pub(super) const USER_NAMESPACE: &str = "make a user namespace";
pub(super) const USE_RIGHTS: &str = "use the rights of a user namespace";
pub(super) const MOUNT_PROC: &str = "mount `/proc` on the root's directory `proc`";

/// Beginning with `; `, or nothing when there is nothing to say. `sysctl` is where the settings are, `/proc/sys`.
pub(super) fn on(step: &str, source: &io::Error, sysctl: &Path) -> String {
    let is = |name: &str, value: &str| {
        std::fs::read_to_string(sysctl.join(name)).is_ok_and(|text| text.trim() == value)
    };
    let errno = source.raw_os_error();
    let denied = matches!(errno, Some(libc::EPERM | libc::EACCES));
    let namespace = step == USER_NAMESPACE;
    if namespace && denied && is("kernel/unprivileged_userns_clone", "0") {
        "; allow user namespaces with `sysctl kernel.unprivileged_userns_clone=1`".to_owned()
    } else if denied && is("kernel/apparmor_restrict_unprivileged_userns", "1") {
        "; AppArmor takes the rights of user namespaces away: allow them with \
         `sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or with a profile for this program"
            .to_owned()
    } else if namespace && errno == Some(libc::ENOSPC) {
        "; raise the limit with `sysctl user.max_user_namespaces=10000`".to_owned()
    } else if (namespace || step == USE_RIGHTS) && denied {
        "; a container or a filter around this process forbids user namespaces; in LXC, allow nesting"
            .to_owned()
    } else if step == MOUNT_PROC && denied {
        "; a container around this process hides parts of `/proc`; in LXC, allow nesting".to_owned()
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advice(step: &str, errno: i32, settings: &[(&str, &str)]) -> String {
        let sysctl = tempfile::tempdir().unwrap();
        for (name, value) in settings {
            let path = sysctl.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("{value}\n")).unwrap();
        }
        on(step, &io::Error::from_raw_os_error(errno), sysctl.path())
    }

    #[test]
    fn settings_that_forbid_are_named() {
        let clone = ("kernel/unprivileged_userns_clone", "0");
        let apparmor = ("kernel/apparmor_restrict_unprivileged_userns", "1");
        insta::assert_snapshot!(advice(USER_NAMESPACE, libc::EPERM, &[clone]), @"; allow user namespaces with `sysctl kernel.unprivileged_userns_clone=1`");
        insta::assert_snapshot!(advice("set the host name", libc::EPERM, &[apparmor]), @"; AppArmor takes the rights of user namespaces away: allow them with `sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or with a profile for this program");
        insta::assert_snapshot!(advice(USER_NAMESPACE, libc::ENOSPC, &[]), @"; raise the limit with `sysctl user.max_user_namespaces=10000`");
        insta::assert_snapshot!(advice(USER_NAMESPACE, libc::EPERM, &[]), @"; a container or a filter around this process forbids user namespaces; in LXC, allow nesting");
        insta::assert_snapshot!(advice(MOUNT_PROC, libc::EPERM, &[]), @"; a container around this process hides parts of `/proc`; in LXC, allow nesting");
    }

    #[test]
    fn other_failures_get_none() {
        let allowed = ("kernel/unprivileged_userns_clone", "1");
        assert_eq!(advice("make a tmpfs", libc::ENOMEM, &[allowed]), "");
        assert_eq!(advice(MOUNT_PROC, libc::ENOENT, &[allowed]), "");
    }
}
