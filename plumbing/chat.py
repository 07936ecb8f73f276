"""Chat templates: from the messages of a chat to the text that a model continues.

The templates of real models differ, and most differences raise no error.  Four matter here.  They
are detected by rendering chats or reading the template, not by a list of model names:

    system message  A template may refuse or drop it.  Its text then goes before the user's.
    thinking        A prompt may already end in "<think>".  A reader of the completion needs that
                    text, so `prefill` returns it.
    date            A template may print today's date.  It is frozen, so that a run that is resumed
                    on another day keeps its prompts.
    end of a turn   The token that follows an assistant's message ends a completion, whether or not
                    the files of the model name it.

A template that drops the system message and earlier turns on purpose says so with the word
`drops_system`, for example in a comment; the template of `tiny` does.

One raw example, the ChatML of a model without a template of its own:
    "<|im_start|>user\\nHello<|im_end|>\\n<|im_start|>assistant\\n"
"""

import datetime
import functools
import json
import re
import sys

from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from errors import LostProcess, UnusableModel, UsageError, first_line
from plumbing import distributed
from template import Chat

CHATML = (
    "{{ bos_token }}{% for m in messages %}"
    "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
DROPS_SYSTEM = "drops_system"  # a template with this word drops all but the last turn on purpose
NO_SYSTEM = "The chat template has no place for a system message: its text goes before the user's."
THINK = "<think>"
END_THINK = "\n</think>\n\n"
MARK = "a-trial-request"  # what the user of a trial chat says
TRIAL = [{"role": "system", "content": "a-trial-rule"}, {"role": "user", "content": MARK}]
ANSWER = "a-trial-reply"  # what the assistant of a trial chat says
MARKER = re.compile(r"[<\[].+[>\]]")  # a control token such as <|eot_id|>, </s> or [/INST]
DATE_FUNCTION = "strftime_now"  # how a template asks for the date
DATE_CODES = "aAbBcdDeFgGhHIjmMpRSTuUVwWxXyYzZ"  # the format codes of strftime
SAVED_DATE = "chat_template_date"  # in the tokenizer_config.json of a checkpoint
UNPADDED_CODES = "dmyHIMSj"  # these also have a form without leading zeros, such as %-d


@functools.cache
def say_once(text: str) -> None:
    """Print a note to stderr, once per run, without breaking a progress bar."""
    if distributed.rank == 0:
        tqdm.write(text, file=sys.stderr)


@functools.cache
def today() -> str:
    """Return the date on which this process first asked for it, YYYY-MM-DD."""
    return datetime.date.today().isoformat()


def frozen_date(date: str) -> str:
    """Return a template's preamble that redefines `strftime_now` for a date, YYYY-MM-DD.

    A macro does that, since templates cannot be given functions.
    """
    try:
        moment = datetime.datetime.strptime(date, "%Y-%m-%d")
    except ValueError:
        raise UsageError(
            f"the date {date!r} is not of the form YYYY-MM-DD: correct chat_template_date in the "
            "model's tokenizer_config.json, or date in the run's config.json."
        ) from None
    written = {f"%{code}": moment.strftime(f"%{code}") for code in DATE_CODES}
    for code in UNPADDED_CODES:
        written[f"%-{code}"] = written[f"%{code}"].lstrip("0") or "0"
    steps = [f"replace({json.dumps(code)}, {json.dumps(text)})" for code, text in written.items()]
    body = " | ".join(["format", *steps])
    # The newline ends this preamble: Jinja removes the first one after a block.
    return f"{{%- macro {DATE_FUNCTION}(format) -%}}{{{{- {body} -}}}}{{%- endmacro %}}\n"


def saved_date(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the date that a checkpoint was trained with, or ""."""
    return str(tokenizer.init_kwargs.get(SAVED_DATE, ""))


def save_date(tokenizer: PreTrainedTokenizerBase, date: str) -> None:
    """Make the tokenizer write the date into its tokenizer_config.json when it is saved."""
    tokenizer.init_kwargs[SAVED_DATE] = date


def system_before_user(chat: Chat) -> Chat:
    """Return the chat with the system message's text in front of the first other message.

    >>> system_before_user([{"role": "system", "content": "A"}, {"role": "user", "content": "B"}])
    [{'role': 'user', 'content': 'A\\n\\nB'}]
    """
    rules = [message["content"] for message in chat if message["role"] == "system"]
    first, *rest = [message for message in chat if message["role"] != "system"]
    content = "\n\n".join([*rules, first["content"]])
    return [{"role": first["role"], "content": content}, *rest]


def dropped_role(text: str, chat: Chat) -> str | None:
    """Return the role of a message that the rendered text does not hold, or None.

    Whitespace does not count.  Each message that is found is removed, the longest first, so a
    short message that is part of a longer one must also occur on its own.
    """
    rest = "".join(text.split())
    for message in sorted(chat, key=lambda message: -len(message["content"])):
        content = "".join(message["content"].split())
        if content not in rest:
            return message["role"]
        rest = rest.replace(content, "\n", 1)
    return None


class ChatFormat:
    """How one tokenizer writes chats.  `date` is what its template prints as today's date."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, date: str = "") -> None:
        self.tokenizer = tokenizer
        self.date = date or today()
        self.preamble = frozen_date(self.date)

    def template(self) -> str:
        """Return the text of the template in use, with its date frozen."""
        named = self.tokenizer.chat_template
        if isinstance(named, dict) and "default" not in named:
            raise UnusableModel(
                f"the model has {len(named)} chat templates ({', '.join(sorted(named))}), none of "
                'them named "default": give the one to use that name in its tokenizer_config.json.'
            )
        template = self.tokenizer.get_chat_template()
        return self.preamble + template if DATE_FUNCTION in template else template

    def asks_for_date(self) -> bool:
        """Return whether prompts may depend on the date."""
        return DATE_FUNCTION in self.template()

    def render(self, chat: Chat, add_generation_prompt: bool = True) -> str:
        """Return the chat as the template writes it.  Raises whatever a template may raise."""
        return self.tokenizer.apply_chat_template(
            chat,
            chat_template=self.template(),
            add_generation_prompt=add_generation_prompt,
            tokenize=False,
            enable_thinking=False,  # our own prompts ask for <think>
        )

    def attempt(self, chat: Chat) -> tuple[str, str | None]:
        """Return the rendered chat, and what is wrong with it or None."""
        try:
            text = self.render(chat)
        except (LostProcess, UnusableModel):
            raise
        except Exception as error:  # a template is a program and can raise anything
            return "", first_line(error)
        wanted = chat
        if DROPS_SYSTEM in self.template():
            wanted = chat[-1:]
        role = dropped_role(text, wanted)
        return text, f"it drops or changes the {role} message" if role else None

    def prompt(self, chat: Chat) -> str:
        """Return a chat as text, up to where the assistant begins to write.

        If the last message is the assistant's, it begins the answer and replaces a <think> that
        the template opens.  Raises UnusableModel if the template fails or drops what the user says.
        """
        if chat[-1]["role"] == "assistant":
            return self.prompt(chat[:-1]).removesuffix(self.prefill()) + chat[-1]["content"]
        text, fault = self.attempt(chat)
        roles = [message["role"] for message in chat]
        if fault and "system" in roles and len(set(roles)) > 1:
            text, fault = self.attempt(system_before_user(chat))
            if not fault:
                say_once(NO_SYSTEM)
        if fault:
            raise UnusableModel(
                f"the model's chat template is broken ({fault}): fix it, or name another --model."
            )
        return text

    def begin(self, chat: Chat = ()) -> str:
        """Return the text with which the chat or the template begins the answer, or ""."""
        if chat and chat[-1]["role"] == "assistant":
            return chat[-1]["content"]
        return self.prefill()

    def prefill(self) -> str:
        """Return the text that opens a <think> block in a prompt, such as "<think>\\n", or ""."""
        generation_prompt = self.prompt(TRIAL).rpartition(MARK)[2]
        _, tag, thought = generation_prompt.partition(THINK)
        return "" if "</think>" in thought else tag + thought

    def end_of_turn(self) -> int | None:
        """Return the id of the token that follows an assistant's message, or None.

        A template that closes no turn may still begin the next with a token of its own.
        """
        ask = {"role": "user", "content": MARK}
        reply = {"role": "assistant", "content": ANSWER}
        for chat in ([ask, reply], [ask, reply, ask]):
            try:
                text = self.render(chat, add_generation_prompt=False)
            except (LostProcess, UnusableModel):
                raise
            except Exception:  # a template that refuses an assistant's message marks no end
                return None
            rest = text.partition(ANSWER)[2].lstrip()
            if rest:
                return self.marker_at_start(rest)
        return None

    def marker_at_start(self, text: str) -> int | None:
        """Return the id of the text's first token if it is a marker such as <|im_end|>."""
        for token in self.tokenizer(text, add_special_tokens=False)["input_ids"]:
            written = self.tokenizer.decode([token]).strip()
            if written:  # some tokenizers begin each text with a space
                return token if MARKER.fullmatch(written) else None
        return None
