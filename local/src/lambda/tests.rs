//! A function's life, with a process that talks to the Runtime API as any runtime does: this test binary itself, started
//! again as [`a_runtime_for_the_other_tests`].

use super::*;
use crate::client::{self, Call};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Notify;

const SOON: Duration = Duration::from_secs(20);

/// Does what each event says. Run only as a child of the tests below.
#[tokio::test]
#[ignore = "the other tests start it as a child process"]
async fn a_runtime_for_the_other_tests() {
    let variables: BTreeMap<String, String> = std::env::vars().collect();
    let Some(api) = variables.get("AWS_LAMBDA_RUNTIME_API") else { return };
    eprintln!("started");
    if variables.contains_key("ENDS_AT_ONCE") {
        std::process::exit(7);
    }
    let base = format!("http://{api}/2018-06-01/runtime/invocation");
    loop {
        let Ok(next) = client::send(Call::get(format!("{base}/next")).limit(SOON * 100)).await else {
            std::process::exit(0)
        };
        let header = |name: &str| next.headers[name].to_str().unwrap().to_owned();
        let id = header("lambda-runtime-aws-request-id");
        let (path, answer) = match next.json()["do"].as_str() {
            Some("crash") => std::process::exit(9),
            Some("hang") => {
                std::future::pending::<()>().await;
                unreachable!()
            }
            Some("fail") => ("error", json!({"errorType": "Test", "errorMessage": "as asked"})),
            Some("grow") => ("response", "x".repeat(PAYLOAD_BYTES_MAX + 1).into()),
            _ => (
                "response",
                json!({
                    "pid": std::process::id(),
                    "variables": variables,
                    "deadline_ms": header("lambda-runtime-deadline-ms"),
                    "arn": header("lambda-runtime-invoked-function-arn"),
                    "trace": header("lambda-runtime-trace-id"),
                }),
            ),
        };
        let _ = client::send(Call::post(format!("{base}/{id}/{path}"), &answer)).await;
    }
}

fn config(directory: &Path, environment: &[(&str, &str)], timeout: Duration) -> FunctionConfig {
    use std::os::unix::fs::PermissionsExt as _;
    let binary = directory.join("bootstrap");
    let this = std::env::current_exe().unwrap();
    let script = format!(
        "#!/bin/sh\nexec '{}' --exact lambda::tests::a_runtime_for_the_other_tests --ignored --nocapture\n",
        this.display()
    );
    std::fs::write(&binary, script).unwrap();
    std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o755)).unwrap();
    FunctionConfig {
        name: "test".into(),
        logical_id: "Test".into(),
        binary,
        environment: environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        timeout,
        memory_mb: 256,
        limit: 4,
        log: directory.join("test.log"),
    }
}

fn function(directory: &Path, environment: &[(&str, &str)], timeout: Duration) -> Function {
    let config = config(directory, environment, timeout);
    Function::new(config, Spawner::start().unwrap(), Arc::new(Notify::new()))
}

async fn invoke(function: &Function, what: &str) -> Result<Value, InvokeError> {
    let answer = function.invoke(Invocation::new(json!({"do": what}).to_string())).await?;
    Ok(serde_json::from_slice(&answer).unwrap())
}

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < deadline, "it did not come about that {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn is_alive(pid: u32) -> bool {
    // A zombie has ended; nobody but its parent cares.
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| !rest.starts_with('Z')))
}

#[tokio::test]
async fn one_environment_answers_one_event_after_another() {
    let directory = tempfile::tempdir().unwrap();
    let function = function(directory.path(), &[], SOON);
    let first = invoke(&function, "answer").await.unwrap();
    let second = invoke(&function, "answer").await.unwrap();
    assert_eq!(first["pid"], second["pid"]);
    assert_eq!(function.pids(), [u32::try_from(first["pid"].as_u64().unwrap()).unwrap()]);
    function.stop().await;
}

#[tokio::test]
async fn a_process_has_the_function_s_variables_and_lambda_s_and_no_others() {
    let directory = tempfile::tempdir().unwrap();
    let function = function(directory.path(), &[("OWN", "value")], SOON);
    let answer = invoke(&function, "answer").await.unwrap();
    let variables = answer["variables"].as_object().unwrap();
    assert_eq!(variables["OWN"], "value");
    assert_eq!(variables["AWS_LAMBDA_FUNCTION_NAME"], "callboard-Test");
    assert_eq!(variables["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"], "256");
    for name in ["HOME", "USER", "CARGO_MANIFEST_DIR", "DATABASE_URL"] {
        assert!(!variables.contains_key(name), "{name}");
    }
    function.stop().await;
}

