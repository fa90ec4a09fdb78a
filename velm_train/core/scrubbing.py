"""Texts and settings in; the same without keys, places on this machine and who works on it, for other people, out."""

import getpass
import re
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

SECRET, USER, HOST, PLACE = "<secret>", "<user>", "<host>", "<path>"

MIN_SECRET_CHARACTERS = 8
"""Shorter values of variables that are named like keys are words such as "true"."""

MIN_NAME_CHARACTERS = 3
ORDINARY_NAMES = frozenset({"root", "user", "admin", "guest", "data", "test", "train", "good", "runner", "localhost"})
"""Names that say nothing about anybody, and that other words of a run may be."""

_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL|AUTH", re.IGNORECASE)
_KNOWN_KEYS = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{30,}|gh[pousr]_[A-Za-z0-9]{36,}|glpat-[\w-]{20,}|sk-[\w-]{32,}|xox[bp]-[\w-]{20,}|AKIA[0-9A-Z]{16})\b"
)
_LOGIN_IN_URL = re.compile(r"(?<=://)[^/@\s]+@")
_PATH = re.compile(
    r"(?:(?<=file://)|(?<![\w.:/\\<+-]))"  # not inside of a word, an address, a relative path or base64
    r"(?:~[\w.-]*(?:/[^\s'\"`,;:()\[\]{}<>|]*)?|/[\w.@+~-]+(?:/[^\s'\"`,;:()\[\]{}<>|]*)+|[A-Za-z]:\\[^\s'\"`,;:]+)"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Scrubber:
    """Takes out of texts what is nobody else's business.

    Attributes:
        secrets: values of keys and passwords.
        user: who works here, or "" if the name says nothing.
        host: the machine, or "".
        places: folders of this machine, absolute: the home folder, that of temporary files, the working directory.
    """

    secrets: tuple[str, ...]
    user: str
    host: str
    places: tuple[str, ...]

    def text(self, text: str) -> str:
        """Returns a text with `<secret>`, `<path>/last part`, `<user>` and `<host>` in the place of such things."""
        for secret in self.secrets:
            text = text.replace(secret, SECRET)
        text = _KNOWN_KEYS.sub(SECRET, _LOGIN_IN_URL.sub("", text))
        text = PLACE + "/" + PurePosixPath(text).name if _is_path(text) else _PATH.sub(_last_part, text)
        for name, shown in ((self.user, USER), (self.host, HOST)):
            if name:
                text = re.sub(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", shown, text)
        return text

    def value(self, value: Any) -> Any:  # noqa: ANN401 - settings hold anything
        """Returns a value of plain containers with every text in it scrubbed, keys included."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.value(key): self.value(entry) for key, entry in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(entry) for entry in value]
        return value

    def finds(self, text: str) -> bool:
        """True if there is anything in a text that `text` would take out."""
        return self.text(text) != text

    def finds_own(self, text: str) -> bool:
        """True if a file names a key, a place of this machine, or the user in a path.

        Narrower than `finds`: a tokenizer's vocabulary holds names of people and pieces of paths.
        """
        return any(one in text for one in (*self.secrets, *self.places, *([f"/{self.user}/"] if self.user else [])))


def make_scrubber(environment: Mapping[str, str]) -> Scrubber:
    """Returns what knows the keys of these environment variables, the user and the machine."""
    secrets = {
        value
        for name, value in environment.items()
        if _SECRET_NAME.search(name) and len(value) >= MIN_SECRET_CHARACTERS and not value.startswith("/")
    }
    return Scrubber(
        secrets=tuple(sorted(secrets, key=len, reverse=True)),
        user=_telling(_user()),
        host=_telling(socket.gethostname().partition(".")[0]),
        places=tuple(str(place) for place in (Path.home(), tempfile.gettempdir(), Path.cwd()) if len(str(place)) > 1),
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return ""


def _telling(name: str) -> str:
    return "" if len(name) < MIN_NAME_CHARACTERS or name.lower() in ORDINARY_NAMES else name


def _is_path(text: str) -> bool:
    """True if a whole value is a path of this machine, spaces and all."""
    return (text.startswith("/") and len(text) > 1 and "\n" not in text) or text.startswith("~/")


def _last_part(found: re.Match[str]) -> str:
    return f"{PLACE}/{PurePosixPath(found.group().replace(chr(92), '/')).name}"
