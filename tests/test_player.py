"""A player: its device, its model, its samples and its training."""

import shutil
import time
from types import SimpleNamespace

import pytest
import torch
import transformers
from conftest import ROOT, random_model
from safetensors.torch import load_file, save_file

from errors import UnusableModel, UsageError
from plumbing import chat, distributed, loading, player, precision
from plumbing.player import Player

HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture(autouse=True)
def notes_and_the_network_are_new():
    chat.say_once.cache_clear()
    loading.hub_answers.cache_clear()


# ----------------------------------------------------------------------------------------- devices
def test_without_a_name_the_fastest_device_is_used(monkeypatch):
    for gpus, device in ((0, "cpu"), (2, "cuda")):
        gpus_are(monkeypatch, gpus)
        assert loading.pick_device("") == device
    assert loading.pick_device("cpu") == "cpu"
    assert loading.pick_device("cuda:1") == "cuda:1"


def gpus_are(monkeypatch, count):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize(
    "device, gpus, why",
    [
        ("cuda", 0, "no GPU here: use --device cpu"),
        ("cuda:1", 0, "no GPU here"),
        ("cuda:2", 2, "the GPUs here are cuda:0 to cuda:1"),
        ("cuda:", 2, "use cpu, cuda, cuda:N for GPU number N, or mps"),
        ("cuda:-1", 2, "use cpu, cuda, cuda:N for GPU number N, or mps"),
        ("cpu:0", 0, "use cpu, cuda, cuda:N for GPU number N, or mps"),
        ("gpu", 2, "use cpu, cuda, cuda:N for GPU number N, or mps"),
        ("mps", 0, "no Apple GPU here: use --device cpu"),
        ("mps:0", 0, "use cpu, cuda, cuda:N for GPU number N, or mps"),
    ],
)
def test_a_device_that_cannot_be_served_is_refused_with_the_reason(monkeypatch, device, gpus, why):
    gpus_are(monkeypatch, gpus)
    with pytest.raises(UsageError, match=f"^--device {device}: .*{why}"):
        loading.load_model("tiny", device)


