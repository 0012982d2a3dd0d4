"""From runs to numbers: cube, selection, tests, what is identifiable, tables to draw. May import all of the above but
tasks.
"""
