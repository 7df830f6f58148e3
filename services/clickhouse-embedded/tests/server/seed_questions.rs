//! What the seed's README asks of the engine beyond plain SQL.

use crate::common::Server;

#[tokio::test]
async fn h3_takes_longitude_first_and_days_are_utc() {
    let server = Server::start().await;
    // Dubai: the cell of (lon, lat) as h3ToGeo gives it back.
    let sql = "SELECT h3ToGeo(geoToH3(55.36441, 25.25277, 7)) AS place, \
               abs(place.1 - 25.25277) < 0.05 AND abs(place.2 - 55.36441) < 0.05 \
               OR abs(place.1 - 55.36441) < 0.05 AND abs(place.2 - 25.25277) < 0.05";
    assert!(server.value(sql).await.ends_with('1'));
    // The same cell as the other order gives with its arguments exchanged.
    let sql = "SELECT geoToH3(55.36441, 25.25277, 7) AS cell, \
               (SELECT geoToH3(25.25277, 55.36441, 7) SETTINGS geotoh3_argument_order = 'lat_lon')";
    let answer = server.value("SELECT geoToH3(55.36441, 25.25277, 7)").await;
    let swapped = crate::common::answer(
        server
            .post(&[("geotoh3_argument_order", "lat_lon")])
            .body("SELECT geoToH3(25.25277, 55.36441, 7)"),
    )
    .await;
    assert_eq!(answer, swapped.text.trim_end(), "{sql}");
    assert_eq!(
        server.value("SELECT timezone(), toDate(0)").await,
        "UTC\t1970-01-01"
    );
    let tokyo = Server::start_with(&[("TIMEZONE", "Asia/Tokyo")]).await;
    assert_eq!(
        tokyo
            .value("SELECT timezone(), toHour(toDateTime(0))")
            .await,
        "Asia/Tokyo\t9"
    );
}

#[tokio::test]
async fn readers_ask_the_readme_questions() {
    let server = Server::start().await;
    server.value("CREATE DATABASE flight_data").await;
    server
        .value(
            "CREATE TABLE flight_data.flight_positions (flight_id String, callsign String, \
             longitude Float64, latitude Float64, altitude Int32, gspeed Float32, \
             timestamp DateTime64(3, 'UTC'), date Date MATERIALIZED toDate(timestamp), \
             hour UInt8 MATERIALIZED toHour(timestamp), \
             lon_grid_materialized Int16 MATERIALIZED floor(longitude), \
             lat_grid_materialized Int16 MATERIALIZED floor(latitude)) \
             ENGINE = MergeTree PARTITION BY toDate(timestamp) ORDER BY (callsign, timestamp)",
        )
        .await;
    server
        .value(
            "INSERT INTO flight_data.flight_positions \
             SELECT toString(number), if(number = 0, 'FDB892', 'X'), -122.4, 37.8, 35000, 400, \
             now64(3) FROM numbers(1000)",
        )
        .await;
    for sql in [
        "SELECT lon_grid_materialized AS lon_grid, lat_grid_materialized AS lat_grid, \
         count() AS flight_count FROM flight_data.flight_positions \
         WHERE timestamp >= now() - INTERVAL 1 HOUR GROUP BY lon_grid, lat_grid \
         HAVING flight_count > 0 ORDER BY flight_count DESC LIMIT 10;",
        "SELECT * FROM flight_data.flight_positions WHERE callsign = 'FDB892' \
         ORDER BY timestamp DESC LIMIT 1;",
        "SELECT hour, avg(altitude) AS avg_altitude FROM flight_data.flight_positions \
         WHERE date BETWEEN today() - 30 AND today() GROUP BY hour ORDER BY hour;",
        "SELECT geoToH3(longitude, latitude, 7) AS h3_cell, count() AS frequency \
         FROM flight_data.flight_positions \
         WHERE date BETWEEN today() - INTERVAL 30 DAY AND today() GROUP BY h3_cell \
         ORDER BY frequency DESC LIMIT 100;",
        "SELECT toMonth(timestamp) AS month, count() AS flight_count \
         FROM flight_data.flight_positions WHERE timestamp >= now() - INTERVAL 1 YEAR \
         GROUP BY month ORDER BY month;",
    ] {
        let answer = server.ask_as_reader(sql).await;
        assert_eq!(
            (answer.status, answer.text.lines().count()),
            (200, 1),
            "{sql}: {answer:?}"
        );
    }
}
