-- Flights within a distance of a point in the last five minutes, -p longitude=55.36 -p latitude=25.25 -p radius_km=50.
WITH
    {longitude:Float64} AS here_longitude,
    {latitude:Float64} AS here_latitude,
    {radius_km:Float64} AS radius_km,
    -- A box around the circle: one degree of latitude is never less than 110.5 km.
    radius_km / 110.5 AS box_latitude,
    if(abs(here_latitude) + box_latitude >= 89, 360, box_latitude / cos(radians(abs(here_latitude) + box_latitude))) AS box_longitude
SELECT
    flight_id,
    callsign,
    altitude AS altitude_ft,
    gspeed AS ground_speed_kt,
    track,
    round(geoDistance(longitude, latitude, here_longitude, here_latitude) / 1000, 1) AS distance_km,
    timestamp
FROM flight_data.flight_positions
WHERE date >= toDate(now() - INTERVAL 5 MINUTE)
  AND timestamp >= now() - INTERVAL 5 MINUTE
  AND latitude BETWEEN here_latitude - box_latitude AND here_latitude + box_latitude
  -- Degrees east of here, the short way round: the box may cross the 180th meridian.
  AND abs(positiveModulo(longitude - here_longitude + 180, 360) - 180) <= box_longitude
  AND geoDistance(longitude, latitude, here_longitude, here_latitude) <= radius_km * 1000
ORDER BY timestamp DESC
LIMIT 1 BY flight_id;
