"""From a name to a model: choose the device, find the folder or hub model, load it or refuse it.

A model is read in float32 from safetensors; no code that comes with it is run.  A bad name or
folder is reported at once, in one line; without a network no request waits for long.

    >>> pick_device("cpu")
    'cpu'
"""

import functools
import platform
import re
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
import transformers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from errors import LostProcess, UnusableModel, UsageError, first_line
from plumbing import distributed
from plumbing.chat import CHATML, say_once

transformers.utils.logging.disable_progress_bar()  # a bar per checkpoint would hide ours
transformers.utils.logging.set_verbosity_error()  # load_model checks what matters itself

ROOT = Path(__file__).resolve().parent.parent
NEEDED = ("config.json", "*.safetensors", "tokenizer*")  # files of a model's folder
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")  # OWNER/NAME
HUB_TIMEOUT = 5.0  # seconds to wait for the hub's first answer


def pick_device(name: str = "") -> str:
    """Return the device to use: cpu, cuda, cuda:N or mps.

    Without a name, take the GPU if there is one.  mps must be named, because it is not tested.

    Raises UsageError with the reason if this machine does not have the device.
    """
    kind, _, index = name.partition(":")
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not name:
        return "cuda" if gpus else "cpu"
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", name):
        raise UsageError(f"--device {name}: use cpu, cuda, cuda:N for GPU number N, or mps.")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UsageError(f"--device {name}: torch finds no Apple GPU here: use --device cpu.")
    if kind == "cuda" and not gpus:
        raise UsageError(f"--device {name}: torch finds no GPU here: use --device cpu.")
    if index and int(index) >= gpus:
        raise UsageError(f"--device {name}: the GPUs here are cuda:0 to cuda:{gpus - 1}.")
    if index and distributed.size > 1:
        raise UsageError(f"--device {name}: torchrun gives each process a GPU: use --device cuda.")
    return name


def processor(device: str) -> str:
    """Return the name of the processor that computes on this device."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(": ")[2]
    return platform.processor() or platform.machine()


@functools.cache
def hub_answers() -> bool:
    """Return whether the hub can be reached, by one request instead of minutes of retries."""
    try:
        huggingface_hub.get_session().head(
            huggingface_hub.constants.ENDPOINT, timeout=HUB_TIMEOUT, follow_redirects=True
        )
    except LostProcess:
        raise
    except Exception:  # each HTTP library raises errors of its own
        return False
    return True


def check_name(name: str) -> None:
    """Raise UnusableModel if a name is neither a complete model folder nor OWNER/NAME."""
    path = Path(name)
    if path.is_dir():
        for pattern in NEEDED:
            if not any(path.glob(pattern)):
                raise UnusableModel(
                    f"--model {name}: the folder has no {pattern}. Name one that has "
                    f"{', '.join(NEEDED)}, as save_pretrained writes them."
                )
    elif path.exists():
        raise UnusableModel(f"--model {name} is a file. Name the folder that it is in.")
    elif not HUB_NAME.fullmatch(name):
        raise UnusableModel(
            f"--model {name}: there is no folder of this name. Name a folder, or a model of the "
            "hub as OWNER/NAME; 'python selfplay.py' without --model needs neither."
        )


def unreadable(name: str, part: str, error: Exception) -> UnusableModel:
    """Return the error that says why `part`, "tokenizer" or "model", cannot be read."""
    why = first_line(error)
    if Path(name).is_dir():
        return UnusableModel(
            f"--model {name}: its {part} cannot be read ({why}). Repair or replace the folder."
        )
    if hub_answers():
        return UnusableModel(
            f"--model {name}: its {part} cannot be read ({why}). Check the name, or take another "
            "model."
        )
    return UnusableModel(
        f"--model {name} is neither a folder nor in the cache (the hub cannot be reached). Name a "
        "folder, or go online once to fill the cache; 'python selfplay.py' without --model needs "
        "no network."
    )


def read_weights(name: str, **where: Any) -> PreTrainedModel:
    """Return the model in float32.  Raises ValueError if a weight is missing or misshapen."""
    model, loaded = AutoModelForCausalLM.from_pretrained(
        name,
        trust_remote_code=False,
        use_safetensors=True,
        dtype=torch.float32,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        **where,
    )
    bad = [*loaded["missing_keys"], *loaded["mismatched_keys"]]
    if bad:
        raise ValueError(
            f"{len(bad)} weights are missing or not of the shape that config.json "
            f"specifies, for example {bad[0]}"
        )
    return model


def load_model(name: str, device: str = "cpu") -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return a float32 model in eval mode and its tokenizer.

    "tiny" is the base model that ships, wherever the command was started.  Raises UsageError for
    the device, UnusableModel for the model.
    """
    device = pick_device(device)
    if name == "tiny":
        name = str(ROOT / "tiny")
    check_name(name)
    where = {"local_files_only": not Path(name).is_dir() and not hub_answers()}
    part = "tokenizer"
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False, **where)
        part = "model"
        model = read_weights(name, **where)
    except LostProcess:  # not a fault of this folder
        raise
    except Exception as error:  # a broken folder can break transformers anywhere
        raise unreadable(name, part, error) from None
    if tokenizer.chat_template is None:
        say_once("The model has no chat template: plain ChatML is used instead.")
        tokenizer.chat_template = CHATML
    if device.startswith("cuda:"):
        torch.cuda.set_device(device)  # streams and graphs belong to the current GPU
    return model.to(device).eval(), tokenizer
