//! The ClickHouse engine behind its HTTP interface.

use super::Context;
use crate::component::Component;
use crate::supervisor::process::Launch;

pub fn launch(context: &Context) -> Result<Launch, String> {
    const PREFIX: &str = "CLICKHOUSE_EMBEDDED_";
    let data = context.layout.data(Component::Clickhouse);
    std::fs::create_dir_all(&data)
        .map_err(|error| format!("cannot create {}: {error}", data.display()))?;
    let library = context
        .settings
        .clickhouse
        .library
        .clone()
        .unwrap_or_else(|| context.parts.engine_library());
    let program = context
        .program(Component::Clickhouse, "clickhouse-embedded", PREFIX)
        .env(format!("{PREFIX}DATA_PATH"), data.display().to_string())
        .env(format!("{PREFIX}LIBRARY"), library.display().to_string());
    Ok(Launch {
        before: None,
        program,
    })
}
