//! A server for a test that is not written in Rust: `server DIRECTORY` prints the superuser's URL and where the cluster is, and
//! runs until its standard input ends.

use local_postgres::{Durability, Server, StartOptions};
use std::io::Read as _;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: server DIRECTORY")?);
    let server = Server::start(&StartOptions {
        data_dir: directory.join("cluster"),
        npm_cache: directory.join("npm"),
        durability: Durability::Fast,
        pooled_role: None,
    })?;
    println!("{}", server.superuser_url("postgres"));
    println!("{}", server.data_dir().display());
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
