"""Where datasets come from: simulated, a user's own table, measured archives; and their splits.

May import core, models."""
