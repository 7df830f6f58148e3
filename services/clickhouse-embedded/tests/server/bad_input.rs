//! What a server meets in its life: a clear error, and it goes on.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use crate::common::{Answer, Server, answer, eventually, resident_mib};

#[tokio::test]
async fn a_query_that_never_ends_is_ended() {
    let server = Server::start().await;
    for sql in [
        "SELECT count() FROM numbers(100000000000000) WHERE sipHash64(number) = 1",
        "SELECT number FROM numbers(100000000000000) WHERE sipHash64(number) = 1",
        "SELECT number FROM numbers(100000000000000) WHERE sipHash64(number) = 1 FORMAT JSON",
    ] {
        let started = Instant::now();
        let ended = answer(server.post(&[("max_execution_time", "1")]).body(sql)).await;
        assert_eq!((ended.code(), ended.status), (159, 408), "{sql}: {ended:?}");
        assert!(started.elapsed() < Duration::from_secs(60), "{sql}");
    }
}

#[tokio::test]
async fn ten_million_rows_go_to_a_slow_reader_and_others_go_on() {
    let server = Server::start().await;
    server.value("SELECT 1").await;
    let before = resident_mib(server.pid());
    let sql = "SELECT number, toString(number) FROM numbers(10000000)";
    let mut slow = server.post(&[]).body(sql).send().await.unwrap();
    let mut text = Vec::new();
    for _ in 0..20 {
        text.extend_from_slice(&slow.chunk().await.unwrap().unwrap());
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(server.value("SELECT 1").await, "1");
        let now = resident_mib(server.pid());
        assert!(now < before + 100, "{before} MiB before, {now} MiB now");
    }
    while let Some(chunk) = slow.chunk().await.unwrap() {
        text.extend_from_slice(&chunk);
    }
    assert_eq!(
        text.iter().filter(|byte| **byte == b'\n').count(),
        10_000_000
    );
    assert!(text.ends_with(b"\n9999999\t9999999\n"));
}

