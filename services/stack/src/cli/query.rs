//! `contrail query`: the analytics of sql/queries.

use std::path::Path;
use std::time::Duration;

use super::Failure;
use crate::components::Context;
use crate::layout::Layout;
use crate::parts::Parts;
use crate::settings::Settings;
use crate::warehouse::Warehouse;

/// How long a query may take.
const LIMIT: Duration = Duration::from_secs(300);

#[derive(Debug, clap::Args)]
pub struct QueryArgs {
    /// The name of a query; without one, all names are listed.
    name: Option<String>,
    /// Value for a place `{NAME:Type}` of the query.
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
    let directory = layout.queries();
    let names = names(&directory)?;
    let Some(name) = &args.name else {
        for (name, about) in names {
            println!("{name:<24} {about}");
        }
        return Ok(());
    };
    if !names.iter().any(|(known, _)| known == name) {
        let known: Vec<String> = names.into_iter().map(|(name, _)| name).collect();
        return Err(format!("there is no query {name}: there are {}", known.join(", ")).into());
    }
    let sql = std::fs::read_to_string(directory.join(format!("{name}.sql")))?;
    let context = Context {
        parts: Parts::new(&layout.parts),
        java: Default::default(),
        settings,
        layout,
    };
    let answer = Warehouse::new(&context).query(&sql, &args.parameters, &args.format, LIMIT)?;
    print!("{answer}");
    Ok(())
}

/// The queries of a directory, each with the comment that it begins with.
fn names(directory: &Path) -> Result<Vec<(String, String)>, Failure> {
    let entries = std::fs::read_dir(directory).map_err(|error| {
        format!(
            "cannot read the queries in {}: {error}: CONTRAIL_SHARE is the directory that holds sql/",
            directory.display()
        )
    })?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        if let (Some(stem), Some("sql")) = (stem, path.extension().and_then(|e| e.to_str())) {
            let text = std::fs::read_to_string(&path)?;
            let about = text.lines().next().unwrap_or_default();
            let about = about.strip_prefix("--").unwrap_or_default().trim();
            names.push((stem.to_owned(), about.to_owned()));
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_listed_with_what_they_say_of_themselves() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("b.sql"), "SELECT 1").unwrap();
        std::fs::write(dir.path().join("a.sql"), "-- Answers one.\nSELECT 1").unwrap();
        std::fs::write(dir.path().join("notes.md"), "").unwrap();
        assert_eq!(
            names(dir.path()).unwrap(),
            [
                ("a".to_owned(), "Answers one.".to_owned()),
                ("b".to_owned(), String::new())
            ]
        );
        let message = names(Path::new("/nowhere")).unwrap_err().to_string();
        assert!(message.contains("CONTRAIL_SHARE"), "{message}");
    }
}
