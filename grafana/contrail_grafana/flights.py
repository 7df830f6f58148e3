"""Flights: the questions of the README, each asked the fast way of sql/queries/fast."""

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog import builder as cog
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import units

from contrail_grafana import build
from contrail_grafana.build import Sql

UID = "contrail-flights"
POSITIONS = "flight_data.flight_positions"

# Boxes on the map: west, south, east, north, in degrees.
AREAS = {
    "San Francisco Bay": "-123 37 -121.5 38.5",
    "San Francisco": "-122.5 37.7 -122.3 37.9",
    "New York": "-75 40 -73 41.5",
    "London": "-1.5 50.9 1 52.1",
    "Frankfurt": "7.5 49.5 9.6 50.6",
    "Dubai": "54.4 24.5 56.4 26",
    "Singapore": "103 0.8 104.8 2",
    "Tokyo": "138.8 34.9 141 36.4",
    "Everywhere": "-180 -90 180 90",
}

# The last five minutes of the time that is shown, within the box that was chosen.
IN_AREA = f"""
WITH
    splitByChar(' ', ${{area:sqlstring}}) AS box,
    toFloat64(box[1]) AS west, toFloat64(box[2]) AS south, toFloat64(box[3]) AS east, toFloat64(box[4]) AS north,
    $__toTime AS until, until - INTERVAL 5 MINUTE AS since
SELECT flight_id, callsign, longitude, latitude, altitude AS altitude_ft, gspeed AS ground_speed_kt, track, timestamp
FROM {POSITIONS}
PREWHERE date >= toDate(since, 'UTC') AND date <= toDate(until, 'UTC')
  AND timestamp >= since AND timestamp <= until
  AND lon_grid_materialized BETWEEN floor(west) AND floor(east)
  AND lat_grid_materialized BETWEEN floor(south) AND floor(north)
WHERE longitude BETWEEN west AND east
  AND latitude BETWEEN south AND north
ORDER BY timestamp DESC
LIMIT 1 BY flight_id
LIMIT 2000
"""

# Positions of the callsign that was chosen, within the time that is shown.
OF_CALLSIGN = """callsign = ${callsign:sqlstring}
  AND date >= toDate($__fromTime, 'UTC') AND date <= toDate($__toTime, 'UTC') AND $__timeFilter(timestamp)"""

# Cells of one degree by the minute, which a projection has counted.
IN_CELLS = f"""
SELECT lon_grid_materialized + 0.5 AS longitude, lat_grid_materialized + 0.5 AS latitude, count() AS positions
FROM {POSITIONS}
WHERE date >= toDate($__fromTime, 'UTC') AND date <= toDate($__toTime, 'UTC')
  AND toStartOfMinute(timestamp) >= $__fromTime AND toStartOfMinute(timestamp) <= $__toTime
GROUP BY lon_grid_materialized, lat_grid_materialized
ORDER BY positions DESC, longitude, latitude
LIMIT {{limit}}
"""


def _markers(size: str, color: str, smallest: int = 3, largest: int = 12) -> dict[str, object]:
    """Circles by two columns."""
    return {
        "showLegend": True,
        "style": {
            "size": {"field": size, "min": smallest, "max": largest, "fixed": 5},
            "color": {"field": color, "fixed": "dark-orange"},
            "opacity": 0.6,
            "symbol": {"mode": "fixed", "fixed": "img/icons/marker/circle.svg"},
        },
    }


