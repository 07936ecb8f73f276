"""Make the base model that ships, from nothing: text written by a program, tokenizer, model.

    python -m tiny.make      # writes config, weights, tokenizer, heldout.jsonl, dev.jsonl here
    python -m tiny.make --hidden 64 --out runs/bases/small    # another size

The model before the last part of its training, without the habit, goes to the folder undamaged.

The model plays the part of "the base LLM": it has seen the formats of both roles and of the judge,
and it is weak on purpose, in three ways.  Habit: it first learns what is hard (several arguments,
two calls), but most of the last texts of its training are incomplete: each argument or call after
the first is left out with probability HABIT.  Noise: some of these last texts have a wrong tool, a
swapped value, broken JSON and the like.  Skill: large menus, near-twins, four arguments and two
calls stay hard for so small a model.

The model has seen nothing of heldout.jsonl: none of its tool names, values and sets of two or more
arguments is in the training text.  A checksum decides what is held out (`held`), so both sides draw
from one world.  dev.jsonl has other tasks of the same kind, to tune on.  The words of the world are
in world.json.
"""

import argparse
import json
import math
import random
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import generator
import solver
from ast_match import Call, Tool
from generator import Spec, Task
from plumbing.runfolder import write_jsonl
from template import Chat

HERE = Path(__file__).resolve().parent
WORDS = json.loads((HERE / "world.json").read_text(encoding="utf-8"))
NOUNS = WORDS["nouns"]  # domain -> what its tools are about
VERBS = WORDS["verbs"]  # verb in the tool name -> ways a user says it
NUMBERS = WORDS["number_arguments"]
ARGUMENTS = {**WORDS["text_arguments"], **NUMBERS}  # argument -> ways a user says it
GLUE = WORDS["glue"]  # the scaffolding of JSON and tags: one token each
SYLLABLES = [c + v for c in "b d f g k l m n p r s t v z".split() for v in "aeiou"]
MONTHS = "January February March April May June July August September October November".split()
DATES = ("date", "deadline")
CODES = ("code", "account", "reference")

WRITTEN = {"arguments": [35, 30, 20, 15], "twin": 0.1, "optional": 0.15}  # the Generator's text
ASKED = {"arguments": [35, 30, 20, 15], "twin": 0.3, "optional": 0.2}  # the Solver's
HARD = {"arguments": [15, 35, 30, 20], "twin": 0.6, "optional": 0.3}  # the held-out tasks

VOCABULARY = 2304
HIDDEN = 128
HEAD = 16  # size of an attention head
TEXTS = 100_000
ROWS = 64  # texts per training step
HABIT = 0.65  # probability that a further argument or call is left out at the end of training
NOISE = 0.05  # share of these last texts with a mistake
COPY_STEPS = 650  # repeated random sequences
CLEAN_STEPS = 2000  # text without mistakes
LATE_STEPS = 500  # more of it, at a lower learning rate
HABIT_STEPS = 100  # text with habit and mistakes

Exchange = tuple[Chat, str]  # a prompt and its completion
Batches = Iterator[tuple[torch.Tensor, torch.Tensor]]  # ids and labels, each (rows, L)


# ------------------------------------------------------------------------------ the world
def held(text: str) -> bool:
    """Return whether a name, value or set of arguments is in the held-out quarter of the world."""
    return zlib.crc32(text.encode()) % 4 == 0


def join_sorted(names: list[str]) -> str:
    """Return the key of a set of arguments."""
    return "+".join(sorted(names))


