//! A copy of the tree in which guards are broken and tests are run.

use crate::list::Mutation;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A broken guard may make a test wait for ever; that is noticed as well. Longer than a build and the longest test.
const LIMIT: Duration = Duration::from_secs(600);
/// What the build does not need, or makes itself.
const LEFT_OUT: [&str; 3] = [".git", "target", "node_modules"];

pub(crate) struct Copy {
    root: PathBuf,
    target: PathBuf,
}

/// What the tests said.
pub(crate) struct Told {
    /// By test: whether it passed. One that never came to its end is not there, unless the run was cut short.
    pub(crate) outcomes: BTreeMap<String, bool>,
    pub(crate) output: String,
}

impl Told {
    /// A change that the compiler or the server does not understand breaks no guard (class 42: syntax, unknown names, rights).
    pub(crate) fn is_malformed(&self) -> bool {
        self.output.contains("SqlState(E42") || self.output.contains("could not compile")
    }
}

impl Copy {
    pub(crate) fn new(tree: &Path) -> Self {
        let temporary = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let root = temporary.join("mutations");
        if root.exists() {
            std::fs::remove_dir_all(&root).unwrap();
        }
        copy(tree, &root);
        // Dependencies are taken from where they were built for this test.
        Self { root, target: temporary.parent().unwrap().to_owned() }
    }

    /// Runs `work` while the guard is broken.
    pub(crate) fn with<T>(&self, mutation: &Mutation, work: impl FnOnce() -> T) -> T {
        let file = self.root.join(mutation.file);
        let whole = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, mutation.applied_to(&whole).unwrap()).unwrap();
        let result = work();
        std::fs::write(&file, whole).unwrap();
        result
    }

    pub(crate) fn test(&self, tests: &BTreeSet<&str>) -> Told {
        let log = self.root.join("tests.log");
        let out = File::create(&log).unwrap();
        let mut child = Command::new(env!("CARGO"))
            .args(["test", "--package", "ledger", "--test", "ledger", "--", "--exact"])
            .args(tests)
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("CALLBOARD_TEST_MIGRATIONS", self.root.join("migrations"))
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        let limit = Instant::now() + LIMIT;
        let is_cut_short = loop {
            if child.try_wait().unwrap().is_some() {
                break false;
            }
            if Instant::now() > limit {
                child.kill().unwrap();
                child.wait().unwrap();
                break true;
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        let output = std::fs::read_to_string(&log).unwrap();
        let mut outcomes: BTreeMap<String, bool> = BTreeMap::new();
        for test in tests {
            let says = |word: &str| output.contains(&format!("test {test} ... {word}"));
            let (passed, failed) =
                (says("ok"), output.contains(&format!("\n    {test}\n")) || says("FAILED"));
            if passed || failed || is_cut_short {
                outcomes.insert((*test).to_owned(), passed && !failed);
            }
        }
        Told { outcomes, output }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        if LEFT_OUT.iter().any(|left_out| name == *left_out) {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(name));
        } else {
            std::fs::copy(entry.path(), to.join(name)).unwrap();
        }
    }
}
