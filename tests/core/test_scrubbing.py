"""What goes to other people names no place on this machine, nobody who works on it, and no key."""

import getpass
import socket
from pathlib import Path

import pytest

from velm_train.core.scrubbing import Scrubber, make_scrubber

SCRUBBER = Scrubber(
    secrets=("correct horse battery",), user="annabella", host="workhorse", places=("/users/annabella",)
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/users/annabella/data/mvtec", "<path>/mvtec"),
        ("/data sets/with spaces/visa", "<path>/visa"),
        ("~/visa", "<path>/visa"),
        ("root=/scratch/x/visa, seed 3", "root=<path>/visa, seed 3"),
        ("<p>/tmp/x/card</p>", "<p><path>/card</p>"),
        ("file:///srv/x/y.png", "file://<path>/y.png"),
        ("'/a/b' and \"/c/d\"", "'<path>/b' and \"<path>/d\""),
        ("C:\\Users\\annabella\\visa", "<path>/visa"),
        ("made by annabella on workhorse", "made by <user> on <host>"),
        ("annabella-run", "<user>-run"),
        ("https://anna:geheim@example.org/repo.git", "https://example.org/repo.git"),
        ("the key is correct horse battery", "the key is <secret>"),
        ("hf_" + "a1B2" * 9, "<secret>"),
        ("ghp_" + "a1B2" * 9, "<secret>"),
    ],
)
def test_private_things_are_taken_out(text: str, shown: str) -> None:
    assert SCRUBBER.text(text) == shown
    assert SCRUBBER.finds(text)


@pytest.mark.parametrize(
    "text",
    [
        "textures/wood_oak/test/good/0001.png",
        "outputs/runs",
        "https://example.org/a/b",
        "12/24 and/or n/a",
        "</p><br/>",
        "data:image/png;base64,iVBORw0KGgo/AAAA+/BBBB/CC==",
        "annabellas",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "",
    ],
)
def test_everything_else_stays_as_it_is(text: str) -> None:
    assert SCRUBBER.text(text) == text
    assert not SCRUBBER.finds(text)


def test_containers_are_scrubbed_at_any_depth_and_numbers_stay() -> None:
    settings = {"a": [1, "/x/y", {"/k/l": ("annabella", None, True)}], "b": 0.5}
    assert SCRUBBER.value(settings) == {"a": [1, "<path>/y", {"<path>/l": ["<user>", None, True]}], "b": 0.5}


def test_environment_user_and_machine_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "annabella")
    monkeypatch.setattr(socket, "gethostname", lambda: "workhorse.example.org")
    found = make_scrubber(
        {"WANDB_API_KEY": "0123456789", "HF_TOKEN": "short", "SSH_AUTH_SOCK": "/run/x/agent", "A": "b"}
    )
    assert (found.secrets, found.user, found.host) == (("0123456789",), "annabella", "workhorse")
    assert str(Path.cwd()) in found.places


@pytest.mark.parametrize("name", ["root", "Test", "me"])
def test_names_that_other_words_are_are_left_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: name)
    assert make_scrubber({}).user == ""


def test_files_are_searched_for_what_is_ones_own_alone() -> None:
    assert SCRUBBER.finds_own('{"base": "/users/annabella/model"}')
    assert SCRUBBER.finds_own("/mnt/annabella/x")
    assert not SCRUBBER.finds_own('{"annabella": 5, "/etc/x": 6, "~/": 7}')
