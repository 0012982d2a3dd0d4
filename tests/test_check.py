"""What a newcomer gets wrong in a model: one message each, before training, and nothing that is right is refused."""

import logging
import math
import re

import numpy as np
import pytest
import torch
import xarray as xr
from helpers import small
from torch import nn

from hybridsam.core import modules
from hybridsam.core.blocks import Block
from hybridsam.core.errors import UserError
from hybridsam.models.check import check, check_parts
from hybridsam.models.convolutions import ConvNet
from hybridsam.models.law import HybridEncoder, HybridMap, HybridSum
from hybridsam.models.networks import MLP
from hybridsam.models.ode import HybridODE
from hybridsam.models.parameters import Parameter, Parameters
from hybridsam.models.samples import Samples
from hybridsam.models.solver import Solver
from hybridsam.models.torch_module import TorchModule
from hybridsam.tasks import pendulum
from hybridsam.training.block import train_task

OMEGA = Parameter("omega", "rad s-1", 0.5)
K = Parameter("k", "1", 2.0)


def field(science=pendulum.science, parameters=(OMEGA,), network=None, kind=HybridODE):
    return kind(science, Parameters(list(parameters)), network or MLP((2, 8, 2)), Solver(step=0.25))


def law(science, network=None, kind=HybridMap, parameters=(K,), **more):
    network = network or MLP((2, 8, 3))
    return kind(science, Parameters(list(parameters)), network, "y", ("u", "t"), {"u": 1.0}, False, **more)


@pytest.fixture(scope="module")
def readings():
    """y (sample, 3 components) of u (sample, 2) and t (sample,)."""
    rng = np.random.default_rng(0)
    return xr.Dataset(
        {
            "y": (("sample", "component"), rng.normal(size=(8, 3))),
            "u": (("sample", "entry"), rng.uniform(1, 2, size=(8, 2))),
            "t": ("sample", rng.uniform(1, 2, size=8)),
        },
        coords={"split": ("sample", ["train"] * 5 + ["validation", "test", "test"]), "component": ["a", "b", "c"]},
        attrs={"target": "y"},
    )


@pytest.fixture
def look(dataset, readings):
    """Check a model on the pendulum's trajectories, or a law on the readings."""

    def at(model, data=None, dtype=torch.float64):
        data = data if data is not None else dataset if isinstance(model, HybridODE) else readings
        check_parts(model, data)
        check(model, data, model.data(data, "train", dtype, "cpu"))

    return at


def refused(look, model, *words, **how):
    """The message is one line and has all these words."""
    with pytest.raises(UserError) as caught:
        look(model, **how)
    message = str(caught.value)
    assert "\n" not in message
    assert [word for word in words if word not in message] == [], message


def proportional(theta, u):
    return (theta["k"] * u["t"]).unsqueeze(-1).expand(-1, -1, 3)


def twice(theta, x):
    return pendulum.science(theta, x) * 2


# What f returns


def without_components(theta, x):
    return theta["omega"] * x[..., 0]


def forgotten_return(theta, x):
    pendulum.science(theta, x)


def too_many(theta, x):
    return torch.cat([pendulum.science(theta, x), x[..., :1]], -1)


def of_all_axes(theta, x):
    return -theta["omega"] * x  # (member, 1) and (member, sample, component)


def three_names(theta, x):
    q, p, r = x.unbind(-1)
    return torch.stack([p, theta["omega"] * q, r], -1)


def in_double(theta, x):
    return pendulum.science(theta, x) + torch.tensor([0.0, 1.0], dtype=torch.float64)


