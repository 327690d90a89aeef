"""One call for anyone's own network and data, in Python and from a terminal. Imports the engine, the kernels and data."""