def test_an_apple_gpu_is_served_on_request(monkeypatch):
    gpus_are(monkeypatch, 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert loading.pick_device("mps") == "mps" and loading.pick_device("") == "cpu"
    wide = player.draw_uniforms((2, 3), 7, torch.device("cuda"))
    narrow = player.draw_uniforms((2, 3), 7, torch.device("mps"))
    assert (wide.dtype, narrow.dtype) == (torch.float64, torch.float32)
    assert torch.allclose(wide.float(), narrow) and narrow.max() < 1


def test_many_texts_have_the_ids_that_each_has_alone():
    tiny = player.Player("tiny")
    texts = ["Hello", tiny.chat.prompt([{"role": "user", "content": "a longer one"}]), ""]
    assert tiny.encode_all(texts) == [tiny.encode(text) for text in texts]
    assert tiny.encode_all([]) == []


def test_the_processes_of_torchrun_share_no_gpu(monkeypatch):
    gpus_are(monkeypatch, 2)
    monkeypatch.setattr(distributed, "size", 2)
    with pytest.raises(UsageError, match="use --device cuda"):
        loading.pick_device("cuda:1")
    assert loading.pick_device("cuda") == "cuda"


# ------------------------------------------------------------------------------------------ models
def test_a_missing_model_is_an_error_that_says_what_to_do():
    with pytest.raises(UnusableModel, match="neither a folder nor in the cache.*needs no network"):
        loading.load_model("nobody/no-such-model")


@pytest.mark.parametrize(
    "name",
    [
        "nosuchfolder",
        "./here",
        "/no/such/folder",
        "../up",
        "~/models",
        "runs/tiny/iter9/solver",
        "runs/nosuchrun/",
        "C:\\models",
    ],
)
def test_a_missing_folder_is_said_to_be_missing_without_asking_the_hub(monkeypatch, name):
    monkeypatch.setattr(loading, "hub_answers", None)  # calling it would fail
    with pytest.raises(UnusableModel, match="there is no folder of this name") as caught:
        loading.load_model(name)
    assert "OWNER/NAME" in str(caught.value) and "repo id" not in str(caught.value)


def test_a_file_is_not_a_model(tmp_path):
    (tmp_path / "model.safetensors").write_text("")
    with pytest.raises(UnusableModel, match="is a file. Name the folder that it is in"):
        loading.load_model(str(tmp_path / "model.safetensors"))


def test_without_a_network_a_name_of_the_hub_is_looked_up_in_the_cache_alone(monkeypatch):
    asked = []

    def head(*_, **__):
        asked.append(1)
        raise OSError("Name or service not known")

    def looked_up(name, **options):
        assert options["local_files_only"]
        raise OSError("not in the cache")

    monkeypatch.setattr(loading.huggingface_hub, "get_session", lambda: SimpleNamespace(head=head))
    monkeypatch.setattr(loading.AutoTokenizer, "from_pretrained", looked_up)
    start = time.time()
    for _ in range(2):
        with pytest.raises(UnusableModel, match="the hub cannot be reached"):
            loading.load_model("nobody/no-such-model")
    assert len(asked) == 1 and time.time() - start < 5


def test_with_a_network_the_hub_is_asked(monkeypatch):
    answer = SimpleNamespace(head=lambda *_, **__: None)
    monkeypatch.setattr(loading.huggingface_hub, "get_session", lambda: answer)

    def looked_up(name, **options):
        assert not options["local_files_only"]
        raise OSError("no such model\nsecond line")

    monkeypatch.setattr(loading.AutoTokenizer, "from_pretrained", looked_up)
    with pytest.raises(UnusableModel, match=r"its tokenizer cannot be read \(no such model\)"):
        loading.load_model("nobody/no-such-model")


@pytest.mark.parametrize("part", ["tokenizer", "model"])
def test_what_cannot_be_read_of_a_model_of_the_hub_is_named(monkeypatch, part):
    def broken(*_, **__):
        raise ValueError("no tensors here")

    monkeypatch.setattr(loading, "hub_answers", lambda: True)
    monkeypatch.setattr(loading.AutoTokenizer, "from_pretrained", lambda *_, **__: None)
    reader = loading.AutoTokenizer if part == "tokenizer" else loading.AutoModelForCausalLM
    monkeypatch.setattr(reader, "from_pretrained", broken)
    with pytest.raises(UnusableModel) as caught:
        loading.load_model("someone/broken")
    assert str(caught.value) == (
        f"--model someone/broken: its {part} cannot be read (no tensors here). Check the name, or "
        "take another model."
    )


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
def test_what_is_wrong_in_a_folder_is_named(tmp_path, file, text, what):
    folder = shutil.copytree(loading.ROOT / "tiny", tmp_path / "model")
    (folder / file).unlink()
    if text:
        (folder / file).write_text(text)
    with pytest.raises(UnusableModel, match=what):
        loading.load_model(str(folder))


@pytest.mark.parametrize("change", ["missing", "of another shape"])
def test_a_weight_that_is_missing_or_of_another_shape_is_not_made_up(tmp_path, change):
    folder = shutil.copytree(loading.ROOT / "tiny", tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    weights[name] = weights[name][:-1].clone()
    if change == "missing":
        del weights[name]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UnusableModel, match=f"1 weights are missing or not of the shape.*{name}"):
        loading.load_model(str(folder))


@pytest.mark.parametrize("template", ["{% if %}", {"tool_use": "x", "rag": "y"}, "{{ 1 + 'a' }}"])
def test_a_broken_chat_template_is_reported_when_the_model_is_loaded(tmp_path, template):
    p = Player("tiny")
    p.tokenizer.chat_template = template
    folder = shutil.copytree(ROOT / "tiny", tmp_path / "model")
    (folder / "chat_template.jinja").unlink()
    p.tokenizer.save_pretrained(folder)
    with pytest.raises(UnusableModel, match="chat template"):
        Player(str(folder))


# ---------------------------------------------------------------------------------------- sampling
def with_end_of_turn(folder, end):
    """Write the base model with a template whose turns end in `end`, which no file names."""
    shutil.copytree(ROOT / "tiny", folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([end], special_tokens=True)
    tokenizer.chat_template = tokenizer.chat_template.replace("<|im_end|>", end)
    tokenizer.save_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    return tokenizer.convert_tokens_to_ids(end)


@pytest.mark.parametrize("end", ["<|eot_id|>", "<end_of_turn>", "<|end|>"])
def test_an_end_token_that_only_the_template_names_ends_completions(tmp_path, end):
    token = with_end_of_turn(tmp_path / "model", end)
    p = Player(str(tmp_path / "model"))
    assert token in p.eos_ids and p.tokenizer.eos_token_id in p.eos_ids
    with torch.no_grad():  # a model that says nothing else
        p.model.get_output_embeddings().weight.zero_()
        p.model.get_output_embeddings().weight[token] = 1
        p.model.model.norm.weight.fill_(0)
        p.model.get_output_embeddings().register_forward_hook(
            lambda module, _, logits: logits.index_fill(-1, torch.tensor([token]), 9.0)
        )
    (rollout,) = p.sample([HELLO], 1, 4, 0)
    assert rollout.finished and rollout.completion == [token] and p.text(rollout) == ""
    p.save(tmp_path / "saved")
    assert token in Player(str(tmp_path / "saved")).model.generation_config.eos_token_id


def test_a_batch_in_which_nothing_has_finished_is_reported_once(capsys):
    p = Player("tiny")
    for _ in range(2):
        assert not any(r.finished for r in p.sample([HELLO], 3, 2, 1.0))
    out, err = capsys.readouterr()
    assert (
        out == "" and err.count("No completion of a batch produced an end token (<|im_end|>)") == 1
    )
    chat.say_once.cache_clear()
    assert p.sample([], 3, 2, 1.0) == []
    p.eos_ids = list(range(p.model.config.vocab_size))
    assert p.sample([HELLO], 1, 2, 1.0)[0].finished
    assert capsys.readouterr().err == ""


def test_in_another_precision_a_copy_that_follows_the_weights_samples(monkeypatch):
    p = Player("tiny")
    assert p.sampling_model() is p.model
    monkeypatch.setitem(precision.DTYPES, "cpu", torch.bfloat16)  # as on a GPU
    assert len(p.sample([HELLO], 2, 4, 1.0)) == 2 and p.sampling_model().dtype == torch.bfloat16
    with torch.no_grad():
        p.model.get_input_embeddings().weight.zero_()
    assert p.sampling_model().get_input_embeddings().weight.abs().max() == 0
    assert p.model.dtype == torch.float32


def test_in_another_precision_positions_keep_theirs():
    model = precision.cast_weights(random_model(), torch.bfloat16)
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
        text = p.tokenizer.decode(p.ids(HELLO))
        assert text.startswith(start), text


# ---------------------------------------------------------------------------------------- training
def test_a_family_without_a_body_of_its_own_is_refused_by_name():
    config = transformers.Llama4TextConfig(
        hidden_size=32,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        num_hidden_layers=4,
        intermediate_size=64,
        intermediate_size_mlp=64,
        num_local_experts=2,
        vocab_size=64,
    )
    model = transformers.Llama4ForCausalLM(config).eval()
    assert model.base_model is model
    with pytest.raises(UnusableModel, match="llama4_text model has no body apart from its head"):
        Player.refuse_other_logits(SimpleNamespace(model=model))


def test_only_the_logits_that_are_asked_for_are_kept():
    model, prompts = random_model(), [[5, 6, 7], [8], [9, 10]]
    every = player.next_token_logits(model, prompts, list(range(64)))
    assert every.shape == (3, 64)
    assert torch.equal(player.next_token_logits(model, prompts, [3, 1]), every[:, [3, 1]])
    assert player.next_token_logits(model, [], [3, 1]).shape == (0, 2)