@pytest.mark.parametrize(
    ("science", "words"),
    [
        (
            without_components,
            ["returns shape (3, 2), not (3, 2, 2): 3 members, 2 samples, and the state (component) = (2,)"],
        ),
        (too_many, ["returns shape (3, 2, 3), not (3, 2, 2)"]),
        (forgotten_return, ["returns NoneType, not a tensor"]),
        (of_all_axes, ["fails on theta[name] (3, 1), state (3, 2, 2): member, sample", "RuntimeError: The size of"]),
        (three_names, ["fails on theta[name] (3, 1), state (3, 2, 2)", "not enough values to unpack"]),
        (
            lambda theta, x: torch.as_tensor(np.sin(x.numpy())),
            ["test_check.py, line", "it calls NumPy or math on tensors"],
        ),
        (lambda theta, x: np.sqrt(theta["omega"]) * x, ["it calls NumPy or math on tensors; write it in PyTorch"]),
        (lambda theta, x: theta["omga"] * x, ["asks for 'omga'", "theta has omega"]),
        (None, ["TypeError: 'NoneType' object is not callable"]),
    ],
)
def test_a_vector_field_that_is_none_is_refused_with_what_it_returns(look, science, words):
    refused(look, field(science), "model: the science f", *words)


@pytest.mark.parametrize(
    ("science", "words"),
    [
        (
            lambda theta, u: theta["k"] * u["t"],
            ["returns shape (3, 2), not (3, 2, 3): ", "the targets (component) = (3,)"],
        ),
        (lambda theta, u: theta["k"] * u["temp"], ["asks for 'temp'", "theta has k", "u has u, t"]),
        (lambda theta, u: proportional(theta, u)[..., :2], ["returns shape (3, 2, 2), not (3, 2, 3)"]),
        (lambda theta, u: proportional(theta, u).detach().numpy(), ["returns ndarray, not a tensor"]),
    ],
)
@pytest.mark.parametrize("kind", [HybridMap, HybridSum])
def test_a_law_of_another_shape_than_the_targets_is_refused(look, science, words, kind):
    network = MLP((3 + 2, 8, 3)) if kind is HybridMap else None
    refused(look, law(science, network, kind), "model: the science f", *words)


def at_rest(theta, x):
    q, p = x.unbind(-1)
    return torch.stack([p, -theta["omega"] * q], -1)


@pytest.mark.parametrize(
    ("science", "words"),
    [
        (lambda theta, x: at_rest({"omega": theta["omega"][0]}, x), ["mixes members", "theta['omega'] of another"]),
        (lambda theta, x: at_rest({"omega": theta["omega"].mean()}, x), ["mixes members", "theta['omega'] of another"]),
        (lambda theta, x: at_rest(theta, x) - x.mean(0), ["mixes members", "state of another"]),
        (lambda theta, x: at_rest(theta, x / x.abs().max()), ["mixes members", "state of another"]),
        (lambda theta, x: at_rest(theta, x - x.mean(1, keepdim=True)), ["mixes samples", "state of another"]),
        (lambda theta, x: at_rest(theta, x.flip(1)), ["mixes samples", "state of another"]),
    ],
)
def test_a_science_that_mixes_what_must_stay_apart_is_refused(look, science, words):
    refused(look, field(science), "model: the science f (test_check.py, line", *words)


@pytest.mark.parametrize(
    "science",
    [
        lambda theta, x: at_rest(theta, x - x.mean(-1, keepdim=True)),
        lambda theta, x: at_rest(theta, x) + 0 * torch.sqrt(x - x.detach()),  # an infinite slope in each
        lambda theta, x: torch.stack(
            [at_rest({"omega": w[None]}, each[None])[0] for w, each in zip(theta["omega"], x, strict=True)]
        ),
    ],
)
def test_a_science_that_keeps_runs_and_samples_apart_is_not_refused(look, science):
    look(field(science))


def test_a_law_that_takes_the_theta_of_the_first_run_for_all_or_mixes_samples_is_refused(look):
    refused(look, law(lambda theta, u: proportional(theta, u)[:1], kind=HybridSum), "mixes members", "theta['k']")
    centred = law(lambda theta, u: proportional(theta, u | {"t": u["t"] - u["t"].mean()}), kind=HybridSum)
    refused(look, centred, "mixes samples", "t of another")


def test_a_combination_of_ones_own_that_mixes_runs_is_refused(look):
    class Mean(HybridODE):
        def field(self, theta, x, g):
            return self.science(theta, x) + g.mean(0, keepdim=True)

    refused(look, field(kind=Mean), "model: the prediction mixes members", "of another")


