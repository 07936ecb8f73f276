"""GRPO: hand-computed examples, and the numbers of TRL's GRPOTrainer on one fixed problem."""

import copy
import gc
import json
import weakref

import numpy as np
import pytest
import torch
import transformers
from conftest import ORACLE, random_model
from safetensors.torch import load_file
from transformers import Qwen2Config, Qwen2ForCausalLM

import grpo
from config import Config
from grpo import advantages, learning_rate
from plumbing import microbatch, precision, shared_prefix
from plumbing.player import Player
from rollout import Rollout

SPEC = json.loads((ORACLE / "trl_grpo.json").read_text())
ARRAYS = np.load(ORACLE / "trl_grpo.npz")
WEIGHTS = load_file(ORACLE / "trl_grpo.safetensors")
# Options that change nothing on policy (cispo, gspo), and extras of TRL, are not ours.
EXTRAS = ("cispo", "gspo", "delta", "entropy", "unbiasedkl", "masktrunc")
OURS = [name for name in SPEC["cases"] if not any(extra in name for extra in EXTRAS)]


def array(name):
    return torch.from_numpy(ARRAYS[name])


def oracle_model(which):
    config = {k: v for k, v in SPEC["model_config"].items() if k != "model_type"}
    model = Qwen2ForCausalLM(Qwen2Config(**config))
    model.load_state_dict(
        {k.split(".", 1)[1]: v for k, v in WEIGHTS.items() if k.startswith(which + ".")},
        strict=False,
    )
    model.tie_weights()
    return model.eval()


def oracle_rollouts():
    ids, mask = array("input/prompt_ids"), array("input/prompt_mask").bool()
    out, out_mask = array("input/completion_ids"), array("input/completion_mask").bool()
    eos = SPEC["model_config"]["eos_token_id"]
    rows = [(ids[i][mask[i]].tolist(), out[i][out_mask[i]].tolist()) for i in range(len(ids))]
    return [Rollout(prompt, done, done[-1] == eos) for prompt, done in rows]


def oracle_rewards():
    return (
        (array("input/rewards_per_func").nan_to_num() * array("input/reward_weights"))
        .sum(1)
        .view(3, 4)
    )


def oracle_config(settings, **changes):
    return Config(
        loss=settings["loss_type"].replace("bnpo", "dapo"),  # the same where no split matters
        beta=settings["beta"],
        temperature=settings["temperature"],
        max_new_tokens=16,
        **changes,
    )


def oracle_gradient(name, order=range(12), micro_batch=12):
    """Return loss and gradient of a case: on policy by a step's code, off policy by its parts."""
    settings = SPEC["cases"][name]["settings"]
    cfg = oracle_config(settings)
    model = oracle_model("policy")
    reference = oracle_model("ref") if cfg.beta else None
    A = advantages(oracle_rewards(), settings["scale_rewards"]).flatten()[list(order)]
    rollouts = [oracle_rollouts()[i] for i in order]
    if settings["off_policy"]:
        loss = off_policy_loss(model, rollouts, A, cfg, reference, settings)
        loss.backward()
        loss = loss.item()
    else:
        loss = grpo.add_gradient(model, rollouts, A, cfg, reference, micro_batch)["loss"]
    return loss, {n: p.grad for n, p in model.named_parameters()}


def off_policy_loss(model, rollouts, A, cfg, reference, settings):
    """Return the loss under the log-probabilities of an older policy, which no step here has."""
    old = array("input/logps_old" + ("_T0.7" if cfg.temperature == 0.7 else ""))
    logps, _, mask = grpo.token_logprobs(model, rollouts, cfg.temperature)
    ref = None
    if reference is not None:
        with torch.no_grad():
            ref, _, _ = grpo.token_logprobs(reference, rollouts, cfg.temperature)
    clip = settings["epsilon"], settings["epsilon_high"]
    per_token, _ = grpo.token_loss(logps, old, ref, A, cfg, *clip)
    return grpo.reduce(per_token, mask, cfg, rows=12, tokens=int(mask.sum()))


def test_two_rewards_one_apart_give_advantages_of_plus_and_minus_0_7071():
    A = advantages(torch.tensor([[1.0, 2.0]]))  # mean 1.5, unbiased std 0.70711
    assert A[0].tolist() == pytest.approx([-0.5 / 0.7072068, 0.5 / 0.7072068], abs=1e-6)


