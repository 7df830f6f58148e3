//! What a client of the cluster tells of its own accord, in words that say what to do.
//!
//! A client whose password or certificate is wrong connects again and again; whatever was asked of it
//! runs into its time limit. The reason comes by another way, the error callback. The contexts here
//! keep it, so that the answer to "why does it not work" holds both.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError as ClientError;
use rdkafka::types::RDKafkaErrorCode;

use super::{KafkaError, KafkaSettings, Security};
use crate::tls::{TlsSettings, explain_certificate};

/// A report that is older says nothing of now: the client tries again within two seconds.
const RECENT: Duration = Duration::from_secs(30);
/// How long a look at a broker's certificate may take, and how often there is one.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_secs(20);

/// Keeps what a client reported last. Clones share it.
#[derive(Debug, Clone)]
pub struct Trouble(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    brokers: String,
    tls: TlsSettings,
    is_tls: bool,
    last: Mutex<Option<Report>>,
}

#[derive(Debug)]
struct Report {
    at: Instant,
    text: String,
    /// It is about who we are or whom we trust; that no broker answers is only its consequence.
    is_cause: bool,
    /// When a broker was looked at, and what is wrong with the way to it if that could be seen.
    looked: Option<(Instant, Option<String>)>,
}

impl Trouble {
    /// Nothing was reported yet.
    pub fn new(settings: &KafkaSettings) -> Self {
        Self(Arc::new(Inner {
            brokers: settings.brokers.clone(),
            tls: settings.tls.clone(),
            is_tls: settings.security == Security::Tls,
            last: Mutex::new(None),
        }))
    }

    /// Takes what the client reports. Returns a sentence if it is news: the text of a problem that
    /// was not the last one.
    pub fn note(&self, error: &ClientError, reason: &str) -> Option<String> {
        let code = error.rdkafka_error_code()?;
        let mut is_cause = is_cause(code, reason);
        let is_down = code == RDKafkaErrorCode::AllBrokersDown;
        if !is_cause && !is_down {
            return None;
        }
        let mut last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        let before = last.as_ref().filter(|report| report.at.elapsed() < RECENT);
        if !is_cause && before.is_some_and(|report| report.is_cause) {
            return None;
        }
        let mut looked = last.as_ref().and_then(|report| report.looked.clone());
        // The client does not say what is wrong with a certificate, nor that a broker expects TLS.
        let is_unclear = match self.0.is_tls {
            true => reason.contains("certificate verify failed"),
            false => is_down,
        };
        if is_unclear
            && looked
                .as_ref()
                .is_none_or(|(at, _)| at.elapsed() > LOOK_EVERY)
        {
            looked = Some((Instant::now(), self.0.look(reason)));
        }
        let seen = looked.as_ref().and_then(|(_, seen)| seen.clone());
        let text = match seen {
            Some(seen) if is_unclear => {
                is_cause = true;
                seen
            }
            _ if is_down => format!("no broker answers at {}", self.0.brokers),
            _ => explain(code, reason),
        };
        let is_news = before.is_none_or(|report| report.text != text);
        *last = Some(Report {
            at: Instant::now(),
            text: text.clone(),
            is_cause,
            looked,
        });
        is_news.then_some(text)
    }

    /// What was reported lately.
    pub fn recent(&self) -> Option<String> {
        let last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref()
            .filter(|report| report.at.elapsed() < RECENT)
            .map(|report| report.text.clone())
    }

    /// True if what was reported lately is no passing matter: trying again would only bring it again.
    pub fn is_certain(&self) -> bool {
        let last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref()
            .is_some_and(|report| report.is_cause && report.at.elapsed() < RECENT)
    }

    /// It works: what was reported is over.
    pub fn over(&self) {
        *self.0.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// An error of a request, with its cause if one was reported.
    pub fn request_error(&self, action: impl Into<String>, source: ClientError) -> KafkaError {
        let action = action.into();
        match self.recent() {
            Some(reason) => KafkaError::Unreachable {
                action,
                reason,
                is_certain: self.is_certain(),
            },
            None => KafkaError::Request { action, source },
        }
    }
}

fn is_cause(code: RDKafkaErrorCode, reason: &str) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::Authentication
            | RDKafkaErrorCode::SaslAuthenticationFailed
            | RDKafkaErrorCode::UnsupportedSASLMechanism
            | RDKafkaErrorCode::SSL
    ) || reason.contains(NEEDS_TLS)
        || reason.contains(HAS_NO_TLS)
}

/// librdkafka's own guesses when one side speaks TLS and the other does not.
const NEEDS_TLS: &str = "connecting to a SSL listener?";
const HAS_NO_TLS: &str = "connecting to a PLAINTEXT broker listener?";

/// The broker that a report is about: reports begin with `sasl_ssl://host:port/id: `.
fn broker(reason: &str) -> &str {
    let rest = reason.split_once("://").map_or(reason, |(_, rest)| rest);
    rest.split(['/', ' ']).next().unwrap_or(rest)
}

fn explain(code: RDKafkaErrorCode, reason: &str) -> String {
    let broker = broker(reason);
    if reason.contains(NEEDS_TLS) {
        return expects_tls(broker);
    }
    if reason.contains(HAS_NO_TLS) {
        return format!(
            "{broker} does not speak TLS: set kafka.security to plaintext, or name its other port in kafka.brokers"
        );
    }
    match code {
        RDKafkaErrorCode::SSL => format!("{broker}: TLS fails: {reason}"),
        _ => format!(
            "{broker} does not let us in: kafka.sasl.mechanism, kafka.sasl.username or kafka.sasl.password is not what it knows ({})",
            detail(reason)
        ),
    }
}

