"""`masklater push` sends what it has listed, and nothing else: to a stand-in for the hub, never over the network."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from masklater.cli import main
from masklater.errors import UserError
from masklater.publish import list_files, send
from tests.stand_in_hub import COMMIT, StandIn, stand_in_hub

CARD = "---\nlicense: mit\n---\n# A card\n"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    with stand_in_hub(monkeypatch) as standing:
        yield standing


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """A folder that looks like an ENCODER, with what does not belong into a repository."""
    folder = tmp_path / "encoder"
    (folder / "encoder").mkdir(parents=True)
    (folder / ".cache").mkdir()
    for name, content in (
        ("README.md", CARD), ("config.json", "{}"), ("model.safetensors", "weights" * 1000),
        ("odd [name]*.json", "{}"), ("encoder/config.json", "{ }"),
        (".netrc", "password"), (".cache/token", "secret"), ("pytorch_model.bin", "pickle"), ("optimizer.pickle", "pickle"),
        ("head.joblib", "pickle"), ("x.PT", "pickle"), ("state.PKL", "pickle"), ("modeling.py", "code"), ("a.npy", "any"),
        ("state", "pickle"), ("weights.safetensors.pickle", "pickle"),
    ):  # fmt: skip
        (folder / name).write_text(content)
    (folder / "link.txt").symlink_to("/etc/hostname")
    return folder


SENT = {
    "README.md": len(CARD), "config.json": 2, "encoder/config.json": 3, "model.safetensors": 7000, "odd [name]*.json": 2,
}  # fmt: skip


def push(monkeypatch: pytest.MonkeyPatch, *words: str) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["masklater", "push", *words])
    with pytest.raises(SystemExit) as leave:
        main()
    return leave.value.code


def test_what_is_listed_is_what_arrives(
    hub: StandIn, encoder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert push(monkeypatch, str(encoder), "someone/tiny", "--private", "--json") == 0
    said = capsys.readouterr()
    assert hub.repositories == {"someone/tiny": {"private": True, "files": SENT}}
    assert list(hub.uploaded.values()) == [b"weights" * 1000]
    assert hub.tokens == {"Bearer hf_made_up", None}  # an upload's address needs none
    for name, size in SENT.items():
        assert any(line.split("  ")[0] == name and line.endswith(f"{size:,}") for line in said.err.splitlines()), name
    assert (
        "stays here: .cache/token, .netrc, a.npy, head.joblib, link.txt, modeling.py, optimizer.pickle, "
        "pytorch_model.bin, state, state.PKL, weights.safetensors.pickle, x.PT\n"
    ) in said.err
    result = json.loads(said.out)
    assert (result["created"], result["private"], result["files"], result["commit"]) == (True, True, 5, COMMIT)


def test_what_came_into_the_folder_after_it_was_listed_stays_here(hub: StandIn, encoder: Path) -> None:
    shipment = list_files(encoder)
    (encoder / "notes.txt").write_text("to myself")
    sent = send(shipment, "someone/tiny")
    assert set(hub.repositories["someone/tiny"]["files"]) == set(SENT)
    assert not sent.private


def test_a_second_push_adds_a_commit(hub: StandIn, encoder: Path) -> None:
    assert send(list_files(encoder), "someone/tiny").created
    (encoder / "LICENSE").write_text("MIT")
    again = send(list_files(encoder), "someone/tiny")
    assert not again.created
    assert again.others == ()
    assert hub.repositories["someone/tiny"]["files"] == {**SENT, "LICENSE": 3}
    assert hub.calls.count("POST /api/repos/create") == 1


def test_what_a_repository_holds_from_before_is_said(
    hub: StandIn, encoder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """transformers takes the mask token from there, which transformers 4 wrote and 5 does not."""
    hub.repositories["someone/tiny"] = {"private": False, "files": {".gitattributes": 1, "special_tokens_map.json": 9}}
    assert push(monkeypatch, str(encoder), "someone/tiny", "--json") == 0
    said = capsys.readouterr()
    assert "read with this encoder: special_tokens_map.json; remove" in said.err
    assert json.loads(said.out)["others"] == ["special_tokens_map.json"]


def test_a_public_repository_is_not_taken_for_a_private_one(hub: StandIn, encoder: Path) -> None:
    hub.repositories["someone/tiny"] = {"private": False, "files": {}}
    with pytest.raises(UserError, match=r"someone/tiny exists on the hub and is public, and --private was asked for"):
        send(list_files(encoder), "someone/tiny", private=True)
    assert not any(call.startswith(("POST", "PUT")) for call in hub.calls)


def test_a_hub_that_refuses(hub: StandIn, encoder: Path) -> None:
    hub.refuses = 403
    with pytest.raises(UserError, match=r"(?s)the hub did not take someone/tiny: .*403.*hf auth login"):
        send(list_files(encoder), "someone/tiny")
    hub.refuses = None
    (encoder / "README.md").write_text("---\nlicense: my-own\n---\n")
    with pytest.raises(UserError, match=r"the hub did not take someone/tiny: Invalid metadata in README\.md"):
        send(list_files(encoder), "someone/tiny")
    assert not hub.uploaded


def test_offline_is_no_matter_of_logging_in(hub: StandIn, encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set") as raised:
        send(list_files(encoder), "someone/tiny")
    assert "Unset it" in str(raised.value)
    assert "hf auth login" not in str(raised.value)
    assert not hub.calls


def test_a_repository_that_was_made_for_nothing_is_said(hub: StandIn, encoder: Path) -> None:
    hub.refuses = 403
    with pytest.raises(UserError) as before:
        send(list_files(encoder), "someone/tiny")
    assert "empty" not in str(before.value)
    assert not hub.repositories
    hub.refuses = None
    card = (encoder / "README.md").read_text()
    (encoder / "README.md").write_text("---\nlicense: my-own\n---\n")
    for made in (True, False):
        with pytest.raises(UserError) as after:
            send(list_files(encoder), "someone/tiny")
        assert ("; the repository was made for it, and stands there empty\n" in str(after.value)) == made
        assert ("remove the repository in its settings" in str(after.value)) == made
    assert hub.repositories == {"someone/tiny": {"private": False, "files": {}}}
    (encoder / "README.md").write_text(card)
    assert not send(list_files(encoder), "someone/tiny").created


def test_a_commit_whose_files_the_hub_does_not_list_is_named(
    hub: StandIn, encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError("the network is down")

    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", fails)
    with pytest.raises(
        UserError, match=f"someone/tiny took commit {COMMIT}, and the hub did not say what arrived: the"
    ):
        send(list_files(encoder), "someone/tiny")


def test_a_file_that_does_not_arrive_is_named(hub: StandIn, encoder: Path) -> None:
    hub.loses = "config.json"
    with pytest.raises(UserError, match=r"someone/tiny lacks config\.json after the upload"):
        send(list_files(encoder), "someone/tiny")


@pytest.mark.parametrize("name", ["tiny", "a/b/c", "/tiny", "someone/", "some one/tiny", "https://hub/a/b", "a/b.git"])
def test_names_that_are_none(name: str, hub: StandIn, encoder: Path) -> None:
    with pytest.raises(UserError, match="is no name on the hub"):
        send(list_files(encoder), name)
    assert not hub.calls


def test_a_name_is_looked_at_before_files_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert push(monkeypatch, str(tmp_path / "nowhere"), "tiny") == 2
    assert "'tiny' is no name on the hub" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("config.json", "is no ENCODER: it has no config.json"),
        ("README.md", "has no model card: it has no README.md"),
        ("model.safetensors", r"it has no weights \(\*\.safetensors\)"),
    ],
)
def test_folders_that_are_no_encoder(gone: str, said: str, encoder: Path) -> None:
    (encoder / gone).unlink()
    with pytest.raises(UserError, match=said):
        list_files(encoder)


def test_a_card_that_cannot_be_read(encoder: Path, tmp_path: Path) -> None:
    (encoder / "README.md").write_text("---\nlicense: [mit\n---\n")
    with pytest.raises(UserError, match=r"README\.md is no model card"):
        list_files(encoder)
    with pytest.raises(UserError, match="there is no folder"):
        list_files(tmp_path / "nowhere")
