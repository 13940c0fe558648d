//! HTTP without a client library's opinions: any status is an answer.

use serde_json::Value;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(40);

/// Sends requests to one origin with the same headers.
#[derive(Debug, Clone)]
pub struct Client {
    origin: String,
    headers: Vec<(String, String)>,
    agent: ureq::Agent,
}

/// A status, headers and a body.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Lower-case names, in order.
    pub headers: Vec<(String, String)>,
    /// The body as text.
    pub text: String,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{} is no JSON: {error}", self.text))
    }

    /// The first header of that lower-case name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON, if the status is as expected.
    ///
    /// # Panics
    /// If it is another.
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.json()
    }
}

impl Client {
    /// A client of `http://host:port`.
    #[must_use]
    pub fn new(origin: String) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(LIMIT))
            .allow_non_standard_methods(true)
            .build();
        Self { origin, headers: Vec::new(), agent: config.into() }
    }

    /// The same client with one more header.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// `GET`.
    #[must_use]
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, None)
    }

    /// `POST` of a JSON body.
    #[must_use]
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, Some(("application/json", body.to_string().as_bytes())))
    }

    /// `PATCH` of a JSON body.
    #[must_use]
    pub fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send("PATCH", path, Some(("application/json", body.to_string().as_bytes())))
    }

    /// Any method, with a content type and a body or none.
    ///
    /// # Panics
    /// If nobody answers in time.
    #[must_use]
    pub fn send(&self, method: &str, path: &str, body: Option<(&str, &[u8])>) -> Answer {
        self.try_send(method, path, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// As [`Self::send`], where nobody may answer.
    ///
    /// # Errors
    /// What kept an answer from coming.
    pub fn try_send(
        &self,
        method: &str,
        path: &str,
        body: Option<(&str, &[u8])>,
    ) -> Result<Answer, ureq::Error> {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.origin));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let response = match body {
            Some((content_type, bytes)) => {
                self.agent.run(request.header("content-type", content_type).body(bytes)?)
            }
            None => self.agent.run(request.body(())?),
        };
        let mut response = response?;
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| {
                (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
            })
            .collect();
        let status = response.status().as_u16();
        let text = response.body_mut().read_to_string()?;
        Ok(Answer { status, headers, text })
    }
}
