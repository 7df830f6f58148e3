-- Flight path frequency: the 100 H3 cells with most positions, over the last 30 days.
SELECT
    geoToH3(longitude, latitude, 7) AS h3_cell,
    count() AS frequency
FROM flight_data.flight_positions
WHERE date BETWEEN today() - INTERVAL 30 DAY AND today()
GROUP BY h3_cell
ORDER BY frequency DESC
LIMIT 100;
