"""Pure tensor functions with no state: what the detectors compute."""
