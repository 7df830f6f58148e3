-- Real-time positions, one row per source event. (source, source_offset) is the identity of a row.
-- docs/schema.md says what was measured to choose the key, the codecs and the projections.
CREATE TABLE IF NOT EXISTS flight_data.flight_positions
(
    flight_id     LowCardinality(String)           COMMENT 'One flight of one aircraft, from departure to arrival',
    callsign      LowCardinality(String)           COMMENT 'Callsign as broadcast; empty where the aircraft sends none',
    -- Decimals of few digits, each near the one before: their bits change by like amounts.
    longitude     Float64 COMMENT 'Degrees east, WGS 84' CODEC(DoubleDelta, ZSTD(1)),
    latitude      Float64 COMMENT 'Degrees north, WGS 84' CODEC(DoubleDelta, ZSTD(1)),
    altitude      Int32 COMMENT 'Barometric altitude, feet' CODEC(Delta, ZSTD(1)),
    gspeed        Float32 COMMENT 'Ground speed, knots' CODEC(Delta, ZSTD(1)),
    timestamp     DateTime64(3, 'UTC') COMMENT 'Time of the position, UTC' CODEC(DoubleDelta, ZSTD(1)),
    icao24        LowCardinality(Nullable(String)) COMMENT 'ICAO 24-bit address, six hexadecimal digits',
    track         Nullable(Float32) COMMENT 'Track over ground, degrees clockwise from true north' CODEC(ZSTD(1)),
    vertical_rate Nullable(Int32) COMMENT 'Feet per minute, positive when climbing' CODEC(ZSTD(1)),
    squawk        LowCardinality(Nullable(String)) COMMENT 'Transponder code, four octal digits',
    on_ground     Nullable(Bool) COMMENT 'True while the aircraft reports that it is on the ground' CODEC(ZSTD(1)),
    source        LowCardinality(String)           COMMENT 'Name of the source',
    source_offset UInt64 COMMENT 'Offset of the event in its source' CODEC(DoubleDelta, ZSTD(1)),

    date                  Date   MATERIALIZED toDate(timestamp)        COMMENT 'Day of the position, UTC' CODEC(ZSTD(1)),
    hour                  UInt8  MATERIALIZED toHour(timestamp)        COMMENT 'Hour of the day of the position, UTC' CODEC(ZSTD(1)),
    lon_grid_materialized Int16  MATERIALIZED toInt16(floor(longitude)) COMMENT 'Western edge of the 1 degree cell' CODEC(ZSTD(1)),
    lat_grid_materialized Int16  MATERIALIZED toInt16(floor(latitude))  COMMENT 'Southern edge of the 1 degree cell' CODEC(ZSTD(1)),

    -- An insert says until when it may execute. One that was held up on the way for longer than the server
    -- remembers its token would otherwise add its rows a second time. Inserts without a deadline have none.
    insert_deadline  DateTime('UTC') EPHEMERAL toDateTime(4294967295, 'UTC') COMMENT 'Until when the insert may execute',
    inserted_in_time UInt8 MATERIALIZED throwIf(now() > insert_deadline, 'the insert is older than its deadline') COMMENT 'Always 0: a late insert throws',

    -- Time ranges and look-ups by identity skip what cannot hold them: a part is a short time, and within
    -- a merged part a granule is a short time of few aircraft.
    INDEX timestamp_range timestamp TYPE minmax GRANULARITY 1,
    INDEX source_offset_range source_offset TYPE minmax GRANULARITY 1,

    -- Projections are written with the part that they are of, and merged with it: they cannot disagree
    -- with the rows, whatever is killed.
    --
    -- Counts and altitudes by hour, and the highest offset of each source, which the ingester asks for
    -- at every assignment of a partition.
    PROJECTION by_hour
    (
        SELECT date, hour, source, count(), avg(altitude), max(source_offset)
        GROUP BY date, hour, source
    ),
    -- Positions by minute and cell of one degree. The seconds let a question begin within a minute.
    PROJECTION by_minute_and_cell
    (
        SELECT
            date,
            toStartOfMinute(timestamp) AS minute,
            lon_grid_materialized,
            lat_grid_materialized,
            count(),
            groupArray(toUInt8(toSecond(timestamp)))
        GROUP BY date, minute, lon_grid_materialized, lat_grid_materialized
    )
)
ENGINE = MergeTree
PARTITION BY date
ORDER BY (callsign, timestamp)
SETTINGS
    -- An insert that is repeated under its token within the last 100,000 blocks adds nothing.
    non_replicated_deduplication_window = 100000,
    -- What was inserted just now stays in one file a part, and not in one or two a column, until it is merged
    -- with more: making and removing files is a large part of what an insert costs.
    min_bytes_for_wide_part = 67108864,
    -- Merging is most of what a row costs. So many parts of like size are merged at once, where the default
    -- is 5: each row is merged less often, and a question meets a few parts more.
    merge_selector_base = 12;
