-- Positions by month, over the last year.
SELECT 
    toMonth(timestamp) AS month,
    count() AS flight_count
FROM flight_data.flight_positions
WHERE timestamp >= now() - INTERVAL 1 YEAR
GROUP BY month
ORDER BY month;
