//! A data directory, and the instance that runs in it.

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

const LOCK_FILE: &str = "lock";
const INSTANCE_FILE: &str = "local.json";

/// What `DIR/local.json` says about a running instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// `http://127.0.0.1:PORT`.
    pub api: String,
    /// The OIDC issuer.
    pub issuer: String,
    /// As the owner of the schema.
    pub database_url: String,
    /// The console of the pooler that the functions go through, if they do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pooler_url: Option<String>,
    /// What the SDK calls `AWS_ENDPOINT_URL_SQS`.
    pub sqs_endpoint: String,
    /// Queue URLs: `wake`, `jobs`, `dead_letters`.
    pub queues: BTreeMap<String, String>,
    /// The bundled site, if it is served.
    pub site: Option<String>,
    /// The directory of the functions' logs.
    pub logs: PathBuf,
    /// Process ids by function.
    pub functions: BTreeMap<String, Vec<u32>>,
    /// Takes `POST /2015-03-31/functions/NAME/invocations`, as Lambda does.
    pub lambda_endpoint: String,
}

/// A data directory that this process alone uses.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// The lock ends with the file, however the process ends.
    _lock: File,
}

impl DataDir {
    /// Makes the directory if there is none, and takes it for this process.
    ///
    /// # Errors
    /// If another instance runs there, or the directory cannot be written.
    pub fn acquire(path: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(path)
            .with_context(|| format!("cannot make the directory {}", path.display()))?;
        let path = std::path::absolute(path)?;
        let lock = open_lock(&path)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!(
                "another callboard runs in {}. Stop it first, or give this one a directory of its own with --data DIR",
                path.display()
            ),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        // Of an instance that was killed.
        let _ = std::fs::remove_file(path.join(INSTANCE_FILE));
        std::fs::create_dir_all(path.join("logs"))?;
        Ok(Self { path, _lock: lock })
    }

    /// The directory, absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where a function's log is.
    #[must_use]
    pub fn log(&self, function: &str) -> PathBuf {
        self.path.join("logs").join(format!("{function}.log"))
    }

    /// Writes `local.json`, whole or not at all.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn publish(&self, instance: &Instance) -> anyhow::Result<()> {
        let file = self.path.join(INSTANCE_FILE);
        let part = self.path.join("local.json.part");
        let text = serde_json::to_string_pretty(instance)?;
        std::fs::write(&part, text + "\n").with_context(|| format!("cannot write {}", part.display()))?;
        std::fs::rename(&part, &file).with_context(|| format!("cannot write {}", file.display()))
    }

    /// Removes `local.json`.
    pub fn withdraw(&self) {
        // Gone already is as good.
        let _ = std::fs::remove_file(self.path.join(INSTANCE_FILE));
    }
}

impl Instance {
    /// The instance that runs in a data directory.
    ///
    /// # Errors
    /// If none does.
    pub fn find(data_dir: &Path) -> anyhow::Result<Self> {
        let none = || {
            format!(
                "no callboard runs in {}. Start one with `cargo callboard up`, or name its directory with --data DIR",
                data_dir.display()
            )
        };
        let text = std::fs::read(data_dir.join(INSTANCE_FILE)).map_err(|_| anyhow::anyhow!(none()))?;
        // A killed instance leaves its file, but not its lock.
        let lock = open_lock(data_dir)?;
        if lock.try_lock().is_ok() {
            bail!(none());
        }
        serde_json::from_slice(&text)
            .with_context(|| format!("cannot read {}", data_dir.join(INSTANCE_FILE).display()))
    }
}

fn open_lock(directory: &Path) -> anyhow::Result<File> {
    let path = directory.join(LOCK_FILE);
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance() -> Instance {
        Instance {
            api: "http://127.0.0.1:8080".into(),
            issuer: String::new(),
            database_url: String::new(),
            pooler_url: None,
            sqs_endpoint: String::new(),
            queues: BTreeMap::new(),
            site: None,
            logs: PathBuf::new(),
            functions: BTreeMap::new(),
            lambda_endpoint: String::new(),
        }
    }

    #[test]
    fn two_instances_cannot_share_a_directory() {
        let root = tempfile::tempdir().unwrap();
        let first = DataDir::acquire(root.path()).unwrap();
        let refusal = DataDir::acquire(root.path()).unwrap_err().to_string();
        assert!(refusal.contains("another callboard runs in"), "{refusal}");
        drop(first);
        assert!(DataDir::acquire(root.path()).is_ok());
    }

    #[test]
    fn an_instance_is_found_only_while_it_runs() {
        let root = tempfile::tempdir().unwrap();
        assert!(Instance::find(root.path()).is_err());
        let directory = DataDir::acquire(root.path()).unwrap();
        directory.publish(&instance()).unwrap();
        assert_eq!(Instance::find(root.path()).unwrap(), instance());
        // As a killed one would leave it: the file, and no lock.
        drop(directory);
        assert!(root.path().join(INSTANCE_FILE).exists());
        let refusal = Instance::find(root.path()).unwrap_err().to_string();
        assert!(refusal.contains("no callboard runs in"), "{refusal}");
    }

    #[test]
    fn a_withdrawn_instance_leaves_no_file() {
        let root = tempfile::tempdir().unwrap();
        let directory = DataDir::acquire(root.path()).unwrap();
        directory.publish(&instance()).unwrap();
        directory.withdraw();
        assert!(!root.path().join(INSTANCE_FILE).exists());
    }
}
