//! `contrail logs`.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::time::Duration;

use super::{Failure, component};
use crate::component::Component;
use crate::layout::Layout;
use crate::supervisor::log;

#[derive(Debug, clap::Args)]
pub struct LogsArgs {
    /// Which component.
    #[arg(value_parser = component)]
    name: Component,
    /// Go on with what is written from now on.
    #[arg(short, long)]
    follow: bool,
    /// How many lines of what is there already.
    #[arg(short = 'n', long, default_value_t = 100)]
    lines: usize,
}

pub fn logs(layout: &Layout, args: &LogsArgs) -> Result<(), Failure> {
    let path = layout.log(args.name);
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => format!(
            "{} has no log yet: {} is not there",
            args.name,
            path.display()
        ),
        _ => format!("cannot read {}: {error}", path.display()),
    };
    let mut file = File::open(&path).map_err(failed)?;
    let mut position = file.seek(SeekFrom::End(0))?;
    let text = log::tail(&path, args.lines).map_err(failed)?;
    let mut out = io::stdout().lock();
    if !text.is_empty() {
        writeln!(out, "{text}")?;
    }
    if !args.follow {
        return Ok(());
    }
    loop {
        let length = file.metadata()?.len();
        if length < position {
            // It was cut.
            position = 0;
        }
        if length > position {
            file.seek(SeekFrom::Start(position))?;
            let mut new = Vec::new();
            position += file.read_to_end(&mut new)? as u64;
            out.write_all(&new)?;
            out.flush()?;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
