-- How far a receiver hears, by bearing (10 degrees) and altitude (10,000 ft), over the last day; -p longitude=55.36 -p latitude=25.25.
WITH
    radians({longitude:Float64}) AS receiver_longitude,
    radians({latitude:Float64}) AS receiver_latitude,
    radians(longitude) AS east,
    radians(latitude) AS north,
    -- Initial bearing of the great circle from the receiver.
    positiveModulo(degrees(atan2(
        sin(east - receiver_longitude) * cos(north),
        cos(receiver_latitude) * sin(north) - sin(receiver_latitude) * cos(north) * cos(east - receiver_longitude)
    )), 360) AS bearing,
    geoDistance(longitude, latitude, {longitude:Float64}, {latitude:Float64}) / 1852 AS range_nm
SELECT
    toUInt16(floor(bearing / 10) * 10) AS from_bearing,
    intDiv(greatest(altitude, 0), 10000) * 10000 AS from_altitude_ft,
    count() AS positions,
    round(quantile(0.5)(range_nm), 1) AS median_range_nm,
    round(max(range_nm), 1) AS max_range_nm
FROM flight_data.flight_positions
WHERE date BETWEEN today() - 1 AND today()
  AND timestamp >= now() - INTERVAL 1 DAY
  -- No ground station hears further than this: it is the radio horizon at 60,000 ft.
  AND range_nm < 320
GROUP BY from_bearing, from_altitude_ft
ORDER BY from_bearing, from_altitude_ft;
