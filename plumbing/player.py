"""A player: a model, its tokenizer, and the sampler it speaks through.

Any causal language model of Hugging Face, by hub name or folder: float32 master weights,
safetensors only, no code from the hub.  A chat goes in, completions come out.

    >>> player, chat = Player("tiny"), [{"role": "user", "content": "Hello"}]  # of one message
    >>> player.tokenizer.decode(player.ids(chat))
    '<|im_start|>user\\nHello<|im_end|>\\n<|im_start|>assistant\\n'
"""

import copy
import math
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import transformers
from jinja2 import TemplateError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from errors import Lost, UnusableModel
from config import Config
from plumbing import distributed
from plumbing.distributed import gather, rank0_only, share, whole
from plumbing.padding import left_pad
from plumbing.runfolder import atomic_write
from rollout import SAMPLERS, Rollout, SamplingParams

transformers.utils.logging.disable_progress_bar()  # a bar for each checkpoint would drown ours
transformers.utils.logging.set_verbosity_error()  # what matters of a model's loading is checked
NEEDED = ("config.json", "*.safetensors", "tokenizer*")  # files of a model's folder
ROOT = Path(__file__).resolve().parent.parent
CHATML = (
    "{{ bos_token }}{% for m in messages %}"
    "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def load_model(name: str, device: str = "cpu") -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A float32 model and its tokenizer; safetensors only, no remote code, else UnusableModel.

    "tiny" is the base model that ships, wherever the command was started.
    """
    device = device or "cpu"
    if device not in ("cpu", "cuda") or device == "cuda" and not torch.cuda.is_available():
        raise UnusableModel(f"--device {device}: there is cpu, and cuda where a GPU is.")
    name = str(ROOT / "tiny") if name == "tiny" else name
    for file in NEEDED if Path(name).is_dir() else ():
        if not any(Path(name).glob(file)):
            raise UnusableModel(
                f"--model {name}: the folder has no {file}. Name one that has "
                f"{', '.join(NEEDED)}, as save_pretrained writes them."
            )
    read = "tokenizer"
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        read = "model"
        model, loaded = AutoModelForCausalLM.from_pretrained(
            name,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
        if bad := [*loaded["missing_keys"], *loaded["mismatched_keys"]]:
            raise ValueError(
                f"{len(bad)} weights are missing or not of the shape that config.json "
                f"says, for one {bad[0]}"
            )
    except Lost:  # not a fault of this folder
        raise
    except Exception as error:  # of any kind: a broken folder breaks transformers anywhere
        why = (str(error).splitlines() or [type(error).__name__])[0][:150]
        raise UnusableModel(
            f"--model {name}: its {read} cannot be read ({why}). Mend or replace the folder."
            if Path(name).is_dir()
            else f"--model {name} is neither a folder nor in the cache ({why}). Name a folder, or go "
            "online once to fill the cache; 'python selfplay.py' without --model needs no network."
        ) from None
    if tokenizer.chat_template is None:
        print(f"{name} has no chat template: a plain ChatML one is used.")
        tokenizer.chat_template = CHATML
    return model.to(device).eval(), tokenizer


def cast_weights(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """The model with weights of this dtype.  Buffers stay float32, as `from_pretrained` leaves
    them: rotary frequencies in bfloat16 would be another model's."""
    for p in model.parameters():
        p.data = p.data.to(dtype)
    return model


class Player:
    """One of the two players; the Solver is the judge, too."""

    def __init__(
        self,
        name: str,
        device: str = "cpu",
        sampler: str = "hand",
        frozen: bool = False,
        rows: str = "auto",
    ) -> None:
        self.model, self.tokenizer = load_model(name, device)
        self.sampler, self.copy = SAMPLERS[sampler], None
        self.dtype = torch.float32 if self.model.device.type == "cpu" else torch.bfloat16
        learned = any("position" in n or "wpe" in n for n, _ in self.model.named_parameters())
        most = getattr(self.model.config.get_text_config(), "max_position_embeddings", math.inf)
        self.positions = most if learned else math.inf
        if frozen:  # what is not trained needs no float32 weights to sample
            cast_weights(self.model, self.dtype)
        named = self.model.generation_config.eos_token_id  # one, several, or none
        ids = {self.tokenizer.eos_token_id, self.tokenizer.get_vocab().get("<|im_end|>")}
        self.eos_ids = sorted((ids | set(named if isinstance(named, list) else [named])) - {None})
        if not self.eos_ids:
            raise UnusableModel(
                f"{name} names no end token, so no completion would ever end: set "
                "eos_token in its tokenizer_config.json."
            )
        # Nothing else is taken over: a penalty, for one, would sample what is not trained on.
        self.model.generation_config = GenerationConfig(eos_token_id=self.eos_ids)

    def ids(self, chat: list[dict[str, str]]) -> list[int]:
        """A chat as ids, up to where the assistant begins to write."""

        def as_text(chat):  # thinking is asked for in words; a template's own way is switched off
            return self.tokenizer.apply_chat_template(
                chat, add_generation_prompt=True, tokenize=False, enable_thinking=False
            )

        try:
            text = as_text(chat)
        except TemplateError:  # one without a system role: its text goes before the user's
            together = {"role": "user", "content": "\n\n".join(m["content"] for m in chat)}
            try:
                text = as_text([together])
            except TemplateError as error:
                raise UnusableModel(
                    f"the model's chat template is broken ({error}): mend it, or "
                    "name another --model."
                ) from None
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def sample(
        self,
        chats: Iterable[list[dict[str, str]]],
        group: int,
        max_new_tokens: int,
        temperature: float,
        seed: int = 0,
    ) -> list[Rollout]:
        """`group` completions of each chat, prompt-major; the processes share the prompts."""
        prompts, rng = list(map(self.ids, chats)), torch.Generator().manual_seed(seed)
        longest = max(map(len, prompts), default=0) + max_new_tokens
        if longest > self.positions:
            raise UnusableModel(
                f"the model has {self.positions} learned positions, and a prompt "
                f"with its completion may take {longest}: lower --max-new-tokens, "
                "or name another --model."
            )
        uniforms = torch.rand(
            len(prompts), group, max_new_tokens, dtype=torch.float64, generator=rng
        )
        mine = self.sampler(
            self.sampling_model(),
            share(prompts),
            group,
            SamplingParams(max_new_tokens, temperature, self.eos_ids),
            share(uniforms),
        )
        told = gather(
            [
                [(r.completion, r.finished) for r in mine[i : i + group]]
                for i in range(0, len(mine), group)
            ]
        )
        return [Rollout(prompt, *one) for prompt, some in zip(prompts, told) for one in some]

    def sampling_model(self) -> PreTrainedModel:
        """The model that samples: on a GPU a bfloat16 copy, brought up to date with the weights."""
        if self.copy is None:
            if self.dtype == self.model.dtype:
                return self.model
            self.copy = self.whole_copy()
        for spoken, trained in zip(self.copy.parameters(), self.model.parameters()):
            spoken.copy_(whole(trained.detach()))
        return self.copy

    def whole_copy(self) -> PreTrainedModel:
        """The model to sample with, in the dtype for that."""
        return cast_weights(copy.deepcopy(self.model), self.dtype).requires_grad_(False)

    @torch.no_grad()
    def refuse_other_logits(self) -> None:
        """Raise UnusableModel if the logits are not those of the head alone, as grpo.py has them;
        some families scale or cap them, or have a layer before the head."""
        head, ids = self.model.get_output_embeddings(), torch.arange(4)[None].to(self.model.device)
        logits = self.model(input_ids=ids).logits
        if head is None or not torch.allclose(
            head(self.model.base_model(input_ids=ids)[0]), logits, rtol=1e-4, atol=1e-4
        ):
            raise UnusableModel(
                f"a {self.model.config.model_type} model changes its logits after "
                "the head, which the loss does not: name a --model of another "
                "family."
            )

    def prepare_training(
        self, cfg: Config
    ) -> tuple[list[torch.nn.Parameter], PreTrainedModel | None]:
        """The weights to train, and pi_ref: the model as it is now, if there is a KL to pay."""
        self.refuse_other_logits()
        reference = copy.deepcopy(self.model).requires_grad_(False) if cfg.beta else None
        if cfg.shard == "on":
            self.copy = self.whole_copy()
            for model in (self.model, reference) if reference else (self.model,):
                distributed.shard(model)
        if cfg.checkpointing == "on":
            self.model.gradient_checkpointing_enable()
            self.model.train()  # only then does it work; without the dropout that comes with it
            for module in self.model.modules():
                rates = [n for n, x in vars(module).items() if "drop" in n and type(x) is float]
                vars(module).update(dict.fromkeys(rates, 0.0))
                if isinstance(module, torch.nn.Dropout):
                    module.p = 0.0
        return list(self.model.parameters()), reference

    def fingerprint(self) -> str:
        """What tells these weights from others of the same name."""
        sums = torch.stack([p.detach().double().sum() for p in self.model.parameters()])
        return f"{zlib.crc32(sums.float().cpu().numpy().tobytes()):08x}"

    def text(self, rollout: Rollout) -> str:
        """A completion as text, without its end token."""
        ids = rollout.completion[:-1] if rollout.finished else rollout.completion
        return self.tokenizer.decode(ids, skip_special_tokens=False)

    def digit_logits(self, chats: Iterable[list[dict[str, str]]]) -> torch.Tensor:
        """The logits of "1" to "5" as the first token of the answer, (N, 5); nothing is sampled."""
        digits = [self.tokenizer(d, add_special_tokens=False)["input_ids"][-1] for d in "12345"]
        mine = next_token_logits(self.model, share(list(map(self.ids, chats))))[:, digits]
        return torch.tensor(gather(mine.tolist())).view(-1, 5)  # Sec. 3.2.1

    def save(self, folder: Path) -> None:
        """Write a checkpoint that `from_pretrained` loads; it appears whole or not at all."""
        self.write(folder, {name: whole(x) for name, x in self.model.state_dict().items()})

    @rank0_only
    def write(self, folder: Path, weights: dict[str, torch.Tensor]) -> None:
        """The writing of `save`."""
        with atomic_write(folder) as part:
            self.model.save_pretrained(part, state_dict=weights)
            self.tokenizer.save_pretrained(part)


@torch.inference_mode()
def next_token_logits(
    model: PreTrainedModel, prompts: list[list[int]], size: int = 64
) -> torch.Tensor:
    """The logits that follow each prompt, (N, V), float32; `size` prompts at a time."""
    vocabulary = model.config.get_text_config().vocab_size
    logits = torch.empty(len(prompts), vocabulary, device=model.device)
    for start in range(0, len(prompts), size):
        ids, mask, positions = left_pad(prompts[start : start + size], model.device)
        logits[start : start + size] = model(
            input_ids=ids, attention_mask=mask, logits_to_keep=1, position_ids=positions
        ).logits[:, -1]
    return logits


@contextmanager
def enough_memory(run) -> Iterator[None]:
    """Say in which phase the memory did not suffice, and what takes less."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch has no type for a CPU without memory
        short = isinstance(error, (torch.OutOfMemoryError, MemoryError))
        if not short and "can't allocate memory" not in str(error):
            raise
        why = str(error).splitlines()[0] if str(error) else "no more to be had"
        raise UnusableModel(
            f"{run.phase}: out of memory ({why}). Lower --micro-batch, --group, "
            "--max-new-tokens or --beta (0: no reference model), use "
            "--checkpointing on, or name a smaller --model, and go on with "
            "--set-changed."
        ) from None
