"""Static rules for docstrings: is there prose that says what the function does, in English, beyond its signature?

The measure is the prose that is left when doctests, code blocks, and sections for parameters and results are taken
away. Everything is decided by the text alone, so a rule can be wrong about a sentence; each has a reason of its own.
"""

import re

# Words that are common in one language and rare in the others. English has those of docstrings, too.
_STOP_WORDS = {
    "English": "the of to and is for with from by this that be are an or if not it its into given return returns when "
    "used use as on at all which between whether each than number name value values list file set get using",
    "French": "le les des une est dans pour avec sur cette qui sont du ou où aux fonction retourne renvoie liste "
    "fichier valeur nombre chaque depuis",
    "German": "der die das und ist für mit von ein eine eines einen wird werden auf aus dem den nicht gibt zurück "
    "oder wenn alle datei",
    "Italian": "il lo gli della dello delle una per con che sono nel nella questa funzione restituisce lista valore "
    "numero ogni dal dalla",
    "Portuguese": "os um uma para com não que são função retorna lista valor número cada pelo pela dos das ou este "
    "esta arquivo",
    "Spanish": "el los las una para con que es del esta este función devuelve retorna lista valor número cada por "
    "desde archivo y",
}
_LANGUAGES = {language: frozenset(words.split()) for language, words in _STOP_WORDS.items()}
_WORD = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")
_URL = re.compile(r"<?\b(?:https?|ftp)://\S+|\bwww\.\S+", re.IGNORECASE)
# Of the first line, as a whole or from its beginning
_BOILERPLATE = re.compile(
    r"""\W*(?:
    (?:this\ (?:function|file|code)\ (?:is|was)\ )?(?:auto[- ]?generated|automatically\ generated|generated\ by)\b.*
    |_summary_.*|\[summary\].*|_description_.*|lorem\ ipsum\b.*|do\ not\ edit\b.*
    |(?:the\ )?(?:doc(?:string|umentation)?|description)\ (?:goes\ )?here
    |(?:missing|no|empty|add|insert|write)\ (?:a\ )?(?:function\ )?(?:docstring|documentation|description)\b.*
    |docstring\ (?:for|of)\b.*|see\ (?:the\ )?(?:base|parent|super)\s?class.*|(?:a\ )?placeholder(?:\ function)?
    |undocumented|internal(?:\ use)?(?:\ only)?|(?:a\ )?helper(?:\ (?:function|method))?|wip
    |deprecated|not\ implemented(?:\ yet)?
    )\W*""",
    re.IGNORECASE | re.VERBOSE,
)
# What opens a section: reStructuredText and Epydoc fields, Google's and NumPy's headings. What a function returns is
# prose on what it does.
_FIELD = re.compile(r"\s*[:@](?:param(?:eter)?|arg|type|rtype|raises?|key|keyword|var)\b", re.IGNORECASE)
_RESULT = re.compile(r"(?:[:@](?:returns?|yields?):?|(?:returns?|yields?|outputs?):?(?=$))\s*", re.IGNORECASE)
_SECTION = re.compile(
    r"(?:args|arguments|parameters?|params|inputs?|raises|keyword arg(?:ument)?s|other parameters|attributes|examples?|"
    r"usage|see also|references|notes?):?",
    re.IGNORECASE,
)
_NAME_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
# What a sentence may add to the signature without saying more
_FILLER_WORDS = """a an the of to for from in on by with and or this that it its given is are be do does function method
    helper returns return object value func"""
_FILLERS = frozenset(_FILLER_WORDS.split())


def prose_of(docstring: str) -> tuple[str, str | None]:
    """Return the prose of a docstring, and what else it holds: "code", "parameters" or None."""
    prose, rest, fenced = [], None, False
    inside, level = None, 0  # what is skipped, and the indentation at which text ends it
    lines = docstring.splitlines()
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        text, indent = line.strip(), len(line) - len(line.lstrip())
        if text.startswith("```"):
            fenced, rest = not fenced, rest or "code"
        if fenced or text.startswith("```"):
            continue
        if (not text) if inside == "doctest" else (text and indent <= level):
            inside = None
        underlined = bool(below.strip()) and not below.strip().strip("-=~")
        if text.startswith((">>>", "In [")):
            inside, rest = "doctest", rest or "code"
        elif inside == "doctest":
            continue
        elif _FIELD.match(line) or (_SECTION.fullmatch(text) and (text.endswith(":") or underlined)):
            # What stands below an underlined heading is not indented, and the next heading ends it
            inside, rest, level = "section", rest or "parameters", -1 if underlined else indent
        else:
            result = _RESULT.match(text)
            if result:
                inside, text = None, text[result.end() :]
            if not inside and text.strip("-=~"):
                prose.append(text)
                if text.endswith("::"):
                    inside, rest, level = "block", rest or "code", indent
    return "\n".join(prose), rest


def foreign_language(text: str) -> str | None:
    """Return the language or script of a text that is not English, or None.

    A text is foreign when more than a fifth of its letters are not ASCII, or when at least two of its different words,
    and twice as many as in English, are frequent in another language.
    """
    if not text.isascii():
        letters = [character for character in text if character.isalpha()]
        if sum(character.isascii() for character in letters) < 0.8 * len(letters):
            return "another script"
    words = {word.lower() for word in _WORD.findall(text)}
    counts = {language: len(words & known) for language, known in _LANGUAGES.items()}
    english = counts.pop("English")
    language = max(counts, key=lambda name: counts[name])
    return language if counts[language] >= 2 and counts[language] >= 2 * english else None


def _repeats(prose: str, name: str, parameters: list[str]) -> bool:
    """Return whether a text holds no word that is not in the function's name or parameters."""
    known = {_stem(part.lower()) for word in [name, *parameters] for part in _NAME_PARTS.findall(word)}
    words = {_stem(part.lower()) for word in _WORD.findall(prose) for part in _NAME_PARTS.findall(word)}
    return {word for word in words if word not in _FILLERS} <= known


def _stem(word: str) -> str:
    """Return a word without the ending of plural or third person."""
    return word[:-1] if word.endswith("s") and len(word) > 3 and word not in _FILLERS else word


def docstring_fault(docstring: str, name: str, parameters: list[str], min_words: int, max_words: int) -> str | None:
    """Return why a docstring does not tell what its function does, or None.

    Args:
        name: The function's name.
        parameters: Names of its parameters.
        min_words: Least words of prose.
        max_words: Most words of the docstring as a whole.
    """
    if len(docstring.split()) > max_words:
        return f"more than {max_words} words"
    prose, rest = prose_of(docstring)
    without_links = _URL.sub(" ", prose)
    if _BOILERPLATE.fullmatch(docstring.strip().partition("\n")[0]):
        return "boilerplate"
    foreign = foreign_language(without_links)
    if foreign:
        return f"not English: {foreign}"
    words = _WORD.findall(without_links)
    if len(words) < min_words:
        if rest:
            return f"only {rest}"
        return "only a URL" if without_links != prose else f"fewer than {min_words} words"
    # Sections say more than the signature
    return "repeats the signature" if not rest and _repeats(without_links, name, parameters) else None
