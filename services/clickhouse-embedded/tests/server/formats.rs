//! Results in every format that the engine writes: what is sent while the query runs is what would be
//! sent behind it.

use crate::common::{Server, answer, resident_mib};

/// Formats that want a schema, or one column, or a table of another kind.
const SPECIAL: [&str; 17] = [
    "Protobuf",
    "ProtobufList",
    "ProtobufSingle",
    "CapnProto",
    "Template",
    "TemplateIgnoreSpaces",
    "AvroConfluent",
    "Npy",
    "RawBLOB",
    "Prometheus",
    "MySQLWire",
    "PostgreSQLWire",
    "ODBCDriver2",
    "GeoJSON",
    "PNG",
    "Hash",
    "Null",
];
/// Each of their pieces is a table of its own by design; readers take them one after the other.
const BLOCKS: [&str; 2] = ["Native", "Buffers"];
/// They end with how long the query took, show progress, or cut blocks by threads.
const VARYING: [&str; 12] = [
    "JSON",
    "JSONCompact",
    "JSONStrings",
    "JSONCompactStrings",
    "JSONColumnsWithMetadata",
    "XML",
    "JSONEachRowWithProgress",
    "JSONStringsEachRowWithProgress",
    "JSONCompactEachRowWithProgress",
    "JSONCompactStringsEachRowWithProgress",
    "Parquet",
    "ORC",
];

#[tokio::test]
async fn pieces_make_the_same_result_as_the_whole() {
    let server = Server::start().await;
    let formats = "SELECT name FROM system.formats WHERE is_output ORDER BY name";
    let formats = server.value(formats).await;
    let mut compared = 0;
    for format in formats.lines() {
        if SPECIAL.contains(&format) {
            continue;
        }
        let get = async |block: &'static str| {
            let sql = format!(
                "SELECT number, 'a\"\n' || toString(number) AS text, [number] AS list \
                 FROM numbers(20000) ORDER BY number FORMAT {format}"
            );
            let query = [("max_block_size", block), ("max_threads", "1")];
            let response = server.post(&query).body(sql).send().await.unwrap();
            let status = response.status();
            let body = response.bytes().await.unwrap();
            assert!(
                status.is_success(),
                "{format}: {:?}",
                String::from_utf8_lossy(&body)
            );
            body
        };
        let (small, large) = (get("1000").await, get("100000").await);
        if BLOCKS.contains(&format) || VARYING.contains(&format) {
            // Some compress what they hold.
            assert!(small.len() > 5_000, "{format}: {} bytes", small.len());
            continue;
        }
        // Formats of Arrow and Avro have as many batches as there were blocks, but one beginning.
        if format.starts_with("Arrow") || format == "Avro" {
            assert_eq!(small[..8], large[..8], "{format}");
            continue;
        }
        assert!(small == large, "{format}: pieces differ from the whole");
        compared += 1;
    }
    assert!(compared >= 45, "only {compared} formats were compared");
}

#[tokio::test]
async fn long_results_are_sent_in_little_memory() {
    let server = Server::start_with(&[("MAX_MATERIALIZED_RESULT", "4194304")]).await;
    server.value("SELECT 1").await;
    let before = resident_mib(server.pid());
    let mut streamed = 0;
    for format in [
        "TSV",
        "CSVWithNames",
        "JSONEachRow",
        "JSONCompactEachRowWithNamesAndTypes",
        "RowBinaryWithNamesAndTypes",
        "Native",
        "MsgPack",
        "Values",
        "TSKV",
        "LineAsString",
        "BSONEachRow",
    ] {
        let sql = format!("SELECT toString(number) AS s FROM numbers(3000000) FORMAT {format}");
        let mut response = server.post(&[]).body(sql).send().await.unwrap();
        assert_eq!(response.status().as_u16(), 200, "{format}");
        let mut length = 0;
        while let Some(chunk) = response.chunk().await.unwrap() {
            length += chunk.len();
        }
        assert!(length > 20_000_000, "{format}: {length} bytes");
        streamed += length;
    }
    let after = resident_mib(server.pid());
    assert!(
        after < before + 200,
        "{before} MiB before, {after} MiB after {streamed} bytes"
    );
    // A document must fit, and does not fill memory before that is noticed.
    for format in ["JSON", "Parquet", "PrettyCompact", "XML", "Arrow"] {
        let sql = format!("SELECT randomString(100) FROM numbers(100000000) FORMAT {format}");
        let refused = answer(server.post(&[]).body(sql)).await;
        assert_eq!(refused.code(), 396, "{format}: {refused:?}");
    }
    assert!(resident_mib(server.pid()) < before + 300);
    let nothing = "SELECT number FROM numbers(3000000) FORMAT Null";
    assert_eq!(server.value(nothing).await, "");
}
