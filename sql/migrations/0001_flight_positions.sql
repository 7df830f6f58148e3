-- Real-time positions, one row per source event. (source, source_offset) is the identity of a row.
CREATE TABLE IF NOT EXISTS flight_data.flight_positions
(
    flight_id     LowCardinality(String)           COMMENT 'One flight of one aircraft, from departure to arrival',
    callsign      LowCardinality(String)           COMMENT 'Callsign as broadcast; empty where the aircraft sends none',
    longitude     Float64 CODEC(Gorilla, ZSTD(1))  COMMENT 'Degrees east, WGS 84',
    latitude      Float64 CODEC(Gorilla, ZSTD(1))  COMMENT 'Degrees north, WGS 84',
    altitude      Int32 CODEC(Delta, ZSTD(1))      COMMENT 'Barometric altitude, feet',
    gspeed        Float32 CODEC(Gorilla, ZSTD(1))  COMMENT 'Ground speed, knots',
    timestamp     DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)) COMMENT 'Time of the position, UTC',
    icao24        LowCardinality(Nullable(String)) COMMENT 'ICAO 24-bit address, six hexadecimal digits',
    track         Nullable(Float32) CODEC(ZSTD(1)) COMMENT 'Track over ground, degrees clockwise from true north',
    vertical_rate Nullable(Int32) CODEC(ZSTD(1))   COMMENT 'Feet per minute, positive when climbing',
    squawk        LowCardinality(Nullable(String)) COMMENT 'Transponder code, four octal digits',
    on_ground     Nullable(Bool) CODEC(ZSTD(1))    COMMENT 'True while the aircraft reports that it is on the ground',
    source        LowCardinality(String)           COMMENT 'Name of the source',
    source_offset UInt64 CODEC(DoubleDelta, ZSTD(1)) COMMENT 'Offset of the event in its source',

    date                  Date   MATERIALIZED toDate(timestamp)        COMMENT 'Day of the position, UTC',
    hour                  UInt8  MATERIALIZED toHour(timestamp)        COMMENT 'Hour of the day of the position, UTC',
    lon_grid_materialized Int16  MATERIALIZED toInt16(floor(longitude)) COMMENT 'Western edge of the 1 degree cell',
    lat_grid_materialized Int16  MATERIALIZED toInt16(floor(latitude))  COMMENT 'Southern edge of the 1 degree cell',

    -- Identity look-ups and time ranges skip the parts that cannot hold them: a part is a short time.
    INDEX timestamp_range timestamp TYPE minmax GRANULARITY 1,
    INDEX source_offset_range source_offset TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY date
ORDER BY (callsign, timestamp)
SETTINGS
    -- An insert that is repeated under its token within the last 100,000 blocks adds nothing.
    non_replicated_deduplication_window = 100000;
