//! Servers that somebody else runs: a Kafka that lets nobody in without TLS, a password and rights, a
//! registry and a ClickHouse behind TLS.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use contrail::component::{Component, KAFKA_CONTROLLER_PORT};
use contrail::ports::{self, FreeOffset};
use contrail::{Settings, Stack};
use flight::clickhouse::ClickhouseSettings;
use flight::config::Secret;
use flight::kafka::{KafkaSettings, Mechanism, SaslSettings, Security};
use flight::registry::RegistrySettings;
use flight::tls::TlsSettings;
use tempfile::TempDir;

use super::authority::{Authority, NOW, PAST};
use super::door::Door;

/// The user that has all the rights that docs/external.md names.
pub const USER: &str = "flight";
pub const PASSWORD: &str = "0042";
/// Of registry user `clerk`.
const REGISTRY_PASSWORD: &str = "letter";
const AUTHORIZATION: &str = "Basic Y2xlcms6bGV0dGVy";
/// Of ClickHouse's user.
const CLICKHOUSE_PASSWORD: &str = "columns";

/// A listener of the broker, by the certificate that it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// A good one.
    Secure,
    /// One whose time is over.
    Expired,
    /// One for another host.
    Elsewhere,
}

impl Listener {
    const ALL: [Self; 3] = [Self::Secure, Self::Expired, Self::Elsewhere];

    fn name(self) -> &'static str {
        match self {
            Self::Secure => "SECURE",
            Self::Expired => "EXPIRED",
            Self::Elsewhere => "ELSEWHERE",
        }
    }
}

pub struct Servers {
    pub stack: Stack,
    pub authority: Authority,
    /// Nobody that anything here was issued by.
    pub stranger: Authority,
    pub registry: Door,
    pub clickhouse: Door,
    ports: [u16; 3],
    directory: TempDir,
    _offset: FreeOffset,
}

