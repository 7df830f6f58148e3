-- Positions by month, over the last year and both tables, from counts by day.
-- Each table is asked by itself, as flight_positions_all is made: the engine plans that in less time than a view.
WITH
    now() - INTERVAL 1 YEAR AS since,
    switched AS (SELECT date FROM flight_data.archived_days FINAL WHERE state = 'switched'),
    moved AS (SELECT date FROM flight_data.archived_days FINAL WHERE state IN ('switched', 'dropped'))
SELECT
    toMonth(date) AS month,
    sum(positions) AS flight_count
FROM
(
    SELECT date, count() AS positions
    FROM flight_data.flight_positions
    WHERE date > toDate(since) AND date NOT IN switched
    GROUP BY date
    UNION ALL
    SELECT date, count() AS positions
    FROM flight_data.flight_positions_monthly
    WHERE date > toDate(since) AND date IN moved
    GROUP BY date
    UNION ALL
    -- The day within which the year begins.
    SELECT date, count() AS positions
    FROM flight_data.flight_positions
    WHERE date = toDate(since) AND timestamp >= since AND date NOT IN switched
    GROUP BY date
    UNION ALL
    SELECT date, count() AS positions
    FROM flight_data.flight_positions_monthly
    WHERE date = toDate(since) AND timestamp >= since AND date IN moved
    GROUP BY date
)
GROUP BY month
ORDER BY month;
