"""Several receivers of one name, killed and scaled while messages flow that are published three times each."""
