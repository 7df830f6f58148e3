//! Anything at all, sent to the real server: it never ends, never runs what was data, and goes on.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::common::{Server, answer, percent};

/// No longer than this for one kind of input.
const LIMIT: Duration = Duration::from_secs(8);
const CASES: usize = 400;

/// Cases that are the same every time.
fn cases<S: Strategy>(strategy: &S) -> impl Iterator<Item = S::Value> {
    let mut runner = TestRunner::deterministic();
    let started = Instant::now();
    std::iter::repeat_with(move || strategy.new_tree(&mut runner).unwrap().current())
        .take(CASES)
        .take_while(move |_| started.elapsed() < LIMIT)
}

/// A table that every hostile text tries to drop.
async fn victim(server: &Server) {
    server
        .value("CREATE TABLE IF NOT EXISTS victim (a String) ENGINE = MergeTree ORDER BY a")
        .await;
}

async fn unharmed(server: &mut Server, what: &str) {
    assert!(server.runs(), "the server ended after {what}");
    assert_eq!(
        server.value("EXISTS victim").await,
        "1",
        "dropped by {what}"
    );
}

/// Pieces of SQL that end one thing and begin another.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "'",
        "\"",
        "`",
        "\\",
        "\\'",
        "''",
        ";",
        "--",
        "/*",
        "*/",
        "#",
        "\n",
        "\n\n",
        "\0",
        "(",
        ")",
        ",",
        "\u{2018}",
        "\u{2019}",
        "\u{201c}",
        "$$",
        "$a$",
        "\u{a0}",
        "{p:Identifier}",
        "{p:String}",
        "1",
        "a",
        "FORMAT TSV",
        "VALUES",
        "SELECT 1",
        "INSERT INTO victim",
        "DROP TABLE victim",
        "; DROP TABLE victim",
        "\n; DROP TABLE victim;",
        "SETTINGS max_threads = 1",
        "FROM input('a String')",
        "INTO OUTFILE 'x'",
        "UNION ALL",
        "PARALLEL WITH",
        "DROP TABLE victim --",
        "\r\n",
        "\u{feff}",
    ]);
    proptest::collection::vec(piece, 1..8).prop_map(|pieces| pieces.join(" "))
}

#[tokio::test]
async fn data_is_never_run() {
    let mut server = Server::start().await;
    victim(&server).await;
    for text in cases(&hostile()) {
        let insert = ("query", "INSERT INTO victim FORMAT LineAsString");
        let requests = [
            // Rows, of a statement in the URL and of one before them.
            server.post(&[insert]).body(text.clone()),
            server.post(&[]).body(format!("INSERT INTO victim FORMAT CSV\n{text}")),
            server.post(&[]).body(format!("INSERT INTO victim VALUES ('a') {text}")),
            // Values of parameters, settings, names.
            server
                .post(&[("param_p", &text)])
                .body("SELECT {p:String}, {p:Identifier} FROM victim"),
            server.post(&[("format_csv_delimiter", &text)]).body("SELECT 1"),
            server.post(&[("database", &text)]).body("SELECT 1"),
            server.post(&[("query_id", &text)]).body("SELECT 1"),
            server.post(&[("default_format", &text)]).body("SELECT 1"),
            server
                .post(&[("session_id", &text), ("format_csv_delimiter", &text)])
                .body("SET max_threads = 1"),
            server
                .post(&[("query", "SELECT 1"), ("t_structure", &text)])
                .header("Content-Type", "multipart/form-data; boundary=b")
                .body(
                    "--b\r\nContent-Disposition: form-data; name=\"t\"; filename=\"t\"\r\n\r\n1\r\n--b--",
                ),
        ];
        for request in requests {
            let answer = answer(request).await;
            assert!(answer.status < 600);
        }
        let exists = server.value("EXISTS victim").await;
        assert_eq!(exists, "1", "dropped by {text:?}");
    }
    unharmed(&mut server, "hostile data").await;
}

#[tokio::test]
async fn a_reader_changes_nothing_whatever_it_says() {
    let mut server = Server::start().await;
    victim(&server).await;
    for text in cases(&hostile()) {
        for sql in [
            text.clone(),
            format!("SELECT 1 {text}"),
            format!("/* {text} */ {text}"),
        ] {
            let query = [("param_p", text.as_str())];
            answer(server.post_as("reader", "reader", &query).body(sql)).await;
        }
        assert_eq!(
            server.value("EXISTS victim").await,
            "1",
            "dropped by {text:?}"
        );
    }
    assert_eq!(server.value("SELECT count() FROM victim").await, "0");
    unharmed(&mut server, "a reader").await;
}

/// Sends bytes as they are; what comes back does not matter.
fn send(address: &str, bytes: &[u8]) {
    let mut socket = TcpStream::connect(address).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let _ = socket.write_all(bytes);
    let _ = socket.shutdown(std::net::Shutdown::Write);
    let _ = socket.read_to_end(&mut Vec::new());
}

