"""How the tests run a command, and what they ask of one that failed."""

from click.testing import CliRunner, Result

from anomaly_lib.__main__ import main


def run(words: list[str]) -> Result:
    """Run ``anomaly`` with `words` in this process."""
    return CliRunner().invoke(main, words)


def completed(given: tuple[str, ...], *usual: tuple[str, ...]) -> list[str]:
    """Return the options `given`, and those of the `usual`, each with its values, that are not among them."""
    return [*(word for option in usual if option[0] not in given for word in option), *given]


def error_of(result: Result) -> str:
    """Return the sentence of a command that failed as it should: status 2, one sentence, no traceback."""
    assert result.exit_code == 2, (result.output, result.exception)
    assert isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    lines = result.stderr.splitlines()
    [line] = [line for line in lines if line.startswith("Error: ")]
    assert line == lines[-1]
    return line.removeprefix("Error: ")
