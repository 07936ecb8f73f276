"""The loop with a small model of each family, its weights random but for two texts that it has learned.

What differs between families is what breaks loops: chat templates with and without a system role or
missing, one or several end ids, pad = end, tied and untied heads, more ids in the model than in the
tokenizer, a template that thinks by itself, attention that the hand-written rollout does not support.
"""

import json
import random
import shutil
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
import transformers
from conftest import ROOT

import generator
import grpo
import rollout
import solver
from config import Config
from errors import UnusableModel
from eval import load_tasks
from plumbing import shared_prefix
from plumbing.player import Player
from rollout import Rollout, SamplingParams
from scripts import ask
from template import Template
from tiny.make import WRITTEN, World, generator_text, solver_text

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


SHORT = {
    "generator": Template("Reply in the usual form.", generator.USER),
    "solver": Template("Reply in the usual form.", solver.USER),
}


def make(folder, family, learned=True):
    """Write a small model of this family to a folder; if `learned`, it knows one task by heart."""
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
    """Train the model to answer any spec with one task, and that task right half of the time."""
    rng = random.Random(1)
    world = World(rng, heldout=False, weights=WRITTEN)
    spec = generator.Spec("weather", "single_turn", 3, 1)
    task = world.task(spec)
    invented = generator_text(world, spec, task, 0.0, 0.0)[1]
    chat = solver.prompt(task, SHORT["solver"])
    right = solver_text(world, task, 0.0, 0.0)[1]
    wrong = right.replace(task.calls[0].name, "no_tool")
    optimizer, losses = torch.optim.AdamW(player.model.parameters(), 1e-2), [1]
    while losses[0] > 0.01:
        asked = generator.prompt(generator.sample_spec(rng), SHORT["generator"])
        losses = [
            token_loss(player, *row) for row in ((asked, invented), (chat, right), (chat, wrong))
        ]
        optimizer.zero_grad()
        sum(losses).backward()
        optimizer.step()