def test_the_message_names_the_line_that_fails(look):
    line = three_names.__code__.co_firstlineno + 1
    refused(look, field(three_names), f"f (test_check.py, line {line})")
    refused(look, field(too_many), f"f (test_check.py, line {too_many.__code__.co_firstlineno})")


def test_constants_of_another_precision_are_refused(look):
    refused(look, field(in_double), "returns torch.float64", "training.dtype is torch.float32", dtype=torch.float32)
    look(field(in_double))


# Numbers that are not finite


@pytest.mark.parametrize(("value", "word"), [(math.nan, "nan"), (math.inf, "inf")])
def test_a_field_that_is_not_finite_at_the_start_is_refused_with_its_place(look, dataset, value, word):
    def science(theta, x):
        wrong = x[..., 0] == x[0, :, 0].max() if x.shape[1] > 2 else x[..., 0] > 100
        return pendulum.science(theta, x) + torch.stack(
            [torch.zeros_like(x[..., 0]), torch.where(wrong, value, 0.0)], -1
        )

    starts = dataset["state"].values[dataset["split"] == "train"][:, 0, 0]
    words = [f"gives {word} at training sample {starts.argmax()}, component angular velocity", "omega = 0.5"]
    refused(look, field(science), *words)


def test_a_law_that_is_not_finite_is_refused_with_its_place(look, readings):
    refused(
        look, law(lambda theta, u: proportional(theta, u) / 0, MLP((5, 8, 3))), "inf at training sample 0, component a"
    )


def test_data_that_are_not_finite_are_blamed_where_they_are(look, dataset):
    broken = dataset.copy(deep=True)
    broken["state"][2, 0, 1] = np.nan
    refused(look, field(), "training sample 2", "the data are not finite there either: state", data=broken)


def test_later_states_may_be_where_the_science_is_not_defined(look, dataset):
    """A rollout begins at the initial states alone; noise may bring others below zero."""
    least = float(dataset["state"][:, 0, 0].min())
    assert (dataset["state"][:, 1:, 0] < least - 0.01).any()
    look(field(lambda theta, x: pendulum.science(theta, x) + torch.log(x[..., :1] - least + 0.01)))


def test_what_is_not_finite_by_the_network_or_in_the_gradient_is_told(look, caplog):
    look(field(lambda theta, x: pendulum.science(theta, x) + torch.sqrt(theta["omega"] - 0.5).unsqueeze(-1)))
    assert "its gradient for theta, is not finite at the start" in caplog.text


@pytest.mark.parametrize("value", [0.0, 3.0, 0.1])  # of 0.1 not even the mean is exact
def test_targets_of_one_value_cannot_be_standardised(look, readings, value):
    constant = readings.copy(deep=True)
    constant["y"][:, 1] = value
    constant["y"][5:, 1] = 7.0  # not in training
    model = law(lambda theta, u: proportional(theta, u), MLP((5, 8, 3)))
    look(model, constant)
    model.standardise = True
    look(model, readings)
    refused(look, model, "dataset: b: the same value in all training samples", data=constant)


@pytest.mark.parametrize("unit", [1e5, 1e-4])
def test_inputs_that_are_not_of_order_one_for_the_network_are_told_with_the_factor(look, readings, caplog, unit):
    def told(factor):
        caplog.clear()
        model = law(lambda theta, u: proportional(theta, u), MLP((5, 8, 3)))
        model.network_inputs = {"u": factor}
        look(model, readings.assign(u=readings["u"] * unit))
        return caplog.messages

    [line] = told(1.0)
    assert line.startswith("model: network_inputs.u: the network is given numbers of about ")
    advised = float(re.search(r"a factor of (\S+) would", line)[1])
    assert advised == pytest.approx(1 / (1.5 * unit), rel=0.2)
    assert told(advised) == told(20 * advised) == []


@pytest.mark.parametrize(
    ("units", "standardise", "is_told"), [("abb", False, True), ("aaa", False, False), ("abc", True, False)]
)
def test_errors_that_add_up_several_units_are_told(look, readings, caplog, units, standardise, is_told):
    model = law(proportional, MLP((2, 8, 3)), HybridSum)
    model.standardise = standardise
    look(model, readings.assign_coords(component_units=("component", list(units))))
    assert any("the error adds up squares of a, b, so that" in line for line in caplog.messages) == is_told


