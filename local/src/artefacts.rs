//! Where the function binaries are: given, or built here.

use anyhow::{Context as _, bail};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::Command;

/// Names a directory that has the binaries already; nothing is built then.
pub const BIN_DIR: &str = "CALLBOARD_BIN_DIR";

/// The executables of `functions`, from `CALLBOARD_BIN_DIR` or from one `cargo build` of the repository.
///
/// # Errors
/// If cargo is missing, the build fails (it has told why on standard error), or a binary is not there.
pub async fn find(repository: &Path, functions: &[&str]) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    if let Some(directory) = std::env::var_os(BIN_DIR).filter(|directory| !directory.is_empty()) {
        return given(Path::new(&directory), functions);
    }
    let built = build(repository, functions).await?;
    for function in functions {
        if !built.contains_key(*function) {
            bail!("cargo built no binary named {function}: does functions/{function} have a src/main.rs?");
        }
    }
    Ok(built)
}

fn given(directory: &Path, functions: &[&str]) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    functions
        .iter()
        .map(|function| {
            let path = std::path::absolute(directory.join(function))?;
            if !path.is_file() {
                bail!(
                    "{} is not there: {BIN_DIR} must name a directory that has {}",
                    path.display(),
                    functions.join(", ")
                );
            }
            Ok(((*function).to_owned(), path))
        })
        .collect()
}

async fn build(repository: &Path, functions: &[&str]) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    // Under `cargo run`, the cargo that runs us.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(&cargo);
    command.args(["build", "--quiet", "--bins", "--message-format", "json-render-diagnostics"]);
    for function in functions {
        command.args(["--package", function]);
    }
    command.current_dir(repository).stdin(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
    let output = command.stdout(Stdio::piped()).output().await.with_context(|| {
        format!("cannot run {}: install Rust, or point {BIN_DIR} at built binaries", cargo.display())
    })?;
    if !output.status.success() {
        bail!("the functions do not build; cargo has said why above");
    }
    Ok(executables(&String::from_utf8_lossy(&output.stdout)))
}

/// The executables that cargo's messages name (Cargo book, "JSON messages": `compiler-artifact`).
fn executables(messages: &str) -> BTreeMap<String, PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["reason"] == "compiler-artifact")
        .filter_map(|message| {
            let name = message["target"]["name"].as_str()?.to_owned();
            Some((name, PathBuf::from(message["executable"].as_str()?)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_are_read_from_cargo_s_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"domain","kind":["lib"]},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"api","kind":["bin"]},"executable":"/t/debug/api"}"#,
            "\nnot json\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        assert_eq!(executables(messages), BTreeMap::from([("api".into(), PathBuf::from("/t/debug/api"))]));
    }

    #[test]
    fn a_missing_binary_is_named() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("api"), "").unwrap();
        assert!(given(directory.path(), &["api"]).is_ok());
        let error = given(directory.path(), &["api", "worker"]).unwrap_err().to_string();
        assert!(error.contains("worker is not there"), "{error}");
    }
}