def token_loss(player, chat, text):
    prompt = player.ids(chat)
    answer = player.tokenizer(text, add_special_tokens=False)["input_ids"] + player.eos_ids[-1:]
    logits = player.model(input_ids=torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
    return F.cross_entropy(logits, torch.tensor(answer))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_smoke_run_passes_with_a_model_of(family, tmp_path, run_here):
    (tmp_path / "base").mkdir()
    make(tmp_path / "base", family)
    options = ["--smoke", "--model", str(tmp_path / "base"), "--max-new-tokens", "128"]
    for role, short in SHORT.items():  # the full prompts take long and make no difference here
        path = tmp_path / f"{role}.txt"
        path.write_text(f"{short.system}\n---\n{short.user}")
        options += [f"--{role}-prompt", str(path)]
    code, out, err = run_here(tmp_path, *options, *FAMILIES[family][3])
    assert code == 0, out + err
    folder = tmp_path / "runs/smoke-base/iter1"
    assert len(load_tasks(folder / "tasks.jsonl")) >= 1
    trained = Player(str(folder / "solver"))
    assert trained.model.config.model_type.startswith(family.lower())


def test_for_a_family_that_the_hand_written_rollout_cannot_serve_a_line_says_what_to_do(
    tmp_path,
    run_here,
):
    make(tmp_path, "Gemma3", learned=False)
    code, _, err = run_here(tmp_path, "--smoke", "--model", str(tmp_path))
    assert code == 2 and "--sampler hf" in err


def test_the_same_family_answers_a_single_question_with_the_other_sampler(tmp_path, capsys):
    make(tmp_path, "Gemma3", learned=False)
    (tmp_path / "tools.json").write_text('[{"name": "f"}]')
    command = ["Hi", "--model", str(tmp_path), "--tools", str(tmp_path / "tools.json")]
    assert ask.main(command) == 2
    assert "--sampler hf" in capsys.readouterr().err
    assert ask.main([*command, "--sampler", "hf", "--max-new-tokens", "4"]) == 1
    assert "no call" in capsys.readouterr().err


def test_a_penalty_of_the_checkpoint_is_not_taken_over_and_all_end_ids_are_saved(tmp_path):
    make(tmp_path, "Llama", learned=False)
    written = {"repetition_penalty": 1.3, "eos_token_id": [0, 2]}
    (tmp_path / "generation_config.json").write_text(json.dumps(written))
    player = Player(str(tmp_path))
    player.save(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved/generation_config.json").read_text())
    assert saved["eos_token_id"] == player.eos_ids and {0, 2} <= set(player.eos_ids)
    assert "repetition_penalty" not in saved


def test_gradient_checkpointing_on_request(tmp_path):
    make(tmp_path, "Llama", learned=False)
    player = Player(str(tmp_path))
    weights, reference = player.prepare_training(Config(checkpointing="on"))
    assert len(weights) > 5 and player.model.is_gradient_checkpointing
    assert not any(p.requires_grad for p in reference.parameters())


@pytest.mark.parametrize("family", ["Cohere", "RecurrentGemma", "FalconH1", "Bert", "Llama"])
def test_a_model_that_changes_its_logits_is_not_trained_on_a_loss_that_does_not(family):
    torch.manual_seed(0)
    special = {
        "Cohere": dict(logit_scale=0.0625),
        "RecurrentGemma": dict(lru_width=32, num_hidden_layers=3, logits_soft_cap=1.0),
        "FalconH1": dict(lm_head_multiplier=0.5, mamba_d_ssm=64, mamba_n_heads=4, mamba_d_head=16),
        "Bert": dict(is_decoder=True),
    }.get(family, {})
    config = getattr(transformers, f"{family}Config")(**LAYERS | special)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    player = SimpleNamespace(model=model)
    if family == "Llama":
        return Player.refuse_other_logits(player)
    with pytest.raises(UnusableModel, match="changes its logits"):
        Player.refuse_other_logits(player)
    if family == "FalconH1":  # its cache layer is a subclass that remembers more
        assert not shared_prefix.supports(model, [Rollout([5], [6], True)])


def test_learned_positions_that_do_not_suffice_are_refused(tmp_path):
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(ROOT / "tiny" / name, tmp_path)
    settings = OTHERS["GPT2"][0] | dict(vocab_size=2400, eos_token_id=2)
    transformers.GPT2LMHeadModel(transformers.GPT2Config(**settings)).save_pretrained(tmp_path)
    player, chat = Player(str(tmp_path)), [{"role": "user", "content": "Hello"}]
    room = 64 - len(player.ids(chat))
    assert len(player.sample([chat], 1, room, 0)) == 1
    with pytest.raises(UnusableModel, match="64 learned positions.*--max-new-tokens"):
        player.sample([chat], 1, room + 1, 0)


def test_checkpointing_brings_no_dropout(tmp_path):
    make(tmp_path, "Llama", learned=False)
    player = Player(str(tmp_path))
    player.model.model.layers[0].self_attn.attention_dropout = 0.5
    player.model.lm_head.add_module("drop", torch.nn.Dropout(0.5))
    player.prepare_training(Config(checkpointing="on"))
    assert (
        player.model.model.layers[0].self_attn.attention_dropout == player.model.lm_head.drop.p == 0
    )


SMALL = dict(hidden_size=32, num_attention_heads=2, vocab_size=64)
LAYERS = dict(SMALL, num_hidden_layers=2, num_key_value_heads=1, intermediate_size=64, head_dim=16)
OTHERS = {  # name in transformers -> its configuration, whether prompts are shared, served by hand
    "GPT2": (dict(n_embd=32, n_layer=2, n_head=2, n_positions=64, vocab_size=64), True, True),
    "GPTNeoX": (dict(SMALL, num_hidden_layers=2, intermediate_size=64), True, True),
    "Bloom": (dict(hidden_size=32, n_layer=2, n_head=2, vocab_size=64), False, False),
    "Nemotron": (dict(LAYERS), True, False),
    "DiffLlama": (dict(LAYERS, num_key_value_heads=2, attention_dropout=0.0), True, False),
    "Mamba": (dict(hidden_size=32, num_hidden_layers=2, state_size=4, vocab_size=64), False, False),
    "Gemma3Text": (dict(LAYERS, sliding_window=4), False, False),
    "GptOss": (
        dict(LAYERS, num_local_experts=2, num_experts_per_tok=1, sliding_window=512),
        True,
        False,
    ),
    "Lfm2": (dict(LAYERS, head_dim=16, layer_types=["conv", "full_attention"]), False, False),
}


@pytest.mark.parametrize("family", OTHERS)
def test_the_update_is_right_for_any_cache_and_the_rollout_right_or_refused(family):
    settings, shared, served = OTHERS[family]
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**settings)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    of = {(5, 6, 7): ([9, 2], [8, 30, 31, 2]), (5,): ([9, 9, 9], [2])}
    rollouts = [Rollout(list(prompt), c, True) for prompt, some in of.items() for c in some]
    assert shared_prefix.supports(model, rollouts) == shared
    with torch.no_grad():
        found = grpo.token_logprobs(model, rollouts, 1.0)[0]
        for row, r in zip(found, rollouts):  # each alone, by the model as transformers has it
            logits = model(input_ids=torch.tensor([r.prompt + r.completion])).logits[0]
            logps = logits[len(r.prompt) - 1 : -1].log_softmax(-1)
            alone = logps.gather(1, torch.tensor(r.completion)[:, None])[:, 0]
            assert (row[: len(alone)] - alone).abs().max() < 1e-5
    asked = (model, [[5, 6, 7], [8]], 2, SamplingParams(6, 0, [2]), torch.rand(2, 2, 6))
    if served:
        assert rollout.sample(*asked) == rollout.sample_hf(*asked)
    else:
        with pytest.raises(UnusableModel, match="--sampler hf"):
            rollout.sample(*asked)
