//! Whether the tests of the ledger notice when one of its guards is broken: a token that is not compared, a lock that is not
//! taken, an order that is not kept.
//!
//! `cargo test -p ledger --test mutations -- --ignored --nocapture` breaks each guard of [`list`] in turn, in a copy of the
//! tree, and runs the tests that should notice. `CALLBOARD_MUTATIONS` chooses those whose name contains its text.

#![allow(clippy::unwrap_used, reason = "helpers of tests, outside of test functions")]

mod list;
mod run;

use list::{MUTATIONS, Mutation};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

impl Mutation {
    /// The file's text with the change.
    ///
    /// # Errors
    /// What does not fit, for a person.
    fn applied_to(&self, text: &str) -> Result<String, String> {
        let one = |pattern: &str, text: &str| match text.matches(pattern).count() {
            1 => Ok(text.find(pattern).unwrap()),
            count => Err(format!("{:?}: {pattern:?} is {count} times in {}", self.name, self.file)),
        };
        let begin = one(self.within, text)?;
        let length = text[begin..].find("\n\n").unwrap_or(text.len() - begin);
        let section = &text[begin..begin + length];
        let at = begin + one(self.from, section)?;
        if self.from == self.to {
            return Err(format!("{:?} changes nothing", self.name));
        }
        Ok([&text[..at], self.to, &text[at + self.from.len()..]].concat())
    }
}

#[test]
fn every_mutation_still_fits_its_file() {
    let root = root();
    let problems: Vec<String> = MUTATIONS
        .iter()
        .filter_map(|mutation| {
            let text = std::fs::read_to_string(root.join(mutation.file)).unwrap();
            mutation.applied_to(&text).err()
        })
        .collect();
    assert!(problems.is_empty(), "{problems:#?}");
    let names: BTreeSet<_> = MUTATIONS.iter().map(|mutation| mutation.name).collect();
    assert_eq!(names.len(), MUTATIONS.len(), "two have one name");
}

#[test]
fn every_test_that_should_notice_exists() {
    let tests = root().join("shared/ledger/tests/ledger");
    for mutation in MUTATIONS {
        for test in mutation.caught_by {
            let (module, name) = test.split_once("::").unwrap();
            let file = [format!("{module}.rs"), format!("{module}/mod.rs")]
                .into_iter()
                .map(|file| tests.join(file))
                .find(|file| file.exists())
                .unwrap_or_else(|| panic!("no file for {test}"));
            let text = std::fs::read_to_string(file).unwrap();
            let is_there = text.contains(&format!("fn {name}(")) || text.contains(&format!("    {name}: "));
            assert!(is_there, "{test} does not exist");
        }
    }
}

#[test]
#[ignore = "builds the ledger once for each guard: tens of minutes"]
fn every_broken_guard_is_noticed() {
    let chosen = std::env::var("CALLBOARD_MUTATIONS").unwrap_or_default();
    let mut mutations: Vec<&Mutation> =
        MUTATIONS.iter().filter(|mutation| mutation.name.contains(&chosen)).collect();
    assert!(!mutations.is_empty(), "no mutation is called like {chosen:?}");
    // Those of migrations need no build, and are run first, with the unchanged code.
    mutations.sort_by_key(|mutation| !mutation.file.starts_with("migrations/"));
    let copy = run::Copy::new(&root());
    let all: BTreeSet<&str> = mutations.iter().flat_map(|mutation| mutation.caught_by).copied().collect();
    let before = copy.test(&all);
    let broken: Vec<_> = all.iter().filter(|test| before.outcomes.get(**test) != Some(&true)).collect();
    assert!(broken.is_empty(), "these tests fail without any change: {broken:#?}\n{}", before.output);

    let mut survived = BTreeMap::new();
    for mutation in mutations {
        let told = copy.with(mutation, || {
            let tests = mutation.caught_by.iter().copied().collect();
            copy.test(&tests)
        });
        let blind: Vec<_> =
            mutation.caught_by.iter().filter(|test| told.outcomes.get(**test) != Some(&false)).collect();
        let verdict = if blind.is_empty() && !told.is_malformed() { "noticed" } else { "SURVIVED" };
        println!("| {} | {verdict} | {} |", mutation.name, mutation.caught_by.join(", "));
        if verdict != "noticed" {
            survived.insert(mutation.name, told.output);
        }
    }
    assert!(survived.is_empty(), "{survived:#?}");
}