@pytest.mark.parametrize("reward", [0.3, 1.9, 2 / 3])
def test_a_group_of_equal_rewards_has_advantages_of_exactly_0(reward):
    assert (advantages(torch.full((2, 8), reward)) == 0).all()


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_advantages_equal_those_of_trl(scale):
    assert torch.allclose(
        advantages(oracle_rewards(), scale).flatten(),
        array(f"expected/advantages_{scale}"),
        atol=1e-5,
    )


def test_a_completion_without_a_reward_is_left_out_as_in_trl():
    rewards = array("input/rewards_per_func_unscorable")
    rows = (rewards.nan_to_num() * array("input/reward_weights")).sum(1)
    rows[rewards.isnan().all(1)] = torch.nan
    A = advantages(rows.view(3, 4)).flatten()
    assert A[9] == 0 and rows[9].isnan()
    assert torch.allclose(A, array("expected/advantages_group_unscorable"), atol=1e-5)


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
@pytest.mark.parametrize("rewards", [[[1.0, torch.nan]], [[1.0]], [[torch.nan, torch.nan]]])
def test_a_single_reward_has_nothing_to_be_compared_with(rewards, scale):
    assert (advantages(torch.tensor(rewards), scale) == 0).all()


def test_an_unknown_scale_or_loss_is_named():
    with pytest.raises(ValueError, match="median"):
        advantages(torch.zeros(1, 2), "median")
    with pytest.raises(ValueError, match="reinforce"):
        grpo.reduce(torch.ones(1, 1), torch.ones(1, 1), Config(loss="reinforce"), 1, 1)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probabilities_and_entropies_equal_those_of_trl(temperature, shared):
    name = "policy" + ("_T0.7" if temperature == 0.7 else "")
    logps, entropy, mask = grpo.token_logprobs(
        oracle_model("policy"), oracle_rollouts(), temperature, shared
    )
    assert torch.equal(mask, array("input/completion_mask").bool())  # the end token is counted
    assert torch.allclose(logps[mask], array(f"expected/logps_{name}")[mask], atol=1e-5)
    assert torch.allclose(entropy[mask], array(f"expected/entropies_{name}")[mask], atol=1e-5)


def test_the_loss_of_one_token_is_the_one_computed_by_hand():
    # pi = .6, pi_old = .4: ratio 1.5 is clipped at 1.2; A = 2; so the surrogate is 2.4.
    # pi_ref = .3: k3 = .5 - log(.5) - 1 = .1931472; times beta .1.
    log = lambda p: torch.tensor([[p]]).log()
    loss, kl = grpo.token_loss(log(0.6), log(0.4), log(0.3), torch.tensor([2.0]), Config(beta=0.1))
    assert loss.item() == pytest.approx(-2.4 + 0.1 * 0.1931472, abs=1e-5)
    assert kl.item() == pytest.approx(0.1931472, abs=1e-5)


def test_a_bad_token_that_became_likelier_is_not_clipped():
    log = lambda p: torch.tensor([[p]]).log()
    loss, _ = grpo.token_loss(log(0.6), log(0.4), None, torch.tensor([-2.0]), Config(beta=0))
    assert loss.item() == pytest.approx(3.0, abs=1e-5)


def test_the_three_losses_average_differently():
    per_token, mask = (
        torch.tensor([[1.0, 1.0], [4.0, 9.0]]),
        torch.tensor([[True, True], [True, False]]),
    )
    value = lambda loss: grpo.reduce(
        per_token, mask, Config(loss=loss, max_new_tokens=5), rows=2, tokens=3
    ).item()
    assert value("grpo") == pytest.approx((1 + 4) / 2)  # mean of the rows' means
    assert value("dapo") == pytest.approx(6 / 3)  # mean of all tokens
    assert value("dr_grpo") == pytest.approx(6 / (2 * 5))  # a constant denominator


