//! Child processes that end with their parent, as an unprivileged user where the parent is root.

use crate::Error;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc;
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

/// A server process that is killed when this handle is dropped, and by the kernel when this process dies.
///
/// The kernel's parent-death signal is tied to the *thread* that started the child, so the child is started
/// by a thread that lives as long as the handle.
#[derive(Debug)]
pub(crate) struct Guarded {
    pid: u32,
    stop: Option<mpsc::Sender<()>>,
    guardian: Option<JoinHandle<io::Result<ExitStatus>>>,
}

impl Guarded {
    pub(crate) fn spawn(mut command: Command, stop_limit: Duration) -> Result<Self, Error> {
        let (started_tx, started_rx) = mpsc::channel();
        let (stop_tx, stop_rx) = mpsc::channel::<()>();
        die_with_parent(&mut command, libc::SIGINT);
        // A Ctrl-C in the terminal is for the parent, which stops the server last.
        command.process_group(0);
        let guardian = std::thread::Builder::new()
            .name("postgres-guardian".into())
            .spawn(move || match command.spawn() {
                Ok(child) => {
                    let _ = started_tx.send(Ok(child.id()));
                    guard(child, &stop_rx, stop_limit)
                }
                Err(source) => {
                    let kind = source.kind();
                    let _ = started_tx.send(Err(source));
                    Err(kind.into())
                }
            })
            .map_err(|source| Error::Io { doing: "start a thread", source })?;
        let pid = started_rx
            .recv()
            .map_err(|_| Error::Io { doing: "start postgres", source: io::Error::other("its thread died") })?
            .map_err(|source| Error::Io { doing: "start postgres", source })?;
        Ok(Self { pid, stop: Some(stop_tx), guardian: Some(guardian) })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.guardian.as_ref().is_none_or(JoinHandle::is_finished)
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

/// Waits until the child ends or a stop is asked for; then SIGINT (PostgreSQL's fast shutdown), then SIGKILL.
fn guard(mut child: Child, stop: &mpsc::Receiver<()>, limit: Duration) -> io::Result<ExitStatus> {
    const LOOK_EVERY: Duration = Duration::from_millis(20);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        match stop.recv_timeout(LOOK_EVERY) {
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    signal(child.id(), libc::SIGINT);
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        std::thread::sleep(LOOK_EVERY);
    }
    child.kill()?;
    child.wait()
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
