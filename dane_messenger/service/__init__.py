"""Installs, removes and shows the services of an identity: units of systemd, with their user, settings and files."""
