//! The end of an environment. AWS sends SIGTERM to a function's own process only if an extension is registered (AWS, "Lambda
//! runtime environment lifecycle", Shutdown phase), so where telemetry is exported this process registers as one that
//! wants no events. It has 500 ms then.

use crate::flush::BUDGET;
use crate::global::{self, Global};
use crate::otlp::Wanted;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The runtime API answers at once, or there is none.
const REGISTER_LIMIT: Duration = Duration::from_millis(500);
const EXTENSIONS: &str = "/2020-01-01/extension";
const NAME: &str = "callboard-telemetry";

/// Watches for SIGTERM, and asks for it where the environment is Lambda's.
pub(crate) async fn watch(global: &'static Global) {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
    if let Ok(address) = std::env::var("AWS_LAMBDA_RUNTIME_API") {
        match tokio::time::timeout(REGISTER_LIMIT, register(&address)).await {
            Ok(Ok(())) => {}
            // Elsewhere (a runtime without extensions) the signal comes anyway, or never.
            Ok(Err(error)) => tracing::debug!(error, "no extension could be registered"),
            Err(_) => tracing::debug!("registering an extension took too long"),
        }
    }
    tokio::spawn(async move {
        if Signal::recv(&mut terminate).await.is_some() {
            end(global).await;
            std::process::exit(0);
        }
    });
}

/// Sends what can still be sent, and tells what became of everything.
async fn end(global: &Global) {
    let Some(pipeline) = &global.pipeline else { return };
    pipeline.flush(&global.meter, BUDGET, Wanted::All).await;
    for (signal, totals) in pipeline.close() {
        tracing::info!(
            signal = signal.as_str(),
            made = totals.made,
            sent = totals.sent,
            dropped = totals.dropped,
            "telemetry ended"
        );
    }
    global.write_embedded();
}

/// Registers (AWS, "Lambda Extensions API"). The first `next` says that the extension is ready; it is never answered, since
/// no events were asked for, and its connection stays open as long as the process lives.
async fn register(address: &str) -> Result<(), String> {
    let request = Request::post(format!("{EXTENSIONS}/register"))
        .header("Lambda-Extension-Name", NAME)
        .header("Host", address)
        .body(Full::new(Bytes::from_static(b"{\"events\":[]}")))
        .map_err(|error| error.to_string())?;
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
    if !answer.status().is_success() {
        return Err(format!("the runtime answered {}", answer.status()));
    }
    let id = answer.headers().get("Lambda-Extension-Identifier").cloned().ok_or("it gave no identifier")?;
    // The connection takes the next request once this answer was read.
    let _ = answer.into_body().collect().await;
    let next = Request::get(format!("{EXTENSIONS}/event/next"))
        .header("Lambda-Extension-Identifier", id)
        .header("Host", address)
        .body(Full::default())
        .map_err(|error| error.to_string())?;
    tokio::spawn(async move {
        if sender.ready().await.is_ok() {
            let _ = sender.send_request(next).await;
        }
        std::future::pending::<()>().await;
    });
    Ok(())
}

/// Starts what only an exporting process needs.
pub(crate) async fn start() {
    if let Some(global) = global::get()
        && global.pipeline.is_some()
    {
        watch(global).await;
    }
}