def test_inputs_of_one_value_are_allowed(look, readings):
    constant = readings.copy(deep=True)
    constant["u"][:] = 2.0
    model = law(lambda theta, u: proportional(theta, u), MLP((5, 8, 3)))
    model.standardise = True
    look(model, constant)


# theta


def test_a_parameter_that_the_science_does_not_use_is_refused(look):
    words = ["theta.k: has no influence on the prediction", "theta['k']", "test_check.py", "leave the parameter out"]
    refused(look, field(twice, [OMEGA, K]), *words)
    refused(
        look, law(lambda theta, u: proportional(theta, u), MLP((5, 8, 3)), parameters=[K, OMEGA]), "theta.omega: has no"
    )
    refused(look, field(lambda theta, x: -x), "theta.omega: has no influence")
    refused(
        look, field(lambda theta, x: pendulum.science({"omega": 1.0}, x) * theta["omega"].detach()[..., None]), "omega"
    )


def test_a_parameter_without_influence_on_the_first_samples_is_told_of_only(look, caplog):
    """In another regime, or at a start of zero, it may well have one."""

    def science(theta, x):
        return pendulum.science(theta, x) + torch.where(x > 100, theta["k"].unsqueeze(-1), 0.0)

    look(field(science, [OMEGA, K]))
    assert "theta.k: a small change of its start changes no prediction" in caplog.text
    assert "theta.omega" not in caplog.text


def test_a_parameter_that_only_the_combination_uses_is_used(look, caplog):
    class Closure(HybridODE):
        def field(self, theta, x, g):
            return self.science(theta, x) + theta["k"].unsqueeze(-1) * g

    look(field(parameters=[OMEGA, K], kind=Closure))
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ([OMEGA, K, OMEGA], ["theta.omega: 2 parameters have this name"]),
        ([OMEGA, Parameter("state", "1", 0.5)], ["theta.state: the dataset has a variable of this name"]),
        ([OMEGA, Parameter("time", "s", 0.5)], ["theta.time: the dataset has a variable of this name"]),
    ],
)
def test_names_that_clash_are_refused(look, parameters, words):
    refused(look, field(parameters=parameters), *words)


def test_starts_out_of_bounds_and_missing_units_are_refused_when_the_model_is_built():
    row = {"unit": "s-1", "start": 12.0, "transform": "sigmoid", "lower": 0.0, "upper": 10.0}
    with pytest.raises(UserError, match=r"^theta.k.start: 12.0 is not inside the bounds \(0.0, 10.0\)$"):
        Parameters.from_settings({"k": row})
    with pytest.raises(UserError, match=r"^theta.k.unit: missing$"):
        Parameters.from_settings({"k": {"start": 1.0}})


# The network


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ((2, 8, 1), "returns 1 number, the state has 2 components"),  # which would be added to both
        ((2, 8, 3), "returns 3 numbers, the state has 2 components"),
        ((3, 8, 2), "takes 3 numbers, the state has 2 components"),
        ((1, 8, 5), "takes 1 number, the state has 2 components"),
    ],
)
def test_a_network_that_does_not_match_the_state_is_refused_in_words(look, sizes, words):
    refused(look, field(network=MLP(sizes)), f"model: the network {words}: MLP((2, ..., 2))")


def test_a_convolutional_network_that_does_not_match_the_field_is_refused_in_words(look, tmp_path):
    model, fields = small.build("reaction_diffusion"), small.dataset_of("reaction_diffusion", tmp_path)
    model.network = ConvNet((3, 4, 2))
    words = "model: the network takes 3 numbers, the state has 2 components: ConvNet((2, ..., 2))"
    refused(look, model, words, data=fields, dtype=torch.float32)


def test_a_network_of_a_combination_of_ones_own_is_refused_by_its_input_alone(look):
    class Closure(HybridODE):
        def field(self, theta, x, g):
            return self.science(theta, x) * torch.exp(g)

    wrong = field(network=MLP((3, 8, 1)), kind=Closure)
    refused(look, wrong, "the network takes 3 numbers, the state has 2 components: MLP((2, ..., 1))")


