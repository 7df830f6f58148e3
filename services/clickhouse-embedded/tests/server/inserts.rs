//! Rows arrive whole or not at all, and once.

use std::io::{Read, Write};
use std::time::Duration;

use crate::common::{Server, answer};
use clickhouse::{Compression, Row};
use serde::{Deserialize, Serialize};

/// 2026-01-01 00:00:00 UTC
const DAY: u32 = 1_767_225_600;

#[derive(Debug, Clone, PartialEq, Row, Serialize, Deserialize)]
struct Event {
    at: u32,
    id: u64,
    text: String,
}

fn events(ids: std::ops::Range<u64>, day: u32) -> Vec<Event> {
    ids.map(|id| Event {
        at: DAY + day * 86_400 + (id % 80_000) as u32,
        id,
        text: format!("event {id};\n\nDROP TABLE t"),
    })
    .collect()
}

async fn table(server: &Server) {
    server
        .value(
            "CREATE TABLE t (at DateTime, id UInt64, text String) ENGINE = MergeTree \
             PARTITION BY toDate(at) ORDER BY id \
             SETTINGS non_replicated_deduplication_window = 1000",
        )
        .await;
}

async fn insert(client: &clickhouse::Client, rows: &[Event]) -> clickhouse::error::Result<()> {
    let mut insert = client.insert::<Event>("t").await?;
    for row in rows {
        insert.write(row).await?;
    }
    insert.end().await
}

/// RowBinary by hand.
fn row_binary(rows: &[Event]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for row in rows {
        bytes.extend_from_slice(&row.at.to_le_bytes());
        bytes.extend_from_slice(&row.id.to_le_bytes());
        assert!(row.text.len() < 128);
        bytes.push(row.text.len() as u8);
        bytes.extend_from_slice(row.text.as_bytes());
    }
    bytes
}

#[tokio::test]
async fn the_clickhouse_crate_inserts_with_and_without_compression() {
    let server = Server::start().await;
    table(&server).await;
    let all = events(0..30_000, 0);
    let modes = [
        (Compression::None, true),
        (Compression::Lz4, true),
        (Compression::None, false),
        (Compression::Lz4, false),
    ];
    for (compression, validation) in modes {
        let client = server
            .client()
            .with_compression(compression)
            .with_validation(validation);
        insert(&client, &all).await.unwrap();
        let sql = "SELECT at, id, text FROM t ORDER BY id";
        // at is a DateTime, which the row has as u32.
        let back = client.query(sql).fetch_all::<Event>().await.unwrap();
        assert!(back == all, "{} rows came back", back.len());
        server.value("TRUNCATE TABLE t").await;
    }
}

#[tokio::test]
async fn raw_bodies_are_inserted_as_they_are() {
    let server = Server::start().await;
    table(&server).await;
    let all = events(0..10_000, 0);
    for compression in [Compression::None, Compression::Lz4] {
        let client = server.client().with_compression(compression);
        let mut insert =
            client.insert_formatted_with("INSERT INTO t (at, id, text) FORMAT RowBinary");
        insert.send(row_binary(&all).into()).await.unwrap();
        insert.end().await.unwrap();
        let sum = "SELECT count(), sum(id) FROM t";
        assert_eq!(server.value(sum).await, "10000\t49995000");
        // Forgets what deduplication goes by, too.
        server.value("TRUNCATE TABLE t").await;
    }
    let statement = "INSERT INTO t (id, text) FORMAT CSV\n1,\"a;\n\nDROP TABLE t\"\n2,b\n";
    assert_eq!(server.ask(statement).await.status, 200);
    let statement = "INSERT INTO t (id, text) VALUES (3, 'c;'), (4, 'd\n\nDROP TABLE t')";
    assert_eq!(server.ask(statement).await.status, 200);
    let statement = "INSERT INTO t (id, text) VALUES (5, 'e'); DROP TABLE t";
    assert_ne!(server.ask(statement).await.status, 200);
    let request = server
        .post(&[
            ("query", "INSERT INTO t (id) FORMAT TSV"),
            ("decompress", "1"),
        ])
        .body("6\n7\n");
    assert_ne!(answer(request).await.status, 200);
    let request = server
        .post(&[
            ("query", "INSERT INTO t (id, text) VALUES"),
            ("param_x", "1"),
        ])
        .body("(8, {x:String})");
    answer(request).await;
    assert_eq!(
        server
            .value("SELECT groupArray(id) FROM (SELECT id FROM t WHERE id < 8 ORDER BY id)")
            .await,
        "[1,2,3,4]"
    );
}

