-- At what hour of the day there are most flights in the air, over the last week, from counts by hour.
SELECT 
    hour,
    count() AS flights
FROM flight_data.flight_positions
WHERE date BETWEEN today() - 7 AND today()
GROUP BY hour
ORDER BY hour;
