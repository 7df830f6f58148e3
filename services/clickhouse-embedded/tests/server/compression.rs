//! Compressed both ways, by HTTP's codings and by ClickHouse's blocks.

use std::io::{Read, Write};

use crate::common::{Server, answer, resident_mib};

fn compress(coding: &str, content: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    match coding {
        "gzip" => {
            flate2::read::GzEncoder::new(content, flate2::Compression::fast())
                .read_to_end(&mut body)
                .unwrap();
        }
        "deflate" => {
            flate2::read::ZlibEncoder::new(content, flate2::Compression::fast())
                .read_to_end(&mut body)
                .unwrap();
        }
        "br" => {
            let mut encoder = brotli::CompressorWriter::new(&mut body, 4096, 3, 22);
            encoder.write_all(content).unwrap();
        }
        "zstd" => body = zstd::encode_all(content, 3).unwrap(),
        "lz4" => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(&mut body);
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap();
        }
        other => panic!("{other}"),
    }
    body
}

fn decompress(coding: &str, body: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    match coding {
        "gzip" => flate2::read::MultiGzDecoder::new(body).read_to_end(&mut content),
        "deflate" => flate2::read::ZlibDecoder::new(body).read_to_end(&mut content),
        "br" => brotli::Decompressor::new(body, 4096).read_to_end(&mut content),
        "zstd" => zstd::Decoder::new(body).unwrap().read_to_end(&mut content),
        "lz4" => lz4_flex::frame::FrameDecoder::new(body).read_to_end(&mut content),
        other => panic!("{other}"),
    }
    .unwrap();
    content
}

const CODINGS: [&str; 5] = ["gzip", "deflate", "br", "zstd", "lz4"];

#[tokio::test]
async fn every_coding_goes_both_ways() {
    let server = Server::start().await;
    server
        .value("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
        .await;
    let rows: String = (0..200_000).map(|row| format!("{row}\n")).collect();
    let query = [("query", "INSERT INTO t FORMAT TSV")];
    for coding in CODINGS {
        let body = compress(coding, rows.as_bytes());
        let insert = server.post(&query).header("Content-Encoding", coding);
        assert_eq!(
            answer(insert.body(body.clone())).await.status,
            200,
            "{coding}"
        );
        let sum = server.value("SELECT count(), sum(a) FROM t").await;
        assert_eq!(sum, "200000\t19999900000", "{coding}");
        server.value("TRUNCATE TABLE t").await;
        // Cut off within, or damaged where the coding has a checksum.
        let mut damaged = body.clone();
        let at = damaged.len() / 2;
        if ["gzip", "deflate"].contains(&coding) {
            damaged[at..at + 8].fill(0xa5);
        } else {
            damaged.truncate(at + 8);
        }
        for wrong in [body[..body.len() / 2].to_vec(), damaged] {
            let insert = server.post(&query).header("Content-Encoding", coding);
            assert_ne!(answer(insert.body(wrong)).await.status, 200, "{coding}");
        }
        assert_eq!(server.value("SELECT count() FROM t").await, "0", "{coding}");

        let ask = |sql: &'static str| {
            server
                .post(&[])
                .header("Accept-Encoding", coding)
                .body(sql)
                .send()
        };
        for sql in ["SELECT 1", "SELECT number FROM numbers(300000)"] {
            let response = ask(sql).await.unwrap();
            assert_eq!(response.headers()["content-encoding"], coding);
            let body = response.bytes().await.unwrap();
            let plain = server.value(sql).await + "\n";
            assert!(decompress(coding, &body) == plain.as_bytes(), "{coding}");
        }
        let none = ask("SELECT 1 WHERE 0").await.unwrap();
        assert!(none.bytes().await.unwrap().is_empty(), "{coding}");
    }
    let off = server
        .post(&[("enable_http_compression", "0")])
        .header("Accept-Encoding", "gzip")
        .body("SELECT 1");
    assert_eq!(answer(off).await.text, "1\n");
    let unknown = server
        .post(&query)
        .header("Content-Encoding", "xz")
        .body("1\n");
    let unknown = answer(unknown).await;
    assert_eq!((unknown.code(), unknown.status), (779, 415));
}

#[tokio::test]
async fn what_grows_without_end_is_refused() {
    let server = Server::start_with(&[("MAX_BODY_MEMORY", "33554432")]).await;
    server
        .value("CREATE TABLE t (a String) ENGINE = MergeTree ORDER BY a")
        .await;
    let before = resident_mib(server.pid());
    let zeros = vec![0; 200 << 20];
    let query = [("query", "INSERT INTO t FORMAT RowBinary")];
    for coding in CODINGS {
        let bomb = compress(coding, &zeros);
        let insert = server.post(&query).header("Content-Encoding", coding);
        let refused = answer(insert.body(bomb)).await;
        assert_eq!(
            (refused.code(), refused.status),
            (241, 413),
            "{coding}: {refused:?}"
        );
    }
    let after = resident_mib(server.pid());
    assert!(
        after < before + 120,
        "{before} MiB before, {after} MiB after"
    );
    assert_eq!(server.value("SELECT count() FROM t").await, "0");
}

/// Blocks by hand: what the crates do not send.
#[tokio::test]
async fn blocks_of_zstd_go_both_ways_and_within_a_coding() {
    let server = Server::start().await;
    server
        .value("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
        .await;
    let rows = b"1\n2\n3\n";
    let data = zstd::bulk::compress(rows, 1).unwrap();
    let mut block = vec![0x90];
    block.extend_from_slice(&u32::try_from(data.len() + 9).unwrap().to_le_bytes());
    block.extend_from_slice(&u32::try_from(rows.len()).unwrap().to_le_bytes());
    block.extend_from_slice(&data);
    let sum = cityhash_rs::cityhash_102_128(&block).rotate_right(64);
    let body = [&sum.to_le_bytes()[..], &block].concat();
    let query = [("query", "INSERT INTO t FORMAT TSV"), ("decompress", "1")];
    assert_eq!(
        answer(server.post(&query).body(body.clone())).await.status,
        200
    );
    let gzipped = server.post(&query).header("Content-Encoding", "gzip");
    let gzipped = answer(gzipped.body(compress("gzip", &body))).await;
    assert_eq!(gzipped.status, 200);
    assert_eq!(server.value("SELECT count(), sum(a) FROM t").await, "6\t12");

    let query = [("compress", "1"), ("network_compression_method", "ZSTD")];
    let response = server.post(&query).body("SELECT 42").send().await.unwrap();
    let body = response.bytes().await.unwrap();
    assert_eq!(body[16], 0x90);
    assert_eq!(zstd::decode_all(&body[25..]).unwrap(), b"42\n");
}
