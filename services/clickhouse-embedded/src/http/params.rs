//! The URL: the query, how to answer, and settings under any other name.

use axum::extract::Query;
use axum::http::{HeaderMap, Uri};

use crate::exception::{Exception, code};

/// Names that are neither settings nor understood here. Sessions are not kept: each request is one.
const IGNORED: [&str; 9] = [
    "quota_key",
    "stacktrace",
    "role",
    "buffer_size",
    "session_id",
    "session_timeout",
    "session_check",
    "close_session",
    "client_protocol_version",
];

/// What the URL and headers say, besides who asks.
#[derive(Debug, Default)]
pub struct Params {
    /// `query`
    pub query: String,
    /// `database`, or the header X-ClickHouse-Database.
    pub database: Option<String>,
    /// The header X-ClickHouse-Format, or `default_format`.
    pub default_format: Option<String>,
    /// `query_id`
    pub query_id: Option<String>,
    /// `user`
    pub user: Option<String>,
    /// `password`
    pub password: Option<String>,
    /// `compress`: the answer comes as ClickHouse's compressed blocks.
    pub compress: bool,
    /// `decompress`: the body is ClickHouse's compressed blocks.
    pub decompress: bool,
    /// `wait_end_of_query`: the answer begins when the query has ended.
    pub wait_end_of_query: bool,
    /// `enable_http_compression`, which the engine knows as a setting too.
    pub http_compression: bool,
    /// `param_NAME`
    pub parameters: Vec<(String, String)>,
    /// Everything else.
    pub settings: Vec<(String, String)>,
}

impl Params {
    /// Reads them.
    ///
    /// # Errors
    /// The URL's query string is not one.
    pub fn read(uri: &Uri, headers: &HeaderMap) -> Result<Self, Exception> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|error| {
            Exception::new(
                code::BAD_REQUEST_PARAMETER,
                "BAD_REQUEST_PARAMETER",
                &format!("the URL's query string cannot be read: {error}"),
            )
        })?;
        let header = |name: &str| {
            let value = headers.get(name)?.to_str().ok()?;
            Some(value.to_owned()).filter(|value| !value.is_empty())
        };
        let mut params = Self {
            http_compression: true,
            ..Self::default()
        };
        for (name, value) in pairs {
            let on = value != "0" && !value.eq_ignore_ascii_case("false");
            match name.as_str() {
                "query" => params.query.push_str(&value),
                "database" => params.database = Some(value),
                "default_format" => params.default_format = Some(value),
                "query_id" => params.query_id = Some(value),
                "user" => params.user = Some(value),
                "password" => params.password = Some(value),
                "compress" => params.compress = on,
                "decompress" => params.decompress = on,
                "wait_end_of_query" => params.wait_end_of_query = on,
                "enable_http_compression" => params.http_compression = on,
                ignored if IGNORED.contains(&ignored) || ignored.is_empty() => {}
                _ => match name.strip_prefix("param_") {
                    Some(parameter) => params.parameters.push((parameter.to_owned(), value)),
                    None => params.settings.push((name, value)),
                },
            }
        }
        params.default_format = header("x-clickhouse-format").or(params.default_format.take());
        params.database = params.database.take().or(header("x-clickhouse-database"));
        params.default_format = params.default_format.filter(|format| !format.is_empty());
        params.database = params.database.filter(|database| !database.is_empty());
        params.query_id = params.query_id.filter(|id| !id.is_empty());
        if let Some(format) = &params.default_format
            && !format
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_')
        {
            return Err(Exception::new(
                73,
                "UNKNOWN_FORMAT",
                &format!("Unknown format {format}"),
            ));
        }
        Ok(params)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_find_their_places() {
        let uri = "/?query=SELECT%20%7Bx:UInt8%7D&param_x=1&database=d&max_threads=2&compress=1\
                   &session_id=s&default_format=JSON&wait_end_of_query=0"
            .parse()
            .unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("x-clickhouse-format", "CSV".parse().unwrap());
        let params = Params::read(&uri, &headers).unwrap();
        assert_eq!(params.query, "SELECT {x:UInt8}");
        assert_eq!(params.parameters, [("x".to_owned(), "1".to_owned())]);
        assert_eq!(
            params.settings,
            [("max_threads".to_owned(), "2".to_owned())]
        );
        assert_eq!(params.default_format.as_deref(), Some("CSV"));
        assert!(params.compress && !params.decompress && !params.wait_end_of_query);
        let uri = "/?default_format=CSV%20SETTINGS%20x".parse().unwrap();
        let error = Params::read(&uri, &HeaderMap::new()).unwrap_err();
        assert_eq!(error.code(), 73);
    }
}
