//! Who may do what.

use crate::common::{Server, answer};

#[tokio::test]
async fn only_the_right_password_opens() {
    let server = Server::start().await;
    let plain = |query: &str| reqwest::Client::new().get(format!("{}?{query}", server.url()));
    let with = |request: reqwest::RequestBuilder| answer(request);

    let wrong = with(plain("query=SELECT%201").basic_auth("default", Some("wrong"))).await;
    assert_eq!((wrong.code(), wrong.status), (516, 403));
    assert!(wrong.text.contains("(AUTHENTICATION_FAILED)"), "{wrong:?}");
    let nobody = with(plain("query=SELECT%201").basic_auth("nobody", Some("admin"))).await;
    assert_eq!((nobody.code(), nobody.status), (516, 403));
    let none = plain("query=SELECT%201").send().await.unwrap();
    assert_eq!(none.status().as_u16(), 401);
    assert!(
        none.headers()["www-authenticate"]
            .to_str()
            .unwrap()
            .starts_with("Basic")
    );

    let url = with(plain("query=SELECT%201&user=default&password=admin")).await;
    assert_eq!(url.text, "1\n");
    let basic = with(plain("query=SELECT%201").basic_auth("reader", Some("reader"))).await;
    assert_eq!(basic.text, "1\n");
    assert_eq!(server.value("SELECT 1").await, "1");
}

#[tokio::test]
async fn a_reader_asks_and_does_nothing_else() {
    let server = Server::start().await;
    server
        .value("CREATE TABLE t (a Int8) ENGINE = MergeTree ORDER BY a")
        .await;
    server.value("INSERT INTO t VALUES (1), (2)").await;
    let secret = server.data_path().join("users.xml");
    let secret = secret.to_str().unwrap();
    for sql in [
        "INSERT INTO t VALUES (3)".to_owned(),
        "INSERT INTO t SELECT 3".to_owned(),
        "DROP TABLE t".to_owned(),
        "TRUNCATE TABLE t".to_owned(),
        "ALTER TABLE t DELETE WHERE 1".to_owned(),
        "CREATE TABLE x (a Int8) ENGINE = Memory".to_owned(),
        "CREATE TEMPORARY TABLE x (a Int8)".to_owned(),
        "SET max_threads = 1".to_owned(),
        "KILL QUERY WHERE 1".to_owned(),
        "SYSTEM DROP MARK CACHE".to_owned(),
        "SYSTEM SHUTDOWN".to_owned(),
        "BACKUP TABLE t TO File('x')".to_owned(),
        "USE system".to_owned(),
        format!("SELECT * FROM file('{secret}', 'LineAsString')"),
        format!("SELECT * FROM (SELECT * FROM File ('{secret}', 'LineAsString'))"),
        format!("SELECT file('{secret}')"),
        format!("SELECT `file`('{secret}')"),
        format!("SELECT \"fi\\x6ce\"('{secret}')"),
        format!("SELECT file/* */('{secret}')"),
        format!("WITH file('{secret}') AS x SELECT x"),
        format!("EXPLAIN SELECT * FROM file('{secret}', 'LineAsString')"),
        format!("DESCRIBE file('{secret}', 'LineAsString')"),
        "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')".to_owned(),
        "SELECT * FROM s3('http://127.0.0.1:1/a/b', 'TSV')".to_owned(),
        "SELECT * FROM executable('id', 'TSV', 'a String')".to_owned(),
        "SELECT * FROM remote('127.0.0.1', system.one)".to_owned(),
        "SELECT * FROM sqlite('x', 'y')".to_owned(),
        format!("SELECT arrayMap(file, ['{secret}'])"),
        format!("SELECT * APPLY(file) FROM (SELECT '{secret}')"),
        format!("SELECT * FROM '{secret}'"),
        format!("SELECT * FROM `{secret}`"),
        format!("SELECT * FROM default.`{secret}`"),
        format!("SELECT * FROM _files.`{secret}`"),
        format!("DESCRIBE `{secret}`"),
    ] {
        let answer = server.ask_as_reader(&sql).await;
        assert_ne!(answer.status, 200, "{sql}: {}", answer.text);
        assert!(
            !answer.text.contains("<clickhouse>"),
            "{sql}: {}",
            answer.text
        );
    }
    assert_eq!(server.value("SELECT count() FROM t").await, "2");
    for sql in [
        "SELECT count() FROM t",
        "WITH 1 AS x SELECT x + count() FROM t",
        "(SELECT 1) UNION ALL (SELECT 2)",
        "SHOW TABLES",
        "DESCRIBE TABLE t",
        "EXISTS t",
        "EXPLAIN SELECT * FROM t",
        "SELECT * FROM numbers(3)",
        "FROM t SELECT a",
        "SHOW CREATE TABLE t",
        "SELECT geoToH3(1., 2., 7), formatReadableSize(1)",
    ] {
        let answer = server.ask_as_reader(sql).await;
        assert_eq!(answer.status, 200, "{sql}: {}", answer.text);
    }
    for (name, sql) in [
        (
            "file",
            format!("SELECT arrayMap({{p:Identifier}}, ['{secret}'])"),
        ),
        (secret, "SELECT * FROM {p:Identifier}".to_owned()),
    ] {
        let request = server.post_as("reader", "reader", &[("param_p", name)]);
        let answer = answer(request.body(sql.clone())).await;
        assert_ne!(answer.status, 200, "{sql}: {}", answer.text);
    }
    // Settings of the request, but not the one that would lift the lock.
    let with = |name: &'static str, value: &'static str| {
        let request = server.post_as("reader", "reader", &[(name, value)]);
        answer(request.body("SELECT getSetting('max_threads')"))
    };
    assert_eq!(with("max_threads", "1").await.text, "1\n");
    assert_eq!(with("readonly", "0").await.code(), 164);
    assert_eq!(with("dialect", "prql").await.code(), 164);
    assert_eq!(with("readonly", "2").await.status, 200);
}

