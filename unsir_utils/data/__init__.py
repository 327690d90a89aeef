"""The data sets, the YAML files, and where things lie. Imports the engine; `paths` imports nothing, not even torch."""
