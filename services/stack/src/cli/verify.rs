//! `contrail verify`: the account of every event, as JSON.

use std::process::ExitCode;
use std::time::Duration;

use super::Failure;
use crate::components::Context;
use crate::layout::Layout;
use crate::settings::Settings;
use crate::verify::{Sample, VerifySettings, verify};

#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// How many events of each source are compared with what the simulator regenerates: a number,
    /// or `all`.
    #[arg(long, default_value = "10000")]
    sample: Sample,
    /// Longest wait, in seconds, until the ingester has caught up with what is in Kafka now.
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    wait: u64,
}

/// Prints the report; the exit code is 1 if anything is missing, doubled or changed.
pub fn run(layout: Layout, settings: Settings, args: &VerifyArgs) -> Result<ExitCode, Failure> {
    let context = Context::to_ask(layout, settings);
    let settings = VerifySettings {
        sample: args.sample,
        wait: Duration::from_secs(args.wait),
        ..VerifySettings::of(&context)
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let report = runtime.block_on(verify(&settings))?;
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(match report.ok {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
