-- A granule is a long time of few aircraft, so a range of coordinates leaves out none. The cells of one degree that
-- its aircraft crossed are few, and those of most granules are elsewhere.
--
-- Days that are there already go without it until their parts are merged; a map asks for the newest only.
ALTER TABLE flight_data.flight_positions
    ADD INDEX IF NOT EXISTS cells (lon_grid_materialized, lat_grid_materialized) TYPE set(1000) GRANULARITY 1;
