-- Positions in the air by bands of altitude (5,000 ft) and ground speed (100 kt), over the last week.
SELECT
    intDiv(greatest(altitude, 0), 5000) * 5000 AS from_altitude_ft,
    intDiv(toUInt32(gspeed), 100) * 100 AS from_speed_kt,
    count() AS positions,
    uniq(flight_id) AS flights
FROM flight_data.flight_positions
WHERE date BETWEEN today() - 7 AND today()
  AND NOT ifNull(on_ground, gspeed < 40)
GROUP BY from_altitude_ft, from_speed_kt
ORDER BY from_altitude_ft, from_speed_kt;
