"""The tables of Gaussian-AD (Rippel et al., ICPR 2020) on any data set in the layout of MVTec AD."""

from anomaly_lib.tables.grids import TABLES, Setting, Table, TableChoice
from anomaly_lib.tables.run import TableResult, run_table
from anomaly_lib.tables.summary import formatted, summary

__all__ = ["TABLES", "Setting", "Table", "TableChoice", "TableResult", "formatted", "run_table", "summary"]
