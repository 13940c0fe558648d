//! Child processes that end with their parent, as an unprivileged user where the parent is root.

use crate::Error;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Debian's `nobody`: it owns nothing, and exists everywhere.
const UNPRIVILEGED_ID: u32 = 65534;

pub(crate) fn is_root() -> bool {
    // SAFETY: geteuid has no preconditions and cannot fail.
    #[allow(unsafe_code, reason = "libc call without preconditions")]
    unsafe {
        libc::geteuid() == 0
    }
}

/// Makes `command` run as the unprivileged user if this process is root.
pub(crate) fn drop_root(command: &mut Command) {
    if is_root() {
        command.uid(UNPRIVILEGED_ID).gid(UNPRIVILEGED_ID);
    }
}

/// Gives `path` and all below it to the unprivileged user if this process is root.
pub(crate) fn give_away(path: &Path) -> io::Result<()> {
    if !is_root() {
        return Ok(());
    }
    std::os::unix::fs::lchown(path, Some(UNPRIVILEGED_ID), Some(UNPRIVILEGED_ID))?;
    if path.is_dir() && !path.is_symlink() {
        for entry in std::fs::read_dir(path)? {
            give_away(&entry?.path())?;
        }
    }
    Ok(())
}

/// Whether the unprivileged user can walk down to `path`: each directory above it lets others pass.
pub(crate) fn is_reachable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let Ok(path) = std::path::absolute(path) else { return false };
    path.ancestors()
        .skip(1)
        .filter_map(|ancestor| std::fs::metadata(ancestor).ok())
        .all(|metadata| metadata.permissions().mode() & 0o001 != 0)
}

/// A directory outside `path` that the unprivileged user can reach, the same one for the same `path`.
pub(crate) fn reachable_twin(path: &Path) -> PathBuf {
    use std::hash::{Hash, Hasher};
    let mut hasher = std::hash::DefaultHasher::new();
    path.hash(&mut hasher);
    std::env::temp_dir().join(format!("callboard-{:016x}", hasher.finish()))
}

/// Between two starts of a server that ended by itself, doubled up to the cap: a predecessor's last processes take a
/// moment to go, and a server that cannot start must not become a storm of processes.
const RESTART_BASE: Duration = Duration::from_millis(50);
const RESTART_CAP: Duration = Duration::from_secs(5);
/// A server that ran this long had started: the next one is started at once again.
const RAN_WELL: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(20);
const READY_LOOK_EVERY: Duration = Duration::from_millis(10);

/// The last lines of what a program printed, as one.
pub(crate) fn tail(text: &str) -> String {
    const LINES: usize = 6;
    let lines: Vec<&str> = text.trim().lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join(" | ")
}

/// A server process that is killed when this handle is dropped, and by the kernel when this process dies.
///
/// The kernel's parent-death signal is tied to the *thread* that started the child, so the child is started
/// by a thread that lives as long as the handle.
#[derive(Debug)]
pub(crate) struct Guarded {
    pid: Arc<AtomicU32>,
    is_replaced: Arc<AtomicBool>,
    stop: Option<mpsc::Sender<()>>,
    guardian: Option<JoinHandle<()>>,
}

/// A server that is being started, for what is said if that fails.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start<'a> {
    pub(crate) program: &'static str,
    /// Its name for a person.
    pub(crate) name: &'static str,
    /// Where its output goes.
    pub(crate) log: &'a Path,
    pub(crate) limit: Duration,
}

/// How a process is asked to end, and how long it may take before it is killed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ending {
    pub(crate) signal: i32,
    pub(crate) limit: Duration,
}

impl Guarded {
    /// `doing` says in an error what was tried, such as `start postgres`.
    pub(crate) fn spawn(mut command: Command, ending: Ending, doing: &'static str) -> Result<Self, Error> {
        let (started_tx, started_rx) = mpsc::channel();
        let (stop_tx, stop_rx) = mpsc::channel::<()>();
        die_with_parent(&mut command, ending.signal);
        // A Ctrl-C in the terminal is for the parent, which stops the server last.
        command.process_group(0);
        let pid = Arc::new(AtomicU32::new(0));
        let is_replaced = Arc::new(AtomicBool::new(false));
        let (shared_pid, shared_is_replaced) = (Arc::clone(&pid), Arc::clone(&is_replaced));
        let guardian = std::thread::Builder::new()
            .name("guardian".into())
            .spawn(move || {
                let child = match command.spawn() {
                    Ok(child) => child,
                    Err(source) => {
                        let _ = started_tx.send(Err(source));
                        return;
                    }
                };
                shared_pid.store(child.id(), Ordering::Relaxed);
                let _ = started_tx.send(Ok(()));
                guard(child, &mut command, &stop_rx, ending, &shared_pid, &shared_is_replaced);
            })
            .map_err(|source| Error::Io { doing: "start a thread", source })?;
        started_rx
            .recv()
            .map_err(|_| Error::Io { doing, source: io::Error::other("its thread died") })?
            .map_err(|source| Error::Io { doing, source })?;
        Ok(Self { pid, is_replaced, stop: Some(stop_tx), guardian: Some(guardian) })
    }

