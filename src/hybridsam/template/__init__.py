"""A task of one's own, laid out from files that already run: `make new-task NAME=…`. May import core."""
