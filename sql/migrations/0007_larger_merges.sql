-- flight-ingester sends larger blocks when it has a backlog, so fewer parts of like size come. So many are
-- merged at once now: while a backlog comes in, the server has the processors for inserting.
ALTER TABLE flight_data.flight_positions MODIFY SETTING merge_selector_base = 20;
