"""Every DAG file is imported by the real Airflow, quickly and without a complaint."""

import os
import pathlib
import subprocess
import sys
import unittest

import world

DAGS = sorted((world.ROOT / "airflow/dags").glob("*.py"))
EXPECTED = {"producer_health", "repair_gaps", "monthly_archive", "data_quality"}
# Airflow itself is imported first: the time that counts is the file's own.
IMPORT = """
import sys, time
import airflow.sdk
began = time.perf_counter()
import importlib.util
spec = importlib.util.spec_from_file_location("dag_file", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
took = time.perf_counter() - began
print(took)
"""


class Import(unittest.TestCase):
    """The files alone, without a database of Airflow's."""

    def test_there_are_all(self) -> None:
        self.assertEqual(EXPECTED, {path.stem for path in DAGS})

    def test_each_imports_within_two_seconds_and_warns_of_nothing(self) -> None:
        for path in DAGS:
            with self.subTest(path.name):
                done = import_of(path)
                self.assertEqual(0, done.returncode, done.stderr)
                took = float(done.stdout.strip().splitlines()[-1])
                self.assertLess(took, 2.0)
                self.assertNotIn("Deprecat", done.stderr)


def import_of(path: pathlib.Path) -> subprocess.CompletedProcess[str]:
    """Imports a DAG file in a process of its own."""
    environment = os.environ | {
        "PYTHONPATH": str(world.ROOT / "airflow"),
        "PYTHONWARNINGS": "default::DeprecationWarning:dag_file",
        "AIRFLOW_HOME": str(world.ROOT / "target/airflow-import"),
    }
    return subprocess.run(
        [sys.executable, "-c", IMPORT, str(path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


if __name__ == "__main__":
    unittest.main()
