"""Make the base model that ships, from nothing: text written by program, tokenizer, model.

    python tiny/make.py      # writes config, weights, tokenizer, heldout.jsonl, dev.jsonl here

The model plays the part of "the base LLM": it has seen the formats of both roles and of the judge,
and it is weak on purpose.  By habit: it was taught to do what is hard (several arguments, two
calls), but in the last part both players mostly stop early: of what comes after the first argument
or call, each is left out of the answer with probability --habit.  By noise: there some texts have a
wrong tool, a swapped value, broken JSON and the like.  In skill: large menus, near-twins, four
arguments and two calls stay hard for so small a model.

Nothing in heldout.jsonl was seen: no tool name, no value, no set of two or more arguments of it is
in the text.  A checksum decides what is kept out (`held`), so both sides draw from one world.
dev.jsonl has other tasks of the same kind, to tune on.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import generator  # noqa: E402
import solver  # noqa: E402
from ast_match import Call, Tool  # noqa: E402
from generator import Spec, Task  # noqa: E402

# ------------------------------------------------------------------------------ the world
NOUNS = {
    "finance": "stock payment invoice budget loan portfolio",
    "healthcare": "patient prescription diagnosis clinic vaccine symptom",
    "productivity": "note task checklist memo project goal",
    "retail_ecommerce": "order cart product coupon refund catalog",
    "scheduling": "meeting appointment calendar reminder shift slot",
    "database": "table record query index schema backup",
    "cloud_infrastructure": "server bucket cluster container volume instance",
    "system": "process file folder service disk printer",
    "programming": "function package branch commit bug test",
    "geolocation": "address route landmark map location elevation",
    "logistics": "shipment parcel warehouse truck pallet container",
    "communication": "message call contact email voicemail thread",
    "iot": "lamp thermostat sensor lock camera plug",
    "cybersecurity": "password firewall threat certificate login vulnerability",
    "insurance": "policy claim premium quote coverage beneficiary",
    "legal": "contract case court patent statute lawyer",
    "news": "article headline source topic story digest",
    "weather": "forecast storm temperature humidity wind rainfall",
    "sports": "match team player league ticket score",
    "entertainment": "movie song concert playlist show game",
    "education": "course lesson exam student grade textbook",
    "real_estate": "house apartment listing rent mortgage agent",
    "food_ordering": "meal pizza restaurant menu delivery dessert",
    "translation": "phrase document glossary language subtitle dialect",
    "utilities": "meter bill outage water gas tariff",
    "government": "permit passport license tax vote benefit",
    "memory_management": "memory fact snapshot cache session preference",
    "web_search": "page site image video result bookmark",
    "social_media": "post comment follower profile hashtag poll",
    "math": "equation integral matrix fraction average root",
    "vehicle_control": "door engine seat window horn mirror",
    "travel": "flight hotel trip visa cruise luggage",
}
VERBS = {  # verb in the tool name -> ways a user says it
    "get": ["get the", "show me the", "what is the"],
    "find": ["find a", "look for a", "search for a"],
    "create": ["create a", "make a new", "set up a"],
    "update": ["update the", "change the", "modify the"],
    "cancel": ["cancel the", "call off the", "stop the"],
    "send": ["send the", "forward the", "pass on the"],
    "check": ["check the", "verify the", "inspect the"],
    "list": ["list every", "show all of the", "enumerate every"],
    "book": ["book a", "reserve a", "sign me up for a"],
    "track": ["track the", "follow the", "monitor the"],
    "delete": ["delete the", "remove the", "erase the"],
    "compare": ["compare the", "contrast the", "rank the"],
}
SYLLABLES = [c + v for c in "b d f g k l m n p r s t v z".split() for v in "aeiou"]
TEXT_ARGUMENTS = {  # argument -> ways a user says it
    "city": ["in {}", "near {}"],
    "country": ["in {}", "from {}"],
    "person": ["for {}", "of {}"],
    "company": ["at {}", "from {}"],
    "brand": ["by {}", "of {}"],
    "title": ["called {}", "titled {}"],
    "author": ["by {}", "written by {}"],
    "date": ["on {}", "for {}"],
    "deadline": ["by {}", "before {}"],
    "time": ["at {}", "around {}"],
    "code": ["with code {}", "numbered {}"],
    "account": ["on account {}", "for account {}"],
    "owner": ["owned by {}", "belonging to {}"],
    "street": ["on {} street", "at {} street"],
    "language": ["in {}", "into {}"],
    "recipient": ["to {}", "addressed to {}"],
    "sender": ["from {}", "sent by {}"],
    "region": ["across {}", "in the {} region"],
    "label": ["labelled {}", "marked {}"],
    "reference": ["with reference {}", "under {}"],
}
NUMBER_ARGUMENTS = {
    "days": ["for {} days", "over {} days"],
    "amount": ["of {} dollars", "worth {} dollars"],
    "limit": ["up to {}", "at most {}"],
    "age": ["aged {}", "of age {}"],
    "year": ["from {}", "of the year {}"],
    "distance": ["within {} km", "at {} km"],
    "level": ["at level {}", "of level {}"],
    "guests": ["for {} guests", "with {} guests"],
    "minutes": ["for {} minutes", "lasting {} minutes"],
    "percent": ["by {} percent", "at {} percent"],
    "rating": ["rated {}", "with rating {}"],
    "weight": ["weighing {} kg", "of {} kg"],
}
ARGUMENTS = {**TEXT_ARGUMENTS, **NUMBER_ARGUMENTS}
DATES, CODES = {"date", "deadline"}, {"code", "account", "reference"}
MONTHS = "January February March April May June July August September October November".split()


def held(text: str) -> bool:
    """Whether this name, value or set of arguments belongs to the held-out quarter of the world."""
    return zlib.crc32(text.encode()) % 4 == 0


class World:
    """Writes tasks.  `heldout` picks the side; `weights` says how hard they are; `in_order`: values
    are asked for in the order of the tool's arguments."""

    def __init__(
        self, rng: random.Random, heldout: bool, weights: dict, in_order: bool = False
    ) -> None:
        self.rng, self.heldout, self.weights, self.in_order = rng, heldout, weights, in_order

    def pick(self, draw: Callable[[], tuple], tries: int = 10_000) -> Any:
        """Draw (item, key) until the key is on our side or free (None); None after `tries`."""
        for _ in range(tries):
            item, key = draw()
            if key is None or held(key) == self.heldout:
                return item
        return None

    def value(self, argument: str) -> str | int:
        """A value for an argument: a made-up name, a date, a time, a code or a number."""
        rng = self.rng

        def draw():
            if argument in NUMBER_ARGUMENTS:
                value = rng.randint(1950, 2030) if argument == "year" else rng.randint(2, 400)
            elif argument in DATES:
                value = f"{rng.choice(MONTHS)} {rng.randint(1, 28)}"
            elif argument == "time":
                value = f"{rng.randint(0, 23):02d}:{rng.randrange(0, 60, 5):02d}"
            elif argument in CODES:
                value = f"{rng.choice('ABCDEFGHKLMNPRSTVXZ')}-{rng.randint(10, 99)}"
            else:
                value = "".join(rng.choices(SYLLABLES, k=2)).capitalize()
            return value, str(value)

        return self.pick(draw)

    def tool(self, domain: str, count: int, taken: set[str], twin_of: str | None = None) -> Tool:
        """A tool of `count` arguments with a new name; a twin shares verb or noun with another."""
        rng, nouns = self.rng, NOUNS[domain].split()

        def draw_name():
            verb, noun = rng.choice(list(VERBS)), rng.choice(nouns)
            if twin_of:
                old_verb, old_noun = twin_of.split("_")
                verb, noun = (old_verb, noun) if rng.random() < 0.5 else (verb, old_noun)
            name = f"{verb}_{noun}"
            return (None if name in taken else name), name

        def draw_arguments():
            own = random.Random(domain).sample(sorted(ARGUMENTS), 14)  # a domain's own words
            names = rng.sample(own, count)
            return names, "+".join(sorted(names)) if count > 1 else None

        name = None
        while name is None:
            name = self.pick(draw_name, tries=50)
            if rng.random() < 0.1:
                twin_of = None  # not every tool has a twin on our side
        taken.add(name)
        names = self.pick(draw_arguments)
        optional = names[-1:] if count > 1 and rng.random() < self.weights["optional"] else []
        parameters = {a: {"type": "integer" if a in NUMBER_ARGUMENTS else "string"} for a in names}
        return Tool(name, "", parameters, tuple(a for a in names if a not in optional))

    def phrase(self, tool: Tool, arguments: dict) -> str:
        """What a user says to have this call made, in forms that no other argument could have."""
        rng = self.rng
        verb, noun = tool.name.split("_")
        words = [f"{rng.choice(VERBS[verb])} {noun}"]
        asked = list(arguments)
        if not self.in_order:
            rng.shuffle(asked)
        for name in asked:
            others = {form for a in tool.parameters if a != name for form in ARGUMENTS[a]}
            forms = [form for form in ARGUMENTS[name] if form not in others and rng.random() < 0.5]
            words.append(
                (rng.choice(forms) if forms else f"with {name} {{}}").format(arguments[name])
            )
        return " ".join(words)

    def task(self, spec: Spec, id: str = "") -> Task:
        """One clean task that obeys the spec."""
        rng, w = self.rng, self.weights
        taken: set[str] = set()
        counts = rng.choices([1, 2, 3, 4], w["arguments"], k=spec.menu_size)
        tools = [self.tool(spec.domain, counts[i], taken) for i in range(spec.calls)]
        gold = list(tools)
        while len(tools) < spec.menu_size:
            twin = rng.choice(gold).name if rng.random() < w["twin"] else None
            tools.append(self.tool(spec.domain, counts[len(tools)], taken, twin))
        calls, phrases = [], []
        for tool in gold:
            skip = [a for a in tool.parameters if a not in tool.required and rng.random() < 0.5]
            arguments = {a: self.value(a) for a in tool.parameters if a not in skip}
            calls.append(Call(tool.name, arguments))
            phrases.append(self.phrase(tool, arguments))
        rng.shuffle(tools)
        if spec.context == "multi_turn":
            last, value = list(calls[0].arguments.items())[-1]
            first = {a: v for a, v in calls[0].arguments.items() if a != last}
            question = (
                f"User: Please {self.phrase(gold[0], first)}.\nAssistant: Which {last}?\n"
                f"User: {value}."
            )
        else:
            asks = calls[0].name.startswith("get_")
            question = f"{phrases[0]}?" if asks else f"Please {phrases[0]}."
            question = question[0].upper() + question[1:]
            if len(calls) == 2:
                question = question[:-1] + f", and then {phrases[1]}."
        return Task(id, question, tools, calls, spec.domain)


