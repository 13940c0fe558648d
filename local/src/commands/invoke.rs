//! `callboard invoke`: one invocation with a raw Lambda event.

use super::read_input;
use crate::client::{self, Call};
use crate::instance::Instance;
use crate::{database, runner};
use anyhow::{Context as _, bail};
use std::io::Write as _;
use std::path::Path;

/// Invokes `function` with the event of a file, or `{}`, and prints the raw answer. True if the function succeeded.
///
/// # Errors
/// If there is no instance and no `DATABASE_URL`, or no such function.
pub async fn run(data_dir: &Path, function: &str, event: Option<&Path>) -> anyhow::Result<bool> {
    let payload = event.map_or_else(|| Ok(b"{}".to_vec()), read_input)?;
    serde_json::from_slice::<serde_json::Value>(&payload).context("the event is not JSON")?;
    let (answer, succeeded) = match Instance::find(data_dir) {
        Ok(instance) => {
            let url = format!("{}/2015-03-31/functions/{function}/invocations", instance.lambda_endpoint);
            let answer = client::send(Call::post_bytes(url, payload).limit(client::LONG_LIMIT)).await?;
            let failed = answer.headers.contains_key("x-amz-function-error");
            if !answer.status.is_success() && !failed {
                bail!("{}", answer.problem());
            }
            (answer.body, !failed)
        }
        Err(_) if database::given_url().is_some() => match runner::invoke_once(function, payload).await? {
            Ok(answer) => (answer, true),
            Err(error) => (error.payload().to_string().into(), false),
        },
        Err(error) => return Err(error.context("invoke needs a running instance, or DATABASE_URL")),
    };
    let mut out = std::io::stdout().lock();
    out.write_all(&answer)?;
    out.write_all(b"\n")?;
    Ok(succeeded)
}
