//! `callboard extract`: what the worker would read from a page, without an instance.

use anyhow::Context as _;
use domain::extract::{ExtractContext, Extraction, Page, extract};
use domain::posting::Hints;
use domain::state::TrustLevel;
use domain::url::Rules;
use fetch::{Allowed, FetchConfig, Fetcher, Request, RequestKind};
use jiff::Timestamp;
use std::net::SocketAddr;
use std::path::Path;

use super::read_input;
use crate::instance::Instance;

/// What to read, and as what.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// A URL to fetch, or a file (- for standard input) that is read as the body of a response
    #[arg(value_name = "PATH|URL")]
    page: String,
    /// The URL that the body of PATH came from [default: https://example.org/]
    #[arg(long)]
    url: Option<String>,
    /// The status that it came with
    #[arg(long, default_value_t = 200)]
    status: u16,
    /// The media type that it came with; without it, it came with none
    #[arg(long, value_name = "T")]
    content_type: Option<String>,
    /// A header that it came with; may be repeated
    #[arg(long = "header", value_name = "K: V", value_parser = header)]
    headers: Vec<(String, String)>,
    /// The time at which deadlines are judged; now by default
    #[arg(long, value_name = "TIME")]
    now: Option<Timestamp>,
    /// Hint members of POST /discoveries, as a JSON object
    #[arg(long, value_name = "JSON", value_parser = hints)]
    hints: Option<Hints>,
}

/// Where a file came from, if nothing else is said.
const ANY_URL: &str = "https://example.org/";

/// A response, wherever it came from.
struct Response {
    url: String,
    submitted_url: String,
    status: u16,
    headers: Vec<(String, String)>,
    content_type: Option<String>,
    body: Vec<u8>,
}

/// Prints the extraction as JSON. `data_dir` is where an instance may run, whose bundled site may be fetched.
///
/// # Errors
/// If the file cannot be read, or the page not be fetched.
pub async fn run(options: &Options, data_dir: &Path) -> anyhow::Result<()> {
    let response = if options.page.starts_with("http://") || options.page.starts_with("https://") {
        fetched(&options.page, data_dir).await?
    } else {
        given(options)?
    };
    let now = options.now.unwrap_or_else(Timestamp::now);
    let extraction = read(&response, now, options.hints.as_ref());
    println!("{}", serde_json::to_string_pretty(&extraction)?);
    Ok(())
}

fn read(response: &Response, now: Timestamp, hints: Option<&Hints>) -> Extraction {
    let page = Page {
        url: &response.url,
        submitted_url: &response.submitted_url,
        status: response.status,
        headers: &response.headers,
        content_type: response.content_type.as_deref(),
        body: &response.body,
    };
    let rules = Rules::builtin();
    extract(&page, &ExtractContext { now, rules: &rules, hints, module_trust: TrustLevel::Trusted })
}

/// The file as the body of a response.
fn given(options: &Options) -> anyhow::Result<Response> {
    let body = read_input(Path::new(&options.page))?;
    let url = match &options.url {
        Some(url) => url.clone(),
        None => ANY_URL.to_owned(),
    };
    let mut headers = options.headers.clone();
    let named = headers.iter().find(|(name, _)| name == "content-type").map(|(_, value)| value.clone());
    let content_type = options.content_type.clone().or(named);
    if let Some(value) = &options.content_type {
        headers.retain(|(name, _)| name != "content-type");
        headers.push(("content-type".into(), value.clone()));
    }
    Ok(Response { submitted_url: url.clone(), url, status: options.status, headers, content_type, body })
}

/// The page as the worker would fetch it: politely, and only from the public web, the bundled site aside.
async fn fetched(url: &str, data_dir: &Path) -> anyhow::Result<Response> {
    let mut config = FetchConfig::from_env()?;
    config.allow.extend(site_of(data_dir).map(|address| Allowed { address, paced: false }));
    let response = Fetcher::in_memory(config)
        .get(&Request::new(url, RequestKind::Page))
        .await
        .with_context(|| format!("cannot fetch {url}"))?;
    Ok(Response {
        url: response.final_url,
        submitted_url: url.to_owned(),
        status: response.status,
        headers: response.headers,
        content_type: response.content_type,
        body: response.body.to_vec(),
    })
}

/// The address of the bundled site, if an instance serves it.
fn site_of(data_dir: &Path) -> Option<SocketAddr> {
    let instance = Instance::find(data_dir).ok()?;
    instance.site?.strip_prefix("http://")?.parse().ok()
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) =
        text.split_once(':').ok_or("a header is expected, such as 'X-Robots-Tag: noindex'")?;
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

fn hints(text: &str) -> Result<Hints, String> {
    let hints: Hints = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let errors: Vec<String> =
        hints.validate().iter().map(|error| format!("{}: {}", error.pointer, error.detail)).collect();
    if errors.is_empty() { Ok(hints) } else { Err(errors.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_split_at_the_first_colon() {
        assert_eq!(header("Link: <a:b>"), Ok(("link".into(), "<a:b>".into())));
        assert!(header("nothing").is_err());
    }

    #[test]
    fn hints_are_checked_as_the_api_checks_them() {
        assert!(hints(r#"{"title_hint": "PhD position"}"#).is_ok());
        assert!(hints(r#"{"titel_hint": "PhD position"}"#).is_err());
        assert!(hints(&format!(r#"{{"title_hint": "{}"}}"#, "x".repeat(301))).is_err());
    }
}
