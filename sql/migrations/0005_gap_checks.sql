-- What `contrail gaps` has found out: the newest row of a source holds. It is written when a check is over,
-- so one that is cut off leaves nothing.
CREATE TABLE IF NOT EXISTS flight_data.gap_checks
(
    source        String COMMENT 'Name of the source',
    begin         UInt64 COMMENT 'The first offset that was ever sent, as the checkpoint says',
    checked_below UInt64 COMMENT 'Every offset from begin to below this one was looked for',
    missing       Array(Tuple(first UInt64, last UInt64)) COMMENT 'Those that were not found, ends included',
    checked_at    DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When'
)
ENGINE = ReplacingMergeTree(checked_at)
ORDER BY source;
