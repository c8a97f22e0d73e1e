//! Room for open files.
//!
//! The kernel makes a process's table of descriptors larger whenever it is full, by a factor of two. In a process with several
//! threads it first waits until all processors have seen that, and whoever opens a file meanwhile waits too: ten milliseconds
//! and more each time, in which nothing is done. With one thread it takes no time.

use rustix::process::{Resource, getrlimit};

/// Makes the table large enough for `most` open files, or as many as this process may have. To be called before there are
/// threads; afterwards it is slow.
pub fn make_room(most: u64) {
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(most);
    let last = i32::try_from(most.min(allowed).saturating_sub(1)).unwrap_or(0);
    // The table does not shrink. Where there is no room, it grows when it has to.
    if let Ok(file) = std::fs::File::open("/dev/null") {
        drop(rustix::io::fcntl_dupfd_cloexec(&file, last));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_as_large_as_asked_for() {
        let size = || -> u64 {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap();
            line.trim().parse().unwrap()
        };
        let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        make_room(700);
        assert!(size() >= allowed.min(700));
        // More than is allowed is no error.
        make_room(u64::MAX);
        make_room(0);
    }
}
