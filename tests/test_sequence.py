import math

import pandas as pd
import pytest
import torch
from tiny import K, Returns, pixels, same_weights  # noqa: F401

from unsir_utils.unsir import two_passes, unsir
from unsir_utils.workshop import sequence
from unsir_utils.workshop.study import scenario
