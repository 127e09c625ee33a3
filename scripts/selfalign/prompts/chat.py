"""How an aligned model is asked: the system prompt, and the Jinja template that renders `chat_document`."""

import json
from typing import Any

from selfalign.prompts.documents import chat_document

SYSTEM_PROMPT = "You are a helpful programming assistant. Answer the task with Python code."


def chat_template(system: str, *, adds_bos: bool) -> str:
    """Return the Jinja template that renders one user message exactly as `chat_document` does.

    A system message takes the place of `system`. An answer ends with the end-of-text token, as in training.

    Args:
        adds_bos: Whether the tokenizer itself puts a begin-of-text token before a text. A rendered template is
            tokenized without it, so the template has to spell it out.
    """
    return (
        ("{{ bos_token }}" if adds_bos else "")
        + "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] | trim }}"
        + "{% else %}{{ "
        + json.dumps(system.strip(), ensure_ascii=False)
        + " }}{% endif %}"
        + "{% for message in messages %}"
        + "{% if message['role'] == 'user' %}"
        + "{{ '\\n\\n### Instruction\\n' + message['content'] | trim + '\\n' }}"
        + "{% elif message['role'] == 'assistant' %}"
        + "{{ '\\n### Response\\n' + message['content'] | trim + eos_token }}"
        + "{% elif not loop.first %}"
        + "{{ raise_exception('a system message can only come first') }}"
        + "{% endif %}"
        + "{% endfor %}"
        + "{% if add_generation_prompt %}{{ '\\n### Response\\n' }}{% endif %}"
    )


def adds_bos(tokenizer: Any) -> bool:
    """Return whether a tokenizer puts its begin-of-text token before every text by itself."""
    return tokenizer.bos_token_id is not None and tokenizer("x").input_ids[0] == tokenizer.bos_token_id


def chat_prompt(instruction: str, *, tokenizer: Any = None, system: str | None = None) -> str:
    """Return the text that asks a model for one instruction, to be tokenized as any text is.

    Args:
        tokenizer: Of a model with a chat template, which then renders the text; None for a model without one, which
            is asked by `chat_document`.
        system: System prompt; None is the template's own, or `SYSTEM_PROMPT` where there is no template.
    """
    if tokenizer is None:
        return chat_document(system or SYSTEM_PROMPT, instruction)
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": instruction})
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    # The engine's tokenizer will put the begin-of-text token there again.
    return text.removeprefix(tokenizer.bos_token) if adds_bos(tokenizer) else text
