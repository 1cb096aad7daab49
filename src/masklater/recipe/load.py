"""A recipe: everything that decides what a run computes, in one YAML file, validated whole.

`load` reads a file (or a shipped recipe by its name), applies dotted overrides and validates, reporting every fault
at once with its path, the value found, the rule and the remedy. A loaded Recipe is frozen; `dump` writes it resolved.
"""

import difflib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, ValidationError
from pydantic_core import ErrorDetails

from masklater.errors import MISSING, Fault, RecipeError, UserError
from masklater.recipe.contradictions import find_contradictions
from masklater.recipe.duration import Duration
from masklater.recipe.effect import without_effect
from masklater.recipe.masking import MaskingSettings
from masklater.recipe.phases import SHARES_MEANING, PhaseSettings, Shares, without_empty
from masklater.recipe.section import MOST, ON_RESUME, Section, is_list
from masklater.recipe.sections import (
    BatchSettings,
    DecoderSettings,
    ModelSettings,
    OptimizerSettings,
    ScheduleSettings,
)
from masklater.recipe.tree import apply_overrides, read_yaml
from masklater.recipe.watching import CheckpointSettings, EvaluationSettings, HealthSettings, Tracking


class Recipe(Section):
    """The sections of a recipe. Only `duration` has no default."""

    model: ModelSettings = ModelSettings()
    decoder: DecoderSettings = DecoderSettings()
    masking: MaskingSettings = MaskingSettings()
    data: Shares = Field(default={}, description=f"{SHARES_MEANING}. {{}}: --data is SHARDS itself")
    batch: BatchSettings = BatchSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: Annotated[ScheduleSettings, ON_RESUME] = ScheduleSettings()
    duration: Annotated[Duration, ON_RESUME]
    phases: Annotated[tuple[PhaseSettings, ...], AfterValidator(without_empty)] = Field(
        (), description="parts of the run, one after another"
    )
    max_epochs: Annotated[float | None, ON_RESUME] = Field(
        None, gt=0, description="how often a row may be read; a run that would read a source more often is refused"
    )
    evaluation: Annotated[EvaluationSettings, ON_RESUME] = EvaluationSettings()
    checkpoint: Annotated[CheckpointSettings, ON_RESUME] = CheckpointSettings()
    health: Annotated[HealthSettings, ON_RESUME] = HealthSettings()
    tracking: Annotated[Tracking, ON_RESUME] = Field(
        ("auto",),
        description="what shows the run beside metrics.jsonl: a list of tensorboard, trackio, wandb; []: nothing; "
        "auto: TensorBoard where it is installed",
    )
    precision: Annotated[Literal["auto", "bfloat16", "float16", "float32"], ON_RESUME] = Field(
        "auto",
        description="auto: bfloat16 autocast where the hardware computes in it; on a GPU that does not, float16 with a "
        "scaled loss; on a CPU that does not, float32",
    )
    compile: Annotated[Literal["auto"] | bool, ON_RESUME] = Field(
        "auto",
        description="torch.compile the layers, and on a GPU the LM head's loss; auto: on a GPU that can. Dropout draws "
        "other numbers compiled",
    )
    deterministic: Annotated[bool, ON_RESUME] = Field(
        False,
        description="on a GPU, add up in the same order every time, so that a resumed run equals a straight one to the "
        "bit, as it does on a CPU in any case; steps take longer",
    )
    activation_checkpointing: Annotated[bool | Annotated[int, Field(gt=0, le=MOST)], ON_RESUME] = Field(
        False,
        description="keep only the input of layers for the backward pass, which computes them a second time: less "
        "memory, more time, the same loss and gradients. true: of all layers; n: of every n-th",
    )
    distributed: Annotated[Literal["ddp", "fsdp"], ON_RESUME] = Field(
        "ddp",
        description="under torchrun, ddp: the whole model in every process; fsdp: cut up over them (FSDP2), for models "
        "that do not fit one GPU",
    )
    seed: int = Field(0, ge=0, lt=2**63, description="decides initial weights, row order, masks and dropout")

    @property
    def checkpoint_every(self) -> int:
        """The number n where of every n-th layer only the input is kept for the backward pass; 0: of none."""
        return int(self.activation_checkpointing)


