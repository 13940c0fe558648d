//! What a result of `extract` says, and who may say it.

use super::fetched::Fetched;
use crate::{ApplyError, ResultOrigin};
use domain::extract::Extraction;
use domain::posting::FieldError;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The worker's own result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OwnResult {
    /// What was read.
    pub(super) extraction: Extraction,
    /// From what.
    pub(super) fetched: Fetched,
}

/// A result whose form is checked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Report {
    /// What was read.
    pub(super) extraction: Extraction,
    /// What callboard's own fetch brought; none for a processor's result.
    pub(super) fetched: Option<Fetched>,
}

impl Report {
    /// Reads a result by the rules of its origin: the worker's as it was made, a processor's against the schema.
    ///
    /// # Errors
    /// [`ApplyError::Invalid`] with everything that is wrong.
    pub(super) fn read(result: Value, by: &ResultOrigin) -> Result<Self, ApplyError> {
        match by {
            ResultOrigin::Worker => {
                let own: OwnResult = serde_json::from_value(result).map_err(|error| {
                    ApplyError::Invalid(vec![FieldError {
                        pointer: String::new(),
                        code: "invalid_type",
                        detail: error.to_string(),
                    }])
                })?;
                Ok(Self { extraction: own.extraction, fetched: Some(own.fetched) })
            }
            ResultOrigin::Module { .. } => {
                let extraction = Extraction::from_processor(&result).map_err(ApplyError::Invalid)?;
                Ok(Self { extraction, fetched: None })
            }
        }
    }
}
