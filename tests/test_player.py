"""A player: loading a model, and what speaks for it."""

import shutil

import pytest
import torch
import transformers
from conftest import ROOT, random_model
from safetensors.torch import load_file, save_file

from errors import UnusableModel
from plumbing import player
from plumbing.player import Player


def test_a_missing_model_is_an_error_that_says_what_to_do():
    with pytest.raises(UnusableModel, match="neither a folder nor in the cache.*needs no network"):
        player.load_model("nobody/no-such-model")


@pytest.mark.parametrize(
    "file, text, what",
    [
        ("model.safetensors", None, "the folder has no \\*.safetensors"),
        ("config.json", None, "the folder has no config.json"),
        ("config.json", "{", "cannot be read .*config.json"),
        ("config.json", '{"model_type": "nonesuch"}', "its model cannot be read .*nonesuch"),
        ("model.safetensors", "half", "its model cannot be read"),
        ("tokenizer.json", "{", "its tokenizer cannot be read"),
    ],
)
def test_what_is_wrong_in_a_folder_is_said(tmp_path, file, text, what):
    folder = shutil.copytree(player.ROOT / "tiny", tmp_path / "model")
    (folder / file).unlink()
    if text:
        (folder / file).write_text(text)
    with pytest.raises(UnusableModel, match=what):
        player.load_model(str(folder))


@pytest.mark.parametrize("change", ["missing", "of another shape"])
def test_a_weight_that_is_missing_or_of_another_shape_is_not_made_up(tmp_path, change):
    folder = shutil.copytree(player.ROOT / "tiny", tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    weights[name] = weights[name][:-1].clone()
    if change == "missing":
        del weights[name]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UnusableModel, match=f"1 weights are missing or not of the shape.*{name}"):
        player.load_model(str(folder))


def test_a_chat_template_without_system_role_gets_its_text_before_the_users():
    p = Player("tiny")
    p.tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
    )
    chat = [{"role": "system", "content": "Call tools."}, {"role": "user", "content": "Hello"}]
    assert p.tokenizer.decode(p.ids(chat)) == "<user>Call tools.\n\nHello"


def test_a_broken_chat_template_is_said_in_one_line():
    p = Player("tiny")
    p.tokenizer.chat_template = "{% if %}"
    with pytest.raises(UnusableModel, match="the model's chat template is broken"):
        p.ids([{"role": "user", "content": "Hello"}])


def test_in_another_precision_a_copy_speaks_that_follows_the_weights():
    p = Player("tiny")
    assert p.sampling_model() is p.model
    p.dtype = torch.bfloat16  # as on a GPU
    hello = [[{"role": "user", "content": "Hello"}]]
    assert len(p.sample(hello, 2, 4, 1.0)) == 2 and p.sampling_model().dtype == torch.bfloat16
    with torch.no_grad():
        p.model.get_input_embeddings().weight.zero_()
    assert p.sampling_model().get_input_embeddings().weight.abs().max() == 0
    assert p.model.dtype == torch.float32


def test_in_another_precision_positions_keep_theirs():
    model = player.cast_weights(random_model(), torch.bfloat16)
    assert model.dtype == torch.bfloat16
    assert {b.dtype for b in model.buffers()} == {torch.float32}  # as from_pretrained leaves them


def test_a_base_model_without_a_template_is_given_its_first_token(tmp_path):
    shutil.copytree(ROOT / "tiny", tmp_path / "base")
    (tmp_path / "base/chat_template.jinja").unlink()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "base")
    tokenizer.add_special_tokens({"bos_token": "<|begin|>"})
    for bos, start in (None, "<|im_start|>user"), ("<|begin|>", "<|begin|><|im_start|>user"):
        if bos:
            tokenizer.save_pretrained(tmp_path / "base")
        p = Player(str(tmp_path / "base"))
        text = p.tokenizer.decode(p.ids([{"role": "user", "content": "Hello"}]))
        assert text.startswith(start), text
