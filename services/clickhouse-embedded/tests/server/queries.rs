//! What is asked is answered as ClickHouse answers it.

use crate::common::{Server, answer};

#[tokio::test]
async fn queries_come_by_url_body_or_both() {
    let server = Server::start().await;
    assert_eq!(server.value("SELECT 1 + 1").await, "2");
    let get = |query: &str| {
        reqwest::Client::new()
            .get(format!("{}?{query}", server.url()))
            .basic_auth("default", Some("admin"))
    };
    assert_eq!(answer(get("query=SELECT%201")).await.text, "1\n");
    assert_eq!(
        answer(server.post(&[("query", "SELECT")]).body(" 5"))
            .await
            .text,
        "5\n"
    );
    let json = answer(get("query=SELECT%201%20AS%20x&default_format=JSONEachRow")).await;
    assert_eq!(json.text, "{\"x\":1}\n");
    let read_only = answer(get("query=CREATE%20TABLE%20t%20(a%20Int8)%20ENGINE=Memory")).await;
    assert_eq!(read_only.code(), 164);

    let ping = reqwest::get(format!("{}ping", server.url())).await.unwrap();
    assert_eq!(ping.text().await.unwrap(), "Ok.\n");
    let root = reqwest::get(server.url()).await.unwrap();
    assert_eq!(root.text().await.unwrap(), "Ok.\n");
    let nowhere = reqwest::get(format!("{}nowhere", server.url()))
        .await
        .unwrap();
    assert_eq!(nowhere.status().as_u16(), 404);
    let metrics = reqwest::get(format!("{}metrics", server.url()))
        .await
        .unwrap();
    let metrics = metrics.text().await.unwrap();
    assert!(
        metrics.contains("clickhouse_embedded_queries_total{kind=\"select\",outcome=\"ok\"}"),
        "{metrics}"
    );
}

#[tokio::test]
async fn errors_have_code_status_and_headers() {
    let server = Server::start().await;
    for (sql, code, status) in [
        ("SELEC 1", 62, 400),
        ("SELECT * FROM nowhere", 60, 404),
        ("SELECT nothing", 47, 404),
        ("SELECT nosuch(1)", 46, 404),
        ("SELECT * FROM nowhere.t", 81, 404),
        ("SELECT 1 FORMAT Nonsense", 73, 404),
        ("SELECT throwIf(1)", 395, 500),
        ("SELECT toUInt8('x')", 6, 400),
        (
            "SELECT sleep(3) SETTINGS max_execution_time = 0.1",
            159,
            408,
        ),
        ("", 211, 500),
        ("-- nothing", 211, 500),
        ("SELECT 1 INTO OUTFILE '/tmp/x'", 358, 500),
    ] {
        let answer = server.ask(sql).await;
        assert_eq!(
            (answer.code(), answer.status),
            (code, status),
            "{sql}: {answer:?}"
        );
        assert!(answer.text.ends_with("(embedded build))\n"), "{answer:?}");
    }
    let response = server
        .post(&[("query_id", "mine")])
        .body("SELECT * FROM nowhere");
    let response = response.send().await.unwrap();
    assert_eq!(response.headers()["x-clickhouse-exception-code"], "60");
    assert_eq!(response.headers()["x-clickhouse-query-id"], "mine");
    let unknown = answer(server.post(&[("database", "nowhere")]).body("SELECT 1")).await;
    assert_eq!((unknown.code(), unknown.status), (81, 404));
}

#[tokio::test]
async fn one_statement_a_request() {
    let server = Server::start().await;
    server
        .value("CREATE TABLE t (a Int8) ENGINE = MergeTree ORDER BY a")
        .await;
    for sql in [
        "SELECT 1; DROP TABLE t",
        "SELEC 1; DROP TABLE t",
        "DROP TABLE t; SELEC",
        "SELECT 1;; DROP TABLE t",
        "SELECT 1 -- ;\n; DROP TABLE t",
        "DROP TABLE t PARALLEL WITH SELECT 1",
        "SELECT 1 /* ' */ ; DROP TABLE t --'",
    ] {
        let answer = server.ask(sql).await;
        assert_eq!((answer.code(), answer.status), (62, 400), "{sql}");
        assert_eq!(server.value("EXISTS t").await, "1", "{sql}");
    }
    for sql in ["SELECT 1;", "SELECT 1 ; -- done", "SELECT 1 /* ; */"] {
        assert_eq!(server.value(sql).await, "1", "{sql}");
    }
}

