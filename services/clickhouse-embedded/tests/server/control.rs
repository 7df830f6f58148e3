//! Queries by their ids: one at a time, cancelled, replaced, and logged.

use std::time::Duration;

use tokio::time::timeout;

use crate::common::{Server, answer, eventually};

const ENDLESS: &str = "SELECT count() FROM numbers(100000000000000) WHERE sipHash64(number) = 1";

async fn runs(server: &Server, query_id: &str) -> bool {
    let sql = format!(
        "SELECT count() FROM system.processes WHERE Settings['log_comment'] = '{query_id}'"
    );
    server.value(&sql).await != "0"
}

#[tokio::test]
async fn an_id_is_one_query() {
    let server = Server::start().await;
    let endless = server.post(&[("query_id", "mine")]).body(ENDLESS);
    let endless = tokio::spawn(answer(endless));
    eventually("it runs", Duration::from_secs(5), async || {
        runs(&server, "mine").await
    })
    .await;
    let second = answer(server.post(&[("query_id", "mine")]).body("SELECT 1")).await;
    assert_eq!((second.code(), second.status), (216, 500));
    let header = server
        .post(&[])
        .header("X-ClickHouse-Query-Id", "mine")
        .body("SELECT 1");
    assert_eq!(answer(header).await.code(), 216);
    let replace = [("query_id", "mine"), ("replace_running_query", "1")];
    let reader = server
        .post_as("reader", "reader", &replace)
        .body("SELECT 1");
    assert_eq!(answer(reader).await.code(), 216, "another user's");
    assert_eq!(
        answer(server.post(&replace).body("SELECT 1")).await.text,
        "1\n"
    );
    assert_eq!(endless.await.unwrap().code(), 394);
}

#[tokio::test]
async fn kill_query_finds_ids_and_users() {
    let server = Server::start().await;
    let start = |user: &str, id: &str| {
        let request = server.post_as(
            user,
            if user == "reader" { user } else { "admin" },
            &[("query_id", id)],
        );
        tokio::spawn(answer(request.body(ENDLESS)))
    };
    let (a, b, c) = (
        start("default", "a"),
        start("default", "it's b"),
        start("reader", "c"),
    );
    eventually("three run", Duration::from_secs(5), async || {
        server.value("SELECT count() FROM system.processes").await == "4"
    })
    .await;
    let refused = server.ask_as_reader("KILL QUERY WHERE 1").await;
    assert_eq!(refused.code(), 164);
    let test = server.value("KILL QUERY WHERE query_id = 'a' TEST").await;
    assert!(
        test.starts_with("unknown_status\ta\tdefault\tSELECT count()"),
        "{test}"
    );
    assert!(runs(&server, "a").await);
    for wrong in [
        "KILL QUERY WHERE query_id = 'a') OR (1",
        "KILL QUERY WHERE 1) UNION ALL SELECT 1, 2, 3, (4",
        "KILL QUERY WHERE query_id = 'a'; SELECT 1",
        "KILL QUERY WHERE",
        "KILL QUERY WHERE nosuch = 1",
    ] {
        let answer = server.ask(wrong).await;
        assert!(matches!(answer.code(), 47 | 62), "{wrong}: {answer:?}");
    }
    let sync = server
        .value("KILL QUERY WHERE query_id = 'a' SYNC FORMAT TSV")
        .await;
    assert!(sync.starts_with("waiting\ta\t"), "{sync}");
    assert_eq!(a.await.unwrap().code(), 394);
    let users = server.value("KILL QUERY WHERE user = 'reader' ASYNC").await;
    assert_eq!(users.lines().count(), 1, "{users}");
    assert_eq!(c.await.unwrap().code(), 394);
    assert!(!b.is_finished());
    let rest = server
        .value("KILL QUERY WHERE elapsed > 0 FORMAT JSONEachRow")
        .await;
    assert!(rest.contains("\"query_id\":\"it's b\""), "{rest}");
    assert_eq!(b.await.unwrap().code(), 394);
    assert_eq!(server.value("KILL QUERY WHERE query_id = 'a'").await, "");
}

