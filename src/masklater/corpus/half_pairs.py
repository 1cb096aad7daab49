"""Half of a UTF-16 pair, which JSON may hold (a text cut within an emoji): no character, and no tokenizer takes it."""


def without_half_pairs(text: str) -> str:
    """Return the text with U+FFFD in the place of each half of a pair; the text itself where there is none."""
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "".join("\ufffd" if 0xD800 <= ord(character) < 0xE000 else character for character in text)
    return text
