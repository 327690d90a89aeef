"""What a network still knows of a class. Imports the engine and the kernels."""
