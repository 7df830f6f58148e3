//! Users and their passwords. libchdb knows none: everything runs as its user `default`.

use std::collections::HashMap;

use flight::config::Secret;
use sha2::{Digest, Sha256};

use crate::exception::{Exception, code};
use crate::limits::Limits;
use crate::settings::User;

/// What a request showed of who sends it.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// Name; `default` where none was given.
    pub user: Option<String>,
    /// Password.
    pub password: Option<Secret>,
}

/// A user who showed the right password.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// Name.
    pub name: String,
    /// See [`User::readonly`].
    pub readonly: bool,
    /// See [`User::max_concurrent_queries`].
    pub max_concurrent_queries: Option<usize>,
    /// See [`User::limits`].
    pub limits: Limits,
    /// The engine's profile with the constraints of these limits.
    pub limits_profile: String,
}

/// Every user, with the SHA-256 of the password.
#[derive(Debug, Default)]
pub struct Accounts(HashMap<String, ([u8; 32], Account)>);

impl Accounts {
    /// Reads password files and takes hashes of passwords.
    ///
    /// # Errors
    /// A sentence that names the setting: a file cannot be read, a hash is not one.
    pub fn load(users: &[User]) -> Result<Self, String> {
        let mut accounts = HashMap::new();
        for (at, user) in users.iter().enumerate() {
            let setting = |name: &str| format!("users ({}): {name}", user.name);
            let hash = match (
                &user.password,
                &user.password_file,
                &user.password_sha256_hex,
            ) {
                (Some(password), _, _) => sha256(password.expose()),
                (_, Some(file), _) => {
                    sha256(Secret::from_file(&setting("password_file"), file)?.expose())
                }
                (_, _, Some(hex)) => parse_hash(hex)
                    .ok_or_else(|| setting("password_sha256_hex must be 64 hexadecimal digits"))?,
                _ => return Err(setting("no password is set")),
            };
            let account = Account {
                name: user.name.clone(),
                readonly: user.readonly,
                max_concurrent_queries: user.max_concurrent_queries,
                limits: user.limits.clone(),
                limits_profile: crate::limits::profile(at),
            };
            accounts.insert(user.name.clone(), (hash, account));
        }
        Ok(Self(accounts))
    }

    /// Who this is.
    ///
    /// # Errors
    /// 516 where the password is wrong or the user unknown, 194 where no password was given.
    pub fn authenticate(&self, credentials: &Credentials) -> Result<Account, Exception> {
        let name = credentials.user.as_deref().unwrap_or("default");
        let password = credentials.password.as_ref().map_or("", Secret::expose);
        let shown = sha256(password);
        match self.0.get(name) {
            Some((hash, account)) if same(hash, &shown) => Ok(account.clone()),
            _ => {
                let (code, code_name) = if credentials.password.is_none() {
                    (code::REQUIRED_PASSWORD, "REQUIRED_PASSWORD")
                } else {
                    (code::AUTHENTICATION_FAILED, "AUTHENTICATION_FAILED")
                };
                Err(Exception::new(
                    code,
                    code_name,
                    &format!(
                        "{name}: Authentication failed: password is incorrect, or there is no user \
                         with such name."
                    ),
                ))
            }
        }
    }
}

fn sha256(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

fn parse_hash(hex: &str) -> Option<[u8; 32]> {
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, digits) in hash.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(hash)
}

/// Compares in a time that does not tell where the first difference is.
fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.iter().zip(b).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    fn try_as(accounts: &Accounts, user: &str, password: Option<&str>) -> Result<Account, u32> {
        accounts
            .authenticate(&Credentials {
                user: Some(user.to_owned()),
                password: password.map(Secret::new),
            })
            .map_err(|exception| exception.code())
    }

    #[test]
    fn only_the_right_password_opens() {
        let accounts = Accounts::load(&Settings::default().users).unwrap();
        assert!(
            !try_as(&accounts, "default", Some("admin"))
                .unwrap()
                .readonly
        );
        assert!(
            try_as(&accounts, "reader", Some("reader"))
                .unwrap()
                .readonly
        );
        assert_eq!(try_as(&accounts, "default", Some("Admin")), Err(516));
        assert_eq!(try_as(&accounts, "nobody", Some("admin")), Err(516));
        assert_eq!(try_as(&accounts, "default", None), Err(194));
    }

    #[test]
    fn hashes_and_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        std::fs::write(&file, "from a file\n").unwrap();
        let users = [
            User {
                name: "hashed".into(),
                // echo -n admin | sha256sum
                password_sha256_hex: Some(
                    "8c6976e5b5410415bde908bd4dee15dfb167a9c873fc4bb8a81f6f2ab448a918".into(),
                ),
                ..User::default()
            },
            User {
                name: "filed".into(),
                password_file: Some(file),
                ..User::default()
            },
        ];
        let accounts = Accounts::load(&users).unwrap();
        assert!(try_as(&accounts, "hashed", Some("admin")).is_ok());
        assert!(try_as(&accounts, "filed", Some("from a file")).is_ok());
        let broken = User {
            name: "broken".into(),
            password_sha256_hex: Some("abc".into()),
            ..User::default()
        };
        let message = Accounts::load(&[broken]).unwrap_err();
        assert!(
            message.contains("broken") && message.contains("64"),
            "{message}"
        );
    }
}
