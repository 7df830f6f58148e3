//! Until when the certificates of servers hold that are reached by TLS.

use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use flight::kafka::Security;
use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};

use crate::verify::VerifySettings;

/// Longest wait for each server.
const TIMEOUT: Duration = Duration::from_secs(5);
const SECONDS_A_DAY: f64 = 86_400.0;

/// A server that is reached by TLS, as `host:port`.
pub(super) fn endpoints(settings: &VerifySettings) -> Vec<String> {
    let mut found = Vec::new();
    if settings.kafka.security == Security::Tls {
        let brokers = settings.kafka.brokers.split(',').map(str::trim);
        found.extend(
            brokers
                .filter(|broker| !broker.is_empty())
                .map(str::to_owned),
        );
    }
    for url in [&settings.registry.url, &settings.clickhouse.url] {
        found.extend(of_url(url));
    }
    found
}

/// `host:port` of a URL that begins with `https`.
fn of_url(url: &str) -> Option<String> {
    let rest = url.strip_prefix("https://")?;
    let authority = rest.split(['/', '?']).next()?;
    let address = authority.rsplit('@').next()?;
    // An IPv6 address has colons of its own, in brackets.
    let has_port = address
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Some(match has_port {
        true => address.to_owned(),
        false => format!("{address}:443"),
    })
}

/// When the certificate that a server shows ends, in Unix time. Whether it is trusted is for its clients to
/// find out: one that has ended must be told of, too.
///
/// # Errors
/// The server does not answer, or not by TLS.
pub(super) fn expires(endpoint: &str) -> Result<f64, String> {
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("{endpoint}: {what}: {error}");
    let (host, _) = endpoint
        .rsplit_once(':')
        .ok_or_else(|| format!("{endpoint} is not host:port"))?;
    let addresses = endpoint
        .to_socket_addrs()
        .map_err(|error| failed("is not known", &error))?;
    let mut connection = Err(format!("{endpoint} has no address"));
    for address in addresses {
        connection = TcpStream::connect_timeout(&address, TIMEOUT)
            .map_err(|error| failed("does not answer", &error));
        if connection.is_ok() {
            break;
        }
    }
    let connection = connection?;
    connection
        .set_read_timeout(Some(TIMEOUT))
        .and_then(|()| connection.set_write_timeout(Some(TIMEOUT)))
        .map_err(|error| failed("cannot be asked", &error))?;
    let mut connector =
        SslConnector::builder(SslMethod::tls()).map_err(|error| failed("TLS", &error))?;
    connector.set_verify(SslVerifyMode::NONE);
    let session = connector
        .build()
        .configure()
        .map(|settings| settings.verify_hostname(false))
        .map_err(|error| failed("TLS", &error))?
        .connect(host.trim_matches(['[', ']']), connection)
        .map_err(|error| failed("does not speak TLS", &error))?;
    let certificate = session
        .ssl()
        .peer_certificate()
        .ok_or_else(|| format!("{endpoint} shows no certificate"))?;
    unix(certificate.not_after())
        .map_err(|error| failed("has a certificate without an end", &error))
}

fn unix(time: &Asn1TimeRef) -> Result<f64, openssl::error::ErrorStack> {
    let since = Asn1Time::from_unix(0)?.diff(time)?;
    Ok(f64::from(since.days) * SECONDS_A_DAY + f64::from(since.secs))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use openssl::hash::MessageDigest;
    use openssl::pkey::PKey;
    use openssl::rsa::Rsa;
    use openssl::ssl::SslAcceptor;
    use openssl::x509::{X509Builder, X509NameBuilder};

    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        for (url, endpoint) in [
            ("https://db.example:8443", Some("db.example:8443")),
            ("https://db.example/path:1", Some("db.example:443")),
            ("https://user:word@[::1]:8443/", Some("[::1]:8443")),
            ("https://[::1]", Some("[::1]:443")),
            ("http://127.0.0.1:8123", None),
        ] {
            assert_eq!(of_url(url).as_deref(), endpoint, "{url}");
        }
    }

    #[test]
    fn a_server_is_asked_until_when_its_certificate_holds() {
        let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let end = 1_900_000_000;
        let mut name = X509NameBuilder::new().unwrap();
        name.append_entry_by_text("CN", "somebody-else").unwrap();
        let name = name.build();
        let mut certificate = X509Builder::new().unwrap();
        certificate.set_version(2).unwrap();
        certificate.set_subject_name(&name).unwrap();
        certificate.set_issuer_name(&name).unwrap();
        certificate.set_pubkey(&key).unwrap();
        certificate
            .set_not_before(&Asn1Time::from_unix(1_600_000_000).unwrap())
            .unwrap();
        certificate
            .set_not_after(&Asn1Time::from_unix(end).unwrap())
            .unwrap();
        certificate.sign(&key, MessageDigest::sha256()).unwrap();
        let mut acceptor = SslAcceptor::mozilla_intermediate(SslMethod::tls()).unwrap();
        acceptor.set_private_key(&key).unwrap();
        acceptor.set_certificate(&certificate.build()).unwrap();
        let acceptor = acceptor.build();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            let (connection, _) = listener.accept().unwrap();
            let _ = acceptor.accept(connection);
        });
        assert_eq!(expires(&endpoint), Ok(end as f64));
        server.join().unwrap();
        // Nobody listens there any more.
        let message = expires(&endpoint).unwrap_err();
        assert!(
            message.contains(&endpoint) && message.contains("does not answer"),
            "{message}"
        );
    }
}
