//! TLS and HTTP clients by one set of settings: for the registry, for ClickHouse and for sources.
//! Kafka's client has its own way to TLS and takes the same settings, see [`crate::kafka`].

use std::path::{Path, PathBuf};

use native_tls::{Certificate, Identity, Protocol, TlsConnector};
use serde::{Deserialize, Serialize};

use crate::root_cause;

/// Whom to trust on a connection by TLS, and how to show who we are. The server's name and its
/// certificate are always checked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsSettings {
    /// PEM file with the certificates of the authorities to trust, and no others. Without it: those
    /// that the system trusts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// PEM file with our certificate, for servers that ask for one, and those that it is signed by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<PathBuf>,
    /// PEM file with the certificate's key: PKCS #8, not encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
}

impl TlsSettings {
    /// Reads the files. `setting` is the name of these settings, for messages.
    ///
    /// # Errors
    /// A sentence that names the setting and the file.
    pub fn validate(&self, setting: &str) -> Result<(), String> {
        self.connector(setting).map(drop)
    }

    /// True if nothing is set.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// What opens connections.
    ///
    /// # Errors
    /// As [`validate`](Self::validate).
    pub fn connector(&self, setting: &str) -> Result<TlsConnector, String> {
        let mut builder = TlsConnector::builder();
        builder.min_protocol_version(Some(Protocol::Tlsv12));
        if let Some(path) = &self.ca_file {
            let name = format!("{setting}.ca_file");
            let authorities = Certificate::stack_from_pem(&read(&name, path)?)
                .map_err(|error| format!("{name}: {} is not PEM: {error}", path.display()))?;
            if authorities.is_empty() {
                return Err(format!(
                    "{name}: {} holds no certificate (a PEM file with BEGIN CERTIFICATE is needed)",
                    path.display()
                ));
            }
            builder.disable_built_in_roots(true);
            for authority in authorities {
                builder.add_root_certificate(authority);
            }
        }
        match (&self.cert_file, &self.key_file) {
            (None, None) => {}
            (Some(cert), Some(key)) => {
                builder.identity(identity(setting, cert, key)?);
            }
            (Some(_), None) => {
                return Err(format!(
                    "{setting}.key_file is missing: {setting}.cert_file needs its key"
                ));
            }
            (None, Some(_)) => {
                return Err(format!(
                    "{setting}.cert_file is missing: {setting}.key_file is the key of a certificate"
                ));
            }
        }
        builder.build().map_err(|error| {
            format!("{setting}: {error}: is {setting}.key_file the key of {setting}.cert_file?")
        })
    }

    /// An HTTP client to build upon.
    ///
    /// # Errors
    /// As [`validate`](Self::validate).
    pub fn http_client(&self, setting: &str) -> Result<reqwest::ClientBuilder, String> {
        Ok(reqwest::Client::builder().tls_backend_preconfigured(self.connector(setting)?))
    }

    /// Checks an address with the TLS settings that go with it: `setting` is the name of the table
    /// that has both, as `url` and `tls`.
    ///
    /// # Errors
    /// A sentence that names the setting.
    pub fn validate_with_url(&self, setting: &str, url: &str) -> Result<(), String> {
        let name = format!("{setting}.url");
        let parsed = reqwest::Url::parse(url)
            .ok()
            .filter(|parsed| matches!(parsed.scheme(), "http" | "https") && parsed.has_host());
        let Some(parsed) = parsed else {
            return Err(format!(
                "{name} must be http://host:port or https://host:port, not {url}"
            ));
        };
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(format!(
                "{name} must not hold a user or a password: they have settings of their own"
            ));
        }
        if parsed.scheme() == "http" && !self.is_default() {
            return Err(format!(
                "{setting}.tls is set but {name} is {url}: begin it with https://"
            ));
        }
        self.validate(&format!("{setting}.tls"))
    }
}

/// The innermost cause of a failed request, and what to do if it is the server's certificate.
/// `ca_setting` is the setting that names the authorities.
pub fn explain(error: &dyn std::error::Error, url: &str, ca_setting: &str) -> String {
    let why = root_cause(error);
    if !url.starts_with("https:") && !url.starts_with("wss:") {
        return why;
    }
    let host = reqwest::Url::parse(url)
        .ok()
        .and_then(|url| url.host_str().map(str::to_owned))
        .unwrap_or_default();
    explain_certificate(&why, &host, ca_setting)
}

