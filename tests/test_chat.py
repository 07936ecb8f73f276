"""Chat templates of other families: what they drop, prefill, date and end, found by rendering."""

import datetime
import json

import pytest
import torch
from conftest import ROOT
from transformers import AutoTokenizer

import generator
import rewards
import solver
from ast_match import Call
from errors import UnusableModel, UsageError
from plumbing import chat
from plumbing.chat import ChatFormat
from plumbing.player import Player
from rollout import Rollout

HEAD = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
)
OPEN = "{% if add_generation_prompt %}<|im_start|>assistant\n"
TURN = "<|im_start|>%s\n%s<|im_end|>\n"
RULES = "Reply by one call."
REQUEST = "Book a table for 3."
CHAT = [{"role": "system", "content": RULES}, {"role": "user", "content": REQUEST}]
MERGED = f"{RULES}\n\n{REQUEST}"


@pytest.fixture(autouse=True)
def notes_are_new():
    chat.say_once.cache_clear()


@pytest.fixture
def tokenizer():
    return AutoTokenizer.from_pretrained(ROOT / "tiny")


@pytest.fixture(scope="module")
def shared_player():
    return Player("tiny")


@pytest.fixture
def player(shared_player):
    """Return the player of tiny; put its template back afterwards."""
    template = shared_player.tokenizer.chat_template
    yield shared_player
    shared_player.tokenizer.chat_template = template


def with_template(tokenizer, template, date=""):
    tokenizer.chat_template = template
    return ChatFormat(tokenizer, date)


# ------------------------------------------------------------------------------ prefilled thoughts
PREFILLED = {  # generation prompt -> what of it belongs to the completion
    "<think>\n": "<think>\n",  # reasoning models, whatever enable_thinking says
    "<think>": "<think>",
    "<think>\nFirst, the menu. ": "<think>\nFirst, the menu. ",
    "{% if enable_thinking is not defined or not enable_thinking %}<think>\n{% endif %}": "<think>\n",
    "<think>\n\n</think>\n\n": "",  # an empty thought: the completion begins with its own
    "</think>": "",
    "{% if enable_thinking is not false %}<think>\n{% endif %}": "",
    "": "",
}
THOUGHT = "The request needs book_table.\n</think>\n"
CALLS = (
    '<tool_call_answer>\n[{"name": "book_table", "arguments": {"guests": 3}}]\n</tool_call_answer>'
)
TASK = (
    "<question>\nBook a table for 3.\n</question>\n<available_tools>\n"
    '[{"name": "book_table", "description": "", "parameters": {"guests": {"type": "integer"}}}]'
    "\n</available_tools>\n"
)


def completed(player, completion):
    ids = player.encode(completion)
    return Rollout(player.ids(CHAT), ids + player.eos_ids[:1], True)


@pytest.mark.parametrize("opening", PREFILLED)
def test_a_thought_that_the_prompt_opens_belongs_to_the_completion(player, opening):
    player.tokenizer.chat_template = HEAD + OPEN + opening + "{% endif %}"
    prefill = PREFILLED[opening]
    assert player.text(completed(player, "Done.")) == prefill + "Done."
    own = "" if prefill else "<think>\n"  # what such a model begins its completion with
    answer = solver.parse(player.text(completed(player, own + THOUGHT + CALLS)))
    assert answer.think and answer.reason is None
    reward = rewards.solver_reward(answer, [Call("book_table", {"guests": 3})])
    assert reward.total == pytest.approx(2)  # R_S with r_fmt = r_acc = 1
    draft = generator.parse(player.text(completed(player, own + THOUGHT + TASK + CALLS)))
    assert draft.reasons == [] and draft.task("a", "food_ordering").question == REQUEST


def test_a_think_tag_in_a_message_is_not_a_prefill(player):
    begin = [{"role": "user", "content": "Begin with <think> and write both blocks."}]
    player.tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    assert player.text(Rollout(player.ids(begin), player.encode("Done."), False)) == "Done."


