"""Networks that restrict a device: network namespaces, a router that filters or lies, and the servers beyond it."""
