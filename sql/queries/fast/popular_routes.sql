-- Flight path frequency: the 100 H3 cells with most positions, over the last 30 days, as counted at most six hours ago.
SELECT
    h3_cell,
    frequency
FROM flight_data.popular_cells
ORDER BY frequency DESC
LIMIT 100;
