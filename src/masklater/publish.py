"""Sending an ENCODER to the Hugging Face hub, through huggingface_hub: the listed files, and no others.

No heavy imports. `HF_ENDPOINT`, `HF_TOKEN` and all other settings of huggingface_hub apply.
"""

from dataclasses import dataclass
from pathlib import Path

from masklater.errors import UserError, first_line

SENT = {
    ".safetensors", ".onnx", ".json", ".jsonl", ".model", ".vocab", ".txt", ".md", ".yaml", ".yml", ".csv", ".tsv",
    ".bib", ".cff", ".png", ".svg", ".jpg", ".jpeg",
}  # fmt: skip
"""Endings of files that are sent: weights, tokenizers, texts and pictures. None of them runs code when it is read."""
SENT_WITHOUT_ENDING = {"license", "licence", "copying", "notice", "authors", "citation", "readme"}
"""Usual names of text files; any other name without an ending may be a pickle."""


@dataclass(frozen=True)
class Shipment:
    """The files to send."""

    folder: Path
    files: dict[str, int]  # by name in the repository, with their bytes, in order
    left: tuple[str, ...]  # files that are not sent: hidden files, links, and files not in `SENT`
    license: str | None  # as the model card names it

    @property
    def bytes(self) -> int:
        """The bytes of all files together."""
        return sum(self.files.values())


@dataclass(frozen=True)
class Published:
    """The result of sending."""

    repository: str
    url: str
    commit: str
    created: bool  # the repository is new
    private: bool
    files: int
    others: tuple[str, ...]  # other files that the repository held before


def check_name(repository: str) -> None:
    """Raise UserError where this cannot be the name of a repository of the hub."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError:
        is_name = False
    else:
        is_name = "/" in repository
    if not is_name:
        raise UserError(
            f"{repository!r} is no name on the hub",
            "Write it as OWNER/NAME: letters, digits, -, _ and ., 96 at most, none of the last three at either end.",
        )


def list_files(folder: Path) -> Shipment:
    """List the files of an ENCODER to send: regular files with known endings, so no pickles, which can run code.

    Raises:
        UserError: There is no such folder, or it lacks weights, config or a model card that huggingface_hub can read.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}", "Name one that `masklater export` made.")
    files, left = {}, []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_symlink() or (path.is_file() and (hidden or not _may_go(path))):
            left.append(name)
        elif path.is_file():
            files[name] = path.stat().st_size
    for needed, why in (("config.json", "is no ENCODER"), ("README.md", "has no model card")):
        if needed not in files:
            raise UserError(f"{folder} {why}: it has no {needed}", "Make it with `masklater export`.")
    if not any(name.endswith(".safetensors") for name in files):
        raise UserError(
            f"{folder} is no ENCODER: it has no weights (*.safetensors)", "Make it with `masklater export`."
        )
    return Shipment(folder, files, tuple(left), _license_of(folder / "README.md"))


def _may_go(path: Path) -> bool:
    return path.suffix.lower() in SENT if path.suffix else path.name.lower() in SENT_WITHOUT_ENDING


def _license_of(card: Path) -> str | None:
    """Read a model card as the hub does; return the licence it names, or None.

    Raises:
        UserError: The card cannot be read.
    """
    from huggingface_hub import ModelCard

    try:
        found = ModelCard.load(card).data.to_dict().get("license")
    except Exception as error:  # huggingface_hub raises whatever its YAML parser raises
        raise UserError(
            f"{card} is no model card: {first_line(error)}", "Mend what stands between its two lines of ---."
        ) from None
    return None if found is None else str(found)


def send(shipment: Shipment, repository: str, private: bool = False) -> Published:
    """Send the listed files as one commit, into a repository that is created if there is none.

    Args:
        shipment: The files, from `list_files`.
        repository: OWNER/NAME.
        private: Whether only the owner may see it.

    Raises:
        UserError: The name is invalid, the hub refuses or is not to be contacted, or `private` was asked for and the
            repository exists and is public.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, constants
    from huggingface_hub.errors import RepositoryNotFoundError

    check_name(repository)
    if constants.HF_HUB_OFFLINE:
        raise UserError(
            f"nothing can be sent to {repository}: HF_HUB_OFFLINE is set", "Unset it where there is a network."
        )
    api, created, commit = HfApi(library_name="masklater"), False, None
    try:
        try:
            is_private = bool(api.model_info(repository).private)
        except RepositoryNotFoundError:
            api.create_repo(repository, private=private)
            created, is_private = True, private
        if private and not is_private:
            raise UserError(
                f"{repository} exists on the hub and is public, and --private was asked for",
                "Make it private in its settings there, or name another one; nothing was sent.",
            )
        operations = [
            CommitOperationAdd(path_in_repo=name, path_or_fileobj=shipment.folder / name) for name in shipment.files
        ]
        # upload_folder would read the folder again, and send files added since it was listed.
        commit = api.create_commit(repository, operations, commit_message="Upload an encoder with masklater")
        there = set(api.list_repo_files(repository, revision=commit.oid))
    except UserError:
        raise
    except Exception as error:  # huggingface_hub raises whatever its HTTP library, the disk and the hub raise
        if commit is not None:
            raise UserError(
                f"{repository} took commit {commit.oid}, and the hub did not say what arrived: {first_line(error)}",
                f"See {api.endpoint}/{repository} for yourself, or push again.",
            ) from None
        left = "; the repository was made for it, and stands there empty" if created else ""
        remedy = "Push again when that is mended, or remove the repository in its settings there. " if created else ""
        raise UserError(
            f"the hub did not take {repository}: {first_line(error)}{left}",
            f"{remedy}Log in with `hf auth login`, with a token that may write, and see that the owner is you or one "
            "of yours.",
        ) from None
    if missing := [name for name in shipment.files if name not in there]:
        raise UserError(
            f"{repository} lacks {', '.join(missing)} after the upload", "Does its .gitignore leave them out?"
        )
    url = f"{api.endpoint}/{repository}"
    others = tuple(sorted(there - shipment.files.keys() - {".gitattributes"}))
    return Published(repository, url, commit.oid, created, is_private, len(shipment.files), others)
