"""What UNSIR is held against: baselines that see the forget data or more retain data. Imports the engine and the kernels."""
