"""The training methods by name, what each minimizes and by what it perturbs, and their order in tables and figures."""

from collections.abc import Iterable
from dataclasses import dataclass

from hybridsam.core.errors import UserError

BASELINE = "erm"  # with which the others are compared


@dataclass(frozen=True)
class Method:
    """A training method, whose rho is the radius of a perturbation or the weight of a penalty; 0 where it has none.

    penalty: ``phi`` for ||phi||^2, ``network`` for the R of the hybrid model, None for neither. perturbation: name of
    a function of hybridsam.training.methods, None for none. holds: whether theta stays where it starts. assumes: the
    kind of assumption about the missing part by which that start is found from a run of erm; None: it is given. lacks:
    ``network`` or ``science``, the part of the hybrid model that the method does without.
    """

    name: str
    title: str
    penalty: str | None = None
    perturbation: str | None = None
    holds: bool = False
    assumes: str | None = None
    lacks: str | None = None

    @property
    def has_rho(self) -> bool:
        """Whether rho changes anything."""
        return self.penalty is not None or self.perturbation is not None

    @property
    def gradients(self) -> int:
        """How many it evaluates in an iteration."""
        return 2 if self.perturbation else 1


METHODS = {
    method.name: method
    for method in (
        Method(BASELINE, "empirical risk minimization"),
        Method("l2reg", "L2 regularisation of phi", penalty="phi"),
        Method("freg", "functional regularisation of the network", penalty="network"),
        Method("sam", "sharpness-aware minimization", perturbation="sam"),
        Method("asam", "adaptive SAM", perturbation="asam"),
        Method("fsam", "Fisher SAM", perturbation="fsam"),
        *(
            Method(f"{BASELINE}_{kind}", f"erm, theta by the assumption {kind}, and phi anew", holds=True, assumes=kind)
            for kind in ("small", "straight", "depends_on")
        ),
        Method("refit", "phi anew, at a theta that is given", holds=True),
        Method("science", "the science alone, fitted without a network", lacks="network"),
        Method("black_box", "the network alone", lacks="science"),
    )
}


def get_method(name: str) -> Method:
    """The method of that name; raises UserError naming those that exist."""
    if name not in METHODS:
        raise UserError(f"method: {name!r} is not one of {', '.join(METHODS)}")
    return METHODS[name]


def has_rho(name: str) -> bool:
    """Whether the method of that name, which may be one of a user's own, has a rho."""
    return name not in METHODS or METHODS[name].has_rho


def trains_theta(name: str) -> bool:
    """The same of whether theta is what training makes of it."""
    return name not in METHODS or not (METHODS[name].holds or METHODS[name].lacks == "science")


def in_order(methods: Iterable[str]) -> list[str]:
    """The methods, each once, in the order in which every table and figure shows them."""
    known = [name for name in METHODS if name in set(methods)]
    return known + sorted(set(methods) - set(known))
