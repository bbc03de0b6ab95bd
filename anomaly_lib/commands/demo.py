"""``anomaly demo``: the workshop from top to bottom without a browser, kept as one HTML page."""

from pathlib import Path

import click

from anomaly_lib.commands.console import headings_and_bar, say
from anomaly_lib.commands.grammar import StrictCommand
from anomaly_lib.folders import work_folder


@click.command(name="demo", cls=StrictCommand)
@click.option(
    "--quick/--full",
    envvar="ANOMALY_QUICK",
    show_envvar=True,
    help="Fewer categories and smaller images: one minute.",
)
@click.option(
    "--notebook",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Another notebook than the workshop.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The page. Default: demo/workshop.html in the work folder.",
)
def main(quick: bool, notebook: Path | None, output: Path | None) -> None:
    """Run the workshop notebook and keep it as a page with all tables and figures."""
    from anomaly_lib.views.notebook_page import (
        find_workshop,
        read_notebook,
        require_writable,
        run_notebook,
        shown_scores,
        write_page,
    )

    with headings_and_bar("cells") as progress:
        notebook = (notebook or find_workshop()).absolute()
        output = (output or work_folder() / "demo" / f"{notebook.stem}.html").absolute()
        document = read_notebook(notebook)
        require_writable(output)
        say(f"{notebook.name}: {'quick' if quick else 'full'} setting, results in {work_folder()}")
        failure = run_notebook(document, notebook.parent, quick, progress)
        write_page(document, output)
    if table := shown_scores(document):
        click.echo(f"\n{table}\n")
    say(f"Page: {output}")
    if failure:
        raise click.ClickException(failure)
