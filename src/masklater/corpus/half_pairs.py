"""Half of a UTF-16 surrogate pair. JSON may hold one (a text cut within an emoji); it is not a character.

No tokenizer takes such a text.
"""


def without_half_pairs(text: str) -> str:
    """Return the text with U+FFFD in place of each half of a pair; the text itself where there is none."""
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "".join("\ufffd" if 0xD800 <= ord(character) < 0xE000 else character for character in text)
    return text
