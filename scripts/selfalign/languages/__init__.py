"""The languages in which seeds, responses and benchmarks can be written; docs/languages.md says how to add one."""

from selfalign.languages.javascript import JAVASCRIPT
from selfalign.languages.language import Language
from selfalign.languages.python import PYTHON

LANGUAGES: dict[str, Language] = {language.key: language for language in (PYTHON, JAVASCRIPT)}

__all__ = ["LANGUAGES", "Language"]