#[tokio::test]
async fn one_insert_is_one_block() {
    let server = Server::start().await;
    table(&server).await;
    let client = server.client();
    for (ids, day) in [(0..500_000, 0), (0..990_000, 1)] {
        let sql = "INSERT INTO t (at, id, text) FORMAT RowBinary";
        let mut insert = client.insert_formatted_with(sql);
        insert
            .send(row_binary(&events(ids, day)).into())
            .await
            .unwrap();
        insert.end().await.unwrap();
        // The level tells a part that was inserted (0) from one that was merged.
        let parts = "SELECT count(), max(level) FROM system.parts WHERE table = 't' AND active \
                     AND partition = toString(toDate('2026-01-01') + ";
        assert_eq!(server.value(&format!("{parts}{day})")).await, "1\t0");
    }
    // Wide rows: 200 MB in one block.
    server
        .value("CREATE TABLE w (a UInt64, s String) ENGINE = MergeTree ORDER BY a")
        .await;
    let mut body = Vec::with_capacity(220_000_000);
    for row in 0..100_000_u64 {
        body.extend_from_slice(&row.to_le_bytes());
        body.extend_from_slice(&[0xd0, 0x0f]); // 2000
        body.resize(body.len() + 2000, b'x');
    }
    let request = server
        .post(&[("query", "INSERT INTO w FORMAT RowBinary")])
        .body(body);
    assert_eq!(answer(request).await.status, 200);
    let parts = "SELECT count(), sum(rows) FROM system.parts WHERE table = 'w' AND active";
    assert_eq!(server.value(parts).await, "1\t100000");
}

#[tokio::test]
async fn a_token_brings_its_rows_once() {
    let server = Server::start().await;
    table(&server).await;
    let with = |token: &str| {
        server
            .client()
            .with_setting("insert_deduplication_token", token)
    };
    let count = "SELECT count(), countIf(toDate(at) = '2026-01-02') FROM t";

    insert(&with("a"), &events(0..1000, 0)).await.unwrap();
    insert(&with("a"), &events(0..1000, 0)).await.unwrap();
    assert_eq!(server.value(count).await, "1000\t0");
    insert(&with("a"), &events(5000..5500, 0)).await.unwrap();
    assert_eq!(
        server.value(count).await,
        "1000\t0",
        "another body under the same token"
    );
    insert(&with("a:1"), &events(5000..5500, 0)).await.unwrap();
    assert_eq!(server.value(count).await, "1500\t0");

    // Two days under one token, of which one was recorded: the other one is inserted.
    insert(&with("b"), &events(10_000..10_100, 0))
        .await
        .unwrap();
    let both = [events(10_000..10_100, 0), events(10_100..10_200, 1)].concat();
    insert(&with("b"), &both).await.unwrap();
    assert_eq!(server.value(count).await, "1700\t100");
    insert(&with("b"), &both).await.unwrap();
    assert_eq!(server.value(count).await, "1700\t100");
}

#[tokio::test]
async fn tokens_are_remembered_over_restarts() {
    let mut server = Server::start().await;
    table(&server).await;
    let client = server
        .client()
        .with_setting("insert_deduplication_token", "x");
    insert(&client, &events(0..100, 0)).await.unwrap();
    server.kill();
    server.spawn().await;
    insert(&client, &events(0..100, 0)).await.unwrap();
    assert_eq!(server.value("SELECT count() FROM t").await, "100");
}