impl Servers {
    pub fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new(directory.path(), "authority");
        let stranger = Authority::new(directory.path(), "stranger");
        let offset = FreeOffset::pick().unwrap();
        let ports = [(); 3].map(|()| free_port());
        let mut settings = Settings::default();
        settings.kafka.properties = properties(directory.path(), &authority, &offset, ports)
            .into_iter()
            .collect();
        settings.clickhouse.user = USER.into();
        settings.clickhouse.password = CLICKHOUSE_PASSWORD.into();
        let stack = Stack::builder()
            .settings(settings)
            .only([
                Component::Kafka,
                Component::Registry,
                Component::Clickhouse,
            ])
            .port_offset(offset.get())
            .temporary_state()
            .env(
                Component::Clickhouse,
                "CLICKHOUSE_EMBEDDED_USERS",
                format!(
                    "[{{name=\"{USER}\",password=\"{CLICKHOUSE_PASSWORD}\",readonly=false}},{{name=\"reader\",password=\"reader\",readonly=true}}]"
                ),
            )
            .start()
            .unwrap();
        let issued = authority.issue("127.0.0.1", NOW);
        let registry = Door::open(
            stack.port(Component::Registry),
            &issued,
            Some(AUTHORIZATION),
        );
        let clickhouse = Door::open(stack.port(Component::Clickhouse), &issued, None);
        let servers = Self {
            stack,
            authority,
            stranger,
            registry,
            clickhouse,
            ports,
            directory,
            _offset: offset,
        };
        servers.add_user(USER, PASSWORD);
        servers
    }

    /// How the user with all rights reaches the cluster.
    pub fn kafka(&self) -> KafkaSettings {
        self.kafka_as(USER, PASSWORD, Listener::Secure)
    }

    pub fn kafka_as(&self, user: &str, password: &str, listener: Listener) -> KafkaSettings {
        let index = Listener::ALL.iter().position(|one| *one == listener);
        KafkaSettings {
            brokers: format!("127.0.0.1:{}", self.ports[index.unwrap()]),
            security: Security::Tls,
            tls: self.tls(),
            sasl: SaslSettings {
                mechanism: Some(Mechanism::ScramSha512),
                username: user.into(),
                password: Secret::new(password),
                password_file: None,
            },
            ..KafkaSettings::default()
        }
    }

    pub fn registry(&self) -> RegistrySettings {
        RegistrySettings {
            url: format!("https://{}/apis/ccompat/v7", self.registry.address),
            user: "clerk".into(),
            password: Secret::new(REGISTRY_PASSWORD),
            tls: self.tls(),
            ..RegistrySettings::default()
        }
    }

    pub fn clickhouse(&self) -> ClickhouseSettings {
        ClickhouseSettings {
            url: format!("https://{}", self.clickhouse.address),
            user: USER.into(),
            password: Secret::new(CLICKHOUSE_PASSWORD),
            tls: self.tls(),
            ..ClickhouseSettings::default()
        }
    }

    pub fn tls(&self) -> TlsSettings {
        TlsSettings {
            ca_file: Some(self.authority.file()),
            ..TlsSettings::default()
        }
    }

    pub fn strange_tls(&self) -> TlsSettings {
        TlsSettings {
            ca_file: Some(self.stranger.file()),
            ..TlsSettings::default()
        }
    }

    /// A file with a secret.
    pub fn secret_file(&self, name: &str, secret: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, format!("{secret}\n")).unwrap();
        path
    }

    /// Makes a user, or changes its password, with Kafka's own tool.
    pub fn add_user(&self, user: &str, password: &str) {
        let scram = format!("SCRAM-SHA-512=[iterations=4096,password={password}]");
        self.tool(
            "kafka.admin.ConfigCommand",
            &[
                "--alter",
                "--entity-type",
                "users",
                "--entity-name",
                user,
                "--add-config",
                &scram,
            ],
        );
    }

    /// Grants rights with Kafka's own tool, in the words of docs/external.md.
    pub fn grant(&self, user: &str, rights: &str) {
        let principal = format!("User:{user}");
        let mut arguments = vec!["--add", "--allow-principal", &principal];
        arguments.extend(rights.split_whitespace());
        self.tool("org.apache.kafka.tools.AclCommand", &arguments);
    }

    fn tool(&self, class: &str, arguments: &[&str]) {
        let context = self.stack.context();
        // The stack's own listener, whose user may do everything.
        let output = Command::new(&context.java)
            .args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"])
            .arg(context.parts.kafka_class_path())
            .arg(class)
            .args(["--bootstrap-server", &self.stack.brokers()])
            .args(arguments)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{class} {arguments:?}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// The broker's settings, beside the stack's own.
fn properties(
    directory: &Path,
    authority: &Authority,
    offset: &FreeOffset,
    ports: [u16; 3],
) -> Vec<(String, String)> {
    let own = ports::port(Component::Kafka, offset.get());
    let controller = KAFKA_CONTROLLER_PORT + offset.get();
    let mut listeners = format!("PLAINTEXT://127.0.0.1:{own}");
    let mut map = "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned();
    let mut properties = vec![
        (
            "authorizer.class.name".to_owned(),
            "org.apache.kafka.metadata.authorizer.StandardAuthorizer".to_owned(),
        ),
        ("super.users".into(), "User:ANONYMOUS".into()),
        ("sasl.enabled.mechanisms".into(), "SCRAM-SHA-512".into()),
    ];
    for (listener, port) in Listener::ALL.into_iter().zip(ports) {
        let (host, days) = match listener {
            Listener::Secure => ("127.0.0.1", NOW),
            Listener::Expired => ("127.0.0.1", PAST),
            Listener::Elsewhere => ("kafka.example", NOW),
        };
        let name = listener.name();
        listeners.push_str(&format!(",{name}://127.0.0.1:{port}"));
        map.push_str(&format!(",{name}:SASL_SSL"));
        let issued = authority.issue(host, days);
        let store = directory.join(format!("{name}.pem"));
        std::fs::write(&store, format!("{}{}", issued.key, issued.certificate)).unwrap();
        let prefix = format!("listener.name.{}", name.to_lowercase());
        for (setting, value) in [
            ("ssl.keystore.type", "PEM".to_owned()),
            ("ssl.keystore.location", store.display().to_string()),
            (
                "scram-sha-512.sasl.jaas.config",
                "org.apache.kafka.common.security.scram.ScramLoginModule required;".into(),
            ),
        ] {
            properties.push((format!("{prefix}.{setting}"), value));
        }
    }
    let bound = format!("{listeners},CONTROLLER://127.0.0.1:{controller}");
    properties.push(("listeners".into(), bound));
    properties.push(("advertised.listeners".into(), listeners));
    properties.push(("listener.security.protocol.map".into(), map));
    properties
}

pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
