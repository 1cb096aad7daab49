"""`push`: an ENCODER to the Hugging Face hub."""

from pathlib import Path
from typing import Annotated

import typer

from masklater.cli.app import AsJson, print_result


def push(
    encoder: Annotated[Path, typer.Argument(metavar="ENCODER", help="A folder that `masklater export` made.")],
    repository: Annotated[
        str, typer.Argument(metavar="OWNER/NAME", help="A repository of the hub; made if there is none.")
    ],
    private: Annotated[bool, typer.Option("--private", help="Only its owner sees it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Publish an encoder, with its model card, on the Hugging Face hub.

    Every file that is sent is listed first, with its size. Read the model card, README.md, before: it names inputs and
    folders as they were given. `hf auth login` logs in.

    \b
    Examples:
      masklater push encoder OWNER/NAME --private
      masklater push encoder OWNER/NAME
    """
    from masklater.console import aligned, say
    from masklater.publish import check_name, list_files, send

    check_name(repository)
    shipment = list_files(encoder)
    rows = [[name, f"{size:,}"] for name, size in shipment.files.items()]
    total = f"{len(rows)} files, {shipment.bytes:,} bytes"
    say(f"{aligned([*rows, ['together', f'{shipment.bytes:,}']], numbers_from=1)}\nto {repository}: {total}")
    if shipment.left:
        say(f"stays here: {', '.join(shipment.left)}")
    if shipment.license is None:
        say("its model card names no licence: nobody may use it unless you say so (`export --license`)")
    sent = send(shipment, repository, private)
    if sent.others:  # AutoTokenizer would take its mask from an older special_tokens_map.json there
        say(
            f"{repository} holds files from before beside them, which may be read with this encoder: "
            f"{', '.join(sent.others)}; remove there what is not its own"
        )
    who = "private" if sent.private else "public"
    made = "a new repository" if sent.created else "a repository that was there"
    print_result(sent, as_json, lambda: f"{sent.url}, {who}, {made}: {sent.files} files at commit {sent.commit}")
