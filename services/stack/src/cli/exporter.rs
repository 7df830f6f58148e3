//! `contrail exporter`: metrics of the whole.

use std::time::Duration;

use super::Failure;
use crate::components::Context;
use crate::exporter::{Schedule, run as export};
use crate::layout::Layout;
use crate::settings::Settings;
use crate::verify::VerifySettings;

#[derive(Debug, clap::Args)]
pub struct ExporterArgs {
    /// Address of the metrics.
    #[arg(long, default_value = "127.0.0.1:8003", value_name = "ADDRESS")]
    listen: String,
    /// Seconds between two accounts of what is new.
    #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    account_every: u64,
    /// Seconds between two accounts that look at all events; the first one does.
    #[arg(long, default_value_t = 21_600, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    full_every: u64,
}

pub fn run(layout: Layout, settings: Settings, args: ExporterArgs) -> Result<(), Failure> {
    let context = Context::to_ask(layout, settings);
    let schedule = Schedule {
        listen: args.listen,
        account_every: Duration::from_secs(args.account_every),
        full_every: Duration::from_secs(args.full_every),
    };
    let settings = VerifySettings::of(&context);
    let runtime = super::runtime()?;
    runtime.block_on(export(settings, context.layout, schedule))
}
