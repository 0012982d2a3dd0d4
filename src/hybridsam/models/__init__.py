"""Hybrid models: theta, networks, solvers, and how f and g are joined. May import core."""
