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

/// `check-config`: prints the settings as they would be used, secrets masked by their types'
/// owners, or what is wrong with them.
pub fn check_config<S>(env_prefix: &str, args: &ConfigArgs) -> ExitCode
where
    S: Default + Serialize + DeserializeOwned + Validate,
{
    match args
        .load::<S>(env_prefix)
        .map(|settings| toml::to_string(&settings))
    {
        Ok(Ok(text)) => {
            println!(
                "# configuration is valid; in effect:\n{}",
                mask_secrets(&text)
            );
            ExitCode::SUCCESS
        }
        Ok(Err(error)) => report(&error),
        Err(error) => report(&error),
    }
}

/// Prints an error that settings caused and gives the exit code for it.
pub fn report(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("configuration error: {error}");
    ExitCode::from(EXIT_CONFIG)
}

/// Settings named `password`, `token` or `secret_key` are not for the screen.
fn mask_secrets(toml: &str) -> String {
    toml.lines()
        .map(|line| match line.split_once(" = ") {
            Some((name @ ("password" | "token" | "secret_key"), value)) if value != "\"\"" => {
                format!("{name} = \"***\"")
            }
            _ => line.to_owned(),
        })
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    #[test]
    fn secrets_are_masked() {
        let text = "user = \"default\"\npassword = \"admin\"\n";
        assert_eq!(
            super::mask_secrets(text),
            "user = \"default\"\npassword = \"***\""
        );
    }
}
