//! The mail catcher: takes every mail, shows it on a page, and sends none on.

use super::Context;
use crate::component::{Component, SMTP_PORT};
use crate::supervisor::process::{Launch, Program};
use crate::tools;

/// A line for each mail would fill its log.
const QUIET: &str = "--silent";

pub fn launch(context: &Context) -> Result<Launch, String> {
    let script = context.layout.mail_catcher();
    if !script.is_file() {
        return Err(format!(
            "{} is missing: `make start-airflow` fetches it",
            script.display()
        ));
    }
    let node = tools::find("node")?;
    let mails = context.layout.data(Component::Mail);
    std::fs::create_dir_all(&mails)
        .map_err(|error| format!("cannot create {}: {error}", mails.display()))?;
    let port = context.port(Component::Mail);
    let program = Program::new(node)
        .arg(script)
        .arg("--smtp")
        .arg(smtp_port(context).to_string())
        .arg("--web")
        .arg(port.to_string())
        .arg("--ip")
        .arg("127.0.0.1")
        .arg("--web-ip")
        .arg("127.0.0.1")
        .arg("--mail-directory")
        .arg(&mails)
        .arg(QUIET);
    Ok(Launch {
        before: None,
        program,
    })
}

/// Where it takes mails.
pub fn smtp_port(context: &Context) -> u16 {
    SMTP_PORT + context.settings.port_offset
}
