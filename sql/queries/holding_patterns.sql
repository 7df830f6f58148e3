-- Flights that circle: two full turns within 20 minutes and 50 km, over the last day.
SELECT
    flight_id,
    any(callsign) AS callsign,
    min(timestamp) AS began,
    max(timestamp) AS ended,
    round(abs(sum(turn)) / 360, 1) AS circles,
    round(avg(longitude), 3) AS mean_longitude,
    round(avg(latitude), 3) AS mean_latitude,
    round(avg(altitude), -2) AS mean_altitude_ft
FROM
(
    SELECT
        flight_id, callsign, timestamp, longitude, latitude, altitude,
        -- Degrees turned since the position before, to the right positive. Positions must come at
        -- least every half turn, which in a standard hold of four minutes is every minute.
        positiveModulo(track - lagInFrame(track, 1, track) OVER flight + 180, 360) - 180 AS turn
    FROM flight_data.flight_positions
    WHERE date BETWEEN today() - 1 AND today()
      AND timestamp >= now() - INTERVAL 1 DAY
      AND track IS NOT NULL
      AND NOT ifNull(on_ground, gspeed < 40)
    WINDOW flight AS (PARTITION BY flight_id ORDER BY timestamp ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)
)
GROUP BY flight_id, toStartOfInterval(timestamp, INTERVAL 20 MINUTE)
HAVING abs(sum(turn)) >= 720
   AND geoDistance(min(longitude), min(latitude), max(longitude), max(latitude)) < 50000
ORDER BY began, flight_id;