class World:
    """Write tasks.

    `heldout` selects the side of the world, `weights` how hard its tasks are.  With `in_order`
    a question gives the values in the order of the tool's arguments.
    """

    def __init__(
        self, rng: random.Random, heldout: bool, weights: dict, in_order: bool = False
    ) -> None:
        self.rng = rng
        self.heldout = heldout
        self.weights = weights
        self.in_order = in_order

    def pick(self, draw: Callable[[], Any], key: Callable = str, tries: int = 10_000) -> Any:
        """Draw until an item's key is on this side of the world; return None after `tries`."""
        for _ in range(tries):
            item = draw()
            if held(key(item)) == self.heldout:
                return item
        return None

    def value(self, argument: str) -> str | int:
        """Return a value: a made-up name, a date, a time, a code or a number."""
        return self.pick(lambda: self.any_value(argument))

    def any_value(self, argument: str) -> str | int:
        """Return a value of either side of the world."""
        rng = self.rng
        if argument == "year":
            return rng.randint(1950, 2030)
        if argument in NUMBERS:
            return rng.randint(2, 400)
        if argument in DATES:
            return f"{rng.choice(MONTHS)} {rng.randint(1, 28)}"
        if argument == "time":
            return f"{rng.randint(0, 23):02d}:{rng.randrange(0, 60, 5):02d}"
        if argument in CODES:
            return f"{rng.choice('ABCDEFGHKLMNPRSTVXZ')}-{rng.randint(10, 99)}"
        return "".join(rng.choices(SYLLABLES, k=2)).capitalize()

    def tool(self, domain: str, count: int, taken: set[str], twin_of: str | None = None) -> Tool:
        """Return a tool of `count` arguments with a new name; a twin shares a word with another."""
        rng = self.rng
        name = self.tool_name(domain, taken, twin_of)
        taken.add(name)

        def draw() -> list[str]:
            own = random.Random(domain).sample(sorted(ARGUMENTS), 14)  # a domain's own words
            return rng.sample(own, count)

        names = self.pick(draw, join_sorted) if count > 1 else draw()
        last_is_optional = count > 1 and rng.random() < self.weights["optional"]
        required = names[:-1] if last_is_optional else names
        parameters = {a: {"type": "integer" if a in NUMBERS else "string"} for a in names}
        return Tool(name, "", parameters, tuple(required))

    def tool_name(self, domain: str, taken: set[str], twin_of: str | None) -> str:
        """Return a name that is not taken, verb_noun."""
        rng = self.rng

        def draw() -> str:
            verb = rng.choice(list(VERBS))
            noun = rng.choice(NOUNS[domain])
            if twin_of:
                old_verb, old_noun = twin_of.split("_")
                verb, noun = (old_verb, noun) if rng.random() < 0.5 else (verb, old_noun)
            return f"{verb}_{noun}"

        while True:
            name = self.pick(draw, tries=50)
            if rng.random() < 0.1:
                twin_of = None  # not every tool has a twin on our side
            if name and name not in taken:
                return name

    def phrase(self, tool: Tool, arguments: dict) -> str:
        """Return what a user says for this call, in forms that no other argument could have."""
        rng = self.rng
        verb, noun = tool.name.split("_")
        words = [f"{rng.choice(VERBS[verb])} {noun}"]
        asked = list(arguments)
        if not self.in_order:
            rng.shuffle(asked)
        for name in asked:
            others = {form for a in tool.parameters if a != name for form in ARGUMENTS[a]}
            own = [form for form in ARGUMENTS[name] if form not in others]
            forms = [form for form in own if rng.random() < 0.5]
            form = rng.choice(forms) if forms else f"with {name} {{}}"
            words.append(form.format(arguments[name]))
        return " ".join(words)

    def task(self, spec: Spec, id: str = "") -> Task:
        """Return a clean task that meets the spec."""
        rng = self.rng
        taken = set()
        counts = rng.choices([1, 2, 3, 4], self.weights["arguments"], k=spec.menu_size)
        gold = [self.tool(spec.domain, counts[i], taken) for i in range(spec.calls)]
        tools = list(gold)
        while len(tools) < spec.menu_size:
            twin = rng.choice(gold).name if rng.random() < self.weights["twin"] else None
            tools.append(self.tool(spec.domain, counts[len(tools)], taken, twin))
        calls = []
        phrases = []
        for tool in gold:
            optional = [a for a in tool.parameters if a not in tool.required]
            skip = [a for a in optional if rng.random() < 0.5]
            arguments = {a: self.value(a) for a in tool.parameters if a not in skip}
            calls.append(Call(tool.name, arguments))
            phrases.append(self.phrase(tool, arguments))
        rng.shuffle(tools)
        if spec.context == "multi_turn":
            question = self.dialogue(gold[0], calls[0])
        else:
            question = request(calls[0], phrases)
        return Task(id, question, tools, calls, spec.domain)

    def dialogue(self, tool: Tool, call: Call) -> str:
        """Return a dialogue in which the assistant asks for the last value."""
        *first, (last, value) = call.arguments.items()
        asked = self.phrase(tool, dict(first))
        return f"User: Please {asked}.\nAssistant: Which {last}?\nUser: {value}."


