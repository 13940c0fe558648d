//! Names to addresses, behind a trait so that tests and `fetch-check` can answer in place of DNS.

use futures::future::BoxFuture;
use std::io;
use std::net::IpAddr;

/// Answers a name with its addresses.
pub trait Resolve: Send + Sync {
    /// All addresses of the name, without a final dot, in the order to try them. An empty list and an error both mean
    /// that there is none now.
    ///
    /// # Errors
    /// Whatever the resolver says; it is worth a retry.
    fn lookup<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// The machine's own resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn lookup<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            // The final dot keeps the resolver from trying the search domains of this machine's network, and its hosts file.
            let found = tokio::net::lookup_host((format!("{name}."), 0)).await?;
            let mut addresses = Vec::new();
            for address in found.map(|socket| socket.ip()) {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
            Ok(addresses)
        })
    }
}
