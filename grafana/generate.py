"""Writes the dashboards: python grafana/generate.py [--check], which fails if they are not as the code says."""

import difflib
import json
import pathlib
import sys

from contrail_grafana import airflow, clickhouse, flights, hosts, kafka, pipeline
from grafana_foundation_sdk.cog.encoder import JSONEncoder

HERE = pathlib.Path(__file__).resolve().parent
FOLDER = HERE / "dashboards"
# Name of the file, which is the dashboard's uid, and what makes it.
DASHBOARDS = {
    module.UID: module.dashboard
    for module in (flights, pipeline, kafka, clickhouse, airflow, hosts)
}


def texts() -> dict[str, str]:
    """The text of each file, by its name."""
    return {
        f"{uid}.json": json.dumps(make(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"
        for uid, make in DASHBOARDS.items()
    }


def main() -> int:
    """Writes the files, or compares them."""
    wanted = texts()
    there = {path.name: path.read_text() for path in FOLDER.glob("*.json")}
    if "--check" not in sys.argv[1:]:
        for name in there.keys() - wanted.keys():
            (FOLDER / name).unlink()
        for name, text in wanted.items():
            (FOLDER / name).write_text(text)
        return 0
    for name in sorted(there.keys() | wanted.keys()):
        is_text, should = there.get(name, ""), wanted.get(name, "")
        if is_text != should:
            lines = difflib.unified_diff(
                is_text.splitlines(),
                should.splitlines(),
                f"grafana/dashboards/{name}",
                "grafana/generate.py",
                n=1,
            )
            print("\n".join(list(lines)[:40]))
            print("the dashboards are not current: run `make dashboards`", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
