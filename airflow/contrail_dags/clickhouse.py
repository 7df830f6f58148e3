"""ClickHouse over HTTP."""

import json
import typing
import urllib.parse

from contrail_dags import http, settings


class ClickhouseError(Exception):
    """A statement failed, or the server cannot be reached."""


Value = str | int | float


class Client:
    """A server, and the user that asks it."""

    def __init__(self, configuration: settings.Clickhouse) -> None:
        self.configuration = configuration

    def execute(self, statement: str, **parameters: Value) -> None:
        """Runs a statement that answers nothing; `{name:Type}` in it takes a parameter."""
        self._send(statement, parameters, {})

    def rows(self, question: str, **parameters: Value) -> list[dict[str, typing.Any]]:
        """The rows that answer a question, numbers as numbers."""
        options = {"default_format": "JSON", "output_format_json_quote_64bit_integers": "0"}
        text = self._send(question, parameters, options)
        try:
            found: list[dict[str, typing.Any]] = json.loads(text)["data"]
        except (ValueError, KeyError, TypeError) as error:
            raise ClickhouseError(
                f"ClickHouse at {self.configuration.url} answers what is no JSON: {text[:300]}"
            ) from error
        return found

    def row(self, question: str, **parameters: Value) -> dict[str, typing.Any]:
        """The one row that answers a question."""
        found = self.rows(question, **parameters)
        if len(found) != 1:
            raise ClickhouseError(f"{len(found)} rows answer, not one: {question[:300]}")
        return found[0]

    def number(self, question: str, **parameters: Value) -> int:
        """The one number that answers a question."""
        return int(next(iter(self.row(question, **parameters).values())))

    def insert(self, table: str, rows: list[dict[str, typing.Any]]) -> None:
        """Inserts rows as one block."""
        body = "\n".join(json.dumps(row) for row in rows)
        self._send(f"INSERT INTO {table} FORMAT JSONEachRow", {}, {}, body)

    def _send(
        self,
        statement: str,
        parameters: dict[str, Value],
        options: dict[str, str],
        body: str | None = None,
    ) -> str:
        configuration = self.configuration
        query = {
            # An answer is whole or an error.
            "wait_end_of_query": "1",
            **options,
            **{f"param_{name}": str(value) for name, value in parameters.items()},
        }
        if body is not None:
            query["query"] = statement
        url = f"{configuration.url.rstrip('/')}/?{urllib.parse.urlencode(query)}"
        headers = {
            "X-ClickHouse-User": configuration.user,
            "X-ClickHouse-Key": configuration.password,
        }
        try:
            answer = http.ask(
                url,
                method="POST",
                body=(statement if body is None else body).encode(),
                headers=headers,
                timeout_s=configuration.timeout_s,
            )
        except http.HttpError as error:
            raise ClickhouseError(
                f"ClickHouse at {configuration.url} does not answer: {error}"
            ) from error
        if answer.status != 200:
            raise ClickhouseError(
                f"ClickHouse at {configuration.url} refuses user {configuration.user}:"
                f" {answer.text.strip()[:600]} (in: {' '.join(statement.split())[:200]})"
            )
        return answer.text


def client() -> Client:
    """The server of the settings."""
    return Client(settings.load().clickhouse)
