"""Exercise 1: the Generator's format reward.

The paper (Sec. 3.2.1) pays the Generator r_fmt for what can be read of a completion, a third each:

    all four blocks are there      <think>, <question>, <available_tools>, <tool_call_answer>
    the menu parses                the text in <available_tools> is a list of tools
    the answer parses              the text in <tool_call_answer> is a list of calls

Why in parts: GRPO learns from differences inside a group.  If only a whole task were paid, a group
in which none is whole would teach nothing; a third for each part tells a near miss from babble.

`generator.parse` has read the completion.  In its Draft, `blocks` maps each of the four tags to its
text, or to None where it is missing; `tools` and `calls` are None where they could not be read.

Worked example: four blocks, a menu, but an answer that is not JSON: 1/3 + 1/3 + 0.

    >>> draft = generator.parse("<think>Rain.</think><question>Rain in Rome?</question>"
    ...     '<available_tools>[{"name": "get_rain"}]</available_tools>'
    ...     "<tool_call_answer>get_rain!</tool_call_answer>")
    >>> draft.reasons, round(r_fmt(draft), 4)
    (['answer: not JSON'], 0.6667)

Hint: in a sum, True counts as 1.

    python exercises/ex1_format_reward.py
"""

from itertools import product

from check import check  # first: it lets Python find the project

import rewards
from ast_match import Call, Tool
from generator import BLOCKS, Draft


def r_fmt(draft: Draft) -> float:
    """The format reward of a completion, 0 to 1."""
    raise NotImplementedError


if __name__ == "__main__":
    menu, answer = [Tool("get_rain", "", {}, ())], [Call("get_rain", {})]
    check(
        r_fmt,
        rewards.r_fmt,
        [
            (Draft(dict(zip(BLOCKS, texts)), tools, calls),)
            for *texts, tools, calls in product(
                *[("some text", None)] * 4, (menu, None), (answer, None)
            )
        ],
    )
