"""The methods (Algorithm 1) and how blocks of runs are trained by them. May import core, models, data."""
