"""Files of ``KEY=VALUE`` lines: where a value ends."""

import pytest

from sidecar.importers.environment import Variable, assignments


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('"1.2.3.4" # the node\'s', "1.2.3.4"),
        ("'1.2.3.4'\t#the \"node", "1.2.3.4"),
        ('"1" # which is "one"', "1"),
        ('"1"  ', "1"),
        ('"" # none', ""),
        # Without a blank it is no comment, and quotes within a value are the value's.
        ('"1"#2"', '1"#2'),
        ('"say "1" twice"', 'say "1" twice'),
        ("\"say '1' # twice\"", "say '1' # twice"),
        (
            '"\n 80 tcp 1.2.3.4\n\n # it\'s "old":\n"  # all',
            '\n 80 tcp 1.2.3.4\n\n # it\'s "old":\n',
        ),
        ('"a\n" #', "a\n"),
    ],
)
def test_a_quoted_value_ends_at_its_quote(text: str, value: str) -> None:
    lines = 1 + text.count("\n")
    assert list(assignments(f"A={text}\nB=2\n")) == [
        (1, f"A={text}".splitlines()[0], Variable("A", value, "A")),
        (1 + lines, "B=2", Variable("B", "2", "B")),
    ]


def test_a_quote_without_an_end_takes_no_other_line() -> None:
    first, second = assignments("A='1 # it\nB=2\n")
    assert first == (1, "A='1 # it", "the quote ' has no end; write one behind the last line")
    assert second == (2, "B=2", Variable("B", "2", "B"))
