"""The programs' speed, measured with real daemons and compared with the reference libraries: a file for each claim."""