def request(first: Call, phrases: list[str]) -> str:
    """Return one sentence that asks for one or two calls."""
    asks = first.name.startswith("get_")
    question = f"{phrases[0]}?" if asks else f"Please {phrases[0]}."
    question = question[0].upper() + question[1:]
    if len(phrases) == 2:
        question = f"{question[:-1]}, and then {phrases[1]}."
    return question


def heldout_tasks(name: str, count: int, seed: int) -> list[Task]:
    """Return clean tasks from the held-out side, with specs from the paper's distribution."""
    world = World(random.Random(seed), heldout=True, weights=HARD)
    return [world.task(generator.sample_spec(world.rng), f"{name}-{i}") for i in range(count)]


def training_tasks(count: int, seed: int) -> list[Task]:
    """Return clean tasks from the training side, as hard as the held-out ones."""
    world = World(random.Random(seed), heldout=False, weights=HARD)
    specs = generator.sample_specs(seed, count)
    return [world.task(spec, f"clean-{i}") for i, spec in enumerate(specs)]


# ------------------------------------------------------------------------------ the text
def incomplete(rng: random.Random, calls: list[Call], habit: float) -> list[Call]:
    """Return the calls without the calls and arguments that the habit leaves out."""

    def kept(items) -> list:
        return [item for i, item in enumerate(items) if i == 0 or rng.random() >= habit]

    return [Call(c.name, dict(kept(c.arguments.items()))) for c in kept(calls)]


def without(rng: random.Random, text: str, low: int) -> str:
    """Return the text without one of its characters, at place `low` or later."""
    cut = rng.randrange(low, len(text))
    return text[:cut] + text[cut + 1 :]


