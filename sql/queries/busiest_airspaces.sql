-- Top 10 busiest air spaces within the last hour, in cells of one degree.
SELECT 
lon_grid_materialized AS lon_grid,
lat_grid_materialized AS lat_grid,
count() AS flight_count
FROM flight_data.flight_positions
WHERE timestamp >= now() - INTERVAL 1 HOUR
GROUP BY lon_grid, lat_grid
HAVING flight_count > 0
ORDER BY flight_count DESC
LIMIT 10;
