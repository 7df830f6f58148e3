"""How long each panel of Flights takes: python3 times.py [ROWS], 20,000,000 unless said. Fills an engine for it.

Each question is asked six times, as Grafana asks it; the first answer and the median of the others are printed, in
milliseconds, with the time of the way by HTTP.
"""

import datetime
import statistics
import sys
import time

import boards
import data
from test_sql import KIND, ask

ROUNDS = 6
AIRCRAFT = 500
DAYS = 31


def main() -> int:
    """Fills, asks, prints."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000_000
    fleet = data.Fleet(AIRCRAFT, max(1, DAYS * 86400 * AIRCRAFT // rows), DAYS)
    engine = data.Engine()
    try:
        began = time.monotonic()
        until = datetime.datetime.now(datetime.UTC)
        data.fill(engine.client, fleet, until)
        print(f"{fleet.rows:,} rows of {DAYS} days in {time.monotonic() - began:.0f} s")
        slowest = 0.0
        for target in boards.targets(KIND):
            if target.dashboard != "contrail-flights":
                continue
            sql = boards.expand(target.query["rawSql"], *boards.shown(target, until), data.VALUES)
            taken = [ask(engine.url, sql).seconds * 1000 for _ in range(ROUNDS)]
            middle = statistics.median(taken[1:])
            slowest = max(slowest, *taken)
            print(f"{taken[0]:7.1f} {middle:7.1f}  {target.panel['title']}")
        print(f"the slowest answer took {slowest:.1f} ms")
    finally:
        engine.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
