"""The feed-forward approximation: the network, its training, and its metrics."""

from ._approximation import (
    Approximation as Approximation,
    load_approximation as load_approximation,
)
from ._bound import ErrorBound as ErrorBound, error_bound as error_bound
from ._boundary import (
    DecisionBoundary as DecisionBoundary,
    decision_boundary as decision_boundary,
    signed_distance as signed_distance,
)
from ._distill import approximate as approximate, distill as distill
from ._export import (
    export_onnx as export_onnx,
    export_stablehlo as export_stablehlo,
    load_model as load_model,
    save_model as save_model,
)
from ._feedforward import (
    FeedForward as FeedForward,
    dead_units as dead_units,
    forward as forward,
)
from ._information import (
    mutual_information as mutual_information,
    unsettled_behaviour as unsettled_behaviour,
)
from ._jackknife import jackknife as jackknife
from ._metrics import (
    Evaluation as Evaluation,
    competition as competition,
    evaluate as evaluate,
    normalised_error as normalised_error,
    partition_sums as partition_sums,
    switch_point as switch_point,
    winner as winner,
    winner_agreement as winner_agreement,
)
from ._noise import NoiseRejection as NoiseRejection, noise_rejection as noise_rejection
from ._train import Training as Training, train as train
from ._train_many import (
    Trainings as Trainings,
    cosine_adam as cosine_adam,
    train_many as train_many,
)
from ._verified import Verified as Verified
