"""The language of a text, told by a small model on this machine (`py3langid`)."""

from typing import Any

from masklater.errors import UserError
from masklater.extras import import_extra

CHARACTERS_LOOKED_AT = 10_000
"""The number of characters, from the beginning of a document, by which its language is told."""


class Languages:
    """The languages that the user asked for, by ISO 639-1.

    Raises:
        UserError: The library is not installed, or does not know one of the languages.
    """

    def __init__(self, wanted: tuple[str, ...]) -> None:
        module: Any = import_extra("py3langid.langid", "languages", "--language")
        self.model = module.LanguageIdentifier.from_model_file(module.MODEL_FILE)
        self.wanted = wanted
        known = sorted(self.model.nb_classes)
        if unknown := sorted(set(wanted) - set(known)):
            raise UserError(f"--language {', '.join(unknown)}: not known to the model", f"Known: {' '.join(known)}.")

    def include(self, text: str) -> bool:
        """Tell whether a text is in one of the languages."""
        return self.model.classify(text[:CHARACTERS_LOOKED_AT])[0] in self.wanted
