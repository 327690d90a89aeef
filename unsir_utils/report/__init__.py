"""What becomes of records: verdicts, tables, figures, README, the comparison with what is published.

Imports all the rest.
"""
