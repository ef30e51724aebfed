"""The tree of processes, from the supervisor down to what a worker is made of.

supervisor    the life of the program: ports, signals, systemd
tree          all workers: start, reload, upgrade, stop
keeper        the lives of one worker; deaths: when it begins anew; life: one process
generation    what one supervisor leaves to the next in an upgrade
parts         which worker serves what, and what it is told
questions     what workers ask about the whole program; tree_metrics: its series
channel       calls between two processes
worker        a worker's process; serving: what can be asked of it; succession: how it follows another
composition   what a worker is made of: openings and doors, served_pools and following, services, certificates
admin         the admin socket, in the worker that operates; pool_commands: what it changes
"""