#[tokio::test]
async fn an_insert_from_input_keeps_its_deadline() {
    let server = Server::start().await;
    table(&server).await;
    let sql = |deadline: u32| {
        format!(
            "INSERT INTO t (at, id, text) SELECT at, id, text \
             FROM input('at DateTime, id UInt64, text String') \
             WHERE NOT throwIf(now() > toDateTime({deadline}), 'too late') FORMAT RowBinary"
        )
    };
    let send = async |deadline: u32, token: &str, rows: &[Event]| {
        let query = sql(deadline);
        let query = [
            ("query", query.as_str()),
            ("insert_deduplication_token", token),
        ];
        answer(server.post(&query).body(row_binary(rows))).await
    };
    let both = [events(0..300_000, 0), events(300_000..500_000, 1)].concat();
    let late = send(DAY - 1, "a", &both).await;
    assert_eq!(late.code(), 395, "{late:?}");
    assert_eq!(server.value("SELECT count() FROM t").await, "0");
    let in_time = send(u32::MAX, "a", &both).await;
    assert_eq!(in_time.status, 200, "{in_time:?}");
    send(u32::MAX, "a", &both).await;
    let parts = "SELECT count(), sum(rows) FROM system.parts WHERE table = 't' AND active";
    assert_eq!(server.value(parts).await, "2\t500000", "one block, once");
    let summary = server
        .post(&[
            ("query", &sql(u32::MAX)),
            ("insert_deduplication_token", "b"),
        ])
        .body(row_binary(&events(600_000..600_010, 0)))
        .send()
        .await
        .unwrap();
    let summary = summary.headers()["x-clickhouse-summary"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(summary.contains("\"written_rows\":\"10\""), "{summary}");
    assert_eq!(server.value("SELECT count() FROM t").await, "500010");
    // The rows live nowhere else.
    assert_eq!(server.value("SHOW TEMPORARY TABLES").await, "");
}

#[tokio::test]
async fn errors_of_rows_and_tables_insert_nothing() {
    let server = Server::start().await;
    table(&server).await;
    let client = server.client();
    let days: Vec<Event> = (0..20).flat_map(|day| events(0..1, day)).collect();
    let few = client
        .clone()
        .with_setting("max_partitions_per_insert_block", "10");
    let error = insert(&few, &days).await.unwrap_err().to_string();
    assert!(error.contains("Code: 252."), "{error}");

    let mut torn = row_binary(&events(0..10, 0));
    torn.truncate(torn.len() - 3);
    let query = [("query", "INSERT INTO t FORMAT RowBinary")];
    assert_eq!(answer(server.post(&query).body(torn)).await.code(), 33);
    let query = [("query", "INSERT INTO nowhere FORMAT RowBinary")];
    let unknown = answer(server.post(&query).body(vec![0; 100])).await;
    assert_eq!((unknown.code(), unknown.status), (60, 404));
    let query = [
        ("query", "INSERT INTO t FORMAT RowBinary"),
        ("max_execution_time", "0.001"),
    ];
    let slow = answer(server.post(&query).body(row_binary(&events(0..400_000, 0)))).await;
    assert_eq!((slow.code(), slow.status), (159, 408));
    assert_eq!(server.value("SELECT count() FROM t").await, "0");
}

#[tokio::test]
async fn a_body_that_is_cut_off_commits_nothing() {
    let server = Server::start().await;
    table(&server).await;
    let rows = row_binary(&events(0..1000, 0));
    let head = |more: &str| {
        format!(
            "POST /?query=INSERT%20INTO%20t%20FORMAT%20RowBinary&user=default&password=admin{more} \
             HTTP/1.1\r\nHost: x\r\n"
        )
    };
    // Fewer bytes than announced; a whole number of rows.
    let mut socket = std::net::TcpStream::connect(server.address()).unwrap();
    let announced = rows.len() * 2;
    write!(socket, "{}Content-Length: {announced}\r\n\r\n", head("")).unwrap();
    socket.write_all(&rows).unwrap();
    drop(socket);
    // Chunks without the last, empty one.
    let mut socket = std::net::TcpStream::connect(server.address()).unwrap();
    write!(
        socket,
        "{}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n",
        head(""),
        rows.len()
    )
    .unwrap();
    socket.write_all(&rows).unwrap();
    socket.write_all(b"\r\n").unwrap();
    socket.shutdown(std::net::Shutdown::Write).unwrap();
    let mut text = String::new();
    let _ = socket.read_to_string(&mut text);
    assert!(!text.starts_with("HTTP/1.1 200"), "{text}");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(server.value("SELECT count() FROM t").await, "0");
    let metrics = reqwest::get(format!("{}metrics", server.url()))
        .await
        .unwrap();
    let metrics = metrics.text().await.unwrap();
    assert!(
        metrics.contains("clickhouse_embedded_body_bytes 0"),
        "{metrics}"
    );
}

#[tokio::test]
async fn damaged_blocks_are_refused() {
    let server = Server::start().await;
    table(&server).await;
    // One block without compression, made by hand: checksum, method, sizes, content.
    let rows = row_binary(&events(0..10, 0));
    let mut block = vec![0x02];
    block.extend_from_slice(&u32::try_from(rows.len() + 9).unwrap().to_le_bytes());
    block.extend_from_slice(&u32::try_from(rows.len()).unwrap().to_le_bytes());
    block.extend_from_slice(&rows);
    let sum = cityhash_rs::cityhash_102_128(&block).rotate_right(64);
    let body = [&sum.to_le_bytes()[..], &block].concat();
    let send = async |body: Vec<u8>| {
        let query = [
            ("query", "INSERT INTO t FORMAT RowBinary"),
            ("decompress", "1"),
        ];
        answer(server.post(&query).body(body)).await
    };
    let mut damaged = body.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(send(damaged).await.code(), 40);
    assert_eq!(send(body[..body.len() - 1].to_vec()).await.code(), 33);
    assert_eq!(send([&body[..], &body[..20]].concat()).await.code(), 33);
    assert_eq!(server.value("SELECT count() FROM t").await, "0");
    assert_eq!(send([&body[..], &body[..]].concat()).await.status, 200);
    assert_eq!(server.value("SELECT count() FROM t").await, "20");
}
