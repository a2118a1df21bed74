"""What the programs' speed is, measured on real daemons beside the reference libraries: a file for each claim."""
