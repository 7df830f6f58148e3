-- Average altitude by hour of the day, over the last 30 days, from averages by hour.
SELECT 
    hour,
    avg(altitude) AS avg_altitude
FROM flight_data.flight_positions
WHERE date BETWEEN today() - 30 AND today()
GROUP BY hour
ORDER BY hour;
