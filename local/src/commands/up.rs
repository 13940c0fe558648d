//! `callboard up`: everything in the foreground, until it is told to stop.

use crate::runner::{Options, Runner};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Runs until Ctrl-C, SIGTERM or SIGHUP; then stops everything.
///
/// # Errors
/// If something cannot be started.
pub async fn run(options: &Options) -> anyhow::Result<()> {
    let mut stop = Stop::listen()?;
    let started = tokio::select! {
        started = Runner::start(options, &|step| eprintln!("{step} …")) => started,
        // What has been started dies with this process.
        () = stop.asked() => anyhow::bail!("stopped before everything was up"),
    };
    let runner = started?;
    let instance = runner.instance();
    println!("ready {}", instance.api);
    eprintln!("catalogue  {}/", instance.api);
    if let Some(site) = &instance.site {
        eprintln!("site       {site}/");
    }
    if let Some(pooler) = &instance.pooler_url {
        eprintln!("pooler     {pooler} (the functions' way to the database; SHOW STATS)");
    }
    eprintln!("logs       {}", instance.logs.display());
    eprintln!("Ctrl-C stops it.");
    stop.asked().await;
    eprintln!("stopping …");
    runner.stop().await;
    Ok(())
}

/// The signals that end a program in the foreground.
pub(super) struct Stop {
    signals: [Signal; 3],
}

impl Stop {
    pub(super) fn listen() -> anyhow::Result<Self> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [interrupt, terminate, hangup] = kinds.map(signal);
        Ok(Self { signals: [interrupt?, terminate?, hangup?] })
    }

    pub(super) async fn asked(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
