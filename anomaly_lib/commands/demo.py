"""``anomaly demo``: the workshop from top to bottom without a browser, as one HTML page."""

import click


@click.command(name="demo")
def main() -> None:
    """Run the workshop notebook and keep it as a page."""
