//! Sending again what was sent before, by HTTP and by the command line.

use std::path::PathBuf;
use std::time::Duration;

use flight::avro::RESENT;
use flight_producer::Settings;
use nix::sys::signal::Signal;
use serde_json::Value;

use super::settings;
use crate::common::eventually;
use crate::common::ledger::{Ledger, checkpoint, header, read_topic};
use crate::common::process::{Producer, run};
use crate::common::source::Source;

const TOKEN: &str = "open sesame";

/// Settings of a producer that takes replays from who knows the token.
async fn with_token(
    test: &str,
    source: &Source,
    directory: &tempfile::TempDir,
) -> (Settings, PathBuf) {
    let file = directory.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let mut settings = settings(test, source).await;
    settings.source.initial_offset = Some(0);
    settings.replay.token_file = Some(file.clone());
    (settings, file)
}

impl Producer {
    /// Asks for a replay; its id.
    fn replay(&self, body: &str) -> String {
        let (status, answer) = self.ask("POST", "/v1/replays", TOKEN, body);
        assert_eq!((status, &answer["state"]), (202, &"running".into()));
        answer["id"].as_str().unwrap().to_owned()
    }

    /// Waits until a replay is over.
    fn wait_for_replay(&self, id: &str) -> Value {
        let mut last = Value::Null;
        eventually("the replay is over", Duration::from_secs(60), || {
            let (status, answer) = self.ask("GET", &format!("/v1/replays/{id}"), TOKEN, "");
            assert_eq!(status, 200, "{answer}");
            last = answer;
            last["state"] != "running"
        });
        last
    }
}

