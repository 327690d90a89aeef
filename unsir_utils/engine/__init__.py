"""How a batch runs through a network: samples, training, precision, states of torch, checks. Imports nothing of the rest."""

PRECISIONS = ("auto", "float32")  # of UNSIR_PRECISION; here, as what does without torch reads it, too
