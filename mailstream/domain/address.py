"""Is this an address that mail may go to, and one that is what it looks like."""

import unicodedata

from email_validator import EmailNotValidError, validate_email

from mailstream.domain.errors import BadAddress
from mailstream.domain.recipient import is_plain

#: Scripts that are written together in one word by ordinary people: Unicode TR39 "highly restrictive".
_TOGETHER = (
    {"LATIN", "CJK", "HIRAGANA", "KATAKANA"},
    {"LATIN", "CJK", "BOPOMOFO"},
    {"LATIN", "CJK", "HANGUL"},
)


def check(address: str) -> None:
    """Raise BadAddress when no mail can go to the address, or when its domain mixes scripts to look like another.

    The text names the mistake and never repeats the address. Asks no DNS.
    """
    if address.isascii() and is_plain(address):
        return
    try:
        validate_email(address, check_deliverability=False, test_environment=True)
    except EmailNotValidError:
        raise BadAddress("this is not an address that mail can go to") from None
    for label in address.rpartition("@")[2].split("."):
        if label.startswith("xn--"):
            continue
        scripts = {_script(c) for c in label if c.isalpha()}
        if len(scripts) > 1 and not any(scripts <= allowed for allowed in _TOGETHER):
            raise BadAddress("the domain of the address mixes scripts, as look-alikes of other domains do")


def _script(character: str) -> str:
    """The script of a letter by its Unicode name: the first word, which is the script for all letters in use."""
    return unicodedata.name(character, "UNKNOWN").partition(" ")[0]