def test_the_judge_closes_a_thought_that_the_prompt_opens(player):
    plain = player.digit_logits([CHAT])
    player.tokenizer.chat_template += "{% if add_generation_prompt %}<think>\n{% endif %}"
    closed = player.digit_logits([CHAT])
    prompt = player.encode(player.chat.prompt(CHAT) + "\n</think>\n\n")
    digits = [player.encode(digit)[-1] for digit in "12345"]
    with torch.no_grad():
        expected = player.model(torch.tensor([prompt])).logits[0, -1, digits]
    assert torch.allclose(closed[0], expected, atol=1e-4) and not torch.allclose(closed, plain)


# -------------------------------------------------------------------------------- system messages
DROPPING = {
    "other roles only": "{% for m in messages if m['role'] != 'system' %}" + HEAD.split("%}", 1)[1],
    "a text of its own": TURN % ("system", "You are helpful.")
    + "{% for m in messages if m['role'] == 'user' %}"
    + HEAD.split("%}", 1)[1],
    "the last message only": TURN % ("user", "{{ messages[-1]['content'] }}"),
    "the first message only": TURN % ("user", "{{ messages[0]['content'] }}"),
    "with tools only": "{% for m in messages if m['role'] != 'system' or tools %}"
    + HEAD.split("%}", 1)[1],
    "a long one cut off": "{% for m in messages %}{{ m['content'][:18] if m['role'] == 'system' "
    "and m['content'] | length > 18 else m['content'] }}{% endfor %}",
    "refused": "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}"
    "{% endif %}" + HEAD,
    "refused by a type error": "{% if messages[0]['role'] == 'system' %}{{ 1 + 'a' }}{% endif %}"
    + HEAD,
}


@pytest.mark.parametrize("how", DROPPING)
def test_a_dropped_system_message_goes_before_the_users_and_that_is_said_once(
    tokenizer, capsys, how
):
    form = with_template(tokenizer, DROPPING[how])
    long = "Reply by one call.  Take each value from the request."
    for request in (REQUEST, "Cancel it."):
        messages = [{"role": "system", "content": long}, {"role": "user", "content": request}]
        assert f"{long}\n\n{request}" in form.prompt(messages)
    out, err = capsys.readouterr()
    assert out == "" and err.count(chat.NO_SYSTEM) == 1


KEEPING = {
    "as it is": HEAD,
    "trimmed": "{% for m in messages %}{{ m['content'] | trim }}{% endfor %}",
    "before the user": "{{ messages[0]['content'] }} [INST] {{ messages[1]['content'] }} [/INST]",
    "after the user": "{{ messages[1]['content'] }} {{ messages[0]['content'] }}",
    "other blanks": "{% for m in messages %}{{ m['content'] | replace('\\n', ' ') }}{% endfor %}",
}


@pytest.mark.parametrize("how", KEEPING)
def test_a_template_that_keeps_it_is_left_alone(tokenizer, capsys, how):
    form = with_template(tokenizer, KEEPING[how])
    messages = [{"role": "system", "content": "One.\nTwo. \n"}, CHAT[1]]
    assert form.prompt(messages) == form.render(messages)
    assert capsys.readouterr().err == ""


def test_a_short_text_within_a_longer_one_does_not_count(tokenizer):
    form = with_template(tokenizer, DROPPING["other roles only"])
    messages = [{"role": "system", "content": "table"}, CHAT[1]]
    assert f"table\n\n{REQUEST}" in form.prompt(messages)


def test_the_template_of_tiny_drops_it_on_purpose_and_says_so(tokenizer, capsys):
    assert chat.DROPS_SYSTEM in tokenizer.chat_template
    expected = TURN % ("user", REQUEST) + "<|im_start|>assistant\n"
    assert ChatFormat(tokenizer).prompt(CHAT) == expected
    undeclared = tokenizer.chat_template.replace(chat.DROPS_SYSTEM, "")
    assert with_template(tokenizer, undeclared).prompt(CHAT) == expected.replace(REQUEST, MERGED)
    assert chat.NO_SYSTEM in capsys.readouterr().err


