"""A player: a model, its tokenizer and its sampler.

Most causal language models on Hugging Face work, by hub name or folder: float32 master weights,
safetensors only, no code from the hub.  A chat goes in, completions come out.

    >>> player = Player("tiny")
    >>> player.tokenizer.decode(player.ids([{"role": "user", "content": "Hello"}]))
    '<|im_start|>user\\nHello<|im_end|>\\n<|im_start|>assistant\\n'
"""

import copy
import math
import zlib
from collections.abc import Iterable
from pathlib import Path

import torch
from transformers import GenerationConfig, PreTrainedModel

from config import Config
from errors import UnusableModel
from plumbing import distributed, precision
from plumbing.chat import (
    END_THINK,
    TRIAL,
    ChatFormat,
    save_date,
    saved_date,
    say_once,
)
from plumbing.distributed import gather, rank0_only, share, whole
from plumbing.loading import load_model
from plumbing.padding import batched, left_pad
from plumbing.runfolder import atomic_write
from rollout import SAMPLERS, Rollout, SamplingParams
from template import Chat

JUDGE_BATCH = 64  # prompts per forward pass of `next_token_logits`
UNFINISHED = (
    "No completion of a batch produced an end token ({ends}).  If a higher limit on new tokens "
    "changes nothing, name the model's end token as eos_token in its tokenizer_config.json."
)


def learned_positions(model: PreTrainedModel) -> float:
    """Return how many positions the model has embeddings for; infinity if it computes them."""
    names = [name for name, _ in model.named_parameters()]
    if any("position" in name or "wpe" in name for name in names):
        return getattr(model.config.get_text_config(), "max_position_embeddings", math.inf)
    return math.inf


def draw_uniforms(shape: tuple[int, ...], seed: int, device: torch.device) -> torch.Tensor:
    """Return numbers in [0, 1) on the CPU, the same for each device: (N, G, T).

    Float64, which rare tokens need; float32 for an Apple GPU, which has nothing wider.
    """
    rng = torch.Generator().manual_seed(seed)
    uniforms = torch.rand(shape, dtype=torch.float64, generator=rng)
    if device.type == "mps":
        return uniforms.float().clamp(max=1 - 2**-24)  # rounding may have made a 1
    return uniforms


