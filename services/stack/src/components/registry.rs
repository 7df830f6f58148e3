//! The Apicurio registry, with its schemas in a file of its own.
//!
//! Of its stores, `sql` on an H2 file is the one to have here: ready within 3 to 6 s where
//! `kafkasql` takes 17 s and has to wait for Kafka. H2 answers before it has written, up to half a
//! second; `WRITE_DELAY=0` ends that, so that an id that was given out survives SIGKILL.

use std::time::Duration;

use super::Context;
use crate::component::Component;
use crate::http::{self, Request};
use crate::supervisor::process::{Launch, Program};

/// Where the Confluent API begins.
pub const BASE_PATH: &str = "/apis/ccompat/v7";

/// What the registry itself would begin with.
const NO_COMPATIBILITY: &str = "NONE";
/// What every subject gets that has no rule of its own.
const COMPATIBILITY: &str = "BACKWARD";

pub fn launch(context: &Context) -> Result<Launch, String> {
    let directory = context.layout.data(Component::Registry);
    std::fs::create_dir_all(&directory)
        .map_err(|error| format!("cannot create {}: {error}", directory.display()))?;
    let settings = &context.settings.registry;
    let port = context.port(Component::Registry);
    let mut program = Program::new(&context.java)
        .arg(format!("-Xmx{}m", settings.heap_mib))
        .arg("-Xshare:auto")
        // It answers a few requests a day: quick to start beats quick to run.
        .arg("-XX:TieredStopAtLevel=1")
        .arg("-XX:+UseSerialGC")
        .arg("-XX:+ExitOnOutOfMemoryError")
        .arg("-Djava.awt.headless=true")
        .arg("-Dquarkus.http.host=127.0.0.1")
        .arg(format!("-Dquarkus.http.port={port}"))
        .arg("-Dapicurio.storage.kind=sql")
        .arg("-Dapicurio.storage.sql.kind=h2")
        .arg(format!(
            "-Dapicurio.datasource.url=jdbc:h2:file:{};WRITE_DELAY=0",
            directory.join("schemas").display()
        ));
    for (name, value) in &settings.properties {
        program = program.arg(format!("-D{name}={value}"));
    }
    for option in &settings.java_options {
        program = program.arg(option);
    }
    let mut program = program.arg("-jar").arg(context.parts.registry_jar());
    program.directory = Some(directory);
    Ok(Launch {
        before: None,
        program,
    })
}

/// It is ready when it answers and refuses incompatible schemas. Its own default refuses none,
/// and it remembers what it is told here.
pub fn probe(port: u16, timeout: Duration) -> Result<(), String> {
    let path = format!("{BASE_PATH}/config");
    let found = http::get(port, &path, timeout)
        .map_err(|error| error.to_string())?
        .success()?;
    let level = serde_json::from_str::<serde_json::Value>(&found)
        .ok()
        .and_then(|config| Some(config.get("compatibilityLevel")?.as_str()?.to_owned()))
        .ok_or_else(|| format!("{path} answers {found}"))?;
    // Whoever chose another level since then is not overruled.
    if level == NO_COMPATIBILITY {
        Request {
            method: "PUT",
            port,
            path: &path,
            headers: &[("Content-Type", "application/json")],
            body: &format!("{{\"compatibility\":\"{COMPATIBILITY}\"}}"),
            timeout,
        }
        .send()
        .map_err(|error| error.to_string())?
        .success()?;
    }
    Ok(())
}