#[tokio::test]
async fn any_request_is_answered_or_refused() {
    let mut server = Server::start().await;
    victim(&server).await;
    let name = prop::sample::select(vec![
        "query",
        "database",
        "default_format",
        "query_id",
        "compress",
        "decompress",
        "session_id",
        "session_timeout",
        "session_check",
        "buffer_size",
        "wait_end_of_query",
        "max_threads",
        "param_a",
        "client_protocol_version",
        "network_compression_method",
        "replace_running_query",
        "readonly",
        "max_result_rows",
        "output_format_json_array_of_rows",
        "http_zlib_compression_level",
        "",
    ]);
    let value = prop_oneof![
        Just("1".to_owned()),
        Just("SELECT 1 FORMAT Native".to_owned()),
        Just("INSERT INTO victim FORMAT TSV".to_owned()),
        Just("18446744073709551615".to_owned()),
        ".{0,12}",
        hostile(),
    ];
    let header = prop::sample::select(vec![
        "Content-Encoding",
        "Accept-Encoding",
        "Content-Type",
        "X-ClickHouse-Format",
        "X-ClickHouse-Database",
        "Expect",
        "Transfer-Encoding",
        "Content-Length",
        "Connection",
        "Upgrade",
        "Authorization",
        "Range",
    ]);
    let header_value = prop::sample::select(vec![
        "gzip",
        "br",
        "lz4",
        "zstd",
        "deflate",
        "identity",
        "chunked",
        "multipart/form-data; boundary=b",
        "7",
        "-1",
        "100-continue",
        "h2c",
        "websocket",
        "Basic x",
        "close",
        "",
        "\u{1}",
    ]);
    let request = (
        prop::sample::select(vec!["GET", "POST", "HEAD", "PUT", "OPTIONS", "post", "PRI"]),
        proptest::collection::vec((name, value), 0..5),
        proptest::collection::vec((header, header_value), 0..3),
        proptest::collection::vec(any::<u8>(), 0..64),
    );
    for (method, params, headers, body) in cases(&request) {
        let query: String = params
            .iter()
            .map(|(name, value)| format!("&{name}={}", percent(value)))
            .collect();
        let headers: String = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        let mut bytes = format!(
            "{method} /?user=default&password=admin{query} HTTP/1.1\r\nHost: x\r\n\
             Content-Length: {}\r\n{headers}\r\n",
            body.len()
        )
        .into_bytes();
        bytes.extend_from_slice(&body);
        let address = server.address();
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        tokio::task::spawn_blocking(move || send(&address, &bytes))
            .await
            .unwrap();
        assert!(server.runs(), "ended by {shown}");
    }
    unharmed(&mut server, "requests").await;
}

#[tokio::test]
async fn any_body_is_taken_or_refused() {
    let mut server = Server::start().await;
    victim(&server).await;
    let columns = "CREATE TABLE fuzzed (a Nullable(Int64), b Array(LowCardinality(String)), \
                   c Map(String, DateTime64(3))) ENGINE = MergeTree ORDER BY tuple()";
    server.value(columns).await;
    let good = server.post(&[]).body(
        "SELECT 1::Nullable(Int64) AS a, ['x', 'y']::Array(LowCardinality(String)) AS b, \
               map('k', toDateTime64(1, 3)) AS c FROM numbers(3) FORMAT Native",
    );
    let good = good.send().await.unwrap().bytes().await.unwrap().to_vec();
    let body = (
        prop::sample::select(vec![
            "Native",
            "RowBinary",
            "RowBinaryWithNamesAndTypes",
            "Parquet",
            "Avro",
            "CSV",
            "JSONEachRow",
            "Values",
            "MsgPack",
            "Arrow",
            "ORC",
            "Buffers",
            "JSON",
        ]),
        proptest::collection::vec(any::<u8>(), 0..80),
        proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        prop::sample::select(vec!["", "gzip", "zstd", "br", "lz4", "deflate"]),
        any::<bool>(),
    );
    for (format, bytes, changes, coding, from_good) in cases(&body) {
        let mut bytes = if from_good { good.clone() } else { bytes };
        let format = if from_good { "Native" } else { format };
        for (at, byte) in changes {
            if !bytes.is_empty() && from_good {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        let query = format!("INSERT INTO fuzzed FORMAT {format}");
        let mut request = server.post(&[("query", &query), ("max_memory_usage", "1000000000")]);
        if !from_good && !coding.is_empty() {
            request = request.header("Content-Encoding", coding);
        }
        let answer = answer(request.body(bytes)).await;
        assert!(
            [200, 400, 404, 413, 500, 501].contains(&answer.status),
            "{format}: {answer:?}"
        );
    }
    unharmed(&mut server, "bodies").await;
}