# ------------------------------------------------------------------------------- broken templates
@pytest.mark.parametrize(
    "template, why",
    [
        ("{% if %}", "Expected an expression"),
        ("{{ nothing.at_all }}", "'nothing' is undefined"),
        ("{{ 1 + 'a' }}", "unsupported operand"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ raise_exception('only for\nimages') }}", r"\(only for\)"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
        ("", "it drops or changes the user message"),
        ("{{ messages[0]['role'] }}", "it drops or changes the user message"),
        ({"tool_use": "{{ messages[0]['content'] }}", "rag": "x"}, r"\(rag, tool_use\)"),
        ({}, "0 chat templates"),
    ],
)
def test_a_template_that_fails_is_an_error_in_one_line(tokenizer, template, why):
    with pytest.raises(UnusableModel, match=why) as caught:
        with_template(tokenizer, template).prompt(CHAT)
    assert "\n" not in str(caught.value)


def test_of_several_templates_the_default_one_is_used(tokenizer):
    form = with_template(tokenizer, {"default": HEAD, "rag": "x"})
    assert form.prompt(CHAT) == TURN % ("system", RULES) + TURN % ("user", REQUEST)


# ------------------------------------------------------------------------------------------- dates
DATED = "{% set day = strftime_now('%d %b %Y') %}Today: {{ day }}.\n" + HEAD
CONDITIONAL = (
    "{%- if not date_string is defined %}\n    {%- if strftime_now is defined %}\n"
    "        {%- set date_string = strftime_now('%d %b %Y') %}\n    {%- else %}\n"
    "        {%- set date_string = '26 Jul 2024' %}\n    {%- endif %}\n{%- endif %}\n"
    "{{- date_string }}" + HEAD
)
FORMATS = {
    "%Y-%m-%d": "2026-01-05",
    "%d %B %Y": "05 January 2026",
    "%A, %-d %b %y": "Monday, 5 Jan 26",
    "%H:%M:%S %j": "00:00:00 005",
    "it is %F": "it is 2026-01-05",
}


@pytest.mark.parametrize("written", FORMATS)
def test_each_form_of_the_date_is_frozen(tokenizer, written):
    form = with_template(tokenizer, f"{{{{ strftime_now('{written}') }}}}|" + HEAD, "2026-01-05")
    assert form.prompt(CHAT).startswith(FORMATS[written] + "|")
    indirect = (
        "{%% set f = '%s' %%}{%% macro now() %%}{{ strftime_now(f) }}{%% endmacro %%}{{ now() }}|"
    )
    form = with_template(tokenizer, indirect % written + HEAD, "2026-01-05")
    assert form.prompt(CHAT).startswith(FORMATS[written] + "|")


@pytest.mark.parametrize("template", [DATED, CONDITIONAL])
def test_the_prompt_is_the_same_on_the_next_day(tokenizer, monkeypatch, template):
    prompts = []
    for day in ("2026-01-31", "2026-02-01"):
        monkeypatch.setattr(chat, "today", lambda day=day: day)
        frozen = with_template(tokenizer, template, "2026-01-31")
        prompts += [frozen.prompt(CHAT), with_template(tokenizer, template).prompt(CHAT)]
    kept, first, again, second = prompts
    assert kept == first == again != second
    assert "31 Jan 2026" in kept and "01 Feb 2026" in second


@pytest.mark.parametrize(
    "start", ["", "\n", "\n\n  ", "  ", "  {% if true %}\n", "\t{%- if true %} \n"]
)
def test_freezing_the_date_changes_nothing_else(tokenizer, start):
    end = "{% endif %}" if "if" in start else ""
    template = start + "{{ DAY }}" + HEAD + end
    plain = with_template(tokenizer, template.replace("DAY", "'05'")).prompt(CHAT)
    dated = template.replace("DAY", "strftime_now('%d')")
    assert with_template(tokenizer, dated, "2026-01-05").prompt(CHAT) == plain


