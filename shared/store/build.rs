//! Embeds `migrations/*.sql` as a list, so that a migration is one new file and nothing else.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn main() {
    let manifest = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let directory = Path::new(&manifest).join("../../migrations");
    println!("cargo:rerun-if-changed={}", directory.display());
    let mut files: Vec<PathBuf> = std::fs::read_dir(&directory)
        .expect("the migrations directory can be read")
        .map(|entry| entry.expect("the migrations directory can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
        .collect();
    files.sort();
    let mut code = String::from("&[\n");
    for file in files {
        let name = file.file_name().and_then(|name| name.to_str()).expect("a migration's name is UTF-8");
        let path = file.canonicalize().expect("a listed file exists");
        writeln!(code, "    (\"{name}\", include_str!({path:?})),").expect("writing to a string cannot fail");
    }
    code.push(']');
    let out = std::env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    std::fs::write(
        Path::new(&out).join("embedded.rs"),
        format!("static EMBEDDED: &[(&str, &str)] = {code};"),
    )
    .expect("OUT_DIR is writable");
}
