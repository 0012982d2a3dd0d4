"""Whether theta may be believed, without knowing the truth: one verdict a parameter, in a sentence with its numbers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import xarray as xr

from hybridsam.analysis import identification, profiles
from hybridsam.analysis.arrival import ways
from hybridsam.analysis.assumptions import PLAIN, Small
from hybridsam.analysis.ensemble import Members, ensemble_in
from hybridsam.analysis.identifiability import identify as diagnose
from hybridsam.analysis.runs import checked
from hybridsam.analysis.thresholds import DEFAULT, TOLERANCE, Thresholds
from hybridsam.core.errors import UserError
from hybridsam.core.methods import BASELINE
from hybridsam.core.settings import typed
from hybridsam.models.hybrid import HybridModel


@dataclass(frozen=True)
class Verdict:
    """What is to be believed of a parameter.

    kind: ``structurally not``: the science itself does not tell it from others. ``fixed by the data``: those allow no
    values that differ by more than the tolerance, whatever is assumed. ``follows its start``: it ends where it began,
    so training says nothing of it. ``fixed by an assumption``: all that have something to say and fit agree within the
    tolerance. ``depends on the assumption``: they do not. ``undecided``: none has something to say and fits, but for
    ``small``, which forbids nothing; ``undecided: has not arrived``: and most runs would move theta on, if they were
    trained on.
    """

    parameter: str
    kind: str
    sentence: str


def verdicts(
    found: xr.Dataset,
    told_by_science: Iterable[bool],
    tolerance: float | str | Mapping[str, float | str] = TOLERANCE,
    thresholds: Thresholds = DEFAULT,
) -> list[Verdict]:
    """One for each parameter of an identification.

    found: beside what :func:`.identification.identify` returns, on the axis parameter, ``not_arrived``, how many
    members would move on, and allowed_low and allowed_high of a profile (:func:`.profiles.allowed`); both may be
    missing. told_by_science: see :class:`.Identifiability`. tolerance: by how much values may differ that count as one,
    in per cent, such as ``5 %``, or a number in the unit of theta; or parameter -> such a one, for the others 5 %.
    """
    names = found["parameter"].values.tolist()
    given = tolerance if isinstance(tolerance, Mapping) else dict.fromkeys(names, tolerance)
    for name in given:
        if name not in names:
            raise UserError(f"tolerance.{name}: not a parameter; there are {', '.join(names)}")
    return [
        _verdict(found.sel(parameter=name), told, given.get(name, TOLERANCE), thresholds)
        for name, told in zip(names, told_by_science, strict=True)
    ]


def with_verdicts(
    found: xr.Dataset,
    told_by_science: Iterable[bool],
    tolerance: float | str | Mapping[str, float | str] = TOLERANCE,
    thresholds: Thresholds = DEFAULT,
) -> xr.Dataset:
    """An identification with the variables verdict and sentence (parameter); see :func:`verdicts`."""
    said = verdicts(found, told_by_science, tolerance, thresholds)
    texts = {"verdict": [one.kind for one in said], "sentence": [one.sentence for one in said]}
    return found.assign({name: ("parameter", np.array(of_all, object)) for name, of_all in texts.items()})


def allowed_difference(tolerance: float | str, value: float, name: str) -> float:
    """In the unit of theta; raises UserError for what is neither a number above zero nor one of per cent."""
    text = str(tolerance).strip()
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        number = np.nan
    if isinstance(tolerance, bool) or not 0 < number < np.inf:
        raise UserError(f"tolerance.{name}: {tolerance!r} is not a number above 0, in its unit, or such as 5 %")
    return number / 100 * abs(value) if text.endswith("%") else number


def _verdict(of: xr.Dataset, told: bool, tolerance: float | str, thresholds: Thresholds) -> Verdict:
    name, unit = str(of["parameter"].item()), str(of["parameter_units"].item())
    slope, low, high = of["slope"].values
    values, fits = of["theta"].values, of["spread_ratio"].values <= thresholds.rejected
    small = of["assumption"].values == Small.title
    counts = np.isfinite(values) & (fits | small)
    said = [_said(one, unit) for one in (of.isel(assumption=i) for i in np.flatnonzero(counts))]
    by = f"; {_joined(said)}" if said else ""
    wrong = [str(title) for title in of["assumption"].values[np.isfinite(values) & ~fits & ~small]]
    rest = f" Rejected by the data: {', '.join(wrong)}." * bool(wrong) + _by_the_data(of, unit)
    if not told:
        sentence = f"{name} cannot be told from other parameters by the science itself"
        return Verdict(name, "structurally not", f"{sentence}; no data of this kind fix it.")
    least, most = (of.get(f"allowed_{end}", xr.DataArray(np.nan)).item() for end in ("low", "high"))
    middle = (least + most) / 2  # infinite where no end was found
    if most - least <= allowed_difference(tolerance, middle, name) and np.isfinite(middle):
        between = f"{name} is between {_quantity(least, unit)} and {_quantity(most, unit)}"
        return Verdict(name, "fixed by the data", f"{between}, whatever is assumed{by}.{rest}")
    if low > thresholds.follows:
        begun = f"{name} ends where it began (slope {slope:.2f}, {low:.2f} to {high:.2f}): training does not fix it"
        return Verdict(name, "follows its start", f"{begun}{_on_the_way(of)}{by}.{rest}")
    if not (counts & ~small).any():
        why = of.attrs.get("reason", "no assumption that was asked has something to say of it and fits")
        if said:
            why = f"nothing but {said[0]}, which nothing can test"
        late = 2 * _not_arrived(of) > of.sizes.get("member", 0)
        kind = "undecided" + ": has not arrived" * late
        return Verdict(name, kind, f"{name} is not known: {why}{_on_the_way(of)}.{rest}")
    least, most = values[counts].min(), values[counts].max()
    if most - least <= allowed_difference(tolerance, np.median(values[counts]), name):
        return Verdict(name, "fixed by an assumption", f"{name} is {_joined(said)}.{rest}")
    span = f"{name} is anything from {_quantity(least, unit)} to {_quantity(most, unit)}: {_joined(said)}"
    return Verdict(name, "depends on the assumption", f"{span}.{rest}")


def _not_arrived(of: xr.Dataset) -> int:
    return int(of.get("not_arrived", 0))


def _on_the_way(of: xr.Dataset) -> str:
    """In how many runs training has not come to an end of its way."""
    number = _not_arrived(of)
    return f"; in {number} of {of.sizes['member']} runs it has not arrived, so longer training may" * bool(number)


def _by_the_data(of: xr.Dataset, unit: str) -> str:
    """What the profile says, in a sentence; nothing where there is none."""
    if "allowed_low" not in of or np.isnan(of["allowed_low"].item()):
        return ""
    low, high = of["allowed_low"].item(), of["allowed_high"].item()
    sides = {"above": low, "below": high}
    ends = [f"{side} {_quantity(end, unit)}" for side, end in sides.items() if np.isfinite(end)]
    values = f"values {' and '.join(ends)}" if ends else "every value that was tried"
    return f" Whatever is assumed, the data allow {values}."


def _said(of: xr.Dataset, unit: str) -> str:
    ends = f"{of['low'].item():.5g} to {of['high'].item():.5g}"
    title = str(of["assumption"].item())
    is_ = "is " * (title in PLAIN)
    return f"{_quantity(of['theta'].item(), unit)} ({ends}) if what the science lacks {is_}{title}"


def _quantity(value: float, unit: str) -> str:
    return f"{value:.5g}" + f" {unit}" * (unit != "1")


def _joined(parts: Sequence[str]) -> str:
    """Several as an enumeration, in which what all end with stands once."""
    first, *others = parts
    others = [other.replace("what the science lacks", "it") for other in others]
    return ", and ".join([", ".join([first, *others[:-1]]), others[-1]]) if others else first


def identify(
    model: HybridModel,
    runs: xr.Dataset,
    dataset: xr.Dataset,
    assume: Iterable[str | Mapping] | None = None,
    tolerance: float | str | Mapping[str, float | str] = TOLERANCE,
    thresholds: Mapping[str, float] = MappingProxyType({}),
    profile: xr.Dataset | None = None,
) -> xr.Dataset:
    """Theta from what all runs of plain erm agree on, the whole f + g, by assumptions about the part that f lacks.

    The data fix the whole where they lie; how it splits is fixed by an assumption alone. Each says what theta would be,
    how much it has to say of it, and how well it fits.

    Parameters
    ----------
    model : HybridModel
    runs : xarray.Dataset
        Of :func:`fit` or :func:`load_runs`, of which those of erm are taken that fit. Let theta start at different
        places: ``Parameter("k", "s-1", start=(0.5, 2.0))``.
    dataset : xarray.Dataset
        On which they were trained.
    assume : iterable of str or mapping, optional
        ``small``: what is missing is as small as can be, in the mean square. ``straight``: it is an affine function.
        ``{"depends_on": [names]}``: some function of these components or inputs alone, of a field on a grid of their
        values at the same place. ``{"vanishes_where": condition}``: nothing is missing where that holds.
        ``{"spanned_by": [expressions]}``: a combination of these and a constant. Left out: small, straight, and each
        component or input alone; for a law that a network sees, small.
    tolerance : float or str or mapping, optional
        By how much values of theta may differ that count as one: ``"5 %"``, or a number in its unit; or parameter ->
        such a one.
    thresholds : mapping of str to float, optional
        By which numbers verdicts are decided, where they are others than these: ``blind`` (0.001), the information
        below which an assumption says nothing of a parameter; ``follows`` (0.25), the slope of theta on its start above
        which it follows that; ``rejected`` (2), the spread_ratio above which an assumption is wrong.
    profile : xarray.Dataset, optional
        Of :func:`hybridsam.profile`, for what the data say of theta whatever is assumed.

    Returns
    -------
    xarray.Dataset
        On the axes (assumption, parameter): ``theta`` with the interval ``low`` to ``high`` over runs and samples, NaN
        where the assumption says nothing of it; ``information``, the share of what theta does to f that neither the
        assumption nor another parameter can imitate. Of each assumption ``unexplained``, the share of the missing part
        that it cannot be, as a root mean square, and ``spread_ratio``, the same over how much the runs differ: far
        above 1 the assumption is wrong. Of each run ``trained``, its own theta, and ``theta_start``. Of each parameter
        a ``verdict``, such as ``fixed by an assumption``, and a ``sentence`` with its numbers; ``allowed_low`` and
        ``allowed_high``, the nearest values that the data exclude, if there is a profile. No assumption for a
        model whose science is seen only through what its network makes of the data, nor from fewer than three runs
        that fit: the attribute ``reason`` says so.

    Raises
    ------
    UserError
        For runs of another model, none of erm, a profile of other parameters, and assumptions, a tolerance or
        thresholds that make no sense.
    """
    limits = typed(Thresholds, thresholds, "thresholds")
    runs = checked(runs, model, dataset)
    members = ensemble_in(runs, dataset)
    found = identification.identify(model, members, dataset, assume, limits.blind).assign(_late(runs, members))
    if profile is not None:
        found = found.assign(_allowed(profile, model))
    return with_verdicts(found, diagnose(model, dataset).told_by_science, tolerance, limits)


def _late(runs: xr.Dataset, members: Members) -> dict[str, tuple]:
    """How many members have not arrived, for each parameter; nothing for runs that do not say how theta moved."""
    table = ways(runs)
    of_members = table[(table["method"] == BASELINE) & table["seed"].isin(members.seeds)] if len(table) else table
    if of_members.empty:
        return {}
    late = of_members.groupby("parameter", sort=False)["not_arrived"].sum()
    about = {"long_name": "how many of these runs would move theta on, if trained on", "units": "1"}
    return {"not_arrived": ("parameter", late[runs["parameter"].values].values, about)}


def _allowed(profile: xr.Dataset, model: HybridModel) -> dict[str, tuple]:
    """Between which values the data alone allow each parameter."""
    names = model.parameters.names
    if profile["parameter"].values.tolist() != names:
        raise UserError(f"profile: of {', '.join(profile['parameter'].values)}, and the model has {', '.join(names)}")
    about = {"units": "see parameter_units"}
    return {
        f"allowed_{end}": ("parameter", values, {"long_name": f"nearest value {side} that the data exclude"} | about)
        for end, side, values in zip(("low", "high"), ("below", "above"), profiles.allowed(profile), strict=True)
    }
