"""How fast it is: against what the machine can do at best, against itself with parts taken away, and against
other servers."""
