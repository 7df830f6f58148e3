-- Positions by hour and H3 cell of resolution 7. Computing a cell costs more than all else that is done
-- for a row, so it is done once a row, in the background.
CREATE TABLE IF NOT EXISTS flight_data.h3_cells_by_hour
(
    date      Date     COMMENT 'Day, UTC' CODEC(ZSTD(1)),
    hour      UInt8    COMMENT 'Hour of the day, UTC' CODEC(ZSTD(1)),
    h3_cell   UInt64   COMMENT 'H3 cell of resolution 7' CODEC(Delta, ZSTD(1)),
    frequency UInt64   COMMENT 'Positions in it' CODEC(T64, ZSTD(1)),
    counted   DateTime64(3, 'UTC') COMMENT 'When' CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(counted)
PARTITION BY date
ORDER BY (date, hour, h3_cell)
TTL date + INTERVAL 40 DAY
SETTINGS ttl_only_drop_parts = 1;

-- Counts the hours that have other numbers of rows than were counted: new ones, ones that late events
-- came into, and ones whose counting was cut off. Rows are only ever added, so equal numbers are equal rows.
CREATE MATERIALIZED VIEW IF NOT EXISTS flight_data.h3_cells_counting
REFRESH EVERY 6 HOUR APPEND TO flight_data.h3_cells_by_hour
AS
WITH changed AS
(
    SELECT date, hour
    FROM (SELECT date, hour, count() AS positions FROM flight_data.flight_positions WHERE date >= today() - 30 GROUP BY date, hour) AS there
    LEFT JOIN (SELECT date, hour, sum(frequency) AS positions FROM flight_data.h3_cells_by_hour FINAL WHERE date >= today() - 30 GROUP BY date, hour) AS counted
    USING (date, hour)
    WHERE there.positions != counted.positions
)
SELECT date, hour, geoToH3(longitude, latitude, 7) AS h3_cell, count() AS frequency, now64(3) AS counted
FROM flight_data.flight_positions
WHERE date >= today() - 30 AND (date, hour) IN changed
GROUP BY date, hour, h3_cell
SETTINGS geotoh3_argument_order = 'lon_lat';

-- The cells with most positions over the last 30 days.
CREATE MATERIALIZED VIEW IF NOT EXISTS flight_data.popular_cells
REFRESH EVERY 6 HOUR DEPENDS ON flight_data.h3_cells_counting
(
    h3_cell   UInt64 COMMENT 'H3 cell of resolution 7',
    frequency UInt64 COMMENT 'Positions in it over the last 30 days'
)
ENGINE = MergeTree
ORDER BY h3_cell
AS
SELECT h3_cell, sum(frequency) AS frequency
FROM flight_data.h3_cells_by_hour FINAL
WHERE date BETWEEN today() - INTERVAL 30 DAY AND today()
  -- Hours that were moved away are not in the table any more.
  AND (date, hour) IN (SELECT date, hour FROM flight_data.flight_positions WHERE date >= today() - 30 GROUP BY date, hour)
GROUP BY h3_cell
ORDER BY frequency DESC
LIMIT 10000;
