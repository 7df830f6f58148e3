"""Looks at an hour of positions: what cannot be true, what stands still, what is missing."""

import collections.abc
import dataclasses
import typing

from contrail_dags import clickhouse, http, mail, producer, settings

POSITIONS = "flight_data.flight_positions"
RESULTS = "flight_data.data_quality"
# The hour before the current one, unless one is named.
HOUR = "{hour:DateTime('UTC')}"
WITHIN = f"date = toDate({HOUR}) AND timestamp >= {HOUR} AND timestamp < {HOUR} + INTERVAL 1 HOUR"


@dataclasses.dataclass(frozen=True)
class Result:
    """What a check came to."""

    check: str
    value: float
    threshold: float
    passed: bool
    detail: str


def _impossible(client: clickhouse.Client, hour: str, limits: settings.Quality) -> Result:
    row = client.row(
        f"""
        SELECT
            countIf(longitude NOT BETWEEN -180 AND 180 OR latitude NOT BETWEEN -90 AND 90) AS places,
            countIf(gspeed < 0 OR gspeed > {{speed:UInt32}}) AS speeds,
            countIf(altitude < -2000 OR altitude > {{altitude:UInt32}}) AS altitudes,
            countIf(track < 0 OR track > 360) AS tracks,
            anyIf(callsign, gspeed < 0 OR gspeed > {{speed:UInt32}} OR altitude < -2000 OR altitude > {{altitude:UInt32}})
                AS example
        FROM {POSITIONS} WHERE {WITHIN}
        """,
        hour=hour,
        speed=limits.max_speed_kt,
        altitude=limits.max_altitude_ft,
    )
    kinds = ("places", "speeds", "altitudes", "tracks")
    count = sum(int(row[kind]) for kind in kinds)
    detail = ", ".join(f"{kind}: {row[kind]}" for kind in kinds)
    if row["example"]:
        detail += f"; for instance {row['example']}"
    return Result(
        "impossible_positions", count, limits.impossible, count <= limits.impossible, detail
    )


def _stale(client: clickhouse.Client, hour: str, limits: settings.Quality) -> Result:
    row = client.row(
        f"""
        SELECT count() AS flights, countIf(newest < {HOUR} + INTERVAL 1 HOUR - INTERVAL {{minutes:UInt32}} MINUTE) AS stale
        FROM
        (
            SELECT flight_id, max(timestamp) AS newest, argMax(on_ground, timestamp) AS landed
            FROM {POSITIONS} WHERE {WITHIN} GROUP BY flight_id
        )
        WHERE landed IS NULL OR NOT landed
        """,
        hour=hour,
        minutes=limits.stale_minutes,
    )
    flights, stale = int(row["flights"]), int(row["stale"])
    percent = 100.0 * stale / flights if flights else 0.0
    detail = f"percent: {stale} of {flights} flights in the air were not seen for {limits.stale_minutes} minutes"
    return Result(
        "stale_flights", percent, limits.stale_percent, percent <= limits.stale_percent, detail
    )


def _volume(client: clickhouse.Client, hour: str, limits: settings.Quality) -> Result:
    row = client.row(
        f"""
        SELECT
            countIf(timestamp >= {HOUR}) AS now,
            countIf(timestamp < {HOUR}) AS before,
            uniqExactIf(toStartOfHour(timestamp), timestamp < {HOUR}) AS hours
        FROM {POSITIONS}
        WHERE date BETWEEN toDate({HOUR} - INTERVAL 1 DAY) AND toDate({HOUR})
          AND timestamp >= {HOUR} - INTERVAL 1 DAY AND timestamp < {HOUR} + INTERVAL 1 HOUR
        """,
        hour=hour,
    )
    now, before, hours = int(row["now"]), int(row["before"]), int(row["hours"])
    if hours == 0:
        return Result(
            "volume", now, limits.volume_percent, True, f"{now} positions; no day before to compare"
        )
    mean = before / hours
    percent = 100.0 * now / mean
    detail = f"percent: {now} positions, and {mean:.0f} an hour in the {hours} hours before"
    return Result(
        "volume", percent, limits.volume_percent, percent >= limits.volume_percent, detail
    )


def _dead_letters(client: clickhouse.Client, hour: str, limits: settings.Quality) -> Result:
    """Dead letters since the look before; the counters are the ingester's."""
    text = http.ask(f"{limits.ingester_url}/metrics").text
    total = producer.metric(text, "flight_ingester_dead_letters_total") or 0.0
    before = client.rows(
        f"SELECT value FROM {RESULTS} FINAL WHERE check = 'dead_letters_total' AND hour < {HOUR}"
        " ORDER BY hour DESC LIMIT 1",
        hour=hour,
    )
    last = float(before[0]["value"]) if before else 0.0
    # An ingester that was started again counts from nought.
    new = total - last if total >= last else total
    return Result(
        "dead_letters",
        new,
        limits.dead_letters,
        new <= limits.dead_letters,
        f"since the look before; {total:.0f} since the ingester was started",
    )


Check = collections.abc.Callable[[clickhouse.Client, str, settings.Quality], Result]
CHECKS: dict[str, Check] = {
    "impossible_positions": _impossible,
    "stale_flights": _stale,
    "volume": _volume,
    "dead_letters": _dead_letters,
}


def look(client: clickhouse.Client, hour: str, limits: settings.Quality) -> list[Result]:
    """Every check of an hour, written down. One that cannot be made is an error after all others were."""
    results: list[Result] = []
    failures: list[str] = []
    for name, check in CHECKS.items():
        try:
            results.append(check(client, hour, limits))
        except (clickhouse.ClickhouseError, http.HttpError) as error:
            failures.append(f"{name}: {error}")
    total = [
        Result("dead_letters_total", _total(result), 0.0, True, "the counter of the ingester")
        for result in results
        if result.check == "dead_letters"
    ]
    rows: list[dict[str, typing.Any]] = [
        {"hour": hour, **dataclasses.asdict(result)} for result in results + total
    ]
    if rows:
        client.insert(f"{RESULTS} (hour, check, value, threshold, passed, detail)", rows)
    if failures:
        raise clickhouse.ClickhouseError("; ".join(failures))
    return results


def _total(result: Result) -> float:
    return float(result.detail.split("; ")[1].split(" ")[0])


def tell(configuration: settings.Settings, hour: str, results: list[Result]) -> bool:
    """Mails what is past its threshold. True if anything is."""
    bad = [result for result in results if not result.passed]
    if not bad:
        return False
    lines = [
        f"{result.check}: {result.value:.1f} (threshold {result.threshold:g})\n    {result.detail}"
        for result in bad
    ]
    text = f"The hour from {hour} UTC:\n\n" + "\n".join(lines) + f"\n\nAll results: {RESULTS}\n"
    mail.send(configuration.mail, f"data quality: {', '.join(r.check for r in bad)}", text)
    return True
