"""Words and variables of a text, as bash splits them."""

import pytest

import weighbridge
from tests.cases import all_of
from tests.work import end
from weighbridge.base.errors import UsageError
from weighbridge.engines.launch import parse
from weighbridge.engines.launch.shell import CONTINUED, commands
from weighbridge.files.runfiles import read

TRAIN = "python sft.py --model_name_or_path Qwen/Qwen3-0.6B --per_device_train_batch_size 2"


@all_of(
    ("text", "words"),
    [
        ('A="--a 1  --b"\np $A c', ["p", "--a", "1", "--b", "c"]),
        ('A="--a 1"\np "$A"', ["p", "--a 1"]),
        ("A='--a $B'\np $A", ["p", "--a", "$B"]),
        ('A="x y"\np n=$A"$A"', ["p", "n=x", "yx y"]),
        ("A=''\np $A b", ["p", "b"]),
        ('A=\np "$A" b ""', ["p", "", "b", ""]),
        ('A=(--a "x y"\n  --b)\np "${A[@]}"', ["p", "--a", "x y", "--b"]),
        ('A=(--a "x y")\np ${A[@]}', ["p", "--a", "x", "y"]),
        ('A=(--a 1)\np "${A[*]}" $A', ["p", "--a 1", "--a"]),
        ('B=7\ndeclare -a A=(--a $B)\nA+=("$B z")\np "${A[@]}"', ["p", "--a", "7", "7 z"]),
        ('A="--a"\nA+=" --b"\np $A', ["p", "--a", "--b"]),
        ('A="--a"\nexport A="$A --b"\np $A', ["p", "--a", "--b"]),
        ('A=()\np "${A[@]}" b', ["p", "b"]),
        ("p ${A:-x} \\$B '$C' $D", ["p", "x", "$B", "$C", "$D"]),
    ],
)
def test_variables_are_put_in_as_a_shell_does(text, words):
    assert [list(command.words) for command in commands(text)] == [words]


@all_of(
    ("text", "words"),
    [
        ("p --n 8192 > log 2>&1 &", ["p", "--n", "8192"]),
        ("p --n 8 >>log", ["p", "--n", "8"]),
        ("p 2>/dev/null --n 3", ["p", "--n", "3"]),
        ("p --n 2> log", ["p", "--n"]),  # a shell reads it so, too
        ("p 'a 2>b' < in", ["p", "a 2>b"]),
    ],
)
def test_a_number_before_a_redirection_is_its_own_word_unless_it_stands_at_the_sign(text, words):
    assert list(next(iter(commands(text))).words) == words


@all_of(
    ("text", "words"),
    [
        ("srun -N 2 bash -c 'p --a \"x y\"'", ["srun", "-N", "2", "p", "--a", "x y"]),
        ("export A=1\n/bin/sh -c 'p $A'", ["p", "1"]),
        ('A=1\nbash -lc "p $A \\\n  --b"', ["p", "1", "--b"]),
        ("bash --login -eo pipefail -c 'p --a' name", ["p", "--a"]),
        ("bash -a -b -x -c 'p --a'", ["p", "--a"]),
        ("bash -a -b -x -y -c 'p --a'", ["bash", "-a", "-b", "-x", "-y", "-c", "p --a"]),
        ("bash run.sh -c 'p --a'", ["bash", "run.sh", "-c", "p --a"]),
        ("bash -x -c", ["bash", "-x", "-c"]),
        ("bash -c ''", ["bash", "-c", ""]),
        ("bash -c 'p \"$@\"' -- --a 'x y'", ["p", "--a", "x y"]),  # the word behind it is its name
        ("bash -c 'p $*' --", ["p"]),
        ("python -c 'p --a'", ["python", "-c", "p --a"]),
        ("sh -c \"sh -c 'p --a'\"", ["sh", "-c", "p --a"]),
    ],
)
def test_what_a_shell_is_handed_is_its_commands(text, words):
    assert [list(command.words) for command in commands(text)] == [words]


def test_each_command_that_a_shell_is_handed_has_what_is_set_in_it():
    found = list(commands("B=1 srun bash -c 'export A=2\nq; p'"))
    assert [(each.words, dict(each.env)) for each in found] == [
        (("srun", "q"), {"A": "2", "B": "1"}),
        (("srun", "p"), {"A": "2", "B": "1"}),
    ]


@pytest.mark.slow
def test_what_shells_are_handed_is_bounded_in_all():
    text, each = f"A='p {'a' * 30_000}'\n", 'bash -c "$A"\n'
    assert len(list(commands(text + 2 * each))) == 2
    with pytest.raises(UsageError, match="longer than 64 KiB"):
        list(commands(text + 3 * each))


