"""A player: loading a model, and what speaks for it."""

import pytest
import torch

import player
from player import Player
from rollout import UnusableModel


def test_a_missing_model_is_an_error_that_says_what_to_do():
    with pytest.raises(
        UnusableModel, match="neither a folder nor in the cache.*needs no network"
    ):
        player.load_model("nobody/no-such-model")


def test_a_chat_template_without_system_role_gets_its_text_before_the_users():
    p = Player("tiny")
    p.tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
    )
    chat = [{"role": "system", "content": "Call tools."}, {"role": "user", "content": "Hello"}]
    assert p.tokenizer.decode(p.ids(chat)) == "<user>Call tools.\n\nHello"


def test_in_another_precision_a_copy_speaks_that_follows_the_weights():
    p = Player("tiny")
    assert p.speaking() is p.model
    p.dtype = torch.bfloat16  # as on a GPU
    hello = [[{"role": "user", "content": "Hello"}]]
    assert len(p.ask(hello, 2, 4, 1.0)) == 2 and p.speaking().dtype == torch.bfloat16
    with torch.no_grad():
        p.model.get_input_embeddings().weight.zero_()
    assert p.speaking().get_input_embeddings().weight.abs().max() == 0
    assert p.model.dtype == torch.float32