/// How often each offset is there, positions and dead letters together.
fn counts(settings: &Settings, source: &str) -> Vec<u32> {
    let ledger = Ledger::of(settings, source);
    let mut counts = Vec::new();
    for (all, times) in [&ledger.positions, &ledger.dead_letters]
        .into_iter()
        .flatten()
    {
        let index = *all as usize;
        counts.resize(counts.len().max(index + 1), 0);
        counts[index] += times;
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_sends_its_range_and_nothing_else_while_live_events_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let source = Source::start("again", 0).await;
    let (settings, _) = with_token("again", &source, &directory).await;
    source.write(150, "no position");
    source.grow_to(1_000);
    let producer = Producer::start(&settings);
    producer.wait_until_committed(1_000);
    let first = Ledger::of(&settings, "again").values;

    source.grow_slowly(6_000, 2_000);
    let id = producer.replay(r#"{"first":100,"last":899}"#);
    let done = producer.wait_for_replay(&id);
    assert_eq!(done["state"], "done", "{done}");
    assert_eq!((&done["sent"], &done["total"]), (&800.into(), &800.into()));
    assert_eq!(
        (&done["source"], &done["error"]),
        (&"again".into(), &Value::Null)
    );
    producer.wait_until_committed(6_000);
    let expected: Vec<u32> = (0..6_000)
        .map(|offset| 1 + u32::from((100..900).contains(&offset)))
        .collect();
    assert_eq!(counts(&settings, "again"), expected);

    // The same bytes, and a header that tells them from live ones.
    let again = Ledger::of(&settings, "again").values;
    assert!(first.iter().all(|(offset, value)| again[offset] == *value));
    let records = read_topic(&settings, &settings.topics.positions.name);
    let resent = |r| header(r, RESENT).as_deref() == Some("replay");
    assert_eq!(records.iter().filter(|r| resent(r)).count(), 799);
    // The letter has the key of the first one, so the two are one.
    let letters = read_topic(&settings, &settings.topics.dead_letters.name);
    let keys: Vec<_> = letters.iter().map(rdkafka::Message::key).collect();
    assert_eq!(keys, [Some(&b"source:again:150"[..]); 2]);
    // It is no part of the producer's own way.
    let last = checkpoint(&settings, "again").unwrap();
    assert_eq!((last.origin, last.next_offset), (0, 6_000));
    assert_eq!(producer.metric("sessions_total"), 1.0);
    assert_eq!(producer.metric("replay_events_total"), 800.0);
    assert_eq!(producer.metric(r#"replays_total{state="done"}"#), 1.0);

    // Beside the one at work, by the command line.
    let (code, said, wrong) = run(&settings, &["replay", "--first", "0", "--last", "0"]);
    assert_eq!(code, Some(0), "{said}{wrong}");
    assert!(
        said.contains("sending 1 events of again again: offsets 0 to 0"),
        "{said}"
    );
    assert_eq!(counts(&settings, "again")[..2], [2, 1]);
    assert_eq!(producer.metric("sessions_total"), 1.0, "it was not fenced");
    producer.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_cannot_be_sent_is_refused_and_sends_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let source = Source::start("refused", 0).await;
    let (settings, file) = with_token("refused", &source, &directory).await;
    source.grow_to(500);
    let mut producer = Producer::start(&settings);
    producer.wait_until_committed(500);
    for (body, why) in [
        (
            r#"{"first":9,"last":8}"#,
            "the range is reversed: 9 is after 8",
        ),
        (
            r#"{"first":0,"last":500}"#,
            "offset 500 is beyond what was sent of source refused: the last event that was is offset 499",
        ),
        (
            r#"{"first":-1,"last":5}"#,
            "offset -1 is before the beginning of source refused: the first event that it can give is offset 0",
        ),
        (
            r#"{"from":"2026-01-02T00:00:00Z","to":"2026-01-01T00:00:00Z"}"#,
            "the range is reversed",
        ),
        (
            r#"{"from":"1999-01-02T00:00:00Z","to":"2999-01-01T00:00:00Z"}"#,
            "1999-01-02T00:00:00.000Z is before the beginning",
        ),
        (
            r#"{"first":1}"#,
            "first and last (offsets), or from and to (instants)",
        ),
        (r#"{"ranges":[]}"#, "0 ranges: give 1 to 20000"),
        (
            r#"{"ranges":[[0,3],[490,500]]}"#,
            "offset 500 is beyond what was sent",
        ),
        (
            r#"{"source":"another","first":1,"last":2}"#,
            "source another is not there any more: the producer reads refused",
        ),
        (r#"{"first":1,"last":2,"lsat":3}"#, "lsat"),
        ("[", "JSON"),
    ] {
        let (status, answer) = producer.ask("POST", "/v1/replays", TOKEN, body);
        let said = answer["error"].as_str().unwrap();
        assert!(
            (400..500).contains(&status) && said.contains(why),
            "{body}: {status} {said}"
        );
    }
    let (_, answer) = producer.ask("POST", "/v1/replays", TOKEN, r#"{"first":-1,"last":5}"#);
    assert_eq!(answer["begins_at"], 0, "{answer}");
    for token in ["", "open", "open sesame!"] {
        for (method, path) in [
            ("POST", "/v1/replays"),
            ("GET", "/v1/replays"),
            ("GET", "/v1/replays/x"),
        ] {
            let (status, answer) = producer.ask(method, path, token, r#"{"first":1,"last":2}"#);
            assert_eq!(status, 401, "{answer}");
        }
    }
    assert_eq!(producer.ask("GET", "/v1/replays/x", TOKEN, "").0, 404);
    let (_, list) = producer.ask("GET", "/v1/replays", TOKEN, "");
    assert_eq!(list["replays"], serde_json::json!([]));

    // The command line says the same.
    for (arguments, why) in [
        (["--first=9", "--last=8"], "reversed"),
        (["--first=0", "--last=500"], "beyond what was sent"),
        (
            ["--first=-1", "--last=5"],
            "offset -1 is before the beginning",
        ),
        (
            ["--from=1999-01-02T00:00:00Z", "--to=2999-01-01T00:00:00Z"],
            "1999-01-02T00:00:00.000Z is before the beginning",
        ),
    ] {
        let (code, said, wrong) = run(&settings, &["replay", arguments[0], arguments[1]]);
        assert!(code == Some(2) && wrong.contains(why), "{code:?} {wrong}");
        assert_eq!(said, "", "nothing was begun");
    }
    assert_eq!(counts(&settings, "refused"), [1; 500]);

    // Without a token nobody may.
    producer.stop();
    let mut settings = settings;
    settings.replay.token_file = None;
    producer = Producer::start(&settings);
    producer.wait_until_ready();
    let (status, answer) = producer.ask("POST", "/v1/replays", TOKEN, r#"{"first":1,"last":2}"#);
    assert_eq!(status, 403);
    assert!(
        answer["error"]
            .as_str()
            .unwrap()
            .contains("replay.token_file"),
        "{answer}"
    );
    producer.stop();
    std::fs::remove_file(&file).unwrap();
    settings.replay.token_file = Some(file);
    let (code, _, wrong) = run(&settings, &["check-config"]);
    assert!(
        code == Some(2) && wrong.contains("replay.token_file"),
        "{wrong}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_ranges_are_one_replay_and_nothing_between_them_is_sent() {
    let directory = tempfile::tempdir().unwrap();
    let source = Source::start("many", 0).await;
    let (settings, _) = with_token("many", &source, &directory).await;
    source.grow_to(260_000);
    let producer = Producer::start(&settings);
    producer.wait_until_committed(260_000);
    // Near ones, and one so far away that what lies between is not read.
    let body = r#"{"source":"many","ranges":[[250000,250004],[20,20],[5,9],[8,10],[40000,65000],[259999,259999]]}"#;
    let done = producer.wait_for_replay(&producer.replay(body));
    let wanted = [
        5..11,
        20..21,
        40_000..65_001,
        250_000..250_005,
        259_999..260_000,
    ];
    let total: i64 = wanted.iter().map(|range| range.end - range.start).sum();
    assert_eq!(
        (
            &done["state"],
            &done["sent"],
            &done["total"],
            &done["ranges"]
        ),
        (&"done".into(), &total.into(), &total.into(), &5.into()),
        "{done}"
    );
    let expected: Vec<u32> = (0..260_000)
        .map(|offset| 1 + u32::from(wanted.iter().any(|range| range.contains(&offset))))
        .collect();
    assert!(counts(&settings, "many") == expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_cut_off_is_asked_for_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut source = Source::start("cut", 0).await;
    let (mut settings, _) = with_token("cut", &source, &directory).await;
    settings.replay.max_events_per_s = 10_000;
    source.grow_to(60_000);
    let producer = Producer::start(&settings);
    producer.wait_until_committed(60_000);
    let body = r#"{"first":0,"last":59999}"#;
    let id = producer.replay(body);
    // The same once more while it runs is the same.
    assert_eq!(producer.replay(body), id);
    eventually("a part is sent", Duration::from_secs(20), || {
        producer.metric("replay_events_total") > 0.0
    });
    producer.kill();
    let sent = counts(&settings, "cut").iter().sum::<u32>();
    assert!((60_001..120_000).contains(&sent), "{sent}");

    // It ends with an orderly stop, too, and says so to who waits for its turn.
    let producer = Producer::start(&settings);
    producer.wait_until_ready();
    producer.replay(body);
    eventually("a part is sent", Duration::from_secs(20), || {
        producer.metric("replay_events_total") > 0.0
    });
    let (code, took) = producer.stop();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(5), "{took:?}");

    // The source goes away in the middle, and comes back.
    settings.replay.max_events_per_s = 20_000;
    let producer = Producer::start(&settings);
    producer.wait_until_ready();
    let id = producer.replay(body);
    eventually("a part is sent", Duration::from_secs(20), || {
        producer.metric("replay_events_total") > 0.0
    });
    source.vanish();
    producer.signal(Signal::SIGSTOP);
    tokio::time::sleep(Duration::from_secs(2)).await;
    producer.signal(Signal::SIGCONT);
    source.play([]);
    source.appear().await;
    let done = producer.wait_for_replay(&id);
    assert_eq!(
        (&done["state"], &done["sent"]),
        (&"done".into(), &60_000.into()),
        "{done}"
    );
    let counts = counts(&settings, "cut");
    assert!(counts.len() == 60_000 && counts.iter().all(|count| *count >= 2));
    assert_eq!(checkpoint(&settings, "cut").unwrap().next_offset, 60_000);
    producer.stop();
}
