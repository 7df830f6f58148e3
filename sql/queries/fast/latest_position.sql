-- Latest position of one flight by callsign, looked for in the newest days first; -p callsign=FDB892
WITH
    (SELECT max(timestamp) FROM flight_data.flight_positions WHERE callsign = {callsign:String} AND date >= today() - 1) AS recent,
    -- Reads nothing if there is a recent one.
    (SELECT max(timestamp) FROM flight_data.flight_positions WHERE callsign = {callsign:String} AND recent = 0) AS earlier,
    greatest(recent, earlier) AS latest
SELECT *
FROM flight_data.flight_positions
WHERE callsign = {callsign:String} AND date = toDate(latest) AND timestamp = latest
LIMIT 1;
