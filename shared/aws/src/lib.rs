//! What Lambda tells a function of AWS: credentials, region and endpoints, all by environment variables.
//!
//! The SDK's own loader (`aws-config`) also knows profiles, instance metadata, containers, web identities and single sign-on. A
//! function has none of them, and pays for them at every cold start (docs/decisions/0008).

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, Result, future};

/// The credentials of the function's role. Lambda sets them once for an environment, and ends it before they expire (AWS
/// Lambda Developer Guide, "Defined runtime environment variables").
#[derive(Debug, Clone, Copy, Default)]
pub struct EnvironmentCredentials;

impl EnvironmentCredentials {
    /// Reads `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`.
    ///
    /// # Errors
    /// [`CredentialsError::not_loaded`], which names the first variable that is missing or empty.
    pub fn read(self) -> Result {
        of(variable)
    }
}

impl ProvideCredentials for EnvironmentCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(self.read())
    }
}

/// The region that the function runs in: `AWS_REGION`, else `AWS_DEFAULT_REGION`.
#[must_use]
pub fn region() -> Option<String> {
    variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"))
}

/// Where a service is, if not where AWS has it: `AWS_ENDPOINT_URL_<service>`, else `AWS_ENDPOINT_URL` (AWS SDKs and Tools
/// Reference Guide, "Service-specific endpoints").
///
/// `service`: as the variable's name has it, such as `SQS`.
#[must_use]
pub fn endpoint(service: &str) -> Option<String> {
    variable(&format!("AWS_ENDPOINT_URL_{service}")).or_else(|| variable("AWS_ENDPOINT_URL"))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

fn of(variable: impl Fn(&str) -> Option<String>) -> Result {
    let needed =
        |name: &str| variable(name).ok_or_else(|| CredentialsError::not_loaded(format!("{name} is not set")));
    Ok(Credentials::new(
        needed("AWS_ACCESS_KEY_ID")?,
        needed("AWS_SECRET_ACCESS_KEY")?,
        variable("AWS_SESSION_TOKEN"),
        None,
        "environment",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    fn read(variables: &[(&str, &str)]) -> Result {
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
        of(|name| find(name).map(str::to_owned))
    }

    #[test]
    fn credentials_are_what_the_variables_say() {
        let key = ("AWS_ACCESS_KEY_ID", "AKID");
        let secret = ("AWS_SECRET_ACCESS_KEY", "secret");
        let role = read(&[key, secret, ("AWS_SESSION_TOKEN", "token")]).ok();
        let user = read(&[key, secret]).ok();
        assert_eq!(role.as_ref().map(Credentials::access_key_id), Some("AKID"));
        assert_eq!(role.as_ref().map(Credentials::secret_access_key), Some("secret"));
        assert_eq!(role.as_ref().and_then(Credentials::session_token), Some("token"));
        assert_eq!(user.as_ref().and_then(Credentials::session_token), None);
        assert_eq!(user.and_then(|user| user.expiry()), None, "nothing is asked for again");
    }

    #[test]
    fn what_is_missing_is_named() {
        for (given, missing) in
            [(vec![], "AWS_ACCESS_KEY_ID"), (vec![("AWS_ACCESS_KEY_ID", "AKID")], "AWS_SECRET_ACCESS_KEY")]
        {
            let error = read(&given).err();
            let source = error.as_ref().and_then(|error| error.source()).map(ToString::to_string);
            assert!(source.is_some_and(|text| text.contains(missing)), "{error:?}");
        }
    }

    #[test]
    fn the_provider_answers_at_once() {
        let answered = futures::FutureExt::now_or_never(EnvironmentCredentials.provide_credentials());
        assert!(answered.is_some());
    }
}
