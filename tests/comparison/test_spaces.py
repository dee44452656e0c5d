"""The search spaces: complete, sane, and documented."""

import inspect
from pathlib import Path

import pytest

from kyori.comparison import METHODS, Method
from kyori.comparison.spaces import FEATURES, LEFT_ALONE, LINEAR_SPACES, LOSS_SPACES, defaults_of, space_of
from kyori.linear import LINEAR
from kyori.losses import LOSSES, create
from kyori.training import RunConfig

SIZES = ("num_classes", "embedding_size")
BOARD_LINEAR = [name for name, method in LINEAR.items() if method.supervision != "targets"]
TABLES = [(LOSSES, name, LOSS_SPACES.get(name, {})) for name in LOSSES]
TABLES += [(LINEAR, name, LINEAR_SPACES.get(name, {})) for name in BOARD_LINEAR]


def is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


def test_every_loss_and_every_linear_method_has_a_space():
    assert set(LOSS_SPACES) == set(LOSSES)
    assert set(LINEAR_SPACES) == set(BOARD_LINEAR)


@pytest.mark.parametrize(
    ("kinds", "name", "space"), TABLES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_space_names_the_method_s_own_numbers_and_holds_their_defaults(kinds, name, space):
    parameters = inspect.signature(kinds[name]).parameters
    assert set(space) <= set(parameters)
    for option, parameter in parameters.items():
        if option in space:
            assert not is_number(parameter.default) or parameter.default in space[option], option
        elif option not in SIZES:
            assert not is_number(parameter.default) or option in LEFT_ALONE, (
                f"{option} has no range and no reason"
            )


@pytest.mark.parametrize(
    ("kinds", "name", "space"), TABLES, ids=lambda value: value if isinstance(value, str) else ""
)
@pytest.mark.parametrize("end", ["low", "high"])
def test_both_ends_of_every_range_can_be_built(kinds, name, space, end):
    options = {o: (int if r.whole else float)(getattr(r, end)) for o, r in space.items()}
    if kinds is LOSSES:
        create(name, num_classes=3, embedding_size=4, **options)
    else:
        kinds[name](**options)


def test_every_method_has_something_to_search_and_its_defaults():
    for method in METHODS.values():
        space = space_of(method, RunConfig())
        assert set(space) or method.name == "raw"
        assert set(defaults_of(method, RunConfig.from_options(loss=method.loss or "triplet"))) == set(space)


def test_what_a_method_sets_is_not_searched():
    base = RunConfig.from_options(loss="arcface", lr=0.1)
    space = space_of(Method("mine", "arcface", {"margin": 0.2, "lr": 0.1}), base)
    assert set(space) == {"scale", "head_lr"}
    assert (space["head_lr"].low, space["head_lr"].high) == pytest.approx((0.01, 10))
    assert set(space_of(Method("few", None, {"k": 3}, "lfda"), base)) == {"shrinkage", "features"}


def test_the_default_rate_of_a_sampled_head_is_the_one_it_is_trained_with():
    sampled = RunConfig.from_options(loss="arcface", lr=0.1, sample=0.25)
    assert defaults_of(Method("sampled", "arcface", {"sample": 0.25}), sampled)["head_lr"] == pytest.approx(
        0.2
    )


def test_the_documentation_shows_every_space():
    page = (Path(__file__).parents[2] / "docs" / "search-spaces.md").read_text()
    lines = {line.split("|")[1].strip(" `"): line for line in page.splitlines() if line.startswith("| `")}
    for name, space in {**LOSS_SPACES, **{f"{n} (linear)": s for n, s in LINEAR_SPACES.items()}}.items():
        for option, found in space.items():
            assert f"{option} {found}" in lines[name], (
                f"docs/search-spaces.md: {name} lacks '{option} {found}'"
            )
    assert str(FEATURES) in page
