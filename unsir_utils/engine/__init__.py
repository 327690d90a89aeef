"""How a batch runs through a network: samples, training, precision, states of torch, checks. Imports nothing of the rest."""
