-- Path of one flight by callsign.
SELECT 
    timestamp,
    longitude,
    latitude,
    altitude
FROM flight_data.flight_positions
WHERE callsign = 'FDB892'
ORDER BY timestamp;