#[tokio::test]
async fn an_event_comes_with_a_deadline_since_the_epoch_an_arn_and_a_trace() {
    let directory = tempfile::tempdir().unwrap();
    let function = function(directory.path(), &[], Duration::from_secs(30));
    let before = jiff::Timestamp::now().as_millisecond();
    let answer = invoke(&function, "answer").await.unwrap();
    let after = jiff::Timestamp::now().as_millisecond();
    let deadline: i64 = answer["deadline_ms"].as_str().unwrap().parse().unwrap();
    assert!((before + 30_000..=after + 30_000).contains(&deadline), "{deadline}");
    assert_eq!(answer["arn"], "arn:aws:lambda:us-east-1:123456789012:function:callboard-Test");
    assert!(answer["trace"].as_str().unwrap().starts_with("Root=1-"), "{answer}");
    function.stop().await;
}

#[tokio::test]
async fn a_reported_error_is_handed_on_and_costs_no_environment() {
    let directory = tempfile::tempdir().unwrap();
    let function = function(directory.path(), &[], SOON);
    let pid = invoke(&function, "answer").await.unwrap()["pid"].clone();
    let error = invoke(&function, "fail").await.unwrap_err();
    assert_eq!(error.payload(), json!({"errorType": "Test", "errorMessage": "as asked"}));
    assert_eq!(invoke(&function, "answer").await.unwrap()["pid"], pid);
    function.stop().await;
}

#[tokio::test]
async fn a_process_that_ends_is_told_of_and_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let function = function(directory.path(), &[], SOON);
    let pid = invoke(&function, "answer").await.unwrap()["pid"].as_u64().unwrap();
    let error = invoke(&function, "crash").await.unwrap_err();
    assert!(matches!(error, InvokeError::Crashed { .. }), "{error:?}");
    eventually("a new process runs", || function.pids().iter().any(|new| u64::from(*new) != pid)).await;
    assert!(invoke(&function, "answer").await.is_ok());
    function.stop().await;
}

#[tokio::test]
async fn an_idle_process_that_is_killed_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let function = function(directory.path(), &[], SOON);
    let answer = invoke(&function, "answer").await.unwrap();
    let pid = u32::try_from(answer["pid"].as_u64().unwrap()).unwrap();
    process::signal_group(pid, libc::SIGKILL);
    eventually("a new process runs", || function.pids().first().is_some_and(|new| *new != pid)).await;
    assert!(invoke(&function, "answer").await.is_ok());
    function.stop().await;
}

#[tokio::test]
async fn a_time_out_ends_the_process_and_the_next_event_is_handled() {
    let directory = tempfile::tempdir().unwrap();
    let function = function(directory.path(), &[], Duration::from_secs(2));
    let answer = invoke(&function, "answer").await.unwrap();
    let pid = u32::try_from(answer["pid"].as_u64().unwrap()).unwrap();
    let error = invoke(&function, "hang").await.unwrap_err();
    assert!(matches!(error, InvokeError::TimedOut { .. }), "{error:?}");
    eventually("the process has ended", || !is_alive(pid)).await;
    assert!(invoke(&function, "answer").await.is_ok());
    function.stop().await;
}

#[tokio::test]
async fn an_answer_over_the_limit_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let function = function(directory.path(), &[], SOON);
    let error = invoke(&function, "grow").await.unwrap_err();
    assert_eq!(error.payload()["errorType"], "Function.ResponseSizeTooLarge");
    let too_large = Invocation::new(vec![b' '; PAYLOAD_BYTES_MAX + 1]);
    let error = function.invoke(too_large).await.unwrap_err();
    assert!(matches!(error, InvokeError::EventTooLarge { .. }), "{error:?}");
    function.stop().await;
}

#[tokio::test]
async fn events_at_once_have_environments_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let function = function(directory.path(), &[], Duration::from_secs(3));
    let (hanging, answer) = tokio::join!(invoke(&function, "hang"), async {
        eventually("one is busy", || function.pids().len() == 1).await;
        invoke(&function, "answer").await
    });
    assert!(hanging.is_err());
    assert!(answer.is_ok());
    function.stop().await;
}

#[tokio::test]
async fn a_binary_that_cannot_start_is_not_started_over_and_over() {
    let directory = tempfile::tempdir().unwrap();
    let function = function(directory.path(), &[("ENDS_AT_ONCE", "1")], SOON);
    for _ in 0..5 {
        let error = invoke(&function, "answer").await.unwrap_err();
        assert!(matches!(error, InvokeError::Init { .. }), "{error:?}");
    }
    let log = std::fs::read_to_string(directory.path().join("test.log")).unwrap();
    let starts = log.lines().filter(|line| *line == "started").count();
    assert!((5..=15).contains(&starts), "{starts}");
    function.stop().await;
}

#[tokio::test]
async fn a_stop_leaves_no_process() {
    let directory = tempfile::tempdir().unwrap();
    let function = function(directory.path(), &[], SOON);
    function.warm().await.unwrap();
    let pids = function.pids();
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    function.stop().await;
    assert!(!pids.iter().any(|pid| is_alive(*pid)));
}
