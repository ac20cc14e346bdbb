"""Why an engine does not answer a model."""


class UnfitError(Exception):
    """This engine is not for this model, or not for this machine; the text says why in one line."""

    def __init__(self, reason):
        super().__init__(" ".join(str(reason).split()))
