//! The URL: the query, how to answer, and settings under any other name.

use axum::extract::Query;
use axum::http::{HeaderMap, Uri};

use super::blocks::Method;
use crate::exception::{Exception, code};
use crate::execute::ExternalTable;
use crate::sessions::SessionParams;

/// Names that are neither settings nor understood here.
const IGNORED: [&str; 4] = [
    "quota_key",
    "stacktrace",
    "role",
    "http_headers_progress_interval_ms",
];

/// What the URL and headers say. A form may say it as well.
#[derive(Debug)]
pub struct Params {
    /// `query`
    pub query: String,
    /// `database`, or the header X-ClickHouse-Database.
    pub database: Option<String>,
    /// The header X-ClickHouse-Format, or `default_format`.
    pub default_format: Option<String>,
    /// `query_id`, or the header X-ClickHouse-Query-Id.
    pub query_id: Option<String>,
    /// `user`
    pub user: Option<String>,
    /// `password`
    pub password: Option<String>,
    /// `compress`: the answer comes as ClickHouse's compressed blocks.
    pub compress: bool,
    /// `decompress`: the body is ClickHouse's compressed blocks.
    pub decompress: bool,
    /// `network_compression_method`, and for ZSTD `network_zstd_compression_level`.
    pub method: Method,
    /// `wait_end_of_query`: the answer begins when the query has ended.
    pub wait_end_of_query: bool,
    /// `buffer_size`: the answer begins when so many bytes of it are there.
    pub buffer_size: Option<usize>,
    /// `enable_http_compression`, which the engine knows as a setting too.
    pub http_compression: bool,
    /// `http_zlib_compression_level`, for every coding of HTTP's.
    pub http_compression_level: u32,
    /// `replace_running_query`: a query of the same id gives way.
    pub replace_running_query: bool,
    /// `client_protocol_version`: what the client knows of the format Native.
    pub protocol_version: u64,
    /// `session_id` and what goes with it.
    pub session: Option<SessionParams>,
    /// `param_NAME`
    pub parameters: Vec<(String, String)>,
    /// Everything else.
    pub settings: Vec<(String, String)>,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            query: String::new(),
            database: None,
            default_format: None,
            query_id: None,
            user: None,
            password: None,
            compress: false,
            decompress: false,
            method: Method::Lz4,
            wait_end_of_query: false,
            buffer_size: None,
            http_compression: true,
            http_compression_level: 3,
            replace_running_query: false,
            protocol_version: 0,
            session: None,
            parameters: Vec::new(),
            settings: Vec::new(),
        }
    }
}

