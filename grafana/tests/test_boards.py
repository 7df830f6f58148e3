"""The dashboards themselves: current, whole, without overlaps, linked."""

import pathlib
import re
import subprocess
import sys
import unittest

import boards

PYTHON = boards.ROOT / "target/tools/grafana/bin/python"


class Boards(unittest.TestCase):
    """Each file of dashboards/."""

    def panels(self) -> list[tuple[str, boards.Json]]:
        return [
            (f"{uid}: {panel['title']}", panel)
            for uid, dashboard in boards.dashboards().items()
            for panel in dashboard["panels"]
        ]

    def test_the_files_are_as_the_code_says(self) -> None:
        command = [str(PYTHON), str(boards.ROOT / "grafana/generate.py"), "--check"]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        self.assertEqual(0, run.returncode, run.stdout + run.stderr)

    def test_there_are_all(self) -> None:
        uids = {dashboard["uid"]: uid for uid, dashboard in boards.dashboards().items()}
        self.assertEqual({uid: uid for uid in uids}, uids)
        self.assertLessEqual({"contrail-flights"}, uids.keys())
        for uid in uids:
            self.assertRegex(uid, "^[a-z-]{8,40}$")

    def test_every_panel_says_what_it_is(self) -> None:
        for name, panel in self.panels():
            if panel["type"] == "row":
                continue
            with self.subTest(name):
                self.assertRegex(panel["description"], r"^[A-Z].{20,}\.$")
                self.assertTrue(panel["fieldConfig"]["defaults"]["unit"])
                self.assertTrue(panel["targets"])
                self.assertIn(panel["datasource"]["uid"], ("clickhouse", "prometheus"))
                for target in panel["targets"]:
                    self.assertEqual(panel["datasource"], target["datasource"])

    def test_nothing_lies_over_another(self) -> None:
        for uid, dashboard in boards.dashboards().items():
            taken: dict[tuple[int, int], str] = {}
            for panel in dashboard["panels"]:
                at, title = panel["gridPos"], panel["title"]
                self.assertGreater(at["w"] * at["h"], 0, title)
                self.assertLessEqual(at["x"] + at["w"], 24, title)
                for x in range(at["x"], at["x"] + at["w"]):
                    for y in range(at["y"], at["y"] + at["h"]):
                        self.assertNotIn((x, y), taken, f"{uid}: {title} and {taken.get((x, y))}")
                        taken[x, y] = title
            # No hole is left where a panel is missing.
            height = 1 + max(y for _, y in taken)
            for y in range(height):
                line = sum((x, y) in taken for x in range(24))
                self.assertIn(line, range(1, 25), f"{uid}: nothing in line {y}")

    def test_panels_are_told_apart(self) -> None:
        for uid, dashboard in boards.dashboards().items():
            for key in ("id", "title"):
                values = [panel[key] for panel in dashboard["panels"]]
                self.assertEqual(len(values), len(set(values)), f"{uid}: {key}")

    def test_dashboards_lead_to_each_other(self) -> None:
        known = boards.dashboards()
        for uid, dashboard in known.items():
            self.assertEqual(["contrail"], dashboard["tags"])
            (link,) = dashboard["links"]
            self.assertEqual(("dashboards", ["contrail"]), (link["type"], link["tags"]), uid)
            self.assertTrue(link["keepTime"] and link["includeVars"], uid)
            for path in re.findall(
                r"\"url\": \"/d/([a-z-]+)", (boards.FOLDER / f"{uid}.json").read_text()
            ):
                self.assertIn(path, known, uid)

    def test_variables_that_are_used_are_there(self) -> None:
        own = {"__interval_s", "__rate_interval", "__range"}
        for uid, dashboard in boards.dashboards().items():
            names = {variable["name"] for variable in dashboard["templating"]["list"]}
            for panel in dashboard["panels"]:
                text = (
                    panel["title"]
                    + " "
                    + " ".join(
                        target.get("expr") or target["rawSql"]
                        for target in panel.get("targets", ())
                    )
                )
                used = set(re.findall(r"\$\{?([a-z]\w*)", text))
                self.assertLessEqual(used, names, f"{uid}: {panel['title']}")
                self.assertFalse(used & own)


if __name__ == "__main__":
    assert pathlib.Path(PYTHON).is_file(), f"{PYTHON} is missing: make observability-parts"
    unittest.main(argv=[sys.argv[0], "-v"])