#[tokio::test]
async fn who_goes_away_early_leaves_no_query_behind() {
    let server = Server::start().await;
    // Away at any moment, also before the engine knows of the query.
    for pause_ms in [0, 1, 2, 3, 5, 8, 13, 21, 34, 55] {
        let asked = server
            .post(&[])
            .body(ENDLESS)
            .timeout(Duration::from_millis(3 + pause_ms));
        assert!(asked.send().await.is_err());
    }
    eventually("none runs", Duration::from_secs(5), async || {
        server.value("SELECT count() FROM system.processes").await == "1"
    })
    .await;
}

#[tokio::test]
async fn what_ran_is_in_the_log() {
    let mut server = Server::start().await;
    server
        .value("CREATE TABLE t (a UInt64, s String) ENGINE = MergeTree ORDER BY a")
        .await;
    let insert = server
        .post(&[
            ("query", "INSERT INTO t FORMAT TSV"),
            ("query_id", "insert"),
        ])
        .body("1\tsecret\n2\tsecret\n");
    assert_eq!(answer(insert).await.status, 200);
    let select = server
        .post_as("reader", "reader", &[("query_id", "select")])
        .header("User-Agent", "test/1")
        .body("SELECT a FROM t WHERE s = 'secret' AND a > 1");
    assert_eq!(answer(select).await.status, 200);
    let failed = server
        .post(&[("query_id", "failed")])
        .body("SELECT nothing FROM t");
    assert_eq!(answer(failed).await.code(), 47);
    assert_eq!(server.value("SYSTEM FLUSH LOGS").await, "");

    let log = async |columns: &str, id: &str| {
        let sql = format!("SELECT {columns} FROM system.query_log WHERE query_id = '{id}'");
        server.value(&sql).await
    };
    assert_eq!(
        log(
            "type, query_kind, user, written_rows, exception_code",
            "insert"
        )
        .await,
        "QueryFinish\tInsert\tdefault\t2\t0"
    );
    assert_eq!(
        log(
            "type, query_kind, user, read_rows, result_rows, http_user_agent, address",
            "select"
        )
        .await,
        "QueryFinish\tSelect\treader\t2\t1\ttest/1\t127.0.0.1"
    );
    // The shape only: whoever may read the log sees no data.
    let query = log("query", "select").await;
    assert_eq!(query, "SELECT a FROM t WHERE s = ? AND a > ?");
    assert!(!log("*", "insert").await.contains("secret"));
    let failed = log("type, exception_code, exception LIKE '%nothing%'", "failed").await;
    assert_eq!(failed, "ExceptionWhileProcessing\t47\t1");
    let recent = "SELECT countIf(abs(dateDiff('second', event_time, now())) < 60 AND \
                  query_start_time_microseconds <= event_time_microseconds) = count() \
                  FROM system.query_log";
    assert_eq!(server.value(recent).await, "1");
    let same = "SELECT normalized_query_hash = normalizedQueryHash('SELECT a FROM t WHERE \
                s = \\'x\\' AND a > 7') FROM system.query_log WHERE query_id = 'select'";
    assert_eq!(server.value(same).await, "1");

    // What was logged last is there after an ordinary end, and the log goes on.
    answer(server.post(&[("query_id", "last")]).body("SELECT 1")).await;
    server.terminate();
    assert_eq!(server.ended(Duration::from_secs(3)).await.code(), Some(0));
    server.spawn().await;
    let sql = "SELECT count() FROM system.query_log WHERE query_id IN ('select', 'last')";
    assert_eq!(server.value(sql).await, "2");
    let engine = server.value("SHOW CREATE TABLE system_log.query_log").await;
    assert!(
        engine.contains("TTL event_date + toIntervalDay(30)"),
        "{engine}"
    );
}

#[tokio::test]
async fn a_log_that_cannot_be_written_fails_no_query() {
    let server = Server::start().await;
    server.value("DROP TABLE system_log.query_log").await;
    for _ in 0..20 {
        assert_eq!(server.value("SELECT 1").await, "1");
    }
    // Neither does it wait for the table to come back.
    let flushed = timeout(Duration::from_secs(60), server.value("SYSTEM FLUSH LOGS"));
    assert_eq!(flushed.await.expect("flushing ends"), "");
    let none = Server::start_with(&[("QUERY_LOG_DAYS", "0")]).await;
    assert_eq!(none.ask("SELECT * FROM system.query_log").await.code(), 60);
}
