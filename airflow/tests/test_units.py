"""The duties one by one, without Airflow, Kafka or ClickHouse."""

import dataclasses
import json
import os
import pathlib
import tempfile
import typing
import unittest
import unittest.mock

import fakes
import world
from contrail_dags import gaps, health, incidents, mail, producer, programs, quality, settings

# Where Airflow keeps what it makes of itself when it is imported.
os.environ.setdefault("AIRFLOW_HOME", str(world.ROOT / "target/airflow-units"))


class Variables:
    """What Airflow's variables are, in memory."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def get(self, key: str, default: typing.Any = None) -> typing.Any:
        """The text of a name."""
        return self.texts.get(key, default)

    def set(self, key: str, value: typing.Any) -> None:
        """Keeps a text."""
        self.texts[key] = value

    def delete(self, key: str) -> None:
        """Forgets a text."""
        self.texts.pop(key, None)


class Settings(unittest.TestCase):
    """The file of settings."""

    def read(self, text: str) -> settings.Settings:
        """Reads a file with this text."""
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "dags.toml")
            path.write_text(text)
            pathlib.Path(folder, "secret").write_text("s3cret\n")
            return settings.read(path)

    def test_a_file_reaches_every_part(self) -> None:
        found = self.read(
            '[archive]\nafter_days = 3\n[producer]\nadvance_s = 1\nrestart = ["true"]\n'
        )
        self.assertEqual(3, found.archive.after_days)
        self.assertEqual(1.0, found.producer.advance_s)
        self.assertEqual(("true",), found.producer.restart)
        self.assertEqual("default", found.clickhouse.user)

    def test_what_is_wrong_is_named(self) -> None:
        for text, words in (
            ("[archiv]\n", "archiv"),
            ("archive = 3\n", "archive is no section"),
            ("[archive]\nafter = 3\n", "archive.after is not known"),
            ("[archive]\nafter_days = '3'\n", "archive.after_days must be of type int"),
            ("[archive]\nafter_days = true\n", "archive.after_days must be of type int"),
            ("[archive]\nafter_days = -1\n", "must not be negative"),
            ("[producer]\nrestart = []\n", "producer.restart must not be empty"),
            ("[producer]\nrestart = 'true'\n", "producer.restart must be a list"),
            ("[clickhouse]\npassword_file = '/nowhere'\n", "clickhouse.password_file"),
            ("[archive", "dags.toml"),
        ):
            with self.subTest(text), self.assertRaisesRegex(settings.SettingsError, words):
                self.read(text)

    def test_a_secret_comes_from_its_file(self) -> None:
        with tempfile.NamedTemporaryFile("w") as secret:
            secret.write("s3cret\n")
            secret.flush()
            found = self.read(f"[clickhouse]\npassword_file = '{secret.name}'\n")
        self.assertEqual("s3cret", found.clickhouse.password)


class Health(unittest.TestCase):
    """The producer, its incidents and its mails."""

    def setUp(self) -> None:
        self.fake = fakes.Producer()
        self.mails: list[str] = []
        sent = unittest.mock.patch.object(
            mail, "send", lambda _, subject, text: self.mails.append(f"{subject}\n{text}")
        )
        sent.start()
        self.addCleanup(sent.stop)
        admin = fakes.admin(self.fake)
        self.url = admin.__enter__()
        self.addCleanup(admin.__exit__, None, None, None)
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.variables = Variables()

    def watch(self, **changes: typing.Any) -> health.Watch:
        """With a restart that leaves a mark."""
        values: dict[str, typing.Any] = {
            "url": self.url,
            "restart": ("touch", str(self.folder / "restarted")),
            "log": ("echo", "the last words"),
            "advance_s": 1.0,
            "recover_s": 1.0,
            **changes,
        }
        configuration = settings.Settings(producer=settings.Producer(**values))
        return health.Watch(configuration, incidents.Ledger(self.variables, "producer_health"))

    def test_one_that_is_well_is_left_alone(self) -> None:
        seen = self.watch().check()
        self.assertIn("advances", seen.finding)
        self.assertFalse(self.watch().end(seen))
        self.assertEqual([], self.mails)

    def test_what_is_wrong_is_found(self) -> None:
        self.fake.ready = False
        with self.assertRaisesRegex(health.Unhealthy, "kafka: no broker answers"):
            self.watch().check()
        self.fake.ready, self.fake.advances = True, False
        with self.assertRaisesRegex(health.Unhealthy, r"its checkpoint stands at 1\d+"):
            self.watch().check()
        with self.assertRaisesRegex(health.Unhealthy, "does not answer"):
            self.watch(url="http://127.0.0.1:9").check()

    def test_an_incident_is_told_of_once_and_when_it_ends(self) -> None:
        self.fake.ready = False
        for _ in range(2):
            watch = self.watch()
            self.assertRaises(health.Unhealthy, watch.check)
            done = watch.restart()
            watch.tell(done)
            self.assertRaises(health.Unhealthy, watch.confirm)
        self.assertTrue((self.folder / "restarted").exists())
        self.assertEqual(2, len(self.mails))
        for words in (
            "is not well",
            "last offset:",
            "lag:",
            "7 events",
            "started again",
            "last words",
        ):
            self.assertIn(words, self.mails[0])
        self.assertIn("does not recover", self.mails[1])
        self.fake.ready = True
        watch = self.watch()
        self.assertTrue(watch.end(watch.check()))
        self.assertFalse(watch.end(watch.check()))
        self.assertEqual(3, len(self.mails))
        self.assertIn("is well again", self.mails[2])

    def test_a_mail_says_what_was_seen_while_all_was_well(self) -> None:
        self.watch().check()
        gone = self.watch(url="http://127.0.0.1:9")
        self.assertRaises(health.Unhealthy, gone.check)
        gone.tell("nothing")
        self.assertIn(f"last offset {self.fake.checkpoint - 1}, lag 7 events, at 2", self.mails[0])

    def test_a_mail_that_was_refused_is_sent_by_the_next_run(self) -> None:
        self.fake.ready = False
        watch = self.watch()
        self.assertRaises(health.Unhealthy, watch.check)
        refused = unittest.mock.patch.object(mail, "send", side_effect=mail.MailError("refused"))
        with refused, self.assertRaises(mail.MailError):
            watch.tell("started again")
        self.assertTrue(watch.tell("started again"))

    def test_it_is_not_restarted_for_ever(self) -> None:
        self.fake.ready = False
        watch = self.watch(restarts=2)
        watch.restart()
        watch.restart()
        with self.assertRaisesRegex(health.Unhealthy, "started again 2 times"):
            watch.restart()

    def test_a_restart_that_fails_says_why(self) -> None:
        watch = self.watch(restart=("sh", "-c", "echo access denied >&2; exit 4"))
        with self.assertRaisesRegex(programs.ProgramError, "exit code 4: access denied"):
            watch.restart()
        watch = self.watch(restart=("no-such-program",))
        with self.assertRaisesRegex(programs.ProgramError, "no-such-program: cannot be run"):
            watch.restart()

    def test_a_ledger_that_somebody_edited_is_no_incident(self) -> None:
        self.variables.texts["contrail_incident_producer_health"] = "{oops"
        self.assertIsNone(self.watch().ledger.open())


class Gaps(unittest.TestCase):
    """What `contrail gaps` prints, and what the producer answers."""

    TEXT = (
        '{"sources": [{"source": "s", "begin": 0, "checked_below": 99}], "gaps": [{"source": "s",'
        ' "first": 5, "last": 9, "count": 5, "from": null, "to": null, "where": "kafka"}]}'
    )

    def test_what_is_lost_is_told_by_words_of_the_producer(self) -> None:
        replay = pathlib.Path(__file__).parents[2] / "services/producer/src/replay"
        code = "".join(path.read_text() for path in replay.glob("*.rs"))
        for words in (gaps.GONE, '"begins_at"'):
            self.assertIn(words, code)

    def test_gaps_are_read(self) -> None:
        self.assertEqual([gaps.Gap("s", 5, 9, 5, "", "", "kafka")], gaps.read(self.TEXT))
        for text in ("", "{}", '{"gaps": [{"source": "s"}]}', "[]"):
            with self.subTest(text), self.assertRaisesRegex(gaps.GapsError, "cannot be read"):
                gaps.read(text)

    def test_exit_codes_are_told_apart(self) -> None:
        for code, text in ((0, '{"gaps": []}'), (1, self.TEXT)):
            command = ("sh", "-c", f"echo '{text}'; exit {code}")
            self.assertEqual(code, len(gaps.find(settings.Gaps(command=command))))
        failing = settings.Gaps(command=("sh", "-c", "echo kafka is away >&2; exit 2"))
        with self.assertRaisesRegex(gaps.GapsError, "exit code 2: kafka is away"):
            gaps.find(failing)
        slow = settings.Gaps(command=("sh", "-c", "sleep 5"), search_s=0.1)
        with self.assertRaisesRegex(programs.ProgramError, "still running"):
            gaps.find(slow)

    def test_a_replay_is_asked_for_and_followed(self) -> None:
        fake = fakes.Producer()
        with fakes.admin(fake) as url:
            replays = producer.Replays(settings.Producer(url=url, token="secret"))
            self.assertEqual("running", replays.begin("s", [(5, 9), (20, 20)]).state)
            self.assertEqual([{"source": "s", "ranges": [[5, 9], [20, 20]]}], fake.replays)
            self.assertEqual("done", replays.at("r1").state)
            wrong = producer.Replays(settings.Producer(url=url, token="wrong"))
            with self.assertRaisesRegex(producer.ProducerError, "producer.token"):
                wrong.begin("s", [(5, 9)])

    def test_what_the_source_has_no_more_is_lost_and_the_rest_is_filled(self) -> None:
        fake = fakes.Producer()
        fake.begins_at = 8
        found = [gaps.Gap("s", 1, 2, 2, "", "", "kafka"), gaps.Gap("s", 5, 9, 5, "", "", "kafka")]
        ended, client = self.repair(fake, found)
        self.assertEqual(
            [(1, 2, 2, "lost"), (5, 7, 3, "lost"), (8, 9, 2, "filled")],
            [(r.gap.first, r.gap.last, r.gap.count, r.state) for r in ended],
        )
        self.assertIn("(1, 2), (5, 7)", " ".join(client.statements))

    def test_a_source_that_the_producer_reads_no_more_is_lost(self) -> None:
        fake = fakes.Producer()
        fake.source = "another"
        ended, _ = self.repair(fake, [gaps.Gap("s", 1, 2, 2, "", "", "kafka")])
        self.assertEqual([("lost", True)], [(r.state, "reads another" in r.detail) for r in ended])

    def test_a_replay_that_fails_is_no_loss(self) -> None:
        fake = fakes.Producer()
        fake.replay_error = "Kafka did not take 3 records"
        ended, _ = self.repair(fake, [gaps.Gap("s", 1, 2, 2, "", "", "kafka")])
        self.assertEqual(
            [("failed", "Kafka did not take 3 records")], [(r.state, r.detail) for r in ended]
        )

    def test_what_does_not_arrive_in_time_fails(self) -> None:
        found = [
            gaps.Gap("s", 1, 2, 2, "", "", "kafka"),
            gaps.Gap("s", 5, 9, 5, "", "", "kafka"),
        ]
        # Of one range a part is still missing; what lies beside the other is no matter of it.
        missing = [
            gaps.Gap("s", 3, 4, 2, "", "", ""),
            gaps.Gap("s", 9, 30, 22, "", "", ""),
            gaps.Gap("t", 1, 2, 2, "", "", ""),
        ]
        ended, _ = self.repair(fakes.Producer(), found, missing)
        self.assertEqual([(1, "filled"), (5, "failed")], [(r.gap.first, r.state) for r in ended])

    def repair(
        self, fake: fakes.Producer, found: list[gaps.Gap], missing: list[gaps.Gap] | None = None
    ) -> tuple[list[gaps.Repair], fakes.Clickhouse]:
        """What becomes of gaps, of which `missing` is missing still after all was sent."""
        client = fakes.Clickhouse()
        with fakes.admin(fake) as url:
            configuration = settings.Settings(
                producer=settings.Producer(url=url, token="secret"),
                gaps=settings.Gaps(replay_s=1.0 if missing else 30.0),
            )
            repairer = gaps.Repairer(client, configuration, lambda *, quick=False: missing or [])
            return repairer.repair(found), client

    def test_a_mail_names_some_and_counts_all(self) -> None:
        many = [
            gaps.Repair(gaps.Gap("s", first, first, 1, "", "", "kafka"), "filled", "")
            for first in range(0, 200, 2)
        ]
        mails: list[str] = []
        with unittest.mock.patch.object(mail, "send", lambda _, *texts: mails.extend(texts)):
            self.assertTrue(gaps.tell(settings.Mail(), many))
            self.assertFalse(gaps.tell(settings.Mail(), []))
        self.assertEqual("gaps: 100 filled", mails[0])
        self.assertIn("s 98..98 (1 events, missing in kafka): filled\n... and 50 ranges", mails[1])


class Mail(unittest.TestCase):
    """A mail that is not taken is named, with what the server said."""

    def refused(self, refusals: dict[str, str], login: str = "") -> str:
        """What is said of a mail to a server that refuses."""
        with fakes.smtp(refusals) as port:
            extra = {"disable_ssl": True, "disable_tls": True, "retry_limit": 1}
            connection = {"conn_type": "smtp", "host": "127.0.0.1", "port": port, "extra": extra}
            if login:
                connection |= {"login": login, "password": "wrong"}
            named = {"AIRFLOW_CONN_CONTRAIL_MAIL": json.dumps(connection)}
            with (
                unittest.mock.patch.dict(os.environ, named),
                self.assertRaises(mail.MailError) as raised,
            ):
                mail.send(settings.Mail(), "gaps: 1 filled", "text")
        return str(raised.exception)

    def test_what_a_server_says_is_told(self) -> None:
        said = self.refused({"RCPT": "550 no such user here"})
        for words in ("gaps: 1 filled", "operator@localhost", "contrail_mail", "no such user here"):
            self.assertIn(words, said)

    def test_a_wrong_password_is_told(self) -> None:
        said = self.refused({"AUTH": "535 bad credentials"}, login="contrail")
        self.assertIn("bad credentials", said)


class Quality(unittest.TestCase):
    """What is past its threshold is told of."""

    def test_only_what_is_bad_is_mailed(self) -> None:
        good = quality.Result("volume", 100.0, 50.0, True, "percent")
        bad = dataclasses.replace(good, check="stale_flights", value=80.0, passed=False)
        mails: list[str] = []
        with unittest.mock.patch.object(
            mail, "send", lambda _, *texts: mails.append(" ".join(texts))
        ):
            self.assertFalse(quality.tell(settings.Settings(), "2026-03-01 07:00:00", [good]))
            self.assertTrue(quality.tell(settings.Settings(), "2026-03-01 07:00:00", [good, bad]))
        self.assertEqual(1, len(mails))
        self.assertIn("stale_flights", mails[0])
        self.assertNotIn("volume", mails[0])


if __name__ == "__main__":
    unittest.main()
