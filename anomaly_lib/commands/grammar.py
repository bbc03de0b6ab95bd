"""How a command line is read: click's way, but nothing on the line is ignored in silence."""

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from anomaly_lib.commands.console import messages_on_stderr
from anomaly_lib.commands.failures import errors_as_sentences, show

if TYPE_CHECKING:
    from anomaly_lib.runs.sources import MakeDetector


_WORDS = f"{__name__}.words"  # where a context keeps the words that were read so far


@dataclass(frozen=True)
class Method:
    """What a detector's word of `train` asks for: detectors, and images so many at a time if it says so.

    Some detectors make no maps.
    """

    make_detector: "MakeDetector"
    batch_size: int | None = None
    has_maps: bool = True


MakeMethod = Callable[[Mapping[str, Any], int, str], Method]
"""From all words, the seed and the device to the method."""


class StrictCommand(click.Command):
    """A command whose options with one value are given once; with click alone the last one would win.

    Whatever it raises, it ends with one sentence, and messages are lines on stderr.
    """

    def main(self, *args: Any, standalone_mode: bool = True, **options: Any) -> Any:
        """Run the command and, unless told otherwise, end the program with its exit status."""
        with messages_on_stderr():
            try:
                with errors_as_sentences():
                    run: Callable[..., Any] = super().main  # of click, with the status of what ends early
                    result = run(*args, standalone_mode=False, **options)
            except (click.Abort, click.ClickException) as error:
                if not standalone_mode:
                    raise
                result = show(error)
        if standalone_mode:
            sys.exit(result if isinstance(result, int) else 0)
        return result

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words of the command line that are the command's own."""
        if wrong := next((word for word in args if "\0" in word), None):  # no file has such a name
            raise click.UsageError(f"{wrong!r} holds the character 0: leave it out", ctx)
        if not ctx.resilient_parsing:  # what is only being completed may be wrong
            _, _, order = self.make_parser(ctx).parse_args(list(args))
            _require_once(ctx, order)
        return super().parse_args(ctx, args)


class StrictGroup(StrictCommand, click.Group):
    """A group of such commands."""

    command_class = StrictCommand


class ChainedGroup(StrictGroup):
    """A command in the grammar of the official scripts.

    Its options and arguments (RESULTS_PATH) come first, then words, each with its own options and then its
    own arguments. What a word returns goes to the result callback. A word is given once.
    """

    def __init__(self, name: str | None = None, **options: Any) -> None:
        words = "[WORD ...]..." if options.get("invoke_without_command") else "WORD ... [WORD ...]..."
        super().__init__(name, chain=True, subcommand_metavar=words, **options)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the words in the order in which a line has them."""
        return list(self.commands)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command's own options and arguments."""
        if word := self._word_to_explain(ctx, args):
            self.commands[word].make_context(word, ["--help"], parent=ctx)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise self._placed(error) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Read the words and run the command."""
        try:
            return super().invoke(ctx)
        except click.NoSuchOption as error:
            raise self._placed(error) from None
        except click.UsageError:
            if _WORDS in ctx.meta or self.invoke_without_command:
                raise
            words = f"add words, in the order of {ctx.command_path} --help"
            last = self._arguments[-1].make_metavar(ctx)
            raise click.UsageError(f"{last} alone does not say what to do: {words}", ctx) from None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the word that `args` begin with, its command, and the rest."""
        if ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        given = ctx.meta.setdefault(_WORDS, [])
        last = self._arguments[-1]
        first = str(ctx.params[str(last.name)])
        if not given and first in self.commands and args[0] not in self.commands:
            missing = last.make_metavar(ctx)
            raise click.UsageError(f"{missing} is missing: {first!r} stands in its place", ctx)
        if place := self._place_of(args[0]):
            raise click.UsageError(f"{args[0]} comes too late: its place is {place}", ctx)
        name, word, rest = super().resolve_command(ctx, args)
        if word in given:
            raise click.UsageError(f"{name} is given twice: give each word once", ctx)
        given.append(word)
        return name, word, rest

    @property
    def _arguments(self) -> list[click.Argument]:
        return [param for param in self.params if isinstance(param, click.Argument)]

    def _word_to_explain(self, ctx: click.Context, args: Sequence[str]) -> str | None:
        """Return the word before ``--help``, whose page is asked for, whatever is missing before it."""
        for place, arg in enumerate(args):
            if arg in ctx.help_option_names:
                return next((word for word in reversed(args[:place]) if word in self.commands), None)
        return None

    def _placed(self, error: click.NoSuchOption) -> click.UsageError:
        """Return the error, or, where a word has the option, a better one that names it."""
        place = self._place_of(error.option_name)
        if not (place and error.ctx):
            return error
        return click.UsageError(
            f"{error.ctx.info_name} has no option {error.option_name}: its place is {place}", error.ctx
        )

    def _place_of(self, option: str) -> str:
        """Return where an option stands, in words; nothing where neither the command nor a word has it."""
        option = option.partition("=")[0]
        if _has(self, option):
            return f"before {str(self._arguments[0].name).upper()}"
        names = [name for name, word in self.commands.items() if _has(word, option)]
        return f"right after {' or '.join(names)}" if names else ""


def _has(command: click.Command, option: str) -> bool:
    options = [param for param in command.params if isinstance(param, click.Option)]
    return any(option in (*param.opts, *param.secondary_opts) for param in options)


def _require_once(ctx: click.Context, order: Sequence[click.Parameter]) -> None:
    """Raise an error when one of the options in `order`, as they were given, takes one value but got more."""
    if any(param.is_eager for param in order):  # --help answers whatever else is there
        return
    for param, times in Counter(order).items():
        plain_flag = isinstance(param, click.Option) and param.is_flag and not param.secondary_opts
        if times > 1 and not (param.multiple or plain_flag):
            name = " / ".join((*param.opts, *param.secondary_opts))
            raise click.UsageError(f"{name} is given {times} times: give it once", ctx)
