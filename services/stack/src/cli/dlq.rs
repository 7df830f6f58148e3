//! `contrail dlq`: dead letters, and their way back.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use flight::calendar::format_instant_ms;
use serde_json::json;

use super::Failure;
use crate::components::Context;
use crate::dead_letters::{Kept, Letter, Redriven, Selection, discard, letters, redrive};
use crate::layout::Layout;
use crate::settings::Settings;
use crate::verify::VerifySettings;

/// Bytes in a line of `show`.
const LINE: usize = 16;

#[derive(Debug, clap::Subcommand)]
pub enum DlqCommand {
    /// List dead letters, the newest first.
    List(ListArgs),
    /// Show one: why, from where, its headers and its bytes.
    Show(ShowArgs),
    /// Send dead letters where they belong, once their cause is mended.
    Redrive(RedriveArgs),
    /// Give dead letters up for good, for a reason that is kept with them. They count as dead letters still.
    Discard(DiscardArgs),
}

#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Only those with this reason.
    #[arg(long)]
    reason: Option<String>,
    /// Also those that were redriven or discarded.
    #[arg(long)]
    all: bool,
    /// Most letters to list.
    #[arg(long, default_value_t = 100, value_name = "N")]
    limit: usize,
    /// As a JSON list.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// Its key, as `list` has it.
    key: String,
    /// Only the bytes, as they came.
    #[arg(long)]
    raw: bool,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Which {
    /// Their keys, as `list` has them.
    keys: Vec<String>,
    /// All that have this reason.
    #[arg(long)]
    reason: Option<String>,
    /// All that `list` has.
    #[arg(long)]
    all: bool,
}

impl Which {
    fn selection(&self) -> Selection {
        match self {
            Self { all: true, .. } => Selection::All,
            Self {
                reason: Some(reason),
                ..
            } => Selection::Reason(reason.clone()),
            Self { keys, .. } => Selection::Keys(keys.clone()),
        }
    }
}

#[derive(Debug, clap::Args)]
pub struct DiscardArgs {
    #[command(flatten)]
    which: Which,
    /// Why they are given up.
    #[arg(long, value_name = "TEXT")]
    why: String,
    /// Print what was done as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub struct RedriveArgs {
    #[command(flatten)]
    which: Which,
    /// Print what was done as JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(layout: Layout, settings: Settings, command: &DlqCommand) -> Result<ExitCode, Failure> {
    let context = Context::to_ask(layout, settings);
    let settings = VerifySettings::of(&context);
    let runtime = super::runtime()?;
    // On a thread of the runtime: what blocks must be able to say so.
    let command_settings = settings.clone();
    match command {
        DlqCommand::List(args) => {
            let found = runtime.block_on(letters(&settings))?;
            list(found, args)
        }
        DlqCommand::Show(args) => {
            let found = runtime.block_on(letters(&settings))?;
            show(found, args)
        }
        DlqCommand::Redrive(args) => {
            let selection = args.which.selection();
            let work = runtime.spawn(async move { redrive(&command_settings, &selection).await });
            told(&runtime.block_on(work)??, args.json)
        }
        DlqCommand::Discard(args) => {
            let (selection, why) = (args.which.selection(), args.why.clone());
            let work =
                runtime.spawn(async move { discard(&command_settings, &selection, &why).await });
            let done = runtime.block_on(work)??;
            match args.json {
                true => println!("{}", serde_json::to_string_pretty(&done)?),
                false => done
                    .discarded
                    .iter()
                    .for_each(|key| println!("{key}: discarded")),
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Tells what a redrive did.
fn told(done: &Redriven, json: bool) -> Result<ExitCode, Failure> {
    match json {
        true => println!("{}", serde_json::to_string_pretty(done)?),
        false => {
            for key in &done.sent {
                println!("{key}: sent");
            }
            for Kept { key, why } in &done.kept {
                println!("{key}: stays: {why}");
            }
        }
    }
    if done.kept.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!(
        "contrail: {} of {} dead letters stay where they are",
        done.kept.len(),
        done.kept.len() + done.sent.len()
    );
    Ok(ExitCode::FAILURE)
}

fn list(found: Vec<Letter>, args: &ListArgs) -> Result<ExitCode, Failure> {
    let is_wanted = |letter: &Letter| {
        (args.all || letter.redriven.is_none() && letter.discarded.is_none())
            && args.reason.as_ref().is_none_or(|r| *r == letter.reason)
    };
    let wanted: Vec<Letter> = found.into_iter().filter(is_wanted).collect();
    let shown = &wanted[..wanted.len().min(args.limit)];
    if args.json {
        println!("{}", serde_json::to_string_pretty(shown)?);
        return Ok(ExitCode::SUCCESS);
    }
    for letter in shown {
        let when = letter.written_ms.map(format_instant_ms);
        let state = match (&letter.redriven, &letter.discarded) {
            (Some(_), _) => " (redriven)",
            (None, Some(_)) => " (discarded)",
            (None, None) => "",
        };
        println!(
            "{} {:<16} {:>7} bytes  {}{state}  {}",
            when.unwrap_or_default(),
            letter.reason,
            letter.bytes,
            letter.key,
            letter.detail.lines().next().unwrap_or_default()
        );
    }
    println!("{} dead letters, {} shown", wanted.len(), shown.len());
    Ok(ExitCode::SUCCESS)
}

fn show(found: Vec<Letter>, args: &ShowArgs) -> Result<ExitCode, Failure> {
    let found: Vec<Letter> = found.into_iter().filter(|l| l.key == args.key).collect();
    if found.is_empty() {
        return Err(format!(
            "there is no dead letter {}: `contrail dlq list --all` has their keys",
            args.key
        )
        .into());
    }
    for letter in &found {
        if args.raw {
            io::stdout().write_all(&letter.payload)?;
            continue;
        }
        let headers: serde_json::Map<String, serde_json::Value> = letter
            .original_headers
            .iter()
            .map(|(name, value)| (name.clone(), json!(String::from_utf8_lossy(value))))
            .collect();
        let mut shown = serde_json::to_value(letter)?;
        shown["original_headers"] = headers.into();
        shown["original_key"] = json!(letter.original_key.as_deref().map(String::from_utf8_lossy));
        println!("{}", serde_json::to_string_pretty(&shown)?);
        print!("{}", dump(&letter.payload));
    }
    Ok(ExitCode::SUCCESS)
}

/// Bytes in hexadecimal, and as text where they are some.
fn dump(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (line, bytes) in bytes.chunks(LINE).enumerate() {
        let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let shown: String = bytes
            .iter()
            .map(|byte| match byte {
                b' '..=b'~' => char::from(*byte),
                _ => '.',
            })
            .collect();
        let width = LINE * 3 - 1;
        let _ = writeln!(
            text,
            "{:08x}  {:<width$}  {shown}",
            line * LINE,
            hex.join(" ")
        );
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn bytes_are_shown_as_they_are() {
        let text = super::dump(b"\0\x01{\"flight_id\":1}\xff");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("00000000  00 01 7b 22 66"), "{text}");
        assert!(lines[0].ends_with("..{\"flight_id\":1"), "{text}");
        assert!(lines[1].ends_with("  }."), "{text}");
    }
}
