//! What every binary's command line has in common.

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::{self, ConfigError, Validate};

/// Exit code for settings that cannot be used: restarting does not help.
pub const EXIT_CONFIG: u8 = 2;

/// Where settings come from.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ConfigArgs {
    /// TOML file with settings. Without it: defaults and environment variables.
    #[arg(long, short, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl ConfigArgs {
    /// Reads the settings, see [`config::load`].
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load<S>(&self, env_prefix: &str) -> Result<S, ConfigError>
    where
        S: Default + Serialize + DeserializeOwned + Validate,
    {
        config::load(env_prefix, self.config.as_deref())
    }
}

/// `check-config`: prints the settings as they would be used, secrets masked, or what is wrong with
/// them.
pub fn check_config<S>(env_prefix: &str, args: &ConfigArgs) -> ExitCode
where
    S: Default + Serialize + DeserializeOwned + Validate,
{
    match args.load::<S>(env_prefix) {
        Ok(settings) => match masked(&settings) {
            Ok(text) => {
                println!("# configuration is valid; in effect:\n{text}");
                ExitCode::SUCCESS
            }
            Err(error) => report(&error),
        },
        Err(error) => report(&error),
    }
}

/// Prints an error that settings caused and gives the exit code for it.
pub fn report(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("configuration error: {error}");
    ExitCode::from(EXIT_CONFIG)
}

/// Settings as TOML, without those that are not for the screen.
fn masked(settings: &impl Serialize) -> Result<String, toml::ser::Error> {
    let mut table = toml::Table::try_from(settings)?;
    mask(&mut table);
    toml::to_string(&table)
}

fn mask(table: &mut toml::Table) {
    for (name, value) in table.iter_mut() {
        match value {
            toml::Value::String(text) if config::is_secret(name) && !text.is_empty() => {
                *text = "***".into();
            }
            toml::Value::Table(inner) => mask(inner),
            toml::Value::Array(items) => items
                .iter_mut()
                .filter_map(toml::Value::as_table_mut)
                .for_each(mask),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    #[test]
    fn secrets_are_masked_wherever_they_stand() {
        let properties = BTreeMap::from([("ssl.key.password", "s3cret"), ("linger.ms", "5")]);
        let settings = serde_json::json!({
            "user": "default",
            "password": "s3cret",
            "password_file": "/run/credentials/password",
            "token": "",
            "kafka": { "properties": properties },
            "users": [{ "name": "reader", "password": "s3cret" }],
        });
        let text = super::masked(&settings).unwrap();
        assert!(!text.contains("s3cret"), "{text}");
        for shown in [
            "password = \"***\"",
            "password_file = \"/run/credentials/password\"",
            "token = \"\"",
            "\"ssl.key.password\" = \"***\"",
            "\"linger.ms\" = \"5\"",
            "name = \"reader\"",
        ] {
            assert!(text.contains(shown), "{text}");
        }
    }
}
