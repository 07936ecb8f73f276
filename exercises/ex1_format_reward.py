"""Exercise 1: the Generator's format reward.

The paper (Sec. 3.2.1) pays r_fmt for what can be read of a completion, a third each:

    all four blocks are there      <think>, <question>, <available_tools>, <tool_call_answer>
    the menu parses                the text in <available_tools> is a list of tools
    the answer parses              the text in <tool_call_answer> is a list of calls

Why in parts: GRPO learns from differences within a group.  If only complete tasks were paid, a
group without one would teach nothing; a third for each part separates a near miss from babble.

`generator.parse` has read the completion.  In its Draft, `blocks` maps each of the four tags to its
text, or to None if it is missing; `tools` and `calls` are None if they could not be read.

Worked example: four blocks and a menu, but an answer that is not JSON: 1/3 + 1/3 + 0.

    >>> menu = [Tool("get_rain", "", {}, ())]
    >>> round(r_fmt(Draft(dict.fromkeys(BLOCKS, "some text"), menu, None)), 4)
    0.6667

Hint: in a sum, True counts as 1.

    python -m exercises.ex1_format_reward
"""

from itertools import product

import rewards
from ast_match import Call, Tool
from exercises.check import check
from generator import BLOCKS, Draft


def r_fmt(draft: Draft) -> float:
    """Return the format reward of a completion, 0 to 1."""
    raise NotImplementedError


if __name__ == "__main__":
    menus = [[Tool("get_rain", "", {}, ())], None]
    answers = [[Call("get_rain", {})], None]
    cases = product(*[("some text", None)] * 4, menus, answers)
    check(r_fmt, rewards.r_fmt, [(Draft(dict(zip(BLOCKS, c)), c[4], c[5]),) for c in cases])