def solver_text(world: World, task: Task, noise: float, habit: float) -> Exchange:
    """Return a Solver prompt and completion; with probability `noise` one thing in it is wrong."""
    rng = world.rng
    calls = incomplete(rng, task.calls, habit)
    flaws = ["tool", "drop", "value", "swap", "json", "tag", "call"]
    flaw = rng.choice(flaws) if rng.random() < noise else None
    calls = flawed_calls(world, task, calls, flaw)
    answer = json.dumps([c.to_json() for c in calls])
    if flaw == "json":
        answer = without(rng, answer, len(answer) // 2)
    needs = " and ".join(f"{c.name}({', '.join(c.arguments)})" for c in calls)
    text = (
        f"<think>\nThe request needs {needs}.\n</think>\n"
        f"<tool_call_answer>\n{answer}\n</tool_call_answer>"
    )
    if flaw == "tag":
        tags = ["<tool_call_answer>\n", "\n</tool_call_answer>", "<think>\n"]
        text = text.replace(rng.choice(tags), "")
    return solver.prompt(task), text


def flawed_calls(world: World, task: Task, calls: list[Call], flaw: str | None) -> list[Call]:
    """Return a Solver's calls with this flaw."""
    rng = world.rng
    first = calls[0].arguments
    last = calls[-1].arguments
    if flaw == "tool":
        calls[0] = Call(rng.choice(task.tools).name, first)
    elif flaw == "drop" and last:
        last.pop(rng.choice(sorted(last)))
    elif flaw == "value" and last:
        name = rng.choice(sorted(last))
        last[name] = world.value(name)
    elif flaw == "swap" and len(first) > 1:
        a, b = rng.sample(sorted(first), 2)
        first[a], first[b] = first[b], first[a]
    elif flaw == "call":
        calls = calls[:1] if len(calls) > 1 else calls * 2
    return calls


def flawed(world: World, task: Task) -> tuple[Task, str | None]:
    """Return a task with one thing wrong, as a weak Generator writes it, and the flaw's name."""
    rng = world.rng
    flaw = rng.choice(["menu", "value", "missing", "extra", "tool", "json", "block"])
    tools = list(task.tools)
    calls = [Call(c.name, dict(c.arguments)) for c in task.calls]
    arguments = calls[-1].arguments
    name = rng.choice(sorted(arguments) or [""])
    if flaw == "menu":
        gone = rng.choice(tools)
        tools = [t for t in tools if t is not gone] or tools
    elif flaw == "value" and name:
        arguments[name] = world.value(name)
    elif flaw == "missing" and name:
        arguments.pop(name)
    elif flaw == "extra":
        calls.append(calls[0])
    elif flaw == "tool":
        calls[-1] = Call(world.tool(task.domain, 1, set()).name, arguments)
    return replace(task, tools=tools, calls=calls), flaw


def generator_text(world: World, spec: Spec, task: Task, noise: float, habit: float) -> Exchange:
    """Return a Generator prompt and completion, with noise and habit as in the Solver's."""
    rng = world.rng
    flaw = None
    outlines = ", ".join(generator.outline(tool) for tool in task.tools)
    needs = " and ".join(plan(call) for call in task.calls)
    if rng.random() < noise:
        task, flaw = flawed(world, task)
    task = replace(task, calls=incomplete(rng, task.calls, habit))
    menu = json.dumps([t.to_json() for t in task.tools])
    answer = json.dumps([c.to_json() for c in task.calls])
    if flaw == "json":
        menu = without(rng, menu, 0)
    text = (
        f"<think>\nThe menu is {outlines}. The request needs {needs}.\n</think>\n"
        f"<question>\n{task.question}\n</question>\n"
        f"<available_tools>\n{menu}\n</available_tools>\n"
        f"<tool_call_answer>\n{answer}\n</tool_call_answer>"
    )
    if flaw == "block":
        tags = ["</think>\n<question>\n", "\n</question>", "\n</available_tools>"]
        text = text.replace(rng.choice(tags), "")
    return generator.prompt(spec), text


def plan(call: Call) -> str:
    """Return a call in short form, as this Generator plans it."""
    return f"{call.name}({', '.join(f'{a} {v}' for a, v in call.arguments.items())})"


def judge_text(world: World, task: Task) -> Exchange:
    """Return a judge prompt and its digit: 4 or 5 if clean, 1 to 3 if flawed; 1 in 4 is a guess."""
    rng = world.rng
    score = rng.choice([4, 5, 5])
    if rng.random() < 0.5:
        task, flaw = flawed(world, task)
        score = rng.choice([4, 5]) if flaw in ("json", "block") else rng.choice([1, 2, 2, 3])
    if rng.random() < 0.25:
        score = rng.randint(1, 5)
    return solver.judge_prompt(task), str(score)


def write(rng: random.Random, noise: float, habit: float) -> Exchange:
    """Return a training text: 5 of 10 are the Generator's, 4 the Solver's, 1 the judge's."""
    role = rng.random()
    if role < 0.5:
        world = World(rng, heldout=False, weights=WRITTEN, in_order=True)
        spec = generator.sample_spec(rng, p_large_menu=0.2)
        return generator_text(world, spec, world.task(spec), noise, habit)
    world = World(rng, heldout=False, weights=ASKED)
    task = world.task(generator.sample_spec(rng, p_large_menu=0.25))
    return judge_text(world, task) if role > 0.9 else solver_text(world, task, noise, habit)


# ------------------------------------------------------------------------------ the tokenizer
def make_tokenizer(texts: list[str], size: int) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE; only lower-case words may include a space or _ before them."""
    pattern = Regex(r"[ _]?[a-z]+|[A-Z][a-z]?|[0-9]{1,2}|\s|[^A-Za-z0-9\s]")
    split = pre_tokenizers.Split(pattern, "isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
    bpe.decoder = decoders.ByteLevel()
    bpe.add_special_tokens(special)
    bpe.add_tokens([AddedToken(text, normalized=False) for text in GLUE])
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(GLUE),
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=(HERE / "chat_template.jinja").read_text(encoding="utf-8"),
        clean_up_tokenization_spaces=False,
    )


def encode(tokenizer: PreTrainedTokenizerFast, chat: Chat, completion: str) -> list[int]:
    """Return the ids of a whole exchange, the end token included."""
    text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    return tokenizer(text + completion + "<|im_end|>", add_special_tokens=False)["input_ids"]


# ------------------------------------------------------------------------------ the model
def make_model(vocabulary: int, eos: int, pad: int, hidden: int = HIDDEN) -> LlamaForCausalLM:
    """Return a Llama small enough for a laptop; many small heads help it to learn copying.

    Not a Qwen2: for that name AutoTokenizer would replace our rule for splitting text with its own,
    and the model would read other tokens than it was trained on.
    """
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=4,
        num_attention_heads=hidden // HEAD,
        num_key_value_heads=hidden // HEAD // 2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        rope_theta=10_000.0,
        bos_token_id=None,
        eos_token_id=eos,
        pad_token_id=pad,
        selfplay_defaults="tiny",  # the settings of config.TINY are for this model
    )
    return LlamaForCausalLM(config)


def copy_batches(rows: int, vocabulary: int) -> Batches:
    """Yield random ids, a gap, the same ids again; only the second copy has labels."""
    while True:
        length = int(torch.randint(8, 41, ()))
        gap = int(torch.randint(0, 40, ()))
        ids = torch.randint(0, vocabulary, (rows, length + gap))
        both = torch.cat([ids, ids[:, :length]], 1)
        labels = both.clone()
        labels[:, : length + gap + 1] = -100  # the first id of the copy is unpredictable
        yield both, labels


def text_batches(texts: list[list[int]], rows: int, pad: int, seed: int) -> Batches:
    """Yield texts of similar length, in random order."""
    rng = random.Random(seed)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    batches = [order[i : i + rows] for i in range(0, len(order) - rows + 1, rows)]
    while True:
        for batch in rng.sample(batches, len(batches)):
            width = max(len(texts[i]) for i in batch)
            ids = torch.tensor([texts[i] + [pad] * (width - len(texts[i])) for i in batch])
            yield ids, ids.masked_fill(ids == pad, -100)


def train(model: LlamaForCausalLM, batches: Batches, steps: int, lr: float, decay: float) -> None:
    """Train on the next token with AdamW; a cosine takes the rate to a tenth in `decay` steps."""
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
            seconds = time.time() - began
            print(
                f"step {step + 1} of {steps}, loss {loss.item():.3f}, {seconds:.0f} s", flush=True
            )


def make(out: Path, seed: int, part: float, hidden: int) -> None:
    """Make everything; `part` scales the number of texts and of steps."""
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    counts = [COPY_STEPS, CLEAN_STEPS, LATE_STEPS, HABIT_STEPS, TEXTS]
    copy, clean, late, habit, texts = [int(part * count) for count in counts]
    rng = random.Random(seed)
    flawless = [write(rng, noise=0.0, habit=0.0) for _ in range(texts)]
    rng = random.Random(seed + 1)
    weak = [write(rng, NOISE, HABIT) for _ in range(ROWS * habit)]
    sample = [chat[-1]["content"] + completion for chat, completion in flawless[: texts // 5]]
    tokenizer = make_tokenizer(sample, VOCABULARY)
    size = len(tokenizer)
    pad = tokenizer.pad_token_id
    flawless = [encode(tokenizer, *text) for text in flawless]
    weak = [encode(tokenizer, *text) for text in weak]
    model = make_model(size, tokenizer.eos_token_id, pad, hidden)
    print(f"{model.num_parameters():,} parameters, {size} tokens in the vocabulary")
    train(model, copy_batches(ROWS, size), copy, 2e-3, math.inf)
    train(model, text_batches(flawless, ROWS, pad, seed), clean, 2e-3, 2600)
    train(model, text_batches(flawless, ROWS, pad, seed + 1), late, 5e-4, 600)
    save(model, tokenizer, out / "undamaged")
    train(model, text_batches(weak, ROWS, pad, seed), habit, 1e-3, HABIT_STEPS)
    save(model, tokenizer, out)
    for name, count, task_seed in (("heldout", 480, 1), ("dev", 240, 2)):
        tasks = heldout_tasks(name, count, task_seed)
        write_jsonl(out / f"{name}.jsonl", [task.to_json() for task in tasks])


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the model and its tokenizer."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("tiny.make", description=__doc__, formatter_class=raw)
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", type=float, default=1.0, help="share of texts and steps to make")
    parser.add_argument("--hidden", type=int, default=HIDDEN, help="width, a multiple of 32")
    a = parser.parse_args()
    make(a.out, a.seed, a.part, a.hidden)
