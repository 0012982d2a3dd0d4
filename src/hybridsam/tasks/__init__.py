"""The shipped tasks, one file each, with ``build(model)`` and ``simulate`` or ``convert``. May import models, data."""
