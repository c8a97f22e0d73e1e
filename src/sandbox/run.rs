//! Running one job: starting it, watching it, ending everything that it started.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::pipe::{PipeFlags, pipe_with};

use super::init::{Step, message};
use super::job::{Job, JobError, LeftProcess, Outcome, Status};
use super::output::Lines;
use super::process::Process;
use super::starter::{Order, Starter};
use super::{IDS, RootDir, advice};

/// How often the processes are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long what a program started may outlive it: a pipeline's last process is still on its way out.
const GRACE: Duration = Duration::from_millis(1000);
/// Most command lines named in an error, and the longest of each.
const NAMED: usize = 5;
const LONGEST_NAME: usize = 200;
/// How much is read of the environment of a process that is left, in bytes.
const LONGEST_ENVIRONMENT: usize = 16 << 10;

impl RootDir {
    /// Runs a program as root of this directory, cut off from everything else, and waits for it. `on_line` gets each
    /// line it writes, made harmless for a terminal.
    ///
    /// # Errors
    /// When it cannot be started, breaks a limit, or leaves a process behind. A program that fails by itself is an
    /// [`Outcome`].
    pub fn run(&self, job: &Job<'_>, on_line: &mut dyn FnMut(&str)) -> Result<Outcome, JobError> {
        match &job.calls {
            Some(calls) => calls
                .serve(|| self.run_alone(job, on_line))
                .map_err(|source| setup_error(job, ("answer its calls", source)))?,
            None => self.run_alone(job, on_line),
        }
    }

    fn run_alone(&self, job: &Job<'_>, on_line: &mut dyn FnMut(&str)) -> Result<Outcome, JobError> {
        let mut running = Running::start(self.starter(), job)?;
        let mut lines = Lines::new();
        let end = running.watch(self, job, &mut lines, on_line);
        // The last process of the namespace is gone when this returns, so the pipe has an end.
        running.init.kill();
        let waited = running.init.wait();
        let rest = running.drain(&mut lines, job.max_output, on_line);
        let tail = lines.finish(on_line);
        let program = job.program.to_owned();
        let setup = |failure| setup_error(job, failure);
        match end {
            Err(failure) => Err(setup(failure)),
            Ok(End::TimedOut) => Err(JobError::TimedOut { program, seconds: job.timeout.as_secs(), tail }),
            Ok(End::Memory) => Err(JobError::Memory { program, limit: job.memory, tail }),
            Ok(End::Disk) => Err(JobError::Disk { program, limit: self.keep_free(), tail }),
            Ok(End::Output) => Err(JobError::Output { program, limit: job.max_output, tail }),
            Ok(End::Program(status, left)) if !left.is_empty() => {
                Err(JobError::LeftBehind { program, status, left, tail })
            }
            Ok(End::Program(status, _)) => {
                waited.map_err(|source| setup(("wait for it", source)))?;
                rest.map_err(|source| setup(("read what it wrote", source)))?;
                Ok(Outcome { status, tail })
            }
        }
    }
}

/// Why watching ended.
enum End {
    Program(Status, Vec<LeftProcess>),
    TimedOut,
    Memory,
    Disk,
    Output,
}

