"""Causal modelling of sound: predict each level from those before it (WaveNet)."""

from train.objectives.causal import Causal
from train.objectives.objective import objective


@objective
class CausalSound(Causal):
    """Prediction of the next level of a waveform.

    No level ends a recording, and a level is no text: its loss is reported per sample, and has no
    bits per byte.
    """

    end_of_document: int = -1
    predicts_every_token = False
    loss_unit = "nats per sample"