def test_without_a_date_it_is_the_day_on_which_the_process_first_asked(tokenizer):
    form = with_template(tokenizer, DATED)
    assert form.date == chat.today()
    assert abs(datetime.date.fromisoformat(form.date) - datetime.date.today()).days <= 1


def test_whether_a_template_asks_for_the_date(tokenizer):
    assert not ChatFormat(tokenizer).asks_for_date()
    for template in (DATED, CONDITIONAL, {"default": DATED, "rag": "x"}):
        assert with_template(tokenizer, template).asks_for_date()
    assert not with_template(tokenizer, {"default": HEAD, "rag": DATED}).asks_for_date()


@pytest.mark.parametrize("date", ["31 Jan 2026", "2026-02-30", "today", "2026-01-31T10:00"])
def test_a_date_of_another_form_is_refused(tokenizer, date):
    with pytest.raises(UsageError, match="YYYY-MM-DD"):
        ChatFormat(tokenizer, date)


def test_a_checkpoint_remembers_the_date_of_its_prompts(tmp_path):
    player = Player("tiny", date="2026-01-31")
    player.save(tmp_path / "undated")
    assert chat.SAVED_DATE not in (tmp_path / "undated/tokenizer_config.json").read_text()
    player.tokenizer.chat_template = DATED
    player.save(tmp_path / "dated")
    saved = json.loads((tmp_path / "dated/tokenizer_config.json").read_text())
    assert saved[chat.SAVED_DATE] == "2026-01-31"
    again = Player(str(tmp_path / "dated"))
    assert again.ids(CHAT) == player.ids(CHAT)
    assert "31 Jan 2026" in again.tokenizer.decode(again.ids(CHAT))
    other = Player(str(tmp_path / "dated"), date="2026-02-01")  # what is asked for counts
    assert "01 Feb 2026" in other.tokenizer.decode(other.ids(CHAT))
    assert again.tokenizer.chat_template == DATED  # the template itself still asks for the date


# -------------------------------------------------------------------------------------- end tokens
LLAMA = (
    "{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA = (
    "{% for m in messages %}<start_of_turn>{{ m['role'] | replace('assistant', 'model') }}\n"
    "{{ m['content'] }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
PHI = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
)
SPACED = (
    "{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% else %} {{ m['content'] }} </s>{% endif %}{% endfor %}"
)
OPENS = (  # closes no turn: the next one begins with a token
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CHANNELS = (  # the last message of an assistant ends differently from the earlier ones
    "{% for m in messages %}<|start|>{{ m['role'] }}<|message|>{{ m['content'] }}"
    "{% if m['role'] == 'assistant' and loop.last %}<|return|>{% else %}<|end|>{% endif %}"
    "{% endfor %}"
)
PLAIN = "{% for m in messages %}### {{ m['role'] }}:\n{{ m['content'] }}\n\n{% endfor %}"
REFUSING = (
    "{% for m in messages %}{{ m['content'] if m['role'] != 'assistant' else 1 / 0 }}{% endfor %}"
)
UNKNOWN = HEAD.replace("<|im_end|>", "<|of_no_vocabulary|>")
ENDS = {
    "<|eot_id|>": LLAMA,
    "<end_of_turn>": GEMMA,
    "<|end|>": PHI,
    "</s>": SPACED,
    "<|user|>": OPENS,
    "<|return|>": CHANNELS,
    "<|im_end|>": HEAD,
}


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("end", ENDS)
def test_the_end_of_a_turn_is_found_in_the_template(tokenizer, end, special):
    markers = [*ENDS, "<|start|>", "<|assistant|>", "<start_of_turn>", "<|start_header_id|>"]
    tokenizer.add_tokens(markers, special_tokens=special)
    form = with_template(tokenizer, ENDS[end])
    assert form.end_of_turn() == tokenizer.convert_tokens_to_ids(end) is not None


@pytest.mark.parametrize("template", [PLAIN, REFUSING, UNKNOWN])
def test_a_template_without_a_token_for_the_end_names_none(tokenizer, template):
    assert with_template(tokenizer, template).end_of_turn() is None
