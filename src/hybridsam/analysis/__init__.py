"""From runs to numbers: cube, selection, tests, what the science alone tells, tables to draw. May import all of the
above but tasks.
"""