def test_a_network_of_a_users_own_that_does_not_match_is_refused(look):
    own = TorchModule(lambda: nn.Sequential(nn.Linear(2, 8), nn.Linear(8, 1)))
    refused(look, field(network=own), "model: the network", "sizes in the model section must be those of the data")


def test_a_model_without_parameters_is_refused(look):
    refused(look, field(lambda theta, x: x, []), "theta: the model has no parameters, so there is nothing to find out")


@pytest.mark.parametrize(
    ("made_of", "message"),
    [
        (
            {"network": nn.Linear(2, 2)},
            "model: network: Linear is no Network; a torch.nn.Module becomes one by TorchModule",
        ),
        ({"network": [2, 8, 2]}, "model: network: list is no Network"),
        ({"parameters": [OMEGA]}, "model: parameters: list is no Parameters"),
        ({"solver": 0.1}, "model: solver: float is no Solver"),
    ],
)
def test_a_model_made_of_other_things_is_refused_with_what_they_are(dataset, made_of, message):
    parts = {"parameters": Parameters([OMEGA]), "network": MLP((2, 8, 2)), "solver": Solver()} | made_of
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        check_parts(HybridODE(pendulum.science, **parts), dataset)


def test_what_is_no_model_and_no_dataset_is_refused_with_what_it_is(dataset):
    with pytest.raises(UserError, match="model: Dataset is no HybridModel"):
        check_parts(dataset, field())
    with pytest.raises(UserError, match=r"dataset: DataFrame is no xarray Dataset; hybridsam.dataset_of makes one"):
        check_parts(field(), dataset["state"].isel(component=0).to_dataframe())


@pytest.mark.parametrize("sizes", ["abc", (2,), (2, 0, 2), (2, 8.0, 2), ()])
def test_sizes_of_networks_that_are_none_are_refused(sizes):
    for kind in (MLP, ConvNet):
        with pytest.raises(UserError, match=r"network: .* are not two or more whole numbers larger than zero"):
            kind(sizes)


def test_a_network_that_does_not_match_the_law_is_refused(look):
    returns_one = "model: the network returns 1 number, "
    refused(look, law(proportional, MLP((2, 8, 1)), HybridSum), returns_one + "y has 3 components: MLP((2, ..., 3))")
    refused(look, law(proportional, MLP((5, 8, 1))), returns_one + "y has 3 components: MLP((5, ..., 3))")
    two = {"kind": HybridEncoder, "unmeasured": ("rate", "shift")}
    there_are = "there are 2 unmeasured (rate, shift): MLP((2, ..., 2))"
    refused(look, law(proportional, MLP((2, 8, 1)), **two), returns_one + there_are)
    takes_four = "model: the network takes 4 numbers, it is given "
    refused(look, law(proportional, MLP((4, 8, 3))), takes_four + "5 (f and u): MLP((5, ..., 3))")
    refused(look, law(proportional, MLP((4, 8, 3)), HybridSum), takes_four + "2 (u): MLP((2, ..., 3))")
    refused(look, law(proportional, MLP((4, 8, 2)), **two), takes_four + "2 (u): MLP((2, ..., 2))")


def test_a_combination_may_take_any_output_of_the_network(look):
    class Closure(HybridODE):
        def field(self, theta, x, g):
            return self.science(theta, x) * torch.exp(g)

    look(field(network=MLP((2, 8, 1)), kind=Closure))


def test_a_network_with_random_numbers_is_refused(look):
    for last in (nn.Dropout(0.5), nn.Identity()):
        network = TorchModule(lambda last=last: nn.Sequential(nn.Linear(2, 8), nn.Linear(8, 2), last))
        if isinstance(last, nn.Dropout):
            refused(look, field(network=network), "a prediction draws random numbers", "dropout")
        else:
            look(field(network=network))


