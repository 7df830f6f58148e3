"""Every question to ClickHouse, as Grafana's plugin sends it, on the engine, with positions in the tables."""

import dataclasses
import datetime
import json
import re
import sys
import time
import typing
import unittest
import urllib.parse

import boards
import data
from contrail_dags import http

KIND = "grafana-clickhouse-datasource"
NUMBER = re.compile(r"(Nullable\()?(U?Int|Float|Decimal)")
TIME = re.compile(r"(Nullable\()?Date(Time)?")
TEXT = re.compile(r"(LowCardinality\()?(Nullable\()?String")
# Tables whose rows a panel may read only where the key or the index of time leaves out most of them.
BASES = ("flight_data.flight_positions", "flight_data.flight_positions_monthly")


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came back."""

    columns: dict[str, str]
    rows: list[dict[str, typing.Any]]
    seconds: float


def ask(url: str, sql: str) -> Answer:
    """Asks as the user that Grafana is."""
    options = {"default_format": "JSON", "output_format_json_quote_64bit_integers": "0"}
    began = time.monotonic()
    answer = http.ask(
        f"{url}/?{urllib.parse.urlencode(options)}",
        method="POST",
        body=sql.encode(),
        headers={"X-ClickHouse-User": "reader", "X-ClickHouse-Key": "reader"},
        timeout_s=60,
    )
    seconds = time.monotonic() - began
    if answer.status != 200:
        raise AssertionError(f"{answer.text.strip()[:600]}\n{sql}")
    found = json.loads(answer.text)
    columns = {column["name"]: column["type"] for column in found["meta"]}
    return Answer(columns, found["data"], seconds)


class Questions(unittest.TestCase):
    """One engine for all."""

    engine: data.Engine
    until: datetime.datetime

    @classmethod
    def setUpClass(cls) -> None:
        cls.engine = data.Engine()
        try:
            cls.until = datetime.datetime.now(datetime.UTC)
            data.fill(cls.engine.client, data.Fleet(), cls.until)
        except BaseException:
            cls.engine.close()
            raise

    @classmethod
    def tearDownClass(cls) -> None:
        cls.engine.close()

    def sql(self, target: boards.Target) -> str:
        return boards.expand(target.query["rawSql"], *boards.shown(target, self.until), data.VALUES)

    def test_every_panel_gets_what_it_needs(self) -> None:
        slowest = []
        for target in boards.targets(KIND):
            with self.subTest(str(target)):
                answer = ask(self.engine.url, self.sql(target))
                slowest.append((answer.seconds, str(target)))
                self.assertTrue(answer.rows, "no row")
                self.check_columns(target, answer.columns)
                self.check_values(target, answer)
        self.assertGreater(len(slowest), 10)
        seconds, name = max(slowest)
        print(
            f"{len(slowest)} questions, the slowest took {seconds:.3f} s: {name}", file=sys.stderr
        )

    def check_columns(self, target: boards.Target, columns: dict[str, str]) -> None:
        """The columns and types that this kind of panel draws, and those that it names."""
        panel, query = target.panel, target.query
        numbers = {name for name, kind in columns.items() if NUMBER.match(kind)}
        is_series = panel["type"] == "timeseries"
        self.assertEqual(
            ("timeseries", 0) if is_series else ("table", 1), (query["queryType"], query["format"])
        )
        match panel["type"]:
            case "timeseries":
                first = next(iter(columns))
                self.assertRegex(columns[first], TIME)
                self.assertTrue(numbers)
                self.assertLessEqual(
                    columns.keys() - numbers - {first},
                    {name for name, kind in columns.items() if TEXT.match(kind)},
                )
            case "geomap":
                layers = panel["options"]["layers"]
                self.assertTrue(layers)
                for layer in layers:
                    place = layer["location"]
                    self.assertEqual("coords", place["mode"])
                    for name in (place["longitude"], place["latitude"]):
                        self.assertRegex(columns[name], "Float64")
                    style = layer["config"]["style"]
                    for part in ("size", "color"):
                        if field := style.get(part, {}).get("field"):
                            self.assertIn(field, numbers)
            case "barchart":
                # Grafana draws bars over a text, not over a number.
                self.assertRegex(columns[panel["options"]["xField"]], TEXT)
                self.assertTrue(numbers)
            case "stat":
                self.assertEqual(1, len(columns))
                self.assertEqual(columns.keys(), numbers)
            case kind:
                self.assertEqual("table", kind)
        for override in panel["fieldConfig"]["overrides"]:
            self.assertEqual("byName", override["matcher"]["id"])
            self.assertIn(override["matcher"]["options"], columns)

    def check_values(self, target: boards.Target, answer: Answer) -> None:
        """What can be told of any answer: places are on the globe, times are the ones that were asked for."""
        since, until = boards.shown(target, self.until)
        margin = datetime.timedelta(hours=1)
        for row in answer.rows:
            if "longitude" in row and "latitude" in row:
                self.assertLessEqual(abs(row["longitude"]), 180)
                self.assertLessEqual(abs(row["latitude"]), 90)
            for name in ("time", "timestamp"):
                if name in row:
                    at = datetime.datetime.fromisoformat(row[name]).replace(tzinfo=datetime.UTC)
                    self.assertTrue(since - margin <= at <= until + margin, row)

    def test_the_fast_way_is_taken(self) -> None:
        for target in boards.targets(KIND):
            sql = self.sql(target)
            with self.subTest(str(target)):
                plan = [
                    row["explain"]
                    for row in ask(
                        self.engine.url, f"EXPLAIN indexes = 1, projections = 1 {sql}"
                    ).rows
                ]
                text = "\n".join(plan)
                reads = re.split(r"(?=ReadFromMergeTree \()", text)[1:]
                for read in reads:
                    name = read[len("ReadFromMergeTree (") : read.index(")")]
                    # Where days leave out all parts, there is nothing to choose from.
                    if name not in BASES or "Ranges: 0" in read:
                        continue
                    by_callsign = re.search(r"PrimaryKey[^A-Z]+Keys:[^A-Z]+\bcallsign\b", read)
                    by_time = "PREWHERE" in sql and re.search(r"INTERVAL [25] MINUTE", sql)
                    self.assertTrue(by_callsign or by_time, f"reads all rows of {name}:\n{text}")

    def test_a_plain_way_would_be_found_out(self) -> None:
        plain = (
            "SELECT toHour(timestamp) AS h, count() FROM flight_data.flight_positions GROUP BY h"
        )
        plan = ask(self.engine.url, f"EXPLAIN indexes = 1, projections = 1 {plain}").rows
        self.assertTrue(any(f"ReadFromMergeTree ({BASES[0]})" in row["explain"] for row in plan))

    def test_names_of_a_servers_metrics_are_known_to_the_engine(self) -> None:
        known = {
            "ProfileEvents": "SELECT event AS name FROM system.events SETTINGS system_events_show_zero_values = 1",
            "Metrics": "SELECT metric AS name FROM system.metrics",
        }
        names = {
            kind: {row["name"] for row in self.engine.client.rows(sql)}
            for kind, sql in known.items()
        }
        found = 0
        for target in boards.targets("prometheus"):
            for kind, name in re.findall(r"ClickHouse([A-Za-z]+)_(\w+)", target.query["expr"]):
                found += 1
                self.assertIn(name, names[kind], str(target))
        self.assertGreater(found, 10)

    def test_every_variable_has_choices(self) -> None:
        found = boards.variables(KIND)
        self.assertTrue(found)
        for uid, name, query in found:
            with self.subTest(f"{uid}: {name}"):
                sql = boards.expand(query, self.until - datetime.timedelta(hours=1), self.until, {})
                answer = ask(self.engine.url, sql)
                self.assertEqual(1, len(answer.columns))
                values = {next(iter(row.values())) for row in answer.rows}
                wanted = data.VALUES[name]
                self.assertLessEqual({wanted} if isinstance(wanted, str) else set(wanted), values)

    def test_the_map_shows_the_box_that_was_chosen(self) -> None:
        (target,) = [t for t in boards.targets(KIND) if t.panel["title"] == "Map of $area"]
        flights = {}
        for area in ("-123 37 -121.5 38.5", "0 0 1 1", "-180 -90 180 90"):
            sql = boards.expand(
                target.query["rawSql"],
                *boards.shown(target, self.until),
                data.VALUES | {"area": area},
            )
            flights[area] = {row["callsign"] for row in ask(self.engine.url, sql).rows}
        self.assertIn("T'EST1", flights["-123 37 -121.5 38.5"])
        self.assertNotIn("T'EST1", flights["0 0 1 1"])
        self.assertEqual(data.Fleet().aircraft, len(flights["-180 -90 180 90"]))

    def test_a_trace_leads_to_its_spans(self) -> None:
        (target,) = [t for t in boards.targets(KIND) if t.panel["title"] == "Newest traces"]
        newest, older = ask(self.engine.url, self.sql(target)).rows
        self.assertEqual(
            {
                "trace": f"{2:032x}",
                "duration": 0.34,
                "source": data.SOURCE,
                "first_offset": 100,
                "events": 500,
                "inserted_rows": 1500,
                "longest_insert": 0.02,
                "spans": 5,
                "failed": 0,
            },
            {name: value for name, value in newest.items() if name != "started"},
        )
        self.assertEqual(f"{1:032x}", older["trace"])
        # The link of the id is a question, too: for the columns that Grafana draws a trace from.
        links = {
            override["matcher"]["options"]: override["properties"][0]["value"][0]["url"]
            for override in target.panel["fieldConfig"]["overrides"]
            if override["properties"][0]["id"] == "links"
        }
        panes = urllib.parse.parse_qs(urllib.parse.urlsplit(links["trace"]).query)["panes"][0]
        (pane,) = json.loads(panes).values()
        (query,) = pane["queries"]
        self.assertEqual(("traces", 3), (query["queryType"], query["format"]))
        answer = ask(self.engine.url, query["rawSql"].replace("${__value.raw}", newest["trace"]))
        self.assertLessEqual(
            {
                "traceID",
                "spanID",
                "parentSpanID",
                "serviceName",
                "operationName",
                "startTime",
                "duration",
                "tags",
            },
            answer.columns.keys(),
        )
        self.assertEqual(
            [name for name, *_ in data.SPANS], [row["operationName"] for row in answer.rows]
        )
        self.assertEqual({newest["trace"]}, {row["traceID"] for row in answer.rows})
        self.assertEqual("Float64", answer.columns["startTime"])
        self.assertIn({"key": "contrail.events", "value": "500"}, answer.rows[0]["tags"])

    def test_popular_cells_are_where_most_positions_are(self) -> None:
        (target,) = [t for t in boards.targets(KIND) if t.panel["title"] == "Popular routes"]
        first = ask(self.engine.url, self.sql(target)).rows[0]
        # Where the one aircraft is that stays.
        self.assertAlmostEqual(-122, first["longitude"], delta=0.2)
        self.assertAlmostEqual(37.5, first["latitude"], delta=0.1)

    def test_counts_are_those_of_the_rows(self) -> None:
        """Every position of the hour once, whichever way it is asked for."""
        titles = {t.panel["title"]: t for t in boards.targets(KIND)}
        rows = self.engine.client.number(
            f"SELECT count() FROM flight_data.flight_positions WHERE timestamp >= toDateTime({int(self.until.timestamp())})"
            " - INTERVAL 7 DAY"
        )
        by_hour = ask(self.engine.url, self.sql(titles["Positions by hour of the day"])).rows
        self.assertEqual(rows, sum(row["positions"] for row in by_hour))
        by_source = ask(self.engine.url, self.sql(titles["Positions by hour and source"])).rows
        self.assertEqual(rows, sum(row["positions"] for row in by_source))
        everything = ask(self.engine.url, self.sql(titles["All positions"])).rows
        self.assertEqual([{"positions": rows + 1000}], everything)
        months = ask(self.engine.url, self.sql(titles["Months compared"])).rows
        self.assertEqual(rows + 1000, sum(row["positions"] for row in months))


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v"])
