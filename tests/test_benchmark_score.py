"""Scores: errors, shares, McNemar's test, and the tables."""

import pytest

from ast_match import Call, Tool
from evals import tables
from evals.cases import Case
from evals.score import verdict

TOOLS = [
    Tool("book", "", {"guests": {"type": "integer"}, "who": {"type": "string"}}, ("guests",)),
    Tool("cancel", "", {}, ()),
]


def call(name="book", **arguments):
    return Call(name, arguments)


def case(*gold, rule="exact", accept=None, id="a", benchmark="b"):
    accept = accept or [{k: [v] for k, v in c.arguments.items()} for c in gold]
    return Case(id, "q", TOOLS, list(gold), "", benchmark, rule, tuple(accept))


ONE, TWO = [call(guests=3)], [call(guests=3), call("cancel")]
BFCL = dict(rule="bfcl", accept=[{"guests": [3], "who": ["Tora", ""]}])


@pytest.mark.parametrize(
    "answer, gold, error",
    [
        (ONE, ONE, None),
        (TWO[::-1], TWO, None),
        (None, ONE, "unparsable"),
        ([call("cancel")], ONE, "wrong tool"),
        ([call(guests=3), call(guests=3)], TWO, "wrong tool"),
        ([], ONE, "wrong number of calls"),
        (ONE, TWO, "wrong number of calls"),
        (ONE + TWO, TWO, "wrong number of calls"),
        ([call(who="x")], ONE, "missing argument"),
        ([call(guests=3, who="x")], ONE, "extra argument"),
        ([call(guests=4)], ONE, "wrong value"),
        ([call(guests="3")], ONE, "wrong value"),
    ],
)
def test_a_wrong_answer_has_the_first_error_that_is_true_of_it(answer, gold, error):
    assert verdict(case(*gold), answer).error == error


def test_where_nothing_is_to_be_called_any_answer_without_calls_is_right():
    for rule in ("exact", "bfcl"):
        assert verdict(case(rule=rule), []).error is verdict(case(rule=rule), None).error is None
        assert verdict(case(rule=rule), ONE).error == "wrong number of calls"
    assert verdict(case(), None).shares["unparsable"] == (1, 1)


@pytest.mark.parametrize(
    "arguments, error",
    [
        ({"guests": 3}, None),
        ({"guests": 3, "who": "tora"}, None),
        ({"guests": 3, "who": "Simon"}, "wrong value"),
        ({"who": "Tora"}, "missing argument"),
        ({"guests": 3, "time": 1}, "extra argument"),
    ],
)
def test_by_the_rule_of_bfcl_an_optional_argument_is_neither_missing_nor_extra(arguments, error):
    assert verdict(case(*ONE, **BFCL), [Call("book", arguments)]).error == error


def test_a_required_argument_is_demanded_even_where_bfcl_accepts_its_absence():
    assert verdict(case(*ONE, rule="bfcl", accept=[{"guests": [3, ""]}]), [call()]).error == (
        "missing argument"
    )


def test_the_shares_go_down_from_calls_to_arguments_to_values():
    gold = [call(guests=3, who="x"), call("cancel")]
    assert verdict(case(*gold), [call(guests=4), call("other")]).shares == {
        "name": (1, 2),  # of two gold calls
        "argument": (1, 2),  # of the two arguments of the call that was made
        "value": (0, 1),  # of the one argument that was given
        "unparsable": (False, 1),
    }


def test_calls_of_one_tool_are_compared_with_the_gold_call_that_they_fit():
    gold = [call(guests=3), call(guests=4)]
    assert verdict(case(*gold), [call(guests=4), call(guests=5)]).shares["value"] == (1, 2)
    accept = [{"guests": [3]}, {"guests": [3], "who": ["x"]}]
    both = case(call(guests=3), call(guests=3, who="x"), rule="bfcl", accept=accept)
    assert verdict(both, both.calls[::-1]).shares["value"] == (3, 3)


def test_mcnemars_p_is_the_probability_of_a_split_as_uneven_by_fair_coins():
    assert tables.mcnemar(0, 0) == 1 == tables.mcnemar(7, 7)
    assert tables.mcnemar(0, 10) == pytest.approx(2 / 2**10) == tables.mcnemar(10, 0)
    assert tables.mcnemar(900, 2000) < 1e-90  # no overflow


def test_the_macro_average_stands_beside_the_papers_and_shows_where_those_are_not_means():
    text = tables.beside_the_paper(dict(zip(tables.FIVE, (10, 20, 30, 40, 50))))
    assert "this run" in text and "30.00" in text.splitlines()[1]
    rows = {name: row for name, row in zip(tables.TABLE_1, text.splitlines()[2:])}
    assert rows["1.5B after Tool-R0"].split()[-2:] == ["47.29", "47.84"]
    assert rows["0.5B after Tool-R0"].split()[-2:] == ["31.09", "30.57"]
    assert rows["Qwen2.5-1.5B-Instruct"].split()[-2:] == ["24.85", "24.85"]
    assert tables.beside_the_paper({"heldout": 50.0}) == ""
    assert tables.beside_the_paper({"snips": 50.0}).splitlines()[1].split()[-2:] == ["-", "-"]


def test_a_comparison_has_a_row_for_each_benchmark_and_one_for_all():
    cases = [case(*ONE, id=str(i), benchmark="xy"[i % 2]) for i in range(40)]
    some = {str(i): ONE if i % 2 else [] for i in range(40)}
    rows = tables.comparison(cases, dict.fromkeys(some, ONE), some).splitlines()[1:]
    assert [row.split()[0] for row in rows] == ["x", "y", "all"]
    assert "+100.0  [+100.0, +100.0]" in rows[0] and rows[0].split()[-3:] == ["20", "0", "1.91e-06"]
    assert "+0.0" in rows[1] and rows[1].endswith("1")
    assert "+50.0" in rows[2]