def test_a_model_that_calls_its_science_in_another_way_is_tried_as_a_whole(look, caplog):
    class Forced(HybridODE):
        def predict(self, theta, phi, data, running=None):
            def of(own):
                named, layers = self.parameters.named(theta[own]), self.network.unflatten(phi[own])
                return lambda t, x: self.science(named, x, t) + self.network(layers, x)

            return self.rollouts(of, len(theta), data)

        def predict_science(self, theta, phi, data, running=None):
            def of(own):
                named = self.parameters.named(theta[own])
                return lambda t, x: self.science(named, x, t)

            return self.rollouts(of, len(theta), data)

    look(field(lambda theta, x, t: pendulum.science(theta, x) + t, kind=Forced))
    assert caplog.text == ""
    wrong = field(lambda theta, x, t: x, network=MLP((3, 2)), kind=Forced)
    refused(look, wrong, "the network takes 3 numbers, it is given 2: MLP((2, ..., 2))")


def test_a_law_that_uses_its_parts_in_another_way_is_tried_as_a_whole(look, caplog):
    class Drifting(HybridSum):
        def predict_science(self, theta, phi, data, running=None):
            return self.science(self.parameters.named(theta), data.inputs["t"])

        def predict(self, theta, phi, data, running=None):
            return self.predict_science(theta, phi, data) + self.through_network(phi, data)

    one_drift_for_all = MLP((2, 8, 1))
    look(law(lambda theta, t: proportional(theta, {"t": t}), one_drift_for_all, Drifting))
    assert caplog.text == ""
    refused(look, law(lambda theta, t: t[..., :1], one_drift_for_all, Drifting), "predicts shape (1,)")


@pytest.mark.parametrize("kind", [HybridODE, HybridMap, HybridSum, HybridEncoder])
def test_parts_are_tried_alone_where_the_class_uses_them_as_its_base_does(kind, dataset, readings):
    def trials(own=None):
        """Those of f and g, of a class of one's own that has a method of its own."""
        method = {own: lambda self, *given: getattr(kind, own)(self, *given)} if own else {}
        extended = type("Own", (kind,), method)
        more = {"unmeasured": ("z",)} if kind is HybridEncoder else {}
        model = field(kind=extended) if kind is HybridODE else law(proportional, kind=extended, **more)
        data = model.data(dataset if kind is HybridODE else readings, "train")
        return model.science_trial(data, 3) is not None, model.network_trial(data) is not None

    added_or_in_front = kind is not HybridMap  # behind f, a wrong g is found by the shape of the prediction
    assert trials() == (True, added_or_in_front)
    assert trials("predict_science") == (False, added_or_in_front)
    assert trials("predict") == (True, False)
    assert kind is not HybridODE or trials("field") == (True, False)


# In training


@pytest.mark.parametrize("task", small.TASKS)
def test_shipped_tasks_pass_without_a_word(task, tmp_path, caplog):
    model, dataset = small.build(task), small.dataset_of(task, tmp_path)
    caplog.set_level(logging.WARNING)
    before = torch.get_rng_state()
    check(model, dataset, model.data(dataset, "train", torch.float32, "cpu"))
    assert caplog.text == ""
    assert torch.equal(torch.get_rng_state(), before)


def test_fit_checks_before_it_trains(dataset, tmp_path):
    wrong = tmp_path / "mine.py"
    wrong.write_text(
        "from hybridsam.tasks.pendulum import *\n\n\n"
        "def science(theta, x):\n    return x * 2\n\n\n"
        "def build(model):\n"
        "    return HybridODE(science, Parameters.from_settings(model['theta']), MLP((2, 4, 2)), Solver())\n"
    )
    settings_ = small.settings_of("pendulum") | {"module": str(wrong)}
    with pytest.raises(UserError, match=r"^theta.omega: has no influence .* f \(mine.py, line 4\)"):
        train_task(settings_, dataset, Block("sam", 0.05, (0,)), "cpu")
    assert modules.load(str(wrong)).build(settings_["model"]).parameters.names == ["omega"]


def test_a_check_predicts_two_samples_of_three_members_once(dataset):
    model, seen = field(), []
    predict = model.predict
    model.predict = lambda theta, phi, data, running: seen.append((len(theta), len(data))) or predict(theta, phi, data)
    data = model.data(dataset, "train")
    assert isinstance(data, Samples) and len(data) > 2
    check(model, dataset, data)
    assert seen == [(3, 2)]


