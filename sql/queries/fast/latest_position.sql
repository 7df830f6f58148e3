-- Latest position of one flight by callsign, looked for in the newest days first; -p callsign=FDB892
WITH (SELECT max(timestamp) FROM flight_data.flight_positions WHERE callsign = {callsign:String} AND date >= today() - 1) AS recent
SELECT *
FROM flight_data.flight_positions
-- All days, if there is nothing recent: then this is 1970.
WHERE callsign = {callsign:String} AND date >= toDate(recent) AND timestamp >= recent
ORDER BY timestamp DESC
LIMIT 1;