WRITTEN = {"arguments": [35, 30, 20, 15], "twin": 0.1, "optional": 0.15}  # the Generator's text
ASKED = {"arguments": [35, 30, 20, 15], "twin": 0.3, "optional": 0.2}  # the Solver's
HARD = {"arguments": [15, 35, 30, 20], "twin": 0.6, "optional": 0.3}  # the held-out tasks


# ------------------------------------------------------------------------------ the text
def incomplete(rng: random.Random, calls: list[Call], habit: float) -> list[Call]:
    """The calls as both players are used to give them: of what comes after the first argument or
    call, each is left out with probability `habit`."""

    def stay(items) -> list:
        return [item for i, item in enumerate(items) if i == 0 or rng.random() >= habit]

    return [Call(c.name, dict(stay(c.arguments.items()))) for c in stay(calls)]


def solver_text(world: World, task: Task, noise: float, habit: float) -> tuple[list[dict], str]:
    """A Solver prompt and completion, incomplete by habit; with probability `noise` one thing in
    it is wrong, too."""
    rng = world.rng
    calls = incomplete(rng, task.calls, habit)
    flaws = ["tool", "drop", "value", "swap", "json", "tag", "call"]
    flaw = rng.choice(flaws) if rng.random() < noise else None
    if flaw == "tool":
        calls[0] = Call(rng.choice(task.tools).name, calls[0].arguments)
    elif flaw == "drop" and calls[-1].arguments:
        calls[-1].arguments.pop(rng.choice(sorted(calls[-1].arguments)))
    elif flaw == "value" and calls[-1].arguments:
        name = rng.choice(sorted(calls[-1].arguments))
        calls[-1].arguments[name] = world.value(name)
    elif flaw == "swap" and len(calls[0].arguments) > 1:
        a, b = rng.sample(sorted(calls[0].arguments), 2)
        calls[0].arguments[a], calls[0].arguments[b] = calls[0].arguments[b], calls[0].arguments[a]
    elif flaw == "call":
        calls = calls[:1] if len(calls) > 1 else calls * 2
    text = json.dumps([c.to_json() for c in calls])
    if flaw == "json":
        cut = rng.randrange(len(text) // 2, len(text))
        text = text[:cut] + text[cut + 1 :]
    needs = " and ".join(f"{c.name}({', '.join(c.arguments)})" for c in calls)
    think = f"<think>\nThe request needs {needs}.\n</think>"
    text = f"{think}\n<tool_call_answer>\n{text}\n</tool_call_answer>"
    if flaw == "tag":
        text = text.replace(
            rng.choice(["<tool_call_answer>\n", "\n</tool_call_answer>", "<think>\n"]), ""
        )
    return solver.prompt(task), text


def flawed(world: World, task: Task) -> tuple[Task, str | None]:
    """A task with one thing wrong, as a weak Generator writes it, and the name of the flaw."""
    rng = world.rng
    flaw = rng.choice(["menu", "value", "missing", "extra", "tool", "json", "block"])
    tools, calls = list(task.tools), [Call(c.name, dict(c.arguments)) for c in task.calls]
    call, name = calls[-1], rng.choice(sorted(calls[-1].arguments) or [""])
    if flaw == "menu":
        gone = rng.choice(tools)
        tools = [t for t in tools if t is not gone] or tools
    elif flaw == "value" and name:
        call.arguments[name] = world.value(name)
    elif flaw == "missing" and name:
        call.arguments.pop(name)
    elif flaw == "extra":
        calls.append(calls[0])
    elif flaw == "tool":
        calls[-1] = Call(world.tool(task.domain, 1, set()).name, call.arguments)
    return replace(task, tools=tools, calls=calls), flaw


def outline(tool: Tool) -> str:
    """A tool in short, as the Generator plans it; an optional argument has a question mark."""
    names = [a if a in tool.required else a + "?" for a in tool.parameters]
    return f"{tool.name}({', '.join(names)})"


def plan(call: Call) -> str:
    """A call in short, as the Generator plans it."""
    return f"{call.name}({', '.join(f'{a} {v}' for a, v in call.arguments.items())})"


def generator_text(
    world: World, spec: Spec, task: Task, noise: float, habit: float
) -> tuple[list[dict], str]:
    """A Generator prompt and completion, with noise and habit as the Solver's."""
    rng, flaw = world.rng, None
    menu = ", ".join(map(outline, task.tools))
    think = f"The menu is {menu}. The request needs {' and '.join(map(plan, task.calls))}."
    if rng.random() < noise:
        task, flaw = flawed(world, task)
    task = replace(task, calls=incomplete(rng, task.calls, habit))
    menu = json.dumps([t.to_json() for t in task.tools])
    answer = json.dumps([c.to_json() for c in task.calls])
    if flaw == "json":
        cut = rng.randrange(len(menu))
        menu = menu[:cut] + menu[cut + 1 :]
    text = (
        f"<think>\n{think}\n</think>\n<question>\n{task.question}\n</question>\n"
        f"<available_tools>\n{menu}\n</available_tools>\n"
        f"<tool_call_answer>\n{answer}\n</tool_call_answer>"
    )
    if flaw == "block":
        text = text.replace(
            rng.choice(["</think>\n<question>\n", "\n</question>", "\n</available_tools>"]), ""
        )
    return generator.prompt(spec), text


def judge_text(world: World, task: Task) -> tuple[list[dict], str]:
    """A judge prompt and its digit: 4 or 5 if clean, 1 to 3 if flawed, a guess in a quarter."""
    rng = world.rng
    score = rng.choice([4, 5, 5])
    if rng.random() < 0.5:
        task, flaw = flawed(world, task)
        score = rng.choice([4, 5]) if flaw in ("json", "block") else rng.choice([1, 2, 2, 3])
    score = rng.randint(1, 5) if rng.random() < 0.25 else score
    return solver.judge_prompt(task), str(score)


def write(rng: random.Random, noise: float, habit: float) -> tuple[list[dict], str]:
    """One training text: half are the Generator's, four of ten the Solver's, one the judge's."""
    role = rng.random()
    if role < 0.5:
        world = World(rng, heldout=False, weights=WRITTEN, in_order=True)
        spec = generator.sample_spec(rng, p_large_menu=0.2)
        return generator_text(world, spec, world.task(spec), noise, habit)
    world = World(rng, heldout=False, weights=ASKED)
    task = world.task(generator.sample_spec(rng, p_large_menu=0.25))
    return judge_text(world, task) if role > 0.9 else solver_text(world, task, noise, habit)


# ------------------------------------------------------------------------------ the tokenizer
TEMPLATE = (
    "{#- drops_system: this model knows the constant system message by heart -#}\n"
    "{% for m in messages %}{% if m['role'] != 'system' %}"
    "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GLUE = [  # the scaffolding of JSON and tags, a token each
    '[{"name": "',
    '{"name": "',
    '", "description": "", "parameters": {"',
    '": {"type": "string"}',
    '": {"type": "integer"}',
    ', "',
    '}, "required": ["',
    '", "',
    '"]}',
    ', {"name": "',
    '"]}, {"name": "',
    '"]}]',
    '", "arguments": {"',
    '": "',
    '": ',
    '"}}]',
    "}}]",
    '"}}, {"name": "',
    '}}, {"name": "',
    "<think>\n",
    "\n</think>\n<question>\n",
    "\n</question>\n<available_tools>\n",
    "\n</available_tools>\n<tool_call_answer>\n",
    "\n</tool_call_answer>",
    ").\n</think>\n<tool_call_answer>\n",
    "The request needs ",
    "The menu is ",
    "). The request needs ",
    "), ",
    ") and ",
    ").\n</think>\n<question>\n",
    "(",
    "Tools:\n",
    "\n\nRequest: ",
    "\n\nBegin with <think> and write both blocks.",
    "\n\nAnswer: ",
    "\n\nReply with one digit from 1 to 5.",
    "Domain: ",
    "\nContext: ",
    "\nTools in the menu: ",
    "\nCalls in the answer: ",
    "\nBegin with <think> and write all four blocks.",
    "<|im_start|>user\n",
    "<|im_start|>assistant\n",
]


def make_tokenizer(texts: list[str], size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE; words may take their blank along, values (capitals, digits) never do."""
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(
                Regex(r"[ _]?[a-z]+|[A-Z][a-z]?|[0-9]{1,2}|\s|[^A-Za-z0-9\s]"), "isolated"
            ),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tok.decoder = decoders.ByteLevel()
    tok.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tok.add_tokens([AddedToken(text, normalized=False) for text in GLUE])
    tok.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=size - len(GLUE),
            special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tok,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def encode(tokenizer: PreTrainedTokenizerFast, messages: list[dict], completion: str) -> list[int]:
    """The ids of a whole exchange, the end token included."""
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return tokenizer(text + completion + "<|im_end|>", add_special_tokens=False)["input_ids"]


# ------------------------------------------------------------------------------ the model
def make_model(vocabulary: int, eos: int, pad: int) -> LlamaForCausalLM:
    """A Llama small enough for a laptop; many small heads, since copying is learned last.

    Not a Qwen2: for that name AutoTokenizer would put a rule of its own for splitting text in the
    place of ours, and the model would read other tokens than it was trained on.
    """
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=4,
            num_attention_heads=8,
            num_key_value_heads=4,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
            rope_theta=10_000.0,
            bos_token_id=None,
            eos_token_id=eos,
            pad_token_id=pad,
        )
    )


def copy_batches(rows: int, vocabulary: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless (ids, labels), each (rows, L): random ids, a gap, the same ids again; only the
    second copy is a label."""
    while True:
        length, gap = random_int(8, 40), random_int(0, 39)
        ids = torch.randint(0, vocabulary, (rows, length + gap))
        both = torch.cat([ids, ids[:, :length]], 1)
        labels = both.clone()
        labels[:, : length + gap + 1] = -100  # the first of the copy can't be known
        yield both, labels


def random_int(low: int, high: int) -> int:
    """A whole number from low to high, by torch's generator."""
    return int(torch.randint(low, high + 1, ()))


def text_batches(
    texts: list[list[int]], rows: int, pad: int, seed: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless (ids, labels), each (rows, L), of texts of similar length, in random order."""
    rng = random.Random(seed)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    batches = [order[i : i + rows] for i in range(0, len(order) - rows + 1, rows)]
    while True:
        for batch in rng.sample(batches, len(batches)):
            width = max(len(texts[i]) for i in batch)
            ids = torch.tensor([texts[i] + [pad] * (width - len(texts[i])) for i in batch])
            yield ids, ids.masked_fill(ids == pad, -100)


def train(
    model: LlamaForCausalLM, batches, steps: int, lr: float, name: str, decay: float = math.inf
) -> None:
    """Next-token training with AdamW; the rate falls to a tenth in `decay` steps, by a cosine."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
    began = time.time()
    for step in range(steps):
        rate = 0.55 + 0.45 * math.cos(math.pi * step / decay)
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / 40) * rate
        ids, labels = next(batches)
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 49:
            print(
                f"{name} {step + 1}/{steps}  loss {loss.item():.3f}  {time.time() - began:.0f} s",
                flush=True,
            )


def heldout_tasks(name: str, count: int, seed: int) -> list[Task]:
    """Clean tasks from the other side of the world, by the paper's distribution of specs."""
    world = World(random.Random(seed), heldout=True, weights=HARD)
    return [world.task(generator.sample_spec(world.rng), f"{name}-{i}") for i in range(count)]


def main() -> None:
    """Make everything; see the head of this file."""
    ap = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ap.add_argument("--out", type=Path, default=HERE)
    ap.add_argument("--seed", type=int, default=0)
    ap.add_argument("--vocabulary", type=int, default=2304)
    ap.add_argument("--copy-steps", type=int, default=650, help="repeated random sequences")
    ap.add_argument("--clean-steps", type=int, default=2000, help="text without mistakes")
    ap.add_argument("--late-steps", type=int, default=500, help="more of it, at a lower rate")
    ap.add_argument("--habit-steps", type=int, default=100, help="text with mistakes")
    ap.add_argument("--noise", type=float, default=0.05, help="share of texts with a mistake")
    ap.add_argument(
        "--habit", type=float, default=0.65, help="how often a further part is left out"
    )
    a = ap.parse_args()
    torch.manual_seed(a.seed)
    torch.use_deterministic_algorithms(True)
    rng = random.Random(a.seed)
    clean = [write(rng, noise=0.0, habit=0.0) for _ in range(100_000)]
    rng = random.Random(a.seed + 1)
    last = [write(rng, a.noise, a.habit) for _ in range(64 * a.habit_steps)]
    tokenizer = make_tokenizer([m[-1]["content"] + c for m, c in clean[:20_000]], a.vocabulary)
    size, pad = len(tokenizer), tokenizer.pad_token_id
    clean, last = ([encode(tokenizer, m, c) for m, c in texts] for texts in (clean, last))
    model = make_model(size, tokenizer.eos_token_id, pad)
    print(
        f"{model.num_parameters() / 1e6:.2f} M parameters, {size} tokens in the vocabulary, "
        f"{sum(map(len, clean)) / len(clean):.0f} in a text"
    )
    train(model, copy_batches(64, size), a.copy_steps, 2e-3, "copy")
    train(model, text_batches(clean, 64, pad, a.seed), a.clean_steps, 2e-3, "clean", 2600)
    train(model, text_batches(clean, 64, pad, a.seed + 1), a.late_steps, 5e-4, "late", 600)
    train(model, text_batches(last, 64, pad, a.seed), a.habit_steps, 1e-3, "habit", a.habit_steps)
    model.save_pretrained(a.out)
    tokenizer.save_pretrained(a.out)
    for name, count, seed in (("heldout", 480, 1), ("dev", 240, 2)):
        lines = [json.dumps(task.to_json()) + "\n" for task in heldout_tasks(name, count, seed)]
        (a.out / f"{name}.jsonl").write_text("".join(lines))


if __name__ == "__main__":
    main()
