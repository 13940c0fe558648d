//! Starts processes that die with this one.

use std::io;
use std::sync::mpsc;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;

/// Starts every process from one thread that lives as long as the program.
///
/// The kernel's parent-death signal is tied to the *thread* that forked, not to the process: a child that was started from
/// a worker of a thread pool would be killed when that worker retires.
#[derive(Debug, Clone)]
pub struct Spawner {
    requests: mpsc::Sender<Request>,
}

type Request = (Command, oneshot::Sender<io::Result<Child>>);

impl Spawner {
    /// Starts the thread. Call inside a tokio runtime: it watches the processes.
    ///
    /// # Errors
    /// If the system has no thread to give.
    pub fn start() -> io::Result<Self> {
        let (requests, inbox) = mpsc::channel::<Request>();
        let runtime = tokio::runtime::Handle::current();
        std::thread::Builder::new().name("spawner".into()).spawn(move || {
            let _inside = runtime.enter();
            for (mut command, answer) in inbox {
                // Nobody waits any more: the child is killed as the handle is dropped.
                let _ = answer.send(command.spawn());
            }
            // The program is about to end: the thread must not end before it, or every child would die at this moment.
            std::thread::park();
        })?;
        Ok(Self { requests })
    }

    /// Starts `command` in a process group of its own. It is killed when its handle is dropped, and when this program ends
    /// in whatever way.
    ///
    /// # Errors
    /// What the system says.
    pub async fn spawn(&self, mut command: Command) -> io::Result<Child> {
        command.process_group(0).kill_on_drop(true);
        die_with_parent(&mut command);
        let (answer, child) = oneshot::channel();
        self.requests.send((command, answer)).map_err(|_| io::Error::other("the spawning thread is gone"))?;
        child.await.map_err(|_| io::Error::other("the spawning thread is gone"))?
    }
}

/// Asks the kernel to kill the child when the thread that starts it dies.
fn die_with_parent(command: &mut Command) {
    let parent = std::process::id();
    // SAFETY: the closure runs in the forked child and calls only async-signal-safe functions (prctl, getppid).
    #[allow(unsafe_code, reason = "prctl must run between fork and exec")]
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
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

/// Sends `signal` to the group that `pid` leads. `pid` must not have been waited for yet, or it may be another's by now.
pub(super) fn signal_group(pid: u32, signal: i32) {
    let Ok(pid) = i32::try_from(pid) else { return };
    // SAFETY: kill takes two integers; a group that is gone is answered with an error that changes nothing.
    #[allow(unsafe_code, reason = "libc call on integers")]
    unsafe {
        libc::kill(-pid, signal);
    }
}