def _variables() -> list[cog.Builder[models.VariableModel]]:
    sources = (
        builders.QueryVariable("source")
        .label("Source")
        .description("Sources whose positions are counted by hour")
        .datasource(build.CLICKHOUSE)
        .query(
            f"SELECT source FROM {POSITIONS} WHERE $__dateFilter(date) GROUP BY source ORDER BY source"
        )
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .current(models.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )
    callsigns = (
        builders.QueryVariable("callsign")
        .label("Callsign")
        .description("Flight whose latest position and path are shown; any may be typed in")
        .datasource(build.CLICKHOUSE)
        .query(
            f"SELECT callsign FROM {POSITIONS} WHERE date >= toDate($__toTime - INTERVAL 15 MINUTE, 'UTC')"
            " AND date <= toDate($__toTime, 'UTC') AND timestamp >= $__toTime - INTERVAL 15 MINUTE AND callsign != ''"
            " GROUP BY callsign ORDER BY callsign LIMIT 2000"
        )
        .refresh(models.VariableRefresh.ON_DASHBOARD_LOAD)
        .allow_custom_value(True)
    )
    areas = (
        builders.CustomVariable("area")
        .label("Area")
        .description("Box on the map; any may be typed in: west south east north, in degrees")
        .values(", ".join(f"{name} : {box}" for name, box in AREAS.items()))
        .current(
            models.VariableOption(
                selected=True, text=next(iter(AREAS)), value=next(iter(AREAS.values()))
            )
        )
        .allow_custom_value(True)
    )
    return [sources, callsigns, areas]


def dashboard() -> models.Dashboard:
    """The dashboard."""
    flights = build.rows(
        "Flights in $area",
        "Each flight in the box that was chosen, at its last position within the last five minutes of the time shown.",
        units.Short,
        [Sql(IN_AREA)],
        size=(12, 12),
        units={
            "altitude_ft": units.Feet,
            "ground_speed_kt": units.Knot,
            "track": units.Degrees,
            "longitude": units.Degrees,
            "latitude": units.Degrees,
        },
    )
    flights = build.with_link(
        flights,
        "callsign",
        "Follow this flight",
        f"/d/{UID}?var-callsign=${{__value.raw}}&${{__url_time_range}}",
    )
    now: list[build.Panel] = [
        build.number(
            "Positions",
            "Positions of the chosen sources, in the whole hours that the time shown touches.",
            units.Short,
            [
                Sql(
                    f"""
                    SELECT count() AS positions FROM {POSITIONS}
                    WHERE $__dateFilter(date) AND source IN (${{source:sqlstring}})
                      AND toDateTime(date, 'UTC') + toIntervalHour(hour) >= toStartOfHour($__fromTime)
                      AND toDateTime(date, 'UTC') + toIntervalHour(hour) <= $__toTime
                    """
                )
            ],
            size=(8, 4),
        ),
        build.number(
            "Flights now",
            "Flights that were seen in the last two minutes of the time shown.",
            units.Short,
            [
                Sql(
                    f"""
                    SELECT uniq(flight_id) AS flights FROM {POSITIONS}
                    PREWHERE date >= toDate($__toTime - INTERVAL 2 MINUTE, 'UTC') AND date <= toDate($__toTime, 'UTC')
                      AND timestamp >= $__toTime - INTERVAL 2 MINUTE AND timestamp <= $__toTime
                    """
                )
            ],
            size=(8, 4),
        ),
        build.number(
            "All positions",
            "Positions in both tables, counted once, also while a day is moved.",
            units.Short,
            [Sql("SELECT sum(positions) AS positions FROM flight_data.flight_positions_by_hour")],
            size=(8, 4),
        ),
        build.geo(
            "Busiest airspaces",
            "The 500 cells of one degree with most positions in the time shown, to the minute, of all sources.",
            units.Short,
            [Sql(IN_CELLS.format(limit=500))],
            [build.layer("markers", "Cells", _markers("positions", "positions"))],
            size=(16, 12),
        ),
        build.rows(
            "Top 10 airspaces",
            "The ten cells of one degree with most positions in the time shown, by their middle.",
            units.Short,
            [Sql(IN_CELLS.format(limit=10))],
            size=(8, 12),
            units={"longitude": units.Degrees, "latitude": units.Degrees},
        ),
    ]
    flight: list[build.Panel] = [
        build.rows(
            "Latest position of $callsign",
            "The newest position of the chosen flight, whenever that was.",
            units.Short,
            [
                Sql(
                    f"""
                    WITH
                        (SELECT max(timestamp) FROM {POSITIONS} WHERE callsign = ${{callsign:sqlstring}} AND date >= today() - 1) AS recent,
                        -- Reads nothing if there is a recent one.
                        (SELECT max(timestamp) FROM {POSITIONS} WHERE callsign = ${{callsign:sqlstring}} AND recent = 0) AS earlier,
                        greatest(recent, earlier) AS latest
                    SELECT
                        callsign, flight_id, timestamp, longitude, latitude, altitude AS altitude_ft, gspeed AS ground_speed_kt,
                        track, vertical_rate AS vertical_rate_ft_min, squawk, on_ground, icao24
                    FROM {POSITIONS}
                    WHERE callsign = ${{callsign:sqlstring}} AND date = toDate(latest) AND timestamp = latest
                    LIMIT 1
                    """
                )
            ],
            size=(24, 4),
            units={
                "altitude_ft": units.Feet,
                "ground_speed_kt": units.Knot,
                "track": units.Degrees,
                "longitude": units.Degrees,
                "latitude": units.Degrees,
            },
        ),
        build.geo(
            "Path of $callsign",
            "Where the chosen flight was in the time shown, a point for each interval of the chart.",
            units.Feet,
            [
                Sql(
                    f"""
                    SELECT timestamp, longitude, latitude, altitude AS altitude_ft
                    FROM {POSITIONS}
                    WHERE {OF_CALLSIGN}
                    ORDER BY timestamp
                    LIMIT 1 BY intDiv(toUnixTimestamp(timestamp), $__interval_s)
                    """
                )
            ],
            [
                build.layer(
                    "route",
                    "Path",
                    {
                        "arrow": 1,
                        "style": {
                            "color": {"field": "altitude_ft", "fixed": "dark-blue"},
                            "lineWidth": 3,
                            "opacity": 1,
                        },
                    },
                )
            ],
        ),
        build.lines(
            "Altitude and ground speed of $callsign",
            "Averages of each interval; altitude is barometric.",
            units.Feet,
            [
                Sql(
                    f"""
                    SELECT $__timeInterval(timestamp) AS time, avg(altitude) AS altitude_ft, avg(gspeed) AS ground_speed_kt
                    FROM {POSITIONS}
                    WHERE {OF_CALLSIGN}
                    GROUP BY time
                    ORDER BY time
                    """,
                    series=True,
                )
            ],
            size=(12, 12),
        ).override_by_name(
            "ground_speed_kt",
            [
                models.DynamicConfigValue(id_val="unit", value=units.Knot),
                models.DynamicConfigValue(id_val="custom.axisPlacement", value="right"),
            ],
        ),
    ]
    area: list[build.Panel] = [
        build.geo(
            "Map of $area",
            "Flights in the box that was chosen, at their last positions within the last five minutes of the time shown.",
            units.Feet,
            [Sql(IN_AREA)],
            [build.layer("markers", "Flights", _markers("ground_speed_kt", "altitude_ft", 4, 8))],
        ),
        flights,
    ]
    patterns: list[build.Panel] = [
        build.bars(
            "Positions by hour of the day",
            "When most is in the air: positions of the chosen sources by hour of the day in UTC, over a week.",
            units.Short,
            [
                Sql(
                    f"""
                    SELECT leftPad(toString(hour), 2, '0') AS hour_utc, count() AS positions
                    FROM {POSITIONS}
                    WHERE $__dateFilter(date) AND source IN (${{source:sqlstring}})
                    GROUP BY hour
                    ORDER BY hour
                    """
                )
            ],
            "hour_utc",
        ).time_from("7d"),
        build.bars(
            "Average altitude by hour of the day",
            "Average altitude of the positions of the chosen sources by hour of the day in UTC, over 30 days.",
            units.Feet,
            [
                Sql(
                    f"""
                    SELECT leftPad(toString(hour), 2, '0') AS hour_utc, avg(altitude) AS avg_altitude_ft
                    FROM {POSITIONS}
                    WHERE $__dateFilter(date) AND source IN (${{source:sqlstring}})
                    GROUP BY hour
                    ORDER BY hour
                    """
                )
            ],
            "hour_utc",
        ).time_from("30d"),
        build.lines(
            "Positions by hour and source",
            "Positions of each chosen source in each hour of the last week.",
            units.Short,
            [
                Sql(
                    f"""
                    SELECT toDateTime(date, 'UTC') + toIntervalHour(hour) AS time, source, count() AS positions
                    FROM {POSITIONS}
                    WHERE $__dateFilter(date) AND source IN (${{source:sqlstring}})
                    GROUP BY date, hour, source
                    ORDER BY time
                    """,
                    series=True,
                )
            ],
        ).time_from("7d"),
        build.bars(
            "Months compared",
            "Positions in each month of the last year, in the live and the monthly table together.",
            units.Short,
            [
                Sql(
                    """
                    SELECT formatDateTime(toStartOfMonth(date), '%Y-%m') AS month, sum(positions) AS positions
                    FROM flight_data.flight_positions_by_hour
                    WHERE $__dateFilter(date)
                    GROUP BY month
                    ORDER BY month
                    """
                )
            ],
            "month",
        ).time_from("365d"),
        build.geo(
            "Popular routes",
            "The 2,000 H3 cells of resolution 7 with most positions over the last 30 days, as counted at most six hours ago.",
            units.Short,
            [
                Sql(
                    """
                    WITH h3ToGeo(h3_cell) AS middle
                    -- Latitude first, as ClickHouse has it since 25.1; a reader may not set the order.
                    SELECT middle.2 AS longitude, middle.1 AS latitude, frequency AS positions
                    FROM flight_data.popular_cells
                    ORDER BY positions DESC
                    LIMIT 2000
                    """
                )
            ],
            [build.layer("markers", "Cells", _markers("positions", "positions", 2, 7))],
            size=(24, 14),
        ),
    ]
    return build.board(
        UID,
        "Flights",
        "Where aircraft are, were, and are most: the questions of contrail's README.",
        {
            "Now": now,
            "One flight": flight,
            "An area": area,
            "Patterns": patterns,
        },
        _variables(),
    )
