"""What all programs share: start, options, errors, exit status."""