/// The engine's own lists, so that a newer engine with more ways out fails here.
#[tokio::test]
async fn readers_reach_only_what_is_listed() {
    // What `execute::access` lists, and `input`, which only an INSERT has.
    let open = clickhouse_embedded::execute::access::READER_TABLE_FUNCTIONS;
    let server = Server::start().await;
    server
        .value("CREATE TABLE t (a Int8) ENGINE = MergeTree ORDER BY a")
        .await;
    let functions = server
        .value("SELECT name FROM system.table_functions ORDER BY name")
        .await;
    assert!(functions.lines().count() > 60);
    let (mut reached, mut refused) = (Vec::new(), 0);
    for name in functions.lines() {
        for sql in [
            format!("SELECT * FROM {name}('x', 'y', 'z')"),
            format!("SELECT * FROM `{name}`()"),
            format!("DESCRIBE TABLE {name}('http://127.0.0.1:1/x')"),
            format!("SELECT (SELECT count() FROM {name} ('x'))"),
            format!("EXPLAIN SELECT * FROM t JOIN {name}(t) USING a"),
        ] {
            let answer = server.ask_as_reader(&sql).await;
            let lock = answer.status != 200 && answer.code() == 164;
            if open.contains(&name.to_lowercase().as_str()) {
                reached.push(name.to_lowercase());
                break;
            }
            assert!(lock, "{sql}: {answer:?}");
            refused += 1;
        }
    }
    reached.dedup();
    assert!(
        refused > 300 && reached.len() >= 13,
        "{refused} {reached:?}"
    );

    let engines = server
        .value("SELECT name FROM system.table_engines ORDER BY name")
        .await;
    assert!(engines.lines().count() > 60);
    for engine in engines.lines() {
        for sql in [
            format!("CREATE TABLE x (a String) ENGINE = {engine}('x')"),
            format!("CREATE TEMPORARY TABLE x (a String) ENGINE = {engine}"),
            format!("ATTACH TABLE x (a String) ENGINE = {engine}('x')"),
            format!("CREATE DATABASE x ENGINE = {engine}('x')"),
        ] {
            let request = server.post_as("reader", "reader", &[("session_id", "s")]);
            assert_eq!(answer(request.body(sql.clone())).await.code(), 164, "{sql}");
        }
    }
    for sql in [
        "CREATE DICTIONARY d (k UInt64) PRIMARY KEY k SOURCE(HTTP(url 'http://127.0.0.1:1/' \
         format 'TSV')) LAYOUT(FLAT()) LIFETIME(0)",
        "CREATE FUNCTION f AS x -> x",
        "CREATE NAMED COLLECTION c AS k = 'v'",
        "CREATE USER u",
        "GRANT ALL ON *.* TO u",
        "SYSTEM RELOAD CONFIG",
        "ATTACH DATABASE x",
        "RENAME TABLE t TO u",
        "OPTIMIZE TABLE t",
        "EXCHANGE TABLES t AND t",
        "INSERT INTO FUNCTION file('x', 'TSV', 'a Int8') SELECT 1",
        "DELETE FROM t WHERE 1",
        "UPDATE t SET a = 1 WHERE 1",
        "UNDROP TABLE t",
        "DETACH TABLE t",
        "MOVE TABLE t",
        "BEGIN TRANSACTION",
        "EXECUTE AS u",
        "SELECT 1 INTO OUTFILE '/tmp/x'",
        "SHOW TABLES INTO OUTFILE '/tmp/x'",
        "EXPLAIN AST DROP TABLE t; DROP TABLE t",
        "WITH x AS (SELECT 1) INSERT INTO t SELECT 1",
        "FROM t INSERT INTO t SELECT 1",
    ] {
        let answer = server.ask_as_reader(sql).await;
        assert_ne!(answer.status, 200, "{sql}: {answer:?}");
    }
    assert_eq!(server.value("SELECT count() FROM t").await, "0");
    assert_eq!(server.value("SHOW TABLES").await, "t");
}

#[tokio::test]
async fn a_typo_in_the_configuration_is_named() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("settings.toml");
    std::fs::write(&file, "lisen = \"127.0.0.1:1\"\n").unwrap();
    let output = server
        .command()
        .args(["--config"])
        .arg(&file)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("lisen"), "{message}");
}

#[tokio::test]
async fn what_hinders_the_start_is_said() {
    let server = Server::start().await;
    // The same data path.
    let second = server
        .command()
        .env(
            "CLICKHOUSE_EMBEDDED_LISTEN",
            format!("127.0.0.1:{}", crate::common::free_port()),
        )
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(
        !second.status.success() && message.contains("in use by another"),
        "{message}"
    );
    // The same port.
    let second = server.command().output().unwrap();
    let message = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(
        message.contains("listen") && message.contains(&server.address()),
        "{message}"
    );
    // No library.
    let folder = tempfile::tempdir().unwrap();
    let second = server
        .command()
        .env(
            "CLICKHOUSE_EMBEDDED_LISTEN",
            format!("127.0.0.1:{}", crate::common::free_port()),
        )
        .env("CLICKHOUSE_EMBEDDED_DATA_PATH", folder.path())
        .env("CLICKHOUSE_EMBEDDED_LIBRARY", "/nowhere/libchdb.so")
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(
        message.contains("/nowhere/libchdb.so") && message.contains("make parts"),
        "{message}"
    );
}
