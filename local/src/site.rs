//! The bundled web site: real pages on a real address, to be discovered.
//!
//! Start at [`Site::start`]. `local/site/site.json` lists the pages and what should become of each ([`manifest`]); what a
//! page cannot know when it is written is filled in as it is sent ([`render`]). The port is kept in the data directory,
//! so that a URL found yesterday is still there today.

pub mod manifest;
pub mod render;

use crate::serve::{LOOPBACK, Server};
use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};
use bytes::Bytes;
use jiff::Timestamp;
use manifest::{Manifest, SiteDiscovery, SitePage};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

const PORT_FILE: &str = "site-port";

/// The running site.
#[derive(Debug)]
pub struct Site {
    manifest: Manifest,
    server: Server,
}

#[derive(Debug)]
struct Served {
    base: String,
    pages: HashMap<String, Stored>,
}

/// A page as it is on disk.
#[derive(Debug)]
struct Stored {
    page: SitePage,
    body: Vec<u8>,
}

impl Manifest {
    /// Reads `local/site/site.json` of the repository.
    ///
    /// # Errors
    /// If it is missing or has another shape.
    pub fn read(repository: &Path) -> anyhow::Result<Self> {
        let path = directory(repository).join("site.json");
        let context = || format!("cannot read {}", path.display());
        serde_json::from_slice(&std::fs::read(&path).with_context(context)?).with_context(context)
    }
}

fn directory(repository: &Path) -> PathBuf {
    repository.join("local").join("site")
}

impl Site {
    /// Serves every page of the manifest.
    ///
    /// # Errors
    /// If the manifest or a file is missing.
    pub async fn start(repository: &Path, data_dir: &Path) -> anyhow::Result<Self> {
        let manifest = Manifest::read(repository)?;
        let mut pages = HashMap::new();
        for page in &manifest.pages {
            let body = match &page.file {
                None => Vec::new(),
                Some(file) => {
                    let path = directory(repository).join("pages").join(file);
                    std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?
                }
            };
            pages.insert(page.path.clone(), Stored { page: page.clone(), body });
        }
        let listener = bind(&data_dir.join(PORT_FILE)).await.context("the bundled site cannot listen")?;
        let base = format!("http://{}", listener.local_addr()?);
        let served = Arc::new(Served { base, pages });
        let server = Server::on(listener, Router::new().fallback(serve).with_state(served))?;
        Ok(Self { manifest, server })
    }

    /// The manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The origin, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The URL of what the demonstration hands in.
    #[must_use]
    pub fn url_of(&self, discovery: &SiteDiscovery) -> String {
        format!("{}{}", self.url(), discovery.path)
    }
}

/// The remembered port if it is free, else any.
async fn bind(port_file: &Path) -> std::io::Result<TcpListener> {
    let remembered = std::fs::read_to_string(port_file).ok().and_then(|text| text.trim().parse::<u16>().ok());
    let listener = match TcpListener::bind((LOOPBACK, remembered.unwrap_or(0))).await {
        Ok(listener) => listener,
        Err(_) if remembered.is_some() => TcpListener::bind((LOOPBACK, 0)).await?,
        Err(error) => return Err(error),
    };
    std::fs::write(port_file, listener.local_addr()?.port().to_string())?;
    Ok(listener)
}

async fn serve(State(served): State<Arc<Served>>, request: Request) -> Response<Body> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return plain(StatusCode::METHOD_NOT_ALLOWED);
    }
    let Some(stored) = served.pages.get(request.uri().path()) else {
        return plain(StatusCode::NOT_FOUND);
    };
    tokio::time::sleep(Duration::from_millis(stored.page.delay_ms)).await;
    let known = request.headers().get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    answer(stored, &served.base, known, Timestamp::now()).unwrap_or_else(|error| {
        tracing::warn!(path = stored.page.path, "site.json: {error:#}");
        plain(StatusCode::INTERNAL_SERVER_ERROR)
    })
}

fn answer(
    stored: &Stored,
    base: &str,
    known: Option<&str>,
    now: Timestamp,
) -> anyhow::Result<Response<Body>> {
    let page = &stored.page;
    let body = Bytes::from(render::render(&stored.body, base, now));
    let digest = Sha256::digest(&body);
    let tag: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let tag = format!("\"{tag}\"");
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::from_u16(page.status)?;
    let headers = response.headers_mut();
    headers.insert(header::ETAG, HeaderValue::from_str(&tag)?);
    for (name, value) in &page.headers {
        let value = render::render(value.as_bytes(), base, now);
        headers.append(HeaderName::try_from(name)?, HeaderValue::from_bytes(&value)?);
    }
    if let Some(target) = &page.redirect {
        headers.insert(header::LOCATION, HeaderValue::from_str(target)?);
    }
    if page.status == 200 && known.is_some_and(|known| known.contains(&tag)) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        *response.body_mut() = Body::from(body);
    }
    Ok(response)
}

fn plain(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::from(status.canonical_reason().unwrap_or_default()));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(page: serde_json::Value, body: &str) -> Stored {
        Stored { page: serde_json::from_value(page).unwrap(), body: body.into() }
    }

    fn at(stored: &Stored, known: Option<&str>) -> Response<Body> {
        answer(stored, "http://site", known, "2026-11-25T22:00:00Z".parse().unwrap()).unwrap()
    }

    #[test]
    fn a_page_that_did_not_change_is_not_sent_again() {
        let page = stored(serde_json::json!({"path": "/a"}), "{{base}}");
        let first = at(&page, None);
        let tag = first.headers()[header::ETAG].to_str().unwrap().to_owned();
        assert_eq!(first.status(), 200);
        assert_eq!(at(&page, Some(&tag)).status(), 304);
        assert_eq!(at(&page, Some("\"other\"")).status(), 200);
    }

    #[test]
    fn a_redirect_names_its_target() {
        let page = stored(serde_json::json!({"path": "/a", "status": 302, "redirect": "/b"}), "");
        let response = at(&page, None);
        assert_eq!(
            (response.status().as_u16(), &response.headers()[header::LOCATION]),
            (302, &"/b".parse().unwrap())
        );
    }

    #[test]
    fn every_file_and_header_of_the_manifest_can_be_served() {
        let repository = crate::template::repository();
        for page in Manifest::read(&repository).unwrap().pages {
            let body = page.file.as_ref().map(|file| {
                let path = directory(&repository).join("pages").join(file);
                std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
            });
            let stored = Stored { page, body: body.unwrap_or_default() };
            assert_eq!(at(&stored, None).status().as_u16(), stored.page.status, "{}", stored.page.path);
        }
    }
}