    /// The process id: of the newest process, if the first one was replaced.
    pub(crate) fn pid(&self) -> u32 {
        self.pid.load(Ordering::Relaxed)
    }

    /// Waits until `is_ready` says so of the process's id. From then on a process that ends by itself is started again.
    ///
    /// # Errors
    /// [`Error::Failed`] with the last lines of its log if it ends before, [`Error::NotReady`] after the limit.
    pub(crate) fn keep_once_ready(
        self,
        start: Start<'_>,
        is_ready: impl Fn(u32) -> bool,
    ) -> Result<Self, Error> {
        let deadline = Instant::now() + start.limit;
        while Instant::now() < deadline {
            if self.guardian.as_ref().is_none_or(JoinHandle::is_finished) {
                let output = std::fs::read_to_string(start.log).unwrap_or_default();
                return Err(Error::Failed { program: start.program, output: tail(&output) });
            }
            if is_ready(self.pid()) {
                self.is_replaced.store(true, Ordering::Relaxed);
                return Ok(self);
            }
            std::thread::sleep(READY_LOOK_EVERY);
        }
        Err(Error::NotReady {
            program: start.name,
            seconds: start.limit.as_secs(),
            log: start.log.display().to_string(),
        })
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(guardian) = self.guardian.take() {
            // A guardian that failed has nothing left to guard.
            let _ = guardian.join();
        }
    }
}

/// Waits until a stop is asked for, and stops the child then. A child that ends before is replaced if that is wished;
/// otherwise that is the end of it.
fn guard(
    child: Child,
    command: &mut Command,
    stop: &mpsc::Receiver<()>,
    ending: Ending,
    pid: &AtomicU32,
    is_replaced: &AtomicBool,
) {
    let mut running = Some((child, Instant::now()));
    let mut pause = RESTART_BASE;
    loop {
        if let Some((child, started_at)) = &mut running
            && !matches!(child.try_wait(), Ok(None))
        {
            if started_at.elapsed() >= RAN_WELL {
                pause = RESTART_BASE;
            }
            running = None;
        }
        let wait = match running {
            Some(_) => LOOK_EVERY,
            None if is_replaced.load(Ordering::Relaxed) => pause,
            None => return,
        };
        match stop.recv_timeout(wait) {
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
        if running.is_none() {
            pause = (pause * 2).min(RESTART_CAP);
            // One that cannot be started now is tried again after the pause.
            if let Ok(child) = command.spawn() {
                pid.store(child.id(), Ordering::Relaxed);
                running = Some((child, Instant::now()));
            }
        }
    }
    if let Some((child, _)) = running {
        end(child, ending);
    }
}

/// Asks first, then kills.
fn end(mut child: Child, ending: Ending) {
    signal(child.id(), ending.signal);
    let deadline = Instant::now() + ending.limit;
    while Instant::now() < deadline {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    // One that is gone by now needs neither.
    let _ = child.kill();
    let _ = child.wait();
}

pub(crate) fn signal(pid: u32, signal: i32) {
    let Ok(pid) = i32::try_from(pid) else { return };
    // SAFETY: kill takes two integers; a pid that is gone is answered with an error that changes nothing.
    #[allow(unsafe_code, reason = "libc call on integers")]
    unsafe {
        libc::kill(pid, signal);
    }
}

/// Asks the kernel to send `signal` to the child when the thread that starts it dies.
fn die_with_parent(command: &mut Command, signal: i32) {
    let parent = std::process::id();
    // SAFETY: the closure runs in the forked child and calls only async-signal-safe functions (prctl, getppid).
    #[allow(unsafe_code, reason = "prctl must run between fork and exec")]
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, signal) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The parent may have died before the call above.
            if u32::try_from(libc::getppid()) != Ok(parent) {
                return Err(io::Error::other("the parent is gone"));
            }
            Ok(())
        });
    }
}
