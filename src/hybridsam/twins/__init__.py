"""Synthetic twins: simulated archives with the layout of the measured ones, for work offline and for tests.

Each task's twin has ``simulate(constants, folder)``. Its simulator knows more than the science that is fitted to the
data. May import data and tasks.
"""
