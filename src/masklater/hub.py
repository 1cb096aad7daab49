"""Models by name: a folder on this machine, or a repository of the Hugging Face hub, in huggingface_hub's own cache.

`HF_HUB_OFFLINE`, `HF_HUB_CACHE`, tokens and all other settings of huggingface_hub apply. No heavy imports;
huggingface_hub itself is imported only when a name is not a folder.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from masklater.errors import DamagedDataError, UserError, first_line

TOKENIZER_FILES = (
    "tokenizer*.json", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model",
)  # fmt: skip
MODEL_FILES = ("config.json", "*.safetensors", "*.safetensors.index.json", *TOKENIZER_FILES)
"""The files to fetch, from the top folder of the repository. Weights must be safetensors."""

PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt")

REPOSITORY = re.compile(r"(?P<name>\w[\w.-]*(/\w[\w.-]*)?)(@(?P<revision>[^@\s]+))?")
COMMIT = re.compile(r"[0-9a-f]{40}")

POINTER = b"version https://git-lfs.github.com/spec/"
"""The first bytes of a file that Git LFS leaves in place of a large one it has not fetched."""
POINTER_BYTES = 1024
"""The largest size of a pointer, by its specification."""
FETCH_LARGE = "Fetch it: `git lfs pull` in its clone, or `hf download` of the repository."


@dataclass(frozen=True)
class Source:
    """The folder of a model's files on this machine, and where they come from."""

    name: str  # as the user gave it
    folder: Path
    commit: str | None  # commit of the repository; None: a folder of this machine

    def __str__(self) -> str:
        """Return the name, with the commit of a repository."""
        return self.name if self.commit is None else f"{self.name}, commit {self.commit} on the hub"


def find(name: str, files: Sequence[str], meant_by: str, commit: str | None = None) -> Source:
    """Find a folder, or fetch a repository of the hub that is not in the cache yet.

    Args:
        name: A folder, which takes precedence; or a repository such as `answerdotai/ModernBERT-base`, followed by
            `@REVISION` (a branch, a tag or a commit) where that is not main.
        files: Patterns of the files to fetch.
        meant_by: The setting that holds the name, for messages.
        commit: The commit to use, whatever revision the name gives.

    Raises:
        UserError: No folder or repository of that name can be reached, or a file is only a pointer of Git LFS.
    """
    folder = Path(name)
    if folder.is_dir():
        _refuse_pointers(folder, files, meant_by)
        return Source(name, folder, None)
    parts = REPOSITORY.fullmatch(name)
    if parts is None or folder.exists():
        raise UserError(
            f"{meant_by} is {name}, and there is no such folder",
            "Name a folder, or a model of the hub as in answerdotai/ModernBERT-base or NAME@REVISION.",
        )
    from huggingface_hub import constants, snapshot_download

    revision = commit or parts["revision"]
    try:
        snapshot = snapshot_download(
            parts["name"],
            revision=revision,
            allow_patterns=[*files],
            ignore_patterns=["*/*"],
            local_files_only=constants.HF_HUB_OFFLINE,  # some versions contact the hub even for a commit
        )
    except Exception as error:  # huggingface_hub raises whatever its HTTP library, the disk and the hub raise
        what = f"revision {revision} of such a model" if revision else "such a model"
        if constants.HF_HUB_OFFLINE:
            reason = f"the cache of the hub, {constants.HF_HUB_CACHE}, does not hold {what} (HF_HUB_OFFLINE is set)"
        else:
            reason = f"the hub does not give {what}: {first_line(error)}"
        raise UserError(
            f"{meant_by} is {name}; there is no such folder, and {reason}",
            f"Check the spelling, or run `{_fetch(parts['name'], revision)}` where there is a network.",
        ) from None
    found = Path(snapshot)
    return Source(name, found, found.name if COMMIT.fullmatch(found.name) else None)


def refuse_pointer(shown: str, beginning: bytes) -> None:
    """Raise DamagedDataError where a file begins as a pointer of Git LFS, left in place of the content."""
    if beginning.startswith(POINTER):
        raise DamagedDataError(f"{shown} is a pointer of Git LFS in place of the file", FETCH_LARGE)


def _refuse_pointers(folder: Path, files: Sequence[str], meant_by: str) -> None:
    """Raise UserError where a folder was cloned without Git LFS, and has pointers in place of large files."""
    for path in sorted(path for pattern in files for path in folder.glob(pattern) if path.is_file()):
        beginning = b""
        with suppress(OSError):  # whoever reads the file reports what is wrong
            beginning = path.read_bytes() if path.stat().st_size <= POINTER_BYTES else beginning
        if beginning.startswith(POINTER):
            raise UserError(f"{meant_by} is {folder}, where {path.name} is a pointer of Git LFS, no file", FETCH_LARGE)


def _fetch(repository: str, revision: str | None) -> str:
    return f"hf download {repository}{f' --revision {revision}' if revision else ''}"


def refuse_pickles(source: Source) -> None:
    """Raise UserError where a model's weights are only there as pickles, which can run code when they are read."""
    if any(source.folder.glob("*.safetensors")):
        return
    pickles = sorted(path.name for pattern in PICKLES for path in source.folder.glob(pattern))
    if not pickles and source.commit is None:
        return
    from huggingface_hub import constants

    if not pickles and constants.HF_HUB_OFFLINE:  # for example, `prepare` may have fetched only the tokenizer
        name, _, revision = source.name.partition("@")
        raise UserError(
            f"{source.name} does not load as a saved model: of its weights there are none as safetensors in the cache "
            f"of the hub, {constants.HF_HUB_CACHE} (HF_HUB_OFFLINE is set)",
            f"Run `{_fetch(name, revision)}` where there is a network.",
        )
    which = f"only pickles ({pickles[0]})" if pickles else "none as safetensors"
    raise UserError(
        f"{source.name} does not load as a saved model: of its weights there are {which}, and pickles, which can "
        "run code, are not read",
        "Convert them where you trust them: from_pretrained(NAME).save_pretrained(FOLDER) of the class that "
        "config.json names under architectures, and of AutoTokenizer. Or name a revision that has safetensors, as in "
        "NAME@refs/pr/1.",
    )
