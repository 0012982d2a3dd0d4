"""Verdicts on theta: which kind, by which numbers, in words that hold them."""

import numpy as np
import pytest
import xarray as xr

from hybridsam.analysis.trust import verdicts, with_verdicts
from hybridsam.core.errors import UserError


def identification(slope=0.05, **assumptions):
    """Of one parameter: title -> theta, spread_ratio; the interval is a tenth wide, that of the slope too."""
    theta, ratio = np.array(list(assumptions.values())).T if assumptions else np.empty((2, 0))
    titles = [title.replace("_", " ") for title in assumptions]
    return xr.Dataset(
        {
            "theta": (("assumption", "parameter"), theta[:, None]),
            "low": (("assumption", "parameter"), theta[:, None] - 0.05),
            "high": (("assumption", "parameter"), theta[:, None] + 0.05),
            "spread_ratio": ("assumption", ratio),
            "slope": (("end", "parameter"), np.array([[slope], [slope - 0.05], [slope + 0.05]])),
        },
        coords={"assumption": titles, "parameter": ["k"], "parameter_units": ("parameter", ["s-1"])},
    )


def verdict(tolerance="5 %", told=True, **options):
    [found] = verdicts(identification(**options), [told], tolerance)
    return found


AGREE = {"small": (1.0, 9.0), "straight": (1.01, 1.1), "depends_on_velocity": (1.02, 0.9)}
NOTHING = {"straight": (np.nan, 1.0), "depends_on_position": (np.nan, 30.0)}
CASES = {
    "assumptions that agree": ({**AGREE}, "fixed by an assumption"),
    "one that is far from the others": ({**AGREE, "straight": (1.4, 1.1)}, "depends on the assumption"),
    "one that is far, but rejected": ({**AGREE, "straight": (1.4, 2.1)}, "fixed by an assumption"),
    "small, which nothing can reject, is far": ({**AGREE, "small": (1.4, 99.0)}, "depends on the assumption"),
    "small alone": ({"small": (1.0, 9.0), **NOTHING}, "fixed by an assumption"),
    "none that says anything": (NOTHING, "undecided"),
    "none that fits": ({"straight": (1.0, 5.0)}, "undecided"),
    "none that can be asked": ({}, "undecided"),
    "starts that stay": ({**AGREE, "slope": 0.31}, "follows its start"),
    "starts that may stay or not": ({**AGREE, "slope": 0.29}, "fixed by an assumption"),
    "all start at the same place": ({**AGREE, "slope": np.nan}, "fixed by an assumption"),
    "starts that stay and nothing else": ({"slope": 1.0}, "follows its start"),
    "a science that does not tell it": ({**AGREE, "told": False, "slope": 1.0}, "structurally not"),
}


@pytest.mark.parametrize(("options", "kind"), CASES.values(), ids=CASES)
def test_kinds(options, kind):
    found = verdict(**options)
    assert (found.parameter, found.kind) == ("k", kind)
    assert found.sentence.startswith("k ")
    assert found.sentence.endswith(".") and "nan" not in found.sentence and "  " not in found.sentence


def test_the_sentence_has_the_numbers_their_unit_and_what_they_rest_on():
    assert verdict(**AGREE).sentence == (
        "k is 1 s-1 (0.95 to 1.05) if what the science lacks is small, 1.01 s-1 (0.96 to 1.06) if it is straight, and "
        "1.02 s-1 (0.97 to 1.07) if it depends on velocity."
    )
    far = verdict(**AGREE | {"straight": (1.4, 1.1)}).sentence
    assert far.startswith("k is anything from 1 s-1 to 1.4 s-1: 1 s-1 (")
    assert verdict(**AGREE | {"straight": (1.4, 2.1)}).sentence.endswith(" Rejected by the data: straight.")
    assert "that it is small cannot be tested" in verdict(small=(1.0, 9.0)).sentence
    assert "(slope 0.31, 0.26 to 0.36): training does not fix it; 1 s-1" in verdict(slope=0.31, **AGREE).sentence


@pytest.mark.parametrize(
    ("tolerance", "kind"), [("5 %", "fixed"), ("1%", "depends"), (0.03, "fixed"), (0.01, "depends")]
)
def test_what_counts_as_one_value_is_for_the_user_to_say(tolerance, kind):
    assert verdict(tolerance, **AGREE).kind.startswith(kind)
    assert verdict({"k": tolerance}, **AGREE).kind.startswith(kind)
    assert verdict({}, **AGREE).kind.startswith("fixed")


@pytest.mark.parametrize("tolerance", [0, -1, "much", "0 %", "-3 %", True, None, float("inf")])
def test_a_tolerance_that_is_none_is_refused(tolerance):
    with pytest.raises(UserError, match=r"tolerance\.k: .* is not a number above 0"):
        verdict(tolerance, **AGREE)


def test_a_tolerance_of_another_parameter_is_refused():
    with pytest.raises(UserError, match=r"tolerance\.m: not a parameter; there are k"):
        verdict({"m": 0.1}, **AGREE)


def test_the_dataset_holds_both():
    found = with_verdicts(identification(**AGREE), np.array([True]))
    assert found["verdict"].sel(parameter="k").item() == "fixed by an assumption"
    assert found["sentence"].dims == ("parameter",)
