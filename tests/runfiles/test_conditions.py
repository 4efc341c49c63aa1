"""Conditions of shell scripts: what the script sets decides them, and nothing else does."""

from tests.cases import all_of

from weighbridge.files.runfiles.training import arrays

SCRIPT = """\
DTYPE=fp8
NAME=${{RUN:-small}}
N=4
EMPTY=""
if {test}; then
    A=yes
else
    A=no
fi
"""


@all_of(
    ("test", "taken"),
    [
        ('[ "$DTYPE" = fp8 ]', True),
        ('[[ "$DTYPE" == "fp8" ]]', True),
        ('[[ "${DTYPE}" != "fp8" ]]', False),
        ('[ "$NAME" = small ]', True),  # what is set unless the shell has it
        ("[ $N -gt 3 ]", True),
        ("[ $N -gt 4 ]", False),
        ("[ $N -ge 4 ]", True),
        ("[ $N -lt 4 ]", False),
        ("[ $N -le 4 ]", True),
        ("[ $N -eq 4 ]", True),
        ("[ $N -ne 4 ]", False),
        ("test $N -eq 4", True),
        ('[ -z "$EMPTY" ]', True),
        ('[ -n "$EMPTY" ]', False),
        ('[ -n "$N" ]', True),
        ('! [ "$DTYPE" = fp8 ]', False),
        ('[ ! "$DTYPE" = fp8 ]', False),
        ('[ "$DTYPE" = bf16 ] || [ $N -eq 4 ]', True),
        ('[ "$DTYPE" = fp8 ] && [ $N -eq 5 ]', False),
        ('[[ "$OTHER" == x || $N -eq 4 ]]', True),  # one half is enough
        ('[[ "$OTHER" == x && $N -eq 5 ]]', False),
        ('[[ "$OTHER" == x && $N -eq 4 ]]', None),
        ('[ "$OTHER" = x ]', None),  # nobody says what it is
        ('[ -z "$1" ]', None),
        ("[ -f config.yaml ]", None),
        ("[ $DTYPE -gt 3 ]", None),
        ('[ "$(nproc)" = 4 ]', None),
        ('[[ "$DTYPE" == fp* ]]', None),  # a pattern
        ("command -v uv", None),
    ],
)
def test_a_test_is_what_the_script_says(test, taken):
    text = arrays.taken(SCRIPT.format(test=test))
    assert ("A=yes" in text, "A=no" in text) == (taken is not False, taken is not True)
    assert ("if " in text, "fi\n" in text) == (taken is None, taken is None)
    assert text.count("\n") == SCRIPT.count("\n")  # lines stay where they were


def test_the_first_branch_that_holds_is_taken():
    chain = """\
N=2
if [ $N -eq 1 ]; then
  A=one
elif [ $N -eq 2 ]
then
  if [ -f x ]; then
    B=file
  fi
  A=two
elif [ $N -ge 2 ]; then
  A=three
else
  A=four
fi
C=after
"""
    text = arrays.taken(chain)
    assert " ".join(text.split()) == "N=2 if [ -f x ]; then B=file fi A=two C=after"


def test_a_test_reads_what_stands_above_it():
    text = "A=1\nif [ $A = 1 ]; then\nB=2\nfi\nif [ $B = 2 ]; then\nC=3\nfi\nA=0\n"
    assert arrays.taken(text).split() == ["A=1", "B=2", "C=3", "A=0"]
    assert "B=2" not in arrays.taken(text.replace("A=1", "A=2"))


@all_of(
    "text",
    [
        "N=1\nfor i in 1 2; do\n  if [ $N = 2 ]; then\n    A=1\n  fi\ndone\n",  # a loop
        "if [ -f x ]; then\n  N=2\n  if [ $N = 1 ]; then\n    A=1\n  fi\nfi\n",
        "N=1\nif [ $N = 2 ]; then A=1; fi\n",  # on one line
        "if [ -f x ]; then\n  A=1\nelif [ 1 = 2 ]; then\n  A=2\nelse\n  A=3\nfi\n",
        "N=1\nif [ $N = 1 ]\n",  # it never ends
        "fi\ndone\nelse\n",  # nor begins
    ],
)
def test_what_is_not_decided_stays(text):
    left = arrays.taken(text)
    assert left == text or text.endswith("]\n")


def test_no_more_conditions_are_decided_than_a_person_writes():
    text = "N=1\n" + "if [ $N = 2 ]; then\nA=1\nfi\n" * 100
    assert arrays.taken(text).count("A=1") == 100 - 64


def test_a_branch_adds_to_an_array():
    """A branch that is taken adds flags in quotes, as examples/llama/train_llama3_8b_h100_fp8.sh of
    Megatron-LM has them."""
    text = """\
DTYPE="fp8"
ARGS=(--bf16)
if [[ "$DTYPE" == "fp8" ]]; then
    ARGS+=(
        "--fp8-format hybrid"
        "--split '99,1,0'"
    )
fi
torchrun pretrain_gpt.py ${ARGS[@]}
"""
    line = arrays.filled_in(text).splitlines()[-1]
    assert line == "torchrun pretrain_gpt.py --bf16 --fp8-format hybrid --split '99,1,0'"
    assert not arrays.conditional(text)
    assert arrays.conditional(text.replace('DTYPE="fp8"', "DTYPE=$1"))
