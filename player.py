"""A player: a model, its tokenizer, and the sampler it speaks through.

Any causal language model of Hugging Face, by hub name or folder: float32 master weights,
safetensors only, no code from the hub.  A chat goes in, completions come out.

    [{"role": "user", "content": "Hello"}]      # one raw example: a chat of one message
"""
from __future__ import annotations

import copy
import os
import shutil
from pathlib import Path
from typing import Callable, Iterable

import torch
import transformers
from jinja2 import TemplateError
from safetensors import SafetensorError
from transformers import (AutoModelForCausalLM, AutoTokenizer, PreTrainedModel,
                          PreTrainedTokenizerBase)

import distributed
from distributed import gather, share, whole
from rollout import SAMPLERS, Rollout, UnusableModel, next_token_logits

transformers.utils.logging.disable_progress_bar()  # a bar for each checkpoint would drown ours
HERE = Path(__file__).resolve().parent
CHATML = ("{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
          "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")

def load_model(name: str, device: str = "cpu") -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A float32 model and its tokenizer; safetensors only, no remote code, else UnusableModel.

    "tiny" is the base model that ships, wherever the command was started.
    """
    if device not in ("cpu", "cuda") or device == "cuda" and not torch.cuda.is_available():
        raise UnusableModel(f"--device {device}: there is cpu, and cuda where a GPU is.")
    name = str(HERE / "tiny") if name == "tiny" else name
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(name, trust_remote_code=False,
                                                     use_safetensors=True, dtype=torch.float32)
    except (OSError, ValueError, SafetensorError) as error:
        here = os.path.isdir(name)
        what = "holds no usable model" if here else "is neither a folder nor in the cache"
        raise UnusableModel(
            f"--model {name} {what} ({str(error).splitlines()[0][:120]}). Name a folder with "
            "config.json and *.safetensors, or go online once to fill the cache; "
            "'python selfplay.py' without --model needs no network.") from None
    if tokenizer.chat_template is None:
        print(f"{name} has no chat template: a plain ChatML one is used.")
        tokenizer.chat_template = CHATML
    return model.to(device).eval(), tokenizer

class Player:
    """A model, its tokenizer, and the sampler it speaks through."""

    def __init__(self, name: str, device: str = "cpu", sampler: str = "hand",
                 frozen: bool = False) -> None:
        self.model, self.tokenizer = load_model(name, device)
        self.sampler, self.copy = SAMPLERS[sampler], None
        self.dtype = torch.float32 if self.model.device.type == "cpu" else torch.bfloat16
        if frozen:  # it only speaks, so the weights that are trained need no place
            self.model.to(self.dtype)
        named = self.model.generation_config.eos_token_id  # one, several, or none
        ids = {self.tokenizer.eos_token_id, self.tokenizer.get_vocab().get("<|im_end|>")}
        self.end = sorted((ids | set(named if isinstance(named, list) else [named])) - {None})
        self.model.generation_config.eos_token_id = self.end  # for `generate`, once it is saved

    def ids(self, chat: list[dict[str, str]]) -> list[int]:
        """A chat as ids, up to where the assistant begins to write."""
        def as_text(chat):  # thinking is asked for in words; a template's own way is switched off
            return self.tokenizer.apply_chat_template(chat, add_generation_prompt=True,
                                                      tokenize=False, enable_thinking=False)
        try:
            text = as_text(chat)
        except TemplateError:  # one without a system role: its text goes before the user's
            text = as_text([{"role": "user", "content": "\n\n".join(m["content"] for m in chat)}])
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def ask(self, chats: Iterable[list[dict[str, str]]], group: int, max_new_tokens: int,
            temperature: float, seed: int = 0) -> list[Rollout]:
        """`group` completions of each chat, prompt-major; the processes share the prompts."""
        prompts, rng = list(map(self.ids, chats)), torch.Generator().manual_seed(seed)
        draws = torch.rand(len(prompts), group, max_new_tokens, dtype=torch.float64, generator=rng)
        mine = self.sampler(self.speaking(), share(prompts), group, max_new_tokens, temperature,
                            self.end, share(draws))
        told = gather([[(r.completion, r.finished) for r in mine[i:i + group]]
                       for i in range(0, len(mine), group)])
        return [Rollout(prompt, *one) for prompt, some in zip(prompts, told) for one in some]

    def speaking(self) -> PreTrainedModel:
        """The model that samples: on a GPU a bfloat16 copy, brought up to date with the weights."""
        if self.copy is None:
            if self.dtype == self.model.dtype:
                return self.model
            self.copy = copy.deepcopy(self.model).to(self.dtype).requires_grad_(False)
        for spoken, trained in zip(self.copy.parameters(), self.model.parameters()):
            spoken.copy_(whole(trained))
        return self.copy

    def text(self, rollout: Rollout) -> str:
        """A completion as text, without its end token."""
        ids = rollout.completion[:-1] if rollout.finished else rollout.completion
        return self.tokenizer.decode(ids, skip_special_tokens=False)

    def digit_logits(self, chats: Iterable[list[dict[str, str]]]) -> torch.Tensor:
        """The logits of "1" to "5" as the first token of the answer, (N, 5); nothing is sampled."""
        digits = [self.tokenizer(d, add_special_tokens=False)["input_ids"][-1] for d in "12345"]
        mine = next_token_logits(self.model, share(list(map(self.ids, chats))))[:, digits]
        return torch.tensor(gather(mine.tolist())).view(-1, 5)

    def shard(self, forward: Callable) -> None:
        """Spread what is trained over the processes; a whole copy speaks in each."""
        self.copy = copy.deepcopy(self.model).to(self.dtype).requires_grad_(False)
        distributed.shard(self.model, forward)

    def save(self, folder: Path) -> None:
        """Write a checkpoint that `from_pretrained` loads; it appears whole or not at all."""
        self._write(folder, distributed.to_write(self.model.named_parameters()))

    @distributed.first_alone
    def _write(self, folder: Path, weights: dict[str, torch.Tensor]) -> None:
        part = folder.with_name(folder.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        self.model.save_pretrained(part, state_dict=weights)
        self.tokenizer.save_pretrained(part)
        for file in filter(Path.is_file, part.rglob("*")):
            with open(file, "rb+") as f:
                os.fsync(f.fileno())
        part.rename(folder)
