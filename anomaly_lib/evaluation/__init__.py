"""From scores and truth to numbers and decisions."""
