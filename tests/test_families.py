"""The loop with a small model of each family, its weights random but for two texts that it has learned.

What differs between families is what breaks loops: chat templates with and without a system role or
missing, one or several end ids, pad = end, tied and untied heads, more ids in the model than in the
tokenizer, a template that thinks by itself, attention that the hand-written rollout cannot serve.
"""

import json
import random
import shutil

import pytest
import torch
import torch.nn.functional as F
import transformers
from conftest import ROOT
from test_selfplay import run_here  # noqa: F401, a fixture

import generator
from eval import load_tasks
from player import Player
from tiny.make import TEXT, World, generator_text, solver_text

SYSTEMLESS = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}<|im_start|>assistant\n"
)
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n{% if enable_thinking is not false %}<think>\nHm.{% endif %}"
)
FAMILIES = {  # name -> classes in transformers, what is special, chat template, options of the run
    "Qwen2": ("Qwen2", dict(tie_word_embeddings=True, vocab_size=2400), None, []),
    "Qwen3": ("Qwen3", dict(tie_word_embeddings=True), THINKING, []),
    "Llama": ("Llama", dict(tie_word_embeddings=False, eos_token_id=[0, 2]), "", []),
    "Gemma3": ("Gemma3", dict(sliding_window=64), SYSTEMLESS, ["--sampler", "hf"]),
}


def make(folder, family, learned=True):
    """A folder with a small model of this family; if `learned`, it knows one task by heart."""
    prefix, special, template, _ = FAMILIES[family]
    config = "Gemma3TextConfig" if prefix == "Gemma3" else f"{prefix}Config"
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(ROOT / "tiny" / name, folder)
    if template:
        (folder / "chat_template.jinja").write_text(template)
    elif template == "":
        (folder / "chat_template.jinja").unlink()
    torch.manual_seed(0)
    shape = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, head_dim=16)
    shape |= dict(num_attention_heads=4, num_key_value_heads=2, vocab_size=2304)
    ends = dict(bos_token_id=None, eos_token_id=2, pad_token_id=2)
    model = getattr(transformers, f"{prefix}ForCausalLM")(
        getattr(transformers, config)(**shape | ends | special)
    )
    model.save_pretrained(folder)
    if learned:
        player = Player(str(folder))
        learn(player)
        player.model.save_pretrained(folder)


def learn(player):
    """Train the player's model on one text of each role until it hardly errs."""
    world = World(random.Random(1), heldout=False, weights=TEXT)
    spec = generator.Spec("weather", "single_turn", 3, 1)
    task = world.task(spec)
    rows = []
    for chat, text in (
        generator_text(world, spec, task, 0.0),
        solver_text(world, task, 0.0, 0.0),
    ):
        prompt = player.ids(chat)
        answer = player.tokenizer(text, add_special_tokens=False)["input_ids"] + player.end[-1:]
        rows.append((prompt + answer, len(prompt)))
    optimizer = torch.optim.AdamW(player.model.parameters(), 5e-3)
    for _ in range(400):
        loss = 0
        for ids, start in rows:
            logits = player.model(input_ids=torch.tensor([ids])).logits[0, start - 1 : -1]
            loss = loss + F.cross_entropy(logits, torch.tensor(ids[start:])) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < 0.002:
            break


@pytest.mark.parametrize("family", FAMILIES)
def test_the_smoke_run_passes_with_a_model_of(family, tmp_path, run_here):  # noqa: F811
    (tmp_path / "base").mkdir()
    make(tmp_path / "base", family)
    options = ["--smoke", "--model", str(tmp_path / "base"), "--max-new-tokens", "320"]
    options += ["--candidates", "24", "--p-large-menu", "0"]
    code, out, err = run_here(tmp_path, *options, "--eval-tasks", "4", *FAMILIES[family][3])
    assert code == 0, out + err
    folder = tmp_path / "runs/smoke/iter1"
    assert len(load_tasks(folder / "tasks.jsonl")) >= 1
    trained = Player(str(folder / "solver"))
    assert trained.model.config.model_type.startswith(family.lower())
    saved = json.loads((folder / "solver/generation_config.json").read_text())["eos_token_id"]
    assert saved == trained.end and len(saved) == (2 if family == "Llama" else 1)  # `generate` stops, too


def test_a_family_that_the_hand_written_rollout_cannot_serve_is_told_what_to_do(
    tmp_path, run_here  # noqa: F811
):
    make(tmp_path, "Gemma3", learned=False)
    code, _, err = run_here(tmp_path, "--smoke", "--model", str(tmp_path))
    assert code == 2 and "--sampler hf" in err
