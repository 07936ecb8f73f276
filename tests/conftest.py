"""What the tests share: the path of the code, small random models, and where optional outside data lies."""

import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # no test asks the network; without one it would try for long
import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("TOOLR0_SHARED", ROOT.parent / "shared"))
ORACLE = Path(__file__).resolve().parent / "oracle"
sys.path.insert(0, str(ROOT))
torch.set_num_threads(min(2, torch.get_num_threads()))  # small models gain nothing from more


def random_model(cls=Qwen2ForCausalLM, config=Qwen2Config, seed: int = 0, **changes):
    """A tiny causal language model with random weights, wide enough apart that greedy choices are no ties."""
    torch.manual_seed(seed)
    shape = dict(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    model = cls(config(**{**shape, **changes}))
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.3) if parameter.ndim > 1 else None
    return model.eval()


@pytest.fixture
def model():
    return random_model()