def load(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read, override and validate a recipe.

    Args:
        source: A YAML file, or the name of a shipped recipe such as `3ml-base-50`.
        overrides: `dotted.key=value`, the value read as YAML.

    Raises:
        UserError: The file is missing or not YAML, or an override is malformed.
        RecipeError: The recipe has faults; all of them are listed.
    """
    tree = read_yaml(_locate(source))
    apply_overrides(tree, overrides)
    return validate(tree, str(source))


def load_record(path: Path) -> Recipe:
    """Read the recipe that a RUN has recorded; what an earlier version did not record is as it was then.

    Raises:
        UserError: The file is missing or not YAML.
        RecipeError: It is not what pre-training wrote.
    """
    tree = read_yaml(path)
    masking = tree.get("masking")
    schedule = masking.get("schedule") if isinstance(masking, dict) else None
    if isinstance(schedule, dict) and schedule.get("name") == "linear":
        schedule.setdefault("levels", None)  # the rate changed with every step
    return validate(tree, str(path))


def validate(tree: Mapping[str, Any], source: str = "given") -> Recipe:
    """Build a Recipe from a plain tree, or raise RecipeError with every fault it has."""
    faults: list[Fault] = []
    sections: dict[str, Any] = {}
    # Section by section, so that a fault in one does not hide the contradictions between the others.
    for name in Recipe.model_fields:
        section, found = _validate_section(name, tree)
        if found:
            faults += found
        else:
            sections[name] = section
    faults += [_unknown_key((name,), tree) for name in tree if name not in Recipe.model_fields]
    faults += find_contradictions(sections)
    if faults:
        raise RecipeError(source, faults)
    return Recipe(**sections)


def validate_decoder(tree: Mapping[str, Any]) -> DecoderSettings:
    """Build the decoder section from a plain tree outside a recipe.

    Raises:
        UserError: It has faults; all of them are listed.
    """
    section, faults = _validate_section("decoder", {"decoder": tree})
    if faults:
        raise UserError("\n  ".join(map(str, faults)))
    return section


def _validate_section(name: str, tree: Mapping[str, Any]) -> tuple[Any, list[Fault]]:
    """Build one section of a recipe, the others as they are by default, or find every fault it has."""
    partial = {name: tree[name]} if name in tree else {}
    if name != "duration":
        partial["duration"] = {"steps": 1}
    try:
        return getattr(Recipe.model_validate(partial), name), []
    except ValidationError as error:
        every = error.errors()
        meant = [details for details in every if _of_the_branch_meant(details, every, tree)]
        return None, [_fault(details, tree) for details in meant or every]


def dump(recipe: Recipe) -> str:
    """The resolved recipe as YAML: every setting that acts, durations with the unit they use."""
    return yaml.safe_dump(plain(recipe), sort_keys=False, default_flow_style=None)


def plain(recipe: Recipe) -> dict[str, Any]:
    """The resolved recipe as a tree of plain values, by the names a recipe file uses; what does nothing is left out."""
    tree = recipe.model_dump(mode="json", by_alias=True)
    for key in without_effect(recipe):
        *sections, name = key.split(".")
        section = tree
        for part in sections:
            section = section[part]
        del section[name]
    return tree


def settings_of(recipe: Recipe) -> dict[str, Any]:
    """Every setting of the resolved recipe that acts, by its dotted key."""
    return _leaves(plain(recipe))


def _leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            found |= _leaves(value, f"{prefix}{key}.")
        elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
            found |= _leaves({str(place): each for place, each in enumerate(value)}, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def shipped() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    folder = Path(str(resources.files("masklater") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def describe() -> list[tuple[str, str, str]]:
    """Every setting as (dotted key, default, meaning), for `--help` and the docs."""
    rows: list[tuple[str, str, str]] = []

    def walk(prefix: str, section: type[Section], defaults: Mapping[str, Any]) -> None:
        for name, field in section.keys().items():
            inner = section.section_at(name)
            if inner is None or (inner is not field.annotation and not is_list(field)):
                default = yaml.safe_dump(defaults.get(name), default_flow_style=True).split("\n")[0]
                rows.append((f"{prefix}{name}", default, field.description or ""))
            elif is_list(field):
                rows.append((f"{prefix}{name}", "[]", field.description or ""))
                walk(f"{prefix}{name}.0.", inner, {})
            else:
                walk(f"{prefix}{name}.", inner, defaults.get(name) or {})

    defaults = Recipe(duration=Duration(steps=1)).model_dump(mode="json", by_alias=True)
    walk("", Recipe, defaults | {"duration": None})
    return rows


def _locate(source: str | Path) -> Path:
    path = Path(source)
    if path.is_file():
        return path
    known = shipped()
    if str(source) in known:
        return known[str(source)]
    if path.is_dir():
        raise UserError(f"the recipe {source} is a folder, not a YAML file", "Give the file itself.")
    raise UserError(
        f"there is no recipe {source}: neither a file nor a shipped recipe",
        f"{_did_you_mean(str(source), known)} Shipped recipes: {', '.join(known)}.".strip(),
    )


PLAIN_BRANCHES = ("literal['auto']", "bool", "int", "constrained-int")
"""What pydantic calls the branches of a union of plain values (`micro_rows: auto | int`), the most telling one last."""


RULES = {"tuple_type": "it must be a list, as [...]", "model_type": "it must be a section, as {...}"}
"""What pydantic says in the words of Python, in those of YAML; by its names."""


def _branch(path: Sequence[int | str]) -> int | None:
    """Find where pydantic's path names a branch of a union (`warmup: float | Duration`) rather than a key; or None."""
    if len(path) > 1 and path[-1] in PLAIN_BRANCHES:
        return len(path) - 1
    return 2 if tuple(path[:2]) == ("schedule", "warmup") and len(path) > 2 else None


def _of_the_branch_meant(details: ErrorDetails, every: Sequence[ErrorDetails], tree: Mapping[str, Any]) -> bool:
    """Of a union's errors, whether this one is about the branch the user wrote, or of plain values the last branch."""
    path = details["loc"]
    branch = _branch(path)
    if branch is None:
        return True
    if path[branch] in PLAIN_BRANCHES:
        of_union = [other["loc"][-1] for other in every if other["loc"][:-1] == path[:-1]]
        return path[branch] == max(of_union, key=lambda name: PLAIN_BRANCHES.index(str(name)))
    return isinstance(tree["schedule"]["warmup"], Mapping) == (path[branch] != "float")


def _fault(details: ErrorDetails, tree: Mapping[str, Any]) -> Fault:
    """One pydantic error as a sentence."""
    branch = _branch(details["loc"])
    path = tuple(str(key) for number, key in enumerate(details["loc"]) if number != branch)
    kind, context = details["type"], details.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(path, tree)
    where = ".".join(path)
    if kind == "missing" and path[-1].isdecimal():
        return Fault(".".join(path[:-1]), details["input"], "it has too few values", f"It means: {_meaning(path)}.")
    if kind == "missing":
        example = "{steps: 2000}" if where == "duration" else "..."
        return Fault(where, MISSING, "it has no default", f"Add it, for example {where}: {example}.")
    meaning = _meaning(path)
    if kind == "value_error":
        remedy = f"It means: {meaning}." if meaning else "Change one of them, or leave it out."
        return Fault(where, details["input"], str(context["error"]), remedy)
    rule = RULES.get(kind, details["msg"][0].lower() + details["msg"][1:])
    return Fault(
        where, details["input"], rule, f"It means: {meaning}." if meaning else "See `masklater pretrain --settings`."
    )


def _unknown_key(path: tuple[str, ...], tree: Mapping[str, Any]) -> Fault:
    section = _section(path[:-1])
    known = list(section.keys()) if section else []
    node: Any = tree
    for key in path:
        if isinstance(node, list):
            node = node[int(key)] if key.isdigit() and int(key) < len(node) else None
        else:
            node = node.get(key) if isinstance(node, Mapping) else None
    place = f"the section {'.'.join(path[:-1])} has" if len(path) > 1 else "a recipe has"
    remedy = f"Known here: {', '.join(known)}.{_did_you_mean(path[-1], known)}"
    return Fault(".".join(path) or "''", node, f"{place} no such key", remedy)


def _section(path: tuple[str, ...]) -> type[Section] | None:
    section: type[Section] = Recipe
    in_list = False
    for key in path:
        if (path[0], key) == ("schedule", "warmup"):
            return Duration
        if in_list:
            in_list = False
            continue
        field, inner = section.keys().get(key), section.section_at(key)
        if field is None or inner is None:
            return None
        section, in_list = inner, is_list(field)
    return section


def _meaning(path: tuple[str, ...]) -> str | None:
    """Return what a setting means, of a value in a list what the list does."""
    while path and path[-1].isdecimal():
        path = path[:-1]
    section = _section(path[:-1])
    field = section.keys().get(path[-1]) if section else None
    return field.description if field else None


def _did_you_mean(word: str, known: Sequence[str] | Mapping[str, object]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {close[0]}?" if close else ""
