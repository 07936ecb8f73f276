"""Write a copy of a trained Solver for an OpenAI-compatible server.

    python -m scripts.serve runs/tiny-travel/iter3/solver served
    transformers serve served --port 8000      # pip install "transformers[serving]"

Two things are added to the copy.  Its chat template writes the Solver's prompt from the client's
messages and tools; without tools from the client it uses the Solver's own (--tools).  Its response
template tells the server which part of an answer is the thought and which are the tool calls.

The copy is only for servers; the commands of this project need the original.  The Solver answers
with calls and never with text, so it cannot respond to the result of a call.
"""

import argparse
import sys
from pathlib import Path

import solver
from errors import UsageError
from generator import Task
from plumbing import toolset
from plumbing.chat import MARK, TRIAL, ChatFormat
from plumbing.command import run_command
from plumbing.player import Player
from plumbing.runfolder import atomic_write
from scripts.ask import menu_of, prompt_of
from template import FIELD, Template

# Jinja: collect the tools and the dialogue, then replace the messages with the Solver's prompt.
PRELUDE = """{{%- set own = namespace(tools=[], lines=[], users=0, last="") -%}}
{{%- for tool in tools or {tools} -%}}
{{%- set f = tool.function or tool -%}}
{{%- set schema = f.parameters or {{}} -%}}
{{%- set flat = {{"name": f.name, "description": f.description or "", \
"parameters": schema.properties or {{}}, "required": schema.required or []}} -%}}
{{%- set own.tools = own.tools + [flat] -%}}
{{%- endfor -%}}
{{%- for m in messages if m.role in ("user", "assistant") and m.content -%}}
{{%- set text = m.content if m.content is string else m.content | map(attribute="text") | join -%}}
{{%- set own.lines = own.lines + [m.role | capitalize ~ ": " ~ text] -%}}
{{%- if m.role == "user" -%}}
{{%- set own.users = own.users + 1 -%}}
{{%- set own.last = text -%}}
{{%- endif -%}}
{{%- endfor -%}}
{{%- set said = own.last if own.users == 1 else own.lines | join("\\n") -%}}
{{%- set menu = own.tools | tojson -%}}
{{%- set enable_thinking = false -%}}
{{%- set messages = [{messages}] -%}}
{{%- set tools = none -%}}
"""
# Each call of the list is a region of its own, so that a server can stream them.
OPEN_CALL = r'\s*(?:<tool_call_answer>\s*\[|,)\s*(?=\{"name")'
CLOSE_CALL = r'(?<=\}\})(?=\s*,\s*\{"name")|\s*\]\s*</tool_call_answer>'


def prelude(template: Template, tools: list[dict]) -> str:
    """Return the Jinja text that turns any chat into the Solver's prompt."""
    example = solver.show(solver.example_of(Task("", "", [], [])))
    known = {"tools": "menu", "question": "said", "example": repr(example)}
    messages = []
    for role, text in (("system", template.system), ("user", template.user)):
        if text:
            parts = FIELD.split(text)  # text and names of fields, in turn
            words = [known[part] if n % 2 else repr(part) for n, part in enumerate(parts)]
            messages.append(f'{{"role": "{role}", "content": {" ~ ".join(words)}}}')
    return PRELUDE.format(tools=repr(tools), messages=", ".join(messages))


def response_template(chat: ChatFormat, ends: list[int]) -> dict:
    """Return transformers' description of the parts of an answer: thought, calls, text."""
    begin = chat.prompt(TRIAL).rpartition(MARK)[2]
    return {
        "defaults": {"role": "assistant"},
        "start_anchor": begin.removesuffix(chat.prefill()),
        "fields": {
            "reasoning_content": {"open": "<think>", "close": "</think>", "content": "text"},
            "tool_calls": {
                "open_pattern": OPEN_CALL,
                "close_pattern": CLOSE_CALL,
                "repeats": True,
                "content": "json",
                "transform": {"type": "function", "function": "{content}"},
            },
            "content": {"content": "text", "close": chat.tokenizer.convert_ids_to_tokens(ends)},
        },
    }


def openai_form(tool: dict) -> dict:
    """Return a tool as an OpenAI client sends it."""
    schema = {"type": "object", "properties": tool["parameters"], "required": tool["required"]}
    function = {"name": tool["name"], "description": tool["description"], "parameters": schema}
    return {"type": "function", "function": function}


def serve(model: str, out: Path) -> None:
    """Write the copy of the Solver `model` to the folder `out`."""
    if out.exists():
        raise UsageError(f"{out} exists: name a new folder.")
    player = Player(model)
    tokenizer = player.tokenizer
    if not hasattr(tokenizer, "response_template"):
        raise UsageError("transformers has no response templates: pip install -U transformers")
    template = solver.template_of(prompt_of(model))
    if template.begin:
        raise UsageError("a server cannot begin the answer: train with another --solver-prompt")
    if template.system and player.chat.attempt(TRIAL)[1]:  # no place for a system message
        template = Template("", f"{template.system}\n\n{template.user}")
    own = menu_of(model)
    tools = toolset.read_tools(own, check=False) if own else ()
    tokenizer.response_template = response_template(player.chat, player.eos_ids)
    default = [openai_form(tool.to_json()) for tool in tools]
    tokenizer.chat_template = prelude(template, default) + player.chat.template()
    with atomic_write(out) as part:
        player.model.save_pretrained(part)
        tokenizer.save_pretrained(part)
    print(f'{out} is ready: transformers serve {out} (pip install "transformers[serving]")')


def main(argv: list[str] | None = None) -> int:
    """Write the copy that the command line names.  Exit code 2: bad input."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("serve", description=__doc__, formatter_class=raw)
    parser.add_argument("model", help="folder of a trained Solver")
    parser.add_argument("out", type=Path, help="folder to write")
    a = parser.parse_args(argv)
    return run_command("serve", lambda: serve(a.model, a.out))


if __name__ == "__main__":
    sys.exit(main())