impl Params {
    /// Reads them.
    ///
    /// # Errors
    /// The URL's query string is not one, or a value is not what its name wants.
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
        let mut params = Self::default();
        for (name, value) in pairs {
            params.put(name, value)?;
        }
        params.default_format = header("x-clickhouse-format").or(params.default_format.take());
        params.database = params.database.take().or(header("x-clickhouse-database"));
        params.query_id = params.query_id.take().or(header("x-clickhouse-query-id"));
        params.check()?;
        Ok(params)
    }

    /// Takes one.
    ///
    /// # Errors
    /// 36: the value is not what the name wants.
    pub fn put(&mut self, name: String, value: String) -> Result<(), Exception> {
        let on = value != "0" && !value.eq_ignore_ascii_case("false") && !value.is_empty();
        let given = || Some(value.clone()).filter(|value| !value.is_empty());
        match name.as_str() {
            "query" => self.query.push_str(&value),
            "database" => self.database = given(),
            "default_format" => self.default_format = given(),
            "query_id" => self.query_id = given(),
            "user" => self.user = Some(value),
            "password" => self.password = Some(value),
            "compress" => self.compress = on,
            "decompress" => self.decompress = on,
            "network_compression_method" => {
                self.method = match (value.to_ascii_uppercase().as_str(), self.method) {
                    ("LZ4" | "LZ4HC" | "NONE" | "", _) => Method::Lz4,
                    ("ZSTD", Method::Lz4) => Method::Zstd(1),
                    ("ZSTD", method) => method,
                    _ => return Err(not_a(&name, &value, "LZ4 or ZSTD")),
                };
            }
            "network_zstd_compression_level" => {
                let level = number(&name, &value)?;
                self.method = Method::Zstd(i32::try_from(level.clamp(1, 22)).unwrap_or(1));
            }
            "wait_end_of_query" | "http_wait_end_of_query" => self.wait_end_of_query = on,
            "buffer_size" | "http_response_buffer_size" => {
                let size = number(&name, &value)?;
                self.buffer_size = usize::try_from(size).ok().filter(|size| *size > 0);
            }
            "enable_http_compression" => self.http_compression = on,
            "http_zlib_compression_level" => {
                self.http_compression_level = u32::try_from(number(&name, &value)?).unwrap_or(3);
            }
            "replace_running_query" => self.replace_running_query = on,
            "client_protocol_version" => self.protocol_version = number(&name, &value)?,
            "session_id" => self.session().id = value,
            "session_timeout" => self.session().timeout = Some(value),
            "session_check" => self.session().check = on,
            "close_session" => self.session().close = on,
            ignored if IGNORED.contains(&ignored) || ignored.is_empty() => {}
            _ => match name.strip_prefix("param_") {
                Some(parameter) => self.parameters.push((parameter.to_owned(), value)),
                None => self.settings.push((name, value)),
            },
        }
        Ok(())
    }

    fn session(&mut self) -> &mut SessionParams {
        self.session.get_or_insert_default()
    }

    /// Sees to it that what becomes part of a statement is what it says.
    ///
    /// # Errors
    /// 73: the format has no name of one.
    pub fn check(&self) -> Result<(), Exception> {
        let is_name = |format: &String| {
            format
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_')
        };
        match &self.default_format {
            Some(format) if !is_name(format) => Err(Exception::new(
                code::UNKNOWN_FORMAT,
                "UNKNOWN_FORMAT",
                &format!("Unknown format {format}"),
            )),
            _ => Ok(()),
        }
    }

    /// Takes `NAME_format`, `NAME_structure` and `NAME_types` of a table that came with the query.
    pub fn describe_table(&mut self, table: &mut ExternalTable) {
        let mut take = |what: &str| {
            let name = format!("{}_{what}", table.name);
            let at = self.settings.iter().position(|(known, _)| *known == name)?;
            Some(self.settings.remove(at).1)
        };
        table.format = take("format");
        table.structure = take("structure");
        table.types = take("types");
    }
}

fn number(name: &str, value: &str) -> Result<u64, Exception> {
    value.parse().map_err(|_| not_a(name, value, "a number"))
}

fn not_a(name: &str, value: &str, what: &str) -> Exception {
    Exception::new(
        code::BAD_ARGUMENTS,
        "BAD_ARGUMENTS",
        &format!("{name} must be {what}, not '{value}'"),
    )
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

    #[test]
    fn tables_of_a_form_are_described() {
        let uri = "/?t_format=CSV&t_structure=a%20UInt8&max_threads=1&session_id=s&\
                   network_compression_method=zstd&network_zstd_compression_level=5"
            .parse()
            .unwrap();
        let mut params = Params::read(&uri, &HeaderMap::new()).unwrap();
        let mut table = ExternalTable {
            name: "t".to_owned(),
            ..ExternalTable::default()
        };
        params.describe_table(&mut table);
        assert_eq!(table.format.as_deref(), Some("CSV"));
        assert_eq!(table.structure.as_deref(), Some("a UInt8"));
        assert_eq!(params.settings.len(), 1);
        assert_eq!(params.method, Method::Zstd(5));
        assert_eq!(params.session.unwrap().id, "s");
        for wrong in [
            "buffer_size=x",
            "client_protocol_version=-1",
            "network_compression_method=x",
        ] {
            let uri = format!("/?{wrong}").parse().unwrap();
            let error = Params::read(&uri, &HeaderMap::new()).unwrap_err();
            assert_eq!(error.code(), 36, "{wrong}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(300))]

        #[test]
        fn any_query_string_is_read_or_refused(text in "[ -~]{0,60}") {
            if let Ok(uri) = format!("/?{text}").parse() {
                let _ = Params::read(&uri, &HeaderMap::new());
            }
        }
    }
}
