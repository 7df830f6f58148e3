-- Days that were moved away from flight_positions, for questions over seasons.
CREATE TABLE IF NOT EXISTS flight_data.flight_positions_monthly
(
    flight_id     LowCardinality(String)           COMMENT 'One flight of one aircraft, from departure to arrival',
    callsign      LowCardinality(String)           COMMENT 'Callsign as broadcast; empty where the aircraft sends none',
    longitude     Float64 COMMENT 'Degrees east, WGS 84' CODEC(DoubleDelta, ZSTD(3)),
    latitude      Float64 COMMENT 'Degrees north, WGS 84' CODEC(DoubleDelta, ZSTD(3)),
    altitude      Int32 COMMENT 'Barometric altitude, feet' CODEC(Delta, ZSTD(3)),
    gspeed        Float32 COMMENT 'Ground speed, knots' CODEC(Delta, ZSTD(3)),
    timestamp     DateTime64(3, 'UTC') COMMENT 'Time of the position, UTC' CODEC(DoubleDelta, ZSTD(3)),
    icao24        LowCardinality(Nullable(String)) COMMENT 'ICAO 24-bit address, six hexadecimal digits',
    track         Nullable(Float32) COMMENT 'Track over ground, degrees clockwise from true north' CODEC(ZSTD(3)),
    vertical_rate Nullable(Int32) COMMENT 'Feet per minute, positive when climbing' CODEC(ZSTD(3)),
    squawk        LowCardinality(Nullable(String)) COMMENT 'Transponder code, four octal digits',
    on_ground     Nullable(Bool) COMMENT 'True while the aircraft reports that it is on the ground' CODEC(ZSTD(3)),
    source        LowCardinality(String)           COMMENT 'Name of the source',
    source_offset UInt64 COMMENT 'Offset of the event in its source' CODEC(DoubleDelta, ZSTD(3)),

    date                  Date   MATERIALIZED toDate(timestamp)        COMMENT 'Day of the position, UTC' CODEC(ZSTD(3)),
    hour                  UInt8  MATERIALIZED toHour(timestamp)        COMMENT 'Hour of the day of the position, UTC' CODEC(ZSTD(3)),
    lon_grid_materialized Int16  MATERIALIZED toInt16(floor(longitude)) COMMENT 'Western edge of the 1 degree cell' CODEC(ZSTD(3)),
    lat_grid_materialized Int16  MATERIALIZED toInt16(floor(latitude))  COMMENT 'Southern edge of the 1 degree cell' CODEC(ZSTD(3)),

    INDEX source_offset_range source_offset TYPE minmax GRANULARITY 1,

    PROJECTION by_hour
    (
        SELECT date, hour, source, count(), avg(altitude), max(source_offset)
        GROUP BY date, hour, source
    )
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(date)
-- A day is a range of the key, and within it the path of an aircraft.
ORDER BY (date, callsign, timestamp);

-- What was moved: one row for each step of a day's way, the newest of a day holds.
--   copied    the monthly table has the day's rows; they do not count yet
--   switched  they count, and those in flight_positions do not any more
--   dropped   the day's partition is gone from flight_positions; what comes in there later counts again
CREATE TABLE IF NOT EXISTS flight_data.archived_days
(
    date     Date   COMMENT 'The day, UTC',
    state    Enum8('copied' = 1, 'switched' = 2, 'dropped' = 3) COMMENT 'Where its rows are',
    rows     UInt64 COMMENT 'Rows that were copied',
    checksum UInt64 COMMENT 'Of the rows that were copied, whatever their order',
    at       DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When it came to this state'
)
ENGINE = ReplacingMergeTree(at)
ORDER BY date;

-- Every row of both tables once, also while a day is being moved.
CREATE VIEW IF NOT EXISTS flight_data.flight_positions_all AS
SELECT
    flight_id, callsign, longitude, latitude, altitude, gspeed, timestamp, icao24, track, vertical_rate, squawk,
    on_ground, source, source_offset, date, hour, lon_grid_materialized, lat_grid_materialized
FROM flight_data.flight_positions
WHERE date NOT IN (SELECT date FROM flight_data.archived_days FINAL WHERE state = 'switched')
UNION ALL
SELECT
    flight_id, callsign, longitude, latitude, altitude, gspeed, timestamp, icao24, track, vertical_rate, squawk,
    on_ground, source, source_offset, date, hour, lon_grid_materialized, lat_grid_materialized
FROM flight_data.flight_positions_monthly
WHERE date IN (SELECT date FROM flight_data.archived_days FINAL WHERE state IN ('switched', 'dropped'));

-- The same, counted by hour: it reads the projections, not the rows.
CREATE VIEW IF NOT EXISTS flight_data.flight_positions_by_hour AS
SELECT date, hour, count() AS positions, avg(altitude) AS avg_altitude_ft
FROM flight_data.flight_positions
WHERE date NOT IN (SELECT date FROM flight_data.archived_days FINAL WHERE state = 'switched')
GROUP BY date, hour
UNION ALL
SELECT date, hour, count() AS positions, avg(altitude) AS avg_altitude_ft
FROM flight_data.flight_positions_monthly
WHERE date IN (SELECT date FROM flight_data.archived_days FINAL WHERE state IN ('switched', 'dropped'))
GROUP BY date, hour;
