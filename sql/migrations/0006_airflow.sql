-- What Airflow's DAGs write down.
--
-- Each range of source offsets that was found missing. The newest row of a range holds.
CREATE TABLE IF NOT EXISTS flight_data.repairs
(
    source       LowCardinality(String) COMMENT 'Name of the source',
    first        UInt64 COMMENT 'First offset that was missing',
    last         UInt64 COMMENT 'Last one',
    state        Enum8('found' = 1, 'replaying' = 2, 'filled' = 3, 'failed' = 4, 'lost' = 5) COMMENT 'lost: the source itself has it no more',
    found_at     DateTime64(3, 'UTC') COMMENT 'When it was found missing',
    at           DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When it came to this state',
    replay       String COMMENT 'The producer''s name for the replay',
    detail       String COMMENT 'What there is to say of it'
)
ENGINE = ReplacingMergeTree(at)
ORDER BY (source, first, last);

-- Results of the checks of data quality: one row for each check of each hour; the newest holds.
CREATE TABLE IF NOT EXISTS flight_data.data_quality
(
    hour      DateTime('UTC') COMMENT 'Start of the hour that was looked at',
    check     LowCardinality(String) COMMENT 'What was looked at',
    value     Float64 COMMENT 'What was found',
    threshold Float64 COMMENT 'The bound that counts',
    passed    Bool COMMENT 'Whether the value is within it',
    detail    String COMMENT 'Examples, or the unit of the value',
    at        DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When it was looked at'
)
ENGINE = ReplacingMergeTree(at)
PARTITION BY toYear(hour)
ORDER BY (hour, check);