#[tokio::test]
async fn settings_and_parameters_are_of_one_request() {
    let server = Server::start().await;
    let ask = |query: Vec<(&'static str, &'static str)>, sql: &'static str| {
        answer(server.post(&query).body(sql))
    };
    let threads = "SELECT getSetting('max_threads')";
    assert_eq!(ask(vec![("max_threads", "3")], threads).await.text, "3\n");
    assert_ne!(server.value(threads).await, "3");
    assert_eq!(
        ask(vec![("nosuch_setting", "1")], "SELECT 1").await.code(),
        115
    );
    assert_eq!(
        ask(vec![("max_threads", "many")], "SELECT 1").await.status,
        400
    );
    let injected = ask(vec![("log_queries = 1, max_threads", "3")], "SELECT 1").await;
    assert_eq!(injected.code(), 115);
    let quoted = ask(
        vec![("default_format", "TSVRaw"), ("format_csv_delimiter", "'")],
        "SELECT getSetting('format_csv_delimiter')",
    );
    assert_eq!(quoted.await.text, "'\n");

    let sql = "SELECT {n:UInt8} + 1, {s:String}, {a:Array(String)}, {t:Identifier}.number \
               FROM numbers(1) AS x";
    let params = vec![
        ("param_n", "41"),
        ("param_s", "it's; DROP"),
        ("param_a", "['x','y']"),
        ("param_t", "x"),
    ];
    assert_eq!(
        ask(params, sql).await.text,
        "42\tit\\'s; DROP\t['x','y']\t0\n"
    );
    assert_eq!(ask(vec![], "SELECT {n:UInt8}").await.code(), 456);
    assert_eq!(
        ask(vec![("param_n", "x")], "SELECT {n:UInt8}").await.code(),
        457
    );

    let form = "--b\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\n\
                SELECT {s:String}\r\n--b\r\n\
                Content-Disposition: form-data; name=\"param_s\"\r\n\r\nlong\r\n--b--\r\n";
    let request = server
        .post(&[])
        .header("Content-Type", "multipart/form-data; boundary=b")
        .body(form);
    assert_eq!(answer(request).await.text, "long\n");
}

#[tokio::test]
async fn long_results_have_one_header_and_every_row() {
    let server = Server::start().await;
    const ROWS: usize = 300_000;
    for (format, header) in [
        ("TSV", vec![]),
        ("CSVWithNames", vec!["\"number\""]),
        ("TSVWithNamesAndTypes", vec!["number", "UInt64"]),
        ("JSONCompactEachRowWithNames", vec!["[\"number\"]"]),
    ] {
        let sql = format!("SELECT number FROM numbers({ROWS}) FORMAT {format}");
        let text = server.value(&sql).await;
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), ROWS + header.len(), "{format}");
        assert_eq!(lines[..header.len()], header, "{format}");
        let sum: u64 = lines[header.len()..]
            .iter()
            .map(|line| line.trim_matches(['[', ']', '"']).parse::<u64>().unwrap())
            .sum();
        assert_eq!(sum, (ROWS as u64) * (ROWS as u64 - 1) / 2, "{format}");
    }
    let sql = format!("SELECT number FROM numbers({ROWS}) FORMAT JSON");
    let json: serde_json::Value = serde_json::from_str(&server.value(&sql).await).unwrap();
    assert_eq!(json["data"].as_array().unwrap().len(), ROWS);
    assert_eq!(
        server
            .value("SELECT count() FROM numbers(3000000) FORMAT Null")
            .await,
        ""
    );
    let empty = server
        .value("SELECT 1 AS x WHERE 0 FORMAT CSVWithNames")
        .await;
    assert_eq!(empty, "\"x\"");
    let sql = "SELECT number % 3 AS k, count() FROM numbers(9) GROUP BY k WITH TOTALS ORDER BY k";
    assert_eq!(server.value(sql).await, "0\t3\n1\t3\n2\t3\n\n0\t9");
}