/// What could not be done, and why.
type Failure = (&'static str, io::Error);

fn failed(step: &'static str) -> impl FnOnce(Errno) -> Failure {
    move |errno| (step, errno.into())
}

/// A job between its start and its end.
struct Running {
    init: Process,
    control: OwnedFd,
    output: File,
    /// The `/proc` of its pid namespace.
    proc: OwnedFd,
}

impl Running {
    fn start(starter: &Starter, job: &Job<'_>) -> Result<Self, JobError> {
        Self::try_start(starter, job).map_err(|failure| setup_error(job, failure))
    }

    fn try_start(starter: &Starter, job: &Job<'_>) -> Result<Self, Failure> {
        let order = Order::new(job).map_err(|source| ("prepare", source))?;
        let (control, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(failed("make a socket"))?;
        let (output, written) = pipe_with(PipeFlags::CLOEXEC).map_err(failed("make a pipe"))?;
        let flags = rustix::fs::fcntl_getfl(&output).map_err(failed("make a pipe"))?;
        rustix::fs::fcntl_setfl(&output, flags | OFlags::NONBLOCK).map_err(failed("make a pipe"))?;
        let init = starter.start(&order, theirs.as_fd(), written.as_fd());
        let init = init.map_err(|source| ("make a pid namespace", source))?;
        drop(theirs);
        drop(written);
        match receive(control.as_fd()) {
            Ok([message::UNSHARED, ..]) => {}
            Ok(answer) => return Err(setup_failure(&answer)),
            Err(errno) => return Err(("start", errno.into())),
        }
        let proc = admit(&init)?;
        rustix::net::send(&control, &[message::GO], SendFlags::NOSIGNAL).map_err(failed("start"))?;
        Ok(Self { init, control, output: output.into(), proc })
    }

    fn watch(
        &mut self,
        root: &RootDir,
        job: &Job<'_>,
        lines: &mut Lines,
        on_line: &mut dyn FnMut(&str),
    ) -> Result<End, Failure> {
        let begin = Instant::now();
        let mut looked = begin;
        let mut open = true;
        let mut started = false;
        loop {
            let now = Instant::now();
            if now.duration_since(begin) >= job.timeout {
                return Ok(End::TimedOut);
            }
            if now.duration_since(looked) >= LOOK_EVERY {
                looked = now;
                if started && self.uses_more_than(job.memory) {
                    return Ok(End::Memory);
                }
                if root.is_almost_full() {
                    return Ok(End::Disk);
                }
            }
            let mut ready = [
                PollFd::new(&self.control, PollFlags::IN),
                PollFd::new(&self.output, if open { PollFlags::IN } else { PollFlags::empty() }),
            ];
            let ready = if open { &mut ready[..] } else { &mut ready[..1] };
            let wait = LOOK_EVERY.min(job.timeout.saturating_sub(now.duration_since(begin)));
            match poll(ready, Some(&timespec(wait))) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(("watch it", errno.into())),
            }
            let (control, output) =
                (!ready[0].revents().is_empty(), ready.get(1).is_some_and(|fd| !fd.revents().is_empty()));
            if output {
                open = self.read(lines, on_line).map_err(|source| ("read what it wrote", source))?;
                if lines.total() > job.max_output {
                    return Ok(End::Output);
                }
            }
            if control {
                return match receive(self.control.as_fd()) {
                    Ok([message::STARTED, ..]) => {
                        started = true;
                        continue;
                    }
                    Ok([message::ENDED, status @ .., _]) => {
                        let left = self.left(begin + job.timeout);
                        Ok(End::Program(decode(i32::from_ne_bytes(status)), left))
                    }
                    Ok(answer) => Err(setup_failure(&answer)),
                    Err(errno) => Err(("watch it", errno.into())),
                };
            }
        }
    }

    /// Reads once; whether there may be more.
    fn read(&mut self, lines: &mut Lines, on_line: &mut dyn FnMut(&str)) -> io::Result<bool> {
        let mut buffer = [0; 16 << 10];
        match self.output.read(&mut buffer) {
            Ok(0) => Ok(false),
            Ok(length) => {
                lines.push(&buffer[..length], on_line);
                Ok(true)
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    /// Reads what is left in the pipe when every writer is gone.
    fn drain(&mut self, lines: &mut Lines, most: u64, on_line: &mut dyn FnMut(&str)) -> io::Result<()> {
        while lines.total() <= most && self.read(lines, on_line)? {}
        Ok(())
    }

    /// Whether the job's processes use more memory together.
    ///
    /// Shared pages count once for each process at first, which is quick. Only if that is too much they are divided
    /// by those who share them, which makes the kernel walk through all mappings.
    fn uses_more_than(&self, limit: u64) -> bool {
        let sum = |fields: &[&str], file: &str| -> u64 {
            let of = |pid| Some(kibibytes(&self.look(&format!("{pid}/{file}"), 4096)?, fields));
            // Init is a copy of the worker as it began, and its memory the worker's.
            self.pids().filter(|pid| *pid != 1).filter_map(of).sum::<u64>() << 10
        };
        sum(&["RssAnon:", "RssShmem:"], "status") > limit
            && sum(&["Pss_Anon:", "Pss_Shmem:"], "smaps_rollup") > limit
    }

    /// The processes that do not end soon after the program did.
    fn left(&self, deadline: Instant) -> Vec<LeftProcess> {
        let until = (Instant::now() + GRACE).min(deadline);
        loop {
            let left: Vec<_> = self.pids().filter(|pid| *pid != 1).collect();
            if left.is_empty() {
                return Vec::new();
            }
            if Instant::now() >= until {
                return left.into_iter().take(NAMED).filter_map(|pid| self.left_process(pid)).collect();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn left_process(&self, pid: u32) -> Option<LeftProcess> {
        let environment = self.look(&format!("{pid}/environ"), LONGEST_ENVIRONMENT).unwrap_or_default();
        let environment = environment.split('\0').filter(|variable| !variable.is_empty());
        let environment = environment.map(|variable| super::output::printable(variable.as_bytes())).collect();
        Some(LeftProcess { command: self.command_line(pid)?, environment })
    }

    fn command_line(&self, pid: u32) -> Option<String> {
        let line = self.look(&format!("{pid}/cmdline"), LONGEST_NAME)?;
        let line = line.trim_end_matches('\0').replace('\0', " ");
        let name = if line.is_empty() { self.look(&format!("{pid}/comm"), LONGEST_NAME)? } else { line };
        Some(format!("`{}`", super::output::printable(name.as_bytes())))
    }

    /// The processes of the job's namespace, by their numbers in it.
    fn pids(&self) -> impl Iterator<Item = u32> {
        let directory = rustix::fs::Dir::read_from(&self.proc);
        directory
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str().ok()?.parse().ok())
    }

    /// The beginning of a file in `/proc`; nothing when the process is gone.
    fn look(&self, path: &str, most: usize) -> Option<String> {
        let file = openat(&self.proc, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let mut text = Vec::new();
        File::from(file).take(most as u64).read_to_end(&mut text).ok()?;
        Some(String::from_utf8_lossy(&text).into_owned())
    }
}

/// Gives init's user namespace its ids, and takes a hold of its `/proc`.
fn admit(init: &Process) -> Result<OwnedFd, Failure> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let pid = init.pid().as_raw_pid();
    let open = |path: String| rustix::fs::open(path, flags, Mode::empty());
    let ours = open(format!("/proc/{pid}")).map_err(failed("open its directory in `/proc`"))?;
    let proc = open(format!("/proc/{pid}/root/proc")).map_err(failed("open its `/proc`"))?;
    for map in ["uid_map", "gid_map"] {
        let file = openat(&ours, map, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
        let mut file = File::from(file.map_err(failed("open its id map"))?);
        file.write_all(format!("0 0 {IDS}\n").as_bytes()).map_err(|source| ("map its ids", source))?;
    }
    Ok(proc)
}

fn receive(control: BorrowedFd<'_>) -> Result<[u8; 6], Errno> {
    let mut buffer = [0; 6];
    loop {
        match rustix::net::recv(control, &mut buffer, RecvFlags::empty()) {
            Err(Errno::INTR) => {}
            Ok((0, _)) => return Err(Errno::PIPE),
            Ok(_) => return Ok(buffer),
            Err(errno) => return Err(errno),
        }
    }
}

fn setup_failure(answer: &[u8; 6]) -> Failure {
    let [message::FAILED, step, errno @ ..] = answer else {
        return ("start", io::ErrorKind::InvalidData.into());
    };
    let step = Step::TEXTS.get(usize::from(*step)).copied().unwrap_or("start");
    (step, io::Error::from_raw_os_error(i32::from_ne_bytes(*errno)))
}

/// The sum of some fields of a file in `/proc` that counts in units of 1024 bytes.
fn kibibytes(text: &str, fields: &[&str]) -> u64 {
    let number = |line: &str| {
        let mut words = line.split_whitespace();
        fields.contains(&words.next()?).then(|| words.next()?.parse::<u64>().ok())?
    };
    text.lines().filter_map(number).sum()
}

fn setup_error(job: &Job<'_>, (step, source): Failure) -> JobError {
    let advice = advice::on(step, &source, Path::new("/proc/sys"));
    JobError::Setup { step, program: job.program.to_owned(), source, advice }
}

pub(super) fn decode(status: i32) -> Status {
    if libc::WIFEXITED(status) {
        Status::Exited(libc::WEXITSTATUS(status))
    } else {
        Status::Killed(libc::WTERMSIG(status))
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs() as i64, tv_nsec: duration.subsec_nanos().into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_summed_over_fields() {
        let status =
            "Name:\tdpkg\nVmRSS:\t  900 kB\nRssAnon:\t     112 kB\nRssFile:\t 700 kB\nRssShmem:\t 8 kB\n";
        assert_eq!(kibibytes(status, &["RssAnon:", "RssShmem:"]), 120);
        assert_eq!(kibibytes("RssAnon:\nRssShmem:\t?\n", &["RssAnon:", "RssShmem:"]), 0);
    }

    #[test]
    fn setup_failures_name_the_step() {
        let answer = [message::FAILED, Step::Proc as u8, libc::EPERM as u8, 0, 0, 0];
        let (step, source) = setup_failure(&answer);
        assert_eq!((step, source.raw_os_error()), (Step::TEXTS[Step::Proc as usize], Some(libc::EPERM)));
        assert_eq!(Step::TEXTS[Step::Execute as usize], "execute the program");
    }
}
