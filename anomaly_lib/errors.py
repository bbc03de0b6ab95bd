"""The errors that are the user's to mend: one sentence that names what is wrong and the remedy."""


class AnomalyError(Exception):
    """Something in the user's data, files or options is wrong; commands print it and exit with status 2."""


class DataError(AnomalyError):
    """The data set on disk is not what it should be."""


class WeightsError(AnomalyError):
    """A network's weights cannot be had or do not fit."""


class ModelFileError(AnomalyError):
    """A model on disk cannot be read."""


class ParameterError(AnomalyError, ValueError):
    """A hyper-parameter or an option has a value that makes no sense."""
