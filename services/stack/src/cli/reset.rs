//! `contrail reset`.

use std::io::{self, BufRead, IsTerminal, Write};

use super::Failure;
use crate::component::Component;
use crate::layout::Layout;
use crate::stack::lock_state;

#[derive(Debug, clap::Args)]
pub struct ResetArgs {
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
}

pub fn reset(layout: &Layout, args: &ResetArgs) -> Result<(), Failure> {
    let state = layout.state.display();
    // Only where a stack has run: a mistyped CONTRAIL_STATE must not cost anyone a directory.
    if !layout.lock().is_file() {
        println!("there is nothing to remove: no stack has run on {state}");
        return Ok(());
    }
    // Held until the end, so that nothing is started on what is being removed.
    let _lock = lock_state(layout)?;
    // What this program made, and nothing else that may lie there; the downloads stay.
    let mut doomed: Vec<_> = Component::ALL
        .iter()
        .map(|&component| layout.data(component))
        .collect();
    doomed.push(layout.logs());
    doomed.retain(|path| path.exists());
    if doomed.is_empty() {
        println!("there is nothing to remove in {state}");
        return Ok(());
    }
    if !args.yes && !confirmed(&format!("remove all data and logs in {state}? [y/N] "))? {
        return Err("nothing was removed".into());
    }
    for path in &doomed {
        std::fs::remove_dir_all(path)
            .map_err(|error| format!("cannot remove {}: {error}", path.display()))?;
    }
    println!("removed all data and logs in {state}");
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
