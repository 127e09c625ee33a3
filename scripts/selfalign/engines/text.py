"""Tokens to text and back, and where a text ends, the same for every engine."""

CONTEXT = 4  # prompt tokens decoded along, so that a tokenizer that drops a leading space does not


def encode(tokenizer, prompt: str) -> list[int]:
    """Return the prompt's tokens, with the tokenizer's begin token unless the prompt already starts with it."""
    begin = tokenizer.bos_token
    return tokenizer(prompt, add_special_tokens=not (begin and prompt.startswith(begin)))["input_ids"]


def cut_at_stop(text: str, stop: tuple[str, ...]) -> tuple[str, bool]:
    """Return the text before the first stop string, and whether there is one."""
    found = [at for at in (text.find(one) for one in stop) if at >= 0]
    return (text[: min(found)], True) if found else (text, False)


class StopScanner:
    """Finds stop strings in what a model writes, decoding only when a token can end one."""

    def __init__(self, tokenizer, stop: tuple[str, ...]):
        self.tokenizer = tokenizer
        self.stop = stop
        anchor = encode(tokenizer, "a")
        self.ending = {token for token in range(len(tokenizer)) if stop and self._may_end(self.text(anchor, [token]))}

    def _may_end(self, piece: str) -> bool:
        """Tell whether a stop string can end inside the piece: it holds one, or starts with the end of one."""
        for stop in self.stop:
            if not stop.isascii() or stop in piece:  # other characters can be spread over several tokens
                return True
            if any(piece.startswith(stop[at:]) for at in range(1, len(stop))):
                return True
        return False

    def may_end(self, token: int) -> bool:
        """Tell whether a stop string can end in this token."""
        return token in self.ending

    def text(self, prompt: list[int], written: list[int]) -> str:
        """Return the text of the written tokens, without special tokens."""
        before = self._decode(prompt[-CONTEXT:])
        return self._decode(prompt[-CONTEXT:] + written)[len(before) :]

    def cut(self, prompt: list[int], written: list[int]) -> tuple[str, bool]:
        """Return the text before the first stop string, and whether there is one."""
        return cut_at_stop(self.text(prompt, written), self.stop)

    def _decode(self, tokens: list[int]) -> str:
        return self.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
