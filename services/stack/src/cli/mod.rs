//! The command line.

mod console;
mod dlq;
mod exporter;
mod gaps;
mod query;
mod reset;
mod running;
mod signals;
mod tail;
mod up;
mod verify;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use flight::cli::{ConfigArgs, EXIT_CONFIG, check_config, report};

use crate::component::Component;
use crate::layout::Layout;
use crate::parts::{Part, Parts};
use crate::settings::{ENV_PREFIX, Settings};
use crate::supervisor::Verb;

/// Read when no other is named.
const CONFIG_FILE: &str = "contrail.toml";

/// Starts and watches the local flight-data stack.
#[derive(Debug, Parser)]
#[command(name = "contrail", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start everything, watch it, and stop it on Ctrl-C.
    Up(up::UpArgs),
    /// Stop a running `contrail up`, and all that it started.
    Down,
    /// Show what each component is at.
    Status {
        /// As a list of name, pid, state, since, restarts, port.
        #[arg(long)]
        json: bool,
    },
    /// Start a component that was stopped, and wait until it is ready.
    Start(running::Target),
    /// Stop a component, and leave it so.
    Stop(running::Target),
    /// Stop and start a component, and wait until it is ready.
    Restart(running::Target),
    /// Kill a component with SIGKILL; it is started again, as after any death.
    Kill(running::Target),
    /// Show the end of a component's log.
    Logs(tail::LogsArgs),
    /// Run one of sql/queries, or list them.
    Query(query::QueryArgs),
    /// Account for every event: print a report as JSON, exit 1 on anything missing, doubled or changed.
    Verify(verify::VerifyArgs),
    /// Look for events that are neither in the tables nor among the dead letters: exit 0 if there are none, 1
    /// if there are some, 2 if it cannot be told.
    Gaps(gaps::GapsArgs),
    /// Serve metrics of the whole: lag, age of the newest position, missing and doubled events.
    Exporter(exporter::ExporterArgs),
    /// Show dead letters, and send them on their way again once their cause is mended.
    #[command(subcommand)]
    Dlq(dlq::DlqCommand),
    /// Fetch what the stack runs and is not built here.
    Parts(up::OnlyArgs),
    /// Remove all data and logs.
    Reset(reset::ResetArgs),
    /// Print the settings in effect, or what is wrong with them.
    CheckConfig,
}

/// Why a command failed, in one line.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    let mut cli = Cli::parse();
    if cli.config.config.is_none() && Path::new(CONFIG_FILE).is_file() {
        cli.config.config = Some(PathBuf::from(CONFIG_FILE));
    }
    if matches!(cli.command, Command::CheckConfig) {
        return check_config::<Settings>(ENV_PREFIX, &cli.config);
    }
    let settings: Settings = match cli.config.load(ENV_PREFIX) {
        Ok(settings) => settings,
        Err(error) => return report(&error),
    };
    match run(cli.command, settings) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("contrail: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What a command asks on that has to wait for Kafka and ClickHouse: a thread of its own, which may say that it
/// blocks.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
}

fn run(command: Command, settings: Settings) -> Result<ExitCode, Failure> {
    let layout = Layout::new(&settings)?;
    match command {
        Command::Up(args) => up::up(args, settings)?,
        Command::Down => running::down(&layout)?,
        Command::Status { json } => running::status(&layout, json)?,
        Command::Start(target) => running::ask(layout, settings, Verb::Start, &target)?,
        Command::Stop(target) => running::ask(layout, settings, Verb::Stop, &target)?,
        Command::Restart(target) => running::ask(layout, settings, Verb::Restart, &target)?,
        Command::Kill(target) => running::ask(layout, settings, Verb::Kill, &target)?,
        Command::Logs(args) => tail::logs(&layout, &args)?,
        Command::Query(args) => query::query(layout, settings, &args)?,
        Command::Verify(args) => return verify::run(layout, settings, &args),
        Command::Gaps(args) => return Ok(gaps::run(layout, settings, &args)),
        Command::Exporter(args) => exporter::run(layout, settings, args)?,
        Command::Dlq(command) => return dlq::run(layout, settings, &command),
        Command::Parts(args) => parts(&layout, &settings, args)?,
        Command::Reset(args) => reset::reset(layout, settings, &args)?,
        Command::CheckConfig => return Ok(ExitCode::from(EXIT_CONFIG)),
    }
    Ok(ExitCode::SUCCESS)
}

/// Fetches the parts of what `contrail up` would start.
fn parts(layout: &Layout, settings: &Settings, args: up::OnlyArgs) -> Result<(), Failure> {
    let mut wanted: Vec<Part> = args
        .only
        .unwrap_or_else(|| settings.own())
        .into_iter()
        .filter_map(Part::of)
        .collect();
    // One that is given takes the place of the download.
    wanted.retain(|part| *part != Part::Engine || settings.clickhouse.library.is_none());
    if wanted.is_empty() {
        println!("nothing to fetch");
        return Ok(());
    }
    let fetched = Parts::new(&layout.parts).ensure(&wanted, &|line| println!("{line}"))?;
    if !fetched {
        println!("all parts are in {}", layout.parts.display());
    }
    Ok(())
}

/// Reads a component's name.
fn component(name: &str) -> Result<Component, String> {
    name.parse()
        .map_err(|error: crate::component::UnknownComponent| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
