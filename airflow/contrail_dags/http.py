"""HTTP in plain Python: an answer, or one error that says what was asked and what came of it."""

import dataclasses
import urllib.error
import urllib.request


class HttpError(Exception):
    """A server cannot be reached, or does not answer."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a server answered."""

    status: int
    text: str
    headers: dict[str, str]


def ask(
    url: str,
    *,
    method: str = "GET",
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    timeout_s: float = 5.0,
) -> Answer:
    """One request. Every status is an answer; only no answer is an error."""
    if not url.startswith(("http://", "https://")):
        raise HttpError(f"{url} is no address of a web server")
    request = urllib.request.Request(url, data=body, headers=headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            return Answer(response.status, response.read().decode(), dict(response.headers))
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.read().decode(errors="replace"), dict(error.headers))
    except urllib.error.URLError as error:
        raise HttpError(f"{method} {url}: {error.reason}") from error
    except TimeoutError as error:
        raise HttpError(f"{method} {url}: no answer within {timeout_s:g} s") from error
    except (OSError, ValueError) as error:
        raise HttpError(f"{method} {url}: {error}") from error
