//! `contrail reset`.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use flight::kafka::Inquiry;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode;

use super::Failure;
use crate::component::Component;
use crate::components::Context;
use crate::layout::Layout;
use crate::settings::Settings;
use crate::stack::lock_state;
use crate::verify::VerifySettings;
use crate::warehouse::Warehouse;

/// Database of all tables.
const DATABASE: &str = "flight_data";
/// Longest wait for an external server to remove something.
const LIMIT: Duration = Duration::from_secs(60);
/// An ingester that has just ended, or was killed, is a member of its group until its session is over
/// (10 s, its `group.session_timeout_ms`).
const MEMBERS_LEAVE: Duration = Duration::from_secs(20);

#[derive(Debug, clap::Args)]
pub struct ResetArgs {
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
    /// Remove what is in external servers too: the topics and the consumer group, the database.
    #[arg(long, conflicts_with = "keep_external")]
    external: bool,
    /// Leave external servers alone and remove only what lies here.
    #[arg(long)]
    keep_external: bool,
}

pub fn reset(layout: Layout, settings: Settings, args: &ResetArgs) -> Result<(), Failure> {
    let context = Context::to_ask(layout, settings);
    let foreign = foreign(&context);
    if !foreign.is_empty() && !args.external && !args.keep_external {
        return Err(format!(
            "{} external, and what is here and there belongs together: --external removes it there \
             too, --keep-external removes only what lies here",
            named(&foreign)
        )
        .into());
    }
    let foreign = if args.external { foreign } else { Vec::new() };
    let state = context.layout.state.display().to_string();
    // Only where a stack has run: a mistyped CONTRAIL_STATE must not cost anyone a directory.
    let has_run = context.layout.lock().is_file();
    if !has_run && foreign.is_empty() {
        println!("there is nothing to remove: no stack has run on {state}");
        return Ok(());
    }
    // Held until the end, so that nothing is started on what is being removed.
    let _lock = lock_state(&context.layout)?;
    let doomed = local(&context.layout);
    if doomed.is_empty() && foreign.is_empty() {
        println!("there is nothing to remove in {state}");
        return Ok(());
    }
    let verify = VerifySettings::of(&context);
    let mut what = vec![format!("all data and logs in {state}")];
    what.extend(foreign.iter().map(|(component, location)| match component {
        Component::Kafka => format!(
            "topics {}, {}, {} and group {} of {location}",
            verify.topic, verify.dead_letter_topic, verify.checkpoint_topic, verify.group
        ),
        _ => format!("database {DATABASE} of {location}"),
    }));
    let what = what.join("; ");
    if !args.yes && !confirmed(&format!("remove {what}? [y/N] "))? {
        return Err("nothing was removed".into());
    }
    for (component, _) in &foreign {
        match component {
            Component::Kafka => remove_topics(&verify)?,
            _ => Warehouse::new(&context)
                .query(
                    &format!("DROP DATABASE IF EXISTS {DATABASE} SYNC"),
                    &[],
                    "TabSeparated",
                    LIMIT,
                )
                .map(drop)?,
        }
    }
    for path in &doomed {
        std::fs::remove_dir_all(path)
            .map_err(|error| format!("cannot remove {}: {error}", path.display()))?;
    }
    println!("removed {what}");
    Ok(())
}

/// What this program made, and nothing else that may lie there; the downloads stay.
fn local(layout: &Layout) -> Vec<PathBuf> {
    let mut doomed: Vec<_> = Component::every()
        .map(|component| layout.data(component))
        .collect();
    doomed.push(layout.airflow());
    doomed.push(layout.logs());
    doomed.retain(|path| path.exists());
    doomed
}

/// External servers that hold data, and where they are. A registry's schemas do no harm.
fn foreign(context: &Context) -> Vec<(Component, String)> {
    [Component::Kafka, Component::Clickhouse]
        .into_iter()
        .filter(|component| context.settings.is_external(*component))
        .map(|component| (component, context.location(component)))
        .collect()
}

fn named(foreign: &[(Component, String)]) -> String {
    let names: Vec<String> = foreign
        .iter()
        .map(|(component, location)| format!("{component} ({location})"))
        .collect();
    let verb = if names.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", names.join(" and "))
}

fn remove_topics(verify: &VerifySettings) -> Result<(), Failure> {
    let brokers = &verify.kafka.brokers;
    // Says what is wrong, where there is something wrong with the connection.
    Inquiry::new(&verify.kafka, "contrail-reset")?.ping()?;
    let admin: AdminClient<DefaultClientContext> =
        verify.kafka.client_config("contrail-reset").create()?;
    let options = AdminOptions::new()
        .request_timeout(Some(LIMIT))
        .operation_timeout(Some(LIMIT));
    let topics = [
        verify.topic.as_str(),
        verify.dead_letter_topic.as_str(),
        verify.checkpoint_topic.as_str(),
    ];
    let groups = [verify.group.as_str()];
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let began = Instant::now();
    let groups = loop {
        let groups = runtime.block_on(admin.delete_groups(&groups, &options))?;
        let occupied = groups
            .iter()
            .any(|result| matches!(result, Err((_, RDKafkaErrorCode::NonEmptyGroup))));
        if !occupied {
            break groups;
        }
        // Before any topic goes: nothing is removed by halves.
        if began.elapsed() > MEMBERS_LEAVE {
            return Err(format!(
                "group {} of {brokers} has members: stop the ingesters that use it",
                verify.group
            )
            .into());
        }
        std::thread::sleep(Duration::from_millis(500));
    };
    let topics = runtime.block_on(admin.delete_topics(&topics, &options))?;
    for (kind, result) in groups
        .into_iter()
        .map(|result| ("group", result))
        .chain(topics.into_iter().map(|result| ("topic", result)))
    {
        match result {
            Ok(_)
            | Err((
                _,
                RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::GroupIdNotFound,
            )) => {}
            Err((name, code)) => {
                let principal = verify.kafka.principal();
                return Err(format!(
                    "{kind} {name} of {brokers} cannot be removed by {principal}: {code}"
                )
                .into());
            }
        }
    }
    Ok(())
}

fn confirmed(question: &str) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Err("reset removes all data: say --yes where nobody can be asked".into());
    }
    print!("{question}");
    io::stdout().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
