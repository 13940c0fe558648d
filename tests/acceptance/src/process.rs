//! Processes as the system shows them under /proc.

use std::sync::atomic::{AtomicU32, Ordering};

static SHARED: AtomicU32 = AtomicU32::new(0);

/// Asks a child to stop when this process ends, and waits for it: statics are never dropped.
pub(crate) fn stop_at_exit(pid: u32) {
    extern "C" fn stop() {
        let pid = SHARED.load(Ordering::Relaxed);
        signal(pid, libc::SIGTERM);
        let mut status = 0;
        #[allow(unsafe_code, reason = "waitpid writes one integer that lives as long as the call")]
        // SAFETY: `status` is a valid pointer for the call.
        unsafe {
            libc::waitpid(i32::try_from(pid).unwrap_or(i32::MAX), &raw mut status, 0);
        }
    }
    SHARED.store(pid, Ordering::Relaxed);
    #[allow(unsafe_code, reason = "the only way to run code when a test process ends")]
    // SAFETY: `stop` is a plain function that does not unwind across the boundary.
    unsafe {
        libc::atexit(stop);
    }
}

/// Sends a signal; a process that is gone is no failure.
pub fn signal(pid: u32, signal: i32) {
    let Ok(pid) = i32::try_from(pid) else { return };
    #[allow(unsafe_code, reason = "kill takes two integers")]
    // SAFETY: kill has no preconditions; an unknown pid is answered with an error.
    unsafe {
        libc::kill(pid, signal);
    }
}

/// Whether the process exists and is not a zombie.
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    state_of(pid).is_some_and(|state| state != 'Z')
}

/// The process's state: `R`, `S`, `T` (stopped), `Z` …; `None` if there is none.
#[must_use]
pub fn state_of(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the command in parentheses, and may hold spaces and parentheses itself.
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// All processes below `pid`, its children's children too.
#[must_use]
pub fn children_of(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut parents = vec![pid];
    let all: Vec<(u32, u32)> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid: u32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
            Some((pid, parent))
        })
        .collect();
    while let Some(parent) = parents.pop() {
        for (child, _) in all.iter().filter(|(_, of)| *of == parent) {
            found.push(*child);
            parents.push(*child);
        }
    }
    found
}
