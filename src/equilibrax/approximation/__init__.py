"""The feed-forward approximation: the network, its training, its measure."""

from ._distill import (
    Approximation as Approximation,
    approximate as approximate,
    cosine_adam as cosine_adam,
    distill as distill,
)
from ._export import load_model as load_model, save_model as save_model
from ._feedforward import FeedForward as FeedForward
from ._metrics import (
    Evaluation as Evaluation,
    competition as competition,
    evaluate as evaluate,
    forward as forward,
    normalised_error as normalised_error,
    partition_sums as partition_sums,
    switch_point as switch_point,
    winner as winner,
    winner_agreement as winner_agreement,
)
from ._train import Training as Training, train as train
from ._verified import Verified as Verified
