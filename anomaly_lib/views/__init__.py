"""What people look at: plots, tables of the worst and best examples, widgets for notebooks."""
