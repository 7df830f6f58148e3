//! `contrail query`: the analytics of sql/queries.

use std::time::Duration;

use super::Failure;
use crate::components::Context;
use crate::layout::Layout;
use crate::questions::questions;
use crate::settings::Settings;
use crate::warehouse::Warehouse;

/// How long a query may take.
const LIMIT: Duration = Duration::from_secs(300);

#[derive(Debug, clap::Args)]
pub struct QueryArgs {
    /// The name of a query; without one, all names are listed.
    name: Option<String>,
    /// Ask the fast variant: the same answer from projections and views.
    #[arg(long)]
    fast: bool,
    /// Value for a place `{NAME:Type}` of the query; where none is given, the example that the query's
    /// own first line shows.
    #[arg(long = "param", short = 'p', value_name = "NAME=VALUE", value_parser = parameter)]
    parameters: Vec<(String, String)>,
    /// How the answer is written: any output format of ClickHouse.
    #[arg(long, default_value = "PrettyCompact")]
    format: String,
}

fn parameter(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or_else(|| format!("{text} is not of the form NAME=VALUE"))
}

pub fn query(layout: Layout, settings: Settings, args: &QueryArgs) -> Result<(), Failure> {
    let questions = questions(&layout.queries())?;
    let Some(name) = &args.name else {
        for question in questions {
            let fast = if question.fast.is_some() { "fast" } else { "" };
            println!("{:<24} {fast:<4} {}", question.name, question.about);
        }
        return Ok(());
    };
    let Some(question) = questions.iter().find(|question| question.name == *name) else {
        let known: Vec<&str> = questions.iter().map(|question| &*question.name).collect();
        return Err(format!("there is no query {name}: there are {}", known.join(", ")).into());
    };
    let sql = match (&question.fast, args.fast) {
        (Some(fast), true) => fast,
        (None, true) => return Err(format!("{name} has no fast variant").into()),
        (_, false) => &question.plain,
    };
    let parameters = question.parameters(&args.parameters)?;
    let context = Context::to_ask(layout, settings);
    let answer = Warehouse::new(&context).query(sql, &parameters, &args.format, LIMIT)?;
    print!("{answer}");
    Ok(())
}
