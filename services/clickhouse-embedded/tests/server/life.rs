//! Limits, kills and the end.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::common::{Server, answer, resident_mib};

#[tokio::test]
async fn a_query_that_needs_too_much_memory_fails_alone() {
    let server = Server::start_with(&[
        ("MAX_SERVER_MEMORY", "1073741824"),
        ("MAX_QUERY_MEMORY", "536870912"),
        ("MAX_BODY_MEMORY", "8388608"),
        ("MAX_MATERIALIZED_RESULT", "4194304"),
    ])
    .await;
    let greedy = "SELECT length(groupArray(number)) FROM numbers(500000000)";
    let refused = server.ask(greedy).await;
    assert_eq!((refused.code(), refused.status), (241, 500));
    // Lifting the query's limit leaves the server's.
    let request = server.post(&[("max_memory_usage", "0")]).body(greedy);
    assert_eq!(answer(request).await.code(), 241);
    assert_eq!(server.value("SELECT 1").await, "1");
    assert!(resident_mib(server.pid()) < 1500);

    server
        .value("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
        .await;
    let query = [("query", "INSERT INTO t FORMAT RowBinary")];
    let large = answer(server.post(&query).body(vec![0; 9 << 20])).await;
    assert_eq!((large.code(), large.status), (241, 413), "{large:?}");
    assert_eq!(server.value("SELECT count() FROM t").await, "0");
    assert_eq!(
        answer(server.post(&query).body(vec![0; 8 << 20]))
            .await
            .status,
        200
    );

    let document = server
        .ask("SELECT number FROM numbers(1000000) FORMAT JSON")
        .await;
    assert_eq!(document.code(), 396);
    let pieces = server
        .ask("SELECT number FROM numbers(1000000) FORMAT JSONEachRow")
        .await;
    assert_eq!(pieces.text.lines().count(), 1_000_000);
}

#[tokio::test]
async fn queries_run_side_by_side_up_to_the_limit() {
    let server = Server::start_with(&[("MAX_CONCURRENT_QUERIES", "4")]).await;
    let started = Instant::now();
    let sleep = async || server.ask("SELECT sleep(2)").await;
    let (a, b, c, d, refused) = tokio::join!(sleep(), sleep(), sleep(), sleep(), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.ask("SELECT 1").await
    });
    for answer in [a, b, c, d] {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert!(
        started.elapsed() < Duration::from_secs(6),
        "one after the other"
    );
    assert_eq!(refused.code(), 202);
    assert_eq!(server.value("SELECT 1").await, "1");
}

#[tokio::test]
async fn who_goes_away_leaves_no_query_behind() {
    let server = Server::start().await;
    let endless = "SELECT count() FROM numbers(100000000000000) WHERE sipHash64(number) = 1";
    let asked = server
        .post(&[])
        .body(endless)
        .timeout(Duration::from_millis(500));
    assert!(asked.send().await.is_err());
    let endless = "SELECT number FROM numbers(100000000000000)";
    let mut response = server.post(&[]).body(endless).send().await.unwrap();
    assert!(response.chunk().await.unwrap().is_some());
    drop(response);
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let running = server.value("SELECT count() FROM system.processes").await;
        if running == "1" {
            break;
        }
        assert!(Instant::now() < deadline, "{running} queries still run");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn sigterm_lets_queries_finish() {
    let mut server = Server::start().await;
    let request = server.post(&[]).body("SELECT sleep(2), 'done'");
    let asked = tokio::spawn(answer(request));
    tokio::time::sleep(Duration::from_millis(400)).await;
    server.terminate();
    assert_eq!(asked.await.unwrap().text, "0\tdone\n");
    let status = server.ended(Duration::from_secs(3)).await;
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn sigterm_ends_queries_that_do_not_finish() {
    let mut server = Server::start().await;
    let endless = "SELECT count() FROM numbers(100000000000000) WHERE sipHash64(number) = 1";
    let asked = tokio::spawn(server.post(&[]).body(endless).send());
    tokio::time::sleep(Duration::from_millis(400)).await;
    let started = Instant::now();
    server.terminate();
    let status = server.ended(Duration::from_secs(12)).await;
    assert_eq!(status.code(), Some(0));
    assert!(started.elapsed() >= Duration::from_secs(7));
    drop(asked);
}

#[tokio::test]
async fn what_was_made_is_there_after_restarts() {
    let mut server = Server::start().await;
    server
        .value("CREATE TABLE t (a Int8) ENGINE = MergeTree ORDER BY a")
        .await;
    server.value("CREATE DATABASE d").await;
    server
        .value("CREATE TABLE d.t (a Int8) ENGINE = MergeTree ORDER BY a")
        .await;
    for round in 0..4 {
        server.value("INSERT INTO t VALUES (1)").await;
        server.value("INSERT INTO d.t VALUES (1)").await;
        if round % 2 == 0 {
            server.terminate();
            assert_eq!(server.ended(Duration::from_secs(3)).await.code(), Some(0));
        } else {
            server.kill();
        }
        server.spawn().await;
        let count = "SELECT (SELECT count() FROM t), (SELECT count() FROM d.t)";
        assert_eq!(server.value(count).await, format!("{0}\t{0}", round + 1));
        let engine = "SELECT engine FROM system.databases WHERE name = 'default'";
        assert_eq!(server.value(engine).await, "Atomic");
    }
}

/// SIGKILL in the middle of inserts, again and again: what was acknowledged is there, once.
#[tokio::test]
async fn kill_9_loses_no_acknowledged_row() {
    const KILLS: usize = 6;
    const ROWS: u64 = 2000;
    let mut server = Server::start().await;
    server
        .value(
            "CREATE TABLE t (batch UInt64, id UInt64) ENGINE = MergeTree ORDER BY (batch, id) \
             SETTINGS non_replicated_deduplication_window = 10000",
        )
        .await;
    let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
    let next = Arc::new(std::sync::atomic::AtomicU64::new(0));
    for kill in 0..KILLS {
        let writers: Vec<_> = (0..4)
            .map(|_| {
                let (acknowledged, next) = (Arc::clone(&acknowledged), Arc::clone(&next));
                let query = [("query", "INSERT INTO t FORMAT RowBinary")];
                let request = server.post(&query);
                tokio::spawn(async move {
                    loop {
                        let batch = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        let body: Vec<u8> = (0..ROWS)
                            .flat_map(|id| [batch.to_le_bytes(), id.to_le_bytes()].concat())
                            .collect();
                        let sent = request.try_clone().unwrap().body(body).send().await;
                        match sent {
                            Ok(response) if response.status().is_success() => {
                                acknowledged.lock().unwrap().insert(batch);
                            }
                            _ => return,
                        }
                    }
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(400 + 170 * kill as u64)).await;
        server.kill();
        for writer in writers {
            writer.await.unwrap();
        }
        server.spawn().await;
        let found = server
            .value("SELECT batch, count(), uniqExact(id) FROM t GROUP BY batch")
            .await;
        let found: BTreeSet<u64> = found
            .lines()
            .map(|line| {
                let columns: Vec<u64> = line.split('\t').map(|c| c.parse().unwrap()).collect();
                assert_eq!(
                    columns[1..],
                    [ROWS, ROWS],
                    "batch {} is not whole",
                    columns[0]
                );
                columns[0]
            })
            .collect();
        let acknowledged = acknowledged.lock().unwrap();
        let lost: Vec<_> = acknowledged.difference(&found).collect();
        assert!(
            lost.is_empty(),
            "kill {kill}: acknowledged and lost: {lost:?}"
        );
        assert!(
            acknowledged.len() > kill * 4,
            "hardly anything was inserted"
        );
    }
}
