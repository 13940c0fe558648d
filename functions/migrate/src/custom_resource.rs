//! The protocol of CloudFormation's custom resources (AWS CloudFormation User Guide, "Custom resource request objects"
//! and "Custom resource response objects").

use crate::Error;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// One resource, whatever the stack: a replaced id would make CloudFormation delete the old one.
const PHYSICAL_RESOURCE_ID: &str = "callboard-schema";
/// CloudFormation refuses an answer over 4,096 bytes, and a refused answer is a silent one.
const REASON_CHARS_MAX: usize = 1_000;
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// What CloudFormation asks.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CustomResource {
    /// What happens to the resource.
    pub request_type: RequestType,
    /// Where the answer is PUT to; a presigned URL.
    #[serde(rename = "ResponseURL")]
    pub response_url: String,
    /// The stack, repeated in the answer.
    pub stack_id: String,
    /// The request, repeated in the answer.
    pub request_id: String,
    /// The resource's name in the template, repeated in the answer.
    pub logical_resource_id: String,
    /// What the template passes.
    #[serde(default)]
    pub resource_properties: Properties,
}

/// What the template passes. Its member `Code` is there only so that CloudFormation asks again when it differs.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Properties {
    /// Whatever the functions' configuration refers to; its hash is an attribute of the resource.
    #[serde(default)]
    pub configuration: serde_json::Value,
}

impl Properties {
    /// Lower-case hex SHA-256 of the configuration, whatever the order of its members.
    ///
    /// A version of a function is published only when its resource's own text differs, and a parameter's value does not
    /// show there: the template writes this hash into the functions' environment and their versions' description.
    #[must_use]
    pub fn configuration_hash(&self) -> String {
        use sha2::{Digest, Sha256};
        use std::fmt::Write as _;
        let mut configuration = self.configuration.clone();
        configuration.sort_all_objects();
        let digest = Sha256::digest(configuration.to_string().as_bytes());
        digest.iter().fold(String::with_capacity(64), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}

/// What happens to the resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum RequestType {
    /// The stack is made.
    Create,
    /// A property changed: another version of the code, which holds the migrations, or another configuration.
    Update,
    /// The stack is removed.
    Delete,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// The resource is as asked.
    Success,
    /// It is not, and the deployment rolls back.
    Failed,
}

/// The answer.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Response {
    /// How it went.
    pub status: Status,
    /// Why it failed; shown in the stack's events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Always the same.
    pub physical_resource_id: &'static str,
    /// As asked.
    pub stack_id: String,
    /// As asked.
    pub request_id: String,
    /// As asked.
    pub logical_resource_id: String,
    /// Attributes that the template may read: `Version`, `Configuration`.
    pub data: serde_json::Value,
}

impl Response {
    /// The answer to `request`, with the schema's version; `None` inside means that there was nothing to do.
    #[must_use]
    pub fn new(request: &CustomResource, outcome: Result<Option<i32>, Error>) -> Self {
        let (status, reason, data) = match outcome {
            Ok(version) => {
                let mut data =
                    serde_json::json!({ "Configuration": request.resource_properties.configuration_hash() });
                if let Some(version) = version {
                    data["Version"] = version.into();
                }
                (Status::Success, None, data)
            }
            Err(error) => {
                let reason: String = error.to_string().chars().take(REASON_CHARS_MAX).collect();
                tracing::error!(reason, "the schema was not brought up to date");
                (Status::Failed, Some(reason), serde_json::json!({}))
            }
        };
        Self {
            status,
            reason,
            physical_resource_id: PHYSICAL_RESOURCE_ID,
            stack_id: request.stack_id.clone(),
            request_id: request.request_id.clone(),
            logical_resource_id: request.logical_resource_id.clone(),
            data,
        }
    }
}

/// PUTs the answer. The URL comes from CloudFormation itself, not from outside.
///
/// # Errors
/// [`Error::Answer`] if it was not taken.
pub(crate) async fn answer(url: &str, body: Vec<u8>) -> Result<(), Error> {
    // No content type: the URL was signed without one.
    let taken = fetch::trusted_put(url, body.into(), None, ANSWER_LIMIT).await;
    match taken.map_err(|error| Error::Answer(error.to_string()))?.status {
        200..=299 => Ok(()),
        status => Err(Error::Answer(format!("its address answered {status}"))),
    }
}
