//! Who asks: Basic authentication, ClickHouse's headers or the URL. One of them: where two say it, or
//! one says it twice, something between client and server may have added the other.

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flight::config::Secret;

use crate::accounts::Credentials;
use crate::exception::{Exception, code};

/// Takes the credentials from a request.
///
/// # Errors
/// 516: the Authorization header is of another kind, or broken, or there are several answers.
pub fn credentials(
    headers: &HeaderMap,
    url_user: Option<String>,
    url_password: Option<String>,
) -> Result<Credentials, Exception> {
    let named = ["x-clickhouse-user", "x-clickhouse-key"];
    let headed = named.iter().any(|name| headers.contains_key(*name));
    let ways = [
        headed,
        headers.contains_key(header::AUTHORIZATION),
        url_user.is_some() || url_password.is_some(),
    ];
    let twice = named
        .into_iter()
        .chain(["authorization"])
        .any(|name| headers.get_all(name).iter().count() > 1);
    if twice || ways.into_iter().filter(|way| *way).count() > 1 {
        return Err(Exception::new(
            code::AUTHENTICATION_FAILED,
            "AUTHENTICATION_FAILED",
            "Invalid authentication: it is not allowed to authenticate in more than one way: by \
             X-ClickHouse HTTP headers, by the Authorization HTTP header, or by parameters",
        ));
    }
    let text = |name: &str| {
        headers
            .get(name)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    if headed {
        let (user, password) = (text("x-clickhouse-user"), text("x-clickhouse-key"));
        return Ok(Credentials {
            user,
            password: password.map(Secret::new),
        });
    }
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let broken =
            |what: &str| Exception::new(code::AUTHENTICATION_FAILED, "AUTHENTICATION_FAILED", what);
        let (scheme, encoded) = value
            .to_str()
            .ok()
            .and_then(|value| value.split_once(' '))
            .ok_or_else(|| broken("Invalid authentication: the Authorization header is broken"))?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return Err(broken(
                "Invalid authentication: 'Basic' HTTP Authorization scheme is the one supported",
            ));
        }
        let decoded = STANDARD.decode(encoded.trim()).ok();
        let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        let (user, password) = decoded
            .as_deref()
            .and_then(|text| text.split_once(':'))
            .ok_or_else(|| broken("Invalid authentication: the Authorization header is broken"))?;
        return Ok(Credentials {
            user: Some(user.to_owned()),
            password: Some(Secret::new(password)),
        });
    }
    Ok(Credentials {
        user: url_user.filter(|user| !user.is_empty()),
        password: url_password.map(Secret::new),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &'static str, value: &str) -> Result<Credentials, Exception> {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        credentials(&headers, None, None)
    }

    #[test]
    fn each_way_is_understood() {
        let basic = with("authorization", "Basic ZGVmYXVsdDphZDptaW4=").unwrap();
        assert_eq!(basic.user.as_deref(), Some("default"));
        assert_eq!(basic.password.unwrap().expose(), "ad:min");
        let header = with("x-clickhouse-user", "reader").unwrap();
        assert_eq!(header.user.as_deref(), Some("reader"));
        assert!(header.password.is_none());
        let url = credentials(&HeaderMap::new(), Some("url".into()), None).unwrap();
        assert_eq!(url.user.as_deref(), Some("url"));
    }

    #[test]
    fn broken_headers_are_refused() {
        for value in ["Basic", "Basic !!!", "Basic YWJj", "Bearer x"] {
            assert_eq!(
                with("authorization", value).unwrap_err().code(),
                516,
                "{value}"
            );
        }
    }

    #[test]
    fn two_answers_are_none() {
        let mut headers = HeaderMap::new();
        headers.insert("x-clickhouse-user", "reader".parse().unwrap());
        let url = credentials(&headers, Some("default".into()), None);
        assert_eq!(url.unwrap_err().code(), 516);
        headers.append("x-clickhouse-user", "default".parse().unwrap());
        assert_eq!(credentials(&headers, None, None).unwrap_err().code(), 516);
        headers.remove("x-clickhouse-user");
        headers.insert("x-clickhouse-key", "x".parse().unwrap());
        headers.insert(
            "authorization",
            "Basic ZGVmYXVsdDphZDptaW4=".parse().unwrap(),
        );
        assert_eq!(credentials(&headers, None, None).unwrap_err().code(), 516);
    }
}