/// What is wrong with a server's certificate, from what OpenSSL says of it.
pub(crate) fn explain_certificate(why: &str, host: &str, ca_setting: &str) -> String {
    let lower = why.to_lowercase();
    if lower.contains("hostname mismatch") || lower.contains("ip address mismatch") {
        format!(
            "its certificate is not for {host}: use the name that stands in the certificate, or have one issued for {host}"
        )
    } else if lower.contains("certificate has expired") {
        "its certificate has expired: renew it there".into()
    } else if lower.contains("certificate is not yet valid") {
        "its certificate is not valid yet: compare the clocks".into()
    } else if lower.contains("certificate verify failed") {
        format!(
            "its certificate is signed by nobody we trust: {ca_setting} must hold the authority that signed it ({why})"
        )
    } else {
        why.to_owned()
    }
}

fn read(setting: &str, path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path)
        .map_err(|error| format!("{setting}: cannot read {}: {error}", path.display()))
}

fn identity(setting: &str, cert: &Path, key: &Path) -> Result<Identity, String> {
    let cert_pem = read(&format!("{setting}.cert_file"), cert)?;
    let key_pem = read(&format!("{setting}.key_file"), key)?;
    match Certificate::stack_from_pem(&cert_pem) {
        Ok(found) if !found.is_empty() => {}
        _ => {
            return Err(format!(
                "{setting}.cert_file: {} holds no certificate",
                cert.display()
            ));
        }
    }
    Identity::from_pkcs8(&cert_pem, &key_pem).map_err(|error| {
        format!(
            "{setting}.key_file: {} is not an unencrypted PKCS #8 key in PEM ({error}): `openssl pkcs8 -topk8 -nocrypt -in OLD -out NEW` makes one",
            key.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn files_are_read_and_what_is_wrong_with_them_is_named() {
        assert_eq!(TlsSettings::default().validate("x.tls"), Ok(()));
        let missing = TlsSettings {
            ca_file: Some("/nowhere/ca.pem".into()),
            ..TlsSettings::default()
        };
        let message = missing.validate("registry.tls").unwrap_err();
        assert!(
            message.starts_with("registry.tls.ca_file: cannot read /nowhere/ca.pem"),
            "{message}"
        );
        let empty = file("nothing of the kind\n");
        let settings = TlsSettings {
            ca_file: Some(empty.path().to_owned()),
            ..TlsSettings::default()
        };
        let message = settings.validate("kafka.tls").unwrap_err();
        assert!(message.contains("holds no certificate"), "{message}");
        let half = TlsSettings {
            cert_file: Some(empty.path().to_owned()),
            ..TlsSettings::default()
        };
        let message = half.validate("kafka.tls").unwrap_err();
        assert!(
            message.starts_with("kafka.tls.key_file is missing"),
            "{message}"
        );
    }

    #[test]
    fn what_is_wrong_with_a_certificate_is_said() {
        let say = |why| explain_certificate(why, "broker", "kafka.tls.ca_file");
        assert!(say("certificate verify failed: (Hostname mismatch)").contains("not for broker"));
        assert!(say("certificate verify failed: (IP address mismatch)").contains("not for broker"));
        assert!(say("certificate verify failed: (certificate has expired)").contains("expired"));
        let untrusted = "certificate verify failed: (self-signed certificate in certificate chain)";
        assert!(say(untrusted).contains("kafka.tls.ca_file"));
        assert_eq!(say("Connection refused"), "Connection refused");
    }

    #[test]
    fn an_address_goes_with_its_tls_settings() {
        let plain = TlsSettings::default();
        let check = |url: &str| plain.validate_with_url("registry", url);
        assert_eq!(check("http://host:8081/apis/ccompat/v7"), Ok(()));
        assert_eq!(check("https://host"), Ok(()));
        for wrong in ["host:8081", "ftp://host", "http://", ""] {
            assert!(
                check(wrong).unwrap_err().starts_with("registry.url"),
                "{wrong}"
            );
        }
        let message = check("https://me:secret@host").unwrap_err();
        assert!(!message.contains("secret"), "{message}");
        let tls = TlsSettings {
            ca_file: Some("ca.pem".into()),
            ..TlsSettings::default()
        };
        let message = tls
            .validate_with_url("registry", "http://host")
            .unwrap_err();
        assert!(message.contains("begin it with https://"), "{message}");
    }
}
