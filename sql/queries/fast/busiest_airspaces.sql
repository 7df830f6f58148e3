-- Top 10 busiest air spaces within the last hour, from counts by minute and cell.
WITH now() - INTERVAL 1 HOUR AS since
SELECT
    lon_grid,
    lat_grid,
    sum(positions) AS flight_count
FROM
(
    SELECT
        lon_grid_materialized AS lon_grid,
        lat_grid_materialized AS lat_grid,
        count() AS positions
    FROM flight_data.flight_positions
    WHERE date >= toDate(since) AND toStartOfMinute(timestamp) >= since
    GROUP BY lon_grid, lat_grid
    UNION ALL
    -- The minute within which the hour begins, by its seconds.
    SELECT
        lon_grid_materialized AS lon_grid,
        lat_grid_materialized AS lat_grid,
        arrayCount(second -> second >= toSecond(since), groupArray(toUInt8(toSecond(timestamp)))) AS positions
    FROM flight_data.flight_positions
    WHERE date = toDate(since) AND toStartOfMinute(timestamp) = toStartOfMinute(since) AND toSecond(since) > 0
    GROUP BY lon_grid, lat_grid
)
GROUP BY lon_grid, lat_grid
HAVING flight_count > 0
ORDER BY flight_count DESC
LIMIT 10;
