//! Memory that was given back is kept for what is asked for next.
//!
//! glibc returns large buffers to the kernel as soon as they are freed. A build asks for the same ones again and again, for
//! frames, dictionaries of decoders and files, and each time the kernel would empty and map every page anew: a quarter of all
//! page faults of a build.

/// Larger than any buffer, in bytes.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 1 << 30;

/// Lets the allocator keep what is freed, in one arena for each processor: an arena for each thread, as is usual, would keep
/// what other threads could use. To be called before there are threads.
pub fn keep_freed() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in
        [(libc::M_MMAP_THRESHOLD, LARGE), (libc::M_TRIM_THRESHOLD, LARGE), (libc::M_ARENA_MAX, processors())]
    {
        // What cannot be set stays as it is: this is about speed only.
        // SAFETY: it changes numbers of the allocator's, under its own lock.
        #[allow(unsafe_code, reason = "the allocator has no other interface")]
        unsafe {
            libc::mallopt(parameter, value);
        }
    }
}

#[cfg(target_env = "gnu")]
fn processors() -> libc::c_int {
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    /// Set for the process of its own: other tests' threads would share the arena.
    const ALONE: &str = "BUILD_IMAGES_TEST_ALONE";

    #[test]
    fn a_buffer_is_not_given_back_to_the_kernel() {
        if std::env::var_os(ALONE).is_none() {
            let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
            alone.args(["--exact", "memory::tests::a_buffer_is_not_given_back_to_the_kernel"]);
            let output = alone.env(ALONE, "1").output().unwrap();
            let out = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && out.contains("1 passed"), "{out}");
            return;
        }
        let faults = || {
            let text = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            let fields = text.rsplit_once(')').unwrap().1;
            fields.split_whitespace().nth(7).unwrap().parse::<u64>().unwrap()
        };
        super::keep_freed();
        let touch = || std::hint::black_box(vec![1_u8; 40 << 20]).len();
        touch();
        let before = faults();
        for _ in 0..8 {
            touch();
        }
        // More than glibc keeps by itself. Returned each time, it would be 10,240 pages each.
        let more = faults() - before;
        assert!(more < 10_240, "{more} page faults");
    }
}
