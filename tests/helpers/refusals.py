"""What a user is told of a mistake."""

import pytest

from hybridsam.core.errors import UserError


def refused(action, *arguments, **named):
    """The one line that a UserError says."""
    with pytest.raises(UserError) as error:
        action(*arguments, **named)
    assert "\n" not in str(error.value)
    return str(error.value)
