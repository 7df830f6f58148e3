//! `session_id`: what lasts from one request to the next, and what does not.

use std::time::Duration;

use crate::common::{Answer, Server, answer};

async fn ask(server: &Server, query: &[(&str, &str)], sql: &str) -> Answer {
    answer(server.post(query).body(sql.to_owned())).await
}

#[tokio::test]
async fn a_session_keeps_tables_settings_and_database() {
    let server = Server::start().await;
    server.value("CREATE DATABASE other").await;
    let session = [("session_id", "s")];
    let value = async |sql: &str| {
        let answer = ask(&server, &session, sql).await;
        assert_eq!(answer.status, 200, "{sql}: {}", answer.text);
        answer.text.trim_end().to_owned()
    };
    value("CREATE TEMPORARY TABLE t (a UInt8)").await;
    value("INSERT INTO t FORMAT TSV\n1\n2\n").await;
    value("INSERT INTO t VALUES (3)").await;
    assert_eq!(value("SELECT sum(a) FROM t").await, "6");
    value("SET max_threads = 3").await;
    value("USE other").await;
    assert_eq!(
        value("SELECT getSetting('max_threads'), currentDatabase()").await,
        "3\tother"
    );
    // An error leaves the session as it was.
    assert_eq!(ask(&server, &session, "SELECT nothing").await.code(), 47);
    assert_eq!(value("SELECT count() FROM t").await, "3");

    // What comes with a request is of that request only.
    let with = [
        ("session_id", "s"),
        ("max_threads", "5"),
        ("format_csv_delimiter", "'"),
        ("database", "default"),
    ];
    let sql = "SELECT getSetting('max_threads'), getSetting('format_csv_delimiter'), \
               currentDatabase() FORMAT TSVRaw";
    assert_eq!(ask(&server, &with, sql).await.text, "5\t'\tdefault\n");
    assert_eq!(value(sql).await, "3\t,\tother");
    let json = [("session_id", "s"), ("default_format", "JSON")];
    assert_eq!(ask(&server, &json, "SELECT 1").await.status, 200);
    assert_eq!(value("SELECT getSetting('max_result_bytes')").await, "0");

    // Nobody else has any of it.
    for query in [vec![], vec![("session_id", "another")]] {
        assert_eq!(ask(&server, &query, "SELECT * FROM t").await.code(), 60);
        let settings = ask(&server, &query, "SELECT currentDatabase()").await;
        assert_eq!(settings.text, "default\n");
    }
    let reader = server
        .post_as("reader", "reader", &session)
        .body("SELECT * FROM t");
    assert_eq!(answer(reader).await.code(), 60);
}

#[tokio::test]
async fn a_session_is_one_requests_at_a_time_and_ends() {
    let server = Server::start_with(&[("MAX_SESSIONS", "3")]).await;
    let session = [("session_id", "s")];
    let (slow, locked) = tokio::join!(ask(&server, &session, "SELECT sleep(1)"), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        ask(&server, &session, "SELECT 1").await
    });
    assert_eq!(slow.status, 200);
    assert_eq!((locked.code(), locked.status), (373, 500));
    assert_eq!(ask(&server, &session, "SELECT 1").await.text, "1\n");

    let check = [("session_id", "s"), ("session_check", "1")];
    assert_eq!(ask(&server, &check, "SELECT 1").await.text, "1\n");
    let close = [("session_id", "s"), ("close_session", "1")];
    assert_eq!(ask(&server, &close, "SELECT 1").await.text, "1\n");
    assert_eq!(ask(&server, &check, "SELECT 1").await.code(), 372);

    let short = [("session_id", "short"), ("session_timeout", "1")];
    ask(&server, &short, "CREATE TEMPORARY TABLE t (a UInt8)").await;
    assert_eq!(
        ask(&server, &short, "EXISTS TEMPORARY TABLE t").await.text,
        "1\n"
    );
    tokio::time::sleep(Duration::from_millis(1300)).await;
    assert_eq!(
        ask(&server, &short, "EXISTS TEMPORARY TABLE t").await.text,
        "0\n"
    );
    let long = [("session_id", "s"), ("session_timeout", "4000")];
    assert_eq!(ask(&server, &long, "SELECT 1").await.code(), 374);

    for id in ["a", "b", "c", "d"] {
        let query = [("session_id", id)];
        let answer = ask(&server, &query, "SELECT 1").await;
        if answer.status != 200 {
            assert_eq!(answer.code(), 202);
            assert!(answer.text.contains("max_sessions"), "{answer:?}");
            return;
        }
    }
    panic!("a fourth session was let in");
}

#[tokio::test]
async fn a_session_does_not_outlive_the_server_or_hold_it_up() {
    let mut server = Server::start().await;
    let session = [("session_id", "s"), ("session_timeout", "3600")];
    ask(&server, &session, "CREATE TEMPORARY TABLE t (a UInt8)").await;
    server.terminate();
    let status = server.ended(Duration::from_secs(3)).await;
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn tables_that_come_with_a_query_are_there_for_it() {
    let server = Server::start().await;
    let form = |name: &str, rows: &str| {
        format!(
            "--b\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n{rows}\r\n--b--\r\n"
        )
    };
    let send = async |query: &[(&str, &str)], body: String| {
        let request = server
            .post(query)
            .header("Content-Type", "multipart/form-data; boundary=b")
            .body(body);
        answer(request).await
    };
    let sql = ("query", "SELECT sum(a), any(b) FROM t");
    let structure = ("t_structure", "a UInt8, b Array(String)");
    let rows = form("t", "1\t['x']\n2\t['x']");
    for session in [vec![], vec![("session_id", "s")], vec![("session_id", "s")]] {
        let query = [&[sql, structure][..], &session].concat();
        assert_eq!(send(&query, rows.clone()).await.text, "3\t['x']\n");
    }
    let query = [
        ("query", "SELECT sum(_1), any(_2) FROM t"),
        ("t_types", "UInt8, Map(String, UInt8)"),
        ("t_format", "CSV"),
    ];
    let body = form("t", "1,\"{'k':1}\"\n4,\"{'k':1}\"");
    assert_eq!(send(&query, body).await.text, "5\t{'k':1}\n");
    // A reader's too, behind whose back nothing is written.
    let reader = server
        .post_as("reader", "reader", &[sql, structure])
        .header("Content-Type", "multipart/form-data; boundary=b")
        .body(rows.clone());
    assert_eq!(answer(reader).await.text, "3\t['x']\n");

    assert_eq!(send(&[sql], rows.clone()).await.code(), 36);
    for structure in [
        "a UInt8) ENGINE = File(TSV, '/tmp/x') --",
        "a UInt8); DROP TABLE t; --",
        "a UInt8) AS SELECT 1 --",
        "a UInt8 DEFAULT (SELECT 1)) ENGINE = Log(",
        "",
    ] {
        let answer = send(&[sql, ("t_structure", structure)], rows.clone()).await;
        assert_ne!(answer.status, 200, "{structure}: {answer:?}");
    }
    let wrong = send(&[sql, structure], form("t", "x\ty")).await;
    assert_eq!((wrong.code(), wrong.status), (27, 400), "{wrong:?}");
}
