-- Flights in a box on the map (San Francisco) within the last five minutes.
SELECT
    flight_id,
    callsign,
    altitude,
    gspeed,
    timestamp
FROM flight_data.flight_positions
-- By the index of cells first, then by two small columns; the others are read of what remains.
PREWHERE lon_grid_materialized BETWEEN floor(-122.5) AND floor(-122.3)
  AND lat_grid_materialized BETWEEN floor(37.7) AND floor(37.9)
  AND timestamp >= now() - INTERVAL 5 MINUTE
-- The day chooses the partition, and is not looked at in any row but those.
WHERE date >= toDate(now() - INTERVAL 5 MINUTE)
  AND longitude BETWEEN -122.5 AND -122.3
  AND latitude BETWEEN 37.7 AND 37.9
ORDER BY timestamp DESC;
