"""What runs an experiment: networks that are trained once, cases that are kept, methods by name.

Imports all but the report.
"""
