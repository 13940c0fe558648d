//! A Lambda function that does nothing, built as the others are: what a cold start costs at the least. `deploy/coldstart`
//! measures the functions beside it.

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    run(service_fn(|_: LambdaEvent<Value>| async {
        Ok::<_, Error>(json!({ "statusCode": 200, "body": "{}" }))
    }))
    .await
}
