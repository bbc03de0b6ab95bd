"""The errors that are the user's to mend: one sentence that names what is wrong and the remedy."""

import errno
import unicodedata
from collections.abc import Iterator

_CONTROL = {"Cc", "Cs", "Zl", "Zp"}  # Unicode's control characters, surrogates, line and paragraph separators


# A sentence may quote whatever a file says.
_LONGEST = 2000


def one_line(text: str) -> str:
    r"""Return `text` as one line that can be printed: a line break in a file's name is written ``\n``."""
    return "".join(repr(c)[1:-1] if unicodedata.category(c) in _CONTROL else c for c in text)


def first_line(error: BaseException) -> str:
    """Return what an error says, in its first line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


# What PyTorch, its libraries and the system say besides MemoryError.
_OUT_OF_MEMORY = (
    "bad_alloc",
    "allocate memory",
    "not enough memory",
    "out of memory",
    "failed to map segment",
    "can't start new thread",
    "ALLOC_FAILED",
    # oneDNN, which writes code for each shape of images.
    "could not create a primitive",
    "could not create a memory object",
    # Python and its modules in C, where there was none for the exception.
    "error return without exception set",
    "without setting an exception",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether `error`, or one that it was made of, says that the memory did not suffice."""
    return any(_says_so(one) for one in _chain(error))


def pass_on_lack_of_memory(error: BaseException) -> None:
    """Raise `error` again where it says so: what was being read then is not damaged, whatever it was."""
    if is_out_of_memory(error):
        raise error


def _says_so(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    foreign = isinstance(
        error, RuntimeError | ImportError | OSError | SystemError
    )  # PyTorch's: RuntimeErrors
    return foreign and any(words in str(error) for words in _OUT_OF_MEMORY)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error, the one that it was raised for, and so on; Python breaks circles itself."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


class AnomalyError(Exception):
    """Something in the user's data, files or options is wrong; commands print it and exit with status 2.

    An argument stands in backticks, `weights`, where commands have an option ``--weights`` for it.

    Whatever names and other libraries' messages the sentence quotes, it is one line that can be printed.
    """

    def __init__(self, sentence: str) -> None:
        if len(sentence) > _LONGEST:
            sentence = f"{sentence[: _LONGEST // 2]} ... {sentence[-_LONGEST // 2 :]}"
        super().__init__(one_line(sentence))


class DataError(AnomalyError):
    """The data set on disk is not what it should be."""


class WeightsError(AnomalyError):
    """A network's weights cannot be had or do not fit."""


class ModelFileError(AnomalyError):
    """A model on disk cannot be read."""


class ParameterError(AnomalyError, ValueError):
    """A hyper-parameter or an option has a value that makes no sense."""


class LockedError(AnomalyError):
    """Another process has what only one may have at a time."""


class NotFittedError(AnomalyError, AttributeError):
    """What a detector learns by `fit` was asked for before."""
