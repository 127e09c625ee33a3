"""Licence names: read what packages and corpora state, and say whether a list of allowed ones covers it.

Names are SPDX identifiers and expressions (https://spdx.org/licenses), the words of PyPI's classifiers, or free text.
Two names are one licence when nothing is left of their difference but case, punctuation and words such as "license".
"""

import re
from collections.abc import Iterable

# Licences without copyleft, as SPDX names them; BSD is what a classifier says that does not tell which of the three
PERMISSIVE = (
    *("0BSD", "Apache-2.0", "BSD", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "HPND", "ISC", "MIT"),
    *("MIT-0", "MIT-CMU", "PSF-2.0", "Python-2.0", "Unlicense", "WTFPL", "Zlib", "ZPL-2.1"),
)
# What stands for no licence that anybody could rely on; allowed only where the list names it
UNKNOWN = "unknown"
_NO_NAME = {"", "unknown", "none", "noassertion", "other", "osiapproved", "see", "na"}
_NOISE = re.compile(r"\b(?:the|licen[cs]es?d?|software|version|terms|clauses?)\b|[^a-z0-9.+ ]|\bv(?=\d)", re.IGNORECASE)
_ALIASES = {
    "apache": "apache2.0",
    "apache2": "apache2.0",
    "asl2.0": "apache2.0",
    "al2.0": "apache2.0",
    "expat": "mit",
    "expatmit": "mit",
    "2bsd": "bsd2",
    "simplifiedbsd": "bsd2",
    "bsdsimplified": "bsd2",
    "freebsd": "bsd2",
    "3bsd": "bsd3",
    "newbsd": "bsd3",
    "bsdnew": "bsd3",
    "modifiedbsd": "bsd3",
    "bsdmodified": "bsd3",
    "zeroclausebsd": "0bsd",
    "python": "psf2.0",
    "pythonfoundation": "psf2.0",
    "pythonfoundation2": "psf2.0",
    "psf": "psf2.0",
    "psf2": "psf2.0",
    "boost1.0": "bsl1.0",
    "boost": "bsl1.0",
    "cc01.0universal": "cc01.0",
    "cc0": "cc01.0",
    "historicalpermissionnoticeanddisclaimer": "hpnd",
    "zliblibpng": "zlib",
    "zope": "zpl2.1",
    "zopepublic": "zpl2.1",
    "mozillapublic2.0": "mpl2.0",
    "mpl2": "mpl2.0",
    "un": "unlicense",  # "Unlicense" and "The Unlicense" without their "license"
}
_BRACKETED_SHORT_NAME = re.compile(r"\s*\((?!.*\b(?:and|or|with)\b)[^()]*\)", re.IGNORECASE)
_OR_LATER = re.compile(r"[ ,-]*\b(?:or|and)[ -](?:later|newer|any later)(?: versions?)?\b", re.IGNORECASE)
_TOKENS = re.compile(r"\(|\)|\b(?:and|or|with)\b|[,;/&|]|(?:(?!\b(?:and|or|with)\b)[^(),;/&|])+", re.IGNORECASE)


def licence_key(name: str) -> str:
    """Return what identifies a licence, whoever wrote its name; "unknown" for what names none."""
    words = name.strip().lower()
    if words in ("unlicense", "the unlicense"):
        return "unlicense"
    words = _OR_LATER.sub("+", words)
    key = _NOISE.sub("", words).replace(" ", "").strip(".")
    key = _ALIASES.get(key, key)
    return UNKNOWN if key in _NO_NAME else key


def licence_allowed(stated: str, allowed: Iterable[str]) -> bool:
    """Return whether a stated licence is covered: one side of an "or", all sides of an "and" or of a list.

    An exception ("with ...") only permits more, so it is not asked for.
    """
    keys = frozenset(map(licence_key, allowed))
    # Names that hold a comma, a slash or an "and" of their own, before they are taken apart
    plain = re.sub(r", *(?=version\b)", " ", _OR_LATER.sub("+", stated), flags=re.IGNORECASE)
    for whole in (plain, _BRACKETED_SHORT_NAME.sub("", plain)):
        if licence_key(whole) in keys:
            return True
    tokens = [token.strip() for token in _TOKENS.findall(_BRACKETED_SHORT_NAME.sub("", plain)) if token.strip()]
    return bool(tokens) and _Expression(tokens, keys).holds()


class _Expression:
    """Evaluate a licence expression; "or" binds weaker than "and", as in SPDX. What cannot be read is not allowed."""

    def __init__(self, tokens: list[str], keys: frozenset[str]):
        self._tokens, self._keys, self._next = tokens, keys, 0

    def holds(self) -> bool:
        found = self._any()
        return found and self._next == len(self._tokens)

    def _peek(self) -> str:
        return self._tokens[self._next].lower() if self._next < len(self._tokens) else ""

    def _take(self, *words: str) -> bool:
        if self._peek() not in words:
            return False
        self._next += 1
        return True

    def _any(self) -> bool:
        found = self._all()
        while self._take("or", "|"):
            found = self._all() or found
        return found

    def _all(self) -> bool:
        found = self._one()
        while self._take("and", ",", ";", "/", "&"):
            found = self._one() and found
        return found

    def _one(self) -> bool:
        if self._take("("):
            found = self._any()
            return self._take(")") and found
        name, self._next = self._peek(), self._next + 1
        if self._take("with"):
            self._next += 1
        return bool(name) and licence_key(name) in self._keys
