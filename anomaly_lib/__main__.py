"""``python -m anomaly_lib``, the same as the console command ``anomaly``."""

import click

from anomaly_lib.commands.data import main as data
from anomaly_lib.commands.demo import main as demo
from anomaly_lib.commands.evaluate import main as evaluate
from anomaly_lib.commands.process import Program
from anomaly_lib.commands.tables import main as tables
from anomaly_lib.commands.train import main as train


@click.group(cls=Program)
@click.version_option(package_name="anomaly_lib", prog_name="anomaly")
def main() -> None:
    """Industrial visual anomaly detection."""


for command in (train, evaluate, tables, data, demo):
    main.add_command(command)

if __name__ == "__main__":
    main()
