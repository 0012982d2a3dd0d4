"""The training methods by name, what each minimizes and by what it perturbs, and their order in tables and figures."""

from collections.abc import Iterable
from dataclasses import dataclass

from hybridsam.core.errors import UserError


@dataclass(frozen=True)
class Method:
    """A training method, whose rho is the radius of a perturbation or the weight of a penalty.

    penalty: ``phi`` for ||phi||^2, ``network`` for the R of the hybrid model, None for neither. perturbation: name of
    a function of hybridsam.training.methods, None for none.
    """

    name: str
    title: str
    penalty: str | None = None
    perturbation: str | None = None


METHODS = {
    method.name: method
    for method in (
        Method("erm", "empirical risk minimization"),
        Method("l2reg", "L2 regularisation of phi", penalty="phi"),
        Method("freg", "functional regularisation of the network", penalty="network"),
        Method("sam", "sharpness-aware minimization", perturbation="sam"),
        Method("asam", "adaptive SAM", perturbation="asam"),
        Method("fsam", "Fisher SAM", perturbation="fsam"),
    )
}
BASELINE = "erm"  # with which the others are compared; it has no rho, which is 0 in files


def get_method(name: str) -> Method:
    """The method of that name; raises UserError naming those that exist."""
    if name not in METHODS:
        raise UserError(f"method: {name!r} is not one of {', '.join(METHODS)}")
    return METHODS[name]


def in_order(methods: Iterable[str]) -> list[str]:
    """The methods, each once, in the order in which every table and figure shows them."""
    known = [name for name in METHODS if name in set(methods)]
    return known + sorted(set(methods) - set(known))
