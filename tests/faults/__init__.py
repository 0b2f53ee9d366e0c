"""The fault catalogue: small mistakes, put into a copy of the project one at a time, that the tests must notice.

`make faults` runs the campaign; `catalogue` describes a fault, the `*.toml` files beside it are the faults.
"""
