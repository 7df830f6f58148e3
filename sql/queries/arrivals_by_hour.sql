-- Arrivals at an airport by hour, over the last week; -p airport=OMDB, its ICAO code.
WITH
    (SELECT longitude FROM flight_data.airports FINAL WHERE icao = {airport:String}) AS airport_longitude,
    (SELECT latitude FROM flight_data.airports FINAL WHERE icao = {airport:String}) AS airport_latitude
SELECT
    toStartOfHour(landed) AS hour,
    count() AS arrivals
FROM
(
    -- The last position in the air is where a flight lands, if it is seen on the ground after that.
    SELECT
        maxIf(timestamp, NOT grounded) AS landed,
        argMaxIf(longitude, timestamp, NOT grounded) AS landed_longitude,
        argMaxIf(latitude, timestamp, NOT grounded) AS landed_latitude,
        maxIf(timestamp, grounded) AS last_on_ground
    FROM
    (
        SELECT flight_id, timestamp, longitude, latitude, ifNull(on_ground, gspeed < 40) AS grounded
        FROM flight_data.flight_positions
        WHERE date BETWEEN today() - 7 AND today()
          AND longitude BETWEEN airport_longitude - 1 AND airport_longitude + 1
          AND latitude BETWEEN airport_latitude - 1 AND airport_latitude + 1
    )
    GROUP BY flight_id
    HAVING countIf(NOT grounded) > 0 AND last_on_ground > landed
)
WHERE geoDistance(landed_longitude, landed_latitude, airport_longitude, airport_latitude) < 25000
GROUP BY hour
ORDER BY hour;