@pytest.mark.parametrize("name", OURS)
def test_loss_and_gradient_equal_those_of_trl(name):
    expected = SPEC["cases"][name]
    loss, gradient = oracle_gradient(name)
    norm = torch.stack([g.norm() for g in gradient.values()]).norm().item()
    assert norm == pytest.approx(expected["grad_norm"], rel=1e-5)
    if not (
        expected["settings"]["beta"] == 0
        and expected["settings"]["loss_type"] == "grpo"
        and not expected["settings"]["off_policy"]
    ):  # there the loss is 0 but for rounding
        assert loss == pytest.approx(expected["loss"], abs=1e-5)
    for key in (k for k in ARRAYS if k.startswith(f"expected/grad/{name}/")):
        assert torch.allclose(gradient[key.split("/")[-1]], array(key), atol=1e-5), key


@pytest.mark.parametrize("order", [range(12), [7, 2, 11, 0, 5, 9, 1, 8, 3, 10, 6, 4]], ids=str)
@pytest.mark.parametrize("micro_batch", [1, 5, 12])
@pytest.mark.parametrize("name", ["grpo_b0.04_on", "bnpo_b0.04_on", "dr_grpo_b0.04_on"])
def test_any_split_and_any_order_of_the_rows_give_the_same_gradient(name, micro_batch, order):
    _, whole = oracle_gradient(name)
    _, split = oracle_gradient(name, order, micro_batch)
    assert all(torch.allclose(whole[n], split[n], atol=1e-6) for n in whole)


@pytest.mark.parametrize("name", ["dapo_accum2_sgd", "grpo_accum2_sgd"])  # one update per batch
def test_whole_optimizer_steps_end_in_the_weights_of_trl(name):
    run = SPEC["train"][name]["settings"]
    cfg = Config(
        loss=run["loss_type"],
        beta=run["beta"],
        max_grad_norm=run["max_grad_norm"],
        micro_batch=run["per_device_train_batch_size"],
    )
    model = oracle_model("policy")
    optimizer = torch.optim.SGD(model.parameters(), run["lr"])
    metrics = grpo.step(model, optimizer, oracle_rollouts(), oracle_rewards(), cfg)
    last = SPEC["train"][name]["steps"][-1]
    assert metrics["grad_norm"] == pytest.approx(last["grad_norm"], rel=1e-5)
    assert metrics["loss"] == pytest.approx(last["loss"], abs=1e-5)
    for key in (k for k in ARRAYS if k.startswith(f"expected/train/{name}/")):
        ours = model.get_parameter(key.split("/")[-1])
        assert torch.allclose(ours, array(key), atol=1e-5), key


def test_shared_and_plain_forward_give_the_same_gradient_on_ragged_rows():
    rollouts = [
        Rollout([5, 6, 7, 8], [9, 2], True),
        Rollout([5, 6, 7, 8], [10, 11, 12, 13], False),
        Rollout([20], [2], True),
        Rollout([20], [], False),  # nothing was said
        Rollout([30, 31], [21, 22, 2], True),  # a group of equal rewards
        Rollout([30, 31], [23, 2], True),
    ]
    A, cfg = torch.tensor([1.0, -1.0, 0.7, -0.7, 0.0, 0.0]), Config(beta=0.04)
    results = []
    for checkpointing in (False, True):  # it drops the cache that the shared way relies on
        model = random_model()
        if checkpointing:
            model.gradient_checkpointing_enable()
            model.train()
        sums = grpo.add_gradient(model, rollouts, A, cfg, random_model(seed=1))
        results.append((sums["loss"], {n: p.grad for n, p in model.named_parameters()}))
    (shared_loss, shared), (plain_loss, plain) = results
    assert shared_loss == pytest.approx(plain_loss, rel=1e-5)
    for name in shared:
        assert (shared[name] - plain[name]).norm() <= 1e-5 * plain[name].norm(), name


SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 64}
HEADS = SMALL | {"num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 64}
FAMILIES = {  # name -> its configuration, whether a prompt is shared; others: test_families.py
    "Falcon": (SMALL | {"num_attention_heads": 2, "alibi": True}, True),
    "Mistral": (HEADS | {"sliding_window": 4}, False),
    "Rwkv": (SMALL | {"attention_hidden_size": 32, "context_length": 64}, False),
    "RecurrentGemma": (HEADS | {"lru_width": 32, "num_hidden_layers": 3}, False),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_ragged_rows_of_any_family_have_the_log_probabilities_of_each_row_alone(family):
    settings, shared = FAMILIES[family]
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**settings)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    of = {(5, 6, 7, 8, 9, 10): ([9, 2], [8, 30, 31, 2]), (5,): ([9, 9, 9], [2])}
    rollouts = [Rollout(list(prompt), c, True) for prompt, some in of.items() for c in some]
    assert shared_prefix.supports(model, rollouts) == shared
    with torch.no_grad():
        hidden, head = grpo.hidden_states, model.get_output_embeddings()
        found = grpo.token_logprobs(model, rollouts, 1.0)[0]
        for row, r in zip(found, rollouts):
            logps = head(hidden(model, [r])).log_softmax(-1)
            alone = logps.gather(1, torch.tensor(r.completion)[:, None])[:, 0]
            assert (row[: len(alone)] - alone).abs().max() < 1e-5


def test_after_one_step_at_the_papers_rate_nearly_every_weight_has_changed():
    # In bfloat16 a step of 1e-6 would be rounded away; the master weights are float32.
    model, cfg = random_model(), Config(beta=0.0, lr=1e-6)
    before = [p.detach().clone() for p in model.parameters()]
    rollouts = [Rollout([5, 6], [9, 11, 2], True), Rollout([5, 6], [8, 2], True)]
    optimizer = torch.optim.AdamW(model.parameters(), cfg.lr, weight_decay=cfg.weight_decay)
    grpo.step(model, optimizer, rollouts, torch.tensor([[1.0, 0.0]]), cfg)
    changed = total = 0
    for old, p in zip(before, model.parameters()):
        moved = p.grad != 0
        changed, total = changed + (p != old)[moved].sum().item(), total + moved.sum().item()
    assert changed > 0.99 * total > 0


def gradient_of(model):
    return torch.cat([p.grad.flatten().double() for p in model.parameters()])


@pytest.fixture
def like_a_gpu(monkeypatch):
    """Let the CPU compute in bfloat16 and cut micro-batches by tokens."""
    monkeypatch.setitem(precision.DTYPES, "cpu", torch.bfloat16)
    monkeypatch.setattr(microbatch, "BY_TOKENS", ("cpu",))


@pytest.fixture(scope="module")
def sampled():
    """Return tiny, groups of its answers to prompts of different lengths, and advantages."""
    player = Player("tiny")
    chats = [[{"role": "user", "content": "Hello" + " there" * n}] for n in (1, 3, 20)]
    rollouts = player.sample(chats, 4, 40, 1.0, seed=0)
    return player.model, rollouts, torch.randn(12, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("beta", [0.0, 0.04])
def test_in_bfloat16_the_gradient_is_nearly_that_of_float32(sampled, like_a_gpu, beta, monkeypatch):
    trained, rollouts, A = sampled
    reference = random_model(vocab_size=trained.config.vocab_size, seed=1) if beta else None
    found, cfg = [], Config(beta=beta)
    for dtype in (torch.float32, torch.bfloat16):
        monkeypatch.setitem(precision.DTYPES, "cpu", dtype)
        model = copy.deepcopy(trained)
        grpo.add_gradient(model, rollouts, A, cfg, reference, micro_batch=5)
        assert all(p.grad.dtype == p.dtype == torch.float32 for p in model.parameters())
        found.append(gradient_of(model))
    cosine = torch.nn.functional.cosine_similarity(*found, 0).item()
    print(f"cosine of the gradients in bfloat16 and float32, beta {beta}: {cosine:.5f}")
    assert 0.995 <= cosine < 1


def test_any_split_and_either_way_give_the_gradient_of_float32(sampled, monkeypatch):
    trained, rollouts, A = sampled
    found = []
    for size, cut in ((12, ()), (5, ()), (5, ("cpu",)), (1, ("cpu",))):
        monkeypatch.setattr(microbatch, "BY_TOKENS", cut)
        model = copy.deepcopy(trained)
        grpo.add_gradient(model, rollouts, A, Config(beta=0.0), None, size)
        found.append(gradient_of(model))
    for other in found[1:]:
        assert torch.nn.functional.cosine_similarity(found[0], other, 0) > 1 - 1e-6
        assert (other - found[0]).norm() < 1e-5 * found[0].norm()


def test_the_bfloat16_copy_follows_the_weights_and_keeps_nothing_back(like_a_gpu):
    model, cfg = random_model(), Config(beta=0.0, lr=0.1)
    rollouts = [Rollout([5, 6], [9, 11, 2], True), Rollout([5, 6], [8, 2], True)]
    optimizer = torch.optim.SGD(model.parameters(), cfg.lr)
    addresses = [p.data_ptr() for p in precision.sampling_model(model).parameters()]
    for _ in range(2):
        grpo.step(model, optimizer, rollouts, torch.tensor([[1.0, 0.0]]), cfg)
        policy = precision.sampling_model(model)
        for low, high in zip(policy.parameters(), model.parameters()):
            assert low.grad is None and torch.equal(low, high.bfloat16())
    assert [p.data_ptr() for p in policy.parameters()] == addresses  # a CUDA graph reads them
    assert grpo.token_logprobs(policy, rollouts, 1.0)[0].dtype == torch.float32
    next(policy.parameters()).grad = torch.ones_like(next(policy.parameters()))  # left over
    assert next(precision.training_model(model).parameters()).grad is None
    gone = weakref.ref(policy)
    del policy, model, optimizer, low, high
    gc.collect()
    assert gone() is None


def test_float32_weights_without_a_copy_compute_in_the_dtype_of_the_device(like_a_gpu):
    rollouts = [Rollout([5, 6], [9, 11, 2], True), Rollout([5, 6], [8, 2], True)]
    model, copied = random_model(), precision.cast_weights(random_model(), torch.bfloat16)
    logps = grpo.token_logprobs(model, rollouts, 1.0)[0]  # as where layers are sharded
    assert logps.dtype == torch.float32
    assert torch.allclose(logps, grpo.token_logprobs(copied, rollouts, 1.0)[0], atol=0.1)


def test_micro_batches_by_tokens_hold_like_lengths_and_whole_groups():
    prompts = {3: 10, 4: 30, 5: 10}  # token -> length
    rows = [
        (Rollout([p] * n, [9] * c, True), 1.0) for p, n in prompts.items() for c in (20, 1, 4, 6)
    ]
    cut = microbatch.by_tokens(rows, 4)
    assert sorted(map(id, sum(cut, []))) == sorted(map(id, rows))
    assert [len(batch) for batch in cut] == [6, 4, 2]  # 200 tokens at most: 6 * 30, 4 * 50, 2 * 50
    assert [batch[0][0].prompt[0] for batch in cut] == [3, 5, 4]
    assert all(microbatch.padded_tokens(batch) <= 4 * 50 for batch in cut)
    assert microbatch.by_tokens([], 4) == []


def test_a_kl_without_a_reference_is_refused(model):
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(ValueError, match="reference"):
        grpo.step(model, optimizer, [Rollout([5], [2], True)], torch.ones(1, 1), Config())


def test_chunking_the_vocabulary_changes_nothing(model, monkeypatch):
    rollouts = [Rollout([5, 6], [9, 11, 2], True), Rollout([7], [10, 2], True)]
    whole = grpo.token_logprobs(model, rollouts, 1.0)[0]
    monkeypatch.setattr(microbatch, "CHUNK", 128)  # two tokens per chunk
    assert torch.allclose(whole, grpo.token_logprobs(model, rollouts, 1.0)[0], atol=1e-6)


def test_rows_without_advantage_are_skipped_but_stay_in_the_denominator():
    cfg, rewarded = Config(beta=0.0), torch.tensor([1.0, -1.0, 0.0, 0.0])
    rollouts = [
        Rollout([5], [9, 2], True),
        Rollout([5], [8, 2], True),
        Rollout([6], [9, 2], True),
        Rollout([6], [7], False),
    ]
    models = random_model(), random_model()
    used = grpo.add_gradient(models[0], rollouts, rewarded, cfg)
    grpo.add_gradient(models[1], rollouts[:2], rewarded[:2], cfg)
    assert used["tokens"] == 4
    for a, b in zip(models[0].parameters(), models[1].parameters()):
        assert torch.allclose(2 * a.grad, b.grad, atol=1e-6)  # 4 rows count, not 2


def test_a_step_makes_the_rewarded_completion_likelier():
    model, cfg = random_model(), Config(beta=0.0, lr=1e-2)
    good, bad = Rollout([5, 6], [9, 2], True), Rollout([5, 6], [8, 2], True)
    before = grpo.token_logprobs(model, [good, bad], 1.0)[0].sum(1)
    metrics = grpo.step(
        model,
        torch.optim.AdamW(model.parameters(), cfg.lr),
        [good, bad],
        torch.tensor([[1.0, 0.0]]),
        cfg,
    )
    after = grpo.token_logprobs(model, [good, bad], 1.0)[0].sum(1)
    assert after[0] > before[0] and after[0] - after[1] > before[0] - before[1]
    assert (
        metrics["zero_advantage_groups"] == 0
        and metrics["truncated"] == 0
        and metrics["length"] == 2
    )


def test_the_kl_term_is_zero_at_the_reference_and_positive_elsewhere():
    rollouts, rewards, cfg = (
        [Rollout([5], [9, 2], True), Rollout([5], [8, 2], True)],
        torch.zeros(1, 2),
        Config(beta=0.1),
    )
    model = random_model()
    same = grpo.step(
        model,
        torch.optim.AdamW(model.parameters(), lr=0),
        rollouts,
        rewards,
        cfg,
        copy.deepcopy(model),
    )
    other = grpo.step(
        model,
        torch.optim.AdamW(model.parameters(), lr=0),
        rollouts,
        rewards,
        cfg,
        random_model(seed=1),
    )
    assert same["kl"] == pytest.approx(0, abs=1e-6) and other["kl"] > 0.01


def test_where_memory_is_short_micro_batches_are_halved_and_the_weights_are_the_same(
    monkeypatch, capsys
):
    pairs = [r for p in (5, 6, 7) for r in (Rollout([p], [9, 2], True), Rollout([p], [8, 2], True))]
    rewards, token_logprobs = torch.tensor([[1.0, 0.0]] * 3), grpo.token_logprobs

    def weights(limit):
        tried = []

        def scarce(model, rollouts, *rest):
            tried.append(len(rollouts))
            if len(rollouts) > limit:
                raise torch.OutOfMemoryError
            return token_logprobs(model, rollouts, *rest)

        monkeypatch.setattr(grpo, "token_logprobs", scarce)
        model, cfg = random_model(), Config(beta=0.0, lr=1e-3, micro_batch=10**9)
        optimizer = torch.optim.SGD(model.parameters(), cfg.lr)
        grpo.step(model, optimizer, pairs, rewards, cfg)
        del tried[:]
        grpo.step(model, optimizer, pairs, rewards, cfg)
        assert max(tried) <= limit  # the next step begins with what sufficed
        assert cfg.micro_batch == 10**9  # the caller's settings stay
        return torch.cat([p.flatten() for p in model.parameters()])

    assert torch.allclose(weights(limit=2), weights(limit=8), atol=1e-7)
    assert capsys.readouterr().out.splitlines() == [
        "short of memory: --micro-batch is now 3",
        "short of memory: --micro-batch is now 1",
    ]
    with pytest.raises(torch.OutOfMemoryError):
        weights(limit=0)


def test_the_learning_rate_falls_in_a_line_or_stays():
    def rates(schedule, iteration=1):
        cfg = Config(lr=2.0, schedule=schedule)
        return [learning_rate(cfg, n, 4, iteration) for n in range(4)]

    assert rates("linear") == rates("linear", 2) == [2.0, 1.5, 1.0, 0.5]
    assert rates("constant") == rates("constant", 2) == [2.0] * 4
    assert rates("harmonic") == [2.0] * 4 and rates("harmonic", 4) == [0.5] * 4
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 9.0)
    grpo.set_learning_rate(optimizer, Config(lr=2.0), 1, 4)
    assert optimizer.param_groups[0]["lr"] == 1.5


def test_the_ablation_divides_by_the_std_of_the_batch():
    rollouts = [Rollout([5], [9, 2], True), Rollout([5], [8, 2], True)] * 2
    rewards, losses = torch.tensor([[1.0, 0.0], [9.0, 0.0]]), []
    for ablation in ("none", "batch-std"):
        model, cfg = random_model(), Config(beta=0.0, ablation=ablation)
        optimizer = torch.optim.SGD(model.parameters(), 0.0)
        losses.append(grpo.step(model, optimizer, rollouts, rewards, cfg)["grad_norm"])
    A = advantages(rewards, "batch").flatten()
    model = random_model()
    grpo.add_gradient(model, rollouts, A, Config(beta=0.0))
    norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm().item()
    assert losses[1] == pytest.approx(norm, rel=1e-5) and losses[0] != pytest.approx(norm, rel=1e-2)
