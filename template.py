"""A prompt with named fields: one of those that ship, or your own from a file.

    --generator-prompt mine.txt      fields {domain} {context} {menu_size} {calls} {example}
                                     with --tools {tools} {outline} {asked} {first}
                                     {signatures} instead of {example}
    --solver-prompt mine.txt         fields {tools} {question} {example}

A line `---` separates the system message from the user message; without it all text is the user
message.  Text after a second line `---` is the beginning of the answer, which the model continues.
Braces around anything but one lower-case word stay as they are, so JSON needs no escaping.

    >>> Template("", "Domain: {domain}").fill(domain="math")
    [{'role': 'user', 'content': 'Domain: math'}]
"""

import re
from dataclasses import dataclass
from pathlib import Path

from errors import UsageError

Chat = list[dict[str, str]]  # messages with a role and a content

FIELD = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True)
class Template:
    """The system message and the user message of a prompt, and the beginning of the answer."""

    system: str
    user: str
    begin: str = ""

    def fill(self, **fields: object) -> Chat:
        """Return the chat messages with every field replaced by its value."""
        texts = {"system": self.system, "user": self.user, "assistant": self.begin}
        messages = []
        for role, text in texts.items():
            if text:
                content = FIELD.sub(lambda match: str(fields[match[1]]), text)
                messages.append({"role": role, "content": content})
        return messages


def read_template(path: str, required: set[str], optional: set[str]) -> Template:
    """Read a template from a file.

    Raises UsageError if the file cannot be read, lacks a required field or has an unknown one.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"prompt file {path} cannot be read: it does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"prompt file {path} cannot be read: {error}") from None
    fields = set(FIELD.findall(text))
    missing = required - fields
    unknown = fields - required - optional
    if missing:
        raise UsageError(f"prompt file {path} lacks the field {{{min(missing)}}}")
    if unknown:
        known = ", ".join(f"{{{name}}}" for name in sorted(required | optional))
        raise UsageError(
            f"prompt file {path} has the unknown field {{{min(unknown)}}}: use {known}"
        )
    parts = f"\n{text}".split("\n---\n", 2)
    if len(parts) == 1:
        return Template("", text.strip())
    system, user, *begin = parts
    begin = "".join(begin).removesuffix("\n")  # spaces at its end count
    return Template(system.strip(), user.strip(), begin)
