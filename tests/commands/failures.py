"""What the tests of the commands ask of a command that failed."""

from click.testing import Result


def error_of(result: Result) -> str:
    """Return the sentence of a command that failed as it should: status 2, one sentence, no traceback."""
    assert result.exit_code == 2, (result.output, result.exception)
    assert isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    lines = result.stderr.splitlines()
    [line] = [line for line in lines if line.startswith("Error: ")]
    assert line == lines[-1]
    return line.removeprefix("Error: ")
