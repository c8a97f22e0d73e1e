//! The processor that a job runs on.
//!
//! Maintainer scripts start hundreds of short programs, one after the other, and each waits for the next. Spread over several
//! processors every step wakes one that has gone to sleep, which on a virtual machine takes longer than many of the programs,
//! and finds its caches empty. So a job stays on one; everything else can move away from it. Where processors differ in speed the
//! kernel chooses: a job would be bound to whichever it began on.

use std::fs;
use std::path::Path;

use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};

/// Keeps the calling thread, and whatever it starts, on the processor where it runs: the kernel chose one that was not busy.
/// Takes no lock.
pub(super) fn stay_here() {
    let here = sched_getcpu();
    if here < CpuSet::MAX_CPU {
        let mut only = CpuSet::new();
        only.set(here);
        // Where it is refused, or the processor has gone, any will do.
        let _ = sched_setaffinity(None, &only);
    }
}

/// Whether this machine's processors are about equally fast. Where their speed is not known, as on most virtual machines, they
/// are taken for equal.
pub fn processors_are_alike() -> bool {
    are_alike(Path::new("/sys/devices/system/cpu"))
}

/// `directory` has a directory for each processor, as the kernel's `cpufreq` has it.
fn are_alike(directory: &Path) -> bool {
    let speed = |entry: fs::DirEntry| -> Option<u64> {
        let number = entry.file_name().to_str()?.strip_prefix("cpu")?.parse::<u32>();
        let text = fs::read_to_string(entry.path().join("cpufreq/cpuinfo_max_freq"));
        number.ok().and_then(|_| text.ok()?.trim().parse().ok())
    };
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let speeds: Vec<u64> = entries.filter_map(speed).collect();
    let (least, most) = (speeds.iter().min().copied(), speeds.iter().max().copied());
    // The best of many equal ones is a few percent faster than the worst; small cores are by a quarter slower.
    least.zip(most).is_none_or(|(least, most)| least >= most / 100 * 88)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_stays_and_so_does_what_it_starts() {
        let allowed = || rustix::thread::sched_getaffinity(None).unwrap();
        let before = allowed();
        let [own, started] = std::thread::spawn(move || {
            stay_here();
            [allowed(), std::thread::spawn(allowed).join().unwrap()]
        })
        .join()
        .unwrap();
        assert_eq!((own.count(), own), (1, started));
        assert!((0..CpuSet::MAX_CPU).any(|processor| own.is_set(processor) && before.is_set(processor)));
    }

    #[test]
    fn a_small_core_among_large_ones_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let speed = |cpu: &str, text: &str| {
            let place = directory.path().join(cpu).join("cpufreq");
            fs::create_dir_all(&place).unwrap();
            fs::write(place.join("cpuinfo_max_freq"), text).unwrap();
        };
        assert!(are_alike(directory.path()) && are_alike(Path::new("/nowhere")));
        speed("cpu0", "4900000\n");
        speed("cpu1", "5100000\n");
        speed("cpuidle", "1\n");
        speed("cpu2", "odd\n");
        assert!(are_alike(directory.path()));
        speed("cpu12", "3800000\n");
        assert!(!are_alike(directory.path()));
    }
}
