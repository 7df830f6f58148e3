-- Path of one flight by callsign; -p callsign=FDB892
SELECT
    timestamp,
    longitude,
    latitude,
    altitude
FROM flight_data.flight_positions
WHERE callsign = {callsign:String}
ORDER BY timestamp;