#[tokio::test]
async fn who_neither_takes_nor_sends_loses_the_request() {
    let server = Server::start_with(&[("CLIENT_TIMEOUT", "1")]).await;
    // Takes nothing of a result.
    let mut deaf = TcpStream::connect(server.address()).unwrap();
    write!(
        deaf,
        "GET /?user=default&password=admin&query=SELECT%20number%20FROM%20numbers(1000000000) \
         HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    .unwrap();
    eventually("its query is gone", Duration::from_secs(10), async || {
        tokio::time::sleep(Duration::from_millis(500)).await;
        server.value("SELECT count() FROM system.processes").await == "1"
    })
    .await;
    // Announces a body and sends none of it.
    let mut mute = TcpStream::connect(server.address()).unwrap();
    write!(
        mute,
        "POST /?user=default&password=admin HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
    )
    .unwrap();
    let text = tokio::task::spawn_blocking(move || read_to_end(mute))
        .await
        .unwrap();
    assert!(
        text.contains("Code: 210.") && text.contains("client_timeout"),
        "{text}"
    );
    drop(deaf);
}

fn read_to_end(mut socket: TcpStream) -> String {
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut bytes = Vec::new();
    let _ = socket.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn a_gigabyte_in_one_row_is_refused() {
    let server = Server::start_with(&[
        ("MAX_SERVER_MEMORY", "1610612736"),
        ("MAX_QUERY_MEMORY", "1073741824"),
        ("MAX_BODY_MEMORY", "1288490188"),
    ])
    .await;
    server
        .value("CREATE TABLE t (s String) ENGINE = MergeTree ORDER BY tuple()")
        .await;
    let query = [("query", "INSERT INTO t FORMAT TSV")];
    let row = vec![b'x'; 1 << 30];
    let too_much = answer(server.post(&query).body(row.clone())).await;
    assert_eq!(
        (too_much.code(), too_much.status),
        (241, 500),
        "{too_much:?}"
    );
    assert!(
        resident_mib(server.pid()) < 3200,
        "{} MiB",
        resident_mib(server.pid())
    );
    assert_eq!(server.value("SELECT count() FROM t").await, "0");
    drop(server);

    // With the limits as they are by default, it is refused before it is here.
    let server = Server::start().await;
    server
        .value("CREATE TABLE t (s String) ENGINE = MergeTree ORDER BY tuple()")
        .await;
    let address = server.address();
    let text = tokio::task::spawn_blocking(move || {
        let mut socket = TcpStream::connect(address).unwrap();
        write!(
            socket,
            "POST /?user=default&password=admin&query=INSERT%20INTO%20t%20FORMAT%20TSV HTTP/1.1\r\n\
             Host: x\r\nContent-Length: {}\r\n\r\n",
            row.len()
        )
        .unwrap();
        for part in row.chunks(1 << 20) {
            if socket.write_all(part).is_err() {
                break;
            }
        }
        read_to_end(socket)
    })
    .await
    .unwrap();
    // Who is still sending when the connection closes may not see the answer.
    assert!(
        text.is_empty() || text.contains("413 Payload Too Large"),
        "{text}"
    );
    assert!(
        resident_mib(server.pid()) < 900,
        "{} MiB",
        resident_mib(server.pid())
    );
    assert_eq!(server.value("SELECT count() FROM t").await, "0");
}

#[tokio::test]
async fn many_large_inserts_at_once_share_their_memory() {
    let server = Server::start_with(&[("MAX_BODY_MEMORY", "33554432")]).await;
    server
        .value("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
        .await;
    let before = resident_mib(server.pid());
    let query = [
        ("query", "INSERT INTO t FORMAT RowBinary"),
        ("insert_deduplicate", "0"),
    ];
    let inserts: Vec<_> = (0..12)
        .map(|_| tokio::spawn(answer(server.post(&query).body(vec![1; 12 << 20]))))
        .collect();
    let mut most = 0;
    let (mut done, mut busy) = (0, 0);
    for insert in inserts {
        while !insert.is_finished() {
            most = most.max(resident_mib(server.pid()));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let answer = insert.await.unwrap();
        match answer.status {
            200 => done += 1,
            _ => {
                assert_eq!((answer.code(), answer.status), (241, 413), "{answer:?}");
                busy += 1;
            }
        }
    }
    assert!(done > 0, "{busy} of 12 were refused");
    let rows = (u64::from(done as u32) * (12 << 20) / 8).to_string();
    assert_eq!(server.value("SELECT count() FROM t").await, rows);
    assert!(
        most < before + 500,
        "{before} MiB before, {most} MiB at most"
    );
}

/// A disk of 96 MiB, in a mount namespace of the server's own. Needs no more than a user namespace.
#[tokio::test]
async fn a_full_disk_is_said_and_nothing_acknowledged_is_lost() {
    const MOUNT: &str = "mount -t tmpfs -o size=96m tmpfs DATA && exec \"$@\"";
    let root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let mut wrapper = vec!["unshare", "--mount"];
    if !root {
        wrapper.extend(["--user", "--map-root-user"]);
    }
    wrapper.extend(["sh", "-c", MOUNT, "sh"]);
    let mut server = Server::start_within(&wrapper).await;
    server
        .value(
            "CREATE TABLE t (batch UInt64, s String CODEC(NONE)) ENGINE = MergeTree ORDER BY batch",
        )
        .await;
    let query = [("query", "INSERT INTO t FORMAT TSV")];
    let mut acknowledged = Vec::new();
    let mut full = 0;
    for batch in 0..80_u64 {
        let body = format!("{batch}\t{}\n", "x".repeat(2 << 20));
        let Answer { status, text } = answer(server.post(&query).body(body)).await;
        if status == 200 {
            acknowledged.push(batch.to_string());
            continue;
        }
        full += 1;
        assert!(
            ["Code: 243.", "Code: 75.", "Code: 1001.", "Code: 76."]
                .iter()
                .any(|code| text.starts_with(code)),
            "{text}"
        );
        assert!(text.contains("space"), "{text}");
        if full == 5 {
            break;
        }
    }
    assert!(
        full > 0 && acknowledged.len() > 5,
        "{} went in",
        acknowledged.len()
    );
    assert!(server.runs());
    let kept = "SELECT arrayStringConcat(groupArray(toString(batch)), ',') FROM \
                (SELECT batch FROM t ORDER BY batch)";
    assert_eq!(server.value(kept).await, acknowledged.join(","));
    // Room again, and it goes on.
    server
        .value("CREATE TABLE other (a UInt8) ENGINE = Memory")
        .await;
    server.value("DROP TABLE t SYNC").await;
    server
        .value("CREATE TABLE t (batch UInt64, s String) ENGINE = MergeTree ORDER BY batch")
        .await;
    eventually("there is room", Duration::from_secs(20), async || {
        let body = format!("99\t{}\n", "x".repeat(1 << 20));
        answer(server.post(&query).body(body)).await.status == 200
    })
    .await;
}

/// Sends bytes as they are and gives all that comes back.
async fn raw(server: &Server, request: String) -> String {
    let address = server.address();
    tokio::task::spawn_blocking(move || {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.write_all(request.as_bytes()).unwrap();
        let _ = socket.shutdown(Shutdown::Write);
        read_to_end(socket)
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn requests_do_not_hide_in_others() {
    let server = Server::start().await;
    server
        .value("CREATE TABLE t (a UInt8) ENGINE = MergeTree ORDER BY a")
        .await;
    let line = "POST /?user=default&password=admin&query=INSERT%20INTO%20t%20FORMAT%20TSV HTTP/1.1\r\n\
                Host: x\r\n";
    let hidden =
        "GET /?user=default&password=admin&query=SELECT%20'hidden' HTTP/1.1\r\nHost: x\r\n\r\n";
    for (name, headers, body) in [
        (
            "two lengths",
            "Content-Length: 2\r\nContent-Length: 0\r\n",
            format!("1\n{hidden}"),
        ),
        (
            "two lengths in one",
            "Content-Length: 0, 2\r\n",
            format!("1\n{hidden}"),
        ),
        (
            "a length with a sign",
            "Content-Length: +2\r\n",
            format!("1\n{hidden}"),
        ),
        (
            "a space before the colon",
            "Content-Length : 2\r\n",
            format!("1\n{hidden}"),
        ),
        (
            "another coding",
            "Transfer-Encoding: xchunked\r\n",
            format!("0\r\n\r\n{hidden}"),
        ),
        (
            "chunked, but not last",
            "Transfer-Encoding: chunked, identity\r\n",
            format!("0\r\n\r\n{hidden}"),
        ),
        (
            "a chunk that lies",
            "Transfer-Encoding: chunked\r\n",
            format!("ffffffffffffffff1\r\n1\n\r\n0\r\n\r\n{hidden}"),
        ),
        (
            "a header without colon",
            "Content-Length: 2\r\nnonsense\r\n",
            format!("1\n{hidden}"),
        ),
        ("a zero byte", "X: a\0b\r\n", hidden.to_owned()),
    ] {
        let text = raw(&server, format!("{line}{headers}\r\n{body}")).await;
        let refused = text.starts_with("HTTP/1.1 400") || text.contains("Code: 210.");
        assert!(refused, "{name}: {text}");
        assert!(!text.contains("hidden\n"), "{name}: {text}");
    }
    // Chunks and a length: the chunks count, and the connection ends behind them.
    for both in [
        "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n",
    ] {
        let text = raw(&server, format!("{line}{both}\r\n0\r\n\r\n{hidden}")).await;
        assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{text}");
        assert!(text.to_lowercase().contains("connection: close"), "{text}");
    }
    assert_eq!(server.value("SELECT count() FROM t").await, "0");

    // Two who say who they are.
    let both = answer(
        server
            .post(&[("user", "default"), ("password", "admin")])
            .body("SELECT 1"),
    )
    .await;
    assert_eq!((both.code(), both.status), (516, 403));
    let twice = server
        .post(&[])
        .header("X-ClickHouse-User", "reader")
        .body("SELECT 1");
    assert_eq!(answer(twice).await.code(), 516);

    // Very long lines and very many headers.
    let long = raw(
        &server,
        format!(
            "GET /?query={} HTTP/1.1\r\nHost: x\r\n\r\n",
            "x".repeat(1 << 20)
        ),
    )
    .await;
    assert!(
        long.starts_with("HTTP/1.1 4"),
        "{}",
        &long[..60.min(long.len())]
    );
    let many: String = (0..2000).map(|at| format!("X-{at}: y\r\n")).collect();
    let many = raw(&server, format!("GET / HTTP/1.1\r\nHost: x\r\n{many}\r\n")).await;
    assert!(
        many.starts_with("HTTP/1.1 4"),
        "{}",
        &many[..60.min(many.len())]
    );
    assert_eq!(server.value("SELECT 1").await, "1");
}
