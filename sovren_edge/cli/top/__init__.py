"""`sovren-edge top`: the running program, looked at once a second.

command   what it is told: a live view, or once, for people or for programs
app       the live view: keys, panes, and asking again
history   what has changed between two looks, and the last minute
tables    which rows and columns there are, and what stands in them
lines     rows and columns as lines of one width
figures   numbers, bars and trails as few characters
"""