# What would pass without a word


@pytest.mark.parametrize(
    ("offset", "dtype", "is_coarse"), [(3e5, "float32", True), (3e5, "float64", False), (3e2, "float32", False)]
)
def test_numbers_that_training_would_round_away_are_refused(dataset, look, offset, dtype, is_coarse):
    """As a northing in metres: 3e5 is known to 0.03 in single precision."""
    moved = dataset.assign(state=dataset["state"] * 0.5 + xr.DataArray([offset, 0.0], dims="component"))
    if is_coarse:
        refused(
            look, field(), "angle", "in float32", "known to 0.04", "float64 (dtype)", data=moved, dtype=torch.float32
        )
    else:
        look(field(), moved, getattr(torch, dtype))


class Mute(HybridODE):
    def field(self, theta, x, g):
        return self.science(theta, x)


def test_a_network_that_changes_nothing_is_refused(look):
    refused(look, field(kind=Mute), "the network has no influence", "has to use g")


@pytest.mark.parametrize("scale", [0, -1.0, math.nan, "1", [1.0, 0.0], [math.inf, 1.0]])
def test_the_scale_of_a_network_is_a_number_above_0(scale):
    with pytest.raises(UserError, match=r"network_scale: .* allowed are finite numbers above 0"):
        HybridODE(pendulum.science, Parameters([OMEGA]), MLP((2, 8, 2)), Solver(step=0.25), scale)


def test_a_scale_for_each_component_is_one_for_each(look):
    three = HybridODE(pendulum.science, Parameters([OMEGA]), MLP((2, 8, 2)), Solver(step=0.25), [1.0, 2.0, 3.0])
    refused(look, three, "network_scale: 3 numbers for 2 components")


def through_numpy(theta, x):
    return torch.stack([x[..., 1], -theta["omega"] * torch.tensor(np.sin(x[..., 0].detach().numpy()))], -1)


def detached(theta, x):
    return torch.stack([x[..., 1].detach(), -theta["omega"] * torch.sin(x[..., 0])], -1)


def detached_as_a_whole(theta, x):
    return theta["omega"].unsqueeze(-1) * x.detach()


def rounded(theta, x):
    return torch.stack([torch.floor(2 * x[..., 1]) / 2, -theta["omega"] * torch.sin(x[..., 0])], -1)


def signs(theta, x):
    return torch.stack([torch.sign(x[..., 1]), -theta["omega"] * torch.sin(x[..., 0])], -1)


def of_one_component(theta, x):
    return torch.stack([torch.ones_like(x[..., 1]), -theta["omega"] * torch.sin(x[..., 0])], -1)


@pytest.mark.parametrize(
    ("science", "what"),
    [(through_numpy, "state[..., 0]"), (detached, "state[..., 1]"), (detached_as_a_whole, "state[..., 0]")],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_gradient_that_was_cut_is_refused(look, science, what, dtype):
    refused(look, field(science), f"changes with {what}", "its gradient for that is 0", "detach", dtype=dtype)


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_a_cut_is_seen_in_any_unit(look, unit):
    refused(look, field(lambda theta, x: unit * detached_as_a_whole(theta, x)), "its gradient for that is 0")


@pytest.mark.parametrize("science", [rounded, signs, of_one_component])
def test_steps_and_what_does_not_depend_on_the_state_are_no_cut(look, science):
    look(field(science))


def without_a_derivative(theta, x):
    return torch.stack([x[..., 1], theta["omega"] * torch.heaviside(x[..., 0], x[..., 1])], -1)


def test_an_operation_without_a_derivative_is_named(look):
    refused(look, field(without_a_derivative), "science f (test_check.py", "has no gradient", "heaviside")


def test_a_step_at_a_state_is_no_cut(look, dataset):
    """By differences, it is steep there."""
    edge = dataset["state"].values[0, 0, 1]

    def switched(theta, x):
        return torch.stack([(x[..., 1] > edge).to(x), -theta["omega"] * torch.sin(x[..., 0])], -1)

    look(field(switched))
