-- The 20 pairs of airports with most flights between them, over the last week.
WITH near AS
(
    -- Each airport in its cell of one degree and the eight around it, to be found by cell.
    SELECT
        icao,
        longitude AS airport_longitude,
        latitude AS airport_latitude,
        toInt16(floor(longitude)) + arrayJoin([-1, 0, 1]) AS lon_grid,
        toInt16(floor(latitude)) + arrayJoin([-1, 0, 1]) AS lat_grid
    FROM flight_data.airports FINAL
)
SELECT
    origin,
    destination,
    count() AS flights
FROM
(
    SELECT
        flight_id,
        argMinIf(icao, distance_m, is_origin) AS origin,
        argMinIf(icao, distance_m, NOT is_origin) AS destination
    FROM
    (
        SELECT flight_id, icao, is_origin, geoDistance(end_longitude, end_latitude, airport_longitude, airport_latitude) AS distance_m
        FROM
        (
            SELECT
                flight_id,
                arrayJoin([
                    (true, argMin((longitude, latitude), timestamp)),
                    (false, argMax((longitude, latitude), timestamp))
                ]) AS flight_end,
                flight_end.1 AS is_origin,
                flight_end.2.1 AS end_longitude,
                flight_end.2.2 AS end_latitude,
                toInt16(floor(end_longitude)) AS lon_grid,
                toInt16(floor(end_latitude)) AS lat_grid
            FROM flight_data.flight_positions
            WHERE date BETWEEN today() - 7 AND today()
            GROUP BY flight_id
        ) AS flights
        INNER JOIN near USING (lon_grid, lat_grid)
        WHERE distance_m < 10000
    )
    GROUP BY flight_id
    -- A flight whose beginning or end was not seen has no airport there.
    HAVING origin != '' AND destination != '' AND origin != destination
)
GROUP BY origin, destination
ORDER BY flights DESC, origin, destination
LIMIT 20;