def test_variables_of_variables_are_bounded():
    lines = ['A="x x x x x x x x x x"', *(f'A="{"$A " * 10}"' for _ in range(9)), "p $A $A"]
    with pytest.raises(UsageError, match="more than 20,000 words"):
        list(commands("\n".join(lines)))


@pytest.mark.parametrize("used", ["$ARGS", '"${ARGS[@]}"'])
def test_flags_in_a_variable_are_flags(used):
    value = (
        "(--bf16 --gradient_checkpointing)" if "@" in used else '"--bf16 --gradient_checkpointing"'
    )
    (run,) = read(f"ARGS={value}\n{TRAIN} --max_length 4096 {used}\n", "a.sh").runs
    assert run.settings["precision"] == "bf16-mixed"
    assert run.settings["checkpointing"] == "full"
    assert run.settings["seq_len"] == 4096
    value = value.replace("--bf16 --gradient_checkpointing", "--max-model-len 4096")
    assert parse(f"ARGS={value}\nvllm serve a/b {used}").settings == {"context": 4096}


@pytest.mark.slow
@pytest.mark.parametrize("flags", ["--max_length 4096 $ARGS", "--bf16 $ARGS", "--bf16 ${ARGS[@]}"])
def test_flags_that_the_text_does_not_say_are_told_and_doubted(flags):
    (weighed,) = weighbridge.weigh(f"{TRAIN} {flags}\n", name="a.sh", gpu="h100").runs
    (told,) = weighed.run.unread
    assert told.key.strip("${}[@]") == "ARGS"
    assert weighed.fits == "unknown"
    assert "ARGS" in weighed.report.verdict.reason


@pytest.mark.slow
@pytest.mark.parametrize(("context", "gpu"), [(2048, "h100"), (40960, "3060")])
def test_flags_that_a_launch_line_does_not_say_leave_its_answer_open(context, gpu):
    line = f"vllm serve qwen3-8b --max-model-len {context}"
    sure = weighbridge.weigh(f"{line}\n", name="a.sh", gpu=gpu)
    assert sure.fits in ("yes", "no")
    (open_,) = weighbridge.weigh(f"{line} --served-model-name x $MORE\n", name="a.sh", gpu=gpu).runs
    assert open_.fits == "unknown"
    assert "$MORE may hold flags" in open_.report.verdict.reason
    assert weighbridge.weigh(f'{line} "$@"\n', name="a.sh", gpu=gpu).fits == sure.fits


def test_a_launch_line_in_prose_has_the_variables_that_are_set_above_it():
    text = """\
Why is it out of memory?
```bash
export LEN=2048
OTHER=1
ARGS=(--max-model-len $LEN
  --enforce-eager)
vllm serve Qwen/Qwen3-8B "${ARGS[@]}"
```
"""
    (run,) = read(text).runs
    assert parse(run.command).settings == {"context": 2048, "enforce_eager": True}
    assert "OTHER" not in run.command


@all_of(
    ("inner", "made"),
    [
        ("W/8", "2"),
        (" $W / 8 ", "2"),
        ("${W}*2+1", "33"),
        ("W-2*3", "10"),
        ("W/4*2", "8"),
        ("W%5", "1"),
        ("7/2", "3"),
        ("2-W-1", "-15"),
        ("W/0", "$((W/0))"),
        ("X/8", "$((X/8))"),
        ("9999999999*2", "$((9999999999*2))"),
    ],
)
def test_arithmetic_is_done_where_the_text_says_the_numbers(inner, made):
    (command,) = commands(f'export W=16\nexport N="$(({inner}))"\nrun --a $N')
    assert command.words == ("run", "--a", made)
    (command,) = commands(f"export W=16\nrun $(({inner}))")
    assert command.words == ("run", made)


def test_the_end_of_a_line_that_goes_on_is_looked_for_from_where_its_blanks_begin():
    """Each blank was once a beginning, and 16,000 of them took eleven seconds."""
    text = "a  \t \\ \nb"
    assert [n for n in range(len(text)) if CONTINUED.match(text, n)] == [1]
    assert [c.words for c in commands(f"p {text}")] == [c.words for c in commands("p a b")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("p --a # b # c\nq", ["p", "--a"]),
        ("p '--a # b' c", ["p", "--a # b", "c"]),
        ("p '--a # b' # c", ["p", "--a # b"]),
        ("p --a#b", ["p", "--a#b"]),
    ],
)
def test_a_comment_begins_after_the_last_quote_of_a_line(text, words):
    assert list(next(iter(commands(text))).words) == words


def test_a_line_of_many_signs_of_comments_is_read_to_its_end():
    """Each was once a beginning, and 16,000 of them took five seconds."""
    end(
        "from weighbridge.engines.launch.shell import COMMENT\n"
        "text = ' #' * 1_000_000 + chr(34)\n"
        "assert COMMENT.sub('', text) == text"
    )