/// What is behind the broker's name in a report.
fn detail(reason: &str) -> &str {
    reason.split_once(": ").map_or(reason, |(_, rest)| rest)
}

impl Inner {
    /// Looks at a broker with the same trust as the client has. `None` if nothing is to be seen.
    fn look(&self, reason: &str) -> Option<String> {
        let address = match self.is_tls {
            true => broker(reason),
            false => self.brokers.split(',').next()?.trim(),
        };
        let (host, _) = address.rsplit_once(':')?;
        let host = host.trim_matches(['[', ']']);
        let connector = match self.is_tls {
            true => self.tls.connector("kafka.tls").ok()?,
            // Only to see whether TLS is spoken there: nothing is said on this connection.
            false => native_tls::TlsConnector::builder()
                .danger_accept_invalid_certs(true)
                .danger_accept_invalid_hostnames(true)
                .build()
                .ok()?,
        };
        let stream = connect(address).ok()?;
        match (self.is_tls, connector.connect(host, stream)) {
            (true, Err(error)) => {
                let why = explain_certificate(&error.to_string(), host, "kafka.tls.ca_file");
                Some(format!("{address}: {why}"))
            }
            (false, Ok(_)) => Some(expects_tls(address)),
            _ => None,
        }
    }
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let target = address.to_socket_addrs()?.next();
    let target = target.ok_or(io::ErrorKind::NotFound)?;
    let stream = TcpStream::connect_timeout(&target, LOOK_TIMEOUT)?;
    stream.set_read_timeout(Some(LOOK_TIMEOUT))?;
    stream.set_write_timeout(Some(LOOK_TIMEOUT))?;
    Ok(stream)
}

fn expects_tls(address: &str) -> String {
    format!(
        "{address} expects TLS: set kafka.security to tls, or name its other port in kafka.brokers"
    )
}

/// The context of clients that need no other.
#[derive(Debug, Clone)]
pub struct ReportingContext {
    /// What was reported.
    pub trouble: Trouble,
}

impl ReportingContext {
    /// For a client of this cluster.
    pub fn new(settings: &KafkaSettings) -> Self {
        Self {
            trouble: Trouble::new(settings),
        }
    }
}

impl ClientContext for ReportingContext {
    /// What librdkafka logs comes by [`error`](ClientContext::error) too, where it matters.
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, "{message}");
    }

    fn error(&self, error: ClientError, reason: &str) {
        match self.trouble.note(&error, reason) {
            Some(news) => tracing::warn!("kafka: {news}"),
            None => tracing::debug!(%error, reason, "kafka"),
        }
    }
}

impl ConsumerContext for ReportingContext {}

#[cfg(test)]
mod tests {
    use super::*;

    const AUTH: &str = "sasl_ssl://broker:9093/bootstrap: SASL authentication error: Authentication failed during authentication due to invalid credentials with SASL mechanism SCRAM-SHA-512 (after 310ms in state AUTH_REQ)";

    fn note(trouble: &Trouble, code: RDKafkaErrorCode, reason: &str) -> Option<String> {
        trouble.note(&ClientError::Global(code), reason)
    }

    fn nowhere() -> KafkaSettings {
        KafkaSettings {
            brokers: "127.0.0.1:1".into(),
            ..KafkaSettings::default()
        }
    }

    #[test]
    fn the_cause_stays_before_its_consequence_and_is_told_once() {
        let trouble = Trouble::new(&nowhere());
        let told = note(&trouble, RDKafkaErrorCode::Authentication, AUTH).unwrap();
        assert!(
            told.starts_with("broker:9093 does not let us in: kafka.sasl"),
            "{told}"
        );
        assert_eq!(
            note(&trouble, RDKafkaErrorCode::AllBrokersDown, "1/1 down"),
            None
        );
        assert_eq!(note(&trouble, RDKafkaErrorCode::Authentication, AUTH), None);
        assert_eq!(trouble.recent(), Some(told));
        trouble.over();
        assert_eq!(trouble.recent(), None);
        let told = note(&trouble, RDKafkaErrorCode::AllBrokersDown, "1/1 down").unwrap();
        assert_eq!(told, "no broker answers at 127.0.0.1:1");
        assert!(!trouble.is_certain());
    }

    #[test]
    fn the_wrong_listener_is_told_from_a_broker_that_is_away() {
        let trouble = Trouble::new(&nowhere());
        let reason = "broker:9093/bootstrap: Disconnected: requesting ApiVersion: might be caused by incorrect security.protocol configuration (connecting to a SSL listener?) or broker version is < 0.10";
        let told = note(&trouble, RDKafkaErrorCode::BrokerTransportFailure, reason).unwrap();
        assert_eq!(
            told,
            "broker:9093 expects TLS: set kafka.security to tls, or name its other port in kafka.brokers"
        );
        let reason = "broker:9093/1: Connect to ipv4#10.0.0.1:9093 failed: Connection refused";
        assert_eq!(
            note(&trouble, RDKafkaErrorCode::BrokerTransportFailure, reason),
            None
        );
    }
}
