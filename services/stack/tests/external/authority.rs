//! A certificate authority, and what it issues.

use std::path::{Path, PathBuf};

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509Name, X509NameBuilder};

/// From when to when a certificate is valid, in days from now.
pub type Days = (i64, i64);

/// Valid now.
pub const NOW: Days = (-1, 30);
/// Valid no longer.
pub const PAST: Days = (-30, -1);

pub struct Authority {
    certificate: X509,
    key: PKey<Private>,
    directory: PathBuf,
    name: String,
}

/// A certificate with its key, in PEM.
pub struct Issued {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    /// An authority whose files lie in `directory`.
    pub fn new(directory: &Path, name: &str) -> Self {
        let key = key();
        let subject = subject(name);
        let mut builder = builder(&subject, &subject, &key, NOW);
        let constraints = BasicConstraints::new().critical().ca().build().unwrap();
        builder.append_extension(constraints).unwrap();
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        let certificate = builder.build();
        let authority = Self {
            certificate,
            key,
            directory: directory.to_owned(),
            name: name.to_owned(),
        };
        std::fs::write(authority.file(), authority.certificate.to_pem().unwrap()).unwrap();
        authority
    }

    /// Its own certificate.
    pub fn file(&self) -> PathBuf {
        self.directory.join(format!("{}.pem", self.name))
    }

    /// Issues a certificate for an address or a host's name.
    pub fn issue(&self, host: &str, days: Days) -> Issued {
        let key = key();
        let mut builder = builder(&subject(host), self.certificate.subject_name(), &key, days);
        let mut names = SubjectAlternativeName::new();
        match host.parse::<std::net::IpAddr>() {
            Ok(_) => names.ip(host),
            Err(_) => names.dns(host),
        };
        let names = names
            .build(&builder.x509v3_context(Some(&self.certificate), None))
            .unwrap();
        builder.append_extension(names).unwrap();
        builder.sign(&self.key, MessageDigest::sha256()).unwrap();
        let text = |pem: Vec<u8>| String::from_utf8(pem).unwrap();
        Issued {
            certificate: text(builder.build().to_pem().unwrap()),
            key: text(key.private_key_to_pem_pkcs8().unwrap()),
        }
    }
}

fn key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

fn subject(name: &str) -> X509Name {
    let mut subject = X509NameBuilder::new().unwrap();
    subject.append_entry_by_text("CN", name).unwrap();
    subject.build()
}

fn builder(
    subject: &openssl::x509::X509NameRef,
    issuer: &openssl::x509::X509NameRef,
    key: &PKey<Private>,
    (from, to): Days,
) -> X509Builder {
    let time = |days: i64| {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        Asn1Time::from_unix(now.as_secs() as i64 + days * 86_400).unwrap()
    };
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    let mut serial = [0; 16];
    openssl::rand::rand_bytes(&mut serial).unwrap();
    let serial = BigNum::from_slice(&serial).unwrap().to_asn1_integer();
    builder.set_serial_number(&serial.unwrap()).unwrap();
    builder.set_subject_name(subject).unwrap();
    builder.set_issuer_name(issuer).unwrap();
    builder.set_pubkey(key).unwrap();
    builder.set_not_before(&time(from)).unwrap();
    builder.set_not_after(&time(to)).unwrap();
    builder
}
