-- Positions by month, over the last year and both tables, from counts by hour.
WITH now() - INTERVAL 1 YEAR AS since
SELECT
    toMonth(date) AS month,
    sum(positions) AS flight_count
FROM
(
    SELECT date, positions
    FROM flight_data.flight_positions_by_hour
    WHERE date > toDate(since)
    UNION ALL
    -- The day within which the year begins.
    SELECT date, count() AS positions
    FROM flight_data.flight_positions_all
    WHERE date = toDate(since) AND timestamp >= since
    GROUP BY date
)
GROUP BY month
ORDER BY month;
