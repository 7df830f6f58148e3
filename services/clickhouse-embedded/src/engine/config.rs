//! The engine's configuration files, written anew at every start, and its default database.

use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::EngineError;
use crate::settings::Settings;

/// The engine makes a database in which any name is also the path of a file, and makes it the
/// default one. It gets this name, and is dropped before the first request.
pub(super) const FILES_DATABASE: &str = "_files";

/// Writes both files and returns the path of the one to pass on.
///
/// Profiles are read from the users file only, and it must be named by its absolute path: the engine
/// looks for a relative one in the working directory.
pub(super) fn write(root: &Path, settings: &Settings) -> Result<PathBuf, EngineError> {
    let users = root.join("users.xml");
    let config = root.join("config.xml");
    put(&users, &users_xml(settings))?;
    put(&config, &config_xml(&users, settings))?;
    Ok(config)
}

/// Sees to it that the database `default` is an ordinary one of the engine's, as a server has it,
/// and not the one that [`FILES_DATABASE`] tells of.
pub(super) fn prepare_default_database(engine_path: &Path) -> Result<(), EngineError> {
    let metadata = engine_path.join("metadata");
    let data_path = |error| EngineError::DataPath {
        path: metadata.clone(),
        error,
    };
    std::fs::create_dir_all(&metadata).map_err(data_path)?;
    let definition = metadata.join("default.sql");
    if !definition.exists() {
        let new = metadata.join("default.sql.new");
        put(
            &new,
            &format!(
                "ATTACH DATABASE _ UUID '{}'\nENGINE = Atomic\n",
                Uuid::new_v4()
            ),
        )?;
        std::fs::rename(&new, &definition).map_err(data_path)?;
    }
    // The engine takes the identity of its own default database from here, whatever that is called,
    // and would then find it twice. It makes the link again.
    let link = metadata.join("default");
    if link.is_symlink() {
        std::fs::remove_file(&link).map_err(data_path)?;
    }
    Ok(())
}

fn put(path: &Path, text: &str) -> Result<(), EngineError> {
    std::fs::write(path, text).map_err(|error| EngineError::DataPath {
        path: path.to_owned(),
        error,
    })
}

fn config_xml(users: &Path, settings: &Settings) -> String {
    format!(
        "<!-- Written at every start; set things in clickhouse-embedded's own configuration. -->\n\
         <clickhouse>\n\
         \x20   <logger><level>none</level></logger>\n\
         \x20   <users_config>{}</users_config>\n\
         \x20   <default_database>{FILES_DATABASE}</default_database>\n\
         \x20   <max_server_memory_usage>{}</max_server_memory_usage>\n\
         </clickhouse>\n",
        escape(&users.to_string_lossy()),
        settings.max_server_memory,
    )
}

fn users_xml(settings: &Settings) -> String {
    let mut profile = format!(
        "            <max_memory_usage>{}</max_memory_usage>\n",
        settings.max_query_memory
    );
    for (name, value) in &settings.defaults {
        profile.push_str(&format!("            <{name}>{}</{name}>\n", escape(value)));
    }
    let mut limited = String::new();
    for (at, user) in settings.users.iter().enumerate() {
        let constraints: String = user
            .limits
            .set()
            .map(|(name, most)| format!("<{name}><min>1</min><max>{most}</max></{name}>"))
            .collect();
        if !constraints.is_empty() {
            let profile = crate::limits::profile(at);
            limited.push_str(&format!(
                "        <{profile}><constraints>{constraints}</constraints></{profile}>\n"
            ));
        }
    }
    format!(
        "<!-- Written at every start; set things in clickhouse-embedded's own configuration. -->\n\
         <clickhouse>\n\
         \x20   <profiles>\n\
         \x20       <default>\n{profile}\
         \x20       </default>\n{limited}\
         \x20   </profiles>\n\
         \x20   <users>\n\
         \x20       <default>\n\
         \x20           <password></password>\n\
         \x20           <networks><ip>::/0</ip></networks>\n\
         \x20           <profile>default</profile>\n\
         \x20           <quota>default</quota>\n\
         \x20       </default>\n\
         \x20   </users>\n\
         \x20   <quotas><default/></quotas>\n\
         </clickhouse>\n"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
