"""Running programs: the one that starts a unit again, its log, `contrail`."""

import collections.abc
import dataclasses
import subprocess


class ProgramError(Exception):
    """A program cannot be run, fails, or takes too long."""


@dataclasses.dataclass(frozen=True)
class Done:
    """What a program came to."""

    code: int
    output: str
    errors: str


def run(command: collections.abc.Sequence[str], *, timeout_s: float) -> Done:
    """Runs a program to its end."""
    words = " ".join(command)
    try:
        done = subprocess.run(
            list(command), capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except OSError as error:
        raise ProgramError(f"{words}: cannot be run: {error}") from error
    except subprocess.TimeoutExpired as error:
        raise ProgramError(f"{words}: still running after {timeout_s:g} s") from error
    return Done(done.returncode, done.stdout, done.stderr)


def insist(command: collections.abc.Sequence[str], *, timeout_s: float) -> str:
    """The output of a program that has to end well."""
    done = run(command, timeout_s=timeout_s)
    if done.code != 0:
        said = (done.errors or done.output).strip()[-600:]
        raise ProgramError(f"{' '.join(command)}: exit code {done.code}: {said}")
    return done.output


def last_lines(command: collections.abc.Sequence[str], count: int) -> str:
    """The last lines of a log, or why there are none; never an error."""
    try:
        lines = insist(command, timeout_s=10).strip().splitlines()
    except ProgramError as error:
        return f"(no log: {error})"
    return "\n".join(lines[-count:]) or "(the log is empty)"
