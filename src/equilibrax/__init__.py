"""Settle recurrent networks, with evidence, and train feed-forward ones to answer alike."""

from importlib import import_module as _import_module
from importlib.metadata import version as _version
from typing import TYPE_CHECKING as _TYPE_CHECKING

from ._devices import use_all_cores as _use_all_cores
from .approximation import (
    Approximation as Approximation,
    DecisionBoundary as DecisionBoundary,
    ErrorBound as ErrorBound,
    Evaluation as Evaluation,
    FeedForward as FeedForward,
    NoiseRejection as NoiseRejection,
    Training as Training,
    Trainings as Trainings,
    Verified as Verified,
    approximate as approximate,
    competition as competition,
    decision_boundary as decision_boundary,
    distill as distill,
    error_bound as error_bound,
    evaluate as evaluate,
    export_onnx as export_onnx,
    export_stablehlo as export_stablehlo,
    jackknife as jackknife,
    load_approximation as load_approximation,
    load_model as load_model,
    mutual_information as mutual_information,
    noise_rejection as noise_rejection,
    normalised_error as normalised_error,
    partition_sums as partition_sums,
    save_model as save_model,
    switch_point as switch_point,
    train as train,
    train_many as train_many,
    unsettled_behaviour as unsettled_behaviour,
    winner as winner,
    winner_agreement as winner_agreement,
)
from .families import (
    Basins as Basins,
    Branch as Branch,
    SpecialPoint as SpecialPoint,
    Sweep as Sweep,
    basins as basins,
    follow_branch as follow_branch,
    sweep as sweep,
)
from .fixed_points import (
    Analysis as Analysis,
    Enumeration as Enumeration,
    FixedPointError as FixedPointError,
    FixedPoints as FixedPoints,
    Flow as Flow,
    Outcome as Outcome,
    analyse as analyse,
    enumerate_fixed_points as enumerate_fixed_points,
    find_fixed_points as find_fixed_points,
    is_unique as is_unique,
    settled_event as settled_event,
)
from .networks import (
    AbstractDynamics as AbstractDynamics,
    LeakyRNN as LeakyRNN,
    RateNetwork as RateNetwork,
    WilsonCowan as WilsonCowan,
    from_graph as from_graph,
    hopfield as hopfield,
    partitioned as partitioned,
    power_law as power_law,
    random_ei as random_ei,
    ring as ring,
    sigmoid as sigmoid,
    supralinear as supralinear,
    tanh as tanh,
    threshold_linear as threshold_linear,
    two_neuron as two_neuron,
)
from .sampling import (
    AbstractInputs as AbstractInputs,
    Gaussian as Gaussian,
    LiveSamples as LiveSamples,
    Samples as Samples,
    SampleStore as SampleStore,
    UniformCube as UniformCube,
    mixture_line as mixture_line,
    open_samples as open_samples,
    sample_fixed_points as sample_fixed_points,
    sample_to_store as sample_to_store,
)

if _TYPE_CHECKING:
    from . import figures as figures


def __getattr__(name: str):
    """`figures`, whose import of Matplotlib waits until a picture is wanted."""
    if name == "figures":
        return _import_module(".figures", __name__)
    hint = ""
    if not name.startswith("_") and hasattr(_import_module(".figures", __name__), name):
        hint = f"; pictures are in `figures`: figures.{name}"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")


_use_all_cores()

__version__ = _version("equilibrax")
