//! `clickhouse-embedded run` and `clickhouse-embedded check-config`.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use clickhouse_embedded::accounts::Accounts;
use clickhouse_embedded::engine::Engine;
use clickhouse_embedded::execute::Core;
use clickhouse_embedded::http;
use clickhouse_embedded::metrics::Metrics;
use clickhouse_embedded::queries::Queries;
use clickhouse_embedded::query_log::QueryLog;
use clickhouse_embedded::sessions::Sessions;
use clickhouse_embedded::settings::{ENV_PREFIX, Settings};
use flight::admin::{self, Admin};
use flight::cli::{self, ConfigArgs};
use flight::shutdown::Shutdown;
use flight::telemetry;

/// How long queries under way may go on after SIGTERM.
const DRAIN: Duration = Duration::from_millis(7500);

/// How long the query log may take to be written at the end.
const LAST_LOG: Duration = Duration::from_millis(500);
/// How often sessions are looked at that may be over.
const EXPIRE_SESSIONS: Duration = Duration::from_secs(5);

/// The ClickHouse HTTP interface over libchdb.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT (the default).
    Run,
    /// Print the settings in effect, or what is wrong with them.
    CheckConfig,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(Command::CheckConfig) = args.command {
        return cli::check_config::<Settings>(ENV_PREFIX, &args.config);
    }
    let settings: Settings = match args.config.load(ENV_PREFIX) {
        Ok(settings) => settings,
        Err(error) => return cli::report(&error),
    };
    // SAFETY: the process has one thread until the runtime below is built, so nothing reads the
    // environment meanwhile. The engine takes its time zone from TZ only, when it is loaded.
    unsafe { std::env::set_var("TZ", &settings.timezone) };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let outcome = runtime.block_on(run(settings));
    // A query that outlived the drain still holds a blocking thread; the runtime must not wait.
    runtime.shutdown_background();
    match outcome {
        Ok(Stopped::Clean) => ExitCode::SUCCESS,
        Ok(Stopped::QueriesLeft) => {
            // SAFETY: ends the process without running exit handlers, which crash in the engine
            // while one of its connections is open. Parts are written whole or not at all.
            unsafe { nix::libc::_exit(0) }
        }
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("clickhouse-embedded: {error:#}");
    ExitCode::FAILURE
}

enum Stopped {
    Clean,
    QueriesLeft,
}

async fn run(settings: Settings) -> anyhow::Result<Stopped> {
    let telemetry = telemetry::init("clickhouse-embedded", &settings.telemetry)
        .context("cannot set up telemetry")?;
    let shutdown = Shutdown::on_signals()?;
    let accounts = Accounts::load(&settings.users).map_err(anyhow::Error::msg)?;
    let admin = Admin::default();
    let metrics = Metrics::register(&mut admin.metrics());
    admin.readiness().require("engine");
    let listener = admin::bind("listen", &settings.listen).await?;

    let (engine, log) = {
        let (settings, dropped) = (settings.clone(), metrics.log_entries_dropped.clone());
        let start = move || {
            let engine = Engine::start(&settings)?;
            let log = QueryLog::start(&engine, settings.query_log_days, dropped)
                .context("cannot start the query log")?;
            Ok::<_, anyhow::Error>((engine, log))
        };
        tokio::task::spawn_blocking(start).await??
    };
    let core = Core {
        engine: Arc::clone(&engine),
        queries: Queries::default(),
        log: log.clone(),
    };
    let sessions = Sessions::new(settings.max_sessions);
    admin.readiness().set("engine", Ok(()));
    tracing::info!(
        listen = %listener.local_addr()?,
        engine = engine.version(),
        data_path = %settings.data_path.display(),
        "ready"
    );

    let router = http::router(http::Server::new(
        &settings,
        core,
        accounts,
        sessions.clone(),
        metrics,
        shutdown.clone(),
    ))
    .merge(admin.router());
    shutdown.spawn(http::serve(listener, router, shutdown.clone()));
    let expiring = sessions.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(EXPIRE_SESSIONS).await;
            let expiring = expiring.clone();
            let _ = tokio::task::spawn_blocking(move || expiring.expire()).await;
        }
    });
    shutdown.requested().await;
    admin
        .readiness()
        .set("engine", Err("shutting down".to_owned()));
    if !shutdown.drained(DRAIN).await {
        tracing::warn!("queries still run {DRAIN:?} after the signal; cancelling them");
        let engine = Arc::clone(&engine);
        let _ = tokio::time::timeout(
            Duration::from_millis(500),
            tokio::task::spawn_blocking(move || engine.kill_all()),
        )
        .await;
    }
    let closed = {
        let engine = Arc::clone(&engine);
        let end = move || {
            sessions.close();
            log.flush(LAST_LOG);
        };
        let _ = tokio::time::timeout(LAST_LOG, tokio::task::spawn_blocking(end)).await;
        tokio::time::timeout(
            Duration::from_millis(1000),
            tokio::task::spawn_blocking(move || engine.close_when_idle(Duration::from_millis(800))),
        )
        .await
    };
    drop(telemetry);
    Ok(match closed {
        Ok(Ok(true)) => Stopped::Clean,
        _ => Stopped::QueriesLeft,
    })
}
