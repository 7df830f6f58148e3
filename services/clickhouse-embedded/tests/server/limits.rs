//! What a user's queries may cost.

use std::time::Duration;

use crate::common::{Answer, Server, answer, eventually};

const CONFIG: &str = r#"
[[users]]
name = "default"
password = "admin"

[[users]]
name = "analyst"
password = "analyst"
readonly = true
max_concurrent_queries = 1
[users.limits]
max_execution_time = 2
max_memory_usage = 100000000
max_rows_to_read = 1000000
max_result_rows = 1000

[[users]]
name = "writer"
password = "writer"
[users.limits]
max_execution_time = 2
max_rows_to_read = 1000000
max_result_bytes = 100000
"#;

async fn as_user(server: &Server, user: &str, query: &[(&str, &str)], sql: &str) -> Answer {
    answer(server.post_as(user, user, query).body(sql.to_owned())).await
}

#[tokio::test]
async fn a_query_may_not_cost_more_than_its_user_may() {
    let server = Server::start_with_config(CONFIG).await;
    for (sql, code) in [
        ("SELECT sleep(2.9)", 159),
        (
            "SELECT length(groupArray(toString(number) || repeat('x', 300))) FROM numbers(900000)",
            241,
        ),
        ("SELECT count() FROM numbers(2000000)", 158),
        ("SELECT number FROM numbers(5000)", 396),
        ("SELECT number FROM numbers(5000) FORMAT JSON", 396),
        ("SELECT number FROM numbers(500)", 0),
    ] {
        let answer = as_user(&server, "analyst", &[], sql).await;
        match code {
            0 => assert_eq!(answer.status, 200, "{sql}: {answer:?}"),
            code => assert_eq!(answer.code(), code, "{sql}: {answer:?}"),
        }
    }
    assert_eq!(
        server.value("SELECT count() FROM numbers(2000000)").await,
        "2000000"
    );
    let write = as_user(
        &server,
        "writer",
        &[],
        "CREATE TABLE w (a UInt64) ENGINE = MergeTree ORDER BY a",
    );
    assert_eq!(write.await.status, 200);
    let write = as_user(
        &server,
        "writer",
        &[],
        "INSERT INTO w SELECT number FROM numbers(10)",
    );
    assert_eq!(write.await.status, 200);
}

#[tokio::test]
async fn a_user_cannot_raise_a_limit() {
    let server = Server::start_with_config(CONFIG).await;
    let much = "SELECT count() FROM numbers(2000000)";
    for user in ["analyst", "writer"] {
        for (name, value) in [
            ("max_rows_to_read", "0"),
            ("max_rows_to_read", "3000000"),
            ("profile", "default"),
        ] {
            let answer = as_user(&server, user, &[(name, value)], much).await;
            assert_eq!(answer.code(), 452, "{user} {name}={value}: {answer:?}");
        }
        let less = as_user(
            &server,
            user,
            &[("max_rows_to_read", "10")],
            "SELECT count() FROM numbers(20)",
        );
        assert_eq!(less.await.code(), 158);
    }
    for sql in [
        format!("{much} SETTINGS max_rows_to_read = 0"),
        format!("{much} SETTINGS max_rows_to_read = 5000000"),
        format!("{much} SETTINGS max_rows_to_read = DEFAULT"),
        format!("{much} SETTINGS profile = 'default', max_rows_to_read = 0"),
        format!("SELECT * FROM ({much} SETTINGS max_rows_to_read = 0)"),
        format!("SELECT * FROM ({much} SETTINGS max_rows_to_read = 9000000)"),
        format!("SELECT ({much} SETTINGS max_rows_to_read = 0)"),
        format!("WITH x AS ({much} SETTINGS max_rows_to_read = 0) SELECT * FROM x"),
        format!("SELECT * FROM view({much} SETTINGS max_rows_to_read = 0)"),
    ] {
        for user in ["analyst", "writer"] {
            let answer = as_user(&server, user, &[], &sql).await;
            assert_ne!(answer.status, 200, "{user}: {sql}: {answer:?}");
        }
    }
    // Nor in a session, by steps.
    let session = [("session_id", "s")];
    for sql in [
        "SET max_rows_to_read = 0",
        "SET max_rows_to_read = DEFAULT",
        "SET profile = 'default'",
        "SET max_threads = 1, profile = 'limits_0'",
    ] {
        as_user(&server, "writer", &session, sql).await;
        let answer = as_user(&server, "writer", &session, much).await;
        assert_eq!(answer.code(), 158, "{sql}: {answer:?}");
    }
}

#[tokio::test]
async fn a_user_has_so_many_queries_at_a_time() {
    let server = Server::start_with_config(CONFIG).await;
    let first = tokio::spawn(answer(
        server
            .post_as("analyst", "analyst", &[])
            .body("SELECT sleep(1.5)"),
    ));
    eventually("it runs", Duration::from_secs(5), async || {
        server.value("SELECT count() FROM system.processes").await == "2"
    })
    .await;
    let second = as_user(&server, "analyst", &[], "SELECT 1").await;
    assert_eq!(second.code(), 202);
    assert!(second.text.contains("for user analyst"), "{second:?}");
    assert_eq!(server.value("SELECT 1").await, "1", "others have room");
    assert_eq!(first.await.unwrap().status, 200);
    assert_eq!(
        as_user(&server, "analyst", &[], "SELECT 1").await.text,
        "1\n"
    );
}

#[tokio::test]
async fn a_limit_that_is_none_is_refused() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("settings.toml");
    for (config, named) in [
        (
            CONFIG.replace("max_execution_time = 2", "max_execution_time = 0"),
            "max_execution_time",
        ),
        (
            CONFIG.replace("max_execution_time = 2", "max_time = 2"),
            "max_time",
        ),
        (
            CONFIG.replace("max_concurrent_queries = 1", "max_concurrent_queries = 0"),
            "max_concurrent_queries",
        ),
    ] {
        std::fs::write(&file, config).unwrap();
        let output = server
            .command()
            .arg("--config")
            .arg(&file)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(message.contains(named), "{message}");
    }
}
