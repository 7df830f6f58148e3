-- Latest position of one flight by callsign.
SELECT *
FROM flight_data.flight_positions
WHERE callsign = 'FDB892'
ORDER BY timestamp DESC
LIMIT 1;
