"""Recorded vector fields as C, several in one library, without optimisation: what their formulas compute."""

import ctypes
from pathlib import Path

import numpy as np
import torch

from hybridsam.models.symbolic import c_code, record
from hybridsam.training.compiled import compiled, compiler

CALLS = """
extern "C" void field{i}(const double* x, const double* theta, const double* g, double* out) {{
    f{i}::field(x, theta, g, out);
}}
extern "C" void gradient{i}(const double* x, const double* theta, const double* g, const double* l,
                            double* g_x, double* g_theta, double* g_g) {{
    f{i}::field_gradient(x, theta, g, l, g_x, g_theta, g_g);
}}
"""


def in_c(fields, names, n_x, n_g, folder: Path):
    """Of each field a function of (x, theta, g, l), arrays of numbers: (dx/dt, gradients for x, theta and g)."""
    parts = ["#include <math.h>"]
    for i, field in enumerate(fields):
        code = c_code(record(field, names, n_x, n_g), torch.float64)
        parts += [f"namespace f{i} {{\n{code}}}", CALLS.format(i=i)]
    library = ctypes.CDLL(
        str(compiled("\n".join(parts), [compiler(), "-std=c++17", "-O0", "-fPIC", "-shared"], folder))
    )

    def of(i):
        def evaluate(x, theta, g, upstream):
            given = [np.array(values, dtype=float) for values in (x, theta, g, upstream)]
            rate, *gradients = [np.zeros(n) for n in (n_x, n_x, len(names), n_g)]
            pointers = [values.ctypes.data_as(ctypes.c_void_p) for values in (*given, *gradients, rate)]
            getattr(library, f"field{i}")(*pointers[:3], pointers[-1])
            getattr(library, f"gradient{i}")(*pointers[:-1])
            return rate, *gradients

        return evaluate

    return [of(i) for i in range(len(fields))]


def by_autograd(field, names, x, theta, g, upstream):
    """The same by PyTorch."""
    x, theta, g, upstream = (torch.tensor(values, dtype=torch.float64) for values in (x, theta, g, upstream))
    leaves = [values.requires_grad_() for values in (x, theta, g)]
    rate = field(dict(zip(names, theta.reshape(-1, 1, 1), strict=True)), x[None, None], g[None, None])
    rate = rate.expand(1, 1, len(x))[0, 0]
    gradients = torch.autograd.grad(rate, leaves, upstream, materialize_grads=True)
    return [values.detach().numpy() for values in (rate, *gradients)]
