"""Is the producer up, and if not: start it again, tell of it once, and tell when it is over."""

import dataclasses

from contrail_dags import incidents, mail, producer, programs, settings


class Unhealthy(Exception):
    """The producer does not do its work."""


def describe(seen: producer.Seen) -> str:
    """What was seen, as a mail says it."""
    shown = [
        ("flight-producer", seen.finding),
        ("last offset", "not known" if seen.checkpoint is None else str(seen.checkpoint - 1)),
        ("lag", "not known" if seen.lag_events is None else f"{seen.lag_events} events"),
    ]
    return "\n".join(f"{name + ':':<17}{value}" for name, value in shown)


def _in_short(seen: producer.Seen) -> str:
    last = "not known" if seen.checkpoint is None else str(seen.checkpoint - 1)
    lag = "not known" if seen.lag_events is None else f"{seen.lag_events} events"
    return f"last offset {last}, lag {lag}, at {incidents.now()}"


@dataclasses.dataclass
class Watch:
    """The producer, its incident, and who is told."""

    configuration: settings.Settings
    ledger: incidents.Ledger

    def check(self) -> producer.Seen:
        """What is seen; raises if it is not well."""
        seen = producer.look(self.configuration.producer)
        if not seen.healthy:
            self.remember(seen)
            raise Unhealthy(f"flight-producer {seen.finding}")
        self.ledger.keep_well(_in_short(seen))
        return seen

    def remember(self, seen: producer.Seen) -> None:
        """Opens an incident unless one is open."""
        if self.ledger.open() is None:
            finding = f"{describe(seen)}\n{'last seen well:':<17}{self.ledger.last_well()}"
            self.ledger.save(incidents.Incident(incidents.now(), finding))

    def restart(self) -> str:
        """Starts the unit again, and says so. Raises if it cannot, or did so too often."""
        incident = self._incident()
        limit = self.configuration.producer.restarts
        if incident.restarts >= limit:
            raise Unhealthy(
                f"it was started again {limit} times in the incident of {incident.began} and is not well:"
                " it is left alone now, look at it yourself"
            )
        incident.restarts += 1
        self.ledger.save(incident)
        programs.insist(self.configuration.producer.restart, timeout_s=90)
        return f"started again ({' '.join(self.configuration.producer.restart)})"

    def tell(self, done: str) -> bool:
        """Mails what was seen and done, once an incident. True if it did."""
        incident = self._incident()
        if incident.told:
            return False
        log = programs.last_lines(
            self.configuration.producer.log, self.configuration.mail.log_lines
        )
        text = (
            f"Since {incident.began}:\n\n{incident.finding}\n{'done:':<17}{done}\n\n"
            f"The end of its log:\n\n{log}\n"
        )
        mail.send(self.configuration.mail, "flight-producer is not well", text)
        incident.told = True
        self.ledger.save(incident)
        return True

    def confirm(self) -> producer.Seen:
        """Waits until it is well again; mails if it does not become so, once an incident, and raises."""
        incident = self._incident()
        seen = producer.wait_until_healthy(self.configuration.producer)
        if seen.healthy:
            return seen
        if not incident.escalated:
            log = programs.last_lines(
                self.configuration.producer.log, self.configuration.mail.log_lines
            )
            text = (
                f"Since {incident.began}, restarts: {incident.restarts}.\n\n{describe(seen)}\n\n"
                f"It does not come back by itself. The end of its log:\n\n{log}\n"
            )
            mail.send(self.configuration.mail, "flight-producer does not recover", text)
            incident.escalated = True
            self.ledger.save(incident)
        raise Unhealthy(f"flight-producer does not recover: {seen.finding}")

    def end(self, seen: producer.Seen) -> bool:
        """Mails that the incident is over, if there is one, and closes it. True if it did."""
        incident = self.ledger.open()
        if incident is None:
            return False
        # One that was over before anybody could be told of it is told of in one mail.
        began = f"It began at {incident.began}:\n\n{incident.finding}\n"
        text = (
            f"Since {incident.began} it was not well; at {incidents.now()} it is.\n\n{describe(seen)}\n"
            f"{'restarts:':<17}{incident.restarts}\n\n{began}"
        )
        mail.send(self.configuration.mail, "flight-producer is well again", text)
        self.ledger.close()
        return True

    def _incident(self) -> incidents.Incident:
        found = self.ledger.open()
        if found is None:
            found = incidents.Incident(incidents.now(), "flight-producer: not well")
            self.ledger.save(found)
        return found


def watch() -> Watch:
    """The producer of the settings."""
    return Watch(settings.load(), incidents.Ledger(incidents.airflow(), "producer_health"))