#[tokio::test]
async fn the_clickhouse_crate_reads_what_it_asked_for() {
    use clickhouse::{Compression, Row};
    use serde::Deserialize;

    #[derive(Debug, Row, Deserialize)]
    struct Pair {
        number: u64,
        text: String,
    }
    let server = Server::start().await;
    for compression in [Compression::None, Compression::Lz4] {
        let client = server.client().with_compression(compression);
        let rows = client
            .query("SELECT number, toString(number) AS text FROM numbers(?)")
            .bind(250_000)
            .fetch_all::<Pair>()
            .await
            .unwrap();
        assert_eq!(rows.len(), 250_000);
        assert!(
            rows.iter()
                .enumerate()
                .all(|(at, row)| { row.number == at as u64 && row.text == at.to_string() })
        );
        let none = client
            .query("SELECT number, '' AS text FROM numbers(0)")
            .fetch_all::<Pair>()
            .await
            .unwrap();
        assert!(none.is_empty());
        let error = client.query("SELECT * FROM nowhere").execute().await;
        assert!(error.unwrap_err().to_string().contains("Code: 60."));

        // An error behind rows that are already on their way.
        let mut cursor = client
            .query(
                "SELECT number, toString(throwIf(number = 900000)) AS text FROM numbers(1000000)",
            )
            .fetch::<Pair>()
            .unwrap();
        let mut rows = 0;
        let error = loop {
            match cursor.next().await {
                Ok(Some(_)) => rows += 1,
                Ok(None) => panic!("{rows} rows passed for all"),
                Err(error) => break error.to_string(),
            }
        };
        assert!(
            rows > 0 && error.contains("Code: 395."),
            "{rows} rows, {error}"
        );
    }
}

#[tokio::test]
async fn an_error_in_mid_result_is_marked_and_breaks_the_transfer() {
    let server = Server::start().await;
    let sql = "SELECT throwIf(number = 2000000) FROM numbers(4000000)";
    let mut response = server.post(&[]).body(sql).send().await.unwrap();
    assert_eq!(response.status().as_u16(), 200);
    let tag = response.headers()["x-clickhouse-exception-tag"]
        .to_str()
        .unwrap()
        .to_owned();
    let mut text = Vec::new();
    let broken = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => text.extend_from_slice(&chunk),
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    assert!(broken, "the transfer ended as if it were complete");
    let end = String::from_utf8_lossy(&text[text.len() - 900..]).into_owned();
    assert!(end.contains("Code: 395.") && end.contains(&tag), "{end}");
    assert!(
        end.ends_with(&format!("{tag}\r\n__exception__\r\n")),
        "{end}"
    );
    // With wait_end_of_query the error is the answer.
    let request = server.post(&[("wait_end_of_query", "1")]).body(sql);
    assert_eq!(answer(request).await.code(), 395);
}

#[tokio::test]
async fn a_summary_counts_rows() {
    let server = Server::start().await;
    server
        .value("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
        .await;
    let summary = |response: reqwest::Response| {
        let text = response.headers()["x-clickhouse-summary"]
            .to_str()
            .unwrap()
            .to_owned();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    let insert = server
        .post(&[("query", "INSERT INTO t FORMAT TSV")])
        .body("1\n2\n3\n");
    let written = summary(insert.send().await.unwrap());
    assert_eq!(written["written_rows"], "3");
    let select = server.post(&[]).body("SELECT a FROM t WHERE a > 1");
    let read = summary(select.send().await.unwrap());
    assert_eq!(
        (&read["read_rows"], &read["result_rows"]),
        (&"3".into(), &"2".into())
    );
}
