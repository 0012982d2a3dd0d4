"""The one exception that is meant for a person to read."""


class UserError(Exception):
    """A mistake in what the user supplied; the command line shows it as one line, without a traceback."""

    def _render_traceback_(self) -> list[str]:
        """What IPython and Jupyter show instead of a traceback."""
        return [f"hybridsam: {self}"]