def switch_off_dropout(model: PreTrainedModel) -> None:
    """Set every dropout rate to 0: in Dropout modules, and in the attributes of other modules."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name, value in list(vars(module).items()):
            if "drop" in name and type(value) is float:
                setattr(module, name, 0.0)


class Player:
    """One of the two players.  The Solver is also the judge.

    `rows` limits the completions that are sampled at once; "auto" leaves it to the sampler.
    `date` is today's date for the chat template, YYYY-MM-DD; by default the one that the checkpoint
    was trained with, else the day on which the process started.
    """

    def __init__(
        self,
        name: str,
        device: str = "cpu",
        sampler: str = "hand",
        frozen: bool = False,
        rows: str = "auto",
        date: str = "",
    ) -> None:
        self.model, self.tokenizer = load_model(name, device)
        self.chat = ChatFormat(self.tokenizer, date or saved_date(self.tokenizer))
        self.chat.prompt(TRIAL)  # a broken template fails now, not hours later
        self.sampler = SAMPLERS[sampler]
        self.rows = rows
        self.positions = learned_positions(self.model)
        self.eos_ids = self.find_eos_ids(name)
        # No other setting is kept: a penalty would sample from a policy other than the trained one.
        self.model.generation_config = GenerationConfig(eos_token_id=self.eos_ids)
        if frozen:  # a model that is not trained needs no float32 weights
            precision.cast_weights(self.model, precision.dtype_for(self.model))

    def find_eos_ids(self, name: str) -> list[int]:
        """Return all ids that end a completion: those that the files name, and the template's."""
        named = self.model.generation_config.eos_token_id
        ids = set(named) if isinstance(named, list) else {named}
        ids |= {self.tokenizer.eos_token_id, self.chat.end_of_turn()}
        ids.discard(None)
        if not ids:
            raise UnusableModel(
                f"{name} names no end token, so no completion would ever end: set eos_token in its "
                "tokenizer_config.json."
            )
        return sorted(ids)

    # ------------------------------------------------------------------------- chats and texts

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text that already has its special tokens."""
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def encode_all(self, texts: list[str]) -> list[list[int]]:
        """Do what `encode` does for many texts at once, which is faster on many cores."""
        if not texts:
            return []
        return self.tokenizer(texts, add_special_tokens=False)["input_ids"]

    def ids(self, chat: Chat) -> list[int]:
        """Return a chat as ids, up to where the assistant begins to write."""
        return self.encode(self.chat.prompt(chat))

    def text(self, rollout: Rollout, chat: Chat = ()) -> str:
        """Return a completion as text, without its end token.

        If the `chat` or the template contains the beginning of the answer, that comes first.
        """
        ids = rollout.completion[:-1] if rollout.finished else rollout.completion
        return self.chat.begin(chat) + self.tokenizer.decode(ids, skip_special_tokens=False)

    # -------------------------------------------------------------------------------- sampling

    def sample(
        self,
        chats: Iterable[Chat],
        group: int,
        max_new_tokens: int,
        temperature: float,
        seed: int = 0,
    ) -> list[Rollout]:
        """Return `group` completions per chat, prompt-major.  The processes share the prompts."""
        prompts = self.encode_all([self.chat.prompt(chat) for chat in chats])
        self.check_positions(prompts, max_new_tokens)
        uniforms = draw_uniforms((len(prompts), group, max_new_tokens), seed, self.model.device)
        mine = self.sampler(
            self.sampling_model(),
            share(prompts),
            group,
            SamplingParams(max_new_tokens, temperature, self.eos_ids, self.rows),
            share(uniforms),
        )
        answers = [(rollout.completion, rollout.finished) for rollout in mine]
        rollouts = []
        for prompt, rows in zip(prompts, gather(list(batched(answers, group)))):
            rollouts += [Rollout(prompt, completion, finished) for completion, finished in rows]
        if rollouts and not any(rollout.finished for rollout in rollouts):
            say_once(UNFINISHED.format(ends=self.tokenizer.decode(self.eos_ids)))
        return rollouts

    def check_positions(self, prompts: list[list[int]], max_new_tokens: int) -> None:
        """Raise UnusableModel if a prompt and its completion may outgrow learned positions."""
        longest = max(map(len, prompts), default=0) + max_new_tokens
        if longest > self.positions:
            raise UnusableModel(
                f"the model has {self.positions} learned positions, and a prompt with its "
                f"completion may take {longest}: lower --max-new-tokens, or name another --model."
            )

    def sampling_model(self) -> PreTrainedModel:
        """Return the model that samples: this player's, or a copy with its current weights."""
        return precision.sampling_model(self.model)

    def digit_logits(self, chats: Iterable[Chat]) -> torch.Tensor:
        """Return the logits of "1" to "5" as the answer's first token, (N, 5).

        Nothing is sampled.  A <think> block that the template has opened is closed first.
        """
        ending = END_THINK if self.chat.prefill() else ""
        prompts = [self.encode(self.chat.prompt(chat) + ending) for chat in chats]
        digits = [self.encode(digit)[-1] for digit in "12345"]
        mine = next_token_logits(self.model, share(prompts), digits)
        return torch.tensor(gather(mine.tolist())).view(-1, 5)  # Sec. 3.2.1

    # -------------------------------------------------------------------------------- training

    @torch.no_grad()
    def refuse_other_logits(self) -> None:
        """Raise UnusableModel unless the logits are those of the head alone, as in grpo.py.

        Some families scale or cap them, or have a layer before the head.
        """
        kind = self.model.config.model_type
        head = self.model.get_output_embeddings()
        body = self.model.base_model
        if body is self.model:
            raise UnusableModel(
                f"a {kind} model has no body apart from its head, which the loss needs: name a "
                "--model of another family."
            )
        ids = torch.arange(4, device=self.model.device)[None]
        logits = self.model(input_ids=ids).logits
        hidden = body(input_ids=ids)[0]
        same_width = head is not None and head.weight.shape[-1] == hidden.shape[-1]
        if not same_width or not torch.allclose(head(hidden), logits, rtol=1e-4, atol=1e-4):
            raise UnusableModel(
                f"a {kind} model changes its logits after the head, which the loss does not: name "
                "a --model of another family."
            )

    def prepare_training(
        self, cfg: Config
    ) -> tuple[list[torch.nn.Parameter], PreTrainedModel | None]:
        """Prepare the model; return its weights and, with a KL, pi_ref: a copy of the model."""
        self.refuse_other_logits()
        sharded = cfg.shard == "on" and distributed.size > 1  # one process has nothing to share
        reference = None
        if cfg.beta:
            reference = copy.deepcopy(self.model).requires_grad_(False)
            if not sharded:
                precision.cast_weights(reference, precision.dtype_for(self.model))
        if sharded:
            precision.keep_copy(self.model, gradients=False)
            distributed.shard(self.model)
            if reference is not None:
                distributed.shard(reference)
        if cfg.checkpointing == "on":
            self.model.gradient_checkpointing_enable()
            self.model.train()  # checkpointing works in train mode only, which brings dropout
            switch_off_dropout(self.model)
        return list(self.model.parameters()), reference

    # ---------------------------------------------------------------------------------- saving

    def fingerprint(self) -> str:
        """Return a checksum of the weights, which distinguishes models of the same name."""
        wide = torch.float32 if self.model.device.type == "mps" else torch.float64
        sums = [parameter.detach().sum(dtype=wide) for parameter in self.model.parameters()]
        numbers = torch.stack(sums).float().cpu().numpy()
        return f"{zlib.crc32(numbers.tobytes()):08x}"

    def save(self, folder: Path) -> None:
        """Write a checkpoint that `from_pretrained` loads; it appears whole or not at all."""
        weights = {name: whole(tensor) for name, tensor in self.model.state_dict().items()}
        self.write(folder, weights)

    @rank0_only
    def write(self, folder: Path, weights: dict[str, torch.Tensor]) -> None:
        """Write the checkpoint of `save`, with the date that its prompts had."""
        if self.chat.asks_for_date():
            save_date(self.tokenizer, self.chat.date)
        with atomic_write(folder) as part:
            self.model.save_pretrained(part, state_dict=weights)
            self.tokenizer.save_pretrained(part)


@torch.inference_mode()
def next_token_logits(
    model: PreTrainedModel, prompts: list[list[int]], tokens: list[int]
) -> torch.Tensor:
    """Return the logits of `tokens` as the next token of each prompt, float32, (N, len(tokens))."""
    columns = torch.tensor(tokens, device=model.device)
    logits = torch.empty(len(prompts), len(tokens))
    for rows in batched(range(len(prompts)), JUDGE_BATCH):
        ids, mask, positions = left_pad([prompts[row] for row in rows], model.device)
        out = model(input_ids=ids, attention_mask=mask, logits_to_keep=1, position_ids=positions)
        logits[list(rows)] = out.logits[:, -1, columns].float().cpu()
    return logits
