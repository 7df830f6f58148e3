"""Asks a server in the ways of clickhouse-connect, and fails at the first wrong answer."""

from __future__ import annotations

import datetime
import gzip
import sys
import uuid
from collections.abc import Callable
from decimal import Decimal

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError
from clickhouse_connect.driver.external import ExternalData

COMPRESSIONS: list[bool | str] = [False, True, "lz4", "zstd", "gzip"]
AT = datetime.datetime(2026, 1, 2, 3, 4, 5, 678000)
ROWS = 300_000


def connect(port: int, **more: object) -> Client:
    """A client as the seed's user; it has a session of its own unless told otherwise."""
    defaults = {"host": "127.0.0.1", "port": port, "username": "default", "password": "admin"}
    return clickhouse_connect.get_client(**{**defaults, **more})


def fails(code: int, action: Callable[[], object]) -> None:
    """Sees that an action is refused with this code."""
    try:
        action()
    except DatabaseError as error:
        assert f"code: {code}" in str(error).lower(), error
    else:
        raise AssertionError(f"was not refused with {code}")


def reads(client: Client) -> None:
    """Values of many types, long results and empty ones."""
    assert client.ping()
    assert str(client.server_tz) == "UTC", client.server_tz
    row = client.query(
        "SELECT {n:UInt64} + 1, {s:String}, {a:Array(String)}, "
        "toDateTime64('2026-01-02 03:04:05.678', 3, 'UTC'), CAST(NULL, 'Nullable(Int32)'), "
        "toLowCardinality(toNullable('low')), map('k', 7), tuple(1, 'x'), 1.25::Decimal(9, 2), "
        "toUUID('00000000-0000-0000-0000-000000000007'), toDateTime(0, 'Asia/Tokyo')",
        parameters={"n": 41, "s": "it's", "a": ["x", "y;"]},
        settings={"max_threads": 1},
    ).result_rows[0]
    assert row[:3] == (42, "it's", ["x", "y;"]), row
    assert row[3].replace(tzinfo=None) == AT, row[3]
    assert row[4:9] == (None, "low", {"k": 7}, (1, "x"), Decimal("1.25")), row
    assert row[9] == uuid.UUID(int=7), row[9]
    assert row[10].utcoffset() == datetime.timedelta(hours=9), row[10]

    count = 0
    with client.query_row_block_stream(f"SELECT number, toString(number) FROM numbers({ROWS})") as blocks:
        for block in blocks:
            for number, text in block:
                assert number == count and text == str(count), (number, text)
                count += 1
    assert count == ROWS, count
    assert client.query("SELECT 1 WHERE 0").result_rows == []
    raw = client.raw_query("SELECT number FROM numbers(2)", fmt="CSVWithNames")
    assert raw == b'"number"\n0\n1\n', raw
    with client.raw_stream("SELECT number FROM numbers(100000)", fmt="TSV") as stream:
        assert len(stream.read().splitlines()) == 100_000
    assert "default" in client.command("SHOW DATABASES")
    # A statement that is too long for a URL.
    listed = client.query("SELECT length({a:Array(UInt64)})", parameters={"a": list(range(20_000))})
    assert listed.result_rows == [(20_000,)], listed.result_rows


def writes(client: Client) -> None:
    """Inserts by columns, rows and raw bytes, once under one token."""
    client.command("DROP TABLE IF EXISTS py")
    client.command(
        "CREATE TABLE py (id UInt64, name LowCardinality(String), icao24 LowCardinality(Nullable(String)), "
        "at DateTime64(3, 'UTC'), track Nullable(Float32)) ENGINE = MergeTree ORDER BY id "
        "SETTINGS non_replicated_deduplication_window = 10"
    )
    columns = ["id", "name", "icao24", "at", "track"]
    rows = [[n, "b;\n\nDROP TABLE py", "4ca123" if n % 2 else None, AT, n / 4] for n in range(20_000)]
    for _ in range(2):
        summary = client.insert(
            "py", rows, column_names=columns, settings={"insert_deduplication_token": "t"}
        )
        assert summary.written_rows == 20_000, summary.written_rows
    back = client.query("SELECT count(), sum(id), countIf(icao24 = '4ca123'), max(at) FROM py").result_rows[0]
    assert back[:3] == (20_000, 199_990_000, 10_000), back
    assert back[3].replace(tzinfo=None) == AT, back[3]
    client.insert("py", [[90_001, 90_002], ["a", "b"]], column_names=["id", "name"], column_oriented=True)
    client.raw_insert("py", ["id", "name"], b"90003,c\n90004,d\n", fmt="CSV")
    zipped = gzip.compress(b"90005,e\n90006,f\n")
    client.raw_insert("py", ["id", "name"], zipped, fmt="CSV", compression="gzip")
    assert client.query("SELECT count() FROM py WHERE id > 90000").result_rows == [(6,)]


def failures(client: Client) -> None:
    """Errors come with their codes, also behind rows that are on their way."""
    fails(60, lambda: client.query("SELECT * FROM nowhere"))
    fails(62, lambda: client.command("SELEC 1"))
    fails(62, lambda: client.command("SELECT 1; DROP TABLE py"))
    fails(
        395,
        lambda: client.query("SELECT throwIf(number = 900000), randomString(99) FROM numbers(1000000)"),
    )


def sessions(client: Client, other: Client) -> None:
    """What a client's session keeps, and what comes with one query."""
    client.command("CREATE TEMPORARY TABLE py_session (a UInt8)")
    client.insert("py_session", [[1], [2]], column_names=["a"])
    assert client.query("SELECT sum(a) FROM py_session").result_rows == [(3,)]
    fails(60, lambda: other.query("SELECT * FROM py_session"))
    client.command("SET max_threads = 3")
    assert client.query("SELECT getSetting('max_threads')").result_rows == [(3,)]
    client.command("DROP TEMPORARY TABLE py_session")
    external = ExternalData(file_name="ext", data=b"1\tx\n2\ty\n", fmt="TSV", structure="a UInt8, b String")
    external.add_file(file_name="more", data=b"3\n", fmt="CSV", types=["UInt16"])
    for _ in range(2):
        result = client.query(
            "SELECT sum(a) + {n:UInt8}, max(b), (SELECT max(_1) FROM more) FROM ext",
            external_data=external,
            parameters={"n": 10},
        )
        assert result.result_rows == [(13, "y", 3)], result.result_rows


def log(client: Client) -> None:
    """The id of a query leads to what it cost."""
    query_id = str(uuid.uuid4())
    client.query("SELECT 1", settings={"query_id": query_id})
    client.command("SYSTEM FLUSH LOGS")
    rows = client.query(
        "SELECT type, http_user_agent FROM system.query_log WHERE query_id = {id:String}",
        parameters={"id": query_id},
    ).result_rows
    assert len(rows) == 1 and "clickhouse-connect" in rows[0][1], rows


def main() -> None:
    """Runs everything on the server at the port that was given."""
    port = int(sys.argv[1])
    other = connect(port)
    for compression in COMPRESSIONS:
        client = connect(port, compress=compression)
        reads(client)
        writes(client)
        failures(client)
        sessions(client, other)
        log(client)
        client.close()
    stateless = connect(port, autogenerate_session_id=False, form_encode_query_params=True)
    reads(stateless)
    writes(stateless)
    reader = connect(port, username="reader", password="reader")
    assert reader.query("SELECT count() FROM py").result_rows[0][0] > 0
    fails(164, lambda: reader.command("DROP TABLE py"))
    print("clickhouse-connect: ok")


if __name__ == "__main__":
    main()
