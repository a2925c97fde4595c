from __future__ import annotations

import math

import pytest

from inspectcli.errors import UsageError
from inspectcli.hparams._trials import EXPERIMENTS, STUDIES, Study, choose
from inspectcli.hparams.base import Selection, Store, Trial


def study(name: str, *objectives: float | None, minimize: bool | None = True) -> Study:
    """Trials 0, 1, 2, ...; those with an objective are complete."""
    trials = tuple(
        Trial(str(n), "COMPLETE" if value is not None else "FAIL", name, value) for n, value in enumerate(objectives)
    )
    return Study(name, trials, frozenset(t.name for t in trials if t.objective is not None), minimize, "loss")


def chosen(store: Store) -> list[tuple[str, str]]:
    return [(t.study, t.name) for t in store.trials if t.chosen]


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        pytest.param(study("s", 3.0, 1.0, 2.0), "1", id="smallest"),
        pytest.param(study("s", 3.0, 1.0, 2.0, minimize=False), "0", id="largest"),
        pytest.param(study("s", None, 5.0, 2.0, None), "2", id="failed ones do not count"),
        pytest.param(study("s", math.nan, 5.0, math.nan), "1", id="NaN does not count"),
        pytest.param(study("s", 1.0, 1.0, 1.0), "0", id="first of equals"),
        pytest.param(study("s", math.inf, 5.0, -math.inf), "2", id="infinite"),
        pytest.param(study("s", 3.0, 1.0, minimize=None), "1", id="nothing to compare by: the latest"),
        pytest.param(study("s", 3.0, 0.0, 2.0), "1", id="zero is a figure"),
        pytest.param(study("s", None, None), "1", id="none complete: the latest"),
    ],
)
def test_without_a_choice(one: Study, expected: str) -> None:
    assert chosen(choose([one], Selection(), STUDIES)) == [("s", expected)]


def test_what_the_user_is_told() -> None:
    told = choose([study("a", 1.0), study("b", 3.0, 1.0, None)], Selection(), STUDIES, ["from the reader"])
    assert told.notes == (
        "from the reader",
        "2 studies: a, b; shown is 'b': --study chooses another",
        "3 trials, 2 complete; shown is trial 1, the best (loss, minimize: 1): --trial chooses another",
    )
    assert told.objective == "loss, minimize"
    assert [(t.study, t.name) for t in told.trials if t.best] == [("a", "0"), ("b", "1")]


def test_one_trial_needs_no_words() -> None:
    assert choose([study("a", 1.0)], Selection(), STUDIES) == Store(objective="loss, minimize")
    assert choose([study("a", None)], Selection(), STUDIES).notes == ("the only trial, 0, is not complete: FAIL",)


def test_an_empty_store_says_so() -> None:
    assert choose([], Selection(), STUDIES).notes == ("no trial is recorded",)
    assert choose([study("a")], Selection(), EXPERIMENTS).notes == ("no run is recorded",)


def test_choices() -> None:
    two = [study("a", 1.0, 2.0), study("b", 3.0, 1.0)]
    assert chosen(choose(two, Selection(study="a"), STUDIES)) == [("a", "0")]
    assert chosen(choose(two, Selection(trial="0"), STUDIES)) == [("b", "0")]
    assert chosen(choose(two, Selection(study="a", trial="1"), STUDIES)) == [("a", "1")]
    assert chosen(choose(two, Selection(study="a", run="1"), STUDIES)) == [("a", "1")]


def test_a_trial_by_the_beginning_or_end_of_its_name() -> None:
    runs = Study("e", (Trial("1a9a137e"), Trial("1b77"), Trial("t_00001")))
    for wanted, found in (("1a", "1a9a137e"), ("00001", "t_00001"), ("1b77", "1b77")):
        assert chosen(choose([runs], Selection(run=wanted), EXPERIMENTS)) == [("", found)]
    with pytest.raises(UsageError, match="no run '1': found 1a9a137e, 1b77, t_00001"):
        choose([runs], Selection(run="1"), EXPERIMENTS)


def test_what_is_not_there() -> None:
    with pytest.raises(UsageError, match="no study 'x': found a"):
        choose([study("a", 1.0)], Selection(study="x"), STUDIES)
    many = study("a", *(float(n) for n in range(20)))
    with pytest.raises(UsageError, match="no trial '99': found 0, 1, 2, 3, 4, 5, 6, 7 and 12 more"):
        choose([many], Selection(trial="99"), STUDIES)
