"""Measures a running `ccoe serve` against the domains' data, by its public API alone."""
